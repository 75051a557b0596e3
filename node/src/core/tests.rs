//! The core on virtual time, beside a network that is moved by hand.

use ocelli_consensus::{Address, Header};
use ocelli_protocol::Offence;
use ocelli_protocol::assembly::HELD_RETRY;
use ocelli_protocol::files::FilesAction;
use ocelli_protocol::message::{Announcement, BlockData, Request};
use ocelli_protocol::sync::REQUEST_TIMEOUT;

use super::*;
use crate::chain::MAX_AHEAD_SECONDS;
use crate::fixture::{Around, connect, make, peer, views, waiting};
use crate::inbox::inbox;
use crate::network::{Acceptance, NetworkCommand};

struct Room {
    around: Around,
    core: Core,
    inbox: Receiver<Input>,
    _to_pool: pool::Sources,
    views: Arc<Views>,
}

impl Room {
    fn new(blocks: u8) -> Self {
        let (around, mut chain) = Around::new();
        for number in 0..blocks {
            let block = make(&chain, |maker| maker.transfer(0, Address([number; 20]), 1_000_000));
            connect(&mut chain, &block);
        }
        let views = views(&chain);
        let ((to_core, inbox), (pool, to_pool)) = (inbox(), pool::Link::new());
        let others = Others {
            views: Arc::clone(&views),
            clock: around.clock.clone(),
            inbox: to_core,
            network: around.network.clone(),
            inference: around.inference.clone(),
            counted: Arc::default(),
            pool,
        };
        Self { around, core: Core::new(chain, others).unwrap(), inbox, _to_pool: to_pool, views }
    }

    fn tell(&mut self, input: Input) {
        self.core.handle(input).unwrap();
        self.go_on();
    }

    fn go_on(&mut self) {
        self.core.do_what_is_due().unwrap();
        self.core.show();
    }

    /// Waits for what other threads find out, which is little.
    fn wait_until(&mut self, is_done: impl Fn(&Core) -> bool) {
        while !is_done(&self.core) {
            if let Some(input) = self.inbox.next(Duration::from_secs(60)).unwrap() {
                self.core.handle(input).unwrap();
            }
            if std::mem::take(&mut self.core.is_advance_due) {
                self.core.advance().unwrap();
                self.core.blocks_changed().unwrap();
            }
            self.go_on();
        }
    }

    fn meet(&mut self, number: u8) -> Peer {
        let peer = peer(number);
        self.tell(Input::Connected { peer, group: Group::V4([1, number]), direction: Direction::Dialled });
        peer
    }

    fn gossip(&mut self, source: Peer, (header, data): &(Header, BlockData)) {
        let data = Announcement::of(header.clone(), &data.body).to_bytes();
        let (id, topic) = (GossipId::of(1, source), self.core.blocks_topic.clone());
        self.tell(Input::Gossip { id, topic, source, data });
    }
}

/// A block of transfers whose header has this time, on the tip.
fn block_at(core: &Core, time: u64) -> (Header, BlockData) {
    let (header, data) = make(&core.chain, |maker| maker);
    let mut header = Header { time, nonce: 0, ..header };
    let target = header.target.to_target().unwrap();
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    (header, data)
}

/// Time-outs count monotonic time: a peer that is asked is neither given up nor waited for longer when the clock is set.
#[test]
fn a_question_times_out_in_its_time_however_the_wall_clock_steps() {
    for hours in [1, -1] {
        let mut room = Room::new(1);
        let one = room.meet(1);
        let asked = room.around.asked();
        assert!(matches!(&asked[..], [(peer, Request::Status)] if *peer == one), "{asked:?}");
        room.around.clock.step_wall(hours * 3600);
        room.around.clock.advance(REQUEST_TIMEOUT - 1);
        room.go_on();
        assert_eq!(room.around.blamed(), [], "{hours} h");
        room.around.clock.advance(2);
        room.go_on();
        assert_eq!(room.around.blamed(), [one], "{hours} h");
    }
}

#[test]
fn a_peer_that_is_slow_with_a_file_is_not_taken_for_one_that_sends_another() {
    let mut room = Room::new(1);
    let peer = room.meet(1);
    room.core.carry_out_files(FilesAction::Penalize { peer, offence: Offence::Stalled });
    let penalties = std::iter::from_fn(|| room.around.told.try_recv().ok()).filter_map(|command| match command {
        NetworkCommand::Penalize { misbehaviour, .. } => Some(misbehaviour),
        _ => None,
    });
    assert_eq!(penalties.collect::<Vec<_>>(), [Misbehaviour::Stalled]);
}

/// A block from the future is held by the wall clock, and taken when that shows its time, however it gets there.
#[test]
fn a_held_block_is_taken_when_its_time_has_come() {
    let mut room = Room::new(1);
    let source = room.meet(1);
    let wall = room.around.clock.unix_seconds();
    let held = block_at(&room.core, wall + MAX_AHEAD_SECONDS + 1800);
    room.gossip(source, &held);
    let hash = held.0.hash();
    assert!(!room.core.chain.tree().contains(&hash));
    let reported: Vec<_> = std::iter::from_fn(|| room.around.told.try_recv().ok())
        .filter_map(|command| match command {
            NetworkCommand::Report { acceptance, .. } => Some(acceptance),
            _ => None,
        })
        .collect();
    assert_eq!(reported, [Acceptance::Ignore]);
    for seconds in [-3600, 3600, 1700] {
        room.around.clock.step_wall(seconds);
        room.around.clock.advance(HELD_RETRY);
        room.go_on();
        assert!(!room.core.chain.tree().contains(&hash), "after a step of {seconds} s");
    }
    room.around.clock.step_wall(100);
    room.around.clock.advance(HELD_RETRY);
    room.go_on();
    room.wait_until(|core| core.chain.tip().hash == hash);
    // What is connected stays so when the clock goes back.
    room.around.clock.step_wall(-7200);
    room.around.clock.advance(HELD_RETRY);
    room.go_on();
    assert_eq!(room.core.chain.tip().hash, hash);
}

/// A new tip can be read before anybody is told of it, and the pool is told with it.
#[test]
fn a_tip_is_shown_before_it_is_told() {
    let mut room = Room::new(0);
    let source = room.meet(1);
    let wall = room.around.clock.unix_seconds();
    let block = block_at(&room.core, wall);
    let before = room.views.newest();
    room.gossip(source, &block);
    room.wait_until(|core| core.chain.tip().height == 1);
    assert_eq!((before.tip.height, room.views.newest().tip.hash), (0, block.0.hash()));
    assert_eq!(room.views.core().best_height, 1);
    assert_eq!(room.views.core().peers[&source], Some(1));
}

/// Transactions of a block that is being put together are had from here, and of one that is unknown there are none.
#[test]
fn what_is_not_stored_is_answered_with_what_is_here() {
    let mut room = Room::new(0);
    for indexes in [vec![], vec![0]] {
        let (to, answer) = waiting();
        room.tell(Input::Announced(BlockHash([3; 32]), indexes, to));
        assert_eq!(answer.try_recv(), Ok(Response::Transactions(Vec::new())));
    }
}
