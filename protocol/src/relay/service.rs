//! How a peer serves what it has announced: how it ranks among others, and how long it has.
//!
//! Who has brought something is judged by what it did since. Who has not stands behind all that have, begins with the failures of
//! its address group, and is tried with little and for a short time.

use super::{FETCH_TIMEOUT, Kind, MAX_FETCH_TIMEOUT, TRIAL_TIMEOUT, rest};
use crate::limits::{Bucket, UNKNOWN_BYTES};
use crate::origin::{Failures, Groups, Origin};

/// The most that [`Service::patience`] becomes.
const MAX_PATIENCE: u32 = 8;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) origin: Origin,
    /// Peers are numbered as they connect.
    number: u64,
    /// Failed fetches in a row.
    failures: u32,
    /// Not asked for anything before.
    rests_until: u64,
    /// Milliseconds that a fetch takes that brings something, smoothed; `None` as long as none has.
    pace: Option<u64>,
    /// Factor on its time for a fetch, as a power of two: grows with time-outs.
    patience: u32,
    /// Bytes that it may still send of what this node does not know; full as long as it has sent none.
    unknown: Option<Bucket>,
}

/// Smaller is asked before.
pub(super) type Rank = (u32, u32, bool, bool, u64);

impl Service {
    pub(super) fn new(origin: Origin, number: u64) -> Self {
        Self { origin, number, failures: 0, rests_until: 0, pace: None, patience: 0, unknown: None }
    }

    /// Whether it has brought all that it was asked for at least once.
    pub(super) fn is_proven(&self) -> bool {
        self.pace.is_some()
    }

    /// What it was asked for has come, after so many milliseconds.
    pub(super) fn succeed(&mut self, took: u64) {
        self.pace = Some(self.pace.map_or(took, |pace| (3 * pace + took) / 4));
        (self.failures, self.patience) = (0, 0);
    }

    /// It has answered, and not all was there: no failure, and no service.
    pub(super) fn disappoint(&mut self) {
        self.patience = 0;
    }

    /// It has not answered in time, and has longer next time.
    pub(super) fn on_timeout(&mut self) {
        self.patience = (self.patience + 1).min(MAX_PATIENCE);
    }

    /// A fetch has failed: it rests, and so do those of its group that have brought nothing either.
    pub(super) fn fail(&mut self, groups: &mut Groups, now: u64) {
        self.failures = self.failures.saturating_add(1);
        self.rests_until = now + rest(self.failures);
        if !self.is_proven() {
            groups.entry(self.origin, now).add_with_rest(now);
        }
    }

    /// It has sent a transaction with an action that this node does not know, which is no fault. When it has sent much of that, it
    /// rests until more is earned.
    pub(super) fn on_unknown(&mut self, bytes: usize, now: u64) {
        let unknown = self.unknown.get_or_insert_with(|| Bucket::new(UNKNOWN_BYTES, now));
        unknown.charge(u64::try_from(bytes).unwrap_or(u64::MAX), now);
        if let Err(wait) = unknown.check(1, now) {
            self.rests_until = self.rests_until.max(now.saturating_add(wait));
        }
    }

    pub(super) fn rests_until(&self, groups: &Groups) -> u64 {
        self.rests_until.max(self.inherited(groups).rests_until())
    }

    /// The peer that has failed least first, its group's failures counted and then its own alone: a neighbour of a silent peer is asked
    /// before that one is asked again. Of these one that has brought something, that we dialled, and that came first.
    pub(super) fn rank(&self, groups: &Groups, now: u64) -> Rank {
        let failures = self.failures.max(self.inherited(groups).count(now));
        (failures, self.failures, !self.is_proven(), !self.origin.is_dialled(), self.number)
    }

    /// Milliseconds that it has for what is fetched.
    pub(super) fn fetch_time(&self, kind: Kind) -> u64 {
        let first = match (self.pace, kind) {
            (Some(pace), _) => (4 * pace).max(FETCH_TIMEOUT),
            // One alone may be large.
            (None, Kind::Attachments) => FETCH_TIMEOUT,
            (None, _) => TRIAL_TIMEOUT,
        };
        first.saturating_mul(1 << self.patience).min(MAX_FETCH_TIMEOUT)
    }

    fn inherited(&self, groups: &Groups) -> Failures {
        if self.is_proven() { Failures::default() } else { groups.of(self.origin) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Direction, FADE, Group};

    fn service(group: u64, direction: Direction, number: u64) -> Service {
        Service::new(Origin { direction, group: Group(group) }, number)
    }

    #[test]
    fn newcomers_stand_behind_all_that_have_served_and_inherit_failures() {
        let mut groups = Groups::default();
        let mut proven = service(1, Direction::Inbound, 4);
        proven.succeed(100);
        let dialled = service(2, Direction::Dialled, 3);
        let [first, second] = [1, 2].map(|number| service(3, Direction::Inbound, number));
        let mut silent = service(3, Direction::Inbound, 0);
        silent.fail(&mut groups, 0);
        let mut ranks: Vec<_> = [(4, &proven), (3, &dialled), (1, &first), (2, &second), (0, &silent)]
            .map(|(name, service)| (service.rank(&groups, 0), name))
            .into();
        ranks.sort_unstable();
        // The last three are of one group, and two of them have done nothing yet.
        assert_eq!(ranks.iter().map(|(_, name)| *name).collect::<Vec<_>>(), [4, 3, 1, 2, 0]);
        assert!(first.rests_until(&groups) > 0 && dialled.rests_until(&groups) == 0);
        assert_eq!(first.rank(&groups, FADE).0, 0, "failures fade");
        // Who has served answers for itself.
        proven.fail(&mut groups, 0);
        assert_eq!(groups.of(proven.origin), Failures::default());
    }

    #[test]
    fn time_grows_with_what_a_peer_takes() {
        let mut service = service(1, Direction::Inbound, 1);
        assert_eq!(service.fetch_time(Kind::Transactions), TRIAL_TIMEOUT);
        assert_eq!(service.fetch_time(Kind::Attachments), FETCH_TIMEOUT);
        service.on_timeout();
        assert_eq!(service.fetch_time(Kind::Transactions), 2 * TRIAL_TIMEOUT);
        service.succeed(1_500);
        assert_eq!(service.fetch_time(Kind::Transactions), 6_000);
        (0..20).for_each(|_| service.on_timeout());
        assert_eq!(service.fetch_time(Kind::Transactions), MAX_FETCH_TIMEOUT);
        service.disappoint();
        assert_eq!(service.fetch_time(Kind::Transactions), 6_000);
    }
}
