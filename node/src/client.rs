//! A light peer that asks: it joins no gossip, keeps no chain and answers nobody.
//!
//! It believes nobody either. What can be checked is: transactions and blocks against headers, headers against the rules
//! with their work ([`chains`]), balances against the state's root. A node that says what cannot be true is left, and
//! another one is asked. For the rest it says how many nodes say so.
//!
//! One thread does one thing at a time here: whoever calls waits for the answer, and what else happens on the network
//! meanwhile is taken note of on the way.

pub mod account;
pub mod chains;
pub mod confirmation;
mod error;
pub mod faucet;
mod header_chain;
pub mod ledger;
mod lie;
pub mod models;
pub mod pending;
pub mod submission;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, Instant};

use ocelli_consensus::network::Network;
use ocelli_consensus::{BlockHash, TxId};
use ocelli_protocol::message::{ChainStatus, NodeStatus, Request, Response};
use ocelli_protocol::topic::request_protocol;

pub use crate::fee;
pub use error::ClientError;
pub use lie::Lie;

use chains::{Chains, MAX_ASKED, unexpected};

use crate::network::{self, DialFailure, Events, NetworkConfig, NetworkEvent, NetworkHandle, Peer, RequestId};

/// How long a node may take to take the connection and say who it is.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a node may take to answer a question about what it has.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Nodes that a client keeps track of, and addresses that failed: far more than a submission goes to.
const MAX_PEERS: usize = 64;

/// Characters that are kept of why a node was left.
const MAX_REASON: usize = 500;

/// A connected node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Who it is.
    pub peer: Peer,
    /// The multiaddr at which it was reached.
    pub address: String,
    /// The request protocol that it answers.
    protocol: String,
}

/// What a request came to.
#[derive(Debug)]
pub struct Reply {
    pub id: RequestId,
    pub peer: Peer,
    /// When it came.
    pub received: Instant,
    /// The response, or why there is none.
    pub result: Result<Response, ClientError>,
}

/// What a node says to a question that several are asked.
type Answer = (Connection, Result<Response, ClientError>);

/// A light peer.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    handle: NetworkHandle,
    events: Events,
    network: Network,
    /// The request protocol of that network, once it is known.
    protocol: Option<String>,
    /// In the order in which they connected; never empty at first, but a node may go.
    connections: Vec<Connection>,
    /// How many of them, the first, transactions are handed to.
    receivers: usize,
    /// Addresses that were dialled in vain, each once.
    failures: Vec<(String, DialFailure)>,
    /// What the nodes show of their chains.
    chains: Chains,
    /// Nodes that cannot be believed, and why. They are not taken back.
    left: BTreeMap<Peer, String>,
    /// Nodes that have not answered once.
    silent: BTreeSet<Peer>,
    /// Replies that nobody has asked for yet. Bounded by the requests under way.
    replies: BTreeMap<RequestId, Reply>,
    /// The first block after which a transaction was seen to be void, of those that are waited for.
    void_since: BTreeMap<TxId, (u64, BlockHash)>,
}

impl Client {
    /// Joins through the first of these addresses that answers, on whichever of the networks it is on.
    ///
    /// # Errors
    /// [`ClientError`]: no address is usable, nobody answers there, or only nodes of other networks.
    pub fn connect(networks: &[Network], addresses: &[String]) -> Result<Self, ClientError> {
        let [network, ..] = networks else { return Err(ClientError::NoNetwork) };
        if addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let mut addresses = addresses.to_vec();
        addresses.sort();
        addresses.dedup();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| ClientError::Runtime { source })?;
        let mut identity = [0; 32];
        getrandom::fill(&mut identity).map_err(|error| ClientError::Runtime { source: error.into() })?;
        let protocols = networks.iter().map(|network| request_protocol(network.genesis_hash())).collect();
        let mut config = NetworkConfig::light(identity, protocols);
        config.bootstrap = addresses.clone();
        if networks.len() == 1 {
            config.kademlia = Some(network::kademlia_protocol(&network.genesis_hash().to_string()));
        }
        let (handle, events) = network::spawn(config)?;
        let mut client = Self {
            runtime,
            handle,
            events,
            network: network.clone(),
            protocol: None,
            connections: Vec::new(),
            receivers: MAX_PEERS,
            failures: Vec::new(),
            chains: Chains::default(),
            left: BTreeMap::new(),
            silent: BTreeSet::new(),
            replies: BTreeMap::new(),
            void_since: BTreeMap::new(),
        };
        client.wait_for_the_first(networks, &addresses)?;
        Ok(client)
    }

    /// The network that the node is on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The nodes that are connected now.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Waits until `wanted` nodes are connected, at most for `time`.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn find_nodes(&mut self, wanted: usize, time: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + time;
        while self.connections.len() < wanted.min(MAX_PEERS) && self.advance(deadline)? {}
        Ok(())
    }

    /// Waits until the nodes at these addresses are connected, or have failed, at most for [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn await_named(&mut self, addresses: &[String]) -> Result<(), ClientError> {
        // One node may be named by several addresses.
        let peer = |address: &String| address.rsplit_once("/p2p/").map(|(_, peer)| peer.to_owned());
        let named: BTreeSet<_> = addresses.iter().map(|address| peer(address).unwrap_or(address.clone())).collect();
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while self.connections.len() + self.failures.len() < named.len().min(MAX_PEERS) && self.advance(deadline)? {}
        Ok(())
    }

    /// Waits until a node is connected, at most for [`CONNECT_TIMEOUT`], and not after its addresses have failed.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn await_peer(&mut self, peer: Peer) -> Result<(), ClientError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let is_there = |client: &Self| client.connections.iter().any(|connection| connection.peer == peer);
        while !is_there(self) && self.connections.is_empty() && self.advance(deadline)? {}
        Ok(())
    }

    /// Has transactions handed in to so many nodes at most, those that connected first. All are asked what became of them.
    pub fn limit_receivers(&mut self, count: usize) {
        self.receivers = count;
    }

    /// Whom transactions are handed in to.
    fn receivers(&self) -> Vec<Connection> {
        self.connections.iter().take(self.receivers).cloned().collect()
    }

    /// Nodes that could not be believed and were left, each with why.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.left.values().map(String::as_str)
    }

    /// Disconnects from a node for good.
    pub(crate) fn disconnect(&mut self, node: &Connection, why: &ClientError) {
        // Bounded: it may quote what the node says.
        let text: String = printable(&why.to_string()).chars().take(MAX_REASON).collect();
        self.left.entry(node.peer).or_insert(text);
        self.forget(node.peer);
        self.handle.disconnect(node.peer);
    }

    /// Disconnects from a node that says what cannot be true, or that has been silent twice while there are others; of another failure,
    /// the failure.
    fn judge(&mut self, node: &Connection, error: ClientError) -> Option<ClientError> {
        let is_silent = matches!(error, ClientError::TimedOut { .. });
        let is_slow = is_silent && !self.silent.insert(node.peer) && self.connections.len() > 1;
        if error.is_lie() || is_slow {
            self.disconnect(node, &error);
            return None;
        }
        self.chains.remove(node.peer);
        Some(error)
    }

    /// Asks one node after the other until one has what is asked for; `None` if one at least says that it has not, and none has.
    fn first_found<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self, &Connection) -> Result<Option<T>, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let (mut is_unknown, mut failure) = (false, None);
        for node in self.asked() {
            match ask(self, &node) {
                Ok(Some(found)) => return Ok(Some(found)),
                // Another node may have come further.
                Ok(None) => is_unknown = true,
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        match failure {
            _ if is_unknown => Ok(None),
            Some(error) => Err(error),
            None => Err(self.nobody()),
        }
    }

    fn forget(&mut self, peer: Peer) {
        self.connections.retain(|connection| connection.peer != peer);
        self.chains.remove(peer);
    }

    /// Nobody is connected.
    fn nobody(&self) -> ClientError {
        if self.left.is_empty() {
            return ClientError::Alone;
        }
        ClientError::NoneLeft { left: self.left.values().cloned().collect() }
    }

    /// Whom to ask where several are asked.
    fn asked(&self) -> Vec<Connection> {
        self.connections.iter().take(MAX_ASKED).cloned().collect()
    }

    /// Where the first node's chain stands: its word.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn chain_status(&mut self) -> Result<ChainStatus, ClientError> {
        let Some(node) = self.connections.first().cloned() else { return Err(self.nobody()) };
        match self.ask_at(node.clone(), &Request::Status)? {
            Response::Status(status) => Ok(status),
            other => Err(unexpected(&node, "Status", &other)),
        }
    }

    /// How the first node is: its word.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn node_status(&mut self) -> Result<NodeStatus, ClientError> {
        let Some(node) = self.connections.first().cloned() else { return Err(self.nobody()) };
        match self.ask_at(node.clone(), &Request::NodeStatus)? {
            Response::NodeStatus(status) => Ok(*status),
            other => Err(unexpected(&node, "NodeStatus", &other)),
        }
    }

    /// Asks the first node and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer, or answers that it cannot.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let Some(connection) = self.connections.first().cloned() else { return Err(self.nobody()) };
        self.ask_at(connection, request)
    }

    /// Asks a connected node and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_at(&mut self, connection: Connection, request: &Request) -> Result<Response, ClientError> {
        self.ask_until(&connection, request, Instant::now() + ANSWER_TIMEOUT)
    }

    /// As [`Client::ask_at`], at most for [`ANSWER_TIMEOUT`] and until the deadline.
    fn ask_until(&mut self, node: &Connection, request: &Request, deadline: Instant) -> Result<Response, ClientError> {
        let deadline = deadline.min(Instant::now() + ANSWER_TIMEOUT);
        let mut replies = self.ask_each(std::slice::from_ref(node), request, deadline)?;
        replies.pop().map_or(Err(ClientError::Alone), |(_, result)| result)
    }

    /// Asks nodes at the same time, and waits until all have answered or the deadline has come; in their order.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    fn ask_each(
        &mut self,
        nodes: &[Connection],
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<Answer>, ClientError> {
        let start = Instant::now();
        let ids: Vec<_> = nodes.iter().map(|node| self.send(node.peer, request)).collect();
        while !ids.iter().all(|id| self.replies.contains_key(id)) && self.advance(deadline)? {}
        let mut answers = Vec::new();
        for (node, id) in nodes.iter().cloned().zip(ids) {
            let address = node.address.clone();
            let result = match self.replies.remove(&id).map(|reply| reply.result) {
                Some(Ok(Response::Failed { reason })) => {
                    Err(ClientError::Failed { address, reason: printable(&reason) })
                }
                Some(result) => result,
                None => Err(ClientError::TimedOut { address, seconds: (deadline - start).as_secs() }),
            };
            answers.push((node, result));
        }
        Ok(answers)
    }

    /// Sends a request without waiting; [`Client::next_reply`] has what comes of it.
    pub fn send(&mut self, peer: Peer, request: &Request) -> RequestId {
        self.handle.request(peer, request.to_bytes())
    }

    /// The next reply to any request; `None` if there is none until then.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn next_reply(&mut self, deadline: Instant) -> Result<Option<Reply>, ClientError> {
        loop {
            if let Some((_, reply)) = self.replies.pop_first() {
                return Ok(Some(reply));
            }
            if !self.advance(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The address of a node that is or was connected, for messages.
    fn address_of(&self, peer: Peer) -> String {
        self.connections
            .iter()
            .find(|connection| connection.peer == peer)
            .map_or_else(|| peer.to_string(), |connection| connection.address.clone())
    }

    /// Waits until a node is connected, and finds out which network it is on.
    fn wait_for_the_first(&mut self, networks: &[Network], addresses: &[String]) -> Result<(), ClientError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        while self.connections.is_empty() {
            // All have failed: dialling goes on, but a person need not wait for it.
            if self.failures.len() >= addresses.len() || !self.advance(deadline)? {
                return Err(ClientError::Unreachable {
                    addresses: addresses.to_vec(),
                    failures: std::mem::take(&mut self.failures),
                });
            }
        }
        // The protocol that it answers names its genesis.
        let Some(Connection { protocol, .. }) = self.connections.first().cloned() else { return Err(self.nobody()) };
        if let Some(network) = networks.iter().find(|network| request_protocol(network.genesis_hash()) == protocol) {
            self.network = network.clone();
        }
        self.connections.retain(|connection| connection.protocol == protocol);
        self.protocol = Some(protocol);
        Ok(())
    }

    /// Lets time pass until the deadline, and takes note of what happens meanwhile.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    pub fn pause(&mut self, deadline: Instant) -> Result<(), ClientError> {
        while self.advance(deadline)? {}
        Ok(())
    }

    /// Takes note of the next event; false if none comes until then.
    fn advance(&mut self, deadline: Instant) -> Result<bool, ClientError> {
        let received = within(&self.runtime, deadline, self.events.recv());
        let event = match received {
            None => return Ok(false),
            Some(None) => return Err(ClientError::Alone),
            Some(Some(event)) => event,
        };
        match event {
            NetworkEvent::Connected { peer, address, light: false, protocol: Some(protocol), .. } => {
                let is_other = self.protocol.as_ref().is_some_and(|ours| *ours != protocol);
                if self.left.contains_key(&peer) || is_other {
                    self.handle.disconnect(peer);
                } else if self.connections.len() < MAX_PEERS {
                    self.connections.push(Connection { peer, address, protocol });
                }
            }
            NetworkEvent::Disconnected { peer } => self.forget(peer),
            NetworkEvent::DialFailed { address, reason } => {
                if self.failures.len() < MAX_PEERS && self.failures.iter().all(|(failed, _)| *failed != address) {
                    self.failures.push((address, reason));
                }
            }
            NetworkEvent::Response { id, peer, result } => {
                let address = self.address_of(peer);
                let result = match result {
                    Ok(bytes) => {
                        Response::from_bytes(&bytes).map_err(|source| ClientError::Malformed { address, source })
                    }
                    Err(source) => Err(ClientError::NoAnswer { address, source }),
                };
                self.replies.insert(id, Reply { id, peer, received: Instant::now(), result });
            }
            // A light peer is told of no gossip and asked nothing.
            NetworkEvent::Connected { .. }
            | NetworkEvent::Listening(_)
            | NetworkEvent::Gossip { .. }
            | NetworkEvent::MissedGossip { .. }
            | NetworkEvent::Request { .. } => {}
        }
        Ok(true)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// What a peer says, without what could drive a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn within<T>(runtime: &tokio::runtime::Runtime, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { tokio::time::timeout_at(deadline.into(), future).await.ok() })
}
