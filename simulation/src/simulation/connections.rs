//! Connections: dialled, exchanged, cut, and nodes that come and go.

use ocelli_protocol::sync::{Direction, Group, Input, Origin};
use ocelli_protocol::{assembly, relay};
use rand::RngExt as _;

use super::{Event, Simulation};
use crate::config::SECOND;
use crate::node::{MESH, MESH_HIGH, MESH_LOW, Peer};

/// Peers that a node dials, and that it lets in: the node's own limits.
const TARGET_OUTBOUND: usize = 8;
const MAX_INBOUND: usize = 64;
/// Nodes that everybody dials first, and again for as long as there is no connection with them.
pub(super) const BOOTSTRAP: usize = 4;
/// Between two looks at the connections.
const UPKEEP: u64 = 10 * SECOND;

impl Simulation {
    pub(super) fn on_upkeep(&mut self, at: usize) {
        self.queue.push(self.now + UPKEEP, Event::Upkeep { node: at });
        if !self.nodes[at].is_online {
            return;
        }
        self.dial_some(at);
        if let Some(interval) = self.config.exchange_seconds
            && self.now >= self.nodes[at].next_exchange
        {
            let first = self.nodes[at].next_exchange == 0;
            let wait = interval * SECOND;
            // Not all at the same time.
            let wait = if first { self.random.random_range(0..wait) } else { wait };
            self.nodes[at].next_exchange = self.now + wait;
            if !first {
                self.exchange(at);
            }
        }
        self.mend_mesh(at);
    }

    pub(super) fn dial_some(&mut self, at: usize) {
        let bootstrap = self.random.random_range(0..BOOTSTRAP.min(self.nodes.len()));
        self.dial(at, bootstrap);
        for _ in 0..TARGET_OUTBOUND {
            if self.nodes[at].outbound() >= TARGET_OUTBOUND {
                break;
            }
            let other = self.random.random_range(0..self.nodes.len());
            self.dial(at, other);
        }
    }

    /// Dials one more, and leaves another one for it.
    fn exchange(&mut self, at: usize) {
        let other = self.random.random_range(0..self.nodes.len());
        if !self.dial(at, other) || self.nodes[at].outbound() <= TARGET_OUTBOUND {
            return;
        }
        let peers = self.nodes[at].session.peers.iter();
        let peers: Vec<usize> =
            peers.filter(|(peer, state)| state.is_outbound && **peer != other).map(|(peer, _)| *peer).collect();
        let left = peers[self.random.random_range(0..peers.len())];
        self.disconnect(at, left);
    }

    /// Whether they are connected now and were not before.
    fn dial(&mut self, from: usize, to: usize) -> bool {
        let (one, other) = (&self.nodes[from], &self.nodes[to]);
        let is_cut = self.is_split && one.is_on_small_side != other.is_on_small_side;
        let is_full = other.session.peers.len() - other.outbound() >= MAX_INBOUND;
        let is_banned = one.banned.contains(&to) || other.banned.contains(&from);
        if from == to || !other.is_online || one.session.peers.contains_key(&to) || is_cut || is_full || is_banned {
            return false;
        }
        let (a, b) = (one.mesh(), other.mesh());
        let is_in_mesh = a < MESH && b < MESH_HIGH || b < MESH_LOW && a < MESH_HIGH;
        self.connections += 1;
        for (one, other, is_outbound) in [(from, to, true), (to, from, false)] {
            let peer = Peer { connection: self.connections, is_in_mesh, is_outbound };
            self.nodes[one].session.peers.insert(other, peer);
        }
        for (one, other, direction) in [(from, to, Direction::Dialled), (to, from, Direction::Inbound)] {
            // Each has an address of its own.
            let group = Group(other as u64);
            self.drive(one, Input::PeerConnected { peer: other, group, direction });
            let origin = Origin { direction, group };
            self.drive_assembly(one, assembly::Input::PeerConnected { peer: other, origin });
            self.drive_relay(one, relay::Input::PeerConnected { peer: other, origin });
        }
        true
    }

    fn mend_mesh(&mut self, at: usize) {
        let mut mesh = self.nodes[at].mesh();
        if mesh >= MESH_LOW {
            return;
        }
        let outside = self.nodes[at].session.peers.iter().filter(|(_, peer)| !peer.is_in_mesh);
        for other in outside.map(|(other, _)| *other).collect::<Vec<_>>() {
            if mesh >= MESH {
                break;
            }
            if self.nodes[other].mesh() < MESH_HIGH {
                for (one, other) in [(at, other), (other, at)] {
                    self.nodes[one].session.peers.entry(other).and_modify(|peer| peer.is_in_mesh = true);
                }
                mesh += 1;
            }
        }
    }

    pub(super) fn disconnect(&mut self, one: usize, other: usize) {
        if self.nodes[one].session.peers.remove(&other).is_none() {
            return;
        }
        self.nodes[other].session.peers.remove(&one);
        for (at, peer) in [(one, other), (other, one)] {
            if self.nodes[at].is_online {
                self.drive_assembly(at, assembly::Input::PeerDisconnected(peer));
                self.drive(at, Input::PeerDisconnected(peer));
                self.drive_relay(at, relay::Input::PeerDisconnected(peer));
            }
        }
    }

    pub(super) fn cut(&mut self) {
        for at in 0..self.nodes.len() {
            let side = self.nodes[at].is_on_small_side;
            let across = self.nodes[at].session.peers.keys().filter(|peer| self.nodes[**peer].is_on_small_side != side);
            for peer in across.copied().collect::<Vec<_>>() {
                self.disconnect(at, peer);
            }
        }
    }

    pub(super) fn schedule_leaving(&mut self, node: usize) {
        if let (Some(churn), false) = (self.config.churn, self.is_over) {
            let wait = -(1.0 - self.random.random::<f64>()).ln() * (churn.up * SECOND) as f64;
            self.queue.push(self.now + wait as u64, Event::Leave { node });
        }
    }

    pub(super) fn on_leave(&mut self, node: usize) {
        let Some(churn) = self.config.churn.filter(|_| !self.is_over) else { return };
        let peers: Vec<usize> = self.nodes[node].session.peers.keys().copied().collect();
        self.nodes[node].stop(&self.network, &mut self.random);
        self.lines[node].clear();
        for peer in peers {
            self.nodes[peer].session.peers.remove(&node);
            self.drive_assembly(peer, assembly::Input::PeerDisconnected(node));
            self.drive(peer, Input::PeerDisconnected(node));
            self.drive_relay(peer, relay::Input::PeerDisconnected(node));
        }
        let wait = -(1.0 - self.random.random::<f64>()).ln() * (churn.down * SECOND) as f64;
        self.queue.push(self.now + wait as u64, Event::Return { node });
    }
}
