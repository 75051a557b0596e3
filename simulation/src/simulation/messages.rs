//! Messages: sent over lines, answered, and what sync says to do with them.

use std::collections::VecDeque;
use std::sync::Arc;

use ocelli_consensus::{BlockHash, U256};
use ocelli_protocol::assembly::{self, AssemblyAction, GossipVerdict, HeaderVerdict};
use ocelli_protocol::message::{
    BLOCKS_BYTES, BlockData, ChainStatus, MAX_BLOCKS, MAX_HEADERS, Request, Response, Submission, TRANSACTIONS_BYTES,
};
use ocelli_protocol::sync::{HeaderImport, Input, SyncAction};
use rand::RngExt as _;

use super::tasks::{RELAY, is_of_relay};
use super::{Event, Simulation};
use crate::block::{Gossip, Tasks};
use crate::config::Behaviour;
use crate::cost;
use crate::line::{Message, Outgoing};
use crate::node::{Node, Session};
use crate::views::NodeView;
use crate::world;

/// Set in the ids of assembly's requests: those of sync have their own numbers.
const ASSEMBLY: u64 = 1 << 62;
/// Set in those of which no answer is of interest.
const TOLD: u64 = 1 << 61;

/// What one of a node's machines that follow blocks is told.
enum Told {
    Sync(Input<usize>),
    Assembly(assembly::Input<usize, Gossip>),
}

/// Percent of a latency that varies from message to message.
const JITTER: u64 = 10;

impl Simulation {
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message, bytes: u64) {
        let Some(peer) = self.nodes[from].session.peers.get(&to) else { return };
        let outgoing = Outgoing::new(to, peer.connection, message, bytes + cost::FRAMING);
        self.lines[from].push(outgoing);
        self.begin_sending(from);
    }

    fn begin_sending(&mut self, from: usize) {
        let (nodes, times, now, percent) =
            (&self.nodes, &self.blocks.times, self.now, self.config.lines.latency_percent);
        let node = &nodes[from];
        let is_needless = |outgoing: &Outgoing| match &outgoing.message {
            _ if !node.session.peers.contains_key(&outgoing.to) => true,
            // Who no longer waits has closed the stream.
            Message::Response(id, _) => !nodes[outgoing.to].session.asked.contains(id),
            // Who has a block says so (gossipsub 1.2's IDONTWANT), and what has not begun need not be sent.
            Message::Announcement(block) if outgoing.is_whole() => {
                let way = world::round_trip(node.region, nodes[outgoing.to].region) * percent / 100 / 2;
                times[block.number].announced[outgoing.to].saturating_add(way) <= now
            }
            _ => false,
        };
        if let Some(time) = self.lines[from].begin(is_needless) {
            self.queue.push(self.now + time, Event::Sent { node: from, life: node.life });
        }
    }

    pub(super) fn on_sent(&mut self, from: usize) {
        if let Some(Outgoing { to, connection, message, bytes, .. }) = self.lines[from].end() {
            if is_of_relay(&message) {
                self.tasks.bytes += bytes;
            }
            let round_trip = world::round_trip(self.nodes[from].region, self.nodes[to].region);
            let round_trip = round_trip * self.config.lines.latency_percent / 100;
            let varied = round_trip * self.random.random_range(100 - JITTER..=100 + JITTER) / 100;
            let at = self.now + varied / 2 + varied * cost::round_trips(bytes);
            let at = self.lines[to].receive(at, bytes);
            self.counts.received_bytes += bytes;
            self.queue.push(at, Event::Deliver { from, to, connection, message });
        }
        self.begin_sending(from);
    }

    pub(super) fn on_message(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Announcement(block) => self.on_announcement(from, to, block),
            Message::Request(id, request) => self.on_request(from, to, id, &request),
            Message::Response(id, response) => {
                self.nodes[to].session.asked.remove(&id);
                let response = Arc::unwrap_or_clone(response);
                if id & RELAY != 0 {
                    return self.on_relay_response(to, from, id, response);
                }
                if id & ASSEMBLY != 0 {
                    let (id, result) = (id & !ASSEMBLY, Ok(response));
                    return self.drive_assembly(to, assembly::Input::Response { peer: from, id, result });
                }
                if let Response::Status(status) = &response {
                    self.drive_assembly(to, assembly::Input::Height { peer: from, height: status.height });
                }
                self.drive(to, Input::Response { peer: from, id, result: Ok(response) });
            }
        }
    }

    fn on_request(&mut self, from: usize, to: usize, id: u64, request: &Request) {
        let claims_all = self.nodes[to].behaviour == Some(Behaviour::Withholds);
        if let (Request::Announce { ids }, false) = (request, claims_all) {
            let response = self.on_announced_tasks(to, from, ids.clone());
            let bytes = cost::response(&response, &self.config.load.task, 0);
            return self.send(to, from, Message::Response(id, Arc::new(response)), bytes);
        }
        if let Request::NewTip(status) = request {
            if !claims_all {
                self.drive_assembly(to, assembly::Input::NewTip { peer: from, status: status.clone() });
            }
            return;
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
                Response::Status(ChainStatus { genesis, height, tip: tip.hash, work, next_rules: None })
            }
            _ if claims_all => return,
            Request::Headers { locator, limit } => {
                let known = locator.iter().find(|hash| node.tree.is_ancestor(hash, &public));
                let path = known.and_then(|known| node.tree.path(known, &public)).unwrap_or_default();
                let headers = path.iter().filter_map(|hash| self.blocks.get(hash)).map(|block| block.header.clone());
                Response::Headers(headers.take((*limit as usize).min(MAX_HEADERS)).collect())
            }
            Request::Blocks { hashes } => {
                let mut found = Vec::new();
                for hash in hashes.iter().take(MAX_BLOCKS) {
                    if bytes >= BLOCKS_BYTES as u64 {
                        break;
                    }
                    let block =
                        self.blocks.get(hash).filter(|block| node.selfish.is_public(block) && node.has_data(hash));
                    bytes += block.map_or(0, |block| block.tasks() * cost::whole_task(&self.config.load.task));
                    found.push(block.map(|_| BlockData::default()));
                }
                Response::Blocks(found)
            }
            Request::Pending { ids } => Response::Pending(self.pending(to, ids)),
            Request::Attachments { ids } => Response::Attachments(self.attachments(to, ids)),
            Request::Transactions { block, indexes } => Response::Transactions(self.transactions(to, block, indexes)),
            other => unreachable!("nobody here asks {other:?}"),
        };
        let bytes = cost::response(&response, &self.config.load.task, bytes);
        self.send(to, from, Message::Response(id, Arc::new(response)), bytes);
    }

    /// Tasks of a block at a node, as many as a response holds; none of a block that it does not know.
    fn transactions(&self, at: usize, hash: &BlockHash, indexes: &[u32]) -> Vec<Option<Submission>> {
        let node = &self.nodes[at];
        let Some(block) = self.blocks.get(hash) else { return Vec::new() };
        let is_public = node.selfish.is_public(block);
        let is_here = is_public && (node.has_data(hash) || block.by == at);
        if !is_here && !node.session.assembly.is_put_together(hash) {
            return Vec::new();
        }
        let most = TRANSACTIONS_BYTES as u64 / cost::submission(&self.config.load.task) + 1;
        let found = indexes.iter().take(most as usize).map(|index| {
            let index = *index as usize;
            if is_here { block.submissions.get(index) } else { node.session.assembly.submission(hash, index) }.cloned()
        });
        found.collect()
    }

    /// Gives a node's sync an input, and does what follows from that.
    pub(super) fn drive(&mut self, at: usize, input: Input<usize>) {
        self.tell(at, Told::Sync(input));
    }

    /// Gives a node's assembly an input, and does what follows from that.
    pub(super) fn drive_assembly(&mut self, at: usize, input: assembly::Input<usize, Gossip>) {
        self.tell(at, Told::Assembly(input));
    }

    fn tell(&mut self, at: usize, told: Told) {
        let mut inputs = VecDeque::from([told]);
        let mut unwanted = Vec::new();
        while let Some(input) = inputs.pop_front() {
            match input {
                Told::Sync(input) => {
                    for output in self.nodes[at].handle(input, self.now / 1_000) {
                        self.carry_out(at, output, &mut inputs, &mut unwanted);
                    }
                }
                Told::Assembly(input) => {
                    let (tasks, blocks) = (Tasks::new(&self.config), &self.blocks);
                    let Node { tree, mempool, session, .. } = &mut self.nodes[at];
                    let Session { assembly, validating, open, .. } = session;
                    let view = NodeView { node: at, tree, validating, mempool, open, blocks, tasks };
                    for output in assembly.handle(input, self.now / 1_000, &view) {
                        self.carry_out_assembly(at, output, &mut inputs, &mut unwanted);
                    }
                }
            }
        }
        for peer in unwanted {
            self.disconnect(at, peer);
        }
    }

    fn ask(&mut self, at: usize, peer: usize, id: u64, request: Request) {
        let bytes = cost::request(&request);
        self.nodes[at].session.asked.insert(id);
        self.send(at, peer, Message::Request(id, Arc::new(request)), bytes);
    }

    fn count_ban(&mut self, at: usize, peer: usize) {
        let is_wrong = self.nodes[at].behaviour.is_none() && self.nodes[peer].behaviour.is_none();
        self.counts.wrong_bans += usize::from(is_wrong);
    }

    fn carry_out(
        &mut self,
        at: usize,
        output: SyncAction<usize>,
        inputs: &mut VecDeque<Told>,
        unwanted: &mut Vec<usize>,
    ) {
        match output {
            SyncAction::Send { peer, id, request } => self.ask(at, peer, id, request),
            SyncAction::ImportHeaders { peer, headers } => {
                let tree = &mut self.nodes[at].tree;
                let network = &self.network;
                let taken = headers.into_iter().try_for_each(|header| tree.insert(network, &header).map(drop));
                let result = if taken.is_ok() { HeaderImport::Connected } else { HeaderImport::Held };
                inputs.push_back(Told::Sync(Input::HeadersImported { peer, result }));
            }
            SyncAction::ImportBlock { hash, .. } => {
                if let Some((number, tasks)) = self.blocks.get(&hash).map(|block| (block.number, block.tasks())) {
                    // Nothing of it was here before.
                    self.validate(at, number, tasks);
                    inputs.push_back(Told::Assembly(assembly::Input::BlocksChanged));
                }
            }
            SyncAction::Penalize { peer, offence } => {
                if self.nodes[at].penalize(peer, offence) {
                    self.count_ban(at, peer);
                    unwanted.push(peer);
                }
            }
            SyncAction::SetTimer { timer, at: due } => {
                let node = &mut self.nodes[at];
                node.session.timers.insert(timer, due);
                self.queue.push(due * 1_000, Event::Timer { node: at, life: node.life, timer, at: due });
            }
            SyncAction::State(_) | SyncAction::OtherVersion { .. } => {}
        }
    }

    fn carry_out_assembly(
        &mut self,
        at: usize,
        output: AssemblyAction<usize, Gossip>,
        inputs: &mut VecDeque<Told>,
        unwanted: &mut Vec<usize>,
    ) {
        match output {
            AssemblyAction::ImportHeader { header, .. } => {
                let stored = self.nodes[at].tree.insert(&self.network, &header);
                let verdict = if stored.is_ok() { HeaderVerdict::Stored } else { HeaderVerdict::Unwanted };
                let hash = header.hash();
                inputs.push_front(Told::Assembly(assembly::Input::HeaderImported { hash, verdict }));
            }
            AssemblyAction::Report { gossip: (number, from), verdict } => {
                if verdict == GossipVerdict::Accept {
                    let block = self.blocks.all[number].clone();
                    self.pass_on(at, Some(from), &block);
                }
            }
            AssemblyAction::Send { peer, id, request } => self.ask(at, peer, id | ASSEMBLY, request),
            AssemblyAction::Tell { peer, status } => {
                // What a selfish miner has found is nobody's business.
                if self.nodes[at].behaviour != Some(Behaviour::MinesSelfishly) {
                    let request = Request::NewTip(status);
                    let bytes = cost::request(&request);
                    self.send(at, peer, Message::Request(TOLD, Arc::new(request)), bytes);
                }
            }
            AssemblyAction::Complete { hash, .. } => {
                if let Some(number) = self.blocks.get(&hash).map(|block| block.number) {
                    let missing = self.nodes[at].session.open.get(&number).copied().unwrap_or(0);
                    self.validate(at, number, missing);
                }
                inputs.push_back(Told::Sync(Input::BlocksChanged));
            }
            AssemblyAction::Announced { peer, hash, height, parent } => {
                inputs.push_back(Told::Sync(Input::Announced { peer, hash, height, parent }));
            }
            AssemblyAction::LeftToSync => inputs.push_back(Told::Sync(Input::BlocksChanged)),
            AssemblyAction::Penalize { peer, offence, .. } => {
                if self.nodes[at].penalize_for_block(peer, offence) {
                    self.count_ban(at, peer);
                    unwanted.push(peer);
                }
            }
            AssemblyAction::WakeAt(due) => {
                let node = &mut self.nodes[at];
                node.session.assembly_wake_at = Some(due);
                self.queue.push(due * 1_000, Event::Assemble { node: at, life: node.life, at: due });
            }
            AssemblyAction::InBlocks(_) | AssemblyAction::Condemn { .. } => {}
        }
    }
}
