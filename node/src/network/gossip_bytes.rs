//! Counts what gossip brings: every copy of every message, before gossipsub drops those that it has seen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::gossipsub::{DataTransform, Message, RawMessage, TopicHash};

/// A transform that changes nothing, and adds up the bytes that pass it.
#[derive(Clone, Default)]
pub(super) struct CountBytes(pub(super) Arc<AtomicU64>);

impl DataTransform for CountBytes {
    fn inbound_transform(&self, raw: RawMessage) -> Result<Message, io::Error> {
        self.0.fetch_add(raw.raw_protobuf_len() as u64, Ordering::Relaxed);
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}
