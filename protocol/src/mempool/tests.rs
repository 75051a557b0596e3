use std::cmp::Reverse;
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::Classes;
use ocelli_consensus::hash::{PartsHash, UploadHash};
use ocelli_consensus::network::Network;
use ocelli_consensus::object::{Account, ModelFacts, ModelRecord, Object, UploadRecord};
use ocelli_consensus::rules::{FormError, Sum, weight};
use ocelli_consensus::transaction::{Access, Form};
use ocelli_consensus::{Action, AttachmentHash, BlockHash, ModelId, Unsigned};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::order::Ranks;
use super::selection::Step;
use super::*;

/// The state at a tip of [`HEIGHT`], and the network.
#[derive(Clone)]
struct State {
    accounts: BTreeMap<Address, Account>,
    models: BTreeMap<ModelId, ModelRecord>,
    uploads: BTreeMap<Address, UploadRecord>,
    network: Network,
    height: u64,
    now: u64,
}

impl StateReader for State {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        Ok(match id {
            ObjectId::Account(address) => self.accounts.get(address).copied().map(Object::from),
            ObjectId::Model(model) => self.models.get(model).copied().map(Object::from),
            ObjectId::Upload(sender) => self.uploads.get(sender).copied().map(Object::from),
        })
    }
}

impl State {
    fn tip(&self) -> Tip<'_, Self> {
        Tip { network: &self.network, height: self.height, time: 1_000 + 10 * self.height, state: self, now: self.now }
    }

    fn at(self, height: u64) -> Self {
        Self { height, ..self }
    }
}

const GENESIS: BlockHash = BlockHash([7; 32]);
/// Of a transfer, and of a task: 152 and 204 bytes, 12 pixels, 256.
const WEIGHT: u64 = 408;
const TASK: u64 = 472;
const HEIGHT: u64 = 10;
/// Bytes that a transfer counts.
const BYTES: usize = 152 + 512;
const MODEL: ModelId = ModelId([1; 32]);

fn key(seed: u16) -> SigningKey {
    let mut secret = [1; 32];
    secret[..2].copy_from_slice(&seed.to_le_bytes());
    SigningKey::from_bytes(&secret)
}

fn address(seed: u16) -> Address {
    Address::of(key(seed).verifying_key().as_bytes())
}

/// Whoever transfers go to: its account exists.
const RECEIVER: Address = Address([9; 20]);

fn accounts(list: &[(u16, u64, u64)]) -> State {
    let mut network = Network::builtin("local").expect("built in");
    network.parameters.minimum_balance = Amount(100_000);
    network.parameters.model_price = Amount(10);
    network.parameters.upload_window = 20;
    let account = |(seed, nonce, balance): &(u16, u64, u64)| {
        (address(*seed), Account { nonce: *nonce, balance: Amount(*balance) })
    };
    let receiver = (RECEIVER, Account { nonce: 0, balance: Amount(1) });
    State {
        accounts: list.iter().map(account).chain([receiver]).collect(),
        models: BTreeMap::from([(MODEL, record(Address([0; 20]), 0, facts(2)))]),
        uploads: BTreeMap::new(),
        network,
        height: HEIGHT,
        now: 0,
    }
}

/// A model of `6 * width` pixels that costs nothing to run.
fn facts(width: u16) -> ModelFacts {
    ModelFacts { size: 1_000, channels: 3, height: 2, width, classes: 2, cost: 0 }
}

fn record(author: Address, royalty: u64, facts: ModelFacts) -> ModelRecord {
    ModelRecord { author, royalty: Amount(royalty), first: 0, facts }
}

/// An answer; another number gives another.
fn answer(number: i32) -> Answer {
    Answer::Classes(Classes::of(&[number, -1]))
}

fn sign(seed: u16, unsigned: Unsigned) -> Transaction {
    let key = key(seed);
    Transaction::sign(unsigned, key.verifying_key().to_bytes(), GENESIS, |hash| key.sign(hash).to_bytes())
}

fn pay(seed: u16, nonce: u64, fee: u64, to: Address, amount: u64) -> Transaction {
    let action = Action::Transfer { to, amount: Amount(amount) };
    sign(seed, Unsigned { nonce, fee: Amount(fee), expires: 100, action })
}

fn transfer(seed: u16, nonce: u64, fee: u64) -> Transaction {
    pay(seed, nonce, fee, RECEIVER, 1000)
}

fn until(expires: u64, seed: u16, nonce: u64, fee: u64) -> Transaction {
    sign(seed, Unsigned { expires, ..transfer(seed, nonce, fee).unsigned })
}

fn classify(seed: u16, nonce: u64, fee: u64) -> (Transaction, Option<Arc<[u8]>>) {
    let pixels: Arc<[u8]> = Arc::from([7u8; 12]);
    let action = ask(MODEL, &pixels, 0);
    (sign(seed, Unsigned { nonce, fee: Amount(fee), expires: 100, action }), Some(pixels))
}

/// Asks a model for pixels.
fn ask(model: ModelId, pixels: &[u8], royalty: u64) -> Action {
    let (picture, bytes) = (AttachmentHash::of(pixels), pixels.len() as u32);
    Action::Classify { model, picture, bytes, royalty: Amount(royalty), form: Form::Pixels }
}

fn checked(transaction: Transaction, attachment: Option<Arc<[u8]>>) -> CheckedTransaction {
    CheckedTransaction::check(transaction, attachment, GENESIS).expect("is good by itself")
}

/// Inserts a transaction, after the cheap check, which must say the same.
fn insert(
    pool: &mut Mempool,
    accounts: &State,
    transaction: Transaction,
    attachment: Option<Arc<[u8]>>,
) -> Result<Inserted, MempoolError> {
    let cheap = pool.check(&transaction, &accounts.tip());
    let result = pool.insert(checked(transaction, attachment), &accounts.tip());
    assert_eq!(cheap, result.clone().map(|_| ()));
    check_invariants(pool);
    result.map_err(|AdmitError::Refused(error)| error)
}

/// Inserts a transfer that pays `fee`.
fn add(pool: &mut Mempool, accounts: &State, seed: u16, nonce: u64, fee: u64) -> Result<Inserted, MempoolError> {
    insert(pool, accounts, transfer(seed, nonce, fee), None)
}

fn add_task(pool: &mut Mempool, accounts: &State, seed: u16, nonce: u64, fee: u64) -> TxId {
    let (transaction, pixels) = classify(seed, nonce, fee);
    let txid = transaction.txid();
    insert(pool, accounts, transaction, pixels).expect("is taken");
    txid
}

/// Follows a block of these transactions.
fn connect(pool: &mut Mempool, block: &[Transaction], accounts: &State) -> Changes {
    let Ok(changes) = pool.on_tip_moved(vec![], block, &accounts.tip());
    check_invariants(pool);
    changes
}

/// Follows a block back.
fn disconnect(pool: &mut Mempool, block: impl IntoIterator<Item = Returned>, accounts: &State) -> Changes {
    let block = Disconnected { miner: Address([8; 20]), transactions: block.into_iter().collect() };
    let Ok(changes) = pool.on_tip_moved(vec![block], [], &accounts.tip());
    check_invariants(pool);
    changes
}

fn returned(transaction: Transaction) -> Returned {
    Returned { transaction, attachment: None, answer: Answer::None }
}

/// A mempool in which so many transfers may be ready.
fn pool_of(transfers: usize) -> Mempool {
    Mempool::new((transfers * BYTES + BYTES / 2) * WAITING_SHARE / (WAITING_SHARE - 1), HEIGHT)
}

fn id(seed: u16, nonce: u64, fee: u64) -> TxId {
    transfer(seed, nonce, fee).txid()
}

fn ready(promoted: Vec<TxId>, evicted: Vec<TxId>) -> Result<Inserted, MempoolError> {
    Ok(Inserted { readiness: Readiness::Ready, promoted, evicted })
}

fn gap() -> Result<Inserted, MempoolError> {
    Ok(Inserted { readiness: Readiness::Gap, promoted: vec![], evicted: vec![] })
}

fn poor(balance: u64, needed: u64) -> Result<Inserted, MempoolError> {
    let error = TransactionError::Balance { balance: Amount(balance), needed: Amount(needed) };
    Err(MempoolError::Rule(error))
}

fn order(entries: &[&MempoolEntry]) -> Vec<(Address, u64)> {
    entries.iter().map(|entry| (entry.checked().sender(), entry.nonce())).collect()
}

/// What must hold after any operation.
fn check_invariants(pool: &Mempool) {
    let entries: Vec<_> = pool.iter().collect();
    assert_eq!(pool.len(), entries.len());
    assert_eq!(pool.is_empty(), entries.is_empty());
    assert_eq!(pool.bytes(), entries.iter().map(|entry| entry.bytes()).sum::<usize>());
    assert!(pool.order.ready_bytes <= pool.ready_limit() && pool.order.waiting_bytes <= pool.waiting_limit());
    assert_eq!((pool.wtxids.len(), pool.expiries.len()), (entries.len(), entries.len()));
    let mut order = Order::default();
    for (address, sender) in &pool.senders {
        assert!(!sender.pending.is_empty() && sender.pending.len() <= MAX_PENDING);
        assert!(!sender.pending.contains_key(&sender.next), "what can be ready is");
        assert_eq!(sender.ready().count() as u64, sender.next - sender.nonce);
        assert!(sender.ready().all(MempoolEntry::is_ready));
        let Ranks { tail, head, waiting, ready, rates } = sender.ranks();
        order.tails.extend(tail.map(|rate| (rate, *address)));
        order.heads.extend(head.map(|rate| (rate, Reverse(*address))));
        order.queues.extend((waiting > 0).then_some((waiting, *address)));
        order.ready_bytes += ready;
        order.waiting_bytes += waiting;
        rates.for_each(|(rate, weight)| order.rates.add(rate, weight));
    }
    assert_eq!(pool.order, order);
    let touched = entries.iter().flat_map(|entry| {
        let touches = entry.transaction().touches().filter(|touch| touch.access != Access::Reads);
        let touches = touches.filter(|touch| touch.object != ObjectId::Account(entry.checked().sender()));
        touches.map(|touch| (touch.object, entry.checked().sender(), entry.nonce()))
    });
    assert_eq!(pool.touched, touched.collect());
    let ready = entries.iter().filter(|entry| entry.is_ready());
    let created: Vec<_> = ready.flat_map(|entry| entry.created().map(|object| (object, entry.txid()))).collect();
    assert_eq!(created.len(), pool.creators.len(), "what only one can create, one creates");
    assert_eq!(pool.creators, created.into_iter().collect());
    let mut shown = Pending::default();
    entries.iter().for_each(|entry| shown.insert(entry.checked()));
    pool.senders.iter().for_each(|(address, sender)| shown.set_next(*address, Some(sender.next)));
    assert_eq!(pool.pending(), shown);
    let rates = pool.fee_rates(300);
    for weight in [0, 1, 1_000, 10_000, 100_000, 1_000_000, u64::MAX] {
        assert_eq!(rates.within(weight), pool.rate_within(weight, 300));
    }
}

/// Transfers that create no account because they carry too little: no block can hold one, so none is taken, whatever it pays.
/// A task of the same sender after one waits, and is not run.
#[test]
fn what_no_block_may_hold_is_refused() {
    let rich: Vec<_> = (0..100).map(|seed| (seed, 0, 10_000_000)).collect();
    let accounts = accounts(&rich);
    let mut pool = Mempool::default();
    for number in 0..2_000u64 {
        let amount = [0, 1, 99_999][number as usize % 3];
        let mut fresh = [100; 20];
        fresh[..8].copy_from_slice(&number.to_le_bytes());
        let transaction = pay((number % 100) as u16, 0, 50_000, Address(fresh), amount);
        let error = TransactionError::MinimumBalance { amount: Amount(amount), minimum: Amount(100_000) };
        assert_eq!(insert(&mut pool, &accounts, transaction, None), Err(MempoolError::Rule(error)));
    }
    assert!(pool.is_empty());
    for seed in 0..100 {
        add_task(&mut pool, &accounts, seed, 1, 50_000);
    }
    assert_eq!((pool.tasks_to_run(u64::MAX, 1_000), pool.template(u64::MAX)), (vec![], vec![]));
}

/// The same address may be paid little once it exists: on the chain, or by the same sender's transaction before it. Another's
/// payment does not count, for a block may come without it.
#[test]
fn an_account_exists_on_the_chain_or_by_its_own_payer() {
    let before = accounts(&[(1, 0, 10_000_000), (2, 0, 10_000_000)]);
    let mut pool = Mempool::default();
    let fresh = Address([5; 20]);
    let creates = pay(1, 0, 500, fresh, 100_000);
    insert(&mut pool, &before, creates.clone(), None).expect("carries enough");
    insert(&mut pool, &before, pay(1, 1, 500, fresh, 0), None).expect("comes after it");
    let small = TransactionError::MinimumBalance { amount: Amount(0), minimum: Amount(100_000) };
    let refused = insert(&mut pool, &before, pay(2, 0, 500, fresh, 0), None);
    assert_eq!(refused, Err(MempoolError::Rule(small)));
    // Nor may what another is to be paid be spent.
    insert(&mut pool, &before, pay(1, 2, 500, address(3), 100_000), None).expect("carries enough");
    assert_eq!(add(&mut pool, &before, 3, 0, 500), poor(0, 1500));
    // Replaced by what does not create it, the one after it goes too, and is paid for.
    let other = insert(&mut pool, &before, pay(1, 0, 2_000, RECEIVER, 100_000), None);
    let gone = vec![creates.txid(), pay(1, 1, 500, fresh, 0).txid(), pay(1, 2, 500, address(3), 100_000).txid()];
    assert_eq!(other, ready(vec![], gone));

    // In a block it exists; with the block taken back it does not, and who has counted on it is looked at again.
    let mut after = accounts(&[(1, 1, 9_000_000), (2, 0, 10_000_000)]);
    after.accounts.insert(fresh, Account { nonce: 0, balance: Amount(100_000) });
    connect(&mut pool, std::slice::from_ref(&creates), &after);
    insert(&mut pool, &after, pay(2, 0, 500, fresh, 0), None).expect("exists");
    let changes = disconnect(&mut pool, [returned(creates.clone())], &before);
    assert_eq!(changes.removed, [pay(2, 0, 500, fresh, 0).txid()]);
    assert_eq!(changes.promoted, [creates.txid()]);
    // So is who has counted on a miner's pay.
    let mut paid = before.clone();
    paid.accounts.insert(Address([8; 20]), Account { nonce: 0, balance: Amount(1) });
    insert(&mut pool, &paid, pay(2, 0, 500, Address([8; 20]), 0), None).expect("exists");
    assert_eq!(disconnect(&mut pool, [], &before).removed, [pay(2, 0, 500, Address([8; 20]), 0).txid()]);
}

/// Promises that are never kept: 278 senders with all nonces but the first. They have their share and no more, honest tasks find
/// all of the rest, the minimum says so, an honest sender whose tasks come in disorder is not kept out, and all ends.
#[test]
fn what_waits_takes_nothing_from_what_is_ready() {
    let list: Vec<_> = (0..700).map(|seed| (seed, 0, 100_000_000)).collect();
    let mut accounts = accounts(&list);
    accounts.models.insert(MODEL, record(Address([0; 20]), 0, facts(512)));
    let task = 204 + 3_072 + 512;
    let pixels: Arc<[u8]> = vec![7; 3_072].into();
    let keys: Vec<_> = (0..700).map(|seed| key(seed).verifying_key().to_bytes()).collect();
    let submit = |pool: &mut Mempool, seed: u16, nonce, fee| {
        let unsigned = Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action: ask(MODEL, &pixels, 0) };
        // Forty thousand signatures would take long, and are verified elsewhere.
        let transaction = Transaction { unsigned, public_key: keys[usize::from(seed)], signature: [0; 64] };
        let checked = CheckedTransaction::from_connected(transaction, Some(Arc::clone(&pixels))).expect("a task");
        pool.insert(checked, &accounts.tip()).map_err(|AdmitError::Refused(error)| error)
    };
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
    for nonce in 1..=64 {
        for seed in 0..278 {
            let _ = submit(&mut pool, seed, nonce, 1_000_000);
        }
    }
    check_invariants(&pool);
    let share = DEFAULT_LIMIT_BYTES / WAITING_SHARE;
    assert!(pool.bytes() <= share && pool.bytes() > share - task, "{}", pool.bytes());
    assert_eq!(pool.minimum_rate(task), FeeRate::of(Amount(1), 1), "there is room");
    // An honest sender's tasks come in disorder: as many wait as of any other, and then all are ready.
    for nonce in (1..8).rev() {
        submit(&mut pool, 300, nonce, 4_000).expect("others have more waiting");
    }
    assert_eq!(submit(&mut pool, 300, 8, 4_000), Err(MempoolError::NoRoomToWait { found: 8, next: 0 }));
    assert_eq!(submit(&mut pool, 300, 0, 4_000).map(|inserted| inserted.promoted.len()), Ok(7));
    // All of the rest is for what is ready, and nothing of it is refused.
    let room = (DEFAULT_LIMIT_BYTES - share) / task - 8;
    for number in 0..room {
        let (seed, nonce) = (301 + (number % 399) as u16, (number / 399) as u64);
        let taken = submit(&mut pool, seed, nonce, 4_000);
        assert!(taken.is_ok_and(|taken| taken.readiness == Readiness::Ready && taken.evicted.is_empty()), "{number}");
    }
    check_invariants(&pool);
    // Now there is none: the minimum says what gets in, and it does.
    let asked = sign(1, Unsigned { nonce: 0, fee: Amount(1), expires: 9, action: ask(MODEL, &pixels, 0) });
    let weight = weight(&asked, Some(&facts(512))).expect("its facts are given");
    let minimum = pool.minimum_rate(task).fee(weight).0;
    assert!((4_001..4_100).contains(&minimum), "{minimum}");
    assert!(pool.rate_within(u64::MAX, task) >= pool.minimum_rate(task));
    let taken = submit(&mut pool, 0, 0, minimum).expect("pays the minimum");
    assert!(taken.promoted.len() >= 7 && taken.evicted.len() >= 8, "what it makes ready pays more: {taken:?}");
    // What still waits does not wait for ever.
    let held = pool.iter().filter(|entry| !entry.is_ready()).count();
    assert!(held > 2_000);
    let empty = |pool: &mut Mempool, height| connect(pool, &[], &accounts.clone().at(height)).removed.len();
    assert_eq!(empty(&mut pool, HEIGHT + WAITING_BLOCKS), 0);
    assert_eq!(empty(&mut pool, HEIGHT + WAITING_BLOCKS + 1), held);
    assert_eq!(pool.order.waiting_bytes, 0);
}

/// One sender's share of what waits: its last give way to those before them, and to nobody's ready ones.
#[test]
fn a_sender_has_its_share_of_what_waits() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::new(4 * BYTES * WAITING_SHARE * SENDER_SHARE, HEIGHT);
    for nonce in [5, 7, 8, 9] {
        assert_eq!(add(&mut pool, &accounts, 1, nonce, 500), gap());
    }
    let no_room = |found, next| Err(MempoolError::NoRoomToWait { found, next });
    assert_eq!(add(&mut pool, &accounts, 1, 10, 500), no_room(10, 0));
    let taken = add(&mut pool, &accounts, 1, 6, 500);
    assert_eq!(taken, Ok(Inserted { readiness: Readiness::Gap, promoted: vec![], evicted: vec![id(1, 9, 500)] }));
    assert_eq!(add(&mut pool, &accounts, 1, 0, 500), ready(vec![], vec![]));
}

#[test]
fn each_reason_to_refuse() {
    let accounts = accounts(&[(1, 5, 10_000), (2, 0, u64::MAX)]);
    let mut pool = Mempool::default();
    add(&mut pool, &accounts, 1, 5, 500).unwrap();
    let mut resigned = transfer(1, 5, 500);
    resigned.signature[0] ^= 1;
    let model = ModelId([2; 32]);
    let asking = |action| sign(1, Unsigned { nonce: 6, fee: Amount(500), expires: 100, action });
    let royalty = TransactionError::Royalty { found: Amount(1), expected: Amount(0) };
    let pixels = FormError::Pixels { found: 11, expected: 12 };
    let range = TransactionError::Range { field: "bytes", found: 0, least: 1, most: 262_144 };
    let rule = MempoolError::Rule;
    let low = MempoolError::FeeTooLow { found: Amount(407), expected: Amount(408) };
    let poor = TransactionError::Balance { balance: Amount(8_500), needed: Amount(8_501) };
    let replacement = MempoolError::ReplacementFeeTooLow { found: Amount(907), expected: Amount(908) };
    let ahead = MempoolError::NonceTooFarAhead { found: 71, next: 6, limit: MAX_GAP };
    use Blame::{InVain, Nobody, Peer};
    let cases = [
        (transfer(1, 5, 500), MempoolError::AlreadyKnown(id(1, 5, 500)), Nobody, Holds::Not),
        (resigned, MempoolError::AlreadyKnown(id(1, 5, 500)), Nobody, Holds::Not),
        (
            pay(2, 0, u64::MAX, RECEIVER, 1),
            rule(TransactionError::AmountOverflow { sum: Sum::Total }),
            Peer,
            Holds::Forever,
        ),
        (until(HEIGHT, 1, 6, 500), rule(TransactionError::Expired { expires: 10, height: 11 }), InVain, Holds::Branch),
        (transfer(1, 6, 407), low, Nobody, Holds::Tip),
        (transfer(1, 4, 500), MempoolError::NonceUsed { found: 4, expected: 5 }, InVain, Holds::Branch),
        (transfer(1, 71, 500), ahead, Nobody, Holds::Tip),
        (transfer(1, 6, 7501), rule(poor.clone()), InVain, Holds::Tip),
        (transfer(1, 7, 7501), rule(poor), InVain, Holds::Tip),
        (transfer(1, 5, 907), replacement, Nobody, Holds::Tip),
        (
            asking(ask(model, &[1; 12], 0)),
            rule(TransactionError::UnknownModel { model, height: 11 }),
            InVain,
            Holds::Tip,
        ),
        (asking(ask(MODEL, &[1; 12], 1)), rule(royalty), InVain, Holds::Tip),
        (asking(ask(MODEL, &[1; 11], 0)), rule(TransactionError::Form(pixels)), Peer, Holds::Forever),
        (asking(ask(MODEL, &[], 0)), rule(range), Peer, Holds::Forever),
        (asking(part(0, 1)), rule(TransactionError::NoUpload), InVain, Holds::Tip),
        (later_version(1, 6), rule(TransactionError::UnknownAction { tag: 77, version: 1 }), Nobody, Holds::Tip),
    ];
    for (transaction, error, blame, holds) in cases {
        assert_eq!((error.misbehaviour(), error.holds()), (blame, holds), "{error}");
        assert_eq!(pool.check(&transaction, &accounts.tip()), Err(error.into()));
    }
    let pixels = classify(1, 6, 500).1;
    let mut short = classify(1, 6, 500).0;
    if let Action::Classify { bytes, .. } = &mut short.unsigned.action {
        *bytes = 11;
    }
    let mut forged = transfer(1, 6, 500);
    forged.signature[0] ^= 1;
    let cases = [
        (classify(1, 6, 500).0, None, Peer, Holds::Not),
        (transfer(1, 6, 500), pixels.clone(), Peer, Holds::Not),
        (classify(1, 6, 500).0, Some(Arc::from([8u8; 12])), Peer, Holds::Not),
        (forged, None, Peer, Holds::Forever),
        (short, pixels, Peer, Holds::Forever),
    ];
    for (transaction, attachment, blame, holds) in cases {
        let error = CheckedTransaction::check(transaction, attachment, GENESIS).unwrap_err();
        let error = MempoolError::from(error);
        assert_eq!((error.misbehaviour(), error.holds()), (blame, holds), "{error:?}");
    }
    // What fits no block is no promise either.
    let mut narrow = accounts.clone();
    narrow.network.parameters.weight_limit = WEIGHT - 1;
    let heavy = MempoolError::TooHeavy { found: WEIGHT, limit: WEIGHT - 1 };
    assert_eq!((heavy.misbehaviour(), heavy.holds()), (Peer, Holds::Forever));
    assert_eq!(pool.check(&transfer(1, 6, 500), &narrow.tip()), Err(heavy.into()));
    assert_eq!(pool.len(), 1);
}

#[test]
fn gaps_are_kept_and_filled() {
    let accounts = accounts(&[(1, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    assert_eq!(add(&mut pool, &accounts, 1, 2, 500), gap());
    assert_eq!(add(&mut pool, &accounts, 1, 1, 500), gap());
    assert_eq!(add(&mut pool, &accounts, 1, MAX_GAP, 500), gap());
    assert_eq!(pool.ready_to_forward().count(), 0);
    assert!(pool.template(u64::MAX).is_empty());
    assert_eq!(pool.next_nonce(address(1), 0), 0);
    assert_eq!(add(&mut pool, &accounts, 1, 0, 500), ready(vec![id(1, 1, 500), id(1, 2, 500)], vec![]));
    assert_eq!(pool.next_nonce(address(1), 0), 3);
    assert_eq!(pool.ready_to_forward().map(MempoolEntry::nonce).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(pool.snapshot().len(), 4);
}

/// What fills a gap may make something ready that nobody can pay any more: it goes.
#[test]
fn what_a_filled_gap_cannot_pay_goes() {
    let accounts = accounts(&[(1, 0, 4_000)]);
    let mut pool = Mempool::default();
    assert_eq!(add(&mut pool, &accounts, 1, 1, 500), gap());
    assert_eq!(add(&mut pool, &accounts, 1, 2, 500), gap());
    let first = insert(&mut pool, &accounts, pay(1, 0, 500, RECEIVER, 1_500), None);
    assert_eq!(first, ready(vec![id(1, 1, 500)], vec![id(1, 2, 500)]));
}

/// What carries an attachment that is not wanted goes, wherever it stands, and those after it wait; nobody else's do.
#[test]
fn what_carries_an_attachment_is_dropped() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    let ready_one = add_task(&mut pool, &accounts, 1, 1, 500);
    add(&mut pool, &accounts, 1, 2, 500).unwrap();
    let waiting_one = add_task(&mut pool, &accounts, 1, 5, 500);
    add(&mut pool, &accounts, 2, 0, 500).unwrap();
    let unwanted = classify(1, 1, 500).0.attachment().unwrap().hash;
    assert_eq!(pool.drop_attachment(&AttachmentHash([9; 32])), []);
    assert_eq!(pool.drop_attachment(&unwanted), [ready_one, waiting_one]);
    check_invariants(&pool);
    assert_eq!(pool.drop_attachment(&unwanted), []);
    assert_eq!((pool.len(), pool.next_nonce(address(1), 0), pool.next_nonce(address(2), 0)), (3, 1, 1));
    // The one that was dropped comes with a block, and those after it can be mined.
    let block = [transfer(1, 0, 500), classify(1, 1, 500).0];
    let mut after = accounts.clone().at(HEIGHT + 1);
    after.accounts.insert(address(1), Account { nonce: 2, balance: Amount(900_000) });
    connect(&mut pool, &block, &after);
    check_invariants(&pool);
    assert_eq!(pool.next_nonce(address(1), 2), 3);
    let refused = MempoolError::Forgotten(unwanted);
    assert_eq!((refused.misbehaviour(), refused.holds()), (Blame::Nobody, Holds::Forever));
}

#[test]
fn a_sender_has_at_most_64_pending() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    for nonce in 0..64 {
        add(&mut pool, &accounts, 1, nonce, 500).unwrap();
    }
    assert_eq!(add(&mut pool, &accounts, 1, 64, 500), Err(MempoolError::TooManyPending { limit: MAX_PENDING }));
    // A replacement is no addition.
    assert_eq!(add(&mut pool, &accounts, 1, 63, 908), ready(vec![], vec![id(1, 63, 500)]));
    // What waits gives way to what is ready.
    for nonce in 1..=64 {
        assert_eq!(add(&mut pool, &accounts, 2, nonce, 500), gap());
    }
    let promoted = (1..64).map(|nonce| id(2, nonce, 500)).collect();
    assert_eq!(add(&mut pool, &accounts, 2, 0, 500), ready(promoted, vec![id(2, 64, 500)]));
}

#[test]
fn a_replacement_pays_for_all_that_it_evicts() {
    // Three transfers of 1000 + 500 fit a balance of 4500; a dearer first one displaces the last, or the last two.
    let accounts = accounts(&[(1, 0, 4500)]);
    let mut pool = Mempool::default();
    for nonce in 0..3 {
        add(&mut pool, &accounts, 1, nonce, 500).unwrap();
    }
    let expected = Amount(500 + 500 + WEIGHT);
    assert_eq!(
        add(&mut pool, &accounts, 1, 0, 1407),
        Err(MempoolError::ReplacementFeeTooLow { found: Amount(1407), expected })
    );
    assert_eq!(pool.len(), 3);
    assert_eq!(add(&mut pool, &accounts, 1, 0, 1408), ready(vec![], vec![id(1, 0, 500), id(1, 2, 500)]));
    assert_eq!(pool.ready_to_forward().count(), 2);
    // The middle one cannot be replaced at the cost of those before it.
    assert_eq!(add(&mut pool, &accounts, 1, 1, 2000), poor(2092, 3000));
}

#[test]
fn room_is_made_by_the_lowest_fee_rate_tails_first() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000), (3, 0, 1_000_000)]);
    let mut pool = pool_of(3);
    assert_eq!(pool.minimum_rate(BYTES), FeeRate::of(Amount(1), 1));
    add(&mut pool, &accounts, 1, 0, 410).unwrap(); // the lowest, but another depends on it
    add(&mut pool, &accounts, 1, 1, 600).unwrap();
    add(&mut pool, &accounts, 2, 0, 700).unwrap();
    let full = |found, lowest| {
        let rate = |fee| FeeRate::of(Amount(fee), WEIGHT);
        Err(MempoolError::Full { found: rate(found), lowest: rate(lowest) })
    };
    // Nothing has had to go yet, and the minimum says what gets in all the same: more than the last of the cheapest sender.
    assert_eq!(pool.minimum_rate(BYTES).fee(WEIGHT), Amount(610));
    assert_eq!(pool.minimum_rate(2 * BYTES).fee(WEIGHT), Amount(610));
    assert_eq!(pool.minimum_rate(3 * BYTES).fee(WEIGHT), Amount(711));
    assert_eq!(add(&mut pool, &accounts, 3, 0, 600), full(600, 600));
    assert_eq!(add(&mut pool, &accounts, 3, 0, 601), ready(vec![], vec![id(1, 1, 600)]));
    // What was evicted need not come again, nor what pays hardly more, until the minimum has decayed.
    let low = |found, expected| Err(MempoolError::FeeTooLow { found: Amount(found), expected: Amount(expected) });
    assert_eq!(add(&mut pool, &accounts, 1, 1, 609), low(609, 610));
    let mut later = |height| {
        pool.height = height;
        pool.rolling_minimum().fee(WEIGHT).0
    };
    assert_eq!(
        [HEIGHT + ROLLING_HALF_LIFE - 1, HEIGHT + ROLLING_HALF_LIFE, HEIGHT].map(&mut later),
        [610, WEIGHT, 610]
    );
    assert_eq!(add(&mut pool, &accounts, 3, 1, 650), ready(vec![], vec![id(1, 0, 410)]));
    // Its own sender's are spared.
    assert_eq!(add(&mut pool, &accounts, 3, 2, 699), full(699, 700));

    // One large entry displaces several, also the one uncovered by the first.
    let mut accounts = accounts.clone();
    accounts.models.insert(MODEL, record(Address([0; 20]), 0, facts(80)));
    let mut pool = pool_of(3);
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    add(&mut pool, &accounts, 1, 1, 501).unwrap();
    add(&mut pool, &accounts, 2, 0, 502).unwrap();
    let task = |pixels: usize, fee| {
        let pixels: Arc<[u8]> = vec![0; pixels].into();
        let unsigned = Unsigned { nonce: 0, fee: Amount(fee), expires: 100, action: ask(MODEL, &pixels, 0) };
        (sign(3, unsigned), Some(pixels))
    };
    let (transaction, pixels) = task(480, 2_000);
    let inserted = insert(&mut pool, &accounts, transaction, pixels);
    assert_eq!(inserted, ready(vec![], vec![id(1, 1, 501), id(1, 0, 500)]));
    let huge = facts((3 * BYTES / 6) as u16);
    accounts.models.insert(MODEL, record(Address([0; 20]), 0, huge));
    let found = 204 + 512 + 3 * BYTES;
    let too_large = MempoolError::TooLarge { found, limit: pool.ready_limit() };
    assert_eq!((too_large.misbehaviour(), too_large.holds()), (Blame::Nobody, Holds::Forever));
    let (transaction, _) = task(3 * BYTES, 10_000);
    assert_eq!(pool.check(&transaction, &accounts.tip()), Err(too_large.into()));
}

#[test]
fn template_goes_by_fee_rate_and_nonce() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000), (3, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    add(&mut pool, &accounts, 1, 1, 900).unwrap();
    add(&mut pool, &accounts, 2, 0, 600).unwrap();
    let task = add_task(&mut pool, &accounts, 3, 0, 700);
    add(&mut pool, &accounts, 3, 1, 800).unwrap();
    let (one, two, three) = (address(1), address(2), address(3));
    assert_eq!(order(&pool.template(u64::MAX)), [(two, 0), (one, 0), (one, 1)]);
    pool.set_answer(&task, answer(1));
    let template = pool.template(u64::MAX);
    assert_eq!(order(&template), [(three, 0), (three, 1), (two, 0), (one, 0), (one, 1)]);
    assert_eq!(template[0].answer, answer(1));
    assert_eq!(order(&pool.template(TASK + 2 * WEIGHT + 1)), [(three, 0), (three, 1), (two, 0)]);
    assert!(pool.template(WEIGHT - 1).is_empty());
    pool.clear_answers();
    assert_eq!(order(&pool.template(u64::MAX)), [(two, 0), (one, 0), (one, 1)]);
}

/// What was passed on a short while ago may not be everywhere yet.
#[test]
fn a_miner_leaves_out_what_is_young() {
    let mut accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000), (3, 1, 1_000_000)]);
    let mut pool = Mempool::default();
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    // One that waits for a nonce is passed on with the one that it waits for.
    assert_eq!(add(&mut pool, &accounts, 2, 1, 900), gap());
    assert_eq!(pool.get(&id(2, 1, 900)).unwrap().ripe_at(0), None);
    accounts.now = 1_500;
    add(&mut pool, &accounts, 2, 0, 500).unwrap();
    add(&mut pool, &accounts, 1, 1, 1_000).unwrap();
    // One of a block taken back is known to all.
    disconnect(&mut pool, [returned(transfer(3, 1, 400))], &accounts);
    let (one, two, three) = (address(1), address(2), address(3));
    let ripe = |pool: &Mempool, now: u64| {
        order(&pool.template_of(u64::MAX, |entry| entry.ripe_at(2_000).is_some_and(|at| at <= now)))
    };
    assert_eq!(ripe(&pool, 1_999), []);
    assert_eq!(ripe(&pool, 2_000), [(one, 0), (three, 1)], "the later one of the same sender is young");
    assert_eq!(ripe(&pool, 3_499), [(one, 0), (three, 1)]);
    let all = ripe(&pool, 3_500);
    assert_eq!(all.len(), 5);
    assert_eq!(all, order(&pool.template(u64::MAX)));
    // One that takes another's place is new.
    accounts.now = 4_000;
    add(&mut pool, &accounts, 1, 0, 2_000).unwrap();
    assert_eq!(ripe(&pool, 5_999), [(two, 0), (two, 1), (three, 1)], "and those after it wait with it");
    assert_eq!(ripe(&pool, 6_000).len(), 5);
    assert_eq!(pool.get(&id(1, 1, 1_000)).unwrap().ripe_at(0), Some(1_500), "which are as old as before");
    assert_eq!(ripe_age(10), 2_000);
    assert_eq!([0, 2, 9, u64::MAX].map(ripe_age), [0, 400, 1_800, 2_000]);
}

#[test]
fn tasks_are_handed_out_once() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    let first = add_task(&mut pool, &accounts, 1, 0, 500);
    let second = add_task(&mut pool, &accounts, 2, 0, 600);
    let third = add_task(&mut pool, &accounts, 1, 1, 900);
    add_task(&mut pool, &accounts, 1, 3, 900); // beyond a gap
    add(&mut pool, &accounts, 2, 1, 700).unwrap(); // nothing to run
    let ids = |tasks: Vec<PendingTask>| tasks.into_iter().map(|task| task.txid).collect::<Vec<_>>();
    assert_eq!(ids(pool.tasks_to_run(0, 10)), []);
    assert_eq!(ids(pool.tasks_to_run(u64::MAX, 1)), [second]);
    assert_eq!(ids(pool.tasks_to_run(2 * TASK + WEIGHT, 10)), [first]);
    assert_eq!(ids(pool.tasks_to_run(u64::MAX, 10)), [third]);
    assert_eq!(ids(pool.tasks_to_run(u64::MAX, 10)), []);
    pool.task_failed(&third);
    pool.set_answer(&first, answer(0));
    let again = pool.tasks_to_run(u64::MAX, 10);
    assert_eq!(again[0].bytes.len(), 12);
    assert_eq!(ids(again), [third]);
    pool.clear_answers();
    assert_eq!(ids(pool.tasks_to_run(u64::MAX, 10)), [second, first, third]);
}

/// Where all within the budget has been handed out, only what can change that has it looked through again.
#[test]
fn asking_again_for_tasks_costs_nothing() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000), (3, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    let budget = 2 * TASK;
    // Where two pay as much, the lower address comes first.
    let (early, late) = if address(1) < address(3) { (1, 3) } else { (3, 1) };
    let ask = |pool: &mut Mempool| pool.tasks_to_run(budget, 10).iter().map(|task| task.txid).collect::<Vec<_>>();
    let first = add_task(&mut pool, &accounts, early, 0, 500);
    assert_eq!(ask(&mut pool), [first]);
    // All fits: an answer and what goes are no news, and what comes is.
    pool.set_answer(&first, answer(0));
    let second = add_task(&mut pool, &accounts, 2, 0, 600);
    assert!(pool.handed_out.is_none());
    assert_eq!(ask(&mut pool), [second]);
    pool.take(&second);
    assert!(pool.handed_out.is_some());
    // What waits is no news.
    add_task(&mut pool, &accounts, 2, 1, 600);
    assert!(pool.handed_out.is_some());
    let second = add_task(&mut pool, &accounts, 2, 0, 700);
    let last = pool.next_nonce(address(2), 0) - 1;
    let waited = pool.senders[&address(2)].pending[&last].txid();
    pool.take(&waited);
    let third = add_task(&mut pool, &accounts, late, 0, 500);
    assert_eq!(ask(&mut pool), [second], "the third is the last by its address, and does not fit");
    // Not all fits: what pays less than what does is no news, whether it comes or goes.
    let cheap = add_task(&mut pool, &accounts, late, 1, 475);
    pool.take(&cheap);
    assert!(pool.handed_out.is_some());
    assert_eq!(ask(&mut pool), []);
    // What goes makes room, and what pays more comes first.
    pool.take(&first);
    assert_eq!(ask(&mut pool), [third]);
    let dear = add_task(&mut pool, &accounts, early, 0, 800);
    assert_eq!(ask(&mut pool), [dear]);
    pool.task_failed(&dear);
    assert_eq!(ask(&mut pool), [dear]);
    assert_eq!(pool.tasks_to_run(budget + TASK, 10), [], "another budget is looked through anew");
    pool.clear_answers();
    assert_eq!(ask(&mut pool), [dear, second]);
}

#[test]
fn blocks_remove_and_give_back() {
    let before = accounts(&[(1, 0, 10_000), (2, 0, 10_000)]);
    let mut pool = Mempool::default();
    for nonce in [0, 1, 3] {
        add(&mut pool, &before, 1, nonce, 500).unwrap();
    }
    // A block includes nonce 0, another transaction for nonce 1, and one for nonce 2 never seen here.
    let block = [transfer(1, 0, 500), transfer(1, 1, 600), transfer(1, 2, 600)];
    let after = accounts(&[(1, 3, 5300), (2, 0, 10_000)]);
    let changes = connect(&mut pool, &block, &after);
    assert_eq!(changes, Changes { removed: vec![id(1, 0, 500), id(1, 1, 500)], promoted: vec![id(1, 3, 500)] });
    assert_eq!(pool.len(), 1);

    // It is disconnected: its transactions come back, below the minimum fee too, and are ready.
    let (task, pixels) = classify(2, 0, 1);
    let mut back: Vec<_> = block.map(returned).into();
    back.push(Returned { transaction: task.clone(), attachment: pixels, answer: answer(3) });
    let changes = disconnect(&mut pool, back, &before);
    assert_eq!(changes.removed, []);
    assert_eq!(changes.promoted.len(), 4, "those of the block");
    assert_eq!(pool.ready_to_forward().count(), 5);
    assert_eq!(pool.get(&task.txid()).map(|entry| entry.answer.clone()), Some(answer(3)));

    // The other branch took nonce 0 with another transaction, and left too little for the rest.
    let other = accounts(&[(1, 1, 2000), (2, 0, 10_000)]);
    let changes = connect(&mut pool, &[transfer(1, 0, 900)], &other);
    assert_eq!(changes.removed, [id(1, 0, 500), id(1, 2, 600)]);
    assert!(pool.get(&id(1, 3, 500)).is_some_and(|entry| !entry.is_ready()), "waits for another in its place");
    assert_eq!(pool.len(), 3);
    // What is stale or expired by now does not come back; what conflicts gives way.
    let block = [transfer(1, 0, 500), transfer(1, 1, 50), until(HEIGHT, 1, 2, 500)].map(returned);
    assert_eq!(disconnect(&mut pool, block, &other).removed, [id(1, 1, 600)]);
    assert!(pool.get(&id(1, 1, 50)).is_some());
}

/// What one has spent of another's payment, or of a block's pay, goes when that is taken back.
#[test]
fn what_was_paid_by_a_block_taken_back_cannot_be_spent() {
    let after = accounts(&[(1, 1, 5_000), (2, 0, 100_000), (3, 0, 10_000)]);
    let before = accounts(&[(1, 0, 200_000), (3, 0, 10_000)]);
    let mut pool = Mempool::default();
    add(&mut pool, &after, 2, 0, 500).unwrap();
    add_task(&mut pool, &after, 2, 1, 500);
    add(&mut pool, &after, 3, 0, 500).unwrap();
    let paid = pay(1, 0, 500, address(2), 100_000);
    let changes = disconnect(&mut pool, [returned(paid.clone())], &before);
    assert_eq!(changes.promoted, [paid.txid()]);
    assert_eq!(changes.removed, [id(2, 0, 500)]);
    assert_eq!(order(&pool.template(u64::MAX)).len(), 2, "the one taken back, and another's");

    let mut pool = Mempool::default();
    add(&mut pool, &after, 2, 0, 500).unwrap();
    let block = Disconnected { miner: address(2), transactions: vec![] };
    let Ok(changes) = pool.on_tip_moved(vec![block], [], &before.tip());
    assert_eq!(changes.removed, [id(2, 0, 500)]);
}

#[test]
fn what_a_reorganisation_loses_is_missing_before_the_rest() {
    // The account's nonce was 1; the block with nonce 0 is taken back, and its transaction has expired meanwhile.
    let (after, before) = (accounts(&[(1, 1, 1_000_000)]), accounts(&[(1, 0, 1_000_000)]));
    let mut pool = Mempool::default();
    add(&mut pool, &after, 1, 1, 500).expect("is taken");
    assert_eq!(order(&pool.template(1_000_000)), [(address(1), 1)]);
    assert_eq!(disconnect(&mut pool, [returned(until(HEIGHT, 1, 0, 500))], &before).removed, []);
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.ready_to_forward().count() + pool.template(1_000_000).len(), 0);
    add(&mut pool, &before, 1, 0, 500).expect("is taken");
    assert_eq!(order(&pool.template(1_000_000)), [(address(1), 0), (address(1), 1)]);
}

/// A branch that is lower, for a while, may be too low for a model; and one that is not may not have it.
#[test]
fn what_asks_a_model_that_is_gone_goes() {
    let mut accounts = accounts(&[(1, 0, 1_000_000)]);
    accounts.models.get_mut(&MODEL).expect("it is there").first = HEIGHT + 1;
    let pool = || {
        let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
        let task = add_task(&mut pool, &accounts, 1, 0, 500);
        add(&mut pool, &accounts, 1, 1, 500).expect("follows");
        (pool, task)
    };
    let (mut lower, task) = pool();
    let before = accounts.clone().at(HEIGHT - 1);
    assert_eq!(disconnect(&mut lower, [], &before).removed, [task]);
    assert_eq!((lower.len(), lower.ready_to_forward().count()), (1, 0));
    let (mut unpublished, task) = pool();
    let mut without = accounts.clone();
    without.models.clear();
    let back = returned(sign(2, Unsigned { nonce: 0, fee: Amount(1), expires: 100, action: publish(MODEL) }));
    let publication = back.transaction.txid();
    assert_eq!(disconnect(&mut unpublished, [back], &without).removed, [task, publication], "nothing is uploaded");
}

fn part(number: u16, bytes: u32) -> Action {
    let data: Vec<u8> = vec![number as u8; bytes as usize];
    Action::Part { number, bytes, data: AttachmentHash::of(&data) }
}

fn publish(model: ModelId) -> Action {
    Action::Publish { model, facts: ModelFacts { cost: 16_640, ..facts(2) }, royalty: Amount(9) }
}

/// A transaction with an action of a later version: its tag is 77.
fn later_version(seed: u16, nonce: u64) -> Transaction {
    let bytes = transfer(seed, nonce, 500).to_bytes();
    let bytes = [&bytes[..24], &77u32.to_le_bytes(), &[1, 2, 3], &bytes[bytes.len() - 96..]].concat();
    Transaction::from_bytes(&bytes).expect("it is kept whole")
}

/// The upload of a model of one part of 1,000 bytes.
fn upload(seed: u16, next: u16, since: u64, last: u64) -> UploadRecord {
    let file = UploadHash::of(&address(seed), &ModelId([5; 32]));
    UploadRecord { file, parts: PartsHash::default(), size: 1_000, next, since, last }
}

fn act(seed: u16, nonce: u64, fee: u64, action: Action) -> (Transaction, Option<Arc<[u8]>>) {
    let attachment = match action {
        Action::Part { number, bytes, .. } => Some(Arc::from(vec![number as u8; bytes as usize])),
        _ => None,
    };
    (sign(seed, Unsigned { nonce, fee: Amount(fee), expires: 100, action }), attachment)
}

/// A part waits for its time, is ready within it, and goes when it has passed, with what comes after it: every template connects.
#[test]
fn parts_are_taken_in_their_time() {
    let mut state = accounts(&[(1, 0, 10_000_000)]);
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
    let add = |pool: &mut Mempool, state: &State| {
        let (transaction, data) = act(1, 0, 2_000, part(0, 1_000));
        insert(pool, state, transaction, data)
    };
    let window = |height| {
        Err(MempoolError::Rule(TransactionError::UploadWindow { height, from: HEIGHT + 8, until: HEIGHT + 20 }))
    };
    state.uploads.insert(address(1), upload(1, 0, HEIGHT, HEIGHT));
    assert_eq!(add(&mut pool, &state), window(HEIGHT + 1));
    let state = state.at(HEIGHT + 7);
    connect(&mut pool, &[], &state);
    assert_eq!(add(&mut pool, &state), ready(vec![], vec![]));
    let (after, _) = act(1, 1, 500, Action::Upload { file: UploadHash([1; 32]), size: 1 });
    assert_eq!(insert(&mut pool, &state, after.clone(), None), ready(vec![], vec![]));
    let first = act(1, 0, 2_000, part(0, 1_000)).0.txid();
    assert_eq!(connect(&mut pool, &[], &state.clone().at(HEIGHT + 18)).removed, []);
    assert_eq!(pool.template(u64::MAX).len(), 2);
    assert_eq!(connect(&mut pool, &[], &state.clone().at(HEIGHT + 19)).removed, [first]);
    assert!(pool.template(u64::MAX).is_empty());
    assert!(pool.get(&after.txid()).is_some_and(|entry| !entry.is_ready()), "it waits for another in its place");
}

/// A model is published by one that is ready: another's is refused meanwhile, and goes when a stranger's is in a block. One that waits
/// for a nonce takes nothing from anybody.
#[test]
fn a_model_is_published_by_one() {
    let mut state = accounts(&[(1, 0, 10_000_000), (2, 0, 10_000_000)]).at(HEIGHT + 9);
    let model = ModelId([5; 32]);
    let facts = ModelFacts { size: 1_000, ..facts(2) };
    for seed in [1, 2] {
        state.uploads.insert(address(seed), upload(seed, 1, HEIGHT, HEIGHT + 8));
    }
    let publish = |seed, nonce, fee| {
        act(
            seed,
            nonce,
            fee,
            Action::Publish { model, facts: ModelFacts { cost: 16_640, ..facts }, royalty: Amount(1) },
        )
        .0
    };
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT + 9);
    assert_eq!(insert(&mut pool, &state, publish(2, 1, 500), None), gap());
    assert_eq!(insert(&mut pool, &state, publish(1, 0, 500), None), ready(vec![], vec![]));
    let refused = MempoolError::CreatedByAnother(publish(1, 0, 500).txid());
    assert_eq!((refused.misbehaviour(), refused.holds()), (Blame::Nobody, Holds::Tip));
    assert_eq!(insert(&mut pool, &state, publish(2, 0, 5_000), None), Err(refused));
    // Its own may replace it.
    let replaced = insert(&mut pool, &state, publish(1, 0, 1_000), None);
    assert_eq!(replaced, ready(vec![], vec![publish(1, 0, 500).txid()]));
    // What becomes ready and would create it again goes.
    let filled = add(&mut pool, &state, 2, 0, 500);
    assert_eq!(filled, ready(vec![], vec![publish(2, 1, 500).txid()]));
    // A stranger's is in a block.
    let mut after = state.clone().at(HEIGHT + 10);
    after.models.insert(model, ModelRecord { author: address(3), royalty: Amount(0), first: HEIGHT + 14, facts });
    let changes = connect(&mut pool, &[publish(3, 0, 1)], &after);
    assert_eq!(changes.removed, [publish(1, 0, 1_000).txid()]);
    assert_eq!(order(&pool.template(u64::MAX)), [(address(2), 0)]);
}

/// With a block taken back its royalties are gone: who has spent them is looked at again.
#[test]
fn royalties_of_a_block_taken_back_cannot_be_spent() {
    let mut after = accounts(&[(1, 1, 5_000), (2, 0, 100_000)]);
    after.models.insert(MODEL, record(address(2), 50_000, facts(2)));
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
    let spends = pay(2, 0, 500, RECEIVER, 60_000);
    insert(&mut pool, &after, spends.clone(), None).expect("it has been paid");
    let mut before = accounts(&[(1, 0, 200_000), (2, 0, 50_000)]);
    before.models = after.models;
    let asked = sign(1, Unsigned { nonce: 0, fee: Amount(500), expires: 100, action: ask(MODEL, &[7; 12], 50_000) });
    let back = Returned { transaction: asked, attachment: Some([7; 12].into()), answer: answer(1) };
    assert_eq!(disconnect(&mut pool, [back], &before).removed, [spends.txid()]);
}

/// The models that have to be loaded for a block are bounded together: what exceeds that is left to the next one.
#[test]
fn a_template_needs_few_models() {
    let mut state = accounts(&(0..6).map(|seed| (seed, 0, 1_000_000)).collect::<Vec<_>>());
    let size = 40 << 20;
    let models: Vec<_> = (0..6u8).map(|number| ModelId([number + 10; 32])).collect();
    for model in &models {
        state.models.insert(*model, record(Address([0; 20]), 0, ModelFacts { size, ..facts(2) }));
    }
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
    // Dearest first: models 0, 0, 1, 2, 3, 1. The fourth model has no room; who asks a fifth that is small has.
    for (seed, (model, fee)) in (0..).zip([(0, 900), (0, 890), (1, 880), (2, 870), (3, 860), (1, 850)]) {
        let action = ask(models[model], &[7; 12], 0);
        let task = sign(seed, Unsigned { nonce: 0, fee: Amount(fee), expires: 100, action });
        insert(&mut pool, &state, task.clone(), Some([7; 12].into())).expect("is taken");
        pool.set_answer(&task.txid(), answer(1));
    }
    let small = add_task(&mut pool, &state, 5, 1, 840);
    pool.set_answer(&small, answer(1));
    let expected = [(0, 0), (1, 0), (2, 0), (3, 0), (5, 0), (5, 1)];
    assert_eq!(order(&pool.template(u64::MAX)), expected.map(|(seed, nonce)| (address(seed), nonce)));
}

#[test]
fn expiry_leaves_a_gap() {
    let accounts = accounts(&[(1, 0, 10_000)]);
    let mut pool = Mempool::default();
    let brief = until(20, 1, 0, 500);
    insert(&mut pool, &accounts, brief.clone(), None).unwrap();
    add(&mut pool, &accounts, 1, 1, 500).unwrap();
    assert_eq!(connect(&mut pool, &[], &accounts.clone().at(19)).removed, []);
    assert_eq!(connect(&mut pool, &[], &accounts.clone().at(20)).removed, [brief.txid()]);
    assert_eq!((pool.len(), pool.ready_to_forward().count()), (1, 0));
    // Nothing comes in its place.
    assert_eq!(connect(&mut pool, &[], &accounts.clone().at(20 + WAITING_BLOCKS + 1)).removed, [id(1, 1, 500)]);
    assert!(pool.is_empty());
}

#[test]
fn a_fee_is_suggested_from_what_waits() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    let fee = |pool: &Mempool, entries: u64| pool.rate_within(entries * WEIGHT, BYTES).fee(WEIGHT).0;
    assert_eq!(fee(&pool, 1), WEIGHT, "nothing waits: the minimum");
    for (key, nonce, paid) in [(1, 0, 900), (1, 1, 700), (2, 0, 800), (2, 1, 1000)] {
        add(&mut pool, &accounts, key, nonce, paid).unwrap();
    }
    // In the order 900, 800, 1000, 700, for 1000 waits for 800: a little more than the last that fits.
    for (entries, paid) in [(0, 900), (1, 900), (2, 800), (3, 800)] {
        assert!((paid + 1..=paid + paid / 64 + 1).contains(&fee(&pool, entries)), "{entries}");
    }
    assert_eq!(fee(&pool, 4), WEIGHT);
}

/// A full mempool of 64 senders with 64 transactions each: what is packed first pays most, whatever has come when.
#[test]
fn packing_is_the_same_as_by_brute_force() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let list: Vec<_> = (0..64).map(|key| (key, 0, u64::MAX / 2)).collect();
    let accounts = accounts(&list);
    let mut pool = Mempool::default();
    for seed in 0..64 {
        for nonce in 0..64 {
            let transfer = checked(transfer(seed, nonce, random.random_range(500..5000)), None);
            pool.insert(transfer, &accounts.tip()).expect("is taken");
        }
    }
    check_invariants(&pool);
    let mut expected = Vec::new();
    let mut next: BTreeMap<Address, u64> = pool.senders.keys().map(|address| (*address, 0)).collect();
    while expected.len() < 1000 {
        let heads = next.iter().map(|(address, nonce)| &pool.senders[address].pending[nonce]);
        let best = heads.max_by_key(|entry| (entry.fee_rate(), Reverse(entry.checked().sender()))).expect("64 senders");
        expected.push((best.checked().sender(), best.nonce()));
        next.insert(best.checked().sender(), best.nonce() + 1);
        if best.nonce() == 63 {
            next.remove(&best.checked().sender());
        }
    }
    assert_eq!(order(&pool.template(1000 * WEIGHT)), expected);
}

/// Many random operations: indexes hold, and tasks are handed out as if the budget were looked through each time.
/// (`tests/mempool.rs` shows that templates connect.)
#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Half of the mempools have more than these blocks hold.
        let budget = if seed % 2 == 0 { 6 * WEIGHT } else { u64::MAX };
        let mut accounts = accounts(&[(1, 0, 60_000), (2, 0, 60_000), (3, 0, 60_000), (4, 0, 60_000)]);
        let mut pool = pool_of(40);
        for _ in 0..200 {
            let key = random.random_range(1..=4);
            let account = accounts.accounts[&address(key)];
            match random.random_range(0..12) {
                0..9 => {
                    let nonce = account.nonce + random.random_range(0..20);
                    let fee = random.random_range(400..2000);
                    if random.random_bool(0.5) {
                        let _ = add(&mut pool, &accounts, key, nonce, fee);
                    } else {
                        let (task, pixels) = classify(key, nonce, fee);
                        let txid = task.txid();
                        let taken = insert(&mut pool, &accounts, task, pixels).is_ok();
                        if taken && random.random_bool(0.7) {
                            pool.set_answer(&txid, answer(1));
                        }
                    }
                }
                9..11 => {
                    let template = pool.template(random.random_range(0..10) * WEIGHT);
                    let block: Vec<_> = template.iter().map(|entry| entry.transaction().clone()).collect();
                    let mut after = transition::Changes::default();
                    for transaction in &block {
                        assert_eq!(accounts.tip().transact(&mut after, transaction), Ok(Ok(())));
                    }
                    for sender in (1..=4).map(address) {
                        let Ok(account) = after.account(&sender, &accounts);
                        accounts.accounts.insert(sender, account.expect("exists"));
                    }
                    connect(&mut pool, &block, &accounts);
                    assert!(block.iter().all(|transaction| pool.get(&transaction.txid()).is_none()));
                }
                _ => {
                    let back = account.nonce.saturating_sub(random.random_range(0..3));
                    let balance = account.balance.checked_add(Amount(3000)).expect("small");
                    accounts.accounts.insert(address(key), Account { nonce: back, balance });
                    let block = (back..account.nonce).map(|nonce| transfer(key, nonce, random.random_range(0..2000)));
                    disconnect(&mut pool, block.map(returned), &accounts);
                }
            }
            let mut expected = Vec::new();
            pool.walk(budget, |entry| {
                if !entry.is_answered() && !entry.running {
                    expected.extend(entry.task());
                }
                Step::Take
            });
            expected.truncate(3);
            assert_eq!(pool.tasks_to_run(budget, 3), expected);
            if let Some(task) = expected.first().filter(|_| random.random_bool(0.5)) {
                pool.task_failed(&task.txid);
            }
        }
    }
}
