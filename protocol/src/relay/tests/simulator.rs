//! Nodes with real mempools on virtual time. Insertion order breaks ties.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use ed25519_dalek::{Signer as _, SigningKey};
use ocelli_consensus::network::Network;
use ocelli_consensus::object::{Account, ModelFacts, ModelRecord, Object, ObjectId, StateReader};
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, CheckedTransaction, ModelId, Transaction, Unsigned,
};

use super::*;
use crate::mempool::{AdmitError, Blame, Mempool, Readiness, Tip};
use crate::message::{Submission, take_attachments, take_pending};
use crate::origin::{Direction, Group};

/// Milliseconds that a message takes.
pub const LATENCY: u64 = 20;
/// Bytes of a small picture.
pub const SMALL: usize = 3_072;

/// How a node serves what it has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Honest,
    /// Announces, and never answers what is asked of it.
    Stalls,
    /// Is gone as soon as something is asked of it.
    Vanishes,
    /// Says that it has nothing.
    Lies,
    /// Sends attachments with one bit turned.
    WrongAttachment,
    /// Sends another transaction.
    WrongTransaction,
    /// Notes nothing of what is announced to it before this time.
    BusyUntil(u64),
    /// Drops what is announced to it before this time.
    DeafUntil(u64),
}

/// Whoever it is, the account can pay; and there is a model for pictures of each size.
struct Rich;

impl StateReader for Rich {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        let account = Account { nonce: 0, balance: Amount(u64::MAX / 2) };
        let record = |pixels: usize| {
            let facts =
                ModelFacts { size: 9, channels: 2, height: 2, width: (pixels / 4) as u16, classes: 10, cost: 0 };
            ModelRecord { author: Address([0; 20]), royalty: Amount(0), first: 0, facts }
        };
        Ok(match id {
            ObjectId::Account(_) => Some(account.into()),
            ObjectId::Model(model) => {
                let sizes = [16, SMALL, 100_000].into_iter();
                sizes.filter(|pixels| model_of(*pixels) == *model).map(|pixels| record(pixels).into()).next()
            }
            ObjectId::Upload(_) => None,
        })
    }
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| Network::builtin("local").expect("built in"));

fn model_of(pixels: usize) -> ModelId {
    ModelId::of(&pixels.to_le_bytes())
}

fn tip() -> Tip<'static, Rich> {
    Tip { network: &NETWORK, height: 0, time: 0, state: &Rich, now: 0 }
}

const GENESIS: BlockHash = BlockHash([7; 32]);

struct MempoolView<'a>(&'a Mempool);

impl Pool for MempoolView<'_> {
    fn mempool(&self) -> &Mempool {
        self.0
    }

    fn would_take(&self, transaction: &Transaction) -> FetchVerdict {
        match self.0.check(transaction, &tip()) {
            Ok(()) if transaction.verify_signatures(GENESIS).is_ok() => FetchVerdict::Take,
            Ok(()) => FetchVerdict::Refuse { holds: Holds::Forever, blame: Blame::Peer },
            Err(AdmitError::Refused(error)) => {
                FetchVerdict::Refuse { holds: error.holds(), blame: error.misbehaviour() }
            }
        }
    }
}

pub struct Node {
    pub relay: Relay<usize>,
    pub pool: Mempool,
    pub mode: Mode,
    pub peers: BTreeSet<usize>,
    wake_at: Option<u64>,
    /// Where others see it, and whether they say that they have dialled it.
    pub group: u64,
    pub direction: Direction,
    /// How often each transaction came, with its attachment.
    pub received: BTreeMap<ShortId, usize>,
    /// Bytes of messages that came, by request and response alike.
    pub bytes: usize,
    /// Ids in announcements that came.
    pub announced: usize,
    pub offences: Vec<(usize, Offence)>,
}

enum Event {
    Request { from: usize, to: usize, id: u64, request: Request },
    Response { from: usize, to: usize, id: u64, response: Response },
    Submit { at: usize, submission: Submission },
    Connect { a: usize, b: usize },
    Leave { a: usize, b: usize },
}

pub struct Simulator {
    pub nodes: Vec<Node>,
    pub now: u64,
    /// What the machines' time is when `now` is 0.
    pub start: u64,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
}

/// A task of a sender of its own.
pub fn task(seed: u64, pixels: usize) -> Submission {
    task_of(seed, 0, pixels)
}

/// A sender's task with a nonce.
pub fn task_of(seed: u64, nonce: u64, pixels: usize) -> Submission {
    let pixels: Arc<[u8]> = (0..pixels).map(|at| (at as u64 ^ seed) as u8).collect();
    let (model, picture, bytes) = (model_of(pixels.len()), AttachmentHash::of(&pixels), pixels.len() as u32);
    let action = Action::Classify { model, picture, bytes, royalty: Amount(0), form: Form::Pixels };
    let unsigned = Unsigned { nonce, fee: Amount(1_000_000), expires: 100, action };
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    let key = SigningKey::from_bytes(&secret);
    let public_key = key.verifying_key().to_bytes();
    let transaction = Transaction::sign(unsigned, public_key, GENESIS, |hash| key.sign(hash).to_bytes());
    Submission { transaction, attachment: Some(pixels) }
}

pub fn id_of(submission: &Submission) -> ShortId {
    ShortId::of(&submission.transaction.wtxid())
}

impl Simulator {
    pub fn new(modes: &[Mode]) -> Self {
        let node = |(at, &mode)| Node {
            relay: Relay::new([at as u8; 32]),
            pool: Mempool::default(),
            mode,
            peers: BTreeSet::new(),
            wake_at: None,
            group: at as u64,
            direction: Direction::Dialled,
            received: BTreeMap::new(),
            bytes: 0,
            announced: 0,
            offences: Vec::new(),
        };
        Self { nodes: modes.iter().enumerate().map(node).collect(), now: 0, start: 0, events: BTreeMap::new(), next: 0 }
    }

    /// All with all.
    pub fn mesh(modes: &[Mode]) -> Self {
        let mut simulator = Self::new(modes);
        for a in 0..modes.len() {
            for b in 0..a {
                simulator.connect(a, b, 0);
            }
        }
        simulator
    }

    pub fn connect(&mut self, a: usize, b: usize, at: u64) {
        self.push(at, Event::Connect { a, b });
    }

    pub fn leave(&mut self, a: usize, b: usize, at: u64) {
        self.push(at, Event::Leave { a, b });
    }

    pub fn submit(&mut self, at: usize, submission: Submission, time: u64) {
        self.push(time, Event::Submit { at, submission });
    }

    /// Whether a node has a transaction with its attachment.
    pub fn has(&self, at: usize, id: ShortId) -> bool {
        self.nodes[at].pool.get_by_short_id(id).is_some()
    }

    /// Runs until a time, or until nothing is left to happen.
    pub fn run(&mut self, until: u64) {
        loop {
            let event = self.events.first_key_value().map(|((time, _), _)| *time);
            let wakes = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((node.wake_at?, at)));
            let wake = wakes.min();
            match (event, wake) {
                (Some(time), wake) if time <= until && wake.is_none_or(|(at, _)| time <= at) => {
                    self.now = self.now.max(time);
                    let (_, event) = self.events.pop_first().expect("it was there");
                    self.happen(event);
                }
                (_, Some((time, at))) if time <= until => {
                    self.now = self.now.max(time);
                    self.nodes[at].wake_at = None;
                    self.drive(at, Input::Woken);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Connect { a, b } => {
                for (one, other) in [(a, b), (b, a)] {
                    self.nodes[one].peers.insert(other);
                    let origin =
                        Origin { direction: self.nodes[other].direction, group: Group(self.nodes[other].group) };
                    self.drive(one, Input::PeerConnected { peer: other, origin });
                }
            }
            Event::Leave { a, b } => self.disconnect(a, b),
            Event::Submit { at, submission } => self.take(at, submission),
            Event::Request { from, to, id, request } => self.on_request(from, to, id, request),
            Event::Response { from, to, id, response } => {
                if !self.nodes[to].peers.contains(&from) {
                    return;
                }
                self.nodes[to].bytes += response.to_bytes().len();
                if let Response::Pending(found) = &response {
                    for found in found.iter().flatten().filter(|found| found.attachment.is_some()) {
                        *self.nodes[to].received.entry(id_of(found)).or_default() += 1;
                    }
                }
                self.drive(to, Input::Response { peer: from, id, result: Ok(response) });
            }
        }
    }

    fn on_request(&mut self, from: usize, to: usize, id: u64, request: Request) {
        if !self.nodes[to].peers.contains(&from) {
            return;
        }
        self.nodes[to].bytes += request.to_bytes().len();
        let mode = self.nodes[to].mode;
        let response = match request {
            Request::Announce { ids } => {
                match mode {
                    Mode::DeafUntil(time) if self.now < time => return,
                    Mode::BusyUntil(time) if self.now < time => {
                        self.respond(to, from, id, Response::Announce { noted: 0 });
                        return;
                    }
                    _ => {}
                }
                self.nodes[to].announced += ids.len();
                let noted = self.drive(to, Input::Announced { peer: from, ids });
                Response::Announce { noted: noted.expect("every announcement is answered") }
            }
            Request::Pending { ids } => {
                let pool = &self.nodes[to].pool;
                let mut found = take_pending(ids.into_iter().map(|id| pool.to_relay(id)));
                match mode {
                    Mode::Stalls => return,
                    Mode::Vanishes => return self.disconnect(from, to),
                    Mode::Lies => found.iter_mut().for_each(|found| *found = None),
                    Mode::WrongAttachment => {
                        let attachments = found.iter_mut().flatten().filter_map(|found| found.attachment.as_mut());
                        attachments.for_each(|it| *it = it.iter().map(|byte| byte ^ 1).collect());
                    }
                    Mode::WrongTransaction => {
                        found.iter_mut().flatten().for_each(|found| found.transaction.signature = [9; 64]);
                    }
                    _ => {}
                }
                Response::Pending(found)
            }
            Request::Attachments { ids } => {
                let pool = &self.nodes[to].pool;
                let attachment = |id| pool.get_by_short_id(id)?.attachment().cloned();
                Response::Attachments(take_attachments(ids.into_iter().map(attachment)))
            }
            other => panic!("relay does not ask {other:?}"),
        };
        self.respond(to, from, id, response);
    }

    fn respond(&mut self, from: usize, to: usize, id: u64, response: Response) {
        self.push(self.now + LATENCY, Event::Response { from, to, id, response });
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        for (one, other) in [(a, b), (b, a)] {
            self.nodes[one].peers.remove(&other);
            self.drive(one, Input::PeerDisconnected(other));
        }
    }

    /// Puts a transaction into a node's mempool, as a submitter does, and as the node itself does with what came.
    fn take(&mut self, at: usize, submission: Submission) {
        let id = id_of(&submission);
        let Submission { transaction, attachment } = submission;
        let checked = CheckedTransaction::check(transaction, attachment, GENESIS);
        let taken = checked.map_err(|error| AdmitError::Refused(error.into()));
        let taken = taken.and_then(|checked| self.nodes[at].pool.insert(checked, &tip()));
        let decision = match taken.map(|inserted| inserted.readiness) {
            Ok(Readiness::Ready) => Decision::Forward,
            Ok(Readiness::Gap) => Decision::Keep,
            Err(AdmitError::Refused(error)) => Decision::Refuse(error.holds()),
        };
        self.drive(at, Input::Decided { id, decision });
    }

    /// Gives a node an input and does what it says. The answer to an announcement, if it was one.
    fn drive(&mut self, at: usize, input: Input<usize>) -> Option<u32> {
        let node = &mut self.nodes[at];
        let (mut noted, mut taken) = (None, Vec::new());
        for output in node.relay.handle(input, self.start + self.now, &MempoolView(&node.pool)) {
            match output {
                RelayAction::Send { peer, id, request } => {
                    self.push(self.now + LATENCY, Event::Request { from: at, to: peer, id, request });
                }
                RelayAction::Noted { count, .. } => noted = Some(count),
                RelayAction::Take { submission, .. } => taken.push(submission),
                RelayAction::CountInVain(_) => {}
                RelayAction::Penalize { peer, offence } => self.nodes[at].offences.push((peer, offence)),
                RelayAction::WakeAt(time) => self.nodes[at].wake_at = Some(time - self.start),
            }
        }
        taken.into_iter().for_each(|submission| self.take(at, submission));
        noted
    }
}
