//! Chains that are verified, exported and imported, and what is done to them in between.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::codec::encode;
use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use ocelli_consensus::object::ObjectId;
use ocelli_consensus::rules::{self, AttachmentError, TransactionError};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, CompactTarget, Header, ModelId, RuleError, Transaction,
    Unsigned,
};
use ocelli_model::{Model, ReferenceBackend, reference};
use ocelli_protocol::message::BlockData;
use tempfile::TempDir;

use super::*;
use crate::chain::{Chain, MissingAttachments};
use crate::full_message::full_message;
use crate::inference::{InferenceHandle, InferenceLimits, InferenceService};
use crate::store::{Kept, NoFiles, Store, StoreOptions};
use crate::wallet::Wallet;

const BLOCKS: u64 = 12;

/// The network `local` with a target that every few hashes meet.
fn network(retention: u64) -> Network {
    let mut parameters = Network::builtin("local").unwrap().parameters;
    parameters.easiest_target = CompactTarget(0x207f_ffff);
    parameters.half_life = 1 << 30;
    (parameters.retention, parameters.attachment_retention) = (retention, retention);
    Network::new(parameters, Vec::new())
}

fn model() -> Model {
    ocelli_model::zoo::get("cifar10-cnn").unwrap()
}

/// One for all tests: it checks itself when it starts, which takes a while with the reference.
fn inference() -> &'static InferenceHandle {
    static HANDLE: LazyLock<InferenceHandle> = LazyLock::new(|| {
        InferenceService::start(
            Box::new(ReferenceBackend),
            vec![model()],
            Arc::new(NoFiles),
            InferenceLimits::default(),
            || {},
        )
    });
    &HANDLE
}

fn chain_in(folder: &Path, network: &Network) -> Chain {
    Chain::open(network.clone(), Store::open(&folder.join("chain"), network).unwrap()).unwrap()
}

fn stored(folder: &Path, network: &Network) -> Store {
    Store::open_existing(&folder.join("chain"), network, StoreOptions::default()).unwrap()
}

/// Signs by the account that is funded from genesis on.
fn signed(network: &Network, unsigned: Unsigned) -> Transaction {
    let wallet = Wallet::from_seed(DEV_WALLET_SEED);
    Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash))
}

/// Adds a block with one transfer and, every third time, one task, whose answer is off by `error`.
fn grow(chain: &mut Chain, network: &Network, error: i32) -> (Header, BlockData) {
    let has_task = (chain.tip().height + 1).is_multiple_of(3);
    grow_by(chain, network, error, has_task)
}

fn grow_by(chain: &mut Chain, network: &Network, error: i32, has_task: bool) -> (Header, BlockData) {
    let key = Wallet::from_seed(DEV_WALLET_SEED).public_key();
    let height = chain.tip().height + 1;
    let mut nonce = chain.account(&Address::of(&key)).unwrap().nonce;
    let mut sign = |action| {
        let unsigned = Unsigned { nonce, fee: Amount(5), expires: 1 << 40, action };
        nonce += 1;
        signed(network, unsigned)
    };
    let mut data = BlockData::default();
    let to = Address([height as u8; 20]);
    data.body.transactions.push((sign(Action::Transfer { to, amount: Amount(1_000_000) }), Answer::None));
    data.attachments.push(None);
    if has_task {
        let pixels: Vec<u8> = (0..3072u32).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ height as u8).collect();
        let mut logits = reference::logits(&model(), &pixels);
        logits[3] += error;
        data.body.transactions.push((sign(task_on(&pixels)), Answer::Classes(Classes::of(&logits))));
        data.attachments.push(Some(pixels.into()));
    }
    let time = chain.tip().time + 2;
    let header = mined(chain.template(Address([7; 20]), &data.body, time).unwrap());
    let hash = header.hash();
    assert!(chain.insert_headers(std::slice::from_ref(&header), u64::MAX).unwrap().1.is_none());
    chain.accept_block(hash, &data, &|_| false).unwrap();
    chain.set_answers(hash, Ok(())).unwrap();
    chain.advance().unwrap();
    assert_eq!(chain.tip().hash, hash);
    (header, data)
}

fn task_on(pixels: &[u8]) -> Action {
    Action::Classify {
        model: ModelId(model().id().0),
        picture: AttachmentHash::of(pixels),
        bytes: pixels.len() as u32,
        royalty: Amount(0),
        form: Form::Pixels,
    }
}

fn mined(mut header: Header) -> Header {
    let target = header.target.to_target().unwrap();
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    header
}

/// A folder with a chain of [`BLOCKS`], the answer at height `wrong` off by one.
fn made(network: &Network, wrong: Option<u64>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut chain = chain_in(folder.path(), network);
    for height in 1..=BLOCKS {
        grow(&mut chain, network, i32::from(wrong == Some(height)));
    }
    folder
}

fn verify_folder(folder: &Path, network: &Network) -> Result<Verified, VerifyError> {
    let scratch = TempDir::new().unwrap();
    let mut last = None;
    let store = stored(folder, network);
    let result = verify(&store, network, scratch.path(), inference(), &mut |progress| {
        assert!(last.is_none_or(|last: Progress| progress.blocks >= last.blocks && progress.of == last.of));
        last = Some(progress);
    });
    if let Ok(verified) = &result {
        assert_eq!(last, Some(Progress { blocks: BLOCKS, of: BLOCKS, tasks: verified.tasks }));
    }
    result
}

#[test]
fn a_good_chain_is_verified_as_far_as_it_is_kept() {
    let network = network(4);
    let folder = made(&network, None);
    let tip = stored(folder.path(), &network).tip().unwrap();
    let expected = |kept, tasks, unchecked| Verified { tip, kept, tasks, unchecked };
    assert_eq!(verify_folder(folder.path(), &network).unwrap(), expected(Kept::ALL, 4, 0));

    // Pixels of the tasks at 3 and 6 are pruned; then bodies up to 5 as well.
    stored(folder.path(), &network).prune(7, 0).unwrap();
    let kept = Kept { attachments_from: 7, ..Kept::ALL };
    assert_eq!(verify_folder(folder.path(), &network).unwrap(), expected(kept, 2, 2));
    stored(folder.path(), &network).prune(0, 6).unwrap();
    let kept = Kept { attachments_from: 7, bodies_from: 6, answers_from: 1 };
    assert_eq!(verify_folder(folder.path(), &network).unwrap(), expected(kept, 2, 1));
    // What was read is as it was.
    assert_eq!(stored(folder.path(), &network).tip().unwrap(), tip);
}

#[test]
fn the_first_bad_block_is_named() {
    let network = network(1000);
    for wrong in [3, 9] {
        let folder = made(&network, Some(wrong));
        let Err(VerifyError::Bad(bad)) = verify_folder(folder.path(), &network) else { panic!("it is not valid") };
        let hash = stored(folder.path(), &network).hash_at(wrong).unwrap().unwrap();
        assert_eq!((bad.hash, bad.height), (hash, wrong));
        let rule = bad.source.downcast_ref::<RuleError>();
        assert!(
            matches!(rule, Some(RuleError::Transaction { index: 1, error: TransactionError::Answer(_) })),
            "{rule:?}"
        );
    }
}

#[test]
fn damage_is_named_by_block_or_row() {
    let network = network(1000);
    let folder = made(&network, Some(9));
    let at = |height| stored(folder.path(), &network).hash_at(height).unwrap().unwrap();
    // A lost body, above and below the wrong answer: the lower of the two is named.
    let store = stored(folder.path(), &network);
    store.damage("bodies", &[&11u64.to_be_bytes()[..], at_hash(&store, 11).as_bytes()].concat(), None);
    drop(store);
    let Err(VerifyError::Bad(bad)) = verify_folder(folder.path(), &network) else { panic!("it is not valid") };
    assert_eq!((bad.hash, bad.height), (at(9), 9));
    let store = stored(folder.path(), &network);
    store.damage("bodies", &[&5u64.to_be_bytes()[..], at_hash(&store, 5).as_bytes()].concat(), None);
    drop(store);
    let Err(VerifyError::Bad(bad)) = verify_folder(folder.path(), &network) else { panic!("it is not valid") };
    assert_eq!((bad.hash, bad.height, bad.source.to_string()), (at(5), 5, "its body is missing".into()));

    // An account with a balance of its own.
    let folder = made(&network, None);
    let store = stored(folder.path(), &network);
    let address = Address([4; 20]);
    let row = ObjectId::Account(address).to_bytes();
    store.damage("objects", &row, Some(&[0xff; 16]));
    drop(store);
    let error = verify_folder(folder.path(), &network).unwrap_err();
    let VerifyError::Differs { column, key } = error else { panic!("{error}") };
    assert_eq!((column, key), ("objects", hex::encode(row)));
}

fn at_hash(store: &Store, height: u64) -> ocelli_consensus::BlockHash {
    store.hash_at(height).unwrap().unwrap()
}

fn import_into(
    folder: &Path,
    file: &Path,
    network: &Network,
    missing: MissingAttachments,
) -> (Chain, Result<Imported, ImportError>) {
    let mut chain = chain_in(folder, network).keeping(None, missing);
    let result = import(&mut chain, file, u64::MAX, inference(), &|| false, &mut |_| {});
    (chain, result)
}

/// Blocks of a file, new ones among them, and the tip's height after an import of all.
fn all(result: Result<Imported, ImportError>) -> (u64, u64, u64) {
    let Imported { blocks, new, height, stopped } = result.unwrap();
    assert!(stopped.is_none(), "{stopped:?}");
    (blocks, new, height)
}

#[test]
fn what_is_exported_is_imported() {
    let network = network(4);
    let folder = made(&network, None);
    let file = folder.path().join("blocks");
    let store = stored(folder.path(), &network);
    let exported = export(&store, &file, None, None, &mut |_| {}).unwrap();
    let bytes = fs::metadata(&file).unwrap().len();
    assert_eq!(exported, Exported { blocks: BLOCKS, from: 1, to: BLOCKS, bytes });
    assert!(!folder.path().join("blocks.part").exists());

    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    assert_eq!(all(result), (BLOCKS, BLOCKS, BLOCKS));
    assert_eq!(chain.store().first_difference(&store).unwrap(), None);
    assert_eq!(chain.store().tip().unwrap(), store.tip().unwrap());
    assert_eq!(chain.store().kept().unwrap(), Kept::ALL);
    drop(chain);
    // Again, nothing is new.
    let (_, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    assert_eq!(all(result), (BLOCKS, 0, BLOCKS));

    // In two files, the second of which does not connect by itself.
    let (low, high) = (folder.path().join("low"), folder.path().join("high"));
    export(&store, &low, None, Some(5), &mut |_| {}).unwrap();
    export(&store, &high, Some(6), None, &mut |_| {}).unwrap();
    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &high, &network, MissingAttachments::Insist);
    let (five, six) = (at_hash(&store, 5), at_hash(&store, 6));
    let expected = format!("block 1 of the file, {six} at height 6, has a parent that is not known here, {five}");
    assert_eq!(stopped(&chain, result, 0, 0), expected);
    drop(chain);
    for (part, new_blocks, height) in [(&low, 5, 5), (&high, BLOCKS - 5, BLOCKS)] {
        let (_, result) = import_into(new.path(), part, &network, MissingAttachments::Insist);
        assert_eq!(all(result), (new_blocks, new_blocks, height));
    }
    // Into a node that has part of it.
    let new = TempDir::new().unwrap();
    import_into(new.path(), &low, &network, MissingAttachments::Insist).1.unwrap();
    let (_, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    assert_eq!(all(result), (BLOCKS, BLOCKS - 5, BLOCKS));
}

#[test]
fn blocks_without_pixels_are_imported_on_work_or_not_at_all() {
    let network = network(4);
    let folder = made(&network, None);
    let file = folder.path().join("blocks");
    let store = stored(folder.path(), &network);
    store.prune(7, 0).unwrap();
    export(&store, &file, None, None, &mut |_| {}).unwrap();
    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::AcceptOnWork);
    assert_eq!(all(result), (BLOCKS, BLOCKS, BLOCKS));
    assert_eq!(chain.store().kept().unwrap(), Kept { attachments_from: 7, bodies_from: 1, answers_from: 7 });
    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    let expected = format!(
        "block 3 of the file, {} at height 3, comes with data that are not its own: transaction 1: {}",
        at_hash(&store, 3),
        AttachmentError::Presence { expected: true }
    );
    assert_eq!(stopped(&chain, result, 2, 2), expected);
}

/// What an import says that ended too early, after so many blocks of its file, of which so many were new; the chain ends with the
/// last of them.
fn stopped(chain: &Chain, result: Result<Imported, ImportError>, blocks: u64, new: u64) -> String {
    let imported = result.unwrap();
    let text = full_message(imported.stopped.as_ref().expect("it is not the whole file"));
    assert_eq!((imported.blocks, imported.new), (blocks, new), "{text}");
    assert_eq!(imported.height, chain.tip().height);
    text
}

/// Writes a file of blocks whatever they are.
fn write_blocks(path: &Path, network: &Network, blocks: &[(Header, BlockData)]) {
    let mut bytes = [&b"ocelli blocks 2\n"[..], network.genesis_hash().as_bytes(), &[0; 4]].concat();
    for (header, data) in blocks {
        let data = encode(data);
        bytes.extend(header.to_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
    }
    fs::write(path, bytes).unwrap();
}

/// Blocks of a transfer and a task each, on a network whose blocks hold no more than that.
static FULL_BLOCKS: LazyLock<(Network, Vec<(Header, BlockData)>)> = LazyLock::new(|| {
    let mut parameters = network(1000).parameters;
    parameters.weight_limit = 152 + rules::BASE_WEIGHT + task_weight(&parameters);
    let (network, folder) = (Network::new(parameters, Vec::new()), TempDir::new().unwrap());
    let mut chain = chain_in(folder.path(), &network);
    let blocks = (0..5).map(|_| grow_by(&mut chain, &network, 0, true)).collect();
    (network, blocks)
});

/// What a task of the network's model weighs that is sent as pixels.
fn task_weight(parameters: &ocelli_consensus::Parameters) -> u64 {
    let unsigned = Unsigned { nonce: 0, fee: Amount(0), expires: 0, action: task_on(&[0; 3072]) };
    let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
    rules::weight(&transaction, Some(&parameters.models[0].facts)).unwrap()
}

/// How a block is spoilt, and what is said of it; in both, the block before it was spoilt is there.
struct Row(&'static str, Spoil, fn(&Header, &Header, &BlockData) -> String);

enum Spoil {
    /// Its header, mined anew.
    Header(fn(&mut Header)),
    /// Its data, for which the header is made anew.
    Body(fn(&Network, &mut BlockData)),
    /// Bytes as they are.
    Bytes(fn(&mut Header, &mut BlockData)),
}
use Spoil::{Body, Bytes};

/// Signs a transaction anew after a change.
fn resign(network: &Network, data: &mut BlockData, index: usize, change: impl FnOnce(&mut Unsigned)) {
    let mut unsigned = data.body.transactions[index].0.unsigned.clone();
    change(&mut unsigned);
    data.body.transactions[index].0 = signed(network, unsigned);
}

fn transfer(data: &mut BlockData, network: &Network, change: fn(&mut Address, &mut Amount)) {
    resign(network, data, 0, |unsigned| {
        let Action::Transfer { to, amount } = &mut unsigned.action else { unreachable!("the first is a transfer") };
        change(to, amount);
    });
}

/// Gives the task other pixels, and names them.
fn show(data: &mut BlockData, network: &Network, pixels: Vec<u8>) {
    resign(network, data, 1, |unsigned| unsigned.action = task_on(&pixels));
    data.attachments[1] = Some(pixels.into());
}

fn task_error(error: TransactionError) -> String {
    full_message(&error.at(1))
}

/// What is found wrong with a block's data rather than with the block.
const OTHER_DATA: [&str; 4] = ["BodyRoot", "other pixels", "no pixels", "pixels for nothing"];

/// Rules of docs/protocol.md, part 14, in its order; consensus' own tests have all of them.
fn bad_blocks() -> Vec<Row> {
    vec![
        Row("Height", Spoil::Header(|header| header.height += 1), |good, _, _| {
            RuleError::Height { found: good.height + 1, expected: good.height }.to_string()
        }),
        Row("TimeNotAfterParent", Spoil::Header(|header| header.time -= 2), |good, _, _| {
            RuleError::TimeNotAfterParent { found: good.time - 2, parent: good.time - 2 }.to_string()
        }),
        Row("TimeTooLarge", Spoil::Header(|header| header.time = 1 << 40), |_, _, _| {
            RuleError::TimeTooLarge { found: 1 << 40 }.to_string()
        }),
        Row("Target", Spoil::Header(|header| header.target.0 -= 1), |good, bad, _| {
            RuleError::Target { found: bad.target, expected: good.target }.to_string()
        }),
        Row(
            "ProofOfWork",
            Bytes(|header, _| {
                while header.target.to_target().unwrap().is_met_by(header.hash().0) {
                    header.nonce += 1;
                }
            }),
            |good, bad, _| RuleError::ProofOfWork { hash: bad.hash(), target: good.target }.to_string(),
        ),
        Row("Version", Spoil::Header(|header| header.version = 0), |good, _, _| {
            RuleError::Version { found: 0, expected: 1, height: good.height }.to_string()
        }),
        Row("BodyRoot", Bytes(|_, data| data.body.transactions[0].0.signature[63] ^= 1), |good, _, data| {
            RuleError::BodyRoot { found: data.body.root(&good.parent), expected: good.body }.to_string()
        }),
        Row("other pixels", Bytes(|_, data| data.attachments[1] = Some(vec![7; 3072].into())), |_, _, data| {
            let expected = data.body.transactions[1].0.attachment().unwrap().hash;
            let found = AttachmentHash::of(data.attachments[1].as_ref().unwrap());
            format!("transaction 1: {}", AttachmentError::Hash { found, expected })
        }),
        Row("no pixels", Bytes(|_, data| data.attachments[1] = None), |_, _, _| {
            format!("transaction 1: {}", AttachmentError::Presence { expected: true })
        }),
        Row("pixels for nothing", Bytes(|_, data| data.attachments[0] = Some(vec![1].into())), |_, _, _| {
            format!("transaction 0: {}", AttachmentError::Presence { expected: false })
        }),
        Row("Expired", Body(|network, data| resign(network, data, 0, |it| it.expires = 0)), |good, _, _| {
            TransactionError::Expired { expires: 0, height: good.height }.at(0).to_string()
        }),
        Row(
            "UnknownModel",
            Body(|network, data| {
                resign(network, data, 1, |it| {
                    let Action::Classify { model, .. } = &mut it.action else { unreachable!("the second is a task") };
                    *model = ModelId([1; 32]);
                });
            }),
            |good, _, _| task_error(TransactionError::UnknownModel { model: ModelId([1; 32]), height: good.height }),
        ),
        Row(
            "AnswerUnexpected",
            Body(|_, data| data.body.transactions[0].1 = Answer::Classes(Classes::of(&[1, 2]))),
            |_, _, _| TransactionError::AnswerUnexpected.at(0).to_string(),
        ),
        Row("AnswerMissing", Body(|_, data| data.body.transactions[1].1 = Answer::None), |_, _, _| {
            task_error(TransactionError::AnswerMissing)
        }),
        Row(
            "AnswerForm",
            Body(|_, data| data.body.transactions[1].1 = Answer::Classes(Classes::of(&[1, 2, 3, 4]))),
            |_, _, data| {
                let classes = data.body.transactions[1].1.classes().unwrap();
                task_error(TransactionError::AnswerForm(classes.check_form(10).unwrap_err()))
            },
        ),
        Row(
            "Weight",
            Body(|network, data| {
                let mut another = data.body.transactions[0].0.unsigned.clone();
                another.nonce += 2;
                data.body.transactions.push((signed(network, another), Answer::None));
                data.attachments.push(None);
            }),
            |_, _, _| {
                let limit = FULL_BLOCKS.0.parameters.weight_limit;
                RuleError::Weight { found: limit + 152 + rules::BASE_WEIGHT, limit }.to_string()
            },
        ),
        Row(
            "AttachmentLength before Signature, in another transaction",
            Body(|_, data| {
                let pixels = vec![3; 7];
                let Action::Classify { picture, .. } = &mut data.body.transactions[1].0.unsigned.action else {
                    unreachable!("the second is a task")
                };
                *picture = AttachmentHash::of(&pixels);
                data.attachments[1] = Some(pixels.into());
                data.body.transactions[0].0.signature[40] ^= 1;
            }),
            |_, _, _| task_error(TransactionError::AttachmentLength { found: 7, expected: 3072 }),
        ),
        Row("Signature", Body(|_, data| data.body.transactions[1].0.signature[40] ^= 1), |_, _, data| {
            let source = data.body.transactions[1].0.verify_signatures(FULL_BLOCKS.0.genesis_hash()).unwrap_err();
            task_error(TransactionError::Signature(source))
        }),
        Row("Answer", Body(|network, data| show(data, network, vec![9; 3072])), |_, _, data| {
            let expected = Classes::of(&reference::logits(&model(), &[9; 3072]));
            let found = data.body.transactions[1].1.classes().unwrap();
            task_error(rules::check_answer(found, &expected).unwrap_err())
        }),
        Row("Nonce", Body(|network, data| resign(network, data, 0, |it| it.nonce += 1)), |good, _, _| {
            let expected = 2 * (good.height - 1);
            TransactionError::Nonce { found: expected + 1, expected }.at(0).to_string()
        }),
        Row(
            "Balance",
            Body(|network, data| transfer(data, network, |_, amount| amount.0 = u64::MAX - 5)),
            |good, _, _| {
                let spent = 1_000_000 + 2 * 5;
                let balance = Amount(FULL_BLOCKS.0.parameters.accounts[0].balance.0 - spent * (good.height - 1));
                TransactionError::Balance { balance, needed: Amount(u64::MAX) }.at(0).to_string()
            },
        ),
        Row(
            "MinimumBalance",
            Body(|network, data| transfer(data, network, |to, amount| (*to, *amount) = (Address([99; 20]), Amount(7)))),
            |_, _, _| {
                let minimum = FULL_BLOCKS.0.parameters.minimum_balance;
                TransactionError::MinimumBalance { amount: Amount(7), minimum }.at(0).to_string()
            },
        ),
        Row("HistoryRoot", Spoil::Header(|header| header.history.0[0] ^= 1), |good, bad, _| {
            RuleError::HistoryRoot { found: bad.history, expected: good.history }.to_string()
        }),
        Row("StateRoot", Spoil::Header(|header| header.state.0[0] ^= 1), |good, bad, _| {
            RuleError::StateRoot { found: bad.state, expected: good.state }.to_string()
        }),
    ]
}

/// By every rule and at every place: what comes before the bad block stays, the next import says that it was refused, and a good
/// file of the same blocks goes on from there.
#[test]
fn good_blocks_before_a_bad_one_stay() {
    let (network, good) = &*FULL_BLOCKS;
    let folder = TempDir::new().unwrap();
    let (file, whole) = (folder.path().join("blocks"), folder.path().join("whole"));
    write_blocks(&whole, network, good);
    for Row(rule, spoil, expected) in bad_blocks() {
        for number in [1, 3, 5] {
            let mut blocks = good.clone();
            let (header, data) = &mut blocks[number - 1];
            match spoil {
                Spoil::Header(spoil) => {
                    spoil(header);
                    *header = mined(header.clone());
                }
                Body(spoil) => {
                    spoil(network, data);
                    header.body = data.body.root(&header.parent);
                    *header = mined(header.clone());
                }
                Bytes(spoil) => spoil(header, data),
            }
            let (hash, height) = (header.hash(), header.height);
            let expected = expected(&good[number - 1].0, header, data);
            let is_others = OTHER_DATA.contains(&rule);
            let why = if is_others { Why::OtherData } else { Why::NotValid };
            let at = format!("block {number} of the file, {hash} at height {height},");
            write_blocks(&file, network, &blocks);

            let (name, before, new) = (format!("rule {rule} at {number}"), number as u64 - 1, TempDir::new().unwrap());
            let (chain, result) = import_into(new.path(), &file, network, MissingAttachments::Insist);
            assert_eq!(stopped(&chain, result, before, before), format!("{at} {why}: {expected}"), "{name}");
            assert_eq!(chain.tip().height, before, "{name}");
            // It is known now to be bad, unless that was the data's fault or the header was not even taken.
            let is_refused = chain.tree().is_condemned(&hash);
            drop(chain);
            let why = if is_refused { Why::Refused } else { why };
            let (chain, result) = import_into(new.path(), &file, network, MissingAttachments::Insist);
            assert_eq!(stopped(&chain, result, before, 0), format!("{at} {why}: {expected}"), "{name}");
            drop(chain);
            let (_, result) = import_into(new.path(), &whole, network, MissingAttachments::Insist);
            assert_eq!(all(result), (5, 5 - before, 5), "{name}");
        }
    }
}

/// Of several bad blocks, some of which take longer to be found, the first is named.
#[test]
fn of_bad_blocks_the_first_is_named() {
    let network = network(1000);
    let folder = made(&network, Some(9));
    let store = stored(folder.path(), &network);
    let blocks: Vec<_> = (1..=BLOCKS)
        .map(|height| {
            let hash = at_hash(&store, height);
            let body = store.body(height, &hash).unwrap().unwrap();
            let attachments = store.attachments(height, &hash, &body).unwrap();
            (store.header(&hash).unwrap().unwrap().0, BlockData { body, attachments })
        })
        .collect();
    let mut both = blocks.clone();
    both[9].1.body.transactions.clear();
    let file = folder.path().join("blocks");
    write_blocks(&file, &network, &both);
    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    let text = stopped(&chain, result, 8, 8);
    let nine = at_hash(&store, 9);
    assert!(text.starts_with(&format!("block 9 of the file, {nine} at height 9, is not valid: ")), "{text}");
    drop(chain);
    // From the middle on, to a node that has what is below: the place in the file is said.
    write_blocks(&file, &network, &blocks[5..]);
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    let text = stopped(&chain, result, 3, 0);
    assert!(text.starts_with(&format!("block 4 of the file, {nine} at height 9, was refused here before: ")), "{text}");
    drop(chain);
    write_blocks(&file, &network, &blocks[9..]);
    let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
    let ten = at_hash(&store, 10);
    let expected = format!("block 1 of the file, {ten} at height 10, stands on a block that is not valid");
    assert_eq!(stopped(&chain, result, 0, 0), expected);
}

#[test]
fn a_block_from_the_future_is_held() {
    let (network, blocks) = &*FULL_BLOCKS;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocks");
    write_blocks(&file, network, blocks);
    for number in [1, 3, 5] {
        let (header, new) = (&blocks[number - 1].0, TempDir::new().unwrap());
        let mut chain = chain_in(new.path(), network);
        let result = import(&mut chain, &file, header.time - 31, inference(), &|| false, &mut |_| {});
        let before = number as u64 - 1;
        let expected = format!(
            "block {number} of the file, {} at height {number}, is held: its time is 31 s ahead of this clock",
            header.hash()
        );
        assert_eq!(stopped(&chain, result, before, before), expected);
        let result = import(&mut chain, &file, u64::MAX, inference(), &|| false, &mut |_| {});
        assert_eq!(all(result), (5, 5 - before, 5));
    }
}

#[test]
fn an_import_that_is_interrupted_goes_on() {
    let (network, blocks) = &*FULL_BLOCKS;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("blocks");
    write_blocks(&file, network, blocks);
    for count in [0u64, 2, 4] {
        let (new, left) = (TempDir::new().unwrap(), std::cell::Cell::new(count));
        let mut chain = chain_in(new.path(), network);
        let is_to_end = || left.replace(left.get().saturating_sub(1)) == 0;
        let result = import(&mut chain, &file, u64::MAX, inference(), &is_to_end, &mut |_| {});
        assert_eq!(stopped(&chain, result, count, count), format!("interrupted after {count} blocks of 5"));
        drop(chain);
        let (_, result) = import_into(new.path(), &file, network, MissingAttachments::Insist);
        assert_eq!(all(result), (5, 5 - count, 5));
    }
    // One that was killed has left blocks whose answers nobody has looked at.
    let new = TempDir::new().unwrap();
    let mut chain = chain_in(new.path(), network);
    let headers: Vec<Header> = blocks.iter().map(|(header, _)| header.clone()).collect();
    assert_eq!(chain.insert_headers(&headers, u64::MAX).unwrap().0, 5);
    for (header, data) in &blocks[..3] {
        chain.accept_block(header.hash(), data, &|_| false).unwrap();
    }
    drop(chain);
    let (_, result) = import_into(new.path(), &file, network, MissingAttachments::Insist);
    assert_eq!(all(result), (5, 2, 5));
}

#[test]
fn a_file_that_is_cut_foreign_or_damaged_is_said_to_be() {
    let network = network(1000);
    let folder = made(&network, None);
    let file = folder.path().join("blocks");
    export(&stored(folder.path(), &network), &file, None, None, &mut |_| {}).unwrap();
    let good = fs::read(&file).unwrap();
    let attempt = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let new = TempDir::new().unwrap();
        import_into(new.path(), &file, &network, MissingAttachments::Insist).1
    };
    for cut in [0, 10, 47] {
        let error = attempt(&good[..cut]).unwrap_err();
        let expected =
            format!("{} is no file of blocks: expected one that `ocelli chain export` wrote", file.display());
        assert_eq!(error.to_string(), expected, "{cut}");
    }
    let mut other = good.clone();
    other[20] ^= 1;
    assert!(matches!(attempt(&other), Err(ImportError::File(ExportError::Network { .. }))));

    // Where each block begins and ends.
    let mut ends = vec![52];
    while let Some(length) = good.get(ends[ends.len() - 1] + 180..ends[ends.len() - 1] + 184) {
        ends.push(ends[ends.len() - 1] + 184 + u32::from_le_bytes(length.try_into().unwrap()) as usize);
    }
    assert_eq!((ends.len() as u64, ends[BLOCKS as usize]), (BLOCKS + 1, good.len()));
    let damaged = |bytes: &[u8], blocks: u64, reason: &str| {
        fs::write(&file, bytes).unwrap();
        let new = TempDir::new().unwrap();
        let (chain, result) = import_into(new.path(), &file, &network, MissingAttachments::Insist);
        let expected = format!("{} is damaged after {blocks} blocks: {reason}", file.display());
        assert_eq!(stopped(&chain, result, blocks, blocks), expected);
        assert_eq!(chain.tip().height, blocks);
    };
    for (blocks, ends) in (0..).zip(ends.windows(2)) {
        for cut in [ends[0] + 1, ends[0] + 183, ends[0] + 184, ends[1] - 1] {
            damaged(&good[..cut], blocks, "it ends in the midst of a block");
        }
        let mut long = good.clone();
        long[ends[0] + 180..ends[0] + 184].fill(0xff);
        damaged(&long, blocks, "a block of 4294967295 bytes, expected at most 268435456");
    }
    // Garbage at the end: too short for a block, or whatever it comes to.
    damaged(&[&good[..], &[7; 30]].concat(), BLOCKS, "it ends in the midst of a block");
    damaged(&[&good[..], &[0xff; 300]].concat(), BLOCKS, "a block of 4294967295 bytes, expected at most 268435456");
    let zeros = attempt(&[&good[..], &[0; 184 + 16]].concat()).unwrap();
    assert_eq!((zeros.blocks, zeros.height), (BLOCKS, BLOCKS));
    let parent = BlockHash::default();
    assert!(matches!(zeros.stopped, Some(Stopped::AtBlock { why: Why::ParentUnknown(found), .. }) if found == parent));
    // Data that are no block's data.
    let mut undecodable = good.clone();
    undecodable[ends[4] + 184..ends[4] + 192].fill(0xff);
    let stopped = attempt(&undecodable).unwrap();
    assert_eq!((stopped.blocks, stopped.height), (4, 4));
    assert!(matches!(stopped.stopped, Some(Stopped::Damaged(ExportError::Damaged { blocks: 4, .. }))));
}

#[test]
fn only_what_is_there_is_exported() {
    let network = network(1000);
    let folder = made(&network, None);
    let (file, store) = (folder.path().join("blocks"), stored(folder.path(), &network));
    for (from, to) in [(0, 5), (3, 13), (9, 7)] {
        let result = export(&store, &file, Some(from), Some(to), &mut |_| {});
        assert!(matches!(result, Err(ExportError::Range { first: 1, last: 12, .. })), "{result:?}");
    }
    let folder = folder.path().join("missing");
    let result = export(&store, &folder.join("file"), None, None, &mut |_| {});
    assert!(matches!(result, Err(ExportError::File { .. })), "{result:?}");
}
