//! Forgetting old attachments and bodies, and taking blocks whose attachments nobody has any more.

pub(super) mod freeing;

use std::fmt;
use std::str::FromStr;

use ocelli_consensus::BlockHash;

use super::Chain;
use crate::store::{Kept, StoreError};
use freeing::Freeing;

/// The smallest size that can be asked for: memory tables and the write-ahead log alone take about a third of it.
pub const MIN_PRUNE_BYTES: u64 = 256 << 20;
/// Blocks forgotten at once at most: what the disk may hold beyond what was asked for.
const MAX_STEP: u64 = 128;
/// At most this part of the retention is forgotten at once, so that short retentions are kept to as well.
const STEPS_A_RETENTION: u64 = 8;

/// How much of the past a node keeps, beyond the network's retention and attachment retention, which every node keeps to
/// whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// At most so many bytes of attachments more, oldest forgotten first.
    Surplus(u64),
    /// Attachments of blocks that are at most so many seconds older than the tip.
    Age(u64),
    /// As many attachments as fit, oldest forgotten first, so that the chain's folder takes about so many bytes; when all attachments
    /// below the retention are gone and it is still larger, bodies and undo records as well.
    Size(u64),
}

/// What becomes of deep blocks whose attachments no peer has any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingAttachments {
    /// They are accepted on the work above them: their answers are not checked here.
    #[default]
    AcceptOnWork,
    /// They are waited for.
    Insist,
}

/// A text that says no age and no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PruneError {
    /// It cannot be read.
    #[error("found `{0}`, expected a number of days, such as 30d, or a size, such as 20GiB")]
    Syntax(String),
    /// It is too small to be kept to.
    #[error("found {found}, expected at least {}", Bytes(MIN_PRUNE_BYTES))]
    TooSmall {
        /// What was asked for.
        found: Bytes,
    },
}

/// A number of bytes as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Prune {
    /// What a node keeps unless told otherwise.
    pub const DEFAULT: Self = Self::Surplus(20 << 30);
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, shift)| self.0 >> shift > 0) {
            // One decimal; exact below 2^53.
            Some((unit, shift)) => write!(f, "{:.1} {unit}", self.0 as f64 / (1u64 << shift) as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl FromStr for Prune {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Self, PruneError> {
        let syntax = || PruneError::Syntax(text.into());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| syntax())?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "d" | "day" | "days" => return Ok(Self::Age(number.checked_mul(86_400).ok_or_else(syntax)?)),
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(syntax()),
        };
        let bytes = number.checked_mul(factor).ok_or_else(syntax)?;
        if bytes < MIN_PRUNE_BYTES { Err(PruneError::TooSmall { found: Bytes(bytes) }) } else { Ok(Self::Size(bytes)) }
    }
}

/// What a chain keeps.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    prune: Option<Prune>,
    missing_attachments: MissingAttachments,
    /// The tip's height when it was last looked at what can be forgotten.
    looked_at: u64,
    /// Whether it was said that the size cannot be kept to.
    is_too_large: bool,
    /// Whether it was said that blocks are taken on work.
    is_on_work_said: bool,
    freeing: Freeing,
}

impl Chain {
    /// Says how much of the past is kept, and what becomes of deep blocks without attachments.
    #[must_use]
    pub fn keeping(mut self, prune: Option<Prune>, missing_attachments: MissingAttachments) -> Self {
        self.keeping = Keeping { prune, missing_attachments, ..Keeping::default() };
        self
    }

    /// Whether a block may be taken without its attachments, on the work above it: it stands on the way to the best header, at
    /// least the network's attachment retention below it.
    pub fn may_lack_attachments(&self, hash: &BlockHash) -> bool {
        let (Some(node), best) = (self.tree.get(hash), self.tree.best_header()) else { return false };
        let depth = best.height.saturating_sub(node.height);
        self.keeping.missing_attachments == MissingAttachments::AcceptOnWork
            && depth >= self.network.parameters.attachment_retention
            && self.tree.is_ancestor(hash, &best.hash)
    }

    /// Says, once, that answers are not checked: thousands of blocks may follow.
    pub(super) fn say_on_work(&mut self, height: u64) {
        if !std::mem::replace(&mut self.keeping.is_on_work_said, true) {
            tracing::warn!(
                height,
                "no peer has the attachments of this block any more: it and others this deep are taken on the work above them, and \
                 their answers are not checked here; --full waits for the attachments instead"
            );
        }
    }

    /// Forgets what is older than is to be kept, to be called again and again. A call forgets a bounded number of blocks, which is
    /// one small write; what takes long, measuring the folder and freeing its files, is left to another thread, and until that
    /// has ended nothing more is forgotten. Returns what is kept now if that has changed.
    ///
    /// # Errors
    /// The store's.
    pub fn prune(&mut self) -> Result<Option<Kept>, StoreError> {
        let Some(prune) = self.keeping.prune else { return Ok(None) };
        let (height, parameters) = (self.tip().height, &self.network.parameters);
        let step = (parameters.attachment_retention / STEPS_A_RETENTION).clamp(1, MAX_STEP);
        let measured = self.keeping.freeing.result()?;
        if self.keeping.freeing.is_busy() || (measured.is_none() && height.abs_diff(self.keeping.looked_at) < step) {
            return Ok(None);
        }
        // All above them stays.
        let limits = [parameters.attachment_retention, parameters.retention];
        let limits = limits.map(|retention| height.saturating_sub(retention).saturating_add(1));
        let before = self.store.kept()?;
        let after = match (prune, measured) {
            (Prune::Surplus(bytes), _) => self.prune_surplus(bytes, limits[0], step, before)?,
            (Prune::Age(seconds), _) => self.prune_by_age(seconds, limits[0], step, before)?,
            (Prune::Size(bytes), Some(disk)) => self.prune_by_size(bytes, disk, limits, step, before)?,
            (Prune::Size(bytes), None) => {
                self.keeping.looked_at = height;
                self.keeping.freeing.measure(&self.store, bytes);
                return Ok(None);
            }
        };
        // Where there is more to forget, a later call goes on.
        if after == before {
            self.keeping.looked_at = height;
            return Ok(None);
        }
        let (attachments_from, bodies_from) = (after.attachments_from, after.bodies_from);
        tracing::info!(attachments_from, bodies_from, "old blocks pruned");
        let enough = if let Prune::Size(bytes) = prune { bytes } else { u64::MAX };
        self.keeping.freeing.free(&self.store, before, enough);
        Ok(Some(after))
    }

    /// Whether [`Chain::prune`] waits for another thread, and will go on when that has ended.
    pub fn is_pruning(&self) -> bool {
        self.keeping.freeing.is_busy()
    }

    fn prune_surplus(&self, bytes: u64, limit: u64, step: u64, kept: Kept) -> Result<Kept, StoreError> {
        let attached = self.store.attached_up_to(limit.saturating_sub(1))?;
        // What is kept from a height on grows as the height falls.
        let (mut low, mut high) = (kept.attachments_from, limit.max(kept.attachments_from));
        while low < high {
            let middle = low + (high - low) / 2;
            let below = self.store.attached_up_to(middle - 1)?;
            if attached.saturating_sub(below) > bytes { low = middle + 1 } else { high = middle }
        }
        self.prune_to(low, step, kept)
    }

    /// Forgets the attachments of blocks below a height, or of some of them; not block by block, for each pruning costs a
    /// compaction.
    fn prune_to(&self, height: u64, step: u64, kept: Kept) -> Result<Kept, StoreError> {
        let below = height.min(kept.attachments_from.saturating_add(MAX_STEP));
        if below < kept.attachments_from.saturating_add(step) { Ok(kept) } else { self.store.prune(below, 0) }
    }

    fn prune_by_age(&self, seconds: u64, limit: u64, step: u64, kept: Kept) -> Result<Kept, StoreError> {
        let oldest = self.tip().time.saturating_sub(seconds);
        // Times grow with heights.
        let (mut low, mut high) = (kept.attachments_from, limit);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.time_at(middle)? < oldest { low = middle + 1 } else { high = middle }
        }
        self.prune_to(low, step, kept)
    }

    fn prune_by_size(
        &mut self,
        asked: u64,
        disk: u64,
        [attachments, bodies]: [u64; 2],
        step: u64,
        kept: Kept,
    ) -> Result<Kept, StoreError> {
        if disk <= asked {
            self.keeping.is_too_large = false;
            return Ok(kept);
        }
        if kept.attachments_from < attachments {
            return self.store.prune(kept.attachments_from.saturating_add(step).min(attachments), 0);
        }
        if kept.bodies_from < bodies {
            return self.store.prune(0, kept.bodies_from.saturating_add(step).min(bodies));
        }
        if !std::mem::replace(&mut self.keeping.is_too_large, true) {
            let (disk, asked, retention) = (Bytes(disk), Bytes(asked), self.network.parameters.retention);
            tracing::warn!(%disk, %asked, retention, "the chain takes more than --prune asks for, with nothing left to prune");
        }
        Ok(kept)
    }

    /// Waits for what [`Chain::prune`] has left to another thread, and goes on with it until nothing is left to prune.
    #[cfg(test)]
    pub(super) fn prune_all(&mut self) {
        loop {
            let pruned = self.prune().expect("the store can be pruned");
            if pruned.is_none() && !self.is_pruning() {
                return;
            }
            self.keeping.freeing.wait();
        }
    }

    fn time_at(&self, height: u64) -> Result<u64, StoreError> {
        let missing = || StoreError::missing("heights", &height.to_be_bytes());
        let hash = self.store.hash_at(height)?.ok_or_else(missing)?;
        Ok(self.tree.get(&hash).ok_or_else(missing)?.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_read() {
        let gib = 1 << 30;
        let good = [
            ("30d", Prune::Age(30 * 86_400)),
            ("1 day", Prune::Age(86_400)),
            ("0d", Prune::Age(0)),
            ("7 days", Prune::Age(7 * 86_400)),
            ("20GiB", Prune::Size(20 * gib)),
            ("1 tib", Prune::Size(gib << 10)),
            ("256MiB", Prune::Size(MIN_PRUNE_BYTES)),
            ("300MB", Prune::Size(300_000_000)),
            ("2TB", Prune::Size(2_000_000_000_000)),
        ];
        for (text, expected) in good {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "30", "d", "-1d", "1.5GiB", "20G", "20gigs", "99999999999999999999d", "18446744073709551615d"]
        {
            assert_eq!(text.parse::<Prune>(), Err(PruneError::Syntax(text.into())), "{text}");
        }
        let error = "255MiB".parse::<Prune>().unwrap_err();
        assert_eq!(error.to_string(), "found 255.0 MiB, expected at least 256.0 MiB");
    }

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (bytes, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
