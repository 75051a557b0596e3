//! Tasks, where they are simulated too: handed in, passed on by the real relay machine, kept in real mempools, and put into
//! blocks. Each has a sender of its own, so that no nonce waits for another; pictures are a few bytes that stand for all.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::block::Output;
use ocelli_consensus::network::ModelParameters;
use ocelli_consensus::rules::{COST_PER_WEIGHT, task_weight};
use ocelli_consensus::transition::{Account, StateReader};
use ocelli_consensus::{
    Action, Address, Amount, BlockHash, CheckedTransaction, ImageHash, Network, Parameters, Transaction, Unsigned,
    WtxId,
};
use ocelli_protocol::mempool::{Disconnected, InsertError, Mempool, Readiness, Returned, Tip};
use ocelli_protocol::message::{Response, ShortId, Submission};
use ocelli_protocol::relay::{self, Decision, Input, Pool, Verdict};
use rand::RngExt as _;

use super::{Block, Event, Simulation};
use crate::config::{Behaviour, SECOND, TASK_WEIGHT};
use crate::cost;
use crate::line::Message;
use crate::report::{Percentiles, TaskReport};

/// Set in the ids of the relay's requests: those of sync have their own numbers.
pub(super) const RELAY: u64 = 1 << 63;

/// Bytes of a picture: when it was handed in.
const PIXELS: u32 = 8;

/// When tasks came where, and what they cost.
#[derive(Debug)]
pub(super) struct TaskTimes {
    /// The network's, with a model whose pictures are small and whose tasks weigh as much as real ones.
    parameters: Parameters,
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
struct Accounts<'a>(&'a BTreeSet<Address>);

impl StateReader for Accounts<'_> {
    type Error = Infallible;

    fn account(&self, address: &Address) -> Result<Option<Account>, Infallible> {
        let nonce = u64::from(self.0.contains(address));
        Ok(Some(Account { nonce, balance: Amount(u64::MAX / 2) }))
    }
}

impl TaskTimes {
    pub(super) fn new(network: &Network) -> Self {
        let mut parameters = network.parameters.clone();
        let model = parameters.models.first().expect("the testnet has a model");
        let mut small = ModelParameters { pixels: PIXELS, cost: 0, ..model.clone() };
        small.cost = (TASK_WEIGHT - task_weight(&small)) * COST_PER_WEIGHT;
        parameters.models = vec![small];
        Self {
            parameters,
            checked: BTreeMap::new(),
            submitted: 0,
            arrivals: Vec::new(),
            announced: 0,
            missing: 0,
            bytes: 0,
        }
    }
}

struct View<'a>(&'a Mempool);

impl Pool for View<'_> {
    fn mempool(&self) -> &Mempool {
        self.0
    }

    fn would_take(&self, _: &Transaction) -> Verdict {
        Verdict::Take
    }
}

impl Simulation {
    /// Somebody hands in a task, to a node drawn from all.
    pub(super) fn on_submit(&mut self) {
        if self.is_over {
            return;
        }
        self.queue.push(self.now + SECOND / self.config.tasks_per_second.max(1), Event::Submit);
        let at = self.random.random_range(0..self.nodes.len());
        if !self.nodes[at].is_online || self.nodes[at].behaviour == Some(Behaviour::Withholds) {
            return;
        }
        self.tasks.submitted += 1;
        let pixels: Vec<u8> = self.now.to_le_bytes().to_vec();
        let model = self.tasks.parameters.models[0].id;
        let action = Action::Classify { model, image: ImageHash::of(&pixels) };
        // Fees differ, so that blocks choose.
        let fee = Amount(TASK_WEIGHT * self.random.random_range(1..=10));
        let unsigned = Unsigned { nonce: 0, fee, expires: u64::MAX, action };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.tasks.submitted.to_le_bytes());
        let (key, genesis) = (SigningKey::from_bytes(&seed), self.network.genesis.hash());
        let public_key = key.verifying_key().to_bytes();
        let transaction = Transaction::sign(unsigned, public_key, genesis, |hash| key.sign(hash).to_bytes());
        let (wtxid, parameters) = (transaction.wtxid(), &self.tasks.parameters);
        let checked = CheckedTransaction::check(transaction.clone(), Some(Arc::from(&*pixels)), parameters, genesis, 1);
        self.tasks.checked.insert(wtxid, checked.expect("the task is good"));
        self.take_task(at, Submission { transaction, pixels: Some(pixels) });
    }

    /// Puts a task into a node's mempool, and answers it: the model's run takes no time here.
    fn take_task(&mut self, at: usize, submission: Submission) {
        let wtxid = submission.transaction.wtxid();
        // All are honest where tasks are simulated.
        let checked = self.tasks.checked[&wtxid].clone();
        let (txid, id) = (checked.txid(), ShortId::of(&wtxid));
        let mut sent = [0; PIXELS as usize];
        sent.copy_from_slice(checked.pixels().expect("a task has pixels"));
        let node = &mut self.nodes[at];
        let height = node.tree.best_candidate().height;
        let tip = Tip { parameters: &self.tasks.parameters, height, state: &Accounts(&node.confirmed) };
        let decision = match node.mempool.insert(checked, &tip) {
            Ok(inserted) if inserted.readiness == Readiness::Ready => Decision::Forward,
            Ok(_) => Decision::Keep,
            Err(InsertError::Refused(error)) => Decision::Refuse(error.holds()),
        };
        if decision == Decision::Forward {
            node.mempool.set_output(&txid, vec![0; 10]);
            self.tasks.arrivals.push(self.now - u64::from_le_bytes(sent));
        }
        self.drive_relay(at, Input::Decided { id, decision });
    }

    pub(super) fn on_wake(&mut self, at: usize, due: u64) {
        if self.nodes[at].wake_at == Some(due) {
            self.nodes[at].wake_at = None;
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

    /// Gives a node's relay an input and does what it says. How many ids were noted, if they were announced.
    pub(super) fn drive_relay(&mut self, at: usize, input: Input<usize>) -> Option<u32> {
        if self.config.tasks_per_second == 0 {
            return None;
        }
        let (node, mut noted) = (&mut self.nodes[at], None);
        for output in node.relay.handle(input, self.now / 1_000, &View(&node.mempool)) {
            match output {
                relay::Output::Send { peer, id, request } => {
                    let bytes = cost::request(&request);
                    let id = id | RELAY;
                    self.nodes[at].asked.insert(id);
                    self.send(at, peer, Message::Request(id, Arc::new(request)), bytes);
                }
                relay::Output::Noted { count, .. } => noted = Some(count),
                relay::Output::Take { submission, .. } => self.take_task(at, submission),
                // All are honest where tasks are simulated.
                relay::Output::Penalize { .. } => {}
                relay::Output::WakeAt(due) => {
                    let node = &mut self.nodes[at];
                    node.wake_at = Some(due);
                    self.queue.push(due * 1_000, Event::Wake { node: at, life: node.life, at: due });
                }
            }
        }
        noted
    }

    /// What a miner puts into its next block.
    pub(super) fn template(&self, miner: usize) -> Vec<Transaction> {
        let limit = self.config.tasks_per_block * TASK_WEIGHT;
        self.nodes[miner].mempool.template(limit).into_iter().map(|entry| entry.transaction().clone()).collect()
    }

    /// How many of a block's tasks a node does not have.
    pub(super) fn missing(&mut self, at: usize, block: &Block) -> u64 {
        if self.config.tasks_per_second == 0 {
            return block.tasks * self.config.missing_permille / 1_000;
        }
        let mempool = &self.nodes[at].mempool;
        let missing = block.transactions.iter().filter(|transaction| mempool.get(&transaction.txid()).is_none());
        let missing = missing.count() as u64;
        self.tasks.announced += block.tasks;
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
        self.disconnected += depth;
        self.deepest_reorganisation = self.deepest_reorganisation.max(depth);
        if self.config.tasks_per_second == 0 {
            return;
        }
        let of = |hashes: &[BlockHash]| -> Vec<Transaction> {
            let blocks = hashes.iter().filter_map(|hash| self.by_hash.get(hash)).map(|number| &self.blocks[*number]);
            blocks.flat_map(|block| &block.transactions).cloned().collect()
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
        let output: Output = Some(vec![0; 10]);
        let back = gone.into_iter().map(|transaction| Returned {
            pixels: self.tasks.checked[&transaction.wtxid()].pixels().cloned(),
            transaction,
            output: output.clone(),
        });
        let gone = Disconnected { miner: Address([0; 20]), transactions: back.collect() };
        let gone = if depth > 0 { vec![gone] } else { vec![] };
        let tip = Tip { parameters: &self.tasks.parameters, height, state: &Accounts(&node.confirmed) };
        let Ok(_) = node.mempool.on_tip_moved(gone, &new, &tip);
        self.drive_relay(at, Input::TipMoved { included, returned, disconnected: depth as usize });
    }

    /// What became of the tasks, where they were simulated.
    pub(super) fn task_report(&self, chain: &BTreeSet<usize>) -> Option<TaskReport> {
        let TaskTimes { submitted, arrivals, announced, missing, bytes, .. } = &self.tasks;
        let blocks = chain.iter().map(|number| &self.blocks[*number]);
        let mut confirmed: Vec<_> = blocks.flat_map(|block| &block.transactions).map(Transaction::txid).collect();
        let count = confirmed.len();
        confirmed.sort_unstable();
        confirmed.dedup();
        (*submitted > 0).then(|| TaskReport {
            submitted: *submitted,
            confirmed: confirmed.len() as u64,
            repeated: (count - confirmed.len()) as u64,
            arrival_ms: Percentiles::of(arrivals.iter().map(|time| time / 1_000).collect()),
            missing_permille: (1_000 * missing).checked_div(*announced).unwrap_or(0),
            relay_bytes: bytes / self.nodes.len() as u64 / submitted,
        })
    }
}

/// Whether a message is the relay's.
pub(super) fn is_of_relay(message: &Message) -> bool {
    matches!(message, Message::Request(id, _) | Message::Response(id, _) if id & RELAY != 0)
}
