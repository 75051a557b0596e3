//! Peers around the machine on virtual time. Insertion order breaks ties.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::world::{Block, In, Out, Tested, connected, task};
use super::*;

/// Milliseconds that a message takes.
pub const LATENCY: u64 = 20;
/// Milliseconds that a block's validation takes.
const VALIDATION: u64 = 50;
/// Milliseconds that sync takes for a block that is left to it, and that some peer has.
const SYNC: u64 = 300;

/// Blocks of a random run.
pub const BLOCKS: usize = 40;

/// How a peer answers the question for a block's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends what it has; nothing if it has not all of it.
    Honest,
    /// Has passed on what it does not have.
    Lacks,
    /// Is still putting it together itself.
    Partly,
    /// Never answers.
    Silent,
    /// Takes its time.
    Slow(u64),
    /// Sends other transactions.
    Lies,
    /// Is gone as soon as it is asked, and comes back.
    Vanishes,
}

impl Mode {
    const ALL: [Self; 7] =
        [Self::Honest, Self::Lacks, Self::Partly, Self::Silent, Self::Slow(1_500), Self::Lies, Self::Vanishes];

    /// Whether an honest peer may behave so.
    fn is_blameless(self) -> bool {
        self != Self::Lies
    }
}

#[derive(Debug)]
enum Event {
    Announce {
        from: u8,
        block: usize,
    },
    Answer {
        peer: u8,
        id: u64,
        result: Result<Response, Failure>,
    },
    Reconnect(u8),
    Validated(BlockHash),
    /// Sync brings a block.
    Synced(BlockHash),
}

pub struct Simulator {
    pub tested: Tested,
    pub modes: Vec<Mode>,
    /// Who has the whole of which block.
    has: BTreeSet<(u8, BlockHash)>,
    blocks: Vec<Block>,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    announced: BTreeMap<BlockHash, u64>,
    /// When each block was complete.
    pub completed: BTreeMap<BlockHash, u64>,
    left: BTreeSet<BlockHash>,
    pub offences: Vec<(u8, Offence)>,
    /// Questions that those answered who are still putting a block together.
    served: usize,
}

impl Simulator {
    /// Peers that are known to be far ahead, so that they are asked.
    pub fn new(modes: &[Mode]) -> Self {
        let peers = 0..modes.len() as u8;
        let mut tested = Tested::new(peers.clone());
        for peer in peers {
            tested.handle(Input::Height { peer, height: 1_000 });
        }
        Self {
            tested,
            modes: modes.to_vec(),
            has: BTreeSet::new(),
            blocks: Vec::new(),
            events: BTreeMap::new(),
            next: 0,
            announced: BTreeMap::new(),
            completed: BTreeMap::new(),
            left: BTreeSet::new(),
            offences: Vec::new(),
            served: 0,
        }
    }

    /// Up to eight peers, the first one honest, and blocks one after the other with forks among them, each announced by one
    /// or several.
    pub fn random(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let count = random.random_range(2..9);
        let modes: Vec<_> = (0..count)
            .map(|peer| if peer == 0 { Mode::Honest } else { Mode::ALL[random.random_range(0..Mode::ALL.len())] })
            .collect();
        let mut simulator = Self::new(&modes);
        let (mut parent, mut at) = (simulator.tested.genesis(), 1_000);
        for number in 0..BLOCKS as u64 {
            let tasks: Vec<u64> = (0..random.random_range(0..6)).map(|task| number * 8 + task).collect();
            // Some are in the mempool already.
            for task in tasks.iter().filter(|task| **task % 3 == 0) {
                simulator.tested.world.pend(*task);
            }
            let block = Block::on(&parent, tasks, number);
            for peer in 0..count {
                if peer == 0 || random.random_range(0..2) == 0 {
                    simulator.give(peer as u8, &block);
                }
            }
            for _ in 0..random.random_range(1..4) {
                let from = random.random_range(0..count) as u8;
                simulator.announce(from, &block, at + random.random_range(0..1_000));
            }
            at += random.random_range(0..3_000);
            // Sometimes the next block is a sibling.
            if random.random_range(0..4) > 0 {
                parent = block.header;
            }
        }
        simulator
    }

    /// A peer has a block whole, if it is one that serves.
    pub fn give(&mut self, peer: u8, block: &Block) {
        if matches!(self.modes[peer as usize], Mode::Honest | Mode::Slow(_)) {
            self.has.insert((peer, block.hash()));
        }
    }

    pub fn announce(&mut self, from: u8, block: &Block, at: u64) {
        if matches!(self.modes[from as usize], Mode::Honest | Mode::Slow(_)) {
            self.give(from, block);
        }
        self.blocks.push(block.clone());
        self.push(at, Event::Announce { from, block: self.blocks.len() - 1 });
    }

    fn push(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    pub fn run(&mut self, until: u64) {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            match (event, self.tested.wake_at) {
                (Some(at), wake) if at <= until && wake.is_none_or(|wake| at <= wake) => {
                    self.tested.now = self.tested.now.max(at);
                    let (_, event) = self.events.pop_first().expect("it was there");
                    self.happen(event);
                }
                (_, Some(at)) if at <= until => {
                    self.tested.now = at;
                    self.tested.wake_at = None;
                    self.drive(Input::Woken);
                }
                _ => return,
            }
        }
    }

    /// All has come to an end, and well. How many blocks were put together.
    pub fn finish(&self, seed: u64) -> usize {
        let machine = &self.tested.machine;
        assert!(machine.partial.is_empty() && machine.in_turn.is_empty() && machine.judging.is_none(), "seed {seed}");
        assert!(machine.bringing.blocks.is_empty() && machine.held.is_empty(), "seed {seed}");
        for (peer, offence) in &self.offences {
            let mode = self.modes[*peer as usize];
            let is_due = !mode.is_blameless() || (mode, *offence) == (Mode::Silent, Offence::Stalled);
            assert!(is_due, "seed {seed}: {peer} is blamed for {offence:?}");
        }
        for (hash, at) in &self.announced {
            let completed = self.completed.get(hash);
            let is_here = self.tested.world.stored.contains_key(hash);
            assert!(is_here || self.left.contains(hash), "seed {seed}: {hash} got lost");
            let most = ASSEMBLY_TIME + 2 * LATENCY;
            assert!(completed.is_none_or(|completed| *completed <= at + most), "seed {seed}: {hash} took too long");
        }
        let highest = self.blocks.iter().map(|block| block.header.height).max();
        let best = self.tested.world.tree.best_candidate().height;
        assert_eq!(Some(best), highest, "seed {seed}: a block got lost");
        self.completed.len()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Announce { from, block } => {
                let block = self.blocks[block].clone();
                let out = self.tested.announce(from, &block);
                self.carry_out(out);
                self.note_taken(&block);
            }
            Event::Answer { peer, id, result } => self.drive(Input::Response { peer, id, result }),
            Event::Reconnect(peer) => {
                self.drive(connected(peer));
                self.drive(Input::Height { peer, height: 1_000 });
            }
            Event::Validated(hash) => self.connect(hash),
            Event::Synced(hash) => {
                self.bring_header(hash);
                self.connect(hash);
            }
        }
    }

    fn block(&self, hash: BlockHash) -> &Block {
        self.blocks.iter().find(|block| block.hash() == hash).expect("somebody made it")
    }

    fn bring_header(&mut self, hash: BlockHash) {
        if !self.tested.world.tree.contains(&hash) {
            let header = self.block(hash).header.clone();
            self.bring_header(header.parent);
            self.tested.world.insert(&header);
        }
    }

    fn connect(&mut self, hash: BlockHash) {
        if self.tested.world.tree.get(&hash).is_some_and(|node| node.status == BlockStatus::Header) {
            let data = self.block(hash).data.clone();
            self.tested.world.connect(hash, data);
            self.drive(Input::BlocksChanged);
            self.drive(Input::TipMoved);
            self.sync_missing();
        }
    }

    /// Sync fetches what is missing on the best branch and is not put together.
    fn sync_missing(&mut self) {
        let machine = &self.tested.machine;
        let mut missing = self.tested.world.tree.missing(512);
        missing.retain(|hash| !machine.is_put_together(hash) && !self.tested.world.validating.contains(hash));
        for hash in missing {
            self.push(self.tested.now + SYNC, Event::Synced(hash));
        }
    }

    /// A block that was taken up is complete in time, or left to sync; one whose parent is not here is sync's anyway.
    fn note_taken(&mut self, block: &Block) {
        let hash = block.hash();
        if self.tested.machine.partial.contains_key(&hash) {
            let now = self.tested.now;
            self.announced.entry(hash).or_insert(now);
        }
    }

    fn drive(&mut self, input: In) {
        let out = self.tested.handle(input);
        let out = self.tested.import(out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Out>) {
        for output in out {
            match output {
                AssemblyAction::Send { peer, id, request } => self.on_question(peer, id, request),
                AssemblyAction::Complete { hash, block: assembled, .. } => {
                    let block = self.blocks.iter().find(|block| block.hash() == hash).expect("somebody made it");
                    assert_eq!(assembled.with_answers(block.answers()).as_ref(), Ok(&block.data));
                    assert!(self.completed.insert(hash, self.tested.now).is_none(), "complete twice");
                    self.push(self.tested.now + VALIDATION, Event::Validated(hash));
                }
                AssemblyAction::Penalize { peer, offence, .. } => self.offences.push((peer, offence)),
                AssemblyAction::LeftToSync => {
                    self.sync_missing();
                    let given_up = self.announced.keys().filter(|hash| !self.tested.machine.is_put_together(hash));
                    self.left.extend(given_up.copied());
                }
                AssemblyAction::Announced { hash, .. } => self.push(self.tested.now + SYNC, Event::Synced(hash)),
                AssemblyAction::Tell { .. } | AssemblyAction::Report { .. } | AssemblyAction::InBlocks(_) => {}
                AssemblyAction::ImportHeader { .. } | AssemblyAction::WakeAt(_) => unreachable!("carried out before"),
                AssemblyAction::Condemn { .. } => unreachable!("all are good"),
            }
        }
    }

    fn on_question(&mut self, peer: u8, id: u64, request: Request) {
        let mode = self.modes[peer as usize];
        let delay = match mode {
            Mode::Honest | Mode::Lacks | Mode::Lies | Mode::Partly => 0,
            Mode::Slow(delay) => delay,
            Mode::Silent => return,
            Mode::Vanishes => {
                self.push(self.tested.now + 5_000, Event::Reconnect(peer));
                return self.drive(Input::PeerDisconnected(peer));
            }
        };
        let result = Ok(self.answer(peer, mode, request));
        self.push(self.tested.now + 2 * LATENCY + delay, Event::Answer { peer, id, result });
    }

    fn answer(&mut self, peer: u8, mode: Mode, request: Request) -> Response {
        let hash = match &request {
            Request::Transactions { block, .. } | Request::TransactionIds { block } => *block,
            other => panic!("{other:?}"),
        };
        let block = self.blocks.iter().find(|block| block.hash() == hash).expect("somebody made it");
        let is_here = self.has.contains(&(peer, hash));
        match request {
            Request::Transactions { indexes, .. } => Response::Transactions(match mode {
                Mode::Lies => indexes.iter().map(|_| Some(task(u64::MAX))).collect(),
                // Each time it has one more.
                Mode::Partly => {
                    self.served += 1;
                    let has = |index: u32| index as usize % 3 < self.served;
                    let some = block.submissions(&indexes).into_iter().zip(&indexes);
                    some.map(|(submission, index)| has(*index).then_some(submission)).collect()
                }
                _ if is_here => block.submissions(&indexes).into_iter().map(Some).collect(),
                _ => Vec::new(),
            }),
            _ => {
                let ids = block.data.body.transactions.iter().map(|(transaction, _)| transaction.wtxid());
                Response::TransactionIds(match mode {
                    Mode::Lies => Some(vec![task(u64::MAX).transaction.wtxid()]),
                    _ => is_here.then(|| ids.collect()),
                })
            }
        }
    }
}
