//! What each misbehaviour costs, and the points that add up and fade with time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// What an honest peer would not have done. Invalid gossip costs its forwarder score in gossipsub besides, with the square
/// of how often: see `behaviour.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misbehaviour {
    /// Bytes that are no message, in gossip, a request or a response.
    Malformed,
    /// A message larger than its kind may be.
    Oversize,
    /// A request that ends in its middle, or does not come in time once its stream is open.
    Torn,
    /// It does not take the response that it has asked for.
    Untaken,
    /// It says that it is of another network, on this network's protocol.
    OtherNetwork,
    /// A header or announcement that breaks a rule which every forwarder checks, or a response that does not fit its
    /// request.
    BrokenRule,
    /// Data that is not what it was sent for: a block's, a transaction, an image.
    NotTheBlock,
    /// A transaction that breaks a rule which every forwarder checks.
    BadTransaction,
    /// Headers that lead nowhere: unconnected, or without the work that they promised.
    UselessHeaders,
    /// More than a peer may ask for or send.
    Flood,
    /// No answer where one was due. It may only be slow.
    Stalled,
    /// Not there what it has announced. It may be gone since.
    Unserved,
}

impl Misbehaviour {
    /// The table: what it costs. At [`BanLimits::points`](super::BanLimits::points), 100 unless set otherwise, a peer is
    /// banned; a point is forgiven every six seconds.
    pub const fn points(self) -> u32 {
        match self {
            // No honest program does it, not once.
            Self::Malformed | Self::OtherNetwork | Self::BrokenRule | Self::NotTheBlock => 100,
            // Limits and rules for the mempool may differ between versions: the second time is one too many.
            Self::Oversize | Self::BadTransaction | Self::UselessHeaders => 50,
            // Honest peers come near to it on a bad day.
            Self::Flood | Self::Torn | Self::Untaken => 10,
            Self::Stalled => 5,
            Self::Unserved => 2,
        }
    }

    /// What it is, for logs and the list of bans.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Malformed => "bytes that are no message",
            Self::Oversize => "a message that is too large",
            Self::Torn => "requests that do not come whole",
            Self::Untaken => "responses that it does not take",
            Self::OtherNetwork => "another genesis than this network's",
            Self::BrokenRule => "a block or response that breaks a rule",
            Self::NotTheBlock => "data of something else",
            Self::BadTransaction => "invalid transactions",
            Self::UselessHeaders => "headers without work or connection",
            Self::Flood => "a flood of messages",
            Self::Stalled => "no answers",
            Self::Unserved => "announcements of what it does not have",
        }
    }
}

/// One point is forgiven in this time: 100 points take ten minutes. A guess.
const FORGIVE_ONE: Duration = Duration::from_secs(6);

/// Peers with points that are remembered, connected or not.
const MAX_PEERS: usize = 1024;

/// The points of each peer that has any.
#[derive(Default)]
pub(super) struct Penalties {
    peers: HashMap<PeerId, (u32, Instant)>,
}

impl Penalties {
    /// Adds points and returns the sum.
    pub(super) fn add(&mut self, peer: PeerId, points: u32, now: Instant) -> u32 {
        let sum = self.points(&peer, now).saturating_add(points);
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            self.forget_faded(now);
            if let Some(least) = self.peers.iter().min_by_key(|(_, (points, _))| *points).map(|(peer, _)| *peer)
                && self.peers.len() >= MAX_PEERS
            {
                self.peers.remove(&least);
            }
        }
        self.peers.insert(peer, (sum, now));
        sum
    }

    /// The points that are left.
    pub(super) fn points(&self, peer: &PeerId, now: Instant) -> u32 {
        self.peers.get(peer).map_or(0, |&(points, since)| left(points, since, now))
    }

    /// Drops those with no points left.
    pub(super) fn forget_faded(&mut self, now: Instant) {
        self.peers.retain(|_, &mut (points, since)| left(points, since, now) > 0);
    }

    /// Forgives a peer everything.
    pub(super) fn clear(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }
}

fn left(points: u32, since: Instant, now: Instant) -> u32 {
    let forgiven = now.saturating_duration_since(since).as_secs() / FORGIVE_ONE.as_secs();
    points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_does_by_mistake_bans_at_once() {
        let at_once = |one: &Misbehaviour| one.points() >= 100;
        let all = [
            Misbehaviour::Malformed,
            Misbehaviour::OtherNetwork,
            Misbehaviour::BrokenRule,
            Misbehaviour::NotTheBlock,
            Misbehaviour::Oversize,
            Misbehaviour::BadTransaction,
            Misbehaviour::UselessHeaders,
            Misbehaviour::Flood,
            Misbehaviour::Torn,
            Misbehaviour::Untaken,
            Misbehaviour::Stalled,
            Misbehaviour::Unserved,
        ];
        assert_eq!(all.iter().take_while(|one| at_once(one)).count(), 4);
        assert!(!all[4..].iter().any(at_once));
        assert!(all.iter().all(|one| one.points() > 0 && !one.what().is_empty()));
    }

    #[test]
    fn points_add_up_and_fade() {
        let (peer, other, start) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut penalties = Penalties::default();
        assert_eq!(penalties.add(peer, 10, start), 10);
        assert_eq!(penalties.add(peer, 10, start + FORGIVE_ONE * 3), 17);
        assert_eq!(penalties.points(&peer, start + FORGIVE_ONE * 19), 1);
        assert_eq!(penalties.points(&other, start), 0);
        assert_eq!(penalties.add(peer, u32::MAX, start + FORGIVE_ONE * 4), u32::MAX);
        penalties.add(other, 1, start);
        penalties.forget_faded(start + FORGIVE_ONE * 5);
        assert_eq!(penalties.peers.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_kept() {
        let (worst, now) = (PeerId::random(), Instant::now());
        let mut penalties = Penalties::default();
        penalties.add(worst, 50, now);
        for _ in 0..2 * MAX_PEERS {
            penalties.add(PeerId::random(), 1, now);
        }
        assert_eq!(penalties.peers.len(), MAX_PEERS);
        assert_eq!(penalties.points(&worst, now), 50);
    }
}
