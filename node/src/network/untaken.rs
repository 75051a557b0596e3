//! Responses that are made and that nobody has taken yet.
//!
//! They are counted from the moment that they are made: a response waits in queues of ours before the first byte of it is
//! written, and on a busy machine that is where hundreds of megabytes were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;

use super::MessageLimits;

/// Bytes of responses that are made and not taken. All clones are one count.
#[derive(Debug, Clone)]
pub(super) struct Untaken {
    sums: Arc<Mutex<Sums>>,
    of_peer: usize,
    of_all: usize,
}

#[derive(Debug, Default)]
struct Sums {
    /// Of peers that have any.
    peers: HashMap<PeerId, usize>,
    all: usize,
}

/// A response. One of our own counts as long as it is here.
#[derive(Debug)]
pub(crate) struct ResponseBytes {
    pub(super) data: Vec<u8>,
    counted: Option<(Untaken, PeerId)>,
}

impl Untaken {
    pub(super) fn new(limits: &MessageLimits) -> Self {
        Self { sums: Arc::default(), of_peer: limits.untaken_bytes, of_all: limits.all_untaken_bytes }
    }

    /// Counts a response to a peer; `None` if too much waits already. A peer gets one response whatever its size.
    pub(super) fn begin(&self, peer: PeerId, data: Vec<u8>) -> Option<ResponseBytes> {
        let mut sums = self.sums();
        let before = sums.peers.get(&peer).copied().unwrap_or(0);
        let (own, all) = (before.saturating_add(data.len()), sums.all.saturating_add(data.len()));
        if before > 0 && (own > self.of_peer || all > self.of_all) {
            return None;
        }
        sums.all = all;
        sums.peers.insert(peer, own);
        drop(sums);
        Some(ResponseBytes { data, counted: Some((self.clone(), peer)) })
    }

    /// Of all peers.
    pub(super) fn all(&self) -> usize {
        self.sums().all
    }

    /// Locked for a few sums only.
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResponseBytes {
    /// What a peer has answered.
    pub(super) fn received(data: Vec<u8>) -> Self {
        Self { data, counted: None }
    }

    pub(super) fn take(mut self) -> Vec<u8> {
        debug_assert!(self.counted.is_none(), "of an own one the bytes are counted until it is dropped");
        std::mem::take(&mut self.data)
    }
}

impl Drop for ResponseBytes {
    fn drop(&mut self) {
        let Some((untaken, peer)) = &self.counted else { return };
        let mut sums = untaken.sums();
        sums.all = sums.all.saturating_sub(self.data.len());
        let left = sums.peers.get(peer).copied().unwrap_or(0).saturating_sub(self.data.len());
        if left == 0 {
            sums.peers.remove(peer);
        } else {
            sums.peers.insert(*peer, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_bounded_from_the_moment_they_are_made() {
        let limits = MessageLimits { untaken_bytes: 200, all_untaken_bytes: 300, ..MessageLimits::default() };
        let untaken = Untaken::new(&limits);
        let [one, two, three] = [(); 3].map(|()| PeerId::random());
        let begin = |peer, bytes| untaken.begin(peer, vec![0; bytes]);
        let first = begin(one, 190).expect("there is room");
        assert!(begin(one, 11).is_none(), "beyond the peer's");
        let second = begin(two, 100).expect("there is room");
        assert!(begin(two, 50).is_none(), "beyond what there is for all");
        let third = begin(three, 1_000).expect("it has none yet");
        assert_eq!(untaken.all(), 1_290);
        drop((first, third));
        let more = begin(two, 50).expect("there is room again");
        assert_eq!(untaken.all(), 150);
        drop((second, more));
        assert_eq!((untaken.all(), untaken.sums().peers.len()), (0, 0), "nothing is left");
    }
}
