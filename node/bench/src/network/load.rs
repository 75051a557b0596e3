//! Tasks, and what became of each.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ocelli_consensus::block::Classes;
use ocelli_consensus::network::Network;
use ocelli_consensus::rules::weight;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Amount, Transaction, TxId, Unsigned};
use ocelli_model::{Backend, Model};
use ocelli_node::client::fee::{default_fee, expiry};
use ocelli_node::client::submission::{SubmitOutcome, outcome};
use ocelli_node::client::{Client, Reply};
use ocelli_node::commands::wallet_option::address_of;
use ocelli_node::commands::{check_depth, too_little};
use ocelli_node::inference::facts_of;
use ocelli_node::network::{Peer, RequestId};
use ocelli_node::wallet::Wallet;
use ocelli_program::error::CommandError;
use ocelli_protocol::limits::{Bucket, Limit, SUBMISSIONS};
use ocelli_protocol::mempool::MAX_PENDING;
use ocelli_protocol::message::{Request, Submission};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::super::block_maker::{Jpegs, classify, pixels_of};
use super::follow::Change;

/// Tasks of one sender that are not confirmed: a little below what nodes keep of one, as their tips differ for moments.
const PENDING: usize = MAX_PENDING - 4;
/// Tasks of one sender that are being handed in. Nodes keep at most 16 that come before their turn.
const WINDOW: usize = 8;
/// Requests under way in all: when only one node is left, all of them are with it, and it takes 100 on a connection.
const UNDER_WAY: usize = 64;
/// What a node takes of one peer, less what may be under way: who goes on beyond it is banned.
const HANDED_IN: Limit = Limit { burst: SUBMISSIONS.burst - UNDER_WAY as u64, ..SUBMISSIONS };
/// How long after a refusal the same task is handed in again.
const RETRY: Duration = Duration::from_secs(1);
/// Spacings after which a task that was taken and is in no block is handed in again, and the least that this is.
const PATIENCE_BLOCKS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(15);
/// What a sender gets, by what its share of the tasks costs: shares are not quite equal.
const FUNDING_FACTOR: u64 = 2;
/// Tasks that every sender gets the fees for in any case.
const LEAST_TASKS: u64 = 64;

/// What is asked, how many senders there are, and how many tasks all of them will sign at most.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Keys.
    pub senders: u64,
    /// Tasks of all.
    pub tasks: u64,
    /// Pictures come as JPEG files of this side and so many bytes at most; else as pixels.
    pub jpeg: Option<(u16, usize)>,
}

/// One task.
#[derive(Debug)]
pub struct Task {
    submission: Submission,
    txid: TxId,
    /// By this machine's own run.
    answer: Classes,
    sender: usize,
    state: State,
    /// When it was handed in first.
    sent: Option<Instant>,
    /// From then to the first preliminary answer.
    pub preliminary: Option<Duration>,
    /// From then to the first block with it.
    pub confirmed: Option<Duration>,
    /// Why a node did not take it.
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be handed in, not before a time.
    Due(Instant),
    /// A node is asked.
    Asked,
    /// A node has it since then.
    Taken(Instant),
    /// In a block of the followed chain.
    Confirmed,
}

/// A key, and its tasks that are in no block, in the order of their nonces.
struct Sender {
    wallet: Wallet,
    nonce: u64,
    open: VecDeque<usize>,
    /// Which of the nodes gets its tasks.
    node: usize,
}

/// All tasks of a run.
pub struct Load {
    network: Network,
    model: Model,
    jpegs: Option<Jpegs>,
    fee: Amount,
    expires: u64,
    random: ChaCha8Rng,
    senders: Vec<Sender>,
    tasks: Vec<Task>,
    by_txid: HashMap<TxId, usize>,
    under_way: HashMap<RequestId, usize>,
    /// What each node still takes, in milliseconds since the start.
    handed_in: HashMap<Peer, Bucket>,
    start: Instant,
    /// When the next task is due.
    next: Option<Instant>,
    seen: Seen,
    patience: Duration,
}

/// What became of the tasks by now.
#[derive(Debug, Default)]
pub struct Seen {
    /// Tasks in blocks of the followed chain.
    pub confirmed: usize,
    last_confirmation: Option<Instant>,
    /// Answers that are not this machine's own.
    pub wrong_answers: usize,
    /// Tasks that were handed in again.
    pub handed_in_again: usize,
}

impl Load {
    /// Makes keys and has the wallet pay them what their tasks will cost.
    ///
    /// # Errors
    /// When the wallet has too little, no node takes the payments, or they are in no block in time.
    pub fn fund(
        client: &mut Client,
        network: &Network,
        model: &Model,
        wallet: &Wallet,
        plan: Plan,
        time: Duration,
    ) -> Result<Self, CommandError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| CommandError::failed(format!("no randomness: {error}")))?;
        let mut random = ChaCha8Rng::from_seed(seed);
        let senders = (0..plan.senders).map(|number| {
            let mut seed = [0; 32];
            random.fill_bytes(&mut seed);
            Sender { wallet: Wallet::from_seed(seed), nonce: 0, open: VecDeque::new(), node: number as usize }
        });
        let senders: Vec<_> = senders.collect();
        let from = address_of(wallet);
        let account = client.account(from)?;
        let mut load = Self {
            network: network.clone(),
            model: model.clone(),
            jpegs: plan.jpeg.map(|(side, bytes)| Jpegs::new(side, true, bytes, &mut random)).transpose()?,
            fee: Amount::ZERO,
            expires: u64::MAX,
            random,
            senders,
            tasks: Vec::new(),
            by_txid: HashMap::new(),
            under_way: HashMap::new(),
            handed_in: HashMap::new(),
            start: Instant::now(),
            next: None,
            seen: Seen::default(),
            patience: PATIENCE.max(PATIENCE_BLOCKS * Duration::from_secs(network.parameters.spacing)),
        };
        // Files differ a little in their bytes.
        let most = plan.jpeg.map_or(model.pixels(), |(_, bytes)| bytes);
        let example = load.sign(&load.senders[0].wallet, 0, Amount::ZERO, classify(model, &vec![0; most], load.form()));
        let facts = facts_of(&load.model);
        let weight_of = |transaction: &Transaction| weight(transaction, Some(&facts));
        load.fee = weight_of(&example).map(default_fee).ok_or_else(|| {
            CommandError::failed(format!("network {} does not offer {} now", network.parameters.name, model.name()))
        })?;
        let tasks = (plan.tasks / plan.senders.max(1)).saturating_add(LEAST_TASKS).saturating_mul(FUNDING_FACTOR);
        let amount = Amount(load.fee.0.saturating_mul(tasks)).max(network.parameters.minimum_balance);
        let mut needed = Amount::ZERO;
        let mut payments = Vec::new();
        for (nonce, sender) in (account.next_nonce..).zip(&load.senders) {
            let action = Action::Transfer { to: address_of(&sender.wallet), amount };
            let fee =
                weight_of(&load.sign(wallet, nonce, Amount::ZERO, action.clone())).map_or(Amount::ZERO, default_fee);
            let transaction = load.sign(wallet, nonce, fee, action);
            let total = transaction.total(&network.parameters).and_then(|total| needed.checked_add(total));
            needed =
                total.ok_or_else(|| CommandError::usage("the tasks cost more than all the credits there can be"))?;
            payments.push(Submission { transaction, attachment: None });
        }
        if account.balance < needed {
            return Err(too_little(network, from, account.balance, needed));
        }
        // One sender has only so many pending.
        for payments in payments.chunks(MAX_PENDING) {
            client.submit(payments, |_, _| {})?;
            let states = client.wait(payments, 1, time, |_, _| {})?;
            check_depth(&states, 1, time.as_secs())?;
        }
        load.expires = expiry(account.height);
        Ok(load)
    }

    /// Signs the tasks that are due by now at `rate` a second, as far as the senders may have more pending.
    ///
    /// # Errors
    /// If this machine cannot run the model, or make its own pictures.
    pub fn make(&mut self, rate: u32, now: Instant, backend: &mut dyn Backend) -> Result<(), CommandError> {
        let mut next = *self.next.get_or_insert(now);
        let (mut attachments, mut pictures) = (Vec::new(), Vec::new());
        let room: usize = self.senders.iter().map(|sender| PENDING.saturating_sub(sender.open.len())).sum();
        while next <= now && pictures.len() < room {
            let attachment = match self.jpegs {
                Some(jpegs) => jpegs.make(&mut self.random)?,
                None => {
                    let mut pixels = vec![0; self.model.pixels()];
                    self.random.fill_bytes(&mut pixels);
                    pixels
                }
            };
            pictures.push(pixels_of(&self.model, &attachment, self.form())?);
            attachments.push(attachment);
            next += Duration::from_secs(1) / rate.max(1);
        }
        // What found no room is not made up for later.
        self.next = Some(next.max(now));
        let images: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let logits = if images.is_empty() { Vec::new() } else { backend.logits(&self.model, &images)? };
        for (attachment, logits) in attachments.into_iter().zip(logits) {
            let Some((number, _)) = self.senders.iter().enumerate().min_by_key(|(_, sender)| sender.open.len()) else {
                return Ok(());
            };
            let action = classify(&self.model, &attachment, self.form());
            let sender = &self.senders[number];
            let transaction = self.sign(&sender.wallet, sender.nonce, self.fee, action);
            let (index, txid) = (self.tasks.len(), transaction.txid());
            self.tasks.push(Task {
                submission: Submission { transaction, attachment: Some(attachment.into()) },
                txid,
                answer: Classes::of(&logits),
                sender: number,
                state: State::Due(now),
                sent: None,
                preliminary: None,
                confirmed: None,
                problem: None,
            });
            self.by_txid.insert(txid, index);
            self.senders[number].nonce += 1;
            self.senders[number].open.push_back(index);
        }
        Ok(())
    }

    /// Hands in what is due, of each sender in the order of nonces.
    pub fn send(&mut self, client: &mut Client, now: Instant) {
        let nodes: Vec<_> = client.connections().iter().map(|connection| connection.peer).collect();
        if nodes.is_empty() {
            return;
        }
        let millis = u64::try_from((now - self.start).as_millis()).unwrap_or(u64::MAX);
        for sender in &mut self.senders {
            let peer = nodes[sender.node % nodes.len()];
            let handed_in = self.handed_in.entry(peer).or_insert_with(|| Bucket::new(HANDED_IN, millis));
            let mut asked = 0;
            for &index in &sender.open {
                let task = &mut self.tasks[index];
                if let State::Taken(since) = task.state
                    && now - since >= self.patience
                {
                    // The node may have lost it, or be alone.
                    sender.node += 1;
                    task.state = State::Due(now);
                    break;
                }
                match task.state {
                    State::Asked => asked += 1,
                    State::Taken(_) | State::Confirmed => continue,
                    // Those after it would come before their turn.
                    State::Due(at) if at > now => break,
                    State::Due(_) => {
                        if asked == WINDOW || self.under_way.len() >= UNDER_WAY || handed_in.check(1, millis).is_err() {
                            break;
                        }
                        handed_in.charge(1, millis);
                        self.seen.handed_in_again += usize::from(task.sent.is_some());
                        task.sent.get_or_insert(now);
                        task.state = State::Asked;
                        asked += 1;
                        let id = client.send(peer, &Request::Submit(task.submission.clone()));
                        self.under_way.insert(id, index);
                    }
                }
            }
        }
    }

    /// Takes what a node says to a task; gives the reply back where it is to something else.
    pub fn on_reply(&mut self, reply: Reply) -> Option<Reply> {
        let Some(index) = self.under_way.remove(&reply.id) else { return Some(reply) };
        let task = &mut self.tasks[index];
        let (received, due) = (reply.received, State::Due(reply.received + RETRY));
        let genesis = self.network.genesis_hash();
        let verdict = outcome(&task.submission.transaction, genesis, reply.peer, reply.result);
        let problem = verdict.problem();
        let state = match verdict {
            SubmitOutcome::Answered(answer) => {
                self.seen.wrong_answers += usize::from(answer != task.answer);
                let time = task.sent.map(|sent| received.saturating_duration_since(sent));
                task.preliminary = task.preliminary.or(time);
                State::Taken(received)
            }
            SubmitOutcome::Taken => State::Taken(received),
            SubmitOutcome::Refused(_) | SubmitOutcome::Busy(_) => due,
            SubmitOutcome::NotSigned(_) => {
                self.seen.wrong_answers += 1;
                State::Taken(received)
            }
            SubmitOutcome::Silent(_) => {
                self.senders[task.sender].node += 1;
                due
            }
        };
        // A block may have been faster.
        if task.state == State::Asked {
            task.state = state;
            task.problem = problem;
        }
        None
    }

    /// Takes note of what the chain did.
    pub fn on_change(&mut self, change: Change<'_>) {
        let (Change::Connected(txid, _) | Change::Disconnected(txid)) = change;
        let Some(&index) = self.by_txid.get(&txid) else { return };
        let (task, now) = (&mut self.tasks[index], Instant::now());
        let open = &mut self.senders[task.sender].open;
        match change {
            Change::Connected(_, answer) => {
                self.seen.wrong_answers += usize::from(answer.classes() != Some(&task.answer));
                task.confirmed = task.confirmed.or(task.sent.map(|sent| now - sent));
                task.state = State::Confirmed;
                open.retain(|other| *other != index);
                self.seen.confirmed += 1;
                self.seen.last_confirmation = Some(now);
            }
            Change::Disconnected(_) => {
                // Back in mempools, as far as one knows.
                task.state = State::Taken(now);
                // Indexes of one sender ascend as its nonces do.
                let place = open.iter().position(|other| *other > index).unwrap_or(open.len());
                open.insert(place, index);
                self.seen.confirmed -= 1;
            }
        }
    }

    /// Whether every task is in a block of the followed chain.
    pub fn is_done(&self) -> bool {
        self.seen.confirmed == self.tasks.len()
    }

    /// What became of the tasks by now.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// All tasks made so far.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Their ids.
    pub fn txids(&self) -> impl Iterator<Item = TxId> {
        self.tasks.iter().map(|task| task.txid)
    }

    /// From the first task handed in to the last confirmation.
    pub fn confirming_time(&self) -> Duration {
        let first = self.tasks.iter().filter_map(|task| task.sent).min();
        first.zip(self.seen.last_confirmation).map_or(Duration::ZERO, |(first, last)| last - first)
    }

    /// Tasks that are not confirmed, with what is known of each.
    pub fn problems(&self) -> impl Iterator<Item = (TxId, &str)> {
        let open = self.tasks.iter().filter(|task| task.state != State::Confirmed);
        open.map(|task| (task.txid, task.problem.as_deref().unwrap_or("taken by a node, and in no block")))
    }

    fn form(&self) -> Form {
        self.jpegs.map_or(Form::Pixels, |jpegs| jpegs.form())
    }

    fn sign(&self, wallet: &Wallet, nonce: u64, fee: Amount, action: Action) -> Transaction {
        let unsigned = Unsigned { nonce, fee, expires: self.expires, action };
        Transaction::sign(unsigned, wallet.public_key(), self.network.genesis_hash(), |hash| wallet.sign(hash))
    }
}
