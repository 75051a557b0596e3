//! Where a chain stands and how a node is.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use ocelli_consensus::{Address, BlockHash, Root, U256};

use super::{MAX_ADDRESSES, MAX_INVALID, MAX_TEXT_BYTES, MAX_WAITING};
use crate::wire;

/// Where a peer's chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStatus {
    pub genesis: BlockHash,
    /// Of the tip.
    pub height: u64,
    /// The last connected block.
    pub tip: BlockHash,
    /// Work accumulated up to the tip; 32 bytes, little-endian. A claim: only headers prove it.
    pub work: U256,
    /// The next change of rules above the tip that the node's schedule has.
    pub next_rules: Option<NextRules>,
}

/// A change of rules to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NextRules {
    /// The first height that it holds for.
    pub height: u64,
    /// The version of headers from there on.
    pub version: u32,
}

/// How a node is: one screen of `ocelli status`. Its fields are grouped; in bytes they stand in the protocol's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    pub identity: NodeIdentity,
    pub tip: TipStatus,
    /// The nodes connected. Who and where they are is told to the owner alone ([`super::Control::Peers`]).
    pub peers: PeerCounts,
    pub mempool: MempoolStatus,
    pub device: DeviceStatus,
    pub mining: MiningStatus,
    /// Seconds since the node started.
    pub uptime_seconds: u64,
    pub sync: SyncStatus,
    /// The latest blocks refused as invalid, at most [`MAX_INVALID`].
    pub invalid: Vec<InvalidBlock>,
    pub storage: StorageStatus,
    pub inference: InferenceStatus,
    /// Whether others can dial the node.
    pub reachability: Reachability,
    /// The node's clock when it answered, in milliseconds since 1970.
    pub time: u64,
    /// Bytes exchanged with peers.
    pub traffic: TrafficStatus,
    pub rules: RulesStatus,
}

/// Which node it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct NodeIdentity {
    /// Program and version.
    pub agent: String,
    /// The network's name.
    pub network: String,
    pub genesis: BlockHash,
    /// The node's libp2p peer id.
    pub peer_id: String,
    /// Its own multiaddresses on the internet, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<String>,
}

/// The last connected block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TipStatus {
    pub height: u64,
    pub hash: BlockHash,
    /// Seconds since 1970.
    pub time: u64,
    /// Work accumulated up to it.
    pub work: U256,
    pub state_root: Root,
}

/// What is in the mempool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MempoolStatus {
    pub transactions: u64,
    /// Attachments included.
    pub bytes: u64,
}

/// What runs the models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatus {
    pub name: String,
    /// Tasks run in a second, in thousandths.
    pub millitasks_per_second: u64,
    /// Whether the device that the node started with was caught with a wrong answer and is no longer used.
    pub disabled: bool,
}

/// Whether and how fast it mines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MiningStatus {
    /// Block hashes tried in a second.
    pub hash_rate: u64,
    /// Whom its mining pays, if it mines.
    pub address: Option<Address>,
    /// Blocks that its miner has found since the node started.
    pub found: u64,
    /// How many of them are off the main chain.
    pub stale: u64,
}

/// How far sync is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// Height of the header with most work.
    pub header_height: u64,
    /// What sync does, for people.
    pub state: String,
    /// What the node waits for, at most [`MAX_WAITING`].
    pub waiting_for: Vec<String>,
}

/// The rules that a node follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct RulesStatus {
    /// Version of the next block.
    pub version: u32,
    /// The next change that its schedule has.
    pub next: Option<NextRules>,
    /// Why the node has to be updated, where a chain of a version that it does not know has more work than its own.
    pub update: Option<String>,
}

/// Whether others can dial a node, as far as it has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// Tag 1: nobody has tried yet.
    #[default]
    Unknown,
    /// Tag 2: others have dialled it at these multiaddresses, at most [`MAX_ADDRESSES`].
    Public(Vec<String>),
    /// Tag 3: nobody reaches it directly, and it can be dialled through relays, at these multiaddresses, at most
    /// [`MAX_ADDRESSES`].
    Relayed(Vec<String>),
    /// Tag 4: nobody reaches it.
    Unreachable {
        /// What to do about it, for people.
        advice: String,
    },
}

/// What a node keeps of old blocks, and what that takes. A height is 1 where nothing is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StorageStatus {
    /// Bytes on the disk of the chain's folder.
    pub disk_bytes: u64,
    /// The first height from which on it has all attachments, but for those that its operator does not keep.
    pub attachments_from: u64,
    /// The first height from which on it has bodies, and can take blocks back.
    pub bodies_from: u64,
    /// The first height from which on it has checked every answer itself.
    pub answers_from: u64,
}

/// What a node's inference does and has done since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct InferenceStatus {
    /// Images of requests that are not answered yet.
    pub queued: u64,
    /// Images that the device has run.
    pub computed: u64,
    /// Tasks answered from earlier results.
    pub cached: u64,
    /// Tasks that joined one for the same image that waited already.
    pub joined: u64,
    /// Batches that the device has run.
    pub batches: u64,
    /// Microseconds that the images waited before their batch began, added up.
    pub queue_microseconds: u64,
    /// Microseconds that the device took for the batches, added up.
    pub device_microseconds: u64,
}

/// Bytes exchanged with peers since the node started, by what they were for: messages as [`super`] encodes them, without
/// encryption and what streams and connections add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TrafficStatus {
    /// Announcements of blocks. Received: every copy, with the topic's name and framing. Sent: this node's own, each once,
    /// however many peers it went to; what gossip passes on is not seen.
    pub blocks: Traffic,
    /// Announcements of transactions, and the answers to them.
    pub announcements: Traffic,
    /// Transactions with their attachments between nodes, and the requests for them.
    pub transactions: Traffic,
    /// Statuses, headers, blocks, and what announced blocks lacked, and the requests for them.
    pub sync: Traffic,
    /// What submitters and people ask, and the answers.
    pub other: Traffic,
    /// Transactions received from nodes, before they were checked.
    pub relayed: u64,
    /// The bytes of their attachments.
    pub relayed_attachments: u64,
}

/// Bytes both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Traffic {
    /// From peers.
    pub received: u64,
    /// To peers.
    pub sent: u64,
}

/// How many nodes a node is connected with. Those that only ask are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct PeerCounts {
    /// Dialled by it.
    pub dialled: u32,
    /// That have dialled it.
    pub inbound: u32,
}

impl PeerCounts {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.dialled.saturating_add(self.inbound)
    }
}

/// A block refused as invalid.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct InvalidBlock {
    pub hash: BlockHash,
    pub height: u64,
    /// The rule that it breaks.
    pub reason: String,
}

impl ChainStatus {
    /// The most that one takes.
    pub(super) const MAX_BYTES: usize = 32 + 8 + 32 + 32 + 1 + 12;
}

impl NodeStatus {
    /// Cuts every list and text to its limit, so that the peer can read the whole.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let shorten = |text: &mut String| *text = wire::shorten(std::mem::take(text), MAX_TEXT_BYTES);
        let NodeIdentity { agent, network, peer_id, addresses, .. } = &mut self.identity;
        let SyncStatus { state, waiting_for, .. } = &mut self.sync;
        [agent, network, peer_id, &mut self.device.name, state].into_iter().for_each(shorten);
        self.rules.update.iter_mut().for_each(shorten);
        addresses.truncate(MAX_ADDRESSES);
        waiting_for.truncate(MAX_WAITING);
        self.invalid.truncate(MAX_INVALID);
        addresses.iter_mut().chain(waiting_for).for_each(shorten);
        self.invalid.iter_mut().map(|invalid| &mut invalid.reason).for_each(shorten);
        match &mut self.reachability {
            Reachability::Unknown => {}
            Reachability::Public(addresses) | Reachability::Relayed(addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                addresses.iter_mut().for_each(shorten);
            }
            Reachability::Unreachable { advice } => shorten(advice),
        }
        self
    }
}

impl Encode for ChainStatus {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.genesis, self.height, self.tip).encode(encoder)?;
        wire::encode_u256(&self.work, encoder)?;
        self.next_rules.encode(encoder)
    }
}

impl<C> Decode<C> for ChainStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            genesis: Decode::decode(decoder)?,
            height: Decode::decode(decoder)?,
            tip: Decode::decode(decoder)?,
            work: wire::decode_u256(decoder)?,
            next_rules: Decode::decode(decoder)?,
        })
    }
}

impl Encode for NodeStatus {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { identity, tip, device, sync, .. } = self;
        (identity, tip.height, tip.hash, tip.time, sync.header_height).encode(encoder)?;
        wire::encode_u256(&tip.work, encoder)?;
        (self.peers, self.mempool, &device.name, device.millitasks_per_second, self.mining).encode(encoder)?;
        (self.uptime_seconds, &sync.state, &sync.waiting_for, device.disabled).encode(encoder)?;
        (tip.state_root, &self.invalid, self.storage, self.inference).encode(encoder)?;
        (&self.reachability, self.time, self.traffic, &self.rules).encode(encoder)
    }
}

impl<C> Decode<C> for NodeStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut status = Self { identity: Decode::decode(decoder)?, ..Self::default() };
        let (tip, device, sync) = (&mut status.tip, &mut status.device, &mut status.sync);
        (tip.height, tip.hash, tip.time) = Decode::decode(decoder)?;
        sync.header_height = Decode::decode(decoder)?;
        tip.work = wire::decode_u256(decoder)?;
        (status.peers, status.mempool) = Decode::decode(decoder)?;
        device.name = text(decoder)?;
        device.millitasks_per_second = Decode::decode(decoder)?;
        (status.mining, status.uptime_seconds) = Decode::decode(decoder)?;
        sync.state = text(decoder)?;
        sync.waiting_for = wire::list(decoder, "things waited for", MAX_WAITING, text)?;
        (device.disabled, tip.state_root) = Decode::decode(decoder)?;
        status.invalid = wire::list(decoder, "invalid blocks", MAX_INVALID, InvalidBlock::decode)?;
        (status.storage, status.inference, status.reachability) = Decode::decode(decoder)?;
        (status.time, status.traffic, status.rules) = Decode::decode(decoder)?;
        Ok(status)
    }
}

impl<C> Decode<C> for NodeIdentity {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            agent: text(decoder)?,
            network: text(decoder)?,
            genesis: Decode::decode(decoder)?,
            peer_id: text(decoder)?,
            addresses: wire::list(decoder, "addresses", MAX_ADDRESSES, text)?,
        })
    }
}

impl<C> Decode<C> for RulesStatus {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self {
            version: Decode::decode(decoder)?,
            next: Decode::decode(decoder)?,
            update: wire::optional(decoder, text)?,
        })
    }
}

impl Encode for Reachability {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            Self::Unknown => 1u32.encode(encoder),
            Self::Public(addresses) => (2u32, addresses).encode(encoder),
            Self::Relayed(addresses) => (3u32, addresses).encode(encoder),
            Self::Unreachable { advice } => (4u32, advice).encode(encoder),
        }
    }
}

impl<C> Decode<C> for Reachability {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u32::decode(decoder)? {
            1 => Ok(Self::Unknown),
            2 => Ok(Self::Public(wire::list(decoder, "addresses", MAX_ADDRESSES, text)?)),
            3 => Ok(Self::Relayed(wire::list(decoder, "addresses", MAX_ADDRESSES, text)?)),
            4 => Ok(Self::Unreachable { advice: text(decoder)? }),
            tag => wire::unknown_tag("reachability", tag),
        }
    }
}

impl<C> Decode<C> for InvalidBlock {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self { hash: Decode::decode(decoder)?, height: Decode::decode(decoder)?, reason: text(decoder)? })
    }
}

fn text<D: Decoder>(decoder: &mut D) -> Result<String, DecodeError> {
    wire::text(decoder, "bytes of text", MAX_TEXT_BYTES)
}
