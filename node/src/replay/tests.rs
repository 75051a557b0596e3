//! Chains that are verified, exported and imported, and what is done to them in between.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use ocelli_consensus::{
    Action, Address, Amount, CompactTarget, Header, ImageHash, ModelId, RuleError, Transaction, Unsigned,
};
use ocelli_model::{Model, ReferenceBackend, reference};
use ocelli_protocol::message::BlockData;
use tempfile::TempDir;

use super::*;
use crate::chain::{Chain, MissingPixels};
use crate::inference::{Handle, InferenceService, Limits};
use crate::store::{Kept, Store, StoreOptions};
use crate::wallet::Wallet;

const BLOCKS: u64 = 12;

/// The network `local` with a target that every few hashes meet.
fn network(retention: u64) -> Network {
    let mut parameters = Network::builtin("local").unwrap().parameters;
    parameters.easiest_target = CompactTarget(0x207f_ffff);
    parameters.half_life = 1 << 30;
    parameters.retention = retention;
    Network::new(parameters, Vec::new())
}

fn model() -> Model {
    ocelli_model::zoo::get("cifar10-cnn").unwrap()
}

/// One for all tests: it checks itself when it starts, which takes a while with the reference.
fn inference() -> &'static Handle {
    static HANDLE: LazyLock<Handle> =
        LazyLock::new(|| InferenceService::start(Box::new(ReferenceBackend), vec![model()], Limits::default(), || {}));
    &HANDLE
}

fn chain_in(folder: &Path, network: &Network) -> Chain {
    Chain::open(network.clone(), Store::open(&folder.join("chain"), network).unwrap()).unwrap()
}

fn stored(folder: &Path, network: &Network) -> Store {
    Store::open_existing(&folder.join("chain"), network, StoreOptions::default()).unwrap()
}

/// Adds a block with one transfer and, every third time, one task, whose answer is off by `error`.
fn grow(chain: &mut Chain, network: &Network, error: i32) -> (Header, BlockData) {
    let wallet = Wallet::from_seed(DEV_WALLET_SEED);
    let key = wallet.public_key();
    let height = chain.tip().height + 1;
    let mut nonce = chain.account(&Address::of(&key)).unwrap().nonce;
    let mut sign = |action| {
        let unsigned = Unsigned { nonce, fee: Amount(5), expires: 1 << 40, action };
        nonce += 1;
        Transaction::sign(unsigned, key, network.genesis_hash(), |hash| wallet.sign(hash))
    };
    let mut data = BlockData::default();
    let to = Address([height as u8; 20]);
    data.body.transactions.push((sign(Action::Transfer { to, amount: Amount(1_000_000) }), None));
    data.pixels.push(None);
    if height.is_multiple_of(3) {
        let pixels: Vec<u8> = (0..3072u32).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ height as u8).collect();
        let mut logits = reference::logits(&model(), &pixels);
        logits[3] += error;
        let action = Action::Classify { model: ModelId(model().id().0), image: ImageHash::of(&pixels) };
        data.body.transactions.push((sign(action), Some(logits)));
        data.pixels.push(Some(pixels));
    }
    let time = chain.tip().time + 2;
    let mut header = chain.template(Address([7; 20]), &data.body, time).unwrap();
    let target = header.target.to_target().unwrap();
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    let hash = header.hash();
    assert!(chain.insert_headers(std::slice::from_ref(&header), u64::MAX).unwrap().1.is_none());
    chain.accept_block(hash, &data, &|_| false).unwrap();
    chain.set_answers(hash, Ok(())).unwrap();
    chain.advance().unwrap();
    assert_eq!(chain.tip().hash, hash);
    (header, data)
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
    let kept = Kept { pixels_from: 7, ..Kept::ALL };
    assert_eq!(verify_folder(folder.path(), &network).unwrap(), expected(kept, 2, 2));
    stored(folder.path(), &network).prune(0, 6).unwrap();
    let kept = Kept { pixels_from: 7, bodies_from: 6, answers_from: 1 };
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
        assert!(matches!(rule, Some(RuleError::Output { index: 1, class: 3, .. })), "{rule:?}");
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
    store.damage("accounts", &address.0, Some(&[0xff; 16]));
    drop(store);
    let error = verify_folder(folder.path(), &network).unwrap_err();
    let VerifyError::Differs { column, key } = error else { panic!("{error}") };
    assert_eq!((column, key), ("accounts", hex::encode(address.0)));
}

fn at_hash(store: &Store, height: u64) -> ocelli_consensus::BlockHash {
    store.hash_at(height).unwrap().unwrap()
}

fn import_into(
    folder: &Path,
    file: &Path,
    network: &Network,
    missing: MissingPixels,
) -> (Chain, Result<Imported, ImportError>) {
    let mut chain = chain_in(folder, network).keeping(None, missing);
    let result = import(&mut chain, file, u64::MAX, inference(), &mut |_| {});
    (chain, result)
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
    let (chain, result) = import_into(new.path(), &file, &network, MissingPixels::Insist);
    assert_eq!(result.unwrap(), Imported { blocks: BLOCKS, new: BLOCKS, height: BLOCKS });
    assert_eq!(chain.store().first_difference(&store).unwrap(), None);
    assert_eq!(chain.store().tip().unwrap(), store.tip().unwrap());
    assert_eq!(chain.store().kept().unwrap(), Kept::ALL);
    drop(chain);
    // Again, nothing is new.
    let (_, result) = import_into(new.path(), &file, &network, MissingPixels::Insist);
    assert_eq!(result.unwrap(), Imported { blocks: BLOCKS, new: 0, height: BLOCKS });

    // In two files, the second of which does not connect by itself.
    let (low, high) = (folder.path().join("low"), folder.path().join("high"));
    export(&store, &low, None, Some(5), &mut |_| {}).unwrap();
    export(&store, &high, Some(6), None, &mut |_| {}).unwrap();
    let new = TempDir::new().unwrap();
    let (chain, result) = import_into(new.path(), &high, &network, MissingPixels::Insist);
    let Err(ImportError::Bad(bad)) = result else { panic!("{result:?}") };
    assert_eq!(bad.height, 6);
    drop(chain);
    for (part, height) in [(&low, 5), (&high, BLOCKS)] {
        let (_, result) = import_into(new.path(), part, &network, MissingPixels::Insist);
        assert_eq!(result.unwrap().height, height);
    }
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
    let (chain, result) = import_into(new.path(), &file, &network, MissingPixels::AcceptOnWork);
    assert_eq!(result.unwrap().height, BLOCKS);
    assert_eq!(chain.store().kept().unwrap(), Kept { pixels_from: 7, bodies_from: 1, answers_from: 7 });
    let (_, result) = import_into(TempDir::new().unwrap().path(), &file, &network, MissingPixels::Insist);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("damaged after 3 blocks: not the data of block 3"), "{error}");
}

#[test]
fn a_file_that_is_cut_foreign_or_wrong_is_said_to_be() {
    let network = network(1000);
    let folder = made(&network, Some(9));
    let file = folder.path().join("blocks");
    export(&stored(folder.path(), &network), &file, None, None, &mut |_| {}).unwrap();
    let good = fs::read(&file).unwrap();
    let attempt = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let new = TempDir::new().unwrap();
        let (chain, result) = import_into(new.path(), &file, &network, MissingPixels::Insist);
        (chain.tip().height, result.unwrap_err())
    };
    // What comes before the wrong answer is kept.
    let (height, error) = attempt(&good);
    assert!(matches!(&error, ImportError::Intake(IntakeError::Bad(bad)) if bad.height == 9), "{error}");
    assert_eq!(height, 8);
    for cut in [0, 10, 47] {
        let (_, error) = attempt(&good[..cut]);
        assert!(matches!(error, ImportError::File(ExportError::Foreign { .. })), "{cut}: {error}");
    }
    for cut in [49, 48 + 183, 48 + 184, good.len() - 1] {
        let (height, error) = attempt(&good[..cut]);
        assert!(matches!(error, ImportError::File(ExportError::Damaged { .. })), "{cut}: {error}");
        assert_eq!(height, 0, "all headers are looked at first");
    }
    let mut other = good.clone();
    other[20] ^= 1;
    assert!(matches!(attempt(&other).1, ImportError::File(ExportError::Network { .. })));
    let mut long = good.clone();
    long[48 + 180..48 + 184].fill(0xff);
    assert!(attempt(&long).1.to_string().contains("expected at most"), "a length beyond all bounds");
    let mut data = good;
    let last = data.len() - 1;
    data[last] ^= 1;
    assert!(matches!(attempt(&data).1, ImportError::Bad(_) | ImportError::Intake(_) | ImportError::File(_)));
    // Ranges that are not there.
    let store = stored(folder.path(), &network);
    for (from, to) in [(0, 5), (3, 13), (9, 7)] {
        let result = export(&store, &file, Some(from), Some(to), &mut |_| {});
        assert!(matches!(result, Err(ExportError::Range { first: 1, last: 12, .. })), "{result:?}");
    }
    let folder = folder.path().join("missing");
    let result = export(&store, &folder.join("file"), None, None, &mut |_| {});
    assert!(matches!(result, Err(ExportError::File { .. })), "{result:?}");
}
