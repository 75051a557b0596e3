//! A small mempool beside a chain of accounts in memory, both driven by bytes: admissions, blocks of the template and of
//! strangers, reorganisations, expiry, replacement and eviction. The chain applies bodies by `consensus::transition`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::Output;
use ocelli_consensus::network::{ModelParameters, Upgrade};
use ocelli_consensus::rules::{check_body, weight};
use ocelli_consensus::transition::{self, Account, Place, StateReader};
use ocelli_consensus::{
    Action, Address, Amount, BlockHash, Body, CheckedTransaction, CompactTarget, ImageHash, ModelId, Parameters,
    Transaction, TxId, Unsigned,
};
use ocelli_protocol::mempool::{
    Disconnected, Entry, InsertError, MAX_PENDING, Mempool, Returned, SENDER_SHARE, Tip, WAITING_SHARE, bytes_with,
};

const GENESIS: BlockHash = BlockHash([7; 32]);
/// Accounts that send; the last two begin with nothing.
const SENDERS: usize = 6;
/// Bytes: some twenty transactions.
const LIMIT: usize = 16_000;
/// From this height on there is a second model.
const UPGRADE_HEIGHT: u64 = 4;

/// Accounts at a tip.
#[derive(Debug, Clone, Default)]
struct State(BTreeMap<Address, Account>);

impl StateReader for State {
    type Error = Infallible;

    fn account(&self, address: &Address) -> Result<Option<Account>, Infallible> {
        Ok(self.0.get(address).copied())
    }
}

/// Whoever else may be paid: addresses that nobody has the key of.
fn stranger(number: usize) -> Address {
    Address([200 + number as u8; 20])
}

fn model(number: u8) -> ModelParameters {
    ModelParameters { id: ModelId([number; 32]), pixels: 4, logits: 2, cost: 0 }
}

fn parameters() -> Parameters {
    Parameters {
        name: "test".into(),
        address_prefix: "toc".into(),
        genesis_time: 1_000_000,
        spacing: 10,
        half_life: 100,
        easiest_target: CompactTarget(0x2000_ffff),
        reward: Amount(700),
        halving: 5,
        weight_limit: 8_000,
        minimum_balance: Amount(100),
        retention: 10,
        accounts: vec![],
        models: vec![model(1)],
        upgrades: vec![Upgrade { height: UPGRADE_HEIGHT, version: 2, models: vec![model(2)] }],
    }
}

/// A mempool and the chain that it follows.
pub struct World {
    parameters: Parameters,
    keys: Vec<SigningKey>,
    /// After each block, genesis first.
    states: Vec<State>,
    blocks: Vec<(Address, Body)>,
    pool: Mempool,
}

impl World {
    /// At genesis.
    pub fn new() -> Self {
        let keys: Vec<_> = (0..SENDERS).map(|seed| SigningKey::from_bytes(&[seed as u8 + 1; 32])).collect();
        let account = |key: &SigningKey| {
            let balance = Amount(20_000);
            (Address::of(key.verifying_key().as_bytes()), Account { nonce: 0, balance })
        };
        let genesis = State(keys[..SENDERS - 2].iter().map(account).collect());
        let pool = Mempool::new(LIMIT, 0);
        Self { parameters: parameters(), keys, states: vec![genesis], blocks: Vec::new(), pool }
    }

    /// Does what the next bytes say, and checks what must hold.
    pub fn step(&mut self, next: &mut impl FnMut() -> u8) {
        match next() % 8 {
            0..=3 => self.admit(next),
            4 => self.answer(next),
            5 => {
                let body = self.some_of_template(next);
                self.move_tip(0, vec![(self.miner(next), body)]);
            }
            6 => {
                let body = self.of_strangers(self.state(), self.height() + 1, next);
                self.move_tip(0, vec![(self.miner(next), body)]);
            }
            _ => self.reorganise(next),
        }
        self.check(next);
    }

    fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn state(&self) -> &State {
        self.states.last().expect("genesis is there")
    }

    fn miner(&self, next: &mut impl FnMut() -> u8) -> Address {
        self.anybody(next())
    }

    fn address(&self, sender: usize) -> Address {
        Address::of(self.keys[sender].verifying_key().as_bytes())
    }

    /// Somebody who sends, or a stranger.
    fn anybody(&self, number: u8) -> Address {
        let number = usize::from(number) % (SENDERS + 4);
        if number < SENDERS { self.address(number) } else { stranger(number) }
    }

    /// A transaction, with its pixels if it is a task; its nonce is around what is next for its sender.
    fn transaction(
        &self,
        sender: usize,
        nonce: u64,
        balance: Amount,
        next: &mut impl FnMut() -> u8,
    ) -> (Transaction, Option<Arc<[u8]>>) {
        let fee = Amount([0, 407, 408, 455, 460][usize::from(next()) % 5] + u64::from(next()) * 8);
        let expires = self.height() + u64::from(next() % 12);
        let kind = next();
        let (action, pixels) = if kind.is_multiple_of(3) {
            let pixels: Arc<[u8]> = Arc::from([kind, 0, 0, 0].as_slice());
            (Action::Classify { model: model(1 + kind % 2).id, image: ImageHash::of(&pixels) }, Some(pixels))
        } else {
            let rest = balance.checked_sub(fee).unwrap_or_default();
            let amounts = [Amount(0), Amount(1), Amount(99), Amount(100), Amount(500), Amount(rest.0 / 2), rest];
            (Action::Transfer { to: self.anybody(next()), amount: amounts[usize::from(kind) % 7] }, None)
        };
        let key = &self.keys[sender];
        let unsigned = Unsigned { nonce, fee, expires, action };
        let public_key = key.verifying_key().to_bytes();
        (Transaction::sign(unsigned, public_key, GENESIS, |hash| key.sign(hash).to_bytes()), pixels)
    }

    fn admit(&mut self, next: &mut impl FnMut() -> u8) {
        let sender = usize::from(next()) % SENDERS;
        let account = self.state().0.get(&self.address(sender)).copied().unwrap_or_default();
        // Mostly what is next, or one that replaces another, or one beyond a gap; one used already included.
        let first = self.pool.next_nonce(self.address(sender), account.nonce);
        let nonce = match next() % 4 {
            0..=1 => first,
            2 => (account.nonce + u64::from(next() % 12)).saturating_sub(1),
            _ => first + u64::from(next() % 5),
        };
        let (transaction, pixels) = self.transaction(sender, nonce, account.balance, next);
        let txid = transaction.txid();
        let (before, bytes) = (self.ids(), self.pool.bytes());
        let state = self.states.last().expect("genesis is there");
        let tip = Tip { parameters: &self.parameters, height: self.blocks.len() as u64, state };
        let cheap = self.pool.check(&transaction, pixels.as_ref().map_or(0, |pixels| pixels.len()), &tip);
        let height = tip.height + 1;
        let Ok(checked) = CheckedTransaction::check(transaction, pixels, &self.parameters, GENESIS, height) else {
            assert!(cheap.is_err(), "of an unknown model");
            return;
        };
        match self.pool.insert(checked, &tip) {
            Ok(inserted) => {
                assert_eq!(cheap, Ok(()));
                assert!(self.pool.get(&txid).is_some());
                let mut expected: BTreeSet<TxId> =
                    before.difference(&inserted.evicted.iter().copied().collect()).copied().collect();
                expected.insert(txid);
                assert_eq!(self.ids(), expected);
                assert!(inserted.promoted.iter().all(|id| self.pool.get(id).is_some_and(Entry::is_ready)));
            }
            Err(InsertError::Refused(error)) => {
                assert_eq!(cheap, Err(InsertError::Refused(error)));
                assert_eq!((self.ids(), self.pool.bytes()), (before, bytes), "nothing has changed");
            }
        }
    }

    fn answer(&mut self, next: &mut impl FnMut() -> u8) {
        for task in self.pool.tasks_to_run(self.parameters.weight_limit * 3, 16) {
            match next() % 4 {
                0 => self.pool.task_failed(&task.txid),
                _ => self.pool.set_output(&task.txid, vec![1, 2]),
            }
        }
        if next().is_multiple_of(16) {
            self.pool.clear_outputs();
        }
    }

    fn body(entries: &[&Entry]) -> Body {
        let transactions = entries.iter().map(|entry| (entry.transaction().clone(), entry.output().clone()));
        Body { transactions: transactions.collect() }
    }

    /// A block of the template, or of its first few.
    fn some_of_template(&self, next: &mut impl FnMut() -> u8) -> Body {
        let mut body = Self::body(&self.pool.template(self.parameters.weight_limit));
        body.transactions.truncate(usize::from(next()) % 24);
        body
    }

    /// A block of transactions that this mempool has not seen, on a state.
    fn of_strangers(&self, state: &State, height: u64, next: &mut impl FnMut() -> u8) -> Body {
        let (mut accounts, mut body, mut left) = (transition::Overlay::default(), Body::default(), 8_000);
        for _ in 0..next() % 4 {
            let sender = usize::from(next()) % SENDERS;
            let Ok(account) = accounts.account(&self.address(sender), state);
            let account = account.unwrap_or_default();
            let (transaction, _) = self.transaction(sender, account.nonce, account.balance, next);
            let Some(weight) = weight(&transaction, &self.parameters, height).filter(|weight| *weight <= left) else {
                continue;
            };
            if transaction.unsigned.expires < height {
                continue;
            }
            if let Ok(Ok(())) = accounts.transact(&self.parameters, &transaction, state) {
                left -= weight;
                let output: Output = transaction.task().map(|_| vec![1, 2]);
                body.transactions.push((transaction, output));
            }
        }
        body
    }

    /// Takes blocks back, and connects others, more or fewer.
    fn reorganise(&mut self, next: &mut impl FnMut() -> u8) {
        let depth = usize::from(next() % 4).min(self.blocks.len());
        let fork = self.blocks.len() - depth;
        let mut state = self.states[fork].clone();
        let mut connected = Vec::new();
        for number in 0..u64::from(next() % 4) {
            let height = fork as u64 + number + 1;
            let (body, miner) = (self.of_strangers(&state, height, next), self.miner(next));
            state = self.after(&state, height, miner, &body);
            connected.push((miner, body));
        }
        self.move_tip(depth, connected);
    }

    /// The state after a block, which must be valid.
    fn after(&self, state: &State, height: u64, miner: Address, body: &Body) -> State {
        assert_eq!(check_body(&self.parameters, height, body), Ok(()));
        let delta = transition::apply(&self.parameters, Place { height, miner }, body, state);
        let delta = delta.unwrap_or_else(|error| panic!("every block connects: {error}"));
        let mut after = state.clone();
        after.0.extend(delta.accounts.into_iter().map(|(address, change)| (address, change.after)));
        after
    }

    fn move_tip(&mut self, depth: usize, connected: Vec<(Address, Body)>) {
        let gone = self.blocks.split_off(self.blocks.len() - depth);
        self.states.truncate(self.states.len() - depth);
        let pixels = |transaction: &Transaction| {
            let (_, image) = transaction.task()?;
            (0..=u8::MAX).map(|kind| [kind, 0, 0, 0]).find(|pixels| ImageHash::of(pixels) == image)
        };
        let disconnected = gone.into_iter().map(|(miner, body)| {
            let returned = body.transactions.into_iter().map(|(transaction, output)| {
                // Some have been pruned.
                let pixels =
                    pixels(&transaction).filter(|pixels| pixels[0] > 20).map(|pixels| Arc::from(pixels.as_slice()));
                Returned { transaction, pixels, output }
            });
            Disconnected { miner, transactions: returned.collect() }
        });
        let disconnected: Vec<_> = disconnected.collect();
        for (miner, body) in &connected {
            let state = self.after(self.state(), self.height() + 1, *miner, body);
            self.states.push(state);
            self.blocks.push((*miner, body.clone()));
        }
        let before = self.ids();
        let included = connected.iter().flat_map(|(_, body)| &body.transactions).map(|(transaction, _)| transaction);
        let state = self.states.last().expect("genesis is there");
        let tip = Tip { parameters: &self.parameters, height: self.blocks.len() as u64, state };
        let Ok(changes) = self.pool.on_tip_moved(disconnected, included, &tip);
        let gone: BTreeSet<TxId> = before.difference(&self.ids()).copied().collect();
        assert!(gone.iter().all(|txid| changes.removed.contains(txid)), "who waits for one is told");
        assert!(changes.promoted.iter().all(|txid| self.pool.get(txid).is_some_and(Entry::is_ready)));
    }

    fn ids(&self) -> BTreeSet<TxId> {
        self.pool.iter().map(Entry::txid).collect()
    }

    fn check(&self, next: &mut impl FnMut() -> u8) {
        self.check_templates(next);
        let entries: Vec<_> = self.pool.iter().collect();
        assert_eq!(self.pool.len(), entries.len());
        let (mut ready, mut waiting, mut pending) = (0, 0, BTreeMap::<Address, (usize, usize)>::new());
        for entry in &entries {
            assert_eq!(self.pool.get(&entry.txid()), Some(*entry));
            assert_eq!(self.pool.get_by_wtxid(&entry.checked().wtxid()), Some(*entry));
            assert!(entry.transaction().unsigned.expires > self.height(), "what cannot be mined is not held");
            let (count, held) = pending.entry(entry.checked().sender()).or_default();
            *count += 1;
            if entry.is_ready() {
                ready += entry.bytes();
            } else {
                waiting += entry.bytes();
                *held += entry.bytes();
            }
        }
        assert_eq!(self.pool.bytes(), ready + waiting);
        assert!(waiting <= LIMIT / WAITING_SHARE && ready <= LIMIT - LIMIT / WAITING_SHARE);
        for (count, held) in pending.into_values() {
            assert!(count <= MAX_PENDING && held <= LIMIT / WAITING_SHARE / SENDER_SHARE);
        }
        // Of each sender what is ready begins at the account's nonce, without a gap, and what waits is behind one.
        let mut nexts: BTreeMap<Address, u64> = BTreeMap::new();
        for entry in entries {
            let account = self.state().0.get(&entry.checked().sender()).copied().unwrap_or_default();
            let expected = nexts.entry(entry.checked().sender()).or_insert(account.nonce);
            if entry.is_ready() {
                assert_eq!(entry.nonce(), *expected);
                *expected += 1;
            } else {
                assert!(entry.nonce() > *expected);
            }
        }
        assert!(self.pool.rate_within(1_000, bytes_with(0)) >= self.pool.minimum_rate(bytes_with(0)));
    }

    /// Every template connects, whatever its limit and whoever mines it; so does any part of it in any order, as long as a
    /// sender's come one after the other.
    fn check_templates(&self, next: &mut impl FnMut() -> u8) {
        let height = self.height() + 1;
        let limit = [self.parameters.weight_limit, 1_500][usize::from(next() % 2)];
        let template = self.pool.template(limit);
        self.after(self.state(), height, self.miner(next), &Self::body(&template));
        let mut senders: BTreeMap<Address, Vec<&Entry>> = BTreeMap::new();
        for entry in template {
            senders.entry(entry.checked().sender()).or_default().push(entry);
        }
        let mut queues: Vec<_> = senders.into_values().map(|queue| queue.into_iter()).collect();
        let mut some = Vec::new();
        while !queues.is_empty() {
            let at = usize::from(next()) % queues.len();
            match queues[at].next().filter(|_| !next().is_multiple_of(8)) {
                Some(entry) => some.push(entry),
                None => drop(queues.remove(at)),
            }
        }
        self.after(self.state(), height, self.miner(next), &Self::body(&some));
    }
}
