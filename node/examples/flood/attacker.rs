//! Peers that speak a node's own protocols and flood it: with what is invalid, or with what is allowed.
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
use ocelli_consensus::block::BodyCommitment;
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::{Action, Address, Amount, Header, Network, Root, Transaction, Unsigned};
use ocelli_node::wallet::Wallet;
use ocelli_protocol::message::{Announcement, Request, Response, ShortId, Submission, SubmitReply};
use ocelli_protocol::topic;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::lawful::{self, Lawful};

/// How often an attacker sends what has become due.
const TICK: Duration = Duration::from_millis(20);
/// How long the node may take to say who it is, until the attacker tries again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that one attacker has under way; those beyond it are not sent.
const UNDER_WAY: usize = 64;
/// The same of one that does what is allowed: so many may be refused at once before a node takes it amiss.
const ALLOWED_UNDER_WAY: usize = 16;

/// What an attacker sends, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What no honest program sends.
    Invalid(Invalid),
    /// What any may.
    Allowed(Lawful),
}

/// What is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
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
    /// All that is invalid; attackers take turns.
    pub const INVALID: &[Self] = &[
        Self::Invalid(Invalid::GarbageGossip),
        Self::Invalid(Invalid::FalseBlock),
        Self::Invalid(Invalid::GarbageRequest),
        Self::Invalid(Invalid::BadSignature),
        Self::Invalid(Invalid::UnknownIds),
    ];
    /// All that is allowed.
    pub const ALLOWED: &[Self] = &[
        Self::Allowed(Lawful::LowestFee),
        Self::Allowed(Lawful::Gaps),
        Self::Allowed(Lawful::Requests),
        Self::Allowed(Lawful::Announcements),
    ];

    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid(Invalid::GarbageGossip) => "garbage_gossip",
            Self::Invalid(Invalid::FalseBlock) => "false_blocks",
            Self::Invalid(Invalid::GarbageRequest) => "garbage_requests",
            Self::Invalid(Invalid::BadSignature) => "bad_signatures",
            Self::Invalid(Invalid::UnknownIds) => "unknown_ids",
            Self::Allowed(Lawful::LowestFee) => "lowest_fees",
            Self::Allowed(Lawful::Gaps) => "gaps",
            Self::Allowed(Lawful::Requests) => "requests",
            Self::Allowed(Lawful::Announcements) => "announcements",
        }
    }
}

/// A flood under way, and what has come of it so far.
pub struct Flood {
    node: Multiaddr,
    network: Network,
    kinds: &'static [Kind],
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
    /// Messages sent, by the flood's kinds.
    pub sent: Vec<AtomicU64>,
    /// Responses that came.
    pub answered: AtomicU64,
    /// Responses that refuse, of those that do what is allowed.
    pub refusals: AtomicU64,
}

impl Flood {
    /// A flood of a node at an address with messages of these kinds, so many a second.
    pub fn new(node: Multiaddr, network: Network, kinds: &'static [Kind], rate: u64) -> Self {
        Self {
            node,
            network,
            kinds,
            rate,
            over: AtomicBool::new(false),
            tried: AtomicU64::new(0),
            let_in: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            thrown_out: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            sent: kinds.iter().map(|_| AtomicU64::new(0)).collect(),
            answered: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
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
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        while !self.over.load(Ordering::Relaxed) {
            self.tried.fetch_add(1, Ordering::Relaxed);
            if self.one_connection(number, &mut random).await {
                self.open.fetch_sub(1, Ordering::Relaxed);
                self.thrown_out.fetch_add(1, Ordering::Relaxed);
            } else {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(200..1_000))).await;
        }
    }

    /// Connects under a new identity and sends until the node closes the connection. Whether it was let in.
    async fn one_connection(&self, number: usize, random: &mut ChaCha8Rng) -> bool {
        let place = number % self.kinds.len();
        let (kind, mut lawful) = (self.kinds[place], lawful::Peer::new(&self.network, number));
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
                        message: request_response::Message::Response { response, .. }, ..
                    })) => {
                        under_way = under_way.saturating_sub(1);
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        if let (Kind::Allowed(_), Some(response)) = (kind, decoded(&response)) {
                            let before = lawful.refusals;
                            lawful.on_response(&response);
                            self.refusals.fetch_add(lawful.refusals - before, Ordering::Relaxed);
                        }
                    }
                    SwarmEvent::Behaviour(AttackerEvent::Requests(request_response::Event::Message {
                        message: request_response::Message::Request { request, channel, .. }, ..
                    })) => {
                        // Who floods with what is invalid answers nothing either.
                        let asked = request.get(4..).and_then(|bytes| Request::from_bytes(bytes).ok());
                        if let (Kind::Allowed(_), Some(asked)) = (kind, asked) {
                            let answer = framed(&lawful.answer(&asked).to_bytes());
                            // The node may have gone meanwhile.
                            drop(swarm.behaviour_mut().requests.send_response(channel, answer));
                        }
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
                        let message = match kind {
                            Kind::Invalid(kind) => Some(invalid(&self.network, kind, random)),
                            Kind::Allowed(kind) if under_way < ALLOWED_UNDER_WAY => {
                                lawful.next(kind, random).map(|request| Message::Request(framed(&request.to_bytes())))
                            }
                            Kind::Allowed(_) => None,
                        };
                        let is_sent = match message {
                            Some(Message::Gossip(bytes)) => {
                                let topic = IdentTopic::new(topic::blocks(self.network.genesis_hash()));
                                swarm.behaviour_mut().gossip.publish(topic, bytes).is_ok()
                            }
                            Some(Message::Request(bytes)) if under_way < UNDER_WAY => {
                                under_way += 1;
                                swarm.behaviour_mut().requests.send_request(&peer, bytes);
                                true
                            }
                            Some(Message::Request(_)) | None => false,
                        };
                        self.sent[place].fetch_add(u64::from(is_sent), Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// What is sent, and how.
enum Message {
    Gossip(Vec<u8>),
    Request(Vec<u8>),
}

/// With its length, as requests and responses go over a stream.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

fn decoded(bytes: &[u8]) -> Option<Response> {
    Response::from_bytes(bytes.get(4..)?).ok()
}

/// One message.
fn invalid(network: &Network, kind: Invalid, random: &mut ChaCha8Rng) -> Message {
    let mut bytes = [0; 64];
    random.fill_bytes(&mut bytes);
    match kind {
        Invalid::GarbageGossip => Message::Gossip(bytes.to_vec()),
        Invalid::FalseBlock => {
            let genesis = &network.genesis;
            let header = Header { parent: genesis.hash(), height: 1, nonce: random.next_u64(), ..genesis.clone() };
            let commitment = BodyCommitment { ids: Vec::new(), transactions: Root([1; 32]), answers: Root([2; 32]) };
            Message::Gossip(Announcement { header, commitment }.to_bytes())
        }
        Invalid::GarbageRequest => Message::Request(framed(&bytes)),
        Invalid::BadSignature => Message::Request(framed(&Request::Submit(unsigned_task(network, random)).to_bytes())),
        Invalid::UnknownIds => {
            let ids = (0..ocelli_protocol::message::MAX_IDS).map(|_| ShortId(random.random())).collect();
            Message::Request(framed(&Request::Announce { ids }.to_bytes()))
        }
    }
}

/// Gives the attackers' accounts something, from the account that the network funds: all of those that have less than half of
/// it. Ends when that is in blocks.
///
/// # Errors
/// What the node says against it.
pub async fn fund(node: Multiaddr, network: &Network) -> Result<(), String> {
    let mut swarm = swarm(network);
    swarm.dial(node).map_err(|error| error.to_string())?;
    let peer = loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(AttackerEvent::Identify(identify::Event::Received { peer_id, .. })) => break peer_id,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.to_string()),
            _ => {}
        }
    };
    let from = Wallet::from_seed(DEV_WALLET_SEED);
    let address_of = |wallet: &Wallet| Address::of(&wallet.public_key());
    let mut poor: Vec<Address> = (0..lawful::ACCOUNTS).map(|number| address_of(&lawful::wallet(number))).collect();
    while !poor.is_empty() {
        let mut still = Vec::new();
        for address in poor {
            match ask(&mut swarm, peer, &Request::Account { address }).await? {
                Response::Account(account) if account.balance >= Amount(lawful::FUNDS.0 / 2) => {}
                _ => still.push(address),
            }
        }
        poor = still;
        let Response::Account(mut account) =
            ask(&mut swarm, peer, &Request::Account { address: address_of(&from) }).await?
        else {
            return Err("expected an account".into());
        };
        // What is on its way is waited for.
        let batch = if account.next_nonce == account.nonce { &poor[..poor.len().min(64)] } else { &[] };
        for to in batch {
            let action = Action::Transfer { to: *to, amount: lawful::FUNDS };
            let transaction = lawful::signed(&from, network, account.next_nonce, Amount(1_000_000), action);
            let submission = Submission { transaction, attachment: None };
            if let Response::Submitted(SubmitReply::Refused { reason, .. }) =
                ask(&mut swarm, peer, &Request::Submit(submission)).await?
            {
                return Err(reason);
            }
            account.next_nonce += 1;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Asks, and waits for the answer.
async fn ask(swarm: &mut Swarm<Attacker>, peer: PeerId, request: &Request) -> Result<Response, String> {
    let id = swarm.behaviour_mut().requests.send_request(&peer, framed(&request.to_bytes()));
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(AttackerEvent::Requests(request_response::Event::Message {
                message: request_response::Message::Response { request_id, response },
                ..
            })) if request_id == id => return decoded(&response).ok_or_else(|| "expected a response".into()),
            SwarmEvent::Behaviour(AttackerEvent::Requests(request_response::Event::OutboundFailure {
                request_id,
                error,
                ..
            })) if request_id == id => return Err(error.to_string()),
            SwarmEvent::ConnectionClosed { .. } => return Err("the node has closed the connection".into()),
            _ => {}
        }
    }
}

/// A task that is right in all but its signature, in the name of an account that has been given something: of who has nothing no
/// signature is looked at.
fn unsigned_task(network: &Network, random: &mut ChaCha8Rng) -> Submission {
    let model = network.parameters.models.first().expect("a network that is flooded has a model");
    let mut pixels = vec![0; model.facts.pixels() as usize];
    random.fill_bytes(&mut pixels);
    let action = lawful::classify(model, &pixels);
    let unsigned = Unsigned { nonce: 0, fee: Amount(1_000_000), expires: 1_000_000, action };
    let mut signature = [0; 64];
    random.fill_bytes(&mut signature[..60]);
    let public_key = lawful::wallet(random.random_range(0..lawful::ACCOUNTS)).public_key();
    Submission { transaction: Transaction { unsigned, public_key, signature }, attachment: Some(pixels.into()) }
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
        io.take(16 << 20).read_to_end(&mut bytes).await?;
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
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&response).await?;
        io.close().await
    }
}
