//! Whether this node is too old to follow the network.

use ocelli_consensus::target::Work;
use ocelli_consensus::{BlockHash, U256};

/// A chain whose rules this node does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OtherChain {
    version: u32,
    /// Of its first block with another version.
    height: u64,
    /// The last block that both chains share.
    fork: BlockHash,
    /// What its headers have shown.
    work: U256,
}

/// The chain of another version that has shown most work.
#[derive(Debug, Default)]
pub(super) struct Update(Option<OtherChain>);

impl Update {
    /// Notes what a peer's headers have shown.
    pub(super) fn note(&mut self, version: u32, height: u64, fork: BlockHash, work: Work) {
        if self.0.is_none_or(|known| work.0 > known.work) {
            self.0 = Some(OtherChain { version, height, fork, work: work.0 });
        }
    }

    /// Why this node is to be updated; `None` as long as its own chain, of this work, has no less.
    pub(super) fn text(&self, own: Work) -> Option<String> {
        let OtherChain { version, height, fork, .. } = self.0.filter(|other| other.work > own.0)?;
        Some(format!(
            "update this node: the chain with the most work follows rules of version {version} from height {height} on, after \
             block {fork}, and this program was not told of them; it mines no more, and what it confirms may not last"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_while_the_other_chain_has_more_work() {
        let mut update = Update::default();
        let work = |work: u64| Work(U256::from(work));
        assert_eq!(update.text(work(0)), None);
        update.note(2, 30, BlockHash([7; 32]), work(100));
        assert_eq!(update.text(work(100)), None);
        update.note(3, 40, BlockHash([8; 32]), work(90));
        let text = update.text(work(99)).expect("it has more work");
        assert!(text.contains("version 2 from height 30"), "{text}");
        assert_eq!(update.text(work(101)), None, "the node's own chain has overtaken it");
    }
}
