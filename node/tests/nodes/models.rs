//! Published models, on their way to every node.

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::object::ModelFacts;
use ocelli_consensus::parameters::GenesisModel;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Network};
use ocelli_model::{Display, Graph, Input, Layer, Model, ModelFile, Parameters, reference, zoo};
use ocelli_node::chain::{CheckedFile, MissingAttachments, Prune, assemble};
use ocelli_node::client::Client;
use ocelli_node::client::ledger::Evidence;
use ocelli_node::inference::facts_of;
use ocelli_node::node::{NodeError, Storage, is_of_genesis};
use ocelli_node::store::CHUNK_BYTES;
use ocelli_protocol::ledger::Event;
use ocelli_protocol::message::{BlockData, Request, Response, Submission, SubmitReply, TransactionStatus};

use super::harness::{Maker, RawPeer, TestNode, easy_network, mine, wait};

/// Blocks whose attachments every node keeps.
const RETENTION: u64 = 20;
pub const DELAY: u64 = 3;
/// The height of the block that publishes the model.
pub const PUBLISHED: u64 = 10;

pub fn network() -> Network {
    let mut parameters = easy_network().parameters;
    (parameters.retention, parameters.attachment_retention) = (RETENTION, RETENTION);
    (parameters.upload_window, parameters.model_delay, parameters.model_price) = (16, DELAY, Amount(1));
    // It is not there from the beginning.
    parameters.models.retain(|model| model.id != id());
    Network::new(parameters, Vec::new())
}

pub fn published() -> Model {
    zoo::get("cifar10-resnet").unwrap()
}

pub fn id() -> ModelId {
    ModelId(published().id().0)
}

/// A model that is not built in.
fn small() -> Model {
    let graph = Graph::new(Input::new(3, 8, 8), vec![Layer::logits("linear", "input", 3)]).unwrap();
    let weight = (0..3 * 192).map(|at| (at % 11) as i8 - 5).collect();
    let parameters = vec![Parameters { weight, bias: vec![5, 0, -5], ..Parameters::default() }];
    let display = Display { name: "small".into(), ..Display::numbered(3) };
    ModelFile { graph, parameters, display }.build().unwrap()
}

/// A network that has [`small`] from genesis on, as what it says it is.
fn network_of_small(facts: ModelFacts) -> Network {
    let mut parameters = easy_network().parameters;
    parameters.models.push(GenesisModel { id: ModelId(small().id().0), facts });
    Network::new(parameters, Vec::new())
}

/// Makes the next block with these transactions, tasks among them with their model's answers.
pub fn make(maker: &mut Maker, submissions: &[Submission]) {
    let mut data = BlockData::default();
    for Submission { transaction, attachment } in submissions {
        let answer = transaction.task().map_or(Answer::None, |_| {
            let model = if transaction.unsigned.action.model() == Some(id()) { published() } else { small() };
            Answer::Classes(Classes::of(&reference::logits(&model, attachment.as_ref().unwrap())))
        });
        data.body.transactions.push((transaction.clone(), answer));
        data.attachments.push(attachment.clone());
    }
    let header = mine(maker.header(&data.body));
    maker.connect(&header, &data);
}

pub fn act(maker: &Maker, ahead: u64, action: Action, attachment: Option<&[u8]>) -> Submission {
    Submission { transaction: maker.sign(ahead, action), attachment: attachment.map(Into::into) }
}

fn task(maker: &Maker, seed: u8) -> Submission {
    let pixels: Vec<u8> = (0..3072u32).map(|at| (at.wrapping_mul(17) >> 3) as u8 ^ seed).collect();
    let (picture, bytes) = (AttachmentHash::of(&pixels), pixels.len() as u32);
    let action = Action::Classify { model: id(), picture, bytes, royalty: Amount(7), form: Form::Pixels };
    act(maker, 0, action, Some(&pixels))
}

/// A chain on which all parts of a model are, and what publishes it.
fn uploaded(network: &Network) -> (Maker, Submission) {
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
    (maker, publish)
}

/// A chain on which a model is published, used as soon as may be, and used again after everybody may have forgotten its parts.
pub fn made(network: &Network) -> Maker {
    let (mut maker, publish) = uploaded(network);
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
fn file_of(node: &TestNode, model: ModelId) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    for chunk in 0.. {
        match node.ask(Request::File { model, chunk }) {
            Response::File(Some(bytes)) => file.extend(bytes),
            Response::File(None) => break,
            other => panic!("{other:?}"),
        }
    }
    (!file.is_empty()).then_some(file)
}

pub fn wait_for_file(node: &TestNode) {
    let file = wait("the model's file", || file_of(node, id()));
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
    assert_eq!((whole.status().tip.hash, file_of(&whole, id()).is_some()), (tip, true));

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

/// What an author has burned and got is in his account's history, and proven.
#[test]
fn an_author_sees_what_the_model_has_cost_and_brought() {
    let network = network();
    let maker = made(&network);
    let author = Address::of(&maker.wallet.public_key());
    let node = TestNode::on_folder(&network, maker.into_folder(), &[]);
    let mut client = Client::connect(&[network], &[node.address()]).unwrap();
    let statement = client.statement(author, 0).unwrap();
    assert!(statement.is_whole && statement.is_checked);
    let count = |is: fn(&Event) -> bool| statement.entries.iter().filter(|known| is(&known.entry.event)).count();
    let parts = zoo::bytes("cifar10-resnet").unwrap().len().div_ceil(CHUNK_BYTES);
    assert_eq!(count(|event| matches!(event, Event::Upload { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Part { .. })), parts);
    assert_eq!(count(|event| matches!(event, Event::Publish { model, .. } if *model == id())), 1);
    assert_eq!(count(|event| matches!(event, Event::Royalty { amount: Amount(7), .. })), 2);
    assert!(statement.entries.iter().all(|known| known.evidence == Evidence::Proven));
    // Of an author who does not show the publication, his word is left.
    let since = statement.entries.last().unwrap().time;
    let last = client.statement(author, since).unwrap();
    assert!(!last.is_whole && last.opening > Amount::ZERO);
    assert_eq!(last.entries[1].evidence, Evidence::AuthorByWord);
}

/// A node that has started after the last part came does not know what the upload holds: it finds out for who wants to publish it.
#[test]
fn a_file_is_checked_for_who_wants_to_publish_it() {
    let network = network();
    let (maker, publish) = uploaded(&network);
    let node = TestNode::on_folder(&network, maker.into_folder(), &[]);
    let refused = node.submit(publish.clone());
    assert!(matches!(&refused, SubmitReply::Refused { code: SubmitReply::BUSY, .. }), "{refused:?}");
    wait("the file to be checked", || match node.submit(publish.clone()) {
        SubmitReply::Refused { code: SubmitReply::BUSY, .. } => None,
        other => {
            assert_eq!(other, SubmitReply::Accepted { answer: None });
            Some(())
        }
    });
    assert!(matches!(node.transaction(publish.transaction.txid()), TransactionStatus::Pending(_)));

    // A peer that passes it on meanwhile is not to blame: it is asked for the next one all the same.
    let (maker, publish) = uploaded(&network);
    let next = maker.transfer(1, Address([4; 20]), Amount(1_000_000));
    let node = TestNode::on_folder(&network, maker.into_folder(), &[]);
    let (raw, peer) = RawPeer::connect(&network, &node);
    raw.relay(peer, &publish, Some(publish.clone()));
    raw.relay(peer, &next, Some(next.clone()));
    wait("the one after it to come", || match node.transaction(next.transaction.txid()) {
        TransactionStatus::Pending(_) => Some(()),
        _ => None,
    });
    assert_eq!(node.peers().peers[0].points, 0);
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

/// A model of genesis that is not built in comes from whoever has its file; a task for it is checked with it. Who has a model built in
/// gives its file, too.
#[test]
fn the_file_of_a_genesis_model_that_is_not_built_in_is_given_or_fetched() {
    let (model, id) = (small(), ModelId(small().id().0));
    let network = network_of_small(facts_of(&model));
    let pixels: Vec<u8> = (0..192).collect();
    let action = Action::Classify {
        model: id,
        picture: AttachmentHash::of(&pixels),
        bytes: pixels.len() as u32,
        royalty: Amount::ZERO,
        form: Form::Pixels,
    };
    let mut maker = Maker::new(&network);
    let task = act(&maker, 0, action, Some(&pixels));
    make(&mut maker, &[task]);
    let (genesis, tip) = (network.genesis_hash(), maker.chain.tip().hash);

    // Nobody has the file: the block waits, and status says for what.
    let node = TestNode::start(&network, &[], None);
    let first = TestNode::start(&network, &[node.address()], None);
    let waits = |node: &TestNode| node.status().sync.waiting_for.iter().any(|what| what.contains(&id.to_string()));
    wait("the node to ask for the file", || waits(&node).then_some(()));
    assert_eq!((first.status().tip.hash, file_of(&node, id)), (genesis, None));
    drop(node);

    let owner = TestNode::with_files(&network, std::slice::from_ref(&model));
    assert_eq!(file_of(&owner, id).as_deref(), Some(model.bytes()));
    let built_in = ModelId(super::harness::model().id().0);
    assert_eq!(file_of(&owner, built_in).as_deref(), Some(super::harness::model().bytes()));
    // The one that made the block has no file of its own.
    let mut maker = TestNode::on_folder(&network, maker.into_folder(), &[owner.address()]);
    wait("the file to come", || (file_of(&maker, id)? == model.bytes()).then_some(()));
    first.add(&maker.address());
    for node in [&first, &owner] {
        node.wait_for_tip(tip);
        wait("the file to come", || (file_of(node, id)? == model.bytes()).then_some(()));
    }
    let Response::Models(models) = first.ask(Request::Models { from: id, limit: 1 }) else { panic!("no models") };
    assert_eq!((models[0].id, models[0].record.first, models[0].name.as_str()), (id, 0, "small"));
    // Again after a restart, with nobody to ask.
    drop((first, owner));
    maker.restart(&[], None);
    assert!(file_of(&maker, id).is_some() && !waits(&maker));
}

/// The network says what a model of its genesis is; a file that is something else stops the node that reads it.
#[test]
fn a_genesis_model_that_is_not_what_the_network_says_stops_the_node() {
    let model = small();
    let facts = ModelFacts { cost: facts_of(&model).cost + 1, ..facts_of(&model) };
    let network = network_of_small(facts);
    let refused = is_of_genesis(&network, &model).unwrap_err();
    assert!(matches!(refused, NodeError::ModelDiffers { .. }), "{refused}");
    assert!(matches!(is_of_genesis(&network, &published()), Ok(true)), "it is one of the others");
    assert!(matches!(is_of_genesis(&easy_network(), &model), Ok(false)));
    let owner = TestNode::with_files(&network, &[model]);
    let mut node = TestNode::start(&network, &[owner.address()], None);
    let error = node.wait_for_end();
    assert!(matches!(error, NodeError::ModelDiffers { .. }), "{error}");
}
