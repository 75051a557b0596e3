//! Waiting until transactions are in blocks.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Output;
use ocelli_consensus::{BlockHash, TxId};
use ocelli_protocol::message::{Confirmation, Request, Response, Submission, SubmitReply, TransactionStatus};

use super::{Client, ClientError, Reply, printable};
use crate::network::RequestId;

/// Between two rounds of asking.
const POLL: Duration = Duration::from_millis(500);
/// How long a node may take for one round before another is asked.
const ROUND: Duration = Duration::from_secs(5);
/// Between two times that a lost transaction is handed in again.
const RESEND: Duration = Duration::from_secs(5);

/// Where a transaction is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The block.
    pub block: BlockHash,
    /// Its height.
    pub height: u64,
    /// Blocks from it to the tip, itself counted.
    pub confirmations: u64,
    /// What the block holds as the transaction's output.
    pub output: Output,
}

/// A transaction that is waited for.
#[derive(Debug)]
pub struct Tracked {
    /// Which.
    pub txid: TxId,
    /// What is known of it.
    pub state: State,
    resent: Instant,
}

/// What is known of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No node has said anything yet.
    Unanswered,
    /// The node does not know it; it was handed in again. What was said to that, if it was refused.
    Lost(Option<String>),
    /// It is in the mempool.
    Pending,
    /// It is in a block.
    Confirmed(Confirmed),
}

impl State {
    /// The confirmation, if there is one.
    pub fn confirmed(&self) -> Option<&Confirmed> {
        match self {
            Self::Confirmed(confirmed) => Some(confirmed),
            _ => None,
        }
    }

    /// Whether it has that many confirmations.
    pub fn is_deep(&self, depth: u64) -> bool {
        self.confirmed().is_some_and(|confirmed| confirmed.confirmations >= depth)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("no node has answered"),
            Self::Lost(None) => f.write_str("lost, and handed in again"),
            Self::Lost(Some(reason)) => write!(f, "lost, and refused when handed in again: {reason}"),
            Self::Pending => f.write_str("in no block yet"),
            Self::Confirmed(confirmed) => {
                write!(f, "in block {} with {} confirmations", confirmed.height, confirmed.confirmations)
            }
        }
    }
}

impl Client {
    /// Asks until every transaction has `depth` confirmations, at most for `time`; hands in again what nodes have lost.
    /// `told` hears of the state after each round.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn wait(
        &mut self,
        submissions: &[Submission],
        depth: u64,
        time: Duration,
        mut told: impl FnMut(&[Tracked]),
    ) -> Result<Vec<Tracked>, ClientError> {
        let start = Instant::now();
        let deadline = start + time;
        let tracked = submissions
            .iter()
            .map(|submission| Tracked { txid: submission.transaction.txid(), state: State::Unanswered, resent: start })
            .collect();
        let mut waiting = Waiting { client: self, submissions, depth, tracked, resent: HashMap::new() };
        // Which of the nodes is asked: another one once it fails.
        let mut turn = 0;
        loop {
            if !waiting.ask(turn, (Instant::now() + ROUND).min(deadline))? {
                turn += 1;
            }
            told(&waiting.tracked);
            if waiting.tracked.iter().all(|tracked| tracked.state.is_deep(depth)) || Instant::now() >= deadline {
                return Ok(waiting.tracked);
            }
            waiting.pause((Instant::now() + POLL).min(deadline))?;
        }
    }
}

struct Waiting<'a> {
    client: &'a mut Client,
    submissions: &'a [Submission],
    depth: u64,
    tracked: Vec<Tracked>,
    /// What was handed in again and not answered yet: which submission.
    resent: HashMap<RequestId, usize>,
}

impl Waiting<'_> {
    /// Asks one node for everything that is not deep enough; whether it answered all.
    fn ask(&mut self, turn: usize, deadline: Instant) -> Result<bool, ClientError> {
        let nodes = self.client.connections();
        let Some(node) = nodes.get(turn.checked_rem(nodes.len()).unwrap_or(0)).map(|node| node.peer) else {
            return Ok(false);
        };
        let mut questions = HashMap::new();
        for (index, tracked) in self.tracked.iter().enumerate() {
            if !tracked.state.is_deep(self.depth) {
                questions.insert(self.client.send(node, &Request::Transaction { txid: tracked.txid }), index);
            }
        }
        let mut answered_all = true;
        while !questions.is_empty() {
            let Some(reply) = self.client.next_reply(deadline)? else { return Ok(false) };
            match questions.remove(&reply.id) {
                Some(index) => answered_all &= self.on_status(index, reply.result),
                None => self.on_other(reply),
            }
        }
        Ok(answered_all)
    }

    /// Takes note of what a node knows of a transaction; whether that was an answer.
    fn on_status(&mut self, index: usize, result: Result<Response, ClientError>) -> bool {
        let tracked = &mut self.tracked[index];
        match result {
            Ok(Response::Transaction(TransactionStatus::Pending)) => tracked.state = State::Pending,
            Ok(Response::Transaction(TransactionStatus::Confirmed(confirmation)))
                if confirmation.submission.transaction.txid() == tracked.txid =>
            {
                tracked.state = State::Confirmed(confirmed(*confirmation));
            }
            Ok(Response::Transaction(TransactionStatus::Unknown)) => {
                if !matches!(tracked.state, State::Lost(_)) {
                    tracked.state = State::Lost(None);
                }
                if tracked.resent.elapsed() >= RESEND {
                    tracked.resent = Instant::now();
                    let request = Request::Submit(self.submissions[index].clone());
                    for connection in self.client.connections().to_vec() {
                        self.resent.insert(self.client.send(connection.peer, &request), index);
                    }
                }
            }
            Ok(_) | Err(_) => return false,
        }
        true
    }

    /// Takes note of what is said to a transaction that was handed in again.
    fn on_other(&mut self, reply: Reply) {
        let Some(index) = self.resent.remove(&reply.id) else { return };
        if let (Ok(Response::Submitted(SubmitReply::Refused { reason, .. })), State::Lost(_)) =
            (reply.result, &self.tracked[index].state)
        {
            self.tracked[index].state = State::Lost(Some(printable(&reason)));
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

fn confirmed(confirmation: Confirmation) -> Confirmed {
    let height = confirmation.header.height;
    Confirmed {
        block: confirmation.header.hash(),
        height,
        confirmations: confirmation.confirmations(),
        output: confirmation.output,
    }
}
