use std::collections::BTreeMap;

use ocelli_consensus::{Action, ImageHash, ModelId, Unsigned};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Accounts by address; others have zeros.
#[derive(Default, Clone)]
struct Accounts(BTreeMap<Address, (u64, Amount)>);

impl AccountReader for Accounts {
    fn account(&self, address: Address) -> (u64, Amount) {
        self.0.get(&address).copied().unwrap_or_default()
    }
}

const WEIGHT: u64 = 408;
const HEIGHT: u64 = 10;

fn address(key: u8) -> Address {
    Address::of(&[key; 32])
}

fn accounts(list: &[(u8, u64, u64)]) -> Accounts {
    Accounts(list.iter().map(|(key, nonce, balance)| (address(*key), (*nonce, Amount(*balance)))).collect())
}

fn transfer(key: u8, nonce: u64, fee: u64) -> Transaction {
    let action = Action::Transfer { to: Address([9; 20]), amount: Amount(1000) };
    let unsigned = Unsigned { nonce, fee: Amount(fee), expires: 100, action };
    Transaction { unsigned, public_key: [key; 32], signature: [0; 64] }
}

fn classify(key: u8, nonce: u64, fee: u64) -> (Transaction, Option<Arc<[u8]>>) {
    let mut transaction = transfer(key, nonce, fee);
    transaction.unsigned.action = Action::Classify { model: ModelId([1; 32]), image: ImageHash([2; 32]) };
    (transaction, Some(Arc::from([7u8; 12])))
}

/// Inserts a transfer that pays `fee`.
fn add(pool: &mut Mempool, accounts: &Accounts, key: u8, nonce: u64, fee: u64) -> Result<Inserted, MempoolError> {
    pool.insert(transfer(key, nonce, fee), None, WEIGHT, accounts, HEIGHT)
}

fn add_task(pool: &mut Mempool, accounts: &Accounts, key: u8, nonce: u64, fee: u64) -> TxId {
    let (transaction, pixels) = classify(key, nonce, fee);
    let txid = transaction.txid();
    pool.insert(transaction, pixels, WEIGHT, accounts, HEIGHT).expect("is taken");
    txid
}

fn id(key: u8, nonce: u64, fee: u64) -> TxId {
    transfer(key, nonce, fee).txid()
}

fn ready(promoted: Vec<TxId>, evicted: Vec<TxId>) -> Result<Inserted, MempoolError> {
    Ok(Inserted { readiness: Readiness::Ready, promoted, evicted })
}

fn gap() -> Result<Inserted, MempoolError> {
    Ok(Inserted { readiness: Readiness::Gap, promoted: vec![], evicted: vec![] })
}

fn order(entries: &[&Entry]) -> Vec<(Address, u64)> {
    entries.iter().map(|entry| (entry.sender, entry.nonce())).collect()
}

/// What must hold after any operation.
fn check_invariants(pool: &Mempool) {
    let entries: Vec<_> = pool.iter().collect();
    assert_eq!(pool.len(), entries.len());
    assert_eq!(pool.is_empty(), entries.is_empty());
    assert_eq!(pool.bytes(), entries.iter().map(|entry| entry.bytes()).sum::<usize>());
    assert!(pool.bytes() <= pool.limit);
    assert_eq!(pool.wtxids.len(), entries.len());
    for entry in entries {
        assert_eq!(pool.get(&entry.txid), Some(entry));
        assert_eq!(pool.get_by_wtxid(&entry.wtxid), Some(entry));
    }
    for (address, sender) in &pool.senders {
        assert!(!sender.pending.is_empty() && sender.pending.len() <= MAX_PENDING);
        let cost: u128 = sender.pending.values().map(Entry::total).sum();
        assert!(cost <= u128::from(sender.balance.0));
        assert!(pool.tails.contains(&(sender.tail_rate().expect("not empty"), *address)));
        if let Some(first) = sender.ready().next() {
            assert!(pool.heads.contains(&(first.fee_rate(), Reverse(*address))));
        }
    }
    assert_eq!(pool.tails.len(), pool.senders.len());
    assert_eq!(pool.heads.len(), pool.senders.values().filter(|sender| sender.ready().next().is_some()).count());
}

#[test]
fn each_reason_to_refuse() {
    let accounts = accounts(&[(1, 5, 10_000), (2, 0, u64::MAX)]);
    let mut pool = Mempool::default();
    add(&mut pool, &accounts, 1, 5, 500).unwrap();
    let mut insert = |transaction: Transaction, pixels: Option<Arc<[u8]>>| {
        pool.insert(transaction, pixels, WEIGHT, &accounts, HEIGHT).unwrap_err()
    };
    let pixels = classify(1, 6, 500).1;
    let mut resigned = transfer(1, 5, 500);
    resigned.signature[0] = 1;
    let mut overflow = transfer(2, 0, u64::MAX);
    overflow.unsigned.action = Action::Transfer { to: Address([9; 20]), amount: Amount(1) };
    let mut expired = transfer(1, 6, 500);
    expired.unsigned.expires = HEIGHT;
    let low = MempoolError::FeeTooLow { found: Amount(407), expected: Amount(408) };
    let poor = MempoolError::InsufficientBalance { found: Amount(10_000), expected: Amount(10_001) };
    let replacement = MempoolError::ReplacementFeeTooLow { found: Amount(907), expected: Amount(908) };
    let cases = [
        (transfer(1, 5, 500), None, MempoolError::AlreadyKnown(id(1, 5, 500)), Blame::Nobody),
        (resigned, None, MempoolError::AlreadyKnown(id(1, 5, 500)), Blame::Nobody),
        (classify(1, 6, 500).0, None, MempoolError::MissingPixels, Blame::Peer),
        (transfer(1, 6, 500), pixels, MempoolError::UnexpectedPixels(12), Blame::Peer),
        (overflow, None, MempoolError::TotalOverflow, Blame::Peer),
        (expired, None, MempoolError::Expired { expires: 10, next: 11 }, Blame::Nobody),
        (transfer(1, 6, 407), None, low, Blame::Nobody),
        (transfer(1, 4, 500), None, MempoolError::NonceUsed { found: 4, expected: 5 }, Blame::Nobody),
        (
            transfer(1, 71, 500),
            None,
            MempoolError::NonceTooFarAhead { found: 71, next: 6, limit: MAX_GAP },
            Blame::Nobody,
        ),
        (transfer(1, 6, 7501), None, poor, Blame::Nobody),
        (transfer(1, 5, 907), None, replacement, Blame::Nobody),
    ];
    for (transaction, pixels, error, blame) in cases {
        assert_eq!(error.misbehaviour(), blame);
        assert_eq!(insert(transaction, pixels), error);
    }
    assert_eq!(pool.len(), 1);
    check_invariants(&pool);
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
    check_invariants(&pool);
}

#[test]
fn a_sender_has_at_most_64_pending() {
    let accounts = accounts(&[(1, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    for nonce in 0..64 {
        add(&mut pool, &accounts, 1, nonce, 500).unwrap();
    }
    assert_eq!(add(&mut pool, &accounts, 1, 64, 500), Err(MempoolError::TooManyPending { limit: MAX_PENDING }));
    // A replacement is no addition.
    assert_eq!(add(&mut pool, &accounts, 1, 63, 908), ready(vec![], vec![id(1, 63, 500)]));
    check_invariants(&pool);
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
    assert_eq!(pool.len(), 2);
    // The middle one cannot be replaced at the cost of those before it.
    let poor = MempoolError::InsufficientBalance { found: Amount(4500), expected: Amount(5408) };
    assert_eq!(add(&mut pool, &accounts, 1, 1, 2000), Err(poor));
    check_invariants(&pool);
}

#[test]
fn room_is_made_by_the_lowest_fee_rate_tails_first() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000), (3, 0, 1_000_000)]);
    let each = Entry::new(transfer(1, 0, 500), None, WEIGHT).bytes();
    let mut pool = Mempool::new(3 * each + each / 2);
    add(&mut pool, &accounts, 1, 0, 410).unwrap(); // the lowest, but another depends on it
    add(&mut pool, &accounts, 1, 1, 600).unwrap();
    add(&mut pool, &accounts, 2, 0, 700).unwrap();
    let full = |found, lowest| {
        let rate = |fee| FeeRate::of(Amount(fee), WEIGHT);
        Err(MempoolError::Full { found: rate(found), lowest: rate(lowest) })
    };
    assert_eq!(add(&mut pool, &accounts, 3, 0, 600), full(600, 600));
    assert_eq!(add(&mut pool, &accounts, 3, 0, 601), ready(vec![], vec![id(1, 1, 600)]));
    // What was evicted need not come again, nor what pays hardly more, until the minimum has decayed.
    let low = |found, expected| Err(MempoolError::FeeTooLow { found: Amount(found), expected: Amount(expected) });
    assert_eq!(add(&mut pool, &accounts, 1, 1, 609), low(609, 610));
    assert_eq!(pool.minimum_rate(HEIGHT).fee(WEIGHT), Amount(610));
    assert_eq!(pool.minimum_rate(HEIGHT + ROLLING_HALF_LIFE - 1).fee(WEIGHT), Amount(610));
    assert_eq!(pool.minimum_rate(HEIGHT + ROLLING_HALF_LIFE).fee(WEIGHT), Amount(WEIGHT));
    assert_eq!(add(&mut pool, &accounts, 3, 1, 650), ready(vec![], vec![id(1, 0, 410)]));
    // Its own sender's are spared.
    assert_eq!(add(&mut pool, &accounts, 3, 2, 699), full(699, 700));
    check_invariants(&pool);

    // One large entry displaces several, also the one uncovered by the first.
    let mut pool = Mempool::new(3 * each);
    add(&mut pool, &accounts, 1, 0, 500).unwrap();
    add(&mut pool, &accounts, 1, 1, 501).unwrap();
    add(&mut pool, &accounts, 2, 0, 502).unwrap();
    let (task, _) = classify(3, 0, 2000);
    let pixels: Arc<[u8]> = vec![0; each - 100].into();
    let inserted = pool.insert(task.clone(), Some(pixels), WEIGHT, &accounts, HEIGHT);
    assert_eq!(inserted, ready(vec![], vec![id(1, 1, 501), id(1, 0, 500)]));
    let pixels: Arc<[u8]> = vec![0; 3 * each].into();
    let (task, _) = classify(3, 1, 2000);
    let found = Entry::new(task.clone(), Some(pixels.clone()), WEIGHT).bytes();
    let too_large = Err(MempoolError::TooLarge { found, limit: 3 * each });
    assert_eq!(pool.insert(task, Some(pixels), WEIGHT, &accounts, HEIGHT), too_large);
    check_invariants(&pool);
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
    assert_eq!(order(&pool.template(3 * WEIGHT + 1)), [(three, 0), (three, 1), (two, 0)]);
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
    assert_eq!(ids(pool.tasks_to_run(3 * WEIGHT, 10)), [first]);
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
    let budget = 2 * WEIGHT;
    let ask = |pool: &mut Mempool| pool.tasks_to_run(budget, 10).iter().map(|task| task.txid).collect::<Vec<_>>();
    let first = add_task(&mut pool, &accounts, 1, 0, 500);
    assert_eq!(ask(&mut pool), [first]);
    // All fits: an output and what goes are no news, and what comes is.
    pool.set_output(&first, vec![0]);
    let second = add_task(&mut pool, &accounts, 2, 0, 600);
    assert!(pool.handed_out.is_none());
    assert_eq!(ask(&mut pool), [second]);
    pool.remove(&second);
    assert!(pool.handed_out.is_some());
    let second = add_task(&mut pool, &accounts, 2, 0, 600);
    let third = add_task(&mut pool, &accounts, 3, 0, 500);
    assert_eq!(ask(&mut pool), [second], "the third is the last by its address, and does not fit");
    // Not all fits: what pays less than what does is no news, whether it comes or goes.
    let cheap = add_task(&mut pool, &accounts, 3, 1, 450);
    pool.remove(&cheap);
    assert!(pool.handed_out.is_some());
    assert_eq!(ask(&mut pool), []);
    // What goes makes room, and what pays more comes first.
    pool.remove(&first);
    assert_eq!(ask(&mut pool), [third]);
    let dear = add_task(&mut pool, &accounts, 1, 0, 700);
    assert_eq!(ask(&mut pool), [dear]);
    pool.task_failed(&dear);
    assert_eq!(ask(&mut pool), [dear]);
    assert_eq!(pool.tasks_to_run(budget + WEIGHT, 10), [], "another budget is looked through anew");
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
    let changes = pool.on_connected(&block, &after);
    assert_eq!(changes, Changes { removed: vec![id(1, 0, 500), id(1, 1, 500)], promoted: vec![id(1, 3, 500)] });
    assert_eq!(pool.len(), 1);

    // It is disconnected: its transactions come back, in any order, below the minimum fee too.
    let (task, pixels) = classify(2, 0, 1);
    let mut returned: Vec<_> =
        block.map(|transaction| Returned { transaction, pixels: None, output: None, weight: WEIGHT }).into();
    returned.push(Returned { transaction: task.clone(), pixels, output: Some(vec![3]), weight: WEIGHT });
    returned.reverse();
    assert_eq!(pool.on_disconnected(returned, &before, HEIGHT), []);
    assert_eq!(pool.len(), 5);
    assert_eq!(pool.ready_to_forward().count(), 5);
    assert_eq!(pool.get(&task.txid()).and_then(|entry| entry.output.clone()), Some(vec![3]));
    check_invariants(&pool);

    // The other branch took nonce 0 with another transaction, and left too little for the rest.
    let other = accounts(&[(1, 1, 2000), (2, 0, 10_000)]);
    let changes = pool.on_connected(&[transfer(1, 0, 900)], &other);
    assert_eq!(changes.removed, [id(1, 0, 500), id(1, 2, 600), id(1, 3, 500)]);
    assert_eq!(pool.len(), 2);
    // What is stale or expired by now does not come back; what conflicts gives way.
    let stale = Returned { transaction: transfer(1, 0, 500), pixels: None, output: None, weight: WEIGHT };
    let mut expired = stale.clone();
    expired.transaction = transfer(1, 2, 500);
    expired.transaction.unsigned.expires = HEIGHT;
    let conflict = Returned { transaction: transfer(1, 1, 50), ..stale.clone() };
    assert_eq!(pool.on_disconnected([stale, expired, conflict], &other, HEIGHT), [id(1, 1, 600)]);
    assert!(pool.get(&id(1, 1, 50)).is_some());
    check_invariants(&pool);
}

#[test]
fn what_a_reorganisation_loses_is_missing_before_the_rest() {
    // The account's nonce was 1; the block with nonce 0 is taken back, and its transaction has expired meanwhile.
    let (after, before) = (accounts(&[(1, 1, 1_000_000)]), accounts(&[(1, 0, 1_000_000)]));
    let mut pool = Mempool::new(1 << 20);
    add(&mut pool, &after, 1, 1, 500).expect("is taken");
    assert_eq!(order(&pool.template(1_000_000)), [(address(1), 1)]);
    let mut transaction = transfer(1, 0, 500);
    transaction.unsigned.expires = HEIGHT;
    let expired = Returned { transaction, pixels: None, output: None, weight: WEIGHT };
    assert_eq!(pool.on_disconnected([expired], &before, HEIGHT), []);
    assert_eq!(pool.len(), 1);
    assert_eq!(pool.ready_to_forward().count() + pool.template(1_000_000).len(), 0);
    add(&mut pool, &before, 1, 0, 500).expect("is taken");
    assert_eq!(order(&pool.template(1_000_000)), [(address(1), 0), (address(1), 1)]);
}

#[test]
fn expiry_leaves_a_gap() {
    let accounts = accounts(&[(1, 0, 10_000)]);
    let mut pool = Mempool::default();
    let mut brief = transfer(1, 0, 500);
    brief.unsigned.expires = 20;
    pool.insert(brief.clone(), None, WEIGHT, &accounts, HEIGHT).unwrap();
    add(&mut pool, &accounts, 1, 1, 500).unwrap();
    assert_eq!(pool.expire(19), []);
    assert_eq!(pool.expire(20), [brief.txid()]);
    assert_eq!(pool.ready_to_forward().count(), 0);
    assert_eq!(pool.remove(&id(1, 1, 500)).map(|entry| entry.nonce()), Some(1));
    assert!(pool.is_empty());
    check_invariants(&pool);
}

#[test]
fn fee_rates_order_and_print() {
    let rate = |fee, weight| FeeRate::of(Amount(fee), weight);
    assert!(rate(3, 2) > rate(4, 3));
    assert!(rate(u64::MAX, 1) > rate(u64::MAX, 2));
    assert_eq!(rate(3, 2).to_string(), "1.500");
    assert_eq!(rate(5, 0), rate(5, 1));
}

#[test]
fn a_fee_is_suggested_from_what_waits() {
    let accounts = accounts(&[(1, 0, 1_000_000), (2, 0, 1_000_000)]);
    let mut pool = Mempool::default();
    let fee = |pool: &Mempool, entries: u64| pool.rate_within(entries * WEIGHT, HEIGHT).fee(WEIGHT).0;
    assert_eq!(fee(&pool, 1), WEIGHT, "nothing waits: the minimum");
    for (key, nonce, paid) in [(1, 0, 900), (1, 1, 700), (2, 0, 800), (2, 1, 1000)] {
        add(&mut pool, &accounts, key, nonce, paid).unwrap();
    }
    // In the order 900, 800, 1000, 700: a little more than the last that fits.
    assert_eq!([1, 2, 3, 4].map(|entries| fee(&pool, entries)), [915, 813, 813, WEIGHT]);
    assert_eq!(fee(&pool, 0), WEIGHT, "as good as nothing is known");
}

/// A full mempool of 64 senders with 64 transactions each: what is packed first pays most, whatever has come when.
#[test]
fn packing_is_the_same_as_by_brute_force() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let list: Vec<_> = (0..64).map(|key| (key, 0, u64::MAX / 2)).collect();
    let accounts = accounts(&list);
    let mut pool = Mempool::default();
    for key in 0..64 {
        for nonce in 0..64 {
            add(&mut pool, &accounts, key, nonce, random.random_range(500..5000)).unwrap();
        }
    }
    let mut expected = Vec::new();
    let mut next: BTreeMap<Address, u64> = pool.senders.keys().map(|address| (*address, 0)).collect();
    while expected.len() < 1000 {
        let heads = next.iter().map(|(address, nonce)| &pool.senders[address].pending[nonce]);
        let best = heads.max_by_key(|entry| (entry.fee_rate(), Reverse(entry.sender))).expect("64 senders");
        expected.push((best.sender, best.nonce()));
        next.insert(best.sender, best.nonce() + 1);
        if best.nonce() == 63 {
            next.remove(&best.sender);
        }
    }
    assert_eq!(order(&pool.template(1000 * WEIGHT)), expected);
}

/// Many random operations: bounds and indexes hold, and the template is always executable.
#[test]
fn random_operations_keep_the_invariants() {
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Half of the mempools have more than these blocks hold.
        let budget = if seed % 2 == 0 { 6 * WEIGHT } else { u64::MAX };
        let mut accounts = accounts(&[(1, 0, 60_000), (2, 0, 60_000), (3, 0, 60_000), (4, 0, 60_000)]);
        let mut pool = Mempool::new(40 * 700);
        for _ in 0..400 {
            let key = random.random_range(1..=4);
            let (account, balance) = accounts.account(address(key));
            match random.random_range(0..12) {
                0..9 => {
                    let nonce = account + random.random_range(0..20);
                    let fee = random.random_range(400..2000);
                    if random.random_bool(0.5) {
                        let _ = add(&mut pool, &accounts, key, nonce, fee);
                    } else {
                        let (task, pixels) = classify(key, nonce, fee);
                        let txid = task.txid();
                        let taken = pool.insert(task, pixels, WEIGHT, &accounts, HEIGHT).is_ok();
                        if taken && random.random_bool(0.7) {
                            pool.set_output(&txid, vec![1]);
                        }
                    }
                }
                9..11 => {
                    let template = pool.template(random.random_range(0..10) * WEIGHT);
                    let template: Vec<Entry> = template.into_iter().cloned().collect();
                    for entry in &template {
                        let (nonce, balance) = accounts.account(entry.sender);
                        assert_eq!(entry.nonce(), nonce);
                        let total = entry.transaction.total().expect("checked on insert");
                        let rest = balance.checked_sub(total).expect("the template is affordable");
                        accounts.0.insert(entry.sender, (nonce + 1, rest));
                    }
                    pool.on_connected(template.iter().map(|entry| &entry.transaction), &accounts);
                    assert!(template.iter().all(|entry| pool.get(&entry.txid).is_none()));
                }
                _ => {
                    let back = account.saturating_sub(random.random_range(0..3));
                    accounts.0.insert(address(key), (back, balance.checked_add(Amount(3000)).expect("small")));
                    let returned = (back..account).map(|nonce| Returned {
                        transaction: transfer(key, nonce, random.random_range(0..2000)),
                        pixels: None,
                        output: None,
                        weight: WEIGHT,
                    });
                    pool.on_disconnected(returned, &accounts, HEIGHT);
                }
            }
            check_invariants(&pool);
            // As if it looked through the budget each time.
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
