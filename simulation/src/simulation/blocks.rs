//! Blocks: found, announced, passed on, validated.

use std::sync::Arc;

use ocelli_consensus::block::Answer;
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{Address, Body, Header, Root, rules};
use ocelli_protocol::assembly;
use ocelli_protocol::message::Announcement;
use ocelli_protocol::sync::Input;
use rand::RngExt as _;

use super::{Event, Simulation};
use crate::block::{Block, NEVER, Times};
use crate::config::{Behaviour, SECOND, SimulationConfig};
use crate::cost;
use crate::line::Message;
use crate::node::Node;

/// Blocks after the last that is counted, far apart: two branches of the same work stay until one of them grows.
const CLOSING: usize = 3;
/// Time before each of these, and after the last.
const QUIET: u64 = 90 * SECOND;

impl Simulation {
    pub(super) fn on_found(&mut self) {
        let SimulationConfig { blocks, miners, attack, .. } = self.config;
        if self.blocks.all.len() >= blocks {
            return self.close();
        }
        let wait = -(1.0 - self.random.random::<f64>()).ln() * (self.config.spacing * SECOND) as f64;
        self.queue.push(self.now + wait as u64, Event::Found);
        let attack = attack.filter(|attack| self.random.random_range(0..100) < attack.hash_percent);
        let miner = match attack {
            Some(attack) => self.nodes.len() - 1 - self.random.random_range(0..attack.nodes),
            None => self.random.random_range(0..miners),
        };
        let behaviour = attack.map(|attack| attack.behaviour);
        let block = self.make_block(miner, behaviour != Some(Behaviour::Forges));
        self.take_own(miner, &block);
        if behaviour == Some(Behaviour::MinesSelfishly) {
            let published = self.nodes[miner].selfish.on_found(block);
            return self.publish(miner, published);
        }
        self.publish(miner, vec![block]);
        self.drive(miner, Input::BlocksChanged);
    }

    /// The last blocks that count were found: a miner finds some more, with time between them.
    fn close(&mut self) {
        if !self.is_over {
            self.is_over = true;
            for node in 0..self.nodes.len() {
                let left = self.nodes[node].selfish.finish();
                self.publish(node, left);
            }
        } else if self.blocks.all.len() < self.config.blocks + CLOSING {
            let block = self.make_block(0, true);
            self.take_own(0, &block);
            self.publish(0, vec![block]);
            self.drive(0, Input::BlocksChanged);
        } else {
            return self.queue.push(self.now, Event::End);
        }
        self.queue.push(self.now + QUIET, Event::Found);
    }

    /// A miner's own block is on its chain at once; one with wrong answers is not.
    fn take_own(&mut self, miner: usize, block: &Block) {
        let node = &mut self.nodes[miner];
        let before = node.tree.best_candidate().hash;
        node.tree.insert(&self.network, &block.header).expect("made by the rules");
        node.tree.set_status(block.hash, if block.is_right { BlockStatus::Verified } else { BlockStatus::Invalid });
        self.follow_chain(miner, before);
        let Times { announced, complete, validated } = &mut self.blocks.times[block.number];
        (announced[miner], complete[miner], validated[miner]) = (self.now, self.now, self.now);
    }

    fn make_block(&mut self, miner: usize, is_right: bool) -> Arc<Block> {
        let parameters = &self.network.parameters;
        let parent = self.nodes[miner].tree.best_candidate();
        let number = self.blocks.all.len();
        let submissions = self.template(miner, number);
        let transactions = submissions.iter().map(|task| (task.transaction.clone(), Answer::None)).collect();
        let commitment = Body { transactions }.commitment(&parent.hash);
        let wtxids: Vec<_> = submissions.iter().map(|task| task.transaction.wtxid()).collect();
        let mut address = [0; 20];
        address[..8].copy_from_slice(&(miner as u64).to_le_bytes());
        let mut header = Header {
            version: self.network.schedule.version_at(parent.height + 1),
            parent: parent.hash,
            history: Root([0; 32]),
            state: Root([0; 32]),
            body: commitment.root(),
            miner: Address(address),
            height: parent.height + 1,
            time: (parent.time + 1).max(parameters.genesis_time + self.now / SECOND),
            target: rules::expected_target(parameters, &parent, parent.anchor()),
            nonce: 0,
        };
        let target = header.target.to_target().expect("the rules give a target");
        while !target.is_met_by(header.hash().0) {
            header.nonce += 1;
        }
        let (hash, found_at) = (header.hash(), self.now);
        let block =
            Arc::new(Block { number, header, hash, submissions, wtxids, commitment, found_at, by: miner, is_right });
        self.blocks.push(block.clone(), self.nodes.len());
        block
    }

    fn publish(&mut self, node: usize, blocks: Vec<Arc<Block>>) {
        for block in blocks {
            self.pass_on(node, None, &block);
            self.drive_assembly(node, assembly::Input::Published(block.hash));
        }
    }

    pub(super) fn pass_on(&mut self, node: usize, from: Option<usize>, block: &Arc<Block>) {
        let bytes = cost::announcement(block.tasks());
        let peers = self.nodes[node].session.peers.iter();
        let peers = peers.filter(|(peer, state)| state.is_in_mesh && Some(**peer) != from).map(|(peer, _)| *peer);
        for peer in peers.collect::<Vec<_>>() {
            self.send(node, peer, Message::Announcement(block.clone()), bytes);
        }
    }

    pub(super) fn on_announcement(&mut self, from: usize, to: usize, block: Arc<Block>) {
        // Gossip tells a message once.
        let seen = &mut self.blocks.times[block.number].announced[to];
        if *seen != NEVER {
            return;
        }
        *seen = self.now;
        let node = &self.nodes[to];
        if node.behaviour == Some(Behaviour::Withholds) {
            return;
        }
        let at = self.now + cost::check_announcement(block.tasks());
        self.queue.push(at, Event::Checked { node: to, life: node.life, from, block });
    }

    pub(super) fn on_checked(&mut self, at: usize, from: usize, block: &Arc<Block>) {
        let missing = self.count_missing(at, block);
        self.nodes[at].session.open.insert(block.number, missing);
        let announcement = Announcement { header: block.header.clone(), commitment: block.commitment.clone() };
        self.drive_assembly(at, assembly::Input::Announced { gossip: (block.number, from), from, announcement });
    }

    pub(super) fn validate(&mut self, at: usize, number: usize, missing: u64) {
        let block = self.blocks.all[number].clone();
        let Node { life, session, .. } = &mut self.nodes[at];
        if session.validating.insert(block.hash) {
            let complete = &mut self.blocks.times[number].complete[at];
            *complete = self.now.min(*complete);
            let takes = cost::validate(&self.config.load.task, block.tasks(), missing);
            session.busy_until = session.busy_until.max(self.now) + takes;
            self.queue.push(session.busy_until, Event::Validated { node: at, life: *life, block });
        }
    }

    pub(super) fn on_validated(&mut self, at: usize, block: &Arc<Block>) {
        let node = &mut self.nodes[at];
        let before = node.tree.best_candidate().hash;
        node.session.validating.remove(&block.hash);
        node.session.open.remove(&block.number);
        // Wrong answers are the block's own only if its whole body has them, which nobody gives but who made it.
        node.tree.set_status(block.hash, if block.is_right { BlockStatus::Verified } else { BlockStatus::Invalid });
        let validated = &mut self.blocks.times[block.number].validated[at];
        *validated = self.now.min(*validated);
        self.follow_chain(at, before);
        let node = &self.nodes[at];
        if node.behaviour == Some(Behaviour::MinesSelfishly) && block.by != at {
            let published = self.nodes[at].selfish.on_public(block.header.height);
            self.publish(at, published);
        }
        let has_moved = self.nodes[at].tree.best_candidate().hash != before;
        self.drive_assembly(at, assembly::Input::BlocksChanged);
        if has_moved {
            self.drive_assembly(at, assembly::Input::TipMoved);
        }
        self.drive(at, Input::BlocksChanged);
    }
}
