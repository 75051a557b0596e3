//! Own requests under way: each has exactly one end.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use libp2p::PeerId;

use super::RequestId;

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outstanding {
    pub(super) id: RequestId,
    pub(super) peer: PeerId,
    /// When it is given up, if the streams' own time-out has missed it.
    pub(super) deadline: Instant,
}

/// Requests by what libp2p calls them.
pub(super) struct Asked<K> {
    requests: HashMap<K, Outstanding>,
    limit: usize,
}

impl<K: Eq + Hash> Asked<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { requests: HashMap::new(), limit }
    }

    /// The limit, if it is reached.
    pub(super) fn full(&self) -> Option<usize> {
        (self.requests.len() >= self.limit).then_some(self.limit)
    }

    pub(super) fn begin(&mut self, sent: K, request: Outstanding) {
        self.requests.insert(sent, request);
    }

    /// Ends a request; `None` if that has happened before.
    pub(super) fn end(&mut self, sent: &K) -> Option<Outstanding> {
        self.requests.remove(sent)
    }

    /// Ends those that have taken too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Outstanding> {
        self.requests.extract_if(|_, request| request.deadline <= now).map(|(_, request)| request).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_request_ends_once() {
        let (start, peer) = (Instant::now(), PeerId::random());
        let request = |number: u64| Outstanding {
            id: RequestId { number, asker: 0 },
            peer,
            deadline: start + Duration::from_secs(number),
        };
        let mut asked = Asked::new(3);
        for number in 1..=3 {
            assert_eq!(asked.full(), None);
            asked.begin(number, request(number));
        }
        assert_eq!(asked.full(), Some(3));
        assert_eq!(asked.end(&2), Some(request(2)));
        assert_eq!(asked.end(&2), None);
        assert_eq!(asked.expire(start + Duration::from_secs(2)), [request(1)]);
        assert_eq!(asked.end(&1), None, "it has ended");
        assert_eq!(asked.expire(start + Duration::from_secs(3)), [request(3)]);
        assert_eq!(asked.full(), None);
    }
}
