//! Which rules hold from which height on. No genesis hash binds it: rules change by a newer program with a longer schedule, or
//! on a network of one's own by a line more in its file.

/// A second version for trying out how rules change: those of version 1 without `Upload`, `Part` and `Publish`. No public
/// network ever has it.
pub const TEST_VERSION: u32 = 0xffff_ffff;

/// The versions whose rules this program knows. A number is never used for two rule sets.
const KNOWN_VERSIONS: [u32; 2] = [1, TEST_VERSION];

/// Whether this program knows the rules of a version.
pub fn knows_version(version: u32) -> bool {
    KNOWN_VERSIONS.contains(&version)
}

/// From a height on, a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ScheduledVersion {
    /// The first height it holds for.
    pub height: u64,
    /// What headers must say from there on, and so which rules hold.
    pub version: u32,
}

/// The versions of a network's blocks by height: 1 from genesis on, then what its entries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<ScheduledVersion>);

/// Why a list of versions is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Heights do not ascend from 1 on, or versions fall.
    #[error(
        "version {} at height {}, expected heights above 0 that ascend, and versions that never fall",
        .0.version, .0.height
    )]
    Order(ScheduledVersion),
    /// A version that this program has no rules for.
    #[error("version {} at height {} is none that this program knows: a newer one may", .0.version, .0.height)]
    Unknown(ScheduledVersion),
}

impl Schedule {
    /// A schedule of these entries.
    ///
    /// # Errors
    /// [`ScheduleError`] names the first that cannot stand there.
    pub fn new(entries: Vec<ScheduledVersion>) -> Result<Self, ScheduleError> {
        let mut last = ScheduledVersion { height: 0, version: 1 };
        for &entry in &entries {
            if entry.height <= last.height || entry.version < last.version {
                return Err(ScheduleError::Order(entry));
            }
            if !knows_version(entry.version) {
                return Err(ScheduleError::Unknown(entry));
            }
            last = entry;
        }
        Ok(Self(entries))
    }

    /// The version that a header must have at a height.
    pub fn version_at(&self, height: u64) -> u32 {
        self.0[..self.place(height)].last().map_or(1, |entry| entry.version)
    }

    /// The next entry above a height.
    pub fn next_after(&self, height: u64) -> Option<ScheduledVersion> {
        self.0.get(self.place(height)).copied()
    }

    /// In ascending order of height.
    pub fn entries(&self) -> &[ScheduledVersion] {
        &self.0
    }

    /// The first height at which two schedules ask for different versions.
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let mut heights: Vec<u64> = self.0.iter().chain(&other.0).map(|entry| entry.height).collect();
        heights.sort_unstable();
        heights.into_iter().find(|&height| self.version_at(height) != other.version_at(height))
    }

    /// How many entries hold at a height or before.
    fn place(&self, height: u64) -> usize {
        self.0.partition_point(|entry| entry.height <= height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(entries: &[(u64, u32)]) -> Result<Schedule, ScheduleError> {
        Schedule::new(entries.iter().map(|&(height, version)| ScheduledVersion { height, version }).collect())
    }

    #[test]
    fn versions_begin_at_their_height() {
        let one = schedule(&[(10, 1), (20, TEST_VERSION)]).unwrap();
        for (height, version) in [(0, 1), (10, 1), (19, 1), (20, TEST_VERSION), (u64::MAX, TEST_VERSION)] {
            assert_eq!(one.version_at(height), version, "height {height}");
        }
        assert_eq!(one.next_after(0), Some(one.entries()[0]));
        assert_eq!(one.next_after(10), Some(one.entries()[1]));
        assert_eq!(one.next_after(20), None);
        assert_eq!(Schedule::default().version_at(7), 1);
    }

    #[test]
    fn schedules_differ_from_a_height_on() {
        let of = |entries: &[(u64, u32)]| schedule(entries).unwrap();
        let none = of(&[]);
        assert_eq!(none.first_difference(&none), None);
        assert_eq!(none.first_difference(&of(&[(10, 1)])), None, "the same version by another way");
        assert_eq!(none.first_difference(&of(&[(10, 1), (20, TEST_VERSION)])), Some(20));
        assert_eq!(of(&[(5, TEST_VERSION)]).first_difference(&of(&[(9, TEST_VERSION)])), Some(5));
    }

    #[test]
    fn what_is_no_schedule() {
        for entries in [&[(0, 1)][..], &[(5, 1), (5, 1)], &[(5, TEST_VERSION), (6, 1)], &[(5, 0)]] {
            assert!(matches!(schedule(entries), Err(ScheduleError::Order(_))), "{entries:?}");
        }
        assert!(matches!(schedule(&[(5, 2)]), Err(ScheduleError::Unknown(_))));
    }
}
