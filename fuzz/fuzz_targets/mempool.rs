//! Any sequence of operations on a small mempool: what must hold after each does.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ocelli_consensus::{Action, Address, Amount, ImageHash, ModelId, Transaction, Unsigned};
use ocelli_fuzz::input::Input;
use ocelli_protocol::mempool::{AccountReader, MAX_PENDING, Mempool, Returned};

const SENDERS: u8 = 4;
/// Bytes: about forty transactions.
const LIMIT: usize = 20_000;
const WEIGHT: u64 = 400;

#[derive(Default)]
struct Accounts(BTreeMap<Address, (u64, Amount)>);

impl AccountReader for Accounts {
    fn account(&self, address: Address) -> (u64, Amount) {
        self.0.get(&address).copied().unwrap_or_default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut accounts = Accounts::default();
    for sender in 0..SENDERS {
        accounts.0.insert(address(sender), (0, Amount(u64::from(input.u16()) * 40)));
    }
    let (mut pool, mut height) = (Mempool::new(LIMIT), 0);
    // What blocks held, for them to be taken back.
    let mut included: Vec<Returned> = Vec::new();
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..=3 => {
                let (transaction, pixels) = transaction(&mut input, &accounts, height);
                let (length, bytes) = (pool.len(), pool.bytes());
                let txid = transaction.txid();
                match pool.insert(transaction, pixels, WEIGHT, &accounts, height) {
                    Ok(inserted) => {
                        assert!(pool.get(&txid).is_some());
                        assert!(inserted.evicted.iter().all(|evicted| pool.get(evicted).is_none()));
                        assert_eq!(pool.len(), length + 1 - inserted.evicted.len());
                    }
                    Err(_) => assert_eq!((pool.len(), pool.bytes()), (length, bytes), "nothing has changed"),
                }
            }
            4 => {
                let budget = WEIGHT * u64::from(input.byte());
                for task in pool.tasks_to_run(budget, 16) {
                    if input.byte().is_multiple_of(4) {
                        pool.task_failed(&task.txid);
                    } else {
                        pool.set_output(&task.txid, vec![1, 2]);
                    }
                }
            }
            5 => {
                // A block of the template, or of part of it.
                let limit = WEIGHT * u64::from(input.byte());
                let block = template(&pool, limit, &accounts);
                let block: Vec<Returned> = block.into_iter().take(1 + input.below(8)).collect();
                height += 1;
                for returned in &block {
                    let entry = accounts.0.entry(returned.transaction.sender()).or_default();
                    entry.0 += 1;
                    entry.1 = Amount(entry.1.0 - returned.transaction.total().expect("checked").0);
                }
                pool.on_connected(block.iter().map(|returned| &returned.transaction), &accounts);
                included.extend(block);
            }
            6 => {
                // The latest transactions come back, the lowest nonces first.
                let count = included.len().min(input.below(8));
                let back = included.split_off(included.len() - count);
                height = height.saturating_sub(1);
                for returned in &back {
                    let entry = accounts.0.entry(returned.transaction.sender()).or_default();
                    entry.0 -= 1;
                    entry.1 = Amount(entry.1.0 + returned.transaction.total().expect("checked").0);
                }
                pool.on_disconnected(back, &accounts, height);
            }
            _ => {
                height += u64::from(input.byte() % 4);
                pool.expire(height);
                if input.byte().is_multiple_of(8) {
                    pool.clear_outputs();
                }
            }
        }
        check(&pool, &accounts);
    }
});

fn address(sender: u8) -> Address {
    Address::of(&[sender; 32])
}

fn transaction(input: &mut Input<'_>, accounts: &Accounts, height: u64) -> (Transaction, Option<Arc<[u8]>>) {
    let sender = input.byte() % SENDERS;
    let (next, _) = accounts.account(address(sender));
    // Around what is next, one used already included.
    let nonce = (next + u64::from(input.byte() % 24)).saturating_sub(1);
    let fee = Amount(u64::from(input.u16()));
    let expires = height + u64::from(input.byte() % 16);
    let (action, pixels): (_, Option<Arc<[u8]>>) = if input.byte().is_multiple_of(2) {
        let pixels: Arc<[u8]> = Arc::from(vec![input.byte(); input.below(200)]);
        (Action::Classify { model: ModelId([1; 32]), image: ImageHash::of(&pixels) }, Some(pixels))
    } else {
        (Action::Transfer { to: address(9), amount: Amount(u64::from(input.u16())) }, None)
    };
    let unsigned = Unsigned { nonce, fee, expires, action };
    (Transaction { unsigned, public_key: [sender; 32], signature: [input.byte() % 2; 64] }, pixels)
}

/// The template, which must be one: within the limit, answered, and of each sender the nonces in order from its account's.
fn template(pool: &Mempool, limit: u64, accounts: &Accounts) -> Vec<Returned> {
    let entries = pool.template(limit);
    assert!(entries.iter().map(|entry| entry.weight).sum::<u64>() <= limit);
    let mut next: BTreeMap<Address, u64> = BTreeMap::new();
    for entry in &entries {
        assert!(entry.transaction.task().is_none() || entry.output.is_some());
        let next = next.entry(entry.sender).or_insert(accounts.account(entry.sender).0);
        assert_eq!(entry.nonce(), *next);
        *next += 1;
    }
    let returned = entries.into_iter().map(|entry| Returned {
        transaction: entry.transaction.clone(),
        pixels: entry.pixels.clone(),
        output: entry.output.clone(),
        weight: entry.weight,
    });
    returned.collect()
}

fn check(pool: &Mempool, accounts: &Accounts) {
    let entries: Vec<_> = pool.iter().collect();
    assert_eq!(pool.len(), entries.len());
    assert_eq!(pool.bytes(), entries.iter().map(|entry| entry.bytes()).sum::<usize>());
    assert!(pool.bytes() <= LIMIT);
    let mut pending: BTreeMap<Address, (usize, u128)> = BTreeMap::new();
    for entry in entries {
        assert_eq!(pool.get(&entry.txid), Some(entry));
        assert_eq!(pool.get_by_wtxid(&entry.wtxid), Some(entry));
        let (nonce, _) = accounts.account(entry.sender);
        assert!(entry.nonce() >= nonce, "no used nonce stays");
        let (count, total) = pending.entry(entry.sender).or_default();
        *count += 1;
        *total += u128::from(entry.transaction.total().expect("others are refused").0);
    }
    for (sender, (count, total)) in pending {
        assert!(count <= MAX_PENDING);
        assert!(total <= u128::from(accounts.account(sender).1.0), "all that a sender has pending is affordable");
    }
    let mut next: BTreeMap<Address, u64> = BTreeMap::new();
    for entry in pool.ready_to_forward() {
        let next = next.entry(entry.sender).or_insert(accounts.account(entry.sender).0);
        assert_eq!(entry.nonce(), *next, "no gap before what is forwarded");
        *next += 1;
    }
}
