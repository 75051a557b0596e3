//! Messages: sent over lines, answered, and what sync says to do with them.

use std::collections::VecDeque;
use std::sync::Arc;

use ocelli_consensus::U256;
use ocelli_protocol::message::{
    BLOCKS_BYTES, BlockData, ChainStatus, MAX_BLOCKS, MAX_HEADERS, Request, Response, take_pending,
};
use ocelli_protocol::sync::{HeaderImport, Input, Output};
use rand::RngExt as _;

use super::tasks::{RELAY, is_of_relay};
use super::{Event, Simulation};
use crate::config::Behaviour;
use crate::cost;
use crate::line::{Message, Outgoing};
use crate::world;

/// Percent of a latency that varies from message to message.
const JITTER: u64 = 10;

impl Simulation {
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message, bytes: u64) {
        let Some(peer) = self.nodes[from].peers.get(&to) else { return };
        let outgoing = Outgoing::new(to, peer.connection, message, bytes + cost::FRAMING);
        self.lines[from].push(outgoing);
        self.begin_sending(from);
    }

    fn begin_sending(&mut self, from: usize) {
        let (nodes, announced, now, percent) = (&self.nodes, &self.announced_at, self.now, self.config.latency_percent);
        let node = &nodes[from];
        let is_needless = |outgoing: &Outgoing| match &outgoing.message {
            _ if !node.peers.contains_key(&outgoing.to) => true,
            // Who no longer waits has closed the stream.
            Message::Response(id, _) => !nodes[outgoing.to].asked.contains(id),
            // Who has a block says so (gossipsub 1.2's IDONTWANT), and what has not begun need not be sent.
            Message::Announcement(block) if outgoing.is_whole() => {
                let way = world::round_trip(node.region, nodes[outgoing.to].region) * percent / 100 / 2;
                announced[block.number][outgoing.to].saturating_add(way) <= now
            }
            _ => false,
        };
        if let Some(time) = self.lines[from].begin(is_needless) {
            self.queue.push(self.now + time, Event::Sent { node: from, life: node.life });
        }
    }

    pub(super) fn on_sent(&mut self, from: usize) {
        if let Some(Outgoing { to, connection, message, bytes, .. }) = self.lines[from].end() {
            self.sent_bytes += bytes;
            if is_of_relay(&message) {
                self.tasks.bytes += bytes;
            }
            let round_trip = world::round_trip(self.nodes[from].region, self.nodes[to].region);
            let round_trip = round_trip * self.config.latency_percent / 100;
            let varied = round_trip * self.random.random_range(100 - JITTER..=100 + JITTER) / 100;
            let at = self.now + varied / 2 + varied * cost::round_trips(bytes);
            let at = self.lines[to].receive(at, bytes);
            self.received_bytes += bytes;
            self.queue.push(at, Event::Deliver { from, to, connection, message });
        }
        self.begin_sending(from);
    }

    pub(super) fn on_message(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Announcement(block) => self.on_announcement(from, to, block),
            Message::Missing(hash, count) => self.on_missing(from, to, hash, count),
            Message::Found(hash) => {
                if self.nodes[to].partial.remove(&hash).is_some()
                    && let Some(&number) = self.by_hash.get(&hash)
                {
                    let missing = self.missing(to, &self.blocks[number].clone());
                    self.validate(to, number, missing);
                    self.drive(to, Input::BlocksChanged);
                }
            }
            Message::Request(id, request) => self.on_request(from, to, id, &request),
            Message::Response(id, response) => {
                self.nodes[to].asked.remove(&id);
                let response = Arc::unwrap_or_clone(response);
                if id & RELAY != 0 {
                    return self.on_relay_response(to, from, id, response);
                }
                self.drive(to, Input::Response { peer: from, id, result: Ok(response) });
            }
        }
    }

    fn on_request(&mut self, from: usize, to: usize, id: u64, request: &Request) {
        let claims_all = self.nodes[to].behaviour == Some(Behaviour::Withholds);
        if let (Request::Announce { ids }, false) = (request, claims_all) {
            let response = self.on_announced_tasks(to, from, ids.clone());
            let bytes = cost::response(&response, 0);
            return self.send(to, from, Message::Response(id, Arc::new(response)), bytes);
        }
        let node = &self.nodes[to];
        // What a selfish miner keeps back, it does not tell.
        let public = match node.selfish.first_private() {
            Some(block) => block.header.parent,
            None => node.tree.best_candidate().hash,
        };
        let mut bytes = 0;
        let response = match request {
            Request::Status => {
                let tip = node.tree.get(&public).expect("on the main chain");
                let work = if claims_all { U256::MAX } else { tip.work.0 };
                let (genesis, height) = (self.network.genesis_hash(), tip.height);
                Response::Status(ChainStatus { genesis, height, tip: tip.hash, work })
            }
            _ if claims_all => return,
            Request::Headers { locator, limit } => {
                let known = locator.iter().find(|hash| node.tree.is_ancestor(hash, &public));
                let path = known.and_then(|known| node.tree.path(known, &public)).unwrap_or_default();
                let headers = path.iter().filter_map(|hash| self.by_hash.get(hash));
                let headers = headers.map(|number| self.blocks[*number].header.clone());
                Response::Headers(headers.take((*limit as usize).min(MAX_HEADERS)).collect())
            }
            Request::Blocks { hashes } => {
                let mut found = Vec::new();
                for hash in hashes.iter().take(MAX_BLOCKS) {
                    if bytes >= BLOCKS_BYTES as u64 {
                        break;
                    }
                    let block = self.by_hash.get(hash).map(|number| &self.blocks[*number]);
                    let block = block.filter(|block| node.selfish.is_public(block) && node.has_data(hash));
                    bytes += block.map_or(0, |block| block.tasks * cost::WHOLE_TASK);
                    found.push(block.map(|_| BlockData::default()));
                }
                Response::Blocks(found)
            }
            Request::Pending { ids } => {
                let found = take_pending(ids.iter().map(|id| node.mempool.to_relay(*id)));
                bytes = found.iter().flatten().count() as u64 * cost::SUBMISSION;
                Response::Pending(found)
            }
            other => unreachable!("nobody here asks {other:?}"),
        };
        let bytes = cost::response(&response, bytes);
        self.send(to, from, Message::Response(id, Arc::new(response)), bytes);
    }

    /// Gives a node's sync an input and does what it says, and so on with what follows from that.
    pub(super) fn drive(&mut self, at: usize, input: Input<usize>) {
        let mut inputs = VecDeque::from([input]);
        let mut unwanted = Vec::new();
        while let Some(input) = inputs.pop_front() {
            for output in self.nodes[at].handle(input, self.now / 1_000) {
                match output {
                    Output::Send { peer, id, request } => {
                        let bytes = cost::request(&request);
                        self.nodes[at].asked.insert(id);
                        self.send(at, peer, Message::Request(id, Arc::new(request)), bytes);
                    }
                    Output::ImportHeaders { peer, headers } => {
                        let tree = &mut self.nodes[at].tree;
                        let parameters = &self.network.parameters;
                        let taken =
                            headers.into_iter().try_for_each(|header| tree.insert(parameters, &header).map(drop));
                        let result = if taken.is_ok() { HeaderImport::Connected } else { HeaderImport::Held };
                        inputs.push_back(Input::HeadersImported { peer, result });
                    }
                    Output::ImportBlock { hash, .. } => {
                        if let Some(&number) = self.by_hash.get(&hash) {
                            // Nothing of it was here before.
                            self.validate(at, number, self.blocks[number].tasks);
                        }
                    }
                    Output::Penalize { peer, offence } => {
                        if self.nodes[at].penalize(peer, offence) {
                            let is_wrong = self.nodes[at].behaviour.is_none() && self.nodes[peer].behaviour.is_none();
                            self.wrong_bans += usize::from(is_wrong);
                            unwanted.push(peer);
                        }
                    }
                    Output::SetTimer { timer, at: due } => {
                        let node = &mut self.nodes[at];
                        node.timers.insert(timer, due);
                        self.queue.push(due * 1_000, Event::Timer { node: at, life: node.life, timer, at: due });
                    }
                    Output::State(_) => {}
                }
            }
        }
        for peer in unwanted {
            self.disconnect(at, peer);
        }
    }
}
