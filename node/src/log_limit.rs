//! How much of what peers do is logged: a flood of messages or connections is not to become one of the disk.

use std::time::Instant;

use ocelli_protocol::limits::{Bucket, Limit};

/// Lines a second, and at once.
const LINES: Limit = Limit { rate: 1, burst: 60 };

/// Says of each event of a kind whether it is worth a line of the log.
pub(crate) struct LogLimit {
    kind: &'static str,
    begun: Instant,
    bucket: Bucket,
    left_out: u64,
}

impl LogLimit {
    /// For events of some kind.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, begun: Instant::now(), bucket: Bucket::new(LINES, 0), left_out: 0 }
    }

    /// Whether an event is to be logged now. The first one after some that were not says how many.
    pub(crate) fn has_room(&mut self) -> bool {
        self.has_room_at(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// At so many milliseconds since the beginning.
    fn has_room_at(&mut self, now: u64) -> bool {
        if self.bucket.check(1, now).is_err() {
            self.left_out += 1;
            return false;
        }
        self.bucket.charge(1, now);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            tracing::warn!(left_out, of = self.kind, "so much at once that not all of it was logged");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_part_and_what_is_rare_always() {
        let mut limit = LogLimit::new("complaints about peers");
        // 10,000 a second, for ten seconds.
        let heard = (0..100_000).filter(|number| limit.has_room_at(1_000_000 + number / 10)).count();
        // The last of them was heard after nine seconds.
        assert_eq!((heard, limit.left_out), (69, 9_999));
        for minute in 1..100 {
            assert!(limit.has_room_at(2_000_000 + minute * 60_000), "{minute}");
        }
        assert_eq!(limit.left_out, 0);
    }
}
