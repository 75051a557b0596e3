use std::cmp::Reverse;
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::network::{ModelParameters, Network, Upgrade};
use ocelli_consensus::rules::weight;
use ocelli_consensus::transition::{Account, Overlay, TransactionError};
use ocelli_consensus::{Action, BlockHash, ImageHash, ModelId, Unsigned};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::order::Ranks;
use super::selection::Step;
use super::*;

/// Accounts at a tip of [`HEIGHT`], and the network's parameters.
#[derive(Clone)]
struct Accounts {
    accounts: BTreeMap<Address, Account>,
    parameters: Parameters,
    height: u64,
}

impl StateReader for Accounts {
    type Error = Infallible;

    fn account(&self, address: &Address) -> Result<Option<Account>, Infallible> {
        Ok(self.accounts.get(address).copied())
    }
}

impl Accounts {
    fn tip(&self) -> Tip<'_, Self> {
        Tip { parameters: &self.parameters, height: self.height, state: self }
    }

    fn at(self, height: u64) -> Self {
        Self { height, ..self }
    }
}

const GENESIS: BlockHash = BlockHash([7; 32]);
/// Of a transfer, and of a task: 152 and 188 bytes, 12 pixels, 256.
const WEIGHT: u64 = 408;
const TASK: u64 = 456;
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

fn accounts(list: &[(u16, u64, u64)]) -> Accounts {
    let mut parameters = Network::builtin("local").expect("built in").parameters;
    parameters.models = vec![ModelParameters { id: MODEL, pixels: 12, logits: 2, cost: 0 }];
    parameters.minimum_balance = Amount(100_000);
    let account = |(seed, nonce, balance): &(u16, u64, u64)| {
        (address(*seed), Account { nonce: *nonce, balance: Amount(*balance) })
    };
    let receiver = (RECEIVER, Account { nonce: 0, balance: Amount(1) });
    Accounts { accounts: list.iter().map(account).chain([receiver]).collect(), parameters, height: HEIGHT }
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
    let action = Action::Classify { model: MODEL, image: ImageHash::of(&pixels) };
    (sign(seed, Unsigned { nonce, fee: Amount(fee), expires: 100, action }), Some(pixels))
}

fn checked(accounts: &Accounts, transaction: Transaction, pixels: Option<Arc<[u8]>>) -> CheckedTransaction {
    CheckedTransaction::check(transaction, pixels, &accounts.parameters, GENESIS, HEIGHT + 1)
        .expect("is good by itself")
}

/// Inserts a transaction, after the cheap check, which must say the same.
fn insert(
    pool: &mut Mempool,
    accounts: &Accounts,
    transaction: Transaction,
    pixels: Option<Arc<[u8]>>,
) -> Result<Inserted, MempoolError> {
    let cheap = pool.check(&transaction, pixels.as_ref().map_or(0, |pixels| pixels.len()), &accounts.tip());
    let result = pool.insert(checked(accounts, transaction, pixels), &accounts.tip());
    assert_eq!(cheap, result.clone().map(|_| ()));
    check_invariants(pool);
    result.map_err(|InsertError::Refused(error)| error)
}

/// Inserts a transfer that pays `fee`.
fn add(pool: &mut Mempool, accounts: &Accounts, seed: u16, nonce: u64, fee: u64) -> Result<Inserted, MempoolError> {
    insert(pool, accounts, transfer(seed, nonce, fee), None)
}

fn add_task(pool: &mut Mempool, accounts: &Accounts, seed: u16, nonce: u64, fee: u64) -> TxId {
    let (transaction, pixels) = classify(seed, nonce, fee);
    let txid = transaction.txid();
    insert(pool, accounts, transaction, pixels).expect("is taken");
    txid
}

/// Follows a block of these transactions.
fn connect(pool: &mut Mempool, block: &[Transaction], accounts: &Accounts) -> Changes {
    let Ok(changes) = pool.on_tip_moved(vec![], block, &accounts.tip());
    check_invariants(pool);
    changes
}

/// Follows a block back.
fn disconnect(pool: &mut Mempool, block: impl IntoIterator<Item = Returned>, accounts: &Accounts) -> Changes {
    let block = Disconnected { miner: Address([8; 20]), transactions: block.into_iter().collect() };
    let Ok(changes) = pool.on_tip_moved(vec![block], [], &accounts.tip());
    check_invariants(pool);
    changes
}

fn returned(transaction: Transaction) -> Returned {
    Returned { transaction, pixels: None, output: None }
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
    Err(MempoolError::Transition(error))
}

fn order(entries: &[&Entry]) -> Vec<(Address, u64)> {
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
        assert!(sender.ready().all(Entry::is_ready));
        let Ranks { tail, head, waiting, ready, rates } = sender.ranks();
        order.tails.extend(tail.map(|rate| (rate, *address)));
        order.heads.extend(head.map(|rate| (rate, Reverse(*address))));
        order.queues.extend((waiting > 0).then_some((waiting, *address)));
        order.ready_bytes += ready;
        order.waiting_bytes += waiting;
        rates.for_each(|(rate, weight)| order.rates.add(rate, weight));
    }
    assert_eq!(pool.order, order);
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
        assert_eq!(insert(&mut pool, &accounts, transaction, None), Err(MempoolError::Transition(error)));
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
    assert_eq!(refused, Err(MempoolError::Transition(small)));
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
    accounts.parameters.models[0].pixels = 3_072;
    let task = 188 + 3_072 + 512;
    let pixels: Arc<[u8]> = vec![7; 3_072].into();
    let keys: Vec<_> = (0..700).map(|seed| key(seed).verifying_key().to_bytes()).collect();
    let submit = |pool: &mut Mempool, seed: u16, nonce, fee| {
        let action = Action::Classify { model: MODEL, image: ImageHash::of(&pixels) };
        let unsigned = Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action };
        // Forty thousand signatures would take long, and are verified elsewhere.
        let transaction = Transaction { unsigned, public_key: keys[usize::from(seed)], signature: [0; 64] };
        let checked = CheckedTransaction::from_connected(transaction, Some(Arc::clone(&pixels))).expect("a task");
        pool.insert(checked, &accounts.tip()).map_err(|InsertError::Refused(error)| error)
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
    let weight = weight(&classify(1, 0, 1).0, &accounts.parameters, HEIGHT).expect("offered");
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
    let action = Action::Classify { model, image: ImageHash([2; 32]) };
    let unknown = sign(1, Unsigned { nonce: 6, fee: Amount(500), expires: 100, action });
    let low = MempoolError::FeeTooLow { found: Amount(407), expected: Amount(408) };
    let poor = TransactionError::Balance { balance: Amount(8_500), needed: Amount(8_501) };
    let replacement = MempoolError::ReplacementFeeTooLow { found: Amount(907), expected: Amount(908) };
    let ahead = MempoolError::NonceTooFarAhead { found: 71, next: 6, limit: MAX_GAP };
    use Blame::{InVain, Nobody, Peer};
    let cases = [
        (transfer(1, 5, 500), MempoolError::AlreadyKnown(id(1, 5, 500)), Nobody, Holds::Not),
        (resigned, MempoolError::AlreadyKnown(id(1, 5, 500)), Nobody, Holds::Not),
        (pay(2, 0, u64::MAX, RECEIVER, 1), MempoolError::TotalOverflow, Peer, Holds::Forever),
        (until(HEIGHT, 1, 6, 500), MempoolError::Expired { expires: 10, next: 11 }, InVain, Holds::Branch),
        (transfer(1, 6, 407), low, Nobody, Holds::Tip),
        (transfer(1, 4, 500), MempoolError::NonceUsed { found: 4, expected: 5 }, InVain, Holds::Branch),
        (transfer(1, 71, 500), ahead, Nobody, Holds::Tip),
        (transfer(1, 6, 7501), MempoolError::Transition(poor), InVain, Holds::Tip),
        (transfer(1, 7, 7501), MempoolError::Transition(poor), InVain, Holds::Tip),
        (transfer(1, 5, 907), replacement, Nobody, Holds::Tip),
        (unknown, MempoolError::UnknownModel { model, height: 11 }, InVain, Holds::Tip),
    ];
    for (transaction, error, blame, holds) in cases {
        assert_eq!((error.misbehaviour(), error.holds()), (blame, holds), "{error}");
        assert_eq!(pool.check(&transaction, 0, &accounts.tip()), Err(error.into()));
    }
    let (parameters, pixels) = (&accounts.parameters, classify(1, 6, 500).1);
    let mut forged = transfer(1, 6, 500);
    forged.signature[0] ^= 1;
    let cases = [
        (classify(1, 6, 500).0, None, Peer, Holds::Not),
        (transfer(1, 6, 500), pixels.clone(), Peer, Holds::Not),
        (classify(1, 6, 500).0, Some(Arc::from([8u8; 12])), Peer, Holds::Not),
        (forged, None, Peer, Holds::Forever),
    ];
    for (transaction, pixels, blame, holds) in cases {
        let error = CheckedTransaction::check(transaction, pixels, parameters, GENESIS, HEIGHT + 1).unwrap_err();
        let error = MempoolError::from(error);
        assert_eq!((error.misbehaviour(), error.holds()), (blame, holds), "{error:?}");
    }
    // What fits no block is no promise either.
    let mut narrow = accounts.clone();
    narrow.parameters.weight_limit = WEIGHT - 1;
    let heavy = MempoolError::TooHeavy { found: WEIGHT, limit: WEIGHT - 1 };
    assert_eq!((heavy.misbehaviour(), heavy.holds()), (Peer, Holds::Forever));
    assert_eq!(pool.check(&transfer(1, 6, 500), 0, &narrow.tip()), Err(heavy.into()));
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
    assert_eq!(pool.ready_to_forward().map(Entry::nonce).collect::<Vec<_>>(), [0, 1, 2]);
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
    accounts.parameters.models[0].pixels = 500;
    let mut pool = pool_of(3);
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    add(&mut pool, &accounts, 1, 1, 501).unwrap();
    add(&mut pool, &accounts, 2, 0, 502).unwrap();
    let task = |pixels: usize| {
        let pixels: Arc<[u8]> = vec![0; pixels].into();
        let action = Action::Classify { model: MODEL, image: ImageHash::of(&pixels) };
        (sign(3, Unsigned { nonce: 0, fee: Amount(2000), expires: 100, action }), Some(pixels))
    };
    let (transaction, pixels) = task(500);
    let inserted = insert(&mut pool, &accounts, transaction, pixels);
    assert_eq!(inserted, ready(vec![], vec![id(1, 1, 501), id(1, 0, 500)]));
    let found = bytes_with(3 * BYTES);
    let too_large = MempoolError::TooLarge { found, limit: pool.ready_limit() };
    assert_eq!((too_large.misbehaviour(), too_large.holds()), (Blame::Nobody, Holds::Forever));
    let (transaction, _) = task(3 * BYTES);
    assert_eq!(pool.check(&transaction, 3 * BYTES, &accounts.tip()), Err(too_large.into()));
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
    pool.set_output(&task, vec![1, 2]);
    let template = pool.template(u64::MAX);
    assert_eq!(order(&template), [(three, 0), (three, 1), (two, 0), (one, 0), (one, 1)]);
    assert_eq!(template[0].output, Some(vec![1, 2]));
    assert_eq!(order(&pool.template(TASK + 2 * WEIGHT + 1)), [(three, 0), (three, 1), (two, 0)]);
    assert!(pool.template(WEIGHT - 1).is_empty());
    pool.clear_outputs();
    assert_eq!(order(&pool.template(u64::MAX)), [(two, 0), (one, 0), (one, 1)]);
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
    pool.set_output(&first, vec![0]);
    let again = pool.tasks_to_run(u64::MAX, 10);
    assert_eq!(again[0].pixels.len(), 12);
    assert_eq!(ids(again), [third]);
    pool.clear_outputs();
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
    // All fits: an output and what goes are no news, and what comes is.
    pool.set_output(&first, vec![0]);
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
    let cheap = add_task(&mut pool, &accounts, late, 1, 460);
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
    pool.clear_outputs();
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
    back.push(Returned { transaction: task.clone(), pixels, output: Some(vec![3]) });
    let changes = disconnect(&mut pool, back, &before);
    assert_eq!(changes.removed, []);
    assert_eq!(changes.promoted.len(), 4, "those of the block");
    assert_eq!(pool.ready_to_forward().count(), 5);
    assert_eq!(pool.get(&task.txid()).and_then(|entry| entry.output.clone()), Some(vec![3]));

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

/// A branch that is lower, for a while, may be before an upgrade.
#[test]
fn below_an_upgrade_its_models_are_not_offered() {
    let mut accounts = accounts(&[(1, 0, 1_000_000)]);
    let upgrade = Upgrade { height: HEIGHT + 1, version: 2, models: accounts.parameters.models.clone() };
    accounts.parameters.models.clear();
    accounts.parameters.upgrades = vec![upgrade];
    let mut pool = Mempool::new(DEFAULT_LIMIT_BYTES, HEIGHT);
    let task = add_task(&mut pool, &accounts, 1, 0, 500);
    add(&mut pool, &accounts, 1, 1, 500).expect("follows");
    let lower = accounts.clone().at(HEIGHT - 1);
    assert_eq!(disconnect(&mut pool, [], &lower).removed, [task]);
    assert_eq!((pool.len(), pool.ready_to_forward().count()), (1, 0));
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
            let transfer = checked(&accounts, transfer(seed, nonce, random.random_range(500..5000)), None);
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
                            pool.set_output(&txid, vec![1]);
                        }
                    }
                }
                9..11 => {
                    let template = pool.template(random.random_range(0..10) * WEIGHT);
                    let block: Vec<_> = template.iter().map(|entry| entry.transaction().clone()).collect();
                    let mut after = Overlay::default();
                    for transaction in &block {
                        assert_eq!(after.transact(&accounts.parameters, transaction, &accounts), Ok(Ok(())));
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
                if entry.output.is_none() && !entry.running {
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
