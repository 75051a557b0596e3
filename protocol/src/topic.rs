//! Names of the gossip topic and of the request protocol. Both hold the genesis hash, so that networks cannot mix: a node of
//! another network neither subscribes to the one nor speaks the other.

use ocelli_consensus::BlockHash;

/// The topic of block announcements: [`crate::message::Announcement`].
pub fn blocks(genesis: BlockHash) -> String {
    format!("/ocelli/{genesis}/blocks/3")
}

/// The request-response protocol: [`crate::message::Request`] answered by [`crate::message::Response`].
pub fn request_protocol(genesis: BlockHash) -> String {
    format!("/ocelli/{genesis}/request/3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_genesis_hash() {
        let genesis = BlockHash([0xab; 32]);
        let hex = "ab".repeat(32);
        assert_eq!(blocks(genesis), format!("/ocelli/{hex}/blocks/3"));
        assert_eq!(request_protocol(genesis), format!("/ocelli/{hex}/request/3"));
        assert_ne!(blocks(genesis), blocks(BlockHash([0xac; 32])));
    }
}
