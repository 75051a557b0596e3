//! The pool on virtual time, between a chain and a network that are moved by hand.

use std::sync::Mutex;

use ocelli_consensus::{Address, Amount};
use ocelli_protocol::mempool::ripe_age;
use ocelli_protocol::message::{FeeSuggestion, SubmitReply, TransactionStatus};
use ocelli_protocol::relay::{ANNOUNCE_DELAY, ANNOUNCE_TIMEOUT};
use tokio::sync::oneshot;

use super::mining::{GATHER_MILLIS, REFRESH_MILLIS};
use super::*;
use crate::chain::Chain;
use crate::dropped::Reason;
use crate::fixture::{Around, BEGIN, connect, make, peer, submissions, views, waiting};
use crate::store::tests::address;
use crate::turn::Turns;
use crate::wallet::Wallet;

/// What any transfer gets in with.
const FEE: u64 = 10_000;

struct Room {
    around: Around,
    chain: Chain,
    views: Arc<Views>,
    pool: Pool,
    to_keeper: Receiver<keeper::Input>,
    found: Arc<Mutex<Vec<Found>>>,
    _inbox: Receiver<Input>,
}

impl Room {
    fn new() -> Self {
        let (around, chain) = Around::new();
        let views = views(&chain);
        let ((keeper, to_keeper), (to_pool, inbox)) = (inbox(), inbox());
        let found = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&found);
        let others = Others {
            views: Arc::clone(&views),
            clock: around.clock.clone(),
            inbox: to_pool.clone(),
            network: around.network.clone(),
            inference: around.inference.clone(),
            counted: Arc::default(),
            keeper,
            found: Box::new(move |block| taken.lock().unwrap().push(block)),
            moved: Box::new(|_, _| ()),
            unchecked: Box::new(|_| {}),
        };
        // No thread searches: the templates are looked at here.
        let mine = Mine::start(Mining { address: Address([4; 20]), threads: 0 }, to_pool);
        let pool = Pool::new(others, Some(mine), None, Vec::new()).unwrap();
        Self { around, chain, views, pool, to_keeper, found, _inbox: inbox }
    }

    /// What the room's thread does with an input.
    fn tell(&mut self, input: Input) {
        self.pool.handle(input).unwrap();
        self.go_on();
    }

    fn go_on(&mut self) {
        self.pool.do_what_is_due().unwrap();
        self.pool.show();
    }

    fn submit(&mut self, submission: &Submission) -> Option<Response> {
        let (to, answer) = waiting();
        self.tell(Input::Ask(Box::new(Request::Submit(submission.clone())), to));
        answer.try_recv().ok()
    }

    /// Moves the tip over a block and tells the pool.
    fn connect(&mut self, block: &(Header, BlockData)) {
        let advance = connect(&mut self.chain, block);
        let chain = Arc::new(self.chain.at_tip().unwrap());
        self.views.show_tip(Arc::clone(&chain));
        let moved = TipMove { disconnected: advance.disconnected, connected: advance.connected, chain };
        self.pool.follow(moved).unwrap();
        self.go_on();
    }

    /// The template that a miner would work on.
    fn template(&self) -> &(Header, BlockData) {
        self.pool.mine.as_ref().and_then(|mine| mine.latest()).expect("there is a template")
    }
}

const TAKEN: Option<Response> = Some(Response::Submitted(SubmitReply::Accepted { answer: None }));

/// Whoever is told that a transaction is taken finds it in the view, and the view moves to a tip whole.
#[test]
fn the_view_is_of_one_moment() {
    let mut room = Room::new();
    let block = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000));
    let transfer = submissions(&block.1).remove(0);
    let txid = transfer.transaction.txid();
    let waiting = Response::Transaction(TransactionStatus::Pending(transfer.transaction.wtxid()));
    assert_eq!(room.submit(&transfer), TAKEN);
    let pending = room.views.view();
    assert_eq!(pending.transaction(&txid).unwrap(), waiting);
    assert_eq!(pending.account(address(0)).unwrap().next_nonce, 1);
    room.connect(&block);
    let confirmed = room.views.view();
    assert_eq!((confirmed.chain.tip.height, confirmed.pool.pending.len()), (1, 0));
    assert!(matches!(
        confirmed.transaction(&txid).unwrap(),
        Response::Transaction(TransactionStatus::Confirmed(found)) if found.header.height == 1
    ));
    assert_eq!(confirmed.account(address(0)).unwrap().next_nonce, 1);
    // Who looked before still sees what was.
    assert_eq!(pending.transaction(&txid).unwrap(), waiting);
}

/// A block that the core has shown, and the pool has not followed to, changes nothing of the view.
#[test]
fn between_two_moves_the_pool_stands_on_one_tip() {
    let mut room = Room::new();
    let (first, second) = {
        let first = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000));
        connect(&mut room.chain, &first);
        room.views.show_tip(Arc::new(room.chain.at_tip().unwrap()));
        let second = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([2; 20]), 1_000_000));
        (submissions(&first.1).remove(0), submissions(&second.1).remove(0))
    };
    // By the pool's tip both are possible, in this order.
    assert_eq!(room.submit(&first), TAKEN);
    assert_eq!(room.submit(&second), TAKEN);
    let view = room.views.view();
    assert_eq!((view.chain.tip.height, view.pool.pending.len(), room.views.newest().tip.height), (0, 2, 1));
    room.around.clock.advance(1_000);
    room.go_on();
    let (header, data) = room.template();
    assert_eq!((header.height, header.parent, data.body.transactions.len()), (1, room.chain.genesis(), 2));
}

/// What others may not have heard of yet is left out, until it is old enough, and then a template is made for it.
#[test]
fn a_template_leaves_out_what_is_young() {
    let mut room = Room::new();
    let age = ripe_age(room.views.network.parameters.spacing);
    assert!((GATHER_MILLIS..REFRESH_MILLIS).contains(&age), "{age}");
    let block = make(&room.chain, |maker| {
        maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000).transfer(0, Address([2; 20]), 1_000_000)
    });
    let transfers = submissions(&block.1);
    let in_template = |room: &Room| room.template().1.body.transactions.len();
    room.around.clock.advance(1_000);
    assert_eq!(room.submit(&transfers[0]), TAKEN);
    assert_eq!(in_template(&room), 0);
    // Templates that are made meanwhile do not hold it either, and forget nothing.
    room.around.clock.advance(GATHER_MILLIS);
    assert_eq!(room.submit(&transfers[1]), TAKEN);
    assert_eq!(in_template(&room), 0);
    room.around.clock.advance(age - GATHER_MILLIS - 1);
    room.go_on();
    assert_eq!(in_template(&room), 0);
    // The wall clock has nothing to do with it.
    room.around.clock.step_wall(-3600);
    room.around.clock.advance(1);
    room.go_on();
    room.around.clock.advance(GATHER_MILLIS);
    room.go_on();
    assert_eq!(in_template(&room), 2);
    // Nothing new: the template stays until it is renewed for its time.
    let made = room.template().0.clone();
    room.around.clock.advance(REFRESH_MILLIS - 1);
    room.go_on();
    assert_eq!(room.template().0, made);
}

/// A block that was found goes to the core once, and only while it stands on the tip.
#[test]
fn what_is_mined_is_handed_over() {
    let mut room = Room::new();
    let block = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000));
    room.submit(&submissions(&block.1)[0]);
    room.around.clock.advance(1_000);
    room.go_on();
    let (header, data) = room.template().clone();
    // A template's time is the wall clock's.
    assert_eq!(header.time, BEGIN + 1);
    let mined = Header { nonce: 77, ..header };
    room.tell(Input::Mined(mined.clone()));
    room.tell(Input::Mined(mined.clone()));
    let found = std::mem::take(&mut *room.found.lock().unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].header, &found[0].data), (&mined, &data));
    room.go_on();
    let late = Header { nonce: 78, ..room.template().0.clone() };
    room.connect(&block);
    room.tell(Input::Mined(late));
    assert!(room.found.lock().unwrap().is_empty());
}

/// Whoever mines on a chain that most have left mines in vain.
#[test]
fn a_node_that_has_to_be_updated_mines_no_more() {
    let mut room = Room::new();
    room.around.clock.advance(1_000);
    room.go_on();
    assert_eq!(room.template().0.height, 1);
    let before = crate::view::CoreFigures::clone(&room.views.core());
    room.views.show_core(crate::view::CoreFigures { update: Some("update".into()), ..before.clone() });
    room.around.clock.advance(10_000);
    room.go_on();
    assert!(room.pool.mine.as_ref().is_some_and(|mine| mine.latest().is_none()));
    room.views.show_core(before);
    room.go_on();
    assert_eq!(room.template().0.height, 1, "the other chain has fallen behind");
}

/// What leaves the mempool without being in a block is told to whoever asks for it.
#[test]
fn what_is_dropped_is_told() {
    let mut room = Room::new();
    let block = |room: &Room, fee: u64, to: u8| {
        make(&room.chain, |maker| maker.paying(fee).transfer(0, Address([to; 20]), 1_000_000))
    };
    let [first, second, third] = [(FEE, 1), (10 * FEE, 2), (100 * FEE, 3)].map(|(fee, to)| block(&room, fee, to));
    let status = |room: &Room, block: &(Header, BlockData)| {
        let txid = block.1.body.transactions[0].0.txid();
        match room.views.view().transaction(&txid).unwrap() {
            Response::Transaction(TransactionStatus::Dropped { reason }) => reason,
            other => format!("{other:?}").chars().take(20).collect(),
        }
    };
    assert_eq!(room.submit(&submissions(&first.1)[0]), TAKEN);
    assert!(status(&room, &first).starts_with("Transaction(Pending"));
    assert_eq!(room.submit(&submissions(&second.1)[0]), TAKEN);
    assert_eq!(status(&room, &first), Reason::Outbid.text());
    // A block takes another of the same sender and nonce.
    room.connect(&third);
    assert_eq!(status(&room, &second), Reason::Impossible.text());
    assert!(status(&room, &third).starts_with("Transaction(Confirm"));
    let refused = room.submit(&submissions(&first.1)[0]);
    assert!(matches!(refused, Some(Response::Submitted(SubmitReply::Refused { .. }))), "{refused:?}");
    assert_eq!(status(&room, &first), Reason::Outbid.text());
}

/// While another program has the turn of a wallet, nothing is signed with its key.
#[test]
fn a_wallet_of_the_node_waits_for_its_turn() {
    let mut room = Room::new();
    let folder = tempfile::tempdir().unwrap();
    let turns = Turns::in_folder(Some(folder.path().join("turns")));
    let spender = Arc::new(Spender { wallet: Wallet::from_seed([0; 32]), turns: turns.clone() });
    let order = |room: &mut Room| {
        let task = submissions(&make(&room.chain, |maker| maker.classify(0, 1)).1).remove(0);
        let (spender, action) = (Arc::clone(&spender), task.transaction.unsigned.action);
        let (attachment, most) = (task.attachment.unwrap(), Amount(u64::MAX));
        let (reply, mut answer) = oneshot::channel();
        let order = Order { spender, action, attachment, most, keep: Box::new(|_, _| Ok(())), reply };
        room.tell(Input::Order(Box::new(order)));
        answer.try_recv().unwrap().map(|transaction| transaction.unsigned.nonce)
    };
    // A command that has asked for the nonce, and not handed in yet.
    let turn = turns.take(spender.address()).unwrap();
    assert!(turn.is_some() && matches!(order(&mut room), Err(OrderError::NotItsTurn)));
    let command = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000));
    assert_eq!(room.submit(&submissions(&command.1)[0]), TAKEN);
    drop(turn);
    assert_eq!(order(&mut room).unwrap(), 1);
    // The turn is over when it is in the mempool.
    assert!(turns.take(spender.address()).unwrap().is_some());
    assert_eq!(order(&mut room).unwrap(), 2);
}

/// Relay and templates go on by monotonic time, wherever the wall clock is set meanwhile.
#[test]
fn steps_of_the_wall_clock_hold_nothing_up() {
    let mut room = Room::new();
    for hours in [-1, 2, -3, 2_i64] {
        let (one, number) = (peer(1), room.chain.tip().height);
        room.tell(Input::Connected {
            peer: one,
            light: false,
            group: Group::V4([9, 0]),
            direction: Direction::Dialled,
        });
        let block = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([number as u8; 20]), 1_000_000));
        assert_eq!(room.submit(&submissions(&block.1)[0]), TAKEN);
        room.around.clock.step_wall(hours * 3600);
        room.around.clock.advance(ANNOUNCE_DELAY);
        room.go_on();
        let asked = room.around.asked();
        assert!(matches!(&asked[..], [(to, Request::Announce { ids })] if *to == one && !ids.is_empty()), "{asked:?}");
        // Nobody answers, and that is noticed in time.
        room.around.clock.advance(ANNOUNCE_TIMEOUT);
        room.go_on();
        room.around.clock.advance(2_000);
        room.go_on();
        assert_eq!(room.around.asked().len(), 1, "it is announced again");
        room.tell(Input::Disconnected(one));
        room.connect(&block);
    }
}

/// The mempool goes to whoever writes it, shared and not copied, and what a restart has left goes along.
#[test]
fn what_is_pending_is_written_down_elsewhere() {
    let mut room = Room::new();
    let block = make(&room.chain, |maker| {
        maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000).transfer(0, Address([2; 20]), 1_000_000)
    });
    for transfer in submissions(&block.1) {
        assert_eq!(room.submit(&transfer), TAKEN);
    }
    assert!(room.to_keeper.next(Duration::ZERO).unwrap().is_none());
    room.around.clock.step_wall(-7200);
    room.around.clock.advance(SAVE_MILLIS);
    room.go_on();
    let Ok(Some(keeper::Input::Mempool { pending, left_over })) = room.to_keeper.next(Duration::ZERO) else {
        panic!("nothing is written")
    };
    assert_eq!((pending.len(), left_over.len()), (2, 0));
    assert_eq!(pending[0].transaction().unsigned.nonce, 0);
}

/// A question about fees costs the same however much is pending: it looks at what was prepared.
#[test]
fn fees_are_shown_with_the_view() {
    let mut room = Room::new();
    let before: FeeSuggestion = room.views.fee(1);
    assert_eq!(before.rate, before.minimum);
    let block = make(&room.chain, |maker| maker.paying(FEE).transfer(0, Address([1; 20]), 1_000_000));
    room.submit(&submissions(&block.1)[0]);
    room.around.clock.advance(FEES_MILLIS);
    room.go_on();
    assert!(room.views.fee(1).minimum > 0);
    assert_eq!(room.views.view().pool.bytes, room.pool.mempool.bytes() as u64);
}
