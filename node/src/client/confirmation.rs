//! Where transactions are confirmed, checked against headers with their work; waiting until they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Answer;
use ocelli_consensus::header::Place;
use ocelli_consensus::object::ModelRecord;
use ocelli_consensus::rules::{check_attachment, check_body, check_body_root, check_signature};
use ocelli_consensus::{Address, Amount, Body, Header, ModelId, Network, Transaction, TxId, Unsigned};
use ocelli_protocol::message::{
    BlockId, Confirmation, FoundBlock, Request, Response, Submission, SubmitReply, TransactionStatus,
};
use rayon::prelude::*;

use super::chains::{Evidence, unexpected};
use super::lie::Lie;
use super::{ANSWER_TIMEOUT, Client, ClientError, Connection, Reply, printable};
use crate::network::{Peer, RequestId};

/// Between two rounds of asking.
const POLL: Duration = Duration::from_millis(500);
/// How long nodes may take for one round.
const ROUND: Duration = Duration::from_secs(5);
/// Between two times that a lost transaction is handed in again.
const RESEND: Duration = Duration::from_secs(5);

/// What the nodes know of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None of them knows it.
    Unknown,
    /// None of them knows it now, and one has had it in its mempool: why it has left that, by its own word.
    Dropped(String),
    /// It is in no block of the chain with the most work, and at least one has it in its mempool, or in another chain.
    Pending,
    /// It is in a block.
    Confirmed(Box<Confirmation>, Evidence),
}

/// A block, checked, with what speaks for it if it is on the chain with the most work.
pub type CheckedBlock = (FoundBlock, Option<Evidence>);

/// Where a transaction is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The block's.
    pub header: Header,
    /// What the block holds as the transaction's answer.
    pub answer: Answer,
    /// What speaks for the block.
    pub evidence: Evidence,
}

/// A transaction that is waited for.
#[derive(Debug)]
pub struct Tracked {
    pub txid: TxId,
    /// What is known of it.
    pub state: TransactionState,
    /// Whether nothing more is waited for: it is deep enough, or nobody takes it any more.
    pub is_over: bool,
    resent: Instant,
    /// Who has said last that it waits there.
    holder: Option<Connection>,
    /// Who has refused it when it was handed in again, since a node last had it.
    refused: BTreeSet<Peer>,
    /// What was said of it last.
    said: Option<Incident>,
    /// Whether a node has shown it in a block that its headers did not hold.
    is_doubtful: bool,
}

/// What is known of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionState {
    /// No node has said anything yet.
    Unanswered,
    /// The node does not know it; it was handed in again. What was said to that, if it was refused.
    Lost(Option<String>),
    /// The node has had it, and dropped it; it was handed in again.
    Dropped {
        /// Why, by the node's word.
        reason: String,
        /// What was said when it was handed in again, if it was refused.
        refused: Option<String>,
    },
    /// It is in the mempool.
    Pending,
    /// It can be in no block any more, unless as many blocks are replaced as confirmations are waited for.
    Void(Void),
    /// It is in a block.
    Confirmed(Box<Confirmed>),
}

/// Why a transaction can be in no block any more, by what was shown of its sender's account after a block that is confirmed by now as
/// often as is waited for. Before, a reorganisation might take back what has its nonce: whoever has signed the same anew by then, with
/// another nonce, might see both in blocks, and pay twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// Another one of its sender has its nonce.
    NonceUsed(u64),
    /// The height that it names as its last has passed.
    Expired(u64),
}

impl Void {
    fn of(transaction: &Transaction, account_nonce: u64, height: u64) -> Option<Self> {
        let Unsigned { nonce, expires, .. } = transaction.unsigned;
        match nonce < account_nonce {
            true => Some(Self::NonceUsed(nonce)),
            false => (expires <= height).then_some(Self::Expired(expires)),
        }
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonceUsed(nonce) => write!(f, "another transaction of its sender has its nonce, {nonce}"),
            Self::Expired(height) => write!(f, "block {height} was the last that could have it"),
        }
    }
}

/// What has happened to transactions that are waited for, and had them handed in again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incident {
    /// The block that had them is no longer on the chain with the most work.
    Disconnected { height: u64 },
    /// A node lacks what another one has had for a while.
    NotPassedOn { holder: String, lacks: String },
    /// A node does not have them, and no other one has said that it does.
    Lost { node: String },
    /// They have left a node's mempool: why, by its own word.
    Dropped { node: String, reason: String },
}

impl Incident {
    /// The same for people, of so many transactions.
    pub fn words(&self, count: usize) -> String {
        let which = if count == 1 { "a transaction".into() } else { format!("{count} transactions") };
        match self {
            Self::Disconnected { height } => {
                format!(
                    "block {height}, which had {which}, is no longer on the chain with the most work: handed in again"
                )
            }
            Self::NotPassedOn { holder, lacks } => {
                format!(
                    "the node at {holder} has {which}, and has not passed it on to the one at {lacks}: handed in again"
                )
            }
            Self::Lost { node } => format!("the node at {node} does not have {which}: handed in again"),
            Self::Dropped { node, reason } => {
                format!("the node at {node} has dropped {which} ({reason}): handed in again")
            }
        }
    }
}

/// What has happened in one round, and to how many transactions.
pub type Incidents = BTreeMap<Incident, usize>;

impl TransactionState {
    /// The confirmation, if there is one.
    pub fn confirmed(&self) -> Option<&Confirmed> {
        match self {
            Self::Confirmed(confirmed) => Some(confirmed),
            _ => None,
        }
    }

    /// Whether it has that many confirmations.
    pub fn is_deep(&self, depth: u64) -> bool {
        self.confirmed().is_some_and(|confirmed| confirmed.evidence.confirmations >= depth)
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("no node has answered"),
            Self::Lost(None) => f.write_str("lost, and handed in again"),
            Self::Lost(Some(reason)) => write!(f, "lost, and refused when handed in again: {reason}"),
            Self::Dropped { reason, refused: None } => write!(f, "dropped ({reason}), and handed in again"),
            Self::Dropped { reason, refused: Some(refused) } => {
                write!(f, "dropped ({reason}), and refused when handed in again: {refused}")
            }
            Self::Pending => f.write_str("in no block yet"),
            Self::Void(why) => write!(f, "too late: {why}"),
            Self::Confirmed(confirmed) => {
                let (height, depth) = (confirmed.header.height, confirmed.evidence.confirmations);
                write!(f, "in block {height} with {depth} confirmations")
            }
        }
    }
}

/// Checks what a node shows of a transaction against itself: which one it is, its signature, and what leads from it and its
/// answer to the header. The header is not looked at, see [`Client::see`].
///
/// # Errors
/// What cannot be true.
pub fn check(network: &Network, txid: TxId, confirmation: &Confirmation) -> Result<(), Lie> {
    let Confirmation { header, proof, submission, answer } = confirmation;
    let (transaction, height, index) = (&submission.transaction, header.height, proof.index as usize);
    if transaction.txid() != txid {
        return Err(Lie::OtherTransaction { asked: txid, found: transaction.txid() });
    }
    let rule = |source| Lie::Body { height, source };
    check_body_root(header, confirmation.body_root().map_err(Lie::Path)?).map_err(rule)?;
    check_signature(transaction, network.genesis_hash()).map_err(|error| rule(error.at(index)))?;
    let body = Body { transactions: vec![(transaction.clone(), answer.clone())] };
    check_rules(network, header, &body)?;
    match &submission.attachment {
        Some(bytes) => check_attachment(transaction, Some(bytes)).map_err(|source| Lie::Attachment { height, source }),
        None => Ok(()),
    }
}

/// Checks the rules of a body by itself, as far as one can who holds no state: of the models only those of the network's
/// beginning are known, so that a body which uses others has its work to speak for it.
fn check_rules(network: &Network, header: &Header, body: &Body) -> Result<(), Lie> {
    let models: BTreeMap<ModelId, ModelRecord> = network
        .parameters
        .models
        .iter()
        .map(|model| {
            let author = Address([0; 20]);
            (model.id, ModelRecord { author, royalty: Amount::ZERO, first: 0, facts: model.facts })
        })
        .collect();
    if !body.models().iter().all(|model| models.contains_key(model)) {
        return Ok(());
    }
    let &Header { height, version, miner, .. } = header;
    let place = Place { height, version, miner, parent_time: header.time };
    match check_body(&network.parameters, &place, body, &models) {
        Ok(checked) => checked.map_err(|source| Lie::Body { height, source }),
        Err(never) => match never {},
    }
}

/// Checks what a node shows of a block against itself and against what was asked for. Which headers it stands on is not
/// looked at, see [`Client::see`].
///
/// # Errors
/// What cannot be true.
pub fn check_block(network: &Network, by: BlockId, found: &FoundBlock) -> Result<(), Lie> {
    let FoundBlock { header, data } = found;
    let (height, hash) = (header.height, header.hash());
    let is_asked = match by {
        BlockId::Height(asked) => asked == height,
        BlockId::Hash(asked) => asked == hash,
    };
    if !is_asked {
        let asked = match by {
            BlockId::Height(asked) => format!("the block at height {asked}"),
            BlockId::Hash(asked) => format!("block {asked}"),
        };
        return Err(Lie::OtherBlock { asked, block: hash, height });
    }
    let rule = |source| Lie::Body { height, source };
    let transactions = &data.body.transactions;
    check_body_root(header, data.body.root(&header.parent)).map_err(rule)?;
    check_rules(network, header, &data.body)?;
    let genesis = network.genesis_hash();
    transactions.par_iter().zip(&data.attachments).enumerate().try_for_each(
        |(index, ((transaction, _), attachment))| {
            check_signature(transaction, genesis).map_err(|error| rule(error.at(index)))?;
            match attachment {
                Some(bytes) => {
                    check_attachment(transaction, Some(bytes)).map_err(|source| Lie::Attachment { height, source })
                }
                None => Ok(()),
            }
        },
    )
}

impl Client {
    /// What the nodes know of a transaction. A confirmation has been checked, and is of the chain with the most work that they
    /// show.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers that can be believed.
    pub fn find(&mut self, txid: TxId) -> Result<Found, ClientError> {
        self.follow(Instant::now() + ANSWER_TIMEOUT)?;
        let (mut confirmed, mut is_pending, mut is_unknown, mut dropped, mut failure) =
            (None, false, false, None, None);
        let nodes = self.asked();
        let answers = self.ask_each(&nodes, &Request::Transaction { txid }, Instant::now() + ANSWER_TIMEOUT)?;
        for (node, answer) in answers {
            match answer.and_then(|response| self.check_status(&node, txid, response)) {
                Ok(TransactionStatus::Unknown) => is_unknown = true,
                Ok(TransactionStatus::Pending(_)) => is_pending = true,
                Ok(TransactionStatus::Dropped { reason }) => dropped = Some(printable(&reason)),
                Ok(TransactionStatus::Confirmed(confirmation)) => match self.evidence(&confirmation.header)? {
                    Some(_) => confirmed = Some(confirmation),
                    None => is_pending = true,
                },
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        // Counted now that those are gone who could not be believed.
        if let Some(confirmation) = confirmed
            && let Some(evidence) = self.evidence(&confirmation.header)?
        {
            return Ok(Found::Confirmed(confirmation, evidence));
        }
        match (failure, dropped) {
            _ if is_pending => Ok(Found::Pending),
            (_, Some(reason)) => Ok(Found::Dropped(reason)),
            _ if is_unknown => Ok(Found::Unknown),
            (Some(error), None) => Err(error),
            (None, None) => Err(self.nobody()),
        }
    }

    /// A block that the nodes have, checked, with what speaks for it if it is on the chain with the most work; `None` if none
    /// of them has it.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers that can be believed.
    pub fn find_block(&mut self, by: BlockId) -> Result<Option<CheckedBlock>, ClientError> {
        self.follow(Instant::now() + ANSWER_TIMEOUT)?;
        let (mut beside, mut is_unknown, mut failure) = (None, false, None);
        for node in self.asked() {
            match self.find_block_at(&node, by) {
                Ok(None) => is_unknown = true,
                Ok(Some(found)) => match self.evidence(&found.header)? {
                    Some(evidence) => return Ok(Some((found, Some(evidence)))),
                    None => beside = Some((found, None)),
                },
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        match failure {
            _ if beside.is_some() || is_unknown => Ok(beside),
            Some(error) => Err(error),
            None => Err(self.nobody()),
        }
    }

    /// What one node knows of a transaction; a confirmation is checked, and on its own chain.
    fn check_status(
        &mut self,
        node: &Connection,
        txid: TxId,
        mut response: Response,
    ) -> Result<TransactionStatus, ClientError> {
        // Between the answer and the headers the node may have changed to another branch.
        let mut again = 1;
        loop {
            let status = match response {
                Response::Transaction(status) => status,
                other => return Err(unexpected(node, "Transaction", &other)),
            };
            let TransactionStatus::Confirmed(confirmation) = &status else { return Ok(status) };
            check(&self.network, txid, confirmation).map_err(|lie| lie.told_by(node))?;
            match self.see(node, &confirmation.header) {
                Err(error) if again > 0 && error.may_be_a_reorg() => again -= 1,
                seen => return seen.map(|()| status),
            }
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            response = self.ask_until(node, &Request::Transaction { txid }, deadline)?;
        }
    }

    /// A block that one node has, checked; one that is asked for by its height is on the node's own chain.
    fn find_block_at(&mut self, node: &Connection, by: BlockId) -> Result<Option<FoundBlock>, ClientError> {
        let mut again = 1;
        loop {
            let found = match self.ask_until(node, &Request::Block { by }, Instant::now() + ANSWER_TIMEOUT)? {
                Response::Block(Some(found)) => *found,
                Response::Block(None) => return Ok(None),
                other => return Err(unexpected(node, "Block", &other)),
            };
            check_block(&self.network, by, &found).map_err(|lie| lie.told_by(node))?;
            match (self.see(node, &found.header), by) {
                // One that is named by its hash need not be on the chain.
                (Err(error), BlockId::Hash(_)) if error.may_be_a_reorg() => return Ok(Some(found)),
                (Err(error), _) if again > 0 && error.may_be_a_reorg() => again -= 1,
                (seen, _) => return seen.map(|()| Some(found)),
            }
        }
    }

    /// Asks until every transaction has `depth` confirmations, or will not be in a block, at most for `time`; hands in again what
    /// nodes have lost or dropped, what they do not pass on, and what was in a block that is none of the chain any more.
    /// Confirmations are checked as by [`Client::find`]. `told` hears of the state after each round, and of what happened in it.
    ///
    /// # Errors
    /// When no node is left that can be believed.
    pub fn wait(
        &mut self,
        submissions: &[Submission],
        depth: u64,
        time: Duration,
        mut told: impl FnMut(&[Tracked], &Incidents),
    ) -> Result<Vec<Tracked>, ClientError> {
        self.wait_while(submissions, depth, time, |states, incidents| {
            told(states, incidents);
            true
        })
    }

    /// The same, as long as `told` says so.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn wait_while(
        &mut self,
        submissions: &[Submission],
        depth: u64,
        time: Duration,
        mut told: impl FnMut(&[Tracked], &Incidents) -> bool,
    ) -> Result<Vec<Tracked>, ClientError> {
        let start = Instant::now();
        let deadline = start + time;
        let tracked = submissions
            .iter()
            .map(|submission| Tracked {
                txid: submission.transaction.txid(),
                state: TransactionState::Unanswered,
                is_over: false,
                resent: start,
                holder: None,
                refused: BTreeSet::new(),
                said: None,
                is_doubtful: false,
            })
            .collect();
        let (resent, incidents) = (HashMap::new(), Incidents::new());
        let mut waiting = Waiting { client: self, submissions, depth, tracked, resent, incidents };
        for turn in 0.. {
            waiting.round(turn, (Instant::now() + ROUND).min(deadline))?;
            waiting.look_for_an_end();
            let goes_on = told(&waiting.tracked, &std::mem::take(&mut waiting.incidents));
            if !goes_on || waiting.tracked.iter().all(|tracked| tracked.is_over) || Instant::now() >= deadline {
                break;
            }
            waiting.pause((Instant::now() + POLL).min(deadline))?;
        }
        Ok(waiting.tracked)
    }
}

struct Waiting<'a> {
    client: &'a mut Client,
    submissions: &'a [Submission],
    depth: u64,
    tracked: Vec<Tracked>,
    /// What was handed in again and not answered yet: which submission.
    resent: HashMap<RequestId, usize>,
    /// Of this round.
    incidents: Incidents,
}

impl Waiting<'_> {
    /// Finds out for which transactions nothing more is to be waited: what every node refuses may be too late for the account.
    fn look_for_an_end(&mut self) {
        let nodes = self.client.connections();
        let is_refused = |tracked: &Tracked| {
            let is_gone = match &tracked.state {
                TransactionState::Lost(refused) | TransactionState::Dropped { refused, .. } => refused.is_some(),
                _ => false,
            };
            is_gone && !nodes.is_empty() && nodes.iter().all(|node| tracked.refused.contains(&node.peer))
        };
        let refused: Vec<bool> = self.tracked.iter().map(is_refused).collect();
        let first = refused.iter().position(|is_refused| *is_refused);
        let sender = first.map(|index| self.submissions[index].transaction.sender());
        // If the account cannot be had now, the next round looks again.
        let account = sender.and_then(|sender| self.client.account(sender).ok());
        for ((tracked, submission), is_refused) in self.tracked.iter_mut().zip(self.submissions).zip(refused) {
            let account = account.filter(|_| is_refused);
            let void = account.and_then(|now| Some((Void::of(&submission.transaction, now.nonce, now.height)?, now)));
            if let Some((why, now)) = void {
                // As long as that block is on the chain, so is what was so after it.
                let known = self.client.void_since.get(&tracked.txid).copied();
                let since = known.filter(|(height, block)| self.client.depth(*height, block) > 0);
                let (height, block) = since.unwrap_or((now.height, now.block));
                self.client.void_since.insert(tracked.txid, (height, block));
                if self.client.depth(height, &block) >= self.depth {
                    tracked.state = TransactionState::Void(why);
                }
            }
            tracked.is_over = match tracked.state {
                TransactionState::Void(_) => true,
                TransactionState::Dropped { .. } => is_refused && void.is_none(),
                _ => tracked.state.is_deep(self.depth),
            };
        }
    }

    /// Looks at the chains, and asks one node for everything that is in no block yet: another one each time, as one may know
    /// less than the others, or say so.
    fn round(&mut self, turn: usize, deadline: Instant) -> Result<(), ClientError> {
        match self.client.follow(deadline) {
            Ok(()) => {}
            Err(error @ (ClientError::NoneLeft { .. } | ClientError::OtherChain { .. })) => return Err(error),
            // It may be back in a moment.
            Err(_) => return Ok(()),
        }
        for index in 0..self.tracked.len() {
            self.look_again(index)?;
        }
        let nodes = self.client.asked();
        let Some(node) = nodes.get(turn.checked_rem(nodes.len()).unwrap_or(0)) else { return Ok(()) };
        let mut questions = HashMap::new();
        for (index, tracked) in self.tracked.iter().enumerate() {
            if tracked.state.confirmed().is_none() && !matches!(tracked.state, TransactionState::Void(_)) {
                questions.insert(self.client.send(node.peer, &Request::Transaction { txid: tracked.txid }), index);
            }
        }
        let mut answers = Vec::new();
        while !questions.is_empty() {
            let Some(reply) = self.client.next_reply(deadline)? else { break };
            match questions.remove(&reply.id) {
                Some(index) => answers.push((index, reply.result)),
                None => self.on_other(reply),
            }
        }
        for (index, result) in answers {
            let judged = match result {
                Ok(Response::Transaction(status)) => self.on_status(node, index, status),
                Ok(Response::Failed { .. }) | Err(ClientError::NoAnswer { .. }) => Ok(()),
                Ok(other) => Err(unexpected(node, "Transaction", &other)),
                Err(error) => Err(error),
            };
            match judged {
                Ok(()) => {}
                Err(error @ ClientError::OtherChain { .. }) => return Err(error),
                Err(error) if error.is_lie() => {
                    self.client.disconnect(node, &error);
                    break;
                }
                // Of another kind: the next round asks another node.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Counts the confirmations again; a block that is no longer on the chain with the most work confirms nothing.
    fn look_again(&mut self, index: usize) -> Result<(), ClientError> {
        let Some(Confirmed { header, .. }) = self.tracked[index].state.confirmed() else { return Ok(()) };
        let (header, is_deep) = (header.clone(), self.client.depth(header.height, &header.hash()) >= self.depth);
        // Other nodes are asked about a long chain: only when it matters.
        if is_deep != self.tracked[index].state.is_deep(self.depth) || !self.client.is_long() {
            let evidence = self.client.evidence(&header)?;
            match (&mut self.tracked[index].state, evidence) {
                (TransactionState::Confirmed(confirmed), Some(evidence)) => confirmed.evidence = evidence,
                (state, _) => {
                    *state = TransactionState::Pending;
                    self.tracked[index].holder = None;
                    // Nodes take it up again by themselves, if they have its attachment.
                    self.hand_in_again(index, Duration::ZERO, Incident::Disconnected { height: header.height });
                }
            }
        }
        Ok(())
    }

    /// Takes note of what a node knows of a transaction.
    fn on_status(&mut self, node: &Connection, index: usize, status: TransactionStatus) -> Result<(), ClientError> {
        let tracked = &mut self.tracked[index];
        match status {
            TransactionStatus::Pending(_) => {
                tracked.state = TransactionState::Pending;
                tracked.holder = Some(node.clone());
                tracked.refused.clear();
            }
            TransactionStatus::Confirmed(confirmation) => {
                check(self.client.network(), tracked.txid, &confirmation).map_err(|lie| lie.told_by(node))?;
                let Confirmation { header, answer, .. } = *confirmation;
                match self.client.see(node, &header) {
                    // The next round asks again: the node may have changed to another branch since it answered.
                    Err(error) if !tracked.is_doubtful && error.may_be_a_reorg() => {
                        tracked.is_doubtful = true;
                        return Ok(());
                    }
                    seen => seen?,
                }
                if let Some(evidence) = self.client.evidence(&header)? {
                    tracked.state = TransactionState::Confirmed(Box::new(Confirmed { header, answer, evidence }));
                }
            }
            TransactionStatus::Unknown => {
                let lacks = node.address.clone();
                let incident =
                    match tracked.holder.take_if(|holder| holder.peer == node.peer).or(tracked.holder.clone()) {
                        Some(holder) if holder.peer != node.peer => {
                            Incident::NotPassedOn { holder: holder.address, lacks }
                        }
                        // One that has lost it may never have had it.
                        _ => {
                            if !matches!(tracked.state, TransactionState::Lost(_) | TransactionState::Dropped { .. }) {
                                tracked.state = TransactionState::Lost(None);
                            }
                            Incident::Lost { node: lacks }
                        }
                    };
                self.hand_in_again(index, RESEND, incident);
            }
            TransactionStatus::Dropped { reason } => {
                let (is_new, reason) = (!matches!(tracked.state, TransactionState::Dropped { .. }), printable(&reason));
                if is_new {
                    tracked.state = TransactionState::Dropped { reason: reason.clone(), refused: None };
                }
                let incident = Incident::Dropped { node: node.address.clone(), reason };
                self.hand_in_again(index, if is_new { Duration::ZERO } else { RESEND }, incident);
            }
        }
        Ok(())
    }

    /// Hands a transaction in again, to whoever is there, if that was not done for so long; why is said once.
    fn hand_in_again(&mut self, index: usize, pause: Duration, why: Incident) {
        let tracked = &mut self.tracked[index];
        if tracked.resent.elapsed() < pause {
            return;
        }
        tracked.resent = Instant::now();
        if tracked.said.as_ref() != Some(&why) {
            *self.incidents.entry(why.clone()).or_default() += 1;
            tracked.said = Some(why);
        }
        let request = Request::Submit(self.submissions[index].clone());
        for connection in self.client.connections().to_vec() {
            self.resent.insert(self.client.send(connection.peer, &request), index);
        }
    }

    /// Takes note of what is said to a transaction that was handed in again.
    fn on_other(&mut self, reply: Reply) {
        let Some(index) = self.resent.remove(&reply.id) else { return };
        let Ok(Response::Submitted(SubmitReply::Refused { code, reason })) = reply.result else { return };
        if code == SubmitReply::BUSY {
            return;
        }
        let tracked = &mut self.tracked[index];
        tracked.refused.insert(reply.peer);
        match &mut tracked.state {
            TransactionState::Lost(refused) | TransactionState::Dropped { refused, .. } => {
                *refused = Some(printable(&reason))
            }
            TransactionState::Unanswered
            | TransactionState::Pending
            | TransactionState::Void(_)
            | TransactionState::Confirmed(_) => {}
        }
    }

    /// Waits, and takes note of what happens meanwhile.
    fn pause(&mut self, until: Instant) -> Result<(), ClientError> {
        while let Some(reply) = self.client.next_reply(until)? {
            self.on_other(reply);
        }
        Ok(())
    }
}
