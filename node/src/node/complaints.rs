//! How much of what peers do wrong is logged: a flood of bad messages is not to become one of the disk.

use ocelli_protocol::limits::{Bucket, Limit};

/// Complaints a second, and at once.
const COMPLAINTS: Limit = Limit { rate: 1, burst: 60 };

/// Says of each complaint about a peer whether it is worth a line of the log.
pub(super) struct Complaints {
    bucket: Bucket,
    left_out: u64,
}

impl Complaints {
    pub(super) fn new(now: u64) -> Self {
        Self { bucket: Bucket::new(COMPLAINTS, now), left_out: 0 }
    }

    /// Whether a complaint is to be logged at some time in milliseconds. The first one after some that were not says how many.
    pub(super) fn are_heard(&mut self, now: u64) -> bool {
        if self.bucket.check(1, now).is_err() {
            self.left_out += 1;
            return false;
        }
        self.bucket.charge(1, now);
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            tracing::warn!(left_out, "peers send so much that is wrong that not all of it was logged");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_in_part_and_a_rare_complaint_always() {
        let mut complaints = Complaints::new(1_000_000);
        // 10,000 a second, for ten seconds.
        let heard = (0..100_000).filter(|number| complaints.are_heard(1_000_000 + number / 10)).count();
        // The last of them was heard after nine seconds.
        assert_eq!((heard, complaints.left_out), (69, 9_999));
        for minute in 1..100 {
            assert!(complaints.are_heard(2_000_000 + minute * 60_000), "{minute}");
        }
        assert_eq!(complaints.left_out, 0);
    }
}
