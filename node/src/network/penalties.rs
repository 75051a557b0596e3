//! Points for misbehaviour, which fade with time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

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
