//! A running node: its rooms put together.
//!
//! Each room is a thread that owns something, and an [inbox](crate::inbox) through which all comes to it:
//!
//! | room | owns | asks or tells |
//! | --- | --- | --- |
//! | [`core`] | the chain: what is written, headers, sync, assembly, validation | the pool, of moves of the tip |
//! | [`pool`] | the mempool, relay, templates, the miner, what is run ahead | the core, of blocks found |
//! | [`requests`] | what peers may ask for | pool and core, what only they answer |
//! | [`keeper`] | the small files of the data folder | nobody |
//! | [`router`] | nothing | whom each event of the network concerns |
//!
//! What all of them show is in the [`view`](crate::view), which anybody reads without waiting.
//!
//! **Nobody waits in a circle.** Who waits for whom: the router for core and pool, whose inboxes must take connections and
//! responses; the core for the pool, which must follow each move of the tip; the pool for the keeper, which must write down what
//! is pending. That is all, and it is a line: router, core, pool, keeper. The other way nothing waits: what the pool tells the
//! core, what inference and the miner leave, and what answers cost are answers to questions that are few; requests, gossip and
//! what peers say of their tips are dropped where an inbox is full. And the network waits for nobody at all.

mod config;
mod indexing;
pub mod open_files;
mod router;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ocelli_protocol::message::{MAX_ANNOUNCEMENT_BYTES, Request, Response};
use ocelli_protocol::topic;

pub use crate::error::NodeError;
pub use crate::keeper::cookie;
pub use crate::pool::{BLOCKS_AHEAD, FaucetConfig, Mining, RUN_AHEAD, Spender};
pub use crate::requests::SNAPSHOT;
pub use config::{Addresses, Capacity, Discovery, NodeConfig, Storage, is_of_genesis, models};

use crate::api;
use crate::chain::Chain;
use crate::core::{self, Core};
use crate::full_message::full_message;
use crate::inbox::{Sender, inbox};
use crate::inference::InferenceService;
use crate::keeper::{self, Keeper};
use crate::network::{self, NetworkConfig, NetworkHandle};
use crate::pool::{self, Mine, Pool};
use crate::reply::{ReplyTo, Till};
use crate::requests::{self, Owner, Requests, Rooms};
use crate::store::Store;
use crate::traffic::Counted;
use crate::view::{Figures, Views};
use indexing::Indexing;
use router::{CORE, POOL, Router};

/// A node that runs in this process. Dropping it stops it.
pub struct Node {
    /// Stops first: it asks all others.
    api: Option<api::Server>,
    requests: Sender<requests::Input>,
    core: Sender<core::Input>,
    pool: Sender<pool::Input>,
    keeper: Sender<keeper::Input>,
    network: NetworkHandle,
    rooms: Vec<(Room, JoinHandle<Result<(), NodeError>>)>,
    ended: Receiver<()>,
    indexing: Option<Indexing>,
    /// Dropped last: nobody then has the store open.
    views: Option<Arc<Views>>,
}

/// Rooms, in the order in which they stop: who is told something stops after whoever tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Requests,
    Core,
    Pool,
    Keeper,
    Router,
}

impl Node {
    /// Opens the data folder, joins the network and starts all rooms.
    ///
    /// # Errors
    /// [`NodeError`]: the folder, the network or the device cannot be used.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let started = Instant::now();
        let identity = keeper::identity(&config.data)?;
        let (storage, clock) = (config.storage, config.clock.clone());
        let store = Store::open_with(&config.data.join("chain"), &config.network, storage.store)?;
        for model in &config.files {
            store.add_file(model.bytes(), model.name())?;
        }
        let chain = Chain::open(config.network.clone(), store)?.keeping(storage.prune, storage.missing_attachments);
        let files = Arc::clone(chain.checked_files());
        let views = Views::new(config.network.clone(), files, Arc::new(chain.at_tip()?));
        let views = Arc::new(views);
        let store = Arc::clone(views.newest().rows.store());
        let indexing = Indexing::start(Arc::clone(&store), config.network.parameters.clone())?;
        let left_over = keeper::mempool(&store, pool::MEMPOOL_BYTES);
        let cookie = cookie::make(&config.data)?;

        let (core_inbox, to_core) = inbox();
        let (pool_link, to_pool) = pool::Link::new();
        let (requests_inbox, to_requests) = inbox();
        let (keeper_inbox, to_keeper) = inbox();
        let (faults, device_faults) = (pool_link.inbox.clone(), config.network.clone());
        let (network, events) = network::spawn(network_config(&chain, identity, &config)?)?;
        let models = config.models.clone();
        // The device is checked while the node joins the network: what needs an answer waits, and nothing else has to.
        let inference =
            InferenceService::begin(config.backend, config.models, store.model_files(), config.inference, move || {
                faults.reply(pool::Input::DeviceFault);
            });
        let (counted, data) = (Arc::new(Counted::default()), config.data);
        let mine = config.mining.map(|mining| Mine::start(mining, pool_link.inbox.clone()));
        let mining = mine.as_ref().map(Mine::figures);

        let core = Core::new(
            chain,
            core::Others {
                views: Arc::clone(&views),
                clock: clock.clone(),
                inbox: core_inbox.clone(),
                network: network.for_asker(CORE),
                inference: inference.clone(),
                counted: Arc::clone(&counted),
                pool: pool_link.clone(),
            },
        )?;
        let (happenings, moves) = (Arc::new(api::Events::new()?), api::Moves::default());
        let (happened, counted_moves) = (Arc::clone(&happenings), moves.clone());
        let (found, unchecked) = (core_inbox.clone(), core_inbox.clone());
        let others = pool::Others {
            views: Arc::clone(&views),
            clock: clock.clone(),
            inbox: pool_link.inbox.clone(),
            network: network.for_asker(POOL),
            inference: inference.clone(),
            counted: Arc::clone(&counted),
            keeper: keeper_inbox.clone(),
            found: Box::new(move |block| found.reply(core::Input::Mined(block))),
            moved: Box::new(move |disconnected, connected| {
                happened.moved(disconnected, connected);
                counted_moves.count(disconnected, connected);
            }),
            unchecked: Box::new(move |upload| unchecked.reply(core::Input::Unchecked(upload))),
        };
        let (spent, to_charge) = channel();
        let till = Till { network: network.clone(), counted: Arc::clone(&counted), spent };
        let figures = Figures { network: network.clone(), inference, counted, mining, started, clock: clock.clone() };
        let of_api = api::Others {
            models,
            views: Arc::clone(&views),
            figures: figures.clone(),
            events: happenings,
            pool: pool_link.inbox.clone(),
            moves,
        };
        let api = config.api.as_ref().map(|api| api::Server::start(api, &data, of_api)).transpose()?;
        let listening = api.as_ref().map(api::Server::address);
        let keeper = Keeper::new(data.clone(), device_faults, network.clone(), store, listening, &left_over);
        let pool = Pool::new(others, mine, config.faucet, left_over.submissions)?;
        let rooms = Rooms { pool: pool_link.inbox.clone(), core: core_inbox.clone() };
        let to_forget = pool_link.inbox.clone();
        let owner = Owner::new(cookie, data, network.clone(), Arc::clone(&views), clock.clone(), to_forget);
        let requests = Requests::new(Arc::clone(&views), figures, rooms, owner, (till, to_charge), clock);
        let router = Router {
            core: core_inbox.clone(),
            pool: pool_link.inbox.clone(),
            requests: requests_inbox.clone(),
            keeper: keeper_inbox.clone(),
            network: network.clone(),
        };

        let (end, ended) = sync_channel(1);
        let mut node = Self {
            api,
            requests: requests_inbox,
            core: core_inbox,
            pool: pool_link.inbox,
            keeper: keeper_inbox,
            network,
            rooms: Vec::new(),
            ended,
            indexing: Some(indexing),
            views: Some(views),
        };
        // If one cannot be started, dropping the node stops the others.
        node.open(Room::Keeper, &end, move || keeper.run(&to_keeper))?;
        node.open(Room::Pool, &end, move || pool.run(&to_pool))?;
        node.open(Room::Core, &end, move || core.run(&to_core))?;
        node.open(Room::Requests, &end, move || {
            requests.run(&to_requests);
            Ok(())
        })?;
        node.open(Room::Router, &end, move || {
            router.run(events);
            Ok(())
        })?;
        Ok(node)
    }

    fn open(
        &mut self,
        room: Room,
        end: &SyncSender<()>,
        run: impl FnOnce() -> Result<(), NodeError> + Send + 'static,
    ) -> Result<(), NodeError> {
        let end = end.clone();
        let name = format!("{room:?}").to_lowercase();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Told even if it panics.
            let _end = End(end);
            run()
        })?;
        self.rooms.push((room, thread));
        Ok(())
    }

    /// Answers a request as the node would answer a peer; `None` if it has stopped.
    pub fn ask(&self, request: Request) -> Option<Response> {
        let (reply, answer) = sync_channel(1);
        self.requests.send(requests::Input::Ask(Box::new(request), ReplyTo::Local(reply))).then_some(())?;
        answer.recv().ok()
    }

    /// Multiaddrs to reach the node at, on this machine and elsewhere, ending in `/p2p/…`.
    pub fn addresses(&self) -> Vec<String> {
        self.network.status().addresses
    }

    /// Where it answers over HTTP, if it does.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(api::Server::address)
    }

    /// Whether the node ends by itself within that time, which it does when its store fails.
    pub fn ends_within(&self, time: Duration) -> bool {
        !matches!(self.ended.recv_timeout(time), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
    }

    /// Stops the node and waits until everything is on disk.
    ///
    /// # Errors
    /// Why it had ended by itself.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        self.api = None;
        let mut result = Ok(());
        for room in [Room::Requests, Room::Core, Room::Pool, Room::Keeper, Room::Router] {
            match room {
                Room::Requests => drop(self.requests.send(requests::Input::Stop)),
                Room::Core => drop(self.core.send(core::Input::Stop)),
                Room::Pool => drop(self.pool.send(pool::Input::Stop)),
                Room::Keeper => drop(self.keeper.send(keeper::Input::Stop)),
                Room::Router => self.network.shutdown(),
            }
            let Some(place) = self.rooms.iter().position(|(other, _)| *other == room) else { continue };
            let ended = self.rooms.remove(place).1.join().unwrap_or(Err(NodeError::Panicked));
            // The first that ended is why others did.
            result = result.and(ended);
        }
        self.indexing = None;
        self.views = None;
        result
    }
}

/// Says that a room has ended, however it did.
struct End(SyncSender<()>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.try_send(()); // nobody need listen
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(error = full_message(&error), "the node had ended");
        }
    }
}

/// How the network module is to be run for a node.
///
/// # Errors
/// If the store's list of peers cannot be read.
fn network_config(chain: &Chain, identity: [u8; 32], node: &NodeConfig) -> Result<NetworkConfig, NodeError> {
    let genesis = chain.genesis();
    let topics = vec![topic::blocks(genesis)];
    let mut config = NetworkConfig::full(identity, topic::request_protocol(genesis), topics);
    config.kademlia = Some(network::kademlia_protocol(&genesis.to_string()));
    let is_local = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let Addresses { listen, external, bootstrap } = node.addresses.clone();
    config.traversal = (!listen.iter().all(is_local)).then_some(node.traversal);
    (config.listen, config.external, config.bootstrap) = (listen, external, bootstrap);
    config.known = chain.store().known_peers()?;
    config.bans = keeper::bans(chain.store());
    config.clock = node.clock.clone();
    config.mdns = node.discovery == Discovery::LocalNetwork;
    config.limits.connections.inbound = node.capacity.inbound;
    config.limits.connections.memory_bytes = node.capacity.memory_bytes;
    config.limits.messages.request_bytes = Request::max_bytes;
    config.limits.messages.response_bytes = Response::max_bytes;
    config.limits.messages.gossip_bytes = MAX_ANNOUNCEMENT_BYTES;
    Ok(config)
}
