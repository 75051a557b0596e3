//! Tasks, where they are simulated too: handed in, passed on by the real relay machine, kept in real mempools, and put into
//! blocks. Each has a sender of its own, so that no nonce waits for another; pictures are a few bytes that stand for all.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::object::{Account, ModelFacts, ModelRecord, Object, ObjectId, StateReader};
use ocelli_consensus::transaction::{COST_PER_WEIGHT, Form};
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, CheckedTransaction, ModelId, Network, Transaction, Unsigned,
    WtxId,
};
use ocelli_protocol::mempool::{AdmitError, Disconnected, Mempool, MempoolEntry, Readiness, Returned, Tip};
use ocelli_protocol::message::{MAX_INLINE_ATTACHMENT, RELAY_BYTES, Response, ShortId, Submission};
use ocelli_protocol::relay::{Decision, FetchVerdict, Input, Pool, RelayAction};
use rand::RngExt as _;

use super::{Event, Simulation};
use crate::block::{Block, Tasks};
use crate::config::{Behaviour, Load, SECOND, SimulationConfig, Task};
use crate::cost;
use crate::line::Message;
use crate::node::Node;
use crate::report::{Percentiles, TaskReport};

/// Set in the ids of the relay's requests: those of sync have their own numbers.
pub(super) const RELAY: u64 = 1 << 63;

/// Bytes of a picture: when it was handed in.
const PIXELS: u16 = 8;
const MODEL: ModelId = ModelId([1; 32]);

/// When tasks came where, and what they cost.
#[derive(Debug)]
pub(super) struct TaskTimes {
    network: Network,
    /// A model whose pictures are small and whose tasks weigh as much as real ones.
    model: ModelRecord,
    /// What the tasks of blocks have beside them, where tasks are not simulated.
    picture: Arc<[u8]>,
    /// All that were handed in: signatures are verified once for all nodes.
    checked: BTreeMap<WtxId, CheckedTransaction>,
    submitted: u64,
    /// From handing a task in to its being in a node's mempool, in microseconds.
    arrivals: Vec<u64>,
    /// Tasks of announced blocks at a node, and those of them that it did not have.
    announced: u64,
    missing: u64,
    /// Bytes of the relay's requests and responses that were sent.
    pub(super) bytes: u64,
}

/// Every account can pay, and has sent what the chain holds of it.
struct State<'a> {
    confirmed: &'a BTreeSet<Address>,
    model: ModelRecord,
}

impl StateReader for State<'_> {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        Ok(match id {
            ObjectId::Account(address) => {
                let nonce = u64::from(self.confirmed.contains(address));
                Some(Account { nonce, balance: Amount(u64::MAX / 2) }.into())
            }
            ObjectId::Model(id) => (*id == MODEL).then(|| self.model.into()),
            ObjectId::Upload(_) => None,
        })
    }
}

impl TaskTimes {
    pub(super) fn new(network: &Network, config: &SimulationConfig) -> Self {
        let cost = (config.load.task.weight - 256) * COST_PER_WEIGHT;
        let facts = ModelFacts { size: 1, channels: 1, height: 1, width: PIXELS, classes: 10, cost };
        Self {
            network: network.clone(),
            model: ModelRecord { author: Address([0; 20]), royalty: Amount(0), first: 0, facts },
            picture: vec![0; config.load.task.attachment as usize].into(),
            checked: BTreeMap::new(),
            submitted: 0,
            arrivals: Vec::new(),
            announced: 0,
            missing: 0,
            bytes: 0,
        }
    }

    fn tip<'a>(&'a self, height: u64, state: &'a State<'a>, now: u64) -> Tip<'a, State<'a>> {
        let time = self.network.parameters.genesis_time + height;
        Tip { network: &self.network, height, time, state, now: now / 1_000 }
    }
}

/// Asks the model.
fn classify(picture: &[u8]) -> Action {
    let (hash, bytes) = (AttachmentHash::of(picture), picture.len() as u32);
    Action::Classify { model: MODEL, picture: hash, bytes, royalty: Amount(0), form: Form::Pixels }
}

fn answer() -> Answer {
    Answer::Classes(Classes::of(&[0; 10]))
}

struct MempoolView<'a>(&'a Mempool);

impl Pool for MempoolView<'_> {
    fn mempool(&self) -> &Mempool {
        self.0
    }

    fn would_take(&self, _: &Transaction) -> FetchVerdict {
        FetchVerdict::Take
    }
}

impl Simulation {
    /// Tasks are handed in.
    pub(super) fn on_submit(&mut self) {
        if self.is_over {
            return;
        }
        let Load { per_second, burst, .. } = self.config.load;
        self.queue.push(self.now + SECOND * burst / per_second.max(1), Event::Submit);
        for _ in 0..burst {
            self.submit();
        }
    }

    /// Somebody hands in a task, to a node drawn from all.
    fn submit(&mut self) {
        let at = self.random.random_range(0..self.nodes.len());
        if !self.nodes[at].is_online || self.nodes[at].behaviour == Some(Behaviour::Withholds) {
            return;
        }
        self.tasks.submitted += 1;
        let pixels: Arc<[u8]> = Arc::from(self.now.to_le_bytes());
        // Fees differ, so that blocks choose.
        let fee = Amount(self.config.load.task.weight * self.random.random_range(1..=10));
        let unsigned = Unsigned { nonce: 0, fee, expires: u64::MAX, action: classify(&pixels) };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.tasks.submitted.to_le_bytes());
        let (key, genesis) = (SigningKey::from_bytes(&seed), self.network.genesis.hash());
        let public_key = key.verifying_key().to_bytes();
        let transaction = Transaction::sign(unsigned, public_key, genesis, |hash| key.sign(hash).to_bytes());
        let checked = CheckedTransaction::check(transaction.clone(), Some(pixels.clone()), genesis);
        self.tasks.checked.insert(transaction.wtxid(), checked.expect("the task is good"));
        self.take_task(at, Submission { transaction, attachment: Some(pixels) });
    }

    /// Puts a task into a node's mempool, and answers it: the model's run takes no time here.
    fn take_task(&mut self, at: usize, submission: Submission) {
        let wtxid = submission.transaction.wtxid();
        // All are honest where tasks are simulated.
        let checked = self.tasks.checked[&wtxid].clone();
        let (txid, id) = (checked.txid(), ShortId::of(&wtxid));
        let mut sent = [0; PIXELS as usize];
        sent.copy_from_slice(checked.attachment().expect("a task has a picture"));
        let node = &mut self.nodes[at];
        let height = node.tree.best_candidate().height;
        let state = State { confirmed: &node.confirmed, model: self.tasks.model };
        let tip = self.tasks.tip(height, &state, self.now);
        let decision = match node.mempool.insert(checked, &tip) {
            Ok(inserted) if inserted.readiness == Readiness::Ready => Decision::Forward,
            Ok(_) => Decision::Keep,
            Err(AdmitError::Refused(error)) => Decision::Refuse(error.holds()),
        };
        if decision == Decision::Forward {
            node.mempool.set_answer(&txid, answer());
            self.tasks.arrivals.push(self.now - u64::from_le_bytes(sent));
        }
        self.drive_relay(at, Input::Decided { id, decision });
    }

    pub(super) fn on_wake(&mut self, at: usize, due: u64) {
        if self.nodes[at].session.relay_wake_at == Some(due) {
            self.nodes[at].session.relay_wake_at = None;
            self.drive_relay(at, Input::Woken);
        }
    }

    pub(super) fn on_announced_tasks(&mut self, at: usize, from: usize, ids: Vec<ShortId>) -> Response {
        let noted = self.drive_relay(at, Input::Announced { peer: from, ids });
        Response::Announce { noted: noted.unwrap_or(0) }
    }

    pub(super) fn on_relay_response(&mut self, at: usize, from: usize, id: u64, response: Response) {
        self.drive_relay(at, Input::Response { peer: from, id: id & !RELAY, result: Ok(response) });
    }

    /// Tasks for who asks for them, as many as a response holds: large ones without their pictures, which are asked for after.
    pub(super) fn pending(&self, at: usize, ids: &[ShortId]) -> Vec<Option<Submission>> {
        let task = &self.config.load.task;
        let comes_along = task.attachment <= MAX_INLINE_ATTACHMENT as u64;
        let bytes = if comes_along { cost::submission(task) } else { cost::submission(task) - task.attachment };
        let found = ids.iter().take(most_of(bytes)).map(|id| {
            let mut found = self.nodes[at].mempool.to_relay(*id)?;
            found.attachment.take_if(|_| !comes_along);
            Some(found)
        });
        found.collect()
    }

    pub(super) fn attachments(&self, at: usize, ids: &[ShortId]) -> Vec<Option<Arc<[u8]>>> {
        let mempool = &self.nodes[at].mempool;
        let found = ids.iter().take(most_of(self.config.load.task.attachment));
        found.map(|id| mempool.get_by_short_id(*id)?.attachment().cloned()).collect()
    }

    /// Gives a node's relay an input and does what it says. How many ids were noted, if they were announced.
    pub(super) fn drive_relay(&mut self, at: usize, input: Input<usize>) -> Option<u32> {
        if self.config.load.per_second == 0 {
            return None;
        }
        let (node, mut noted) = (&mut self.nodes[at], None);
        for output in node.session.relay.handle(input, self.now / 1_000, &MempoolView(&node.mempool)) {
            match output {
                RelayAction::Send { peer, id, request } => {
                    let bytes = crate::cost::request(&request);
                    let id = id | RELAY;
                    self.nodes[at].session.asked.insert(id);
                    self.send(at, peer, Message::Request(id, Arc::new(request)), bytes);
                }
                RelayAction::Noted { count, .. } => noted = Some(count),
                RelayAction::Take { submission, .. } => self.take_task(at, submission),
                // All are honest where tasks are simulated.
                RelayAction::Penalize { .. } | RelayAction::CountInVain(_) => {}
                RelayAction::WakeAt(due) => {
                    let node = &mut self.nodes[at];
                    node.session.relay_wake_at = Some(due);
                    self.queue.push(due * 1_000, Event::Wake { node: at, life: node.life, at: due });
                }
            }
        }
        noted
    }

    /// What a miner puts into its next block: what its mempool has, or tasks that are this block's alone.
    pub(super) fn template(&self, miner: usize, number: usize) -> Vec<Submission> {
        let Load { task: Task { weight, .. }, per_block, per_second, ripe_millis: age, .. } = self.config.load;
        if per_second > 0 {
            let now = self.now / 1_000;
            let is_ripe = |entry: &MempoolEntry| entry.ripe_at(age).is_some_and(|at| at <= now);
            let entries = self.nodes[miner].mempool.template_of(per_block * weight, is_ripe);
            let submission = |(transaction, attachment)| Submission { transaction, attachment };
            return entries
                .into_iter()
                .map(|entry| submission((entry.transaction().clone(), entry.attachment().cloned())))
                .collect();
        }
        let task = |index| {
            let nonce = (number as u64) << 32 | index;
            let unsigned = Unsigned { nonce, fee: Amount(1), expires: u64::MAX, action: classify(&self.tasks.picture) };
            let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
            Submission { transaction, attachment: Some(self.tasks.picture.clone()) }
        };
        (0..per_block).map(task).collect()
    }

    /// How many of a block's tasks a node does not have.
    pub(super) fn count_missing(&mut self, at: usize, block: &Block) -> u64 {
        let tasks = Tasks::new(&self.config);
        let Node { mempool, confirmed, .. } = &self.nodes[at];
        let lacks = |(index, wtxid): &(usize, &WtxId)| match tasks.are_simulated() {
            // What is in a block that competes has left the mempool, and is here all the same.
            true => {
                let is_confirmed = || confirmed.contains(&block.submissions[*index].transaction.sender());
                mempool.get_by_wtxid(wtxid).is_none() && !is_confirmed()
            }
            false => !tasks.has(at, block, *index),
        };
        let missing = block.wtxids.iter().enumerate().filter(lacks).count() as u64;
        self.tasks.announced += block.tasks();
        self.tasks.missing += missing;
        missing
    }

    /// Notes how a node's chain has moved, and has mempool and relay follow.
    pub(super) fn follow_chain(&mut self, at: usize, before: BlockHash) {
        let tree = &self.nodes[at].tree;
        let after = tree.best_candidate().hash;
        let Some(fork) = tree.fork_point(&before, &after).map(|fork| fork.hash).filter(|_| before != after) else {
            return;
        };
        let path = |to| tree.path(&fork, to).unwrap_or_default();
        let (gone, new) = (path(&before), path(&after));
        let depth = gone.len() as u64;
        let deepest = &mut self.counts.deepest_reorganisation;
        *deepest = depth.max(*deepest);
        if self.config.load.per_second == 0 {
            return;
        }
        let of = |hashes: &[BlockHash]| -> Vec<Transaction> {
            let blocks = hashes.iter().filter_map(|hash| self.blocks.get(hash));
            blocks.flat_map(|block| &block.submissions).map(|task| task.transaction.clone()).collect()
        };
        let (gone, new) = (of(&gone), of(&new));
        let ids = |all: &[Transaction]| all.iter().map(|one| ShortId::of(&one.wtxid())).collect();
        let (included, returned) = (ids(&new), ids(&gone));
        let node = &mut self.nodes[at];
        let height = node.tree.best_candidate().height;
        for transaction in &gone {
            node.confirmed.remove(&transaction.sender());
        }
        node.confirmed.extend(new.iter().map(Transaction::sender));
        let back = gone.into_iter().map(|transaction| Returned {
            attachment: self.tasks.checked[&transaction.wtxid()].attachment().cloned(),
            transaction,
            answer: answer(),
        });
        let gone = Disconnected { miner: Address([0; 20]), transactions: back.collect() };
        let gone = if depth > 0 { vec![gone] } else { vec![] };
        let state = State { confirmed: &node.confirmed, model: self.tasks.model };
        let tip = self.tasks.tip(height, &state, self.now);
        let Ok(_) = node.mempool.on_tip_moved(gone, &new, &tip);
        self.drive_relay(at, Input::TipMoved { included, returned, disconnected: depth as usize });
    }

    /// What became of the tasks, where they were simulated.
    pub(super) fn task_report(&self, chain: &BTreeSet<usize>) -> Option<TaskReport> {
        let TaskTimes { submitted, arrivals, announced, missing, bytes, .. } = &self.tasks;
        let blocks = chain.iter().map(|number| &self.blocks.all[*number]);
        let tasks = blocks.flat_map(|block| &block.submissions);
        let mut confirmed: Vec<_> = tasks.map(|task| task.transaction.txid()).collect();
        let count = confirmed.len();
        confirmed.sort_unstable();
        confirmed.dedup();
        (*submitted > 0).then(|| TaskReport {
            submitted: *submitted,
            confirmed: confirmed.len() as u64,
            repeated: (count - confirmed.len()) as u64,
            arrival_ms: Percentiles::of(arrivals.iter().map(|time| time / 1_000).collect()),
            missing_ppm: (1_000_000 * missing).checked_div(*announced).unwrap_or(0),
            relay_bytes: bytes / self.nodes.len() as u64 / submitted,
        })
    }
}

/// How many of so many bytes the relay's responses hold.
fn most_of(bytes: u64) -> usize {
    (RELAY_BYTES as u64 / bytes + 1) as usize
}

/// Whether a message is the relay's.
pub(super) fn is_of_relay(message: &Message) -> bool {
    matches!(message, Message::Request(id, _) | Message::Response(id, _) if id & RELAY != 0)
}
