//! What the machine sees: real headers, each of which takes one or two hashes, and blocks of pictures. After every input the
//! machine is looked through for what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use ocelli_consensus::block::{Answer, Classes, answer_root};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree, TreeNode};
use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, CompactTarget, Header, ModelId, Network, Transaction, Unsigned,
    WtxId,
};

use super::*;
use crate::message::{Announcement, Assembled, BlockData, NextRules, ShortId, Submission};
use crate::origin::{Direction, Group, Origin};

pub type In = Input<u8, u32>;
pub type Out = AssemblyAction<u8, u32>;

pub static NETWORK: LazyLock<Network> = LazyLock::new(|| network(0x2100_ffff));

/// Whom we have dialled, each in a group of its own.
pub fn connected(peer: u8) -> In {
    connected_from(peer, Direction::Dialled, peer.into())
}

pub fn connected_from(peer: u8, direction: Direction, group: u64) -> In {
    Input::PeerConnected { peer, origin: Origin { direction, group: Group(group) } }
}

/// A network whose first blocks have this target.
pub fn network(easiest: u32) -> Network {
    let mut parameters = Network::builtin("local").expect("built in").parameters;
    parameters.easiest_target = CompactTarget(easiest);
    Network::new(parameters, vec![])
}

/// A task, its picture made of its number.
pub fn task(number: u64) -> Submission {
    let pixels: Arc<[u8]> = Arc::from(number.to_le_bytes());
    let action = Action::Classify {
        model: ModelId([1; 32]),
        picture: AttachmentHash::of(&pixels),
        bytes: 8,
        royalty: Amount(0),
        form: Form::Pixels,
    };
    let unsigned = Unsigned { nonce: number, fee: Amount(1), expires: 100, action };
    let transaction = Transaction { unsigned, public_key: [0; 32], signature: [1; 64] };
    Submission { transaction, attachment: Some(pixels) }
}

pub fn wtxid(number: u64) -> WtxId {
    task(number).transaction.wtxid()
}

pub fn short(number: u64) -> ShortId {
    ShortId::of(&wtxid(number))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub header: Header,
    pub data: BlockData,
}

impl Block {
    /// A block with the tasks of these numbers; another salt gives another block.
    pub fn on(parent: &Header, tasks: impl IntoIterator<Item = u64>, salt: u64) -> Self {
        let mut data = BlockData::default();
        for Submission { transaction, attachment } in tasks.into_iter().map(task) {
            data.body.transactions.push((transaction, Answer::Classes(Classes::of(&[1, -1]))));
            data.attachments.push(attachment);
        }
        let mut miner = [0; 20];
        miner[..8].copy_from_slice(&salt.to_le_bytes());
        let (height, time) = (parent.height + 1, parent.time + NETWORK.parameters.spacing);
        let body = data.body.root(&parent.hash());
        let header =
            Header { parent: parent.hash(), body, height, time, miner: Address(miner), nonce: 0, ..parent.clone() };
        Self { header: mine(header), data }
    }

    pub fn hash(&self) -> BlockHash {
        self.header.hash()
    }

    pub fn announcement(&self) -> Announcement {
        Announcement::of(self.header.clone(), &self.data.body)
    }

    pub fn submissions(&self, indexes: &[u32]) -> Vec<Submission> {
        let submission = |&index: &u32| Submission {
            transaction: self.data.body.transactions[index as usize].0.clone(),
            attachment: self.data.attachments[index as usize].clone(),
        };
        indexes.iter().map(submission).collect()
    }

    pub fn answers(&self) -> Vec<Answer> {
        self.data.body.transactions.iter().map(|(_, answer)| answer.clone()).collect()
    }

    pub fn assembled(&self) -> Assembled {
        let all: Vec<u32> = (0..).take(self.data.attachments.len()).collect();
        Assembled { submissions: self.submissions(&all), answer_root: answer_root(&self.answers()) }
    }
}

/// A block of pictures as large as an attachment may be.
pub fn large_block(parent: &Header, tasks: u8) -> Block {
    let small = Block::on(parent, [], 0);
    let mut data = BlockData::default();
    for number in 0..tasks {
        let picture: Arc<[u8]> = Arc::from(vec![number; MAX_ATTACHMENT_BYTES]);
        let Submission { mut transaction, .. } = task(number.into());
        if let Action::Classify { picture: hash, bytes, .. } = &mut transaction.unsigned.action {
            (*hash, *bytes) = (AttachmentHash::of(&picture), MAX_ATTACHMENT_BYTES as u32);
        }
        data.body.transactions.push((transaction, Answer::None));
        data.attachments.push(Some(picture));
    }
    let header = mine(Header { body: data.body.root(&parent.hash()), ..small.header });
    Block { header, data }
}

pub fn mine(mut header: Header) -> Header {
    let target = header.target.to_target().expect("a test's own");
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    header
}

pub fn unmine(mut header: Header) -> Header {
    let target = header.target.to_target().expect("a test's own");
    while target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    header
}

/// The node around the machine.
pub struct World {
    network: Network,
    pub tree: HeaderTree,
    headers: BTreeMap<BlockHash, Header>,
    pub tip: BlockHash,
    pub validating: BTreeSet<BlockHash>,
    pub mempool: BTreeMap<WtxId, Submission>,
    pub stored: BTreeMap<BlockHash, BlockData>,
    /// By height.
    pub connected: BTreeMap<u64, BlockHash>,
    /// Blocks that are too far behind to be passed on.
    pub unworthy: BTreeSet<BlockHash>,
}

impl World {
    pub fn new(network: &Network) -> Self {
        Self {
            tree: HeaderTree::new(&network.genesis),
            headers: BTreeMap::from([(network.genesis_hash(), network.genesis.clone())]),
            tip: network.genesis_hash(),
            network: network.clone(),
            validating: BTreeSet::new(),
            mempool: BTreeMap::new(),
            stored: BTreeMap::new(),
            connected: BTreeMap::new(),
            unworthy: BTreeSet::new(),
        }
    }

    pub fn insert(&mut self, header: &Header) {
        assert!(self.has_inserted(header), "a test's own");
    }

    fn has_inserted(&mut self, header: &Header) -> bool {
        let inserted = self.tree.insert(&self.network, header);
        inserted.map(|hash| self.headers.insert(hash, header.clone())).is_ok()
    }

    pub fn pend(&mut self, number: u64) {
        self.mempool.insert(wtxid(number), task(number));
    }

    /// A block's validation ends well, and it becomes the tip if it stands on it.
    pub fn connect(&mut self, hash: BlockHash, data: BlockData) {
        self.validating.remove(&hash);
        self.tree.set_status(hash, BlockStatus::Verified);
        let header = &self.headers[&hash];
        if header.parent == self.tip {
            self.connected.insert(header.height, hash);
            self.tip = hash;
            data.body.transactions.iter().for_each(|(transaction, _)| drop(self.mempool.remove(&transaction.wtxid())));
        }
        self.stored.insert(hash, data);
    }
}

impl AssemblyView for World {
    fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    fn tip(&self) -> TreeNode {
        self.tree.get(&self.tip).expect("always there")
    }

    fn is_in_validation(&self, hash: &BlockHash) -> bool {
        self.validating.contains(hash)
    }

    fn is_worth_forwarding(&self, block: &TreeNode) -> bool {
        !self.unworthy.contains(&block.hash)
    }

    fn next_rules(&self) -> Option<NextRules> {
        self.network
            .schedule
            .next_after(self.tip().height)
            .map(|next| NextRules { height: next.height, version: next.version })
    }

    fn pending_ids(&self) -> impl Iterator<Item = WtxId> {
        self.mempool.keys().copied()
    }

    fn pending(&self, wtxid: &WtxId) -> Option<Submission> {
        self.mempool.get(wtxid).cloned()
    }

    fn connected_at(&self, height: u64) -> Option<BlockHash> {
        self.connected.get(&height).copied()
    }

    fn block_data(&self, hash: &BlockHash) -> Option<BlockData> {
        self.stored.get(hash).cloned()
    }
}

/// A machine in its world.
pub struct Tested {
    pub machine: Assembly<u8, u32>,
    pub world: World,
    pub now: u64,
    pub wake_at: Option<u64>,
    /// Gossip messages whose verdict is due.
    unreported: BTreeSet<u32>,
    next_gossip: u32,
}

impl Tested {
    pub fn new(peers: impl IntoIterator<Item = u8>) -> Self {
        Self::in_network(&NETWORK, peers)
    }

    pub fn in_network(network: &Network, peers: impl IntoIterator<Item = u8>) -> Self {
        let (machine, world) = (Assembly::new(network.genesis_hash()), World::new(network));
        let mut tested = Self { machine, world, now: 0, wake_at: None, unreported: BTreeSet::new(), next_gossip: 0 };
        for peer in peers {
            assert_eq!(tested.handle(connected(peer)), []);
        }
        tested
    }

    pub fn genesis(&self) -> Header {
        self.world.network.genesis.clone()
    }

    pub fn handle(&mut self, input: In) -> Vec<Out> {
        if let Input::Announced { gossip, .. } = &input {
            self.unreported.insert(*gossip);
        }
        let out = self.machine.handle(input, self.now, &self.world);
        for output in &out {
            match output {
                AssemblyAction::Report { gossip, .. } => {
                    assert!(self.unreported.remove(gossip), "message {gossip} is reported twice");
                }
                AssemblyAction::WakeAt(at) => {
                    assert!(*at > self.now);
                    self.wake_at = Some(*at);
                }
                AssemblyAction::Complete { hash, .. } => drop(self.world.validating.insert(*hash)),
                AssemblyAction::Condemn { hash, .. } => {
                    assert!(self.world.tree.set_status(*hash, BlockStatus::Invalid));
                }
                _ => {}
            }
        }
        self.check();
        out
    }

    /// Everything that must hold after every input.
    fn check(&self) {
        let Assembly { peers, in_turn, judging, held, partial, questions, bringing, gossiped, look_at, .. } =
            &self.machine;
        assert!(peers.len() <= MAX_ASSEMBLY_PEERS);
        assert!(gossiped.len() <= MAX_GOSSIPED);
        assert!(in_turn.len() <= MAX_IN_TURN && held.len() <= MAX_HELD && partial.len() <= MAX_PARTIAL);
        assert!(bringing.blocks.len() <= MAX_BRINGING && !bringing.has_changed);
        let waiting: BTreeSet<_> = in_turn.iter().map(|waiting| waiting.from).collect();
        assert_eq!(waiting.len(), in_turn.len(), "one announcement of a peer waits");
        let announced = in_turn.iter().chain(judging).filter_map(|announced| announced.gossip);
        assert_eq!(announced.collect::<BTreeSet<_>>(), self.unreported, "what waits is not reported, and nothing else");
        assert!(held.values().all(|held| held.announced.gossip.is_none()));
        if judging.is_none() {
            assert!(held.values().all(|held| held.retry_at > self.now), "nothing that is due is left");
            for waiting in in_turn {
                let hash = peers[&waiting.from].turn.expect("it waits for one");
                assert!(self.machine.is_open(&hash, &self.world), "its turn has come");
            }
        }
        for (hash, block) in partial {
            assert!(self.world.tree.get(hash).is_some_and(|node| node.status == BlockStatus::Header));
            assert!(!self.world.validating.contains(hash), "not put together any more");
            let is_complete = block.missing().next().is_none();
            assert!(!is_complete || block.needs_wtxids(), "what is complete is handed over");
            assert!(block.since + ASSEMBLY_TIME > self.now);
            assert!(block.round.asked.len() <= MAX_SOURCES);
            let is_asked = questions.values().any(|question| question.block == *hash);
            assert!(
                self.machine.is_awaited(hash, self.now) || look_at.is_some() || block.is_left && is_asked,
                "{hash} is forgotten: {block:?}, {questions:?}"
            );
        }
        for (peer, count) in peers.keys().map(|peer| (peer, questions.values().filter(|it| it.peer == *peer).count())) {
            assert!(count <= MAX_QUESTIONS_PER_PEER, "{count} questions to {peer}");
        }
        for question in questions.values() {
            assert!(peers.contains_key(&question.peer), "who is gone is not expected to answer");
            assert_eq!(question.is_late, question.due <= self.now);
        }
        assert!(look_at.is_none_or(|at| at > self.now));
        let is_idle = partial.is_empty() && held.is_empty();
        assert!(
            is_idle || judging.is_some() || self.wake_at.is_some_and(|at| at > self.now),
            "what is to be done by time is not forgotten"
        );
    }

    /// Announces a block, and imports its header as the node does. The outputs without [`AssemblyAction::WakeAt`], and without the
    /// import where that goes well.
    pub fn announce(&mut self, from: u8, block: &Block) -> Vec<Out> {
        self.announce_as(from, block.announcement())
    }

    pub fn announce_as(&mut self, from: u8, announcement: Announcement) -> Vec<Out> {
        let gossip = self.next_gossip;
        self.next_gossip += 1;
        let out = self.handle(Input::Announced { gossip, from, announcement });
        self.import(out)
    }

    /// Imports headers as they are asked for, and leaves out [`AssemblyAction::WakeAt`].
    pub fn import(&mut self, out: Vec<Out>) -> Vec<Out> {
        let mut all = Vec::new();
        let mut queue: VecDeque<Out> = out.into();
        while let Some(output) = queue.pop_front() {
            match output {
                AssemblyAction::ImportHeader { header, .. } => {
                    let is_good = self.world.has_inserted(&header);
                    let verdict = if is_good { HeaderVerdict::Stored } else { HeaderVerdict::Broken };
                    queue.extend(self.handle(Input::HeaderImported { hash: header.hash(), verdict }));
                }
                AssemblyAction::WakeAt(_) => {}
                other => all.push(other),
            }
        }
        all
    }

    /// Goes on to a time, and wakes the machine whenever it asks for it.
    pub fn run(&mut self, until: u64) -> Vec<Out> {
        let mut all = Vec::new();
        while let Some(at) = self.wake_at.filter(|at| *at <= until) {
            (self.now, self.wake_at) = (at, None);
            let out = self.handle(Input::Woken);
            all.extend(self.import(out));
        }
        self.now = until;
        all
    }

    /// A peer's answer to a question.
    pub fn respond(&mut self, peer: u8, id: u64, result: Result<Response, Failure>) -> Vec<Out> {
        let out = self.handle(Input::Response { peer, id, result });
        self.import(out)
    }

    /// A block's validation ends well.
    pub fn connect(&mut self, block: &Block) -> Vec<Out> {
        self.world.connect(block.hash(), block.data.clone());
        let out = self.handle(Input::BlocksChanged);
        self.import(out)
    }
}
