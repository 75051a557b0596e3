//! Relay: transactions passed from node to node, each fetched once.
//!
//! Who has a transaction *announces* it by 8 bytes to every peer that has not announced it itself, many in one message
//! after a short random delay (as Bitcoin's `inv`; the delay spreads the load of a new transaction over those that have it,
//! and lets announcements that cross become rare). Who does not have it asks *one* announcer for the transaction and its
//! attachment, and another only if that one fails. Large ones do not come beside the transaction: it is checked first as far
//! as can be without them, and then they are asked for. What came is compared with its id and its attachment's hash here; the
//! rest is the mempool's, which decides whether to pass it on.
//!
//! A machine without I/O, as [`crate::sync`] is: [`Relay::handle`] takes what happened, the time in monotonic milliseconds and
//! a view of the mempool, and returns what is to be done. Peers are any ordered id.
//!
//! Who has brought what it was asked for is asked before who has not, and a newcomer begins with the failures of its address group
//! (`service`): to announce costs nothing, and a silent announcer holds up what nobody else is asked for meanwhile.
//!
//! Nothing is dropped in silence. A peer answers an announcement with the number of ids that it has noted, and is told the
//! rest again; one that fails to answer is told again after a pause; one that connects is told of everything that waits.
//! Each peer has one announcement and one fetch under way at a time, so a slow one gets few and long messages.

mod announce;
mod event;
mod fetch;
mod service;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ocelli_consensus::Transaction;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::Offence;
use crate::mempool::Holds;
use crate::message::{Request, Response, ShortId};
use crate::origin::{Groups, Origin};
use crate::sync::Failure;
use service::Service;

pub use event::{Decision, FetchVerdict, Input, Pool, RelayAction};

/// Milliseconds from having something to announce to a peer until it is announced, at most; at random, half of it on
/// average. A first choice: Bitcoin takes seconds, for the sender's privacy too.
pub const ANNOUNCE_DELAY: u64 = 500;
/// Milliseconds after which a peer that could not note everything is told the rest.
pub const BUSY_PAUSE: u64 = 1_000;
/// Milliseconds that a peer has to note an announcement.
pub const ANNOUNCE_TIMEOUT: u64 = 10_000;
/// Milliseconds that a peer has for what is fetched, at least; four times what it took before if that is more.
pub const FETCH_TIMEOUT: u64 = 3_000;
/// The most that this becomes, by slow answers and by doubling after each time-out.
pub const MAX_FETCH_TIMEOUT: u64 = 20_000;
/// Milliseconds of rest after the first failure; doubled with each further one in a row.
pub const FIRST_REST: u64 = 1_000;
/// Milliseconds of rest after many failures.
pub const MAX_REST: u64 = 60_000;
/// Transactions asked for at once: 200 kB of pictures of 32x32.
pub const MAX_FETCH: usize = 64;
/// Transactions that one peer has announced, and that are neither here nor given up.
pub const MAX_NOTED: usize = 1_024;
/// How long a peer that has announced as many as are noted waits until room is looked for again.
pub const TIDY_PAUSE: u64 = 1_000;
/// Announcements under way in all.
pub const MAX_ANNOUNCEMENTS: usize = 48;
/// Fetches under way in all.
pub const MAX_FETCHES: usize = 24;
/// Transactions that wait to be announced to one peer. When there are more, it is told of the whole mempool once more.
pub const MAX_QUEUE: usize = 4_096;
/// Peers that take part; further ones are neither told nor asked.
pub const MAX_RELAY_PEERS: usize = 128;
/// Of these, only such as we dialled.
pub const KEPT_RELAY_PEERS: usize = 16;
/// Transactions asked for at once of a peer that has brought none yet: so many it can keep from us for a while.
pub const TRIAL_FETCH: usize = 8;
/// Milliseconds that such a peer has for them.
pub const TRIAL_TIMEOUT: u64 = 1_000;
/// Refused transactions that are remembered, of each duration, and confirmed ones.
pub const MAX_REMEMBERED: usize = 16_384;

/// The relay machine; `P` names a peer. Its time is monotonic milliseconds since any start, never the wall clock.
#[derive(Debug)]
pub struct Relay<P> {
    peers: BTreeMap<P, Peer>,
    /// How many peers have connected.
    connected: u64,
    /// What peers of each address group have failed in.
    groups: Groups,
    /// Announced and not here.
    wanted: BTreeMap<ShortId, Wanted<P>>,
    refused: Refused,
    /// In the chain.
    confirmed: Remembered,
    /// On their way with blocks: not fetched meanwhile.
    in_blocks: BTreeSet<ShortId>,
    random: ChaCha8Rng,
    next_id: u64,
    wake_at: Option<u64>,
}

/// What is known of a peer.
#[derive(Debug)]
struct Peer {
    service: Service,
    /// To be announced to it.
    queue: BTreeSet<ShortId>,
    /// It is being told of all that is in the mempool, in the order of ids, from this one on. So from its connection on,
    /// and again when the queue was full.
    sweep: Option<ShortId>,
    /// When the queue is announced.
    announce_at: Option<u64>,
    announcement: Option<UnderWay>,
    /// Failed announcements in a row.
    unheard: u32,
    /// Announced by it and wanted, in order; those that came from others or are given up may still be here.
    noted: VecDeque<ShortId>,
    /// When what is in there is looked through again to make room: it costs as much as a thousand announcements.
    tidy_at: u64,
    fetch: Option<UnderWay>,
    /// Nothing that it has announced can be asked of it, until something of that changes: not to be looked through at each input.
    is_barren: bool,
}

impl Peer {
    fn new(origin: Origin, number: u64) -> Self {
        Self {
            service: Service::new(origin, number),
            queue: BTreeSet::new(),
            sweep: None,
            announce_at: None,
            announcement: None,
            unheard: 0,
            noted: VecDeque::new(),
            tidy_at: 0,
            fetch: None,
            is_barren: false,
        }
    }
}

/// A request under way.
#[derive(Debug)]
struct UnderWay {
    id: u64,
    ids: Vec<ShortId>,
    kind: Kind,
    since: u64,
    deadline: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Announcement,
    Transactions,
    Attachments,
}

/// A transaction that is announced and not here.
#[derive(Debug)]
struct Wanted<P> {
    announcers: BTreeSet<P>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing of it is here, and nobody is asked.
    Open,
    /// The transaction is here, its attachment is not, and nobody is asked.
    WithoutAttachment(Box<Transaction>),
    /// Somebody is asked; the transaction, if it is here.
    Asked(Option<Box<Transaction>>),
    /// The mempool has it before itself.
    Handed,
}

impl<P: Copy + Ord> Relay<P> {
    /// A machine without peers. `seed` is random.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            peers: BTreeMap::new(),
            connected: 0,
            groups: Groups::default(),
            wanted: BTreeMap::new(),
            refused: Refused::default(),
            confirmed: Remembered::default(),
            in_blocks: BTreeSet::new(),
            random: ChaCha8Rng::from_seed(seed),
            next_id: 0,
            wake_at: None,
        }
    }

    /// Transactions that are announced and not here.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Treats one input at `now` (monotonic milliseconds since any start, never less than before). All outputs must be carried out, as far as the
    /// pool shows them, before the next input.
    pub fn handle(&mut self, input: Input<P>, now: u64, pool: &impl Pool) -> Vec<RelayAction<P>> {
        let mut out = Vec::new();
        match input {
            Input::PeerConnected { peer, origin } => self.on_connected(peer, origin),
            Input::PeerDisconnected(peer) => self.on_disconnected(peer, now),
            Input::Announced { peer, ids } => self.on_announced(peer, &ids, now, pool, &mut out),
            Input::Response { peer, id, result } => self.on_response(peer, id, result, now, pool, &mut out),
            Input::Decided { id, decision } => self.on_decided(id, decision),
            Input::TipMoved { included, returned, disconnected } => {
                self.on_tip_moved(included, &returned, disconnected)
            }
            Input::InBlocks(ids) => {
                self.in_blocks = ids;
                self.peers.values_mut().for_each(|peer| peer.is_barren = false);
            }
            Input::Woken => self.wake_at = None,
        }
        self.poll_deadlines(now, &mut out);
        self.poll_announcements(now, pool, &mut out);
        self.poll_fetches(now, pool, &mut out);
        self.poll_wake(now, &mut out);
        #[cfg(test)]
        self.check_invariants();
        out
    }

    fn on_connected(&mut self, id: P, origin: Origin) {
        let room = MAX_RELAY_PEERS - if origin.is_dialled() { 0 } else { KEPT_RELAY_PEERS };
        if self.peers.len() < room || self.peers.contains_key(&id) {
            self.connected += 1;
            let number = self.connected;
            self.peers.entry(id).or_insert_with(|| Peer::new(origin, number)).sweep = Some(ShortId::LOWEST);
        }
    }

    fn on_disconnected(&mut self, id: P, now: u64) {
        let Some(peer) = self.peers.remove(&id) else { return };
        if let Some(fetch) = peer.fetch {
            // It leaves without having answered anything.
            if !peer.service.is_proven() {
                self.groups.entry(peer.service.origin, now).add_with_rest(now);
            }
            self.end(&fetch.ids);
        }
        for noted in &peer.noted {
            self.forget_announcer(*noted, id);
        }
    }

    fn on_response(
        &mut self,
        peer: P,
        id: u64,
        result: Result<Response, Failure>,
        now: u64,
        pool: &impl Pool,
        out: &mut Vec<RelayAction<P>>,
    ) {
        // One that comes after its time-out, or from another than was asked, answers nothing.
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if let Some(announcement) = state.announcement.take_if(|sent| sent.id == id) {
            return self.on_announcement_answered(peer, announcement, result, now, out);
        }
        if let Some(fetch) = state.fetch.take_if(|sent| sent.id == id) {
            self.on_fetched(peer, fetch, result, now, pool, out);
        }
    }

    fn on_decided(&mut self, id: ShortId, decision: Decision) {
        let announcers = self.wanted.remove(&id).map(|wanted| wanted.announcers).unwrap_or_default();
        match decision {
            Decision::Forward => {
                let strangers = self.peers.iter_mut().filter(|(peer, _)| !announcers.contains(peer));
                strangers.for_each(|(_, peer)| peer.enqueue(id));
            }
            Decision::Keep => {}
            Decision::Refuse(holds) => self.refused.insert(id, holds),
        }
    }

    fn on_tip_moved(&mut self, included: Vec<ShortId>, returned: &[ShortId], disconnected: usize) {
        self.refused.on_tip_moved(disconnected);
        for id in returned {
            self.confirmed.remove(id);
        }
        for id in included {
            self.confirmed.insert(id);
        }
    }

    /// Whether a transaction need not be fetched.
    fn is_known(&self, id: ShortId, pool: &impl Pool) -> bool {
        pool.has(id) || self.refused.contains(&id) || self.confirmed.contains(&id)
    }

    /// Ends what has taken too long.
    fn poll_deadlines(&mut self, now: u64, out: &mut Vec<RelayAction<P>>) {
        let is_due = |sent: &mut UnderWay| sent.deadline <= now;
        let mut late = Vec::new();
        for (id, peer) in &mut self.peers {
            if let Some(sent) = peer.announcement.take_if(is_due) {
                late.push((*id, sent));
            }
            if let Some(sent) = peer.fetch.take_if(is_due) {
                peer.service.on_timeout();
                late.push((*id, sent));
            }
        }
        for (id, sent) in late {
            match sent.kind {
                Kind::Announcement => self.on_unheard(id, sent.ids, now),
                Kind::Transactions | Kind::Attachments => {
                    self.end(&sent.ids);
                    self.fail(id, Some(Offence::Stalled), now, out);
                }
            }
        }
    }

    fn poll_wake(&mut self, now: u64, out: &mut Vec<RelayAction<P>>) {
        let times = self.peers.values().flat_map(|peer| {
            let requests = [peer.announcement.as_ref(), peer.fetch.as_ref()];
            let deadlines = requests.into_iter().flatten().map(|sent| sent.deadline);
            let announcing = peer.announce_at.filter(|_| peer.announcement.is_none());
            let rests_until = peer.service.rests_until(&self.groups);
            let resting = (rests_until > now && !peer.noted.is_empty()).then_some(rests_until);
            deadlines.chain(announcing).chain(resting)
        });
        // What is overdue waits for another request's end, and is looked at then.
        let Some(at) = times.filter(|at| *at > now).min() else { return };
        if self.wake_at.is_none_or(|set| at != set) {
            self.wake_at = Some(at);
            out.push(RelayAction::WakeAt(at));
        }
    }

    fn send(&mut self, peer: P, kind: Kind, ids: Vec<ShortId>, now: u64, out: &mut Vec<RelayAction<P>>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let (id, list) = (self.next_id, ids.clone());
        self.next_id += 1;
        let (request, place, time) = match kind {
            Kind::Announcement => (Request::Announce { ids: list }, &mut state.announcement, ANNOUNCE_TIMEOUT),
            Kind::Transactions => (Request::Pending { ids: list }, &mut state.fetch, state.service.fetch_time(kind)),
            Kind::Attachments => (Request::Attachments { ids: list }, &mut state.fetch, state.service.fetch_time(kind)),
        };
        *place = Some(UnderWay { id, ids, kind, since: now, deadline: now + time });
        out.push(RelayAction::Send { peer, id, request });
    }

    /// What must hold between inputs.
    #[cfg(test)]
    fn check_invariants(&self) {
        assert!(self.peers.len() <= MAX_RELAY_PEERS);
        assert!(self.peers.values().filter(|peer| peer.announcement.is_some()).count() <= MAX_ANNOUNCEMENTS);
        assert!(self.peers.values().filter(|peer| peer.fetch.is_some()).count() <= MAX_FETCHES);
        let mut fetched = BTreeSet::new();
        for peer in self.peers.values() {
            assert!(peer.queue.len() <= MAX_QUEUE && peer.noted.len() <= MAX_NOTED);
            for id in peer.fetch.iter().flat_map(|fetch| &fetch.ids) {
                assert!(fetched.insert(*id), "each is asked of one peer");
            }
        }
        for (id, wanted) in &self.wanted {
            assert!(wanted.announcers.iter().all(|peer| self.peers.contains_key(peer)));
            match wanted.stage {
                Stage::Open | Stage::WithoutAttachment(_) => {
                    assert!(!wanted.announcers.is_empty(), "somebody can be asked")
                }
                Stage::Asked(_) => assert!(fetched.contains(id), "somebody is asked"),
                Stage::Handed => {}
            }
        }
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.is_barren) {
            let open = |noted: &ShortId| {
                self.wanted.get(noted).is_some_and(|wanted| {
                    wanted.announcers.contains(id)
                        && !self.in_blocks.contains(noted)
                        && matches!(wanted.stage, Stage::Open | Stage::WithoutAttachment(_))
                })
            };
            assert!(!peer.noted.iter().any(open), "what can be asked for is not overlooked");
        }
        let Refused { at_tip, on_branch, forever } = &self.refused;
        for remembered in [at_tip, on_branch, forever, &self.confirmed] {
            assert!(remembered.ids.len() == remembered.order.len() && remembered.ids.len() <= MAX_REMEMBERED);
        }
    }
}

/// Milliseconds of rest after so many failures in a row.
fn rest(failures: u32) -> u64 {
    FIRST_REST.checked_shl(failures.saturating_sub(1)).unwrap_or(MAX_REST).min(MAX_REST)
}

/// Refused transactions, by how long that holds.
#[derive(Debug, Default)]
struct Refused {
    at_tip: Remembered,
    on_branch: Remembered,
    forever: Remembered,
}

impl Refused {
    fn contains(&self, id: &ShortId) -> bool {
        [&self.at_tip, &self.on_branch, &self.forever].into_iter().any(|refused| refused.contains(id))
    }

    fn insert(&mut self, id: ShortId, holds: Holds) {
        match holds {
            Holds::Not => {}
            Holds::Tip => self.at_tip.insert(id),
            Holds::Branch => self.on_branch.insert(id),
            Holds::Forever => self.forever.insert(id),
        }
    }

    /// The tip has moved, by way of so many blocks that were taken back.
    fn on_tip_moved(&mut self, disconnected: usize) {
        self.at_tip.clear();
        if disconnected > 0 {
            self.on_branch.clear();
        }
    }
}

/// The latest ids of a kind.
#[derive(Debug, Default)]
struct Remembered {
    ids: BTreeSet<ShortId>,
    order: VecDeque<ShortId>,
}

impl Remembered {
    fn contains(&self, id: &ShortId) -> bool {
        self.ids.contains(id)
    }

    fn insert(&mut self, id: ShortId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &ShortId) {
        if self.ids.remove(id) {
            self.order.retain(|other| other != id);
        }
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests;
