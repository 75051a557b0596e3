//! A light peer that asks: it joins no gossip, keeps no chain and answers nobody.
//!
//! One thread does one thing at a time here: whoever calls waits for the answer, and what else happens on the network
//! meanwhile is taken note of on the way.

pub mod confirmation;
mod error;
pub mod faucet;
pub mod fee;
pub mod submission;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use ocelli_consensus::network::Network;
use ocelli_consensus::{Address, TxId};
use ocelli_protocol::message::{
    AccountStatus, BlockId, ChainStatus, FeeSuggestion, FoundBlock, NodeStatus, Request, Response, TransactionStatus,
};
use ocelli_protocol::topic::request_protocol;

pub use error::ClientError;

use crate::network::{self, Config, DialFailure, Event, Events, Handle, Peer, RequestId};

/// How long a node may take to take the connection and say who it is.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a node may take to answer a question about what it has.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Nodes that a client keeps track of, and addresses that failed: far more than a submission goes to.
const MAX_PEERS: usize = 64;

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
    /// Names the request.
    pub id: RequestId,
    /// Who was asked.
    pub peer: Peer,
    /// When it came.
    pub received: Instant,
    /// The response, or why there is none.
    pub result: Result<Response, ClientError>,
}

/// A light peer.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
    events: Events,
    network: Network,
    /// In the order in which they connected; never empty at first, but a node may go.
    connections: Vec<Connection>,
    /// Addresses that were dialled in vain, each once.
    failures: Vec<(String, DialFailure)>,
    /// Replies that nobody has asked for yet. Bounded by the requests under way.
    replies: BTreeMap<RequestId, Reply>,
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
        let mut config = Config::light(identity, protocols);
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
            connections: Vec::new(),
            failures: Vec::new(),
            replies: BTreeMap::new(),
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

    /// Leaves all but the first nodes.
    pub fn keep_nodes(&mut self, count: usize) {
        for connection in self.connections.drain(count.min(self.connections.len())..) {
            self.handle.disconnect(connection.peer);
        }
    }

    /// Where the node's chain stands.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn chain_status(&mut self) -> Result<ChainStatus, ClientError> {
        match self.ask(&Request::Status)? {
            Response::Status(status) => Ok(status),
            other => Err(self.unexpected("Status", &other)),
        }
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn node_status(&mut self) -> Result<NodeStatus, ClientError> {
        match self.ask(&Request::NodeStatus)? {
            Response::NodeStatus(status) => Ok(*status),
            other => Err(self.unexpected("NodeStatus", &other)),
        }
    }

    /// An account at the node's tip.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn account(&mut self, address: Address) -> Result<AccountStatus, ClientError> {
        match self.ask(&Request::Account { address })? {
            Response::Account(account) => Ok(account),
            other => Err(self.unexpected("Account", &other)),
        }
    }

    /// A block of the node; `None` if it has none such.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer.
    pub fn block(&mut self, by: BlockId) -> Result<Option<FoundBlock>, ClientError> {
        match self.ask(&Request::Block { by })? {
            Response::Block(block) => Ok(block.map(|block| *block)),
            other => Err(self.unexpected("Block", &other)),
        }
    }

    /// The fee with which a transaction is likely to be in one of the next `blocks`.
    ///
    /// # Errors
    /// [`ClientError`] when the node does not answer.
    pub fn fee(&mut self, blocks: u32) -> Result<FeeSuggestion, ClientError> {
        match self.ask(&Request::Fee { blocks })? {
            Response::Fee(suggestion) => Ok(suggestion),
            other => Err(self.unexpected("Fee", &other)),
        }
    }

    /// What became of a transaction.
    ///
    /// # Errors
    /// [`ClientError`] when the node does not answer.
    pub fn transaction(&mut self, txid: TxId) -> Result<TransactionStatus, ClientError> {
        match self.ask(&Request::Transaction { txid })? {
            Response::Transaction(status) => Ok(status),
            other => Err(self.unexpected("Transaction", &other)),
        }
    }

    /// Asks the first node and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer, or answers that it cannot.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let Some(connection) = self.connections.first().cloned() else { return Err(ClientError::Alone) };
        self.ask_at(connection, request)
    }

    /// Asks a connected node and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_at(&mut self, connection: Connection, request: &Request) -> Result<Response, ClientError> {
        let id = self.send(connection.peer, request);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            if let Some(reply) = self.replies.remove(&id) {
                return match reply.result? {
                    Response::Failed { reason } => {
                        Err(ClientError::Failed { address: connection.address, reason: printable(&reason) })
                    }
                    response => Ok(response),
                };
            }
            if !self.advance(deadline)? {
                return Err(ClientError::TimedOut { address: connection.address, seconds: ANSWER_TIMEOUT.as_secs() });
            }
        }
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

    fn unexpected(&self, question: &'static str, found: &Response) -> ClientError {
        let text = format!("{found:?}");
        let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        let address = self.connections.first().map(|connection| connection.address.clone()).unwrap_or_default();
        ClientError::Unexpected { address, question, kind }
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
        let status = self.chain_status()?;
        match networks.iter().find(|network| network.genesis_hash() == status.genesis) {
            Some(network) => {
                self.network = network.clone();
                let protocol = request_protocol(status.genesis);
                self.connections.retain(|connection| connection.protocol == protocol);
                Ok(())
            }
            None => Err(ClientError::OtherNetwork {
                address: self.connections.first().map(|connection| connection.address.clone()).unwrap_or_default(),
                found: status.genesis,
            }),
        }
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
            Event::Connected { peer, address, light: false, protocol: Some(protocol), .. } => {
                if self.connections.len() < MAX_PEERS {
                    self.connections.push(Connection { peer, address, protocol });
                }
            }
            Event::Disconnected { peer } => self.connections.retain(|connection| connection.peer != peer),
            Event::DialFailed { address, reason } => {
                if self.failures.len() < MAX_PEERS && self.failures.iter().all(|(failed, _)| *failed != address) {
                    self.failures.push((address, reason));
                }
            }
            Event::Response { id, peer, result } => {
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
            Event::Connected { .. }
            | Event::Listening(_)
            | Event::Gossip { .. }
            | Event::MissedGossip { .. }
            | Event::Request { .. } => {}
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
