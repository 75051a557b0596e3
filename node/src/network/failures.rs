//! The latest failure of each dialled address, for people to look at.

use std::collections::VecDeque;

use super::DialFailure;

/// Addresses whose last failure is remembered.
const MAX_FAILURES: usize = 32;

/// Failed dials, oldest first.
#[derive(Default)]
pub(super) struct DialFailures(VecDeque<(String, DialFailure)>);

impl DialFailures {
    /// Whether the address failed the same way last time.
    pub(super) fn is_said(&self, address: &str, failure: &DialFailure) -> bool {
        let is_same = |last: &DialFailure| std::mem::discriminant(last) == std::mem::discriminant(failure);
        self.0.iter().any(|(other, last)| other == address && is_same(last))
    }

    pub(super) fn note(&mut self, address: String, failure: DialFailure) {
        self.forget(&address);
        if self.0.len() >= MAX_FAILURES {
            self.0.pop_front();
        }
        self.0.push_back((address, failure));
    }

    /// Returns whether there was one.
    pub(super) fn forget(&mut self, address: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| other != address);
        self.0.len() < before
    }

    pub(super) fn all(&self) -> Vec<(String, DialFailure)> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_failure_of_each_address_is_kept() {
        let mut failures = DialFailures::default();
        failures.note("one".into(), DialFailure::Refused);
        failures.note("other".into(), DialFailure::TimedOut);
        assert!(failures.is_said("one", &DialFailure::Refused) && !failures.is_said("one", &DialFailure::TimedOut));
        failures.note("one".into(), DialFailure::TimedOut);
        let expected = ["other", "one"].map(|address| (address.to_owned(), DialFailure::TimedOut));
        assert_eq!(failures.all(), expected);
        assert!(failures.forget("one") && !failures.forget("one"));
        for number in 0..2 * MAX_FAILURES {
            failures.note(number.to_string(), DialFailure::Refused);
        }
        assert_eq!(failures.all().len(), MAX_FAILURES);
        assert!(!failures.is_said("0", &DialFailure::Refused), "the oldest is forgotten");
    }
}
