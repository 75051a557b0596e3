//! A small mempool beside a chain of accounts, models and uploads in memory, both driven by bytes: admissions, blocks of the template and
//! of strangers, reorganisations, expiry, replacement and eviction. The chain applies bodies by `consensus::transition`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::header::{ParentBlock, Place};
use ocelli_consensus::object::{Account, ModelFacts, ModelRecord, Object, ObjectId, StateReader};
use ocelli_consensus::rules::{check_body, check_transaction, weight};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::transition::{self, Changes};
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, Body, CheckedTransaction, ModelId, Network, Parameters,
    Transaction, TxId, Unsigned,
};
use ocelli_protocol::mempool::{
    AdmitError, Disconnected, MAX_PENDING, Mempool, MempoolEntry, Returned, SENDER_SHARE, Tip, WAITING_SHARE,
    bytes_with,
};

const GENESIS: BlockHash = BlockHash([7; 32]);
/// Accounts that send; the last two begin with nothing.
const SENDERS: usize = 6;
/// Bytes: some twenty transactions.
const LIMIT: usize = 16_000;
/// Bytes of a model's file, which is one part.
const FILE: u32 = 40;

/// The state at a tip.
#[derive(Debug, Clone, Default)]
struct State(BTreeMap<ObjectId, Object>);

impl StateReader for State {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        Ok(self.0.get(id).copied())
    }
}

/// Whoever else may be paid: addresses that nobody has the key of.
fn stranger(number: usize) -> Address {
    Address([200 + number as u8; 20])
}

/// The first is there from genesis on, the others may be published.
fn model(number: u8) -> ModelId {
    ModelId([number % 3 + 1; 32])
}

fn facts(cost: u64) -> ModelFacts {
    ModelFacts { size: FILE, channels: 1, height: 2, width: 2, classes: 2, cost }
}

fn answer() -> Answer {
    Answer::Classes(Classes::of(&[1, 2]))
}

fn network() -> Network {
    let local = Network::builtin("local").expect("built in");
    let parameters = Parameters {
        reward: Amount(700),
        halving: 5,
        weight_limit: 8_000,
        minimum_balance: Amount(100),
        upload_window: 16,
        model_delay: 2,
        model_price: Amount(1),
        ..local.parameters.clone()
    };
    Network { parameters, ..local }
}

/// Of the block at a height, in seconds since 1970.
fn time(height: u64) -> u64 {
    1_000_000 + 10 * height
}

/// A mempool and the chain that it follows.
pub struct World {
    network: Network,
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
            let balance = Amount(200_000);
            (ObjectId::Account(Address::of(key.verifying_key().as_bytes())), Account { nonce: 0, balance }.into())
        };
        let mut genesis = State(keys[..SENDERS - 2].iter().map(account).collect());
        let record = ModelRecord { author: Address([0; 20]), royalty: Amount(0), first: 0, facts: facts(0) };
        genesis.0.insert(ObjectId::Model(model(0)), record.into());
        let pool = Mempool::new(LIMIT, 0);
        Self { network: network(), keys, states: vec![genesis], blocks: Vec::new(), pool }
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

    fn account(&self, state: &State, address: Address) -> Account {
        let Ok(account) = state.account(&address);
        account.unwrap_or_default()
    }

    fn place(&self, height: u64, miner: Address) -> Place {
        self.network.place_after(ParentBlock { height: height - 1, time: time(height - 1) }, miner)
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

    /// A transaction, with its attachment; its nonce is around what is next for its sender.
    fn transaction(
        &self,
        state: &State,
        sender: usize,
        (nonce, balance): (u64, Amount),
        next: &mut impl FnMut() -> u8,
    ) -> (Transaction, Option<Arc<[u8]>>) {
        let fee = Amount([0, 407, 416, 472, 480][usize::from(next()) % 5] + u64::from(next()) * 8);
        let expires = self.height() + u64::from(next() % 40);
        let (kind, number) = (next(), next());
        let address = self.address(sender);
        let (action, attachment) = match kind % 8 {
            0..=1 => {
                let picture: Arc<[u8]> = Arc::from([kind, 0, 0, 0].as_slice());
                let (hash, bytes) = (AttachmentHash::of(&picture), 4);
                let Ok(record) = StateReader::model(state, &model(number));
                let royalty = record.map_or(Amount(u64::from(number / 64)), |record| record.royalty);
                let action =
                    Action::Classify { model: model(number), picture: hash, bytes, royalty, form: Form::Pixels };
                (action, Some(picture))
            }
            2 => (Action::Upload { file: UploadHash::of(&address, &model(number)), size: FILE }, None),
            3..=4 => {
                let part: Arc<[u8]> = Arc::from([number; FILE as usize].as_slice());
                let (data, bytes) = (AttachmentHash::of(&part), FILE);
                (Action::Part { number: u16::from(number % 16 == 15), bytes, data }, Some(part))
            }
            5 => {
                let royalty = Amount(u64::from(number));
                (Action::Publish { model: model(number), facts: facts(16_640), royalty }, None)
            }
            _ => {
                let rest = balance.checked_sub(fee).unwrap_or_default();
                let amounts = [Amount(0), Amount(1), Amount(99), Amount(100), Amount(500), Amount(rest.0 / 2), rest];
                (Action::Transfer { to: self.anybody(next()), amount: amounts[usize::from(number) % 7] }, None)
            }
        };
        let key = &self.keys[sender];
        let unsigned = Unsigned { nonce, fee, expires, action };
        let public_key = key.verifying_key().to_bytes();
        (Transaction::sign(unsigned, public_key, GENESIS, |hash| key.sign(hash).to_bytes()), attachment)
    }

    fn admit(&mut self, next: &mut impl FnMut() -> u8) {
        let sender = usize::from(next()) % SENDERS;
        let account = self.account(self.state(), self.address(sender));
        // Mostly what is next, or one that replaces another, or one beyond a gap; one used already included.
        let first = self.pool.next_nonce(self.address(sender), account.nonce);
        let nonce = match next() % 4 {
            0..=1 => first,
            2 => (account.nonce + u64::from(next() % 12)).saturating_sub(1),
            _ => first + u64::from(next() % 5),
        };
        let (transaction, attachment) = self.transaction(self.state(), sender, (nonce, account.balance), next);
        let txid = transaction.txid();
        let (before, bytes) = (self.ids(), self.pool.bytes());
        let state = self.states.last().expect("genesis is there");
        let height = self.blocks.len() as u64;
        let tip = Tip { network: &self.network, height, time: time(height), state, now: 0 };
        let cheap = self.pool.check(&transaction, &tip);
        let checked = CheckedTransaction::check(transaction, attachment, GENESIS).expect("it is good by itself");
        match self.pool.insert(checked, &tip) {
            Ok(inserted) => {
                assert_eq!(cheap, Ok(()));
                assert!(self.pool.get(&txid).is_some());
                let mut expected: BTreeSet<TxId> =
                    before.difference(&inserted.evicted.iter().copied().collect()).copied().collect();
                expected.insert(txid);
                assert_eq!(self.ids(), expected);
                assert!(inserted.promoted.iter().all(|id| self.pool.get(id).is_some_and(MempoolEntry::is_ready)));
            }
            Err(AdmitError::Refused(error)) => {
                assert_eq!(cheap, Err(AdmitError::Refused(error)));
                assert_eq!((self.ids(), self.pool.bytes()), (before, bytes), "nothing has changed");
            }
        }
    }

    fn answer(&mut self, next: &mut impl FnMut() -> u8) {
        for task in self.pool.tasks_to_run(self.network.parameters.weight_limit * 3, 16) {
            match next() % 4 {
                0 => self.pool.task_failed(&task.txid),
                _ => self.pool.set_answer(&task.txid, answer()),
            }
        }
        if next().is_multiple_of(16) {
            self.pool.clear_answers();
        }
    }

    fn body(entries: &[&MempoolEntry]) -> Body {
        let transactions = entries.iter().map(|entry| (entry.transaction().clone(), entry.answer().clone()));
        Body { transactions: transactions.collect() }
    }

    /// A block of the template, or of its first few.
    fn some_of_template(&self, next: &mut impl FnMut() -> u8) -> Body {
        let mut body = Self::body(&self.pool.template(self.network.parameters.weight_limit));
        body.transactions.truncate(usize::from(next()) % 24);
        body
    }

    /// A block of transactions that this mempool has not seen, on a state.
    fn of_strangers(&self, state: &State, height: u64, next: &mut impl FnMut() -> u8) -> Body {
        let (mut changes, mut body, mut left) = (Changes::default(), Body::default(), 8_000);
        let place = self.place(height, stranger(0));
        for _ in 0..next() % 4 {
            let sender = usize::from(next()) % SENDERS;
            let Ok(account) = changes.account(&self.address(sender), state);
            let account = account.unwrap_or_default();
            let (transaction, _) = self.transaction(state, sender, (account.nonce, account.balance), next);
            let record = transaction.unsigned.action.model().and_then(|id| {
                let Ok(record) = StateReader::model(state, &id);
                record
            });
            let facts = record.map(|record| record.facts);
            let Some(weight) = weight(&transaction, facts.as_ref()).filter(|weight| *weight <= left) else { continue };
            if check_transaction(&place, &transaction, record.as_ref()).is_err() {
                continue;
            }
            if let Ok(Ok(())) = changes.transact(&self.network.parameters, &place, &transaction, state) {
                left -= weight;
                let answer = if transaction.task().is_some() { answer() } else { Answer::None };
                body.transactions.push((transaction, answer));
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
        let place = self.place(height, miner);
        assert_eq!(check_body(&self.network.parameters, &place, body, state), Ok(Ok(())));
        let delta = transition::apply(&self.network.parameters, &place, body, state);
        let delta = delta.unwrap_or_else(|error| panic!("every block connects: {error}"));
        let mut after = state.clone();
        for (id, change) in delta.objects {
            match change.after {
                Some(object) => drop(after.0.insert(id, object)),
                None => drop(after.0.remove(&id)),
            }
        }
        after
    }

    fn move_tip(&mut self, depth: usize, connected: Vec<(Address, Body)>) {
        let gone = self.blocks.split_off(self.blocks.len() - depth);
        self.states.truncate(self.states.len() - depth);
        let attachment = |transaction: &Transaction| -> Option<Arc<[u8]>> {
            let named = transaction.attachment()?;
            let all = |byte: u8| match named.bytes {
                4 => Arc::from([byte, 0, 0, 0].as_slice()),
                _ => Arc::from([byte; FILE as usize].as_slice()),
            };
            // Some have been pruned.
            (0..=u8::MAX)
                .filter(|byte| *byte > 20)
                .map(all)
                .find(|bytes: &Arc<[u8]>| AttachmentHash::of(bytes) == named.hash)
        };
        let disconnected = gone.into_iter().map(|(miner, body)| {
            let returned = body.transactions.into_iter().map(|(transaction, answer)| {
                let attachment = attachment(&transaction);
                Returned { transaction, attachment, answer }
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
        let height = self.blocks.len() as u64;
        let tip = Tip { network: &self.network, height, time: time(height), state, now: 0 };
        let Ok(changes) = self.pool.on_tip_moved(disconnected, included, &tip);
        let gone: BTreeSet<TxId> = before.difference(&self.ids()).copied().collect();
        assert!(gone.iter().all(|txid| changes.removed.contains(txid)), "who waits for one is told");
        assert!(changes.promoted.iter().all(|txid| self.pool.get(txid).is_some_and(MempoolEntry::is_ready)));
    }

    fn ids(&self) -> BTreeSet<TxId> {
        self.pool.iter().map(MempoolEntry::txid).collect()
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
            let account = self.account(self.state(), entry.checked().sender());
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

    /// Every template connects, whatever its limit, whoever mines it and whatever is wanted of it; so does any part of it in any order, as long as a
    /// sender's come one after the other.
    fn check_templates(&self, next: &mut impl FnMut() -> u8) {
        let height = self.height() + 1;
        let limit = [self.network.parameters.weight_limit, 1_500][usize::from(next() % 2)];
        let wanted = next();
        let template = self.pool.template_of(limit, |entry| entry.txid().0[0] <= wanted);
        assert!(template.iter().all(|entry| entry.txid().0[0] <= wanted));
        self.after(self.state(), height, self.miner(next), &Self::body(&template));
        let mut senders: BTreeMap<Address, Vec<&MempoolEntry>> = BTreeMap::new();
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
