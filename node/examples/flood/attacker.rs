//! Peers that speak a node's own protocols and flood it with what is invalid.
//!
//! Each attacker has an identity of its own, and takes a new one whenever the node has thrown it out: identities cost
//! nothing. All of them together send so many messages a second as are asked for, as far as the node lets them in.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Codec, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use ocelli_consensus::{Action, Amount, Header, ImageHash, Network, Transaction, Unsigned};
use ocelli_protocol::message::{Announcement, Request, ShortId, Submission};
use ocelli_protocol::topic;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How often an attacker sends what has become due.
const TICK: Duration = Duration::from_millis(20);
/// How long the node may take to say who it is, until the attacker tries again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that one attacker has under way; those beyond it are not sent.
const UNDER_WAY: usize = 64;

/// What an attacker sends, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that are no announcement, on the topic of blocks.
    GarbageGossip,
    /// An announcement of a block without proof of work.
    FalseBlock,
    /// Bytes that are no request.
    GarbageRequest,
    /// A task whose signature is random bytes.
    BadSignature,
    /// The most transactions that can be announced at once, none of which exists.
    UnknownIds,
}

impl Kind {
    /// All of them; attackers take turns.
    pub const ALL: [Self; 5] =
        [Self::GarbageGossip, Self::FalseBlock, Self::GarbageRequest, Self::BadSignature, Self::UnknownIds];

    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::GarbageGossip => "garbage_gossip",
            Self::FalseBlock => "false_blocks",
            Self::GarbageRequest => "garbage_requests",
            Self::BadSignature => "bad_signatures",
            Self::UnknownIds => "unknown_ids",
        }
    }
}

/// A flood under way, and what has come of it so far.
pub struct Flood {
    node: Multiaddr,
    network: Network,
    /// Messages a second, of all attackers.
    rate: u64,
    over: AtomicBool,
    /// Connections begun.
    pub tried: AtomicU64,
    /// Connections on which the node said who it is.
    pub let_in: AtomicU64,
    /// Connections that failed before, or that the node closed before it said who it is.
    pub refused: AtomicU64,
    /// Connections that the node closed after it had let them in.
    pub thrown_out: AtomicU64,
    /// Connections that are let in now.
    pub open: AtomicUsize,
    /// The most that were.
    pub most_open: AtomicUsize,
    /// Messages sent, by [`Kind::ALL`].
    pub sent: [AtomicU64; Kind::ALL.len()],
    /// Responses that came.
    pub answered: AtomicU64,
}

impl Flood {
    /// A flood of a node at an address, with so many messages a second.
    pub fn new(node: Multiaddr, network: Network, rate: u64) -> Self {
        Self {
            node,
            network,
            rate,
            over: AtomicBool::new(false),
            tried: AtomicU64::new(0),
            let_in: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            thrown_out: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            sent: Default::default(),
            answered: AtomicU64::new(0),
        }
    }

    /// Has all attackers end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Messages sent, of all kinds.
    pub fn all_sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum()
    }

    /// One attacker, until the flood ends.
    pub async fn attack(&self, number: usize) {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        while !self.over.load(Ordering::Relaxed) {
            self.tried.fetch_add(1, Ordering::Relaxed);
            if self.one_connection(kind, &mut random).await {
                self.open.fetch_sub(1, Ordering::Relaxed);
                self.thrown_out.fetch_add(1, Ordering::Relaxed);
            } else {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(200..1_000))).await;
        }
    }

    /// Connects under a new identity and sends until the node closes the connection. Whether it was let in.
    async fn one_connection(&self, kind: Kind, random: &mut ChaCha8Rng) -> bool {
        let mut swarm = swarm(&self.network);
        if swarm.dial(self.node.clone()).is_err() {
            return false;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let (mut node, mut due, mut under_way) = (None, 0.0, 0_usize);
        loop {
            tokio::select! {
                event = swarm.select_next_some() => match event {
                    SwarmEvent::Behaviour(AttackerEvent::Identify(identify::Event::Received { peer_id, .. })) if node.is_none() => {
                        node = Some(peer_id);
                        self.let_in.fetch_add(1, Ordering::Relaxed);
                        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
                        self.most_open.fetch_max(open, Ordering::Relaxed);
                    }
                    SwarmEvent::Behaviour(AttackerEvent::Requests(request_response::Event::Message {
                        message: request_response::Message::Response { .. }, ..
                    })) => {
                        under_way = under_way.saturating_sub(1);
                        self.answered.fetch_add(1, Ordering::Relaxed);
                    }
                    SwarmEvent::Behaviour(AttackerEvent::Requests(request_response::Event::OutboundFailure { .. })) => {
                        under_way = under_way.saturating_sub(1);
                    }
                    SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                        return node.is_some();
                    }
                    _ => {}
                },
                _ = ticks.tick() => {
                    if self.over.load(Ordering::Relaxed) || (node.is_none() && tokio::time::Instant::now() > give_up) {
                        return node.is_some();
                    }
                    let Some(peer) = node else { continue };
                    let open = self.open.load(Ordering::Relaxed).max(1);
                    due += self.rate as f64 * TICK.as_secs_f64() / open as f64;
                    while due >= 1.0 {
                        due -= 1.0;
                        if send(&mut swarm, peer, &self.network, kind, under_way, random) {
                            under_way += usize::from(!matches!(kind, Kind::GarbageGossip | Kind::FalseBlock));
                            self.sent[kind as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }
}

/// Sends one message, if there is room for it.
fn send(
    swarm: &mut Swarm<Attacker>,
    peer: PeerId,
    network: &Network,
    kind: Kind,
    under_way: usize,
    random: &mut ChaCha8Rng,
) -> bool {
    let mut bytes = [0; 64];
    random.fill_bytes(&mut bytes);
    let framed = |message: &[u8]| [&(message.len() as u32).to_le_bytes(), message].concat();
    let topic = IdentTopic::new(topic::blocks(network.genesis_hash()));
    let request = match kind {
        Kind::GarbageGossip => return swarm.behaviour_mut().gossip.publish(topic, bytes.to_vec()).is_ok(),
        Kind::FalseBlock => {
            let genesis = &network.genesis;
            let header = Header { parent: genesis.hash(), height: 1, nonce: random.next_u64(), ..genesis.clone() };
            let message = Announcement { header, entries: Vec::new() }.to_bytes();
            return swarm.behaviour_mut().gossip.publish(topic, message).is_ok();
        }
        Kind::GarbageRequest => framed(&bytes),
        Kind::BadSignature => framed(&Request::Submit(unsigned_task(network, random)).to_bytes()),
        Kind::UnknownIds => {
            let ids = (0..ocelli_protocol::message::MAX_IDS).map(|_| ShortId(random.random())).collect();
            framed(&Request::Announce { ids }.to_bytes())
        }
    };
    if under_way >= UNDER_WAY {
        return false;
    }
    swarm.behaviour_mut().requests.send_request(&peer, request);
    true
}

/// A task that is right in all but its signature, with the public key that is the curve's base point.
fn unsigned_task(network: &Network, random: &mut ChaCha8Rng) -> Submission {
    let mut pixels = vec![0; network.parameters.models.first().map_or(0, |model| model.pixels as usize)];
    random.fill_bytes(&mut pixels);
    let model = network.parameters.models.first().map(|model| model.id).unwrap_or_default();
    let action = Action::Classify { model, image: ImageHash::of(&pixels) };
    let unsigned = Unsigned { nonce: 0, fee: Amount(1_000_000), expires: 1_000_000, action };
    let mut public_key = [0x66; 32];
    public_key[0] = 0x58;
    let mut signature = [0; 64];
    random.fill_bytes(&mut signature[..60]);
    Submission { transaction: Transaction { unsigned, public_key, signature }, pixels: Some(pixels) }
}

fn swarm(network: &Network) -> Swarm<Attacker> {
    let genesis = network.genesis_hash();
    let requests = StreamProtocol::try_from_owned(topic::request_protocol(genesis)).expect("a protocol's name");
    // Content alone names a message, or all would have one name.
    let hasher = RandomState::new();
    let options = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(move |message| MessageId::from(hasher.hash_one(&message.data).to_string()))
        .build()
        .expect("a configuration that fits");
    let behaviour = |key: &Keypair| {
        let mut gossip: gossipsub::Behaviour =
            gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, options).expect("a configuration that fits");
        gossip.subscribe(&IdentTopic::new(topic::blocks(genesis))).expect("a topic that is allowed");
        Attacker {
            identify: identify::Behaviour::new(identify::Config::new("ocelli/1".into(), key.public())),
            gossip,
            requests: request_response::Behaviour::new(
                [(requests, ProtocolSupport::Full)],
                request_response::Config::default(),
            ),
        }
    };
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(behaviour)
        .expect("a behaviour")
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

#[derive(NetworkBehaviour)]
struct Attacker {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
    requests: request_response::Behaviour<RawCodec>,
}

/// Writes a request as it is, without framing, and reads whatever comes back.
#[derive(Clone, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read_response(protocol, io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1 << 20).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await?;
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        Ok(())
    }
}
