//! Handing transactions to several nodes at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ocelli_consensus::block::Classes;
use ocelli_consensus::{BlockHash, Transaction};
use ocelli_protocol::message::{Request, Response, SignedAnswer, Submission, SubmitReply};

use super::{Client, ClientError, Connection, printable};
use crate::network::{Peer, RequestId};

/// How long nodes may be silent before we go on without them: they have to run the model first.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a transaction is handed in again where nodes are only busy, and how long after each time: the file of a model is checked
/// in some seconds.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Submissions under way with one node. Nodes keep at most 64 nonces that come before their turn, and requests may
/// overtake each other; so fewer.
const WINDOW: usize = 8;

/// What a node said to one submission, and when.
#[derive(Debug)]
pub struct NodeReply {
    pub peer: Peer,
    /// The multiaddr at which it was reached.
    pub address: String,
    /// When it was asked.
    pub sent: Instant,
    /// When it answered, or when we gave up.
    pub received: Instant,
    /// What it said.
    pub outcome: SubmitOutcome,
}

/// What a node said to one submission.
#[derive(Debug)]
pub enum SubmitOutcome {
    /// It answers, and its signature is right.
    Answered(Classes),
    /// It takes the transaction, without an answer.
    Taken,
    /// It does not take the transaction: why.
    Refused(String),
    /// It does not take it now: why. It may later.
    Busy(String),
    /// Its answer is not signed by itself: why.
    NotSigned(String),
    /// It says nothing of use.
    Silent(ClientError),
}

impl SubmitOutcome {
    /// Why the node was of no use, for people; `None` if it was.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Answered(_) | Self::Taken => None,
            Self::Refused(reason) | Self::Busy(reason) | Self::NotSigned(reason) => Some(reason.clone()),
            Self::Silent(error) => Some(match std::error::Error::source(error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            }),
        }
    }
}

impl Client {
    /// Hands every submission to the nodes that are to have them, in order, and waits for what they say. Each answer is checked:
    /// the signature, and that it is the node's own. `told` hears of each reply: which submission, and what was said.
    ///
    /// # Errors
    /// When no node is connected any more.
    pub fn submit(
        &mut self,
        submissions: &[Submission],
        mut told: impl FnMut(usize, &NodeReply),
    ) -> Result<Vec<Vec<NodeReply>>, ClientError> {
        let nodes = self.receivers();
        if nodes.is_empty() {
            return Err(ClientError::Alone);
        }
        let genesis = self.network().genesis_hash();
        let requests: Vec<_> = submissions.iter().cloned().map(Request::Submit).collect();
        let mut replies: Vec<Vec<NodeReply>> = submissions.iter().map(|_| Vec::new()).collect();
        let mut next = vec![0; nodes.len()];
        let mut under_way: HashMap<RequestId, UnderWay> = HashMap::new();
        for _ in 0..WINDOW.min(requests.len()) {
            for node in 0..nodes.len() {
                self.send_next(&requests, &nodes, node, &mut next, &mut under_way);
            }
        }
        while !under_way.is_empty() {
            let Some(reply) = self.next_reply(Instant::now() + SUBMIT_TIMEOUT)? else { break };
            let Some(UnderWay { node, which, sent }) = under_way.remove(&reply.id) else { continue };
            let outcome = outcome(&submissions[which].transaction, genesis, reply.peer, reply.result);
            let Connection { peer, address, .. } = nodes[node].clone();
            let reply = NodeReply { peer, address, sent, received: reply.received, outcome };
            told(which, &reply);
            replies[which].push(reply);
            self.send_next(&requests, &nodes, node, &mut next, &mut under_way);
        }
        for UnderWay { node, which, sent } in under_way.into_values() {
            let Connection { peer, address, .. } = nodes[node].clone();
            let seconds = SUBMIT_TIMEOUT.as_secs();
            let outcome = SubmitOutcome::Silent(ClientError::TimedOut { address: address.clone(), seconds });
            replies[which].push(NodeReply { peer, address, sent, received: Instant::now(), outcome });
        }
        Ok(replies)
    }

    /// Hands in one transaction; again, for a while, where no node takes it and some are only busy.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when not one node takes it, with what each says.
    pub fn hand_in(&mut self, submission: &Submission) -> Result<(), ClientError> {
        let deadline = Instant::now() + BUSY_PATIENCE;
        loop {
            let replies = self.submit(std::slice::from_ref(submission), |_, _| {})?;
            let verdicts = || replies.iter().flatten().map(|reply| &reply.outcome);
            let Some(reasons) = verdicts().map(SubmitOutcome::problem).collect::<Option<Vec<_>>>() else {
                return Ok(());
            };
            let is_busy = verdicts().any(|outcome| matches!(outcome, SubmitOutcome::Busy(_)));
            if !is_busy || Instant::now() >= deadline {
                return Err(ClientError::Refused { reasons });
            }
            self.pause(Instant::now() + BUSY_PAUSE)?;
        }
    }

    fn send_next(
        &mut self,
        requests: &[Request],
        nodes: &[Connection],
        node: usize,
        next: &mut [usize],
        under_way: &mut HashMap<RequestId, UnderWay>,
    ) {
        let which = next[node];
        let Some(request) = requests.get(which) else { return };
        next[node] += 1;
        let id = self.send(nodes[node].peer, request);
        under_way.insert(id, UnderWay { node, which, sent: Instant::now() });
    }
}

/// A submission that a node has not answered yet.
struct UnderWay {
    node: usize,
    which: usize,
    sent: Instant,
}

/// What the reply to a submission says, its signature checked.
pub fn outcome(
    transaction: &Transaction,
    genesis: BlockHash,
    peer: Peer,
    result: Result<Response, ClientError>,
) -> SubmitOutcome {
    let reply = match result {
        Ok(Response::Submitted(reply)) => reply,
        Ok(Response::Failed { reason }) => return SubmitOutcome::Refused(printable(&reason)),
        Ok(_) => return SubmitOutcome::Refused("the node answers another question".into()),
        Err(error) => return SubmitOutcome::Silent(error),
    };
    let answer = match reply {
        SubmitReply::Refused { code: SubmitReply::BUSY, reason } => return SubmitOutcome::Busy(printable(&reason)),
        SubmitReply::Refused { reason, .. } => return SubmitOutcome::Refused(printable(&reason)),
        SubmitReply::Accepted { answer } => answer,
    };
    let (Some(answer), Some(task)) = (answer, transaction.task()) else { return SubmitOutcome::Taken };
    match check(&answer, peer, || answer.verify(genesis, transaction.txid(), &task)) {
        Ok(()) => SubmitOutcome::Answered(answer.answer),
        Err(reason) => SubmitOutcome::NotSigned(reason),
    }
}

/// An answer counts for the node that gives it only if that node's own key has signed it.
fn check<E: std::fmt::Display>(
    answer: &SignedAnswer,
    peer: Peer,
    verify: impl FnOnce() -> Result<(), E>,
) -> Result<(), String> {
    if Peer::of(&answer.public_key) != Some(peer) {
        return Err("its answer is signed with another key than the node's".into());
    }
    verify().map_err(|error| format!("its answer has a wrong signature: {error}"))
}
