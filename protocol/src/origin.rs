//! Where peers are, and what that is remembered for: failures count for all peers of an address group, so that a new identity
//! from where others have failed begins with their failures. Failures fade, and so does what is remembered. Sync, relay and block
//! assembly each keep their own count.

use std::collections::BTreeMap;

/// Milliseconds after the first failure; doubled with each further one.
pub const FIRST_BACKOFF: u64 = 1_000;
/// Milliseconds after many failures.
pub const MAX_BACKOFF: u64 = 30_000;
/// Milliseconds in which one failure is forgiven.
pub const FADE: u64 = 60_000;
/// Failures that are counted.
pub const MAX_FAILURES: u32 = 16;
/// Groups with failures that are remembered.
pub const MAX_GROUPS: usize = 512;

/// A name for the addresses that one party has cheaply together, made by whoever knows addresses. Only whether two are equal
/// means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u64);

/// Who dialled whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// We dialled the peer: it did not choose us.
    Dialled,
    /// The peer dialled us.
    Inbound,
}

/// Where a peer is. Who dialled us from a group does not spoil it for those whom we dial there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Who dialled whom.
    pub direction: Direction,
    /// Of its address.
    pub group: Group,
}

impl Origin {
    /// Whether we dialled the peer.
    pub fn is_dialled(&self) -> bool {
        self.direction == Direction::Dialled
    }
}

/// Failures, which fade with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    count: u32,
    /// When the last one was.
    at: u64,
    rests_until: u64,
}

impl Failures {
    pub(crate) fn count(&self, now: u64) -> u32 {
        let faded = now.saturating_sub(self.at) / FADE;
        self.count.saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX))
    }

    /// Nothing is asked before.
    pub(crate) fn rests_until(&self) -> u64 {
        self.rests_until
    }

    pub(crate) fn add(&mut self, now: u64) {
        *self = Self { count: (self.count(now) + 1).min(MAX_FAILURES), at: now, rests_until: self.rests_until };
    }

    /// A failure after which there is a rest, the longer the more there are.
    pub(crate) fn add_with_rest(&mut self, now: u64) {
        let rest = backoff(self.count(now));
        self.add(now);
        self.rests_until = self.rests_until.max(now + rest);
    }
}

/// The failures of groups.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Origin, Failures>);

impl Groups {
    pub(crate) fn of(&self, origin: Origin) -> Failures {
        self.0.get(&origin).copied().unwrap_or_default()
    }

    /// The failures of a group, to be added to.
    pub(crate) fn entry(&mut self, origin: Origin, now: u64) -> &mut Failures {
        if self.0.len() >= MAX_GROUPS && !self.0.contains_key(&origin) {
            self.0.retain(|_, failures| failures.count(now) > 0);
            // The one that would be forgiven first makes room.
            if self.0.len() >= MAX_GROUPS
                && let Some(least) = self.0.iter().min_by_key(|(_, failures)| (failures.count(now), failures.at))
            {
                let least = *least.0;
                self.0.remove(&least);
            }
        }
        self.0.entry(origin).or_default()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Milliseconds to wait after `before` failures and one more.
pub(crate) fn backoff(before: u32) -> u64 {
    FIRST_BACKOFF.checked_shl(before.min(16)).unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(group: u64) -> Origin {
        Origin { direction: Direction::Inbound, group: Group(group) }
    }

    #[test]
    fn failures_fade() {
        let start = 5_000_000;
        let mut failures = Failures::default();
        assert_eq!((failures.count(start), failures.rests_until()), (0, 0));
        for (number, rest) in [1_000, 2_000, 4_000].into_iter().enumerate() {
            failures.add_with_rest(start);
            assert_eq!((failures.count(start), failures.rests_until()), (number as u32 + 1, start + rest));
        }
        failures.add(start);
        assert_eq!((failures.count(start), failures.rests_until()), (4, start + 4_000));
        for (after, left) in [(FADE - 1, 4), (FADE, 3), (3 * FADE, 1), (9 * FADE, 0)] {
            assert_eq!(failures.count(start + after), left, "after {after} ms");
        }
        for _ in 0..100 {
            failures.add_with_rest(start);
        }
        assert_eq!((failures.count(start), failures.rests_until()), (MAX_FAILURES, start + MAX_BACKOFF));
    }

    #[test]
    fn the_table_of_groups_is_bounded_and_forgets_the_least() {
        let mut groups = Groups::default();
        groups.entry(inbound(0), 0).add(0);
        groups.entry(inbound(0), 0).add(0);
        for group in 1..3 * MAX_GROUPS as u64 {
            groups.entry(inbound(group), group).add(group);
            assert!(groups.len() <= MAX_GROUPS);
        }
        assert_eq!(groups.of(inbound(0)).count(2_000), 2, "who failed most is remembered");
        assert_eq!(groups.of(inbound(1)), Failures::default());
        let dialled = Origin { direction: Direction::Dialled, ..inbound(0) };
        assert_eq!(groups.of(dialled), Failures::default(), "another count");
        groups.entry(inbound(9_999), 9 * FADE).add(9 * FADE);
        assert_eq!(groups.len(), 1, "what has faded is forgotten");
    }
}
