//! Published models, on their way to every node.

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Network};
use ocelli_model::{Model, reference, zoo};
use ocelli_node::chain::{CheckedFile, MissingAttachments, Prune, assemble};
use ocelli_node::inference::facts_of;
use ocelli_node::node::Storage;
use ocelli_node::store::CHUNK_BYTES;
use ocelli_protocol::message::{BlockData, Request, Response, Submission};

use super::harness::{Maker, TestNode, easy_network, mine, wait};

/// Blocks whose attachments every node keeps.
const RETENTION: u64 = 20;
const DELAY: u64 = 3;
/// The height of the block that publishes the model.
const PUBLISHED: u64 = 10;

fn network() -> Network {
    let mut parameters = easy_network().parameters;
    (parameters.retention, parameters.attachment_retention) = (RETENTION, RETENTION);
    (parameters.upload_window, parameters.model_delay, parameters.model_price) = (16, DELAY, Amount(1));
    // It is not there from the beginning.
    parameters.models.retain(|model| model.id != id());
    Network::new(parameters, Vec::new())
}

fn published() -> Model {
    zoo::get("cifar10-resnet").unwrap()
}

fn id() -> ModelId {
    ModelId(published().id().0)
}

/// Makes the next block with these transactions, tasks among them with the published model's answers.
fn make(maker: &mut Maker, submissions: &[Submission]) {
    let mut data = BlockData::default();
    for Submission { transaction, attachment } in submissions {
        let answer = transaction.task().map_or(Answer::None, |_| {
            Answer::Classes(Classes::of(&reference::logits(&published(), attachment.as_ref().unwrap())))
        });
        data.body.transactions.push((transaction.clone(), answer));
        data.attachments.push(attachment.clone());
    }
    let header = mine(maker.header(&data.body));
    maker.connect(&header, &data);
}

fn act(maker: &Maker, ahead: u64, action: Action, attachment: Option<&[u8]>) -> Submission {
    Submission { transaction: maker.sign(ahead, action), attachment: attachment.map(Into::into) }
}

fn task(maker: &Maker, seed: u8) -> Submission {
    let pixels: Vec<u8> = (0..3072u32).map(|at| (at.wrapping_mul(17) >> 3) as u8 ^ seed).collect();
    let (picture, bytes) = (AttachmentHash::of(&pixels), pixels.len() as u32);
    let action = Action::Classify { model: id(), picture, bytes, royalty: Amount(7), form: Form::Pixels };
    act(maker, 0, action, Some(&pixels))
}

/// A chain on which a model is published, used as soon as may be, and used again after everybody may have forgotten its parts.
fn made(network: &Network) -> Maker {
    let (mut maker, file) = (Maker::new(network), zoo::bytes("cifar10-resnet").unwrap());
    let author = Address::of(&maker.wallet.public_key());
    let upload = Action::Upload { file: UploadHash::of(&author, &id()), size: file.len() as u32 };
    let upload = act(&maker, 0, upload, None);
    make(&mut maker, &[upload]);
    while maker.chain.tip().height + 2 < PUBLISHED {
        make(&mut maker, &[]);
    }
    let parts = (0u16..).zip(file.chunks(CHUNK_BYTES)).map(|(number, part)| {
        let action = Action::Part { number, bytes: part.len() as u32, data: AttachmentHash::of(part) };
        act(&maker, number.into(), action, Some(part))
    });
    let parts: Vec<_> = parts.collect();
    make(&mut maker, &parts);
    let hash = maker.chain.tip().hash;
    let body = maker.chain.kept_data(&hash).unwrap().unwrap().body;
    let header = maker.chain.store().header(&hash).unwrap().unwrap().0;
    let moved = ocelli_node::chain::Moved { hash, header, body };
    for finished in maker.chain.finished_uploads(&[moved]).unwrap() {
        let file = assemble(maker.chain.store(), &finished).unwrap().expect("its parts are here");
        maker.chain.file_checked(CheckedFile::of(&file));
    }
    let publish = Action::Publish { model: id(), facts: facts_of(&published()), royalty: Amount(7) };
    let publish = act(&maker, 0, publish, None);
    make(&mut maker, &[publish]);
    assert_eq!(maker.chain.tip().height, PUBLISHED);
    while maker.chain.tip().height + 1 < PUBLISHED + DELAY {
        make(&mut maker, &[]);
    }
    let first = task(&maker, 1);
    make(&mut maker, &[first]);
    while maker.chain.tip().height < PUBLISHED + RETENTION + 5 {
        make(&mut maker, &[]);
    }
    let last = task(&maker, 2);
    make(&mut maker, &[last]);
    maker
}

/// The model's file as a node gives it to peers; `None` where it has none.
fn file_of(node: &TestNode) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    for chunk in 0.. {
        match node.ask(Request::File { model: id(), chunk }) {
            Response::File(Some(bytes)) => file.extend(bytes),
            Response::File(None) => break,
            other => panic!("{other:?}"),
        }
    }
    (!file.is_empty()).then_some(file)
}

fn wait_for_file(node: &TestNode) {
    let file = wait("the model's file", || file_of(node));
    assert!(file == zoo::bytes("cifar10-resnet").unwrap());
}

#[test]
fn whoever_comes_whenever_has_the_file_and_agrees() {
    let network = network();
    let maker = made(&network);
    let tip = maker.chain.tip().hash;
    let archive = TestNode::on_folder(&network, maker.into_folder(), &[]);
    // A folder in which the chain is and the file is not: it is put together from its parts.
    wait_for_file(&archive);
    let Response::Models(models) = archive.ask(Request::Models { from: ModelId([0; 32]), limit: 64 }) else {
        panic!("no models")
    };
    let model = models.iter().find(|model| model.id == id()).expect("it is published");
    assert_eq!((model.record.first, model.uses, model.name.as_str()), (PUBLISHED + DELAY, 2, published().name()));

    // From genesis on, with all that is checked.
    let mut whole = TestNode::start(&network, &[archive.address()], None);
    whole.wait_for_tip(tip);
    wait_for_file(&whole);
    assert_eq!(whole.status().storage.answers_from, 1);
    // Again after a restart.
    whole.restart(&[], None);
    assert_eq!((whole.status().tip.hash, file_of(&whole).is_some()), (tip, true));

    // One that forgets what it may.
    let storage = Storage {
        prune: Some(Prune::Age(0)),
        missing_attachments: MissingAttachments::AcceptOnWork,
        ..Storage::default()
    };
    let pruned = TestNode::with_storage(&network, &[archive.address()], storage);
    pruned.wait_for_tip(tip);
    wait("the node to prune", || (pruned.status().storage.attachments_from > PUBLISHED).then_some(()));
    wait_for_file(&pruned);
    drop((archive, whole));

    // And one that has nobody else to ask: it takes the publication on the work above it, has the file from that peer, and checks the
    // answers that it can.
    let late = TestNode::start(&network, &[pruned.address()], None);
    late.wait_for_tip(tip);
    wait_for_file(&late);
    let status = late.status();
    assert!(status.storage.answers_from <= PUBLISHED + 6, "{:?}", status.storage);
    assert_eq!(status.tip.state_root, pruned.status().tip.state_root);
}

/// A node that was off while a model was uploaded, published and used takes it all up.
#[test]
fn a_node_that_was_off_meanwhile_takes_the_model_up() {
    let network = network();
    let maker = made(&network);
    let tip = maker.chain.tip().hash;
    let early = {
        let mut early = Maker::new(&network);
        for height in 1..=5 {
            let hash = maker.chain.store().hash_at(height).unwrap().unwrap();
            let header = maker.chain.store().header(&hash).unwrap().unwrap().0;
            early.connect(&header, &maker.chain.kept_data(&hash).unwrap().unwrap());
        }
        early.into_folder()
    };
    let archive = TestNode::on_folder(&network, maker.into_folder(), &[]);
    let node = TestNode::on_folder(&network, early, &[archive.address()]);
    node.wait_for_tip(tip);
    wait_for_file(&node);
    assert_eq!(node.status().storage.answers_from, 1);
}
