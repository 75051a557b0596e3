//! Peers: who is there, what they are asked, and what it costs them to misbehave.

use ocelli_consensus::fork_choice::{HeaderTree, InsertError};
use ocelli_consensus::rules::Blame;
use ocelli_consensus::{BlockHash, U256};
use ocelli_protocol::message::{MAX_ANNOUNCEMENT_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Response};
use ocelli_protocol::relay;
use ocelli_protocol::sync::{self, ChainView, Failure, HeaderImport, Offence};
use ocelli_protocol::topic;

use super::config::{Capacity, Discovery};
use super::service::{Asked, SAVE_BANS_MILLIS, Service, unix_millis, unix_seconds};
use super::{NodeError, bans_file};
use crate::chain::{Chain, HeaderError, full_message};
use crate::network::{self, GossipId, Misbehaviour, Peer, RequestId, Traversal};
use crate::validation::Validation;

/// How a node takes part in the network.
pub(super) struct Joining {
    pub(super) listen: Vec<String>,
    pub(super) external: Vec<String>,
    pub(super) bootstrap: Vec<String>,
    pub(super) discovery: Discovery,
    pub(super) traversal: Traversal,
    pub(super) capacity: Capacity,
    pub(super) bans: Vec<network::Ban>,
}

/// How the network module is to be run for a node.
///
/// # Errors
/// If the store's list of peers cannot be read.
pub(super) fn network_config(
    chain: &Chain,
    identity: [u8; 32],
    joining: Joining,
) -> Result<network::Config, NodeError> {
    let Joining { listen, external, bootstrap, discovery, traversal, capacity, bans } = joining;
    let genesis = chain.genesis();
    let topics = vec![topic::blocks(genesis)];
    let mut config = network::Config::full(identity, topic::request_protocol(genesis), topics);
    config.kademlia = Some(network::kademlia_protocol(&genesis.to_string()));
    let is_local = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    config.traversal = (!listen.iter().all(is_local)).then_some(traversal);
    config.listen = listen;
    config.external = external;
    config.bootstrap = bootstrap;
    config.known = chain.store().known_peers()?;
    config.bans = bans;
    config.mdns = discovery == Discovery::LocalNetwork;
    config.limits.max_inbound = capacity.inbound;
    config.limits.max_memory_bytes = capacity.memory_bytes;
    config.limits.max_request_bytes = MAX_REQUEST_BYTES;
    config.limits.max_response_bytes = MAX_RESPONSE_BYTES;
    config.limits.max_gossip_bytes = MAX_ANNOUNCEMENT_BYTES;
    Ok(config)
}

impl Service {
    pub(super) fn on_listening(&mut self, address: &str) -> Result<(), NodeError> {
        tracing::info!(address, "listening");
        let status = self.network.status();
        // Commands on this machine need no relay to get here.
        let direct: Vec<_> = status.addresses.into_iter().filter(|one| !one.contains("/p2p-circuit")).collect();
        super::node_file::write(&self.data, &status.peer.to_string(), &direct, self.chain.network())
    }

    pub(super) fn on_connected(
        &mut self,
        peer: Peer,
        light: bool,
        group: sync::Group,
        direction: sync::Direction,
    ) -> Result<(), NodeError> {
        tracing::debug!(%peer, light, "peer connected");
        if light {
            return Ok(());
        }
        self.peers.insert(peer, None);
        self.drive_relay(relay::Input::PeerConnected(peer));
        self.drive_sync(sync::Input::PeerConnected { peer, group, direction })
    }

    pub(super) fn on_disconnected(&mut self, peer: Peer) -> Result<(), NodeError> {
        if self.goings.has_room() {
            tracing::info!(%peer, "peer gone");
        }
        self.announced.remove(&peer);
        if self.peers.remove(&peer).is_none() {
            return Ok(());
        }
        self.drive_relay(relay::Input::PeerDisconnected(peer));
        self.drive_sync(sync::Input::PeerDisconnected(peer))
    }

    pub(super) fn on_gossip(&mut self, id: GossipId, topic: &str, source: Peer, data: &[u8]) -> Result<(), NodeError> {
        if topic == self.blocks_topic {
            self.on_announcement(id, source, data)
        } else {
            self.network.report(id, network::Acceptance::Ignore);
            Ok(())
        }
    }

    pub(super) fn on_response(
        &mut self,
        id: RequestId,
        peer: Peer,
        result: Result<Response, Failure>,
        bytes: usize,
    ) -> Result<(), NodeError> {
        let Some((asked, purpose)) = self.asked.remove(&id) else { return Ok(()) };
        self.traffic.received(purpose, bytes);
        match asked {
            Asked::Transactions(hash) => {
                if result == Err(Failure::Malformed) {
                    self.network.penalize(peer, Misbehaviour::Malformed);
                }
                self.on_transactions(hash, peer, result.ok())
            }
            // Who does not hear it asks for statuses itself.
            Asked::NewTip => Ok(()),
            Asked::Relay(id) => {
                self.on_relay_response(peer, id, result);
                Ok(())
            }
            Asked::Sync(id) => {
                if let Ok(Response::Status(status)) = &result {
                    // It may be older than a tip that the peer has told of since.
                    self.peers.entry(peer).and_modify(|known| *known = (*known).max(Some(status.height)));
                }
                self.drive_sync(sync::Input::Response { peer, id, result })
            }
        }
    }

    /// Gives the sync machine an input and does what it says, and so on with what follows from that. What comes up in the
    /// meantime waits its turn: the machine wants one input's outputs carried out before the next.
    pub(super) fn drive_sync(&mut self, input: sync::Input<Peer>) -> Result<(), NodeError> {
        self.sync_inputs.push_back(input);
        if std::mem::replace(&mut self.is_driving_sync, true) {
            return Ok(());
        }
        let result = self.drive_sync_inputs();
        self.is_driving_sync = false;
        result
    }

    fn drive_sync_inputs(&mut self) -> Result<(), NodeError> {
        while let Some(input) = self.sync_inputs.pop_front() {
            let view = View { chain: &self.chain, partial: &self.partial, validation: &self.validation };
            for output in self.sync.handle(input, unix_millis(), &view) {
                self.carry_out(output)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, output: sync::Output<Peer>) -> Result<(), NodeError> {
        match output {
            sync::Output::Send { peer, id, request } => self.ask(peer, &request, Asked::Sync(id)),
            sync::Output::ImportHeaders { peer, headers } => {
                let imported = self.import_headers(peer, &headers)?;
                self.sync_inputs.push_back(imported);
            }
            sync::Output::ImportBlock { peer, hash, data } => self.begin_block(Some(peer), hash, data),
            sync::Output::Penalize { peer, offence } => {
                if self.complaints.has_room() {
                    tracing::warn!(%peer, ?offence, "a peer misbehaves");
                }
                self.network.penalize(peer, misbehaviour(offence));
            }
            sync::Output::SetTimer { timer, at } => self.set_timer(timer, at),
            sync::Output::State(state) => tracing::info!(?state, "sync"),
        }
        Ok(())
    }

    fn import_headers(
        &mut self,
        peer: Peer,
        headers: &[ocelli_consensus::Header],
    ) -> Result<sync::Input<Peer>, NodeError> {
        let (taken, error) = self.chain.insert_headers(headers, unix_seconds())?;
        let result = error.as_ref().map_or(HeaderImport::Connected, import_result);
        if let Some(error) = &error {
            tracing::debug!(%peer, taken, reason = full_message(error), "headers taken in part");
        }
        Ok(sync::Input::HeadersImported { peer, result })
    }

    /// Writes down who is kept out, whenever that has changed, but not time and again in a flood: it waits for the disk.
    pub(super) fn save_bans_at(&mut self, now: u64) {
        if now.saturating_sub(self.bans_saved_at) >= SAVE_BANS_MILLIS {
            self.save_bans();
        }
    }

    /// Writes down who is kept out, if that has changed.
    pub(super) fn save_bans(&mut self) {
        if self.network.bans_version() == self.bans_saved {
            return;
        }
        let (version, bans) = self.network.bans();
        (self.bans_saved, self.bans_saved_at) = (version, unix_millis());
        if let Err(error) = bans_file::write(&self.data, &bans) {
            tracing::warn!(%error, "the bans could not be written down: they end with this process");
        }
    }

    /// Writes down who is good to ask after a restart.
    pub(super) fn save_peers(&self) {
        let peers = self.network.known_peers();
        if let Err(error) = self.chain.store().set_known_peers(&peers) {
            tracing::warn!(reason = full_message(&error), "the list of peers could not be saved");
        }
    }
}

/// Whose fault it is that not all headers are stored.
fn import_result(error: &HeaderError) -> HeaderImport {
    match error {
        HeaderError::Insert(InsertError::ParentUnknown { .. }) => HeaderImport::Unconnected,
        HeaderError::Insert(InsertError::Rule { source, .. }) => match source.blame() {
            Blame::Sender | Blame::SenderOnly | Blame::Block => HeaderImport::Invalid,
            Blame::Nobody => {
                tracing::warn!(reason = full_message(source), "headers of a later version: update this node");
                HeaderImport::Held
            }
        },
        // Too early, on a block that others may not know to be invalid, or of a branch too poor to keep.
        HeaderError::Ahead { .. }
        | HeaderError::Insert(InsertError::ParentInvalid { .. })
        | HeaderError::LowWork { .. }
        | HeaderError::Store(_) => HeaderImport::Held,
    }
}

/// What sync sees of the chain.
struct View<'a> {
    chain: &'a Chain,
    validation: &'a Validation,
    partial: &'a std::collections::BTreeMap<BlockHash, super::partial::Partial>,
}

impl ChainView for View<'_> {
    fn tree(&self) -> &HeaderTree {
        self.chain.tree()
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validation.contains(hash)
    }

    fn in_validation(&self) -> usize {
        self.validation.load()
    }

    fn may_lack_pixels(&self, hash: &BlockHash) -> bool {
        self.chain.may_lack_pixels(hash)
    }

    fn minimum_work(&self) -> U256 {
        self.chain.minimum_work().0
    }

    fn is_put_together(&self, hash: &BlockHash) -> bool {
        self.partial.contains_key(hash)
    }
}

/// What the sync machine finds, as the network's table names it.
fn misbehaviour(offence: Offence) -> Misbehaviour {
    match offence {
        Offence::WrongNetwork => Misbehaviour::OtherNetwork,
        Offence::WrongResponse
        | Offence::TooManyHeaders { .. }
        | Offence::BrokenHeaders
        | Offence::InvalidHeaders
        | Offence::TooManyBlocks { .. }
        | Offence::NoBlocks => Misbehaviour::BrokenRule,
        Offence::UnconnectedHeaders | Offence::UnprovenWork => Misbehaviour::UselessHeaders,
        Offence::Stalled => Misbehaviour::Stalled,
    }
}
