//! Reads that wait for nobody, and what they cost.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ocelli_consensus::{Address, TxId};
use ocelli_protocol::limits::{BYTES, REQUESTS, WORK, What, work};
use ocelli_protocol::message::{BlockId, Control, Cookie, Proofs, TransactionStatus};

use super::*;
use crate::chain::Chain;
use crate::fixture::{Around, connect, make, peer, submissions, views, waiting};
use crate::inbox::{OFFERED, inbox};
use crate::store::tests::{PIXELS, address, bytes_read};
use crate::traffic::Counted;

struct Room {
    around: Around,
    requests: Requests,
    chain: Chain,
    /// Nobody takes anything from there.
    _pool: Receiver<pool::Input>,
    _core: Receiver<core::Input>,
    spend: mpsc::Sender<Spent>,
}

impl Room {
    /// A room in front of a pool and a core that never look at their inboxes.
    fn new(blocks: u8) -> Self {
        let (around, mut chain) = Around::new();
        for number in 0..blocks {
            let block = make(&chain, |maker| maker.transfer(0, Address([number; 20]), 1_000_000).classify(1, number));
            connect(&mut chain, &block);
        }
        let views = views(&chain);
        let ((to_pool, pool), (to_core, core)) = (inbox(), inbox());
        let (spent, to_charge) = channel();
        let counted = Arc::new(Counted::default());
        let till = Till { network: around.network.clone(), counted: Arc::clone(&counted), spent: spent.clone() };
        let figures = Figures {
            network: around.network.clone(),
            inference: around.inference.clone(),
            counted,
            mining: None,
            started: Instant::now(),
            clock: around.clock.clone(),
        };
        let data = around.folder.path();
        let (of_owner, clock) = (to_pool.clone(), around.clock.clone());
        let owner = Owner::new(Cookie([7; 32]), data, around.network.clone(), Arc::clone(&views), clock, of_owner);
        let rooms = Rooms { pool: to_pool, core: to_core };
        let requests = Requests::new(views, figures, rooms, owner, (till, to_charge), around.clock.clone());
        Self { around, requests, chain, _pool: pool, _core: core, spend: spent }
    }

    fn ask(&mut self, request: Request) -> Option<Response> {
        let (to, answer) = waiting();
        self.requests.handle(Input::Ask(Box::new(request), to));
        answer.try_recv().ok()
    }
}

/// Who takes responses slowly makes us hold them: others get less at a time then, and not nothing.
#[test]
fn blocks_are_given_one_by_one_while_much_waits_to_be_taken() {
    let mut room = Room::new(2);
    let hashes: Vec<_> = [1, 2].map(|height| room.chain.store().hash_at(height).unwrap().unwrap()).into();
    let count = |room: &mut Room| match room.ask(Request::Blocks { hashes: hashes.clone() }) {
        Some(Response::Blocks(blocks)) => blocks.iter().flatten().count(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(&mut room), 2);
    let held = room.around.network.hold_untaken(peer(1), PRESSED_BYTES + 1);
    assert_eq!(count(&mut room), 1);
    drop(held);
    assert_eq!(count(&mut room), 2);
}

/// Neither core nor pool does anything here, as while a block connects that takes for ever, and their inboxes are full.
#[test]
fn who_only_reads_waits_for_nobody() {
    let mut room = Room::new(3);
    for _ in 0..2 * OFFERED {
        room.ask(Request::Pending { ids: Vec::new() });
        room.ask(Request::Transactions { block: room.chain.genesis(), indexes: vec![7] });
    }
    let (tip, store) = (room.chain.tip(), room.chain.store());
    let body = store.body(2, &store.hash_at(2).unwrap().unwrap()).unwrap().unwrap();
    let task = body.transactions[1].0.clone();
    let Some(Response::Status(status)) = room.ask(Request::Status) else { panic!("no status") };
    assert_eq!((status.height, status.tip, status.work), (3, tip.hash, tip.work.0));
    let locator = vec![room.chain.genesis()];
    let Some(Response::Headers(headers)) = room.ask(Request::Headers { locator, limit: 2 }) else {
        panic!("no headers")
    };
    assert_eq!(headers.iter().map(|header| header.height).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(room.ask(Request::Headers { locator: vec![tip.hash], limit: 9 }), Some(Response::Headers(Vec::new())));
    let Some(Response::Blocks(blocks)) = room.ask(Request::Blocks { hashes: vec![tip.hash, headers[0].parent] }) else {
        panic!("no blocks")
    };
    assert_eq!(blocks[0].as_ref().map(|block| block.body.transactions.len()), Some(2));
    let Some(Response::Block(Some(block))) = room.ask(Request::Block { by: BlockId::Height(2) }) else {
        panic!("none")
    };
    assert_eq!((block.header.height, block.data.body.transactions.len()), (2, 2));
    let Some(Response::Transaction(TransactionStatus::Confirmed(found))) =
        room.ask(Request::Transaction { txid: task.txid() })
    else {
        panic!("not found")
    };
    assert_eq!((found.proof.index, found.header.height, &found.submission.transaction), (1, 2, &task));
    assert_eq!(found.submission.attachment.as_deref(), Some(&[1; crate::store::tests::PIXELS][..]));
    let unknown = room.ask(Request::Transaction { txid: TxId([3; 32]) });
    assert_eq!(unknown, Some(Response::Transaction(TransactionStatus::Unknown)));
    let transactions = room.ask(Request::Transactions { block: tip.hash, indexes: vec![1] });
    assert!(matches!(transactions, Some(Response::Transactions(found)) if found.len() == 1));
    let Some(Response::Account(account)) = room.ask(Request::Account { address: address(0) }) else { panic!("none") };
    assert_eq!((account.nonce, account.next_nonce, account.header.height), (3, 3, 3));
    let Some(Response::NodeStatus(status)) = room.ask(Request::NodeStatus) else { panic!("no node status") };
    assert_eq!((status.tip.height, status.sync.header_height), (3, 3));
    assert!(matches!(room.ask(Request::Fee { blocks: 1 }), Some(Response::Fee(_))));
    let owned = room.ask(Request::Control { cookie: Cookie([7; 32]), control: Control::Peers });
    assert!(matches!(owned, Some(Response::Peers(_))));
    // Who is no owner is told nothing of peers and bans.
    let refused = room.ask(Request::Control { cookie: Cookie([8; 32]), control: Control::Peers });
    assert!(matches!(refused, Some(Response::Failed { .. })));
    // What only they can answer is refused while they take nothing, rather than waited for.
    let transfer = submissions(&make(&room.chain, |maker| maker.transfer(0, Address([1; 20]), 5)).1).remove(0);
    assert!(matches!(
        room.ask(Request::Submit(transfer)),
        Some(Response::Submitted(SubmitReply::Refused { code: 5, .. }))
    ));
}

/// A confirmed task comes with its own picture, and those of the other tasks of its block are not read for it.
#[test]
fn one_picture_is_read_for_one_transaction() {
    let mut room = Room::new(0);
    let block = make(&room.chain, |maker| (0..20).fold(maker, |maker, picture| maker.classify(1, picture)));
    connect(&mut room.chain, &block);
    room.requests.views = views(&room.chain);
    let txid = block.1.body.transactions[7].0.txid();
    let (response, read) = bytes_read(|| room.ask(Request::Transaction { txid }));
    let Some(Response::Transaction(TransactionStatus::Confirmed(found))) = response else { panic!("not found") };
    assert_eq!(found.submission.attachment.as_deref(), Some(&[7; PIXELS][..]));
    let body = ocelli_consensus::codec::encode(&block.1.body).len();
    assert!((body + PIXELS..body + 2 * PIXELS).contains(&read), "{read} bytes, of which {body} are the body");
}

/// A picture of the past is read as long as it is held, whatever the chain does meanwhile.
#[test]
fn a_view_stays_what_it_is() {
    let mut room = Room::new(2);
    let before = room.requests.views.view();
    let block = make(&room.chain, |maker| maker.transfer(0, Address([9; 20]), 1_000_000));
    connect(&mut room.chain, &block);
    let txid = block.1.body.transactions[0].0.txid();
    assert_eq!(before.transaction(&txid).unwrap(), Response::Transaction(TransactionStatus::Unknown));
    assert_eq!(before.account(address(0)).unwrap().nonce, 2);
    room.requests.views.show_tip(Arc::new(room.chain.at_tip().unwrap()));
    let Some(Response::Status(status)) = room.ask(Request::Status) else { panic!("no status") };
    assert_eq!(status.height, 3);
}

/// What others spend is charged whoever has answered, and the wall clock changes nothing.
#[test]
fn what_an_answer_costs_is_charged_by_monotonic_time() {
    let mut room = Room::new(1);
    let (peer, request) = (peer(1), Request::Block { by: BlockId::Height(1) });
    assert_eq!(room.requests.admit(peer, &request), Ok(()));
    room.spend.send(Spent { peer, bytes: (BYTES.burst + u64::from(BYTES.rate)) as usize }).unwrap();
    let is_refused = |result| matches!(result, Err(RequestRefusal::Tell(excess)) if excess.what == What::Bytes);
    assert!(is_refused(room.requests.admit(peer, &request)));
    for hours in [1, -3, 2] {
        room.around.clock.step_wall(hours * 3600);
        assert!(is_refused(room.requests.admit(peer, &request)), "{hours} h");
    }
    room.around.clock.advance(1_001);
    room.around.clock.step_wall(-3600);
    assert_eq!(room.requests.admit(peer, &request), Ok(()));
}

/// Bodies that are read to prove entries are charged by their transactions; rewards need none.
#[test]
fn a_page_of_a_ledger_costs_what_was_read_for_it() {
    const TRANSFERS: usize = 300;
    let mut room = Room::new(0);
    for _ in 0..2 {
        let block = make(&room.chain, |maker| (0..TRANSFERS).fold(maker, |maker, _| maker.transfer(0, address(1), 9)));
        connect(&mut room.chain, &block);
    }
    room.requests.views = views(&room.chain);
    let mut served = |peer: Peer, address, limit, proofs| {
        let request = Request::Ledger { address, before: None, limit, proofs };
        let mut give = || {
            let is_given = room.requests.admit(peer, &request).is_ok();
            is_given.then(|| room.requests.read(&request, Some(peer)).unwrap())
        };
        let Some(Response::Ledger(page)) = give() else { panic!("no page") };
        let count = 1 + (0..REQUESTS.burst).take_while(|_| give().is_some()).count() as u64;
        room.around.clock.advance(3_600_000);
        (page.blocks.iter().map(|block| block.entries.len()).sum::<usize>(), count, work(&request))
    };
    let pages = |work: u64, transactions| WORK.burst.div_ceil(work + proving(transactions));
    let (entries, count, least) = served(peer(1), address(0), 1, Proofs::With);
    assert_eq!((entries, count), (1, pages(least, TRANSFERS)), "one body");
    let (entries, count, least) = served(peer(1), address(0), 250, Proofs::With);
    assert_eq!((entries, count), (250, pages(least, TRANSFERS)), "the same body once");
    let (entries, count, least) = served(peer(1), address(0), 250, Proofs::Without);
    assert_eq!((entries, count), (250, pages(least, 0)));
    let (entries, count, _) = served(peer(2), Address([9; 20]), 250, Proofs::With);
    assert_eq!((entries, count), (2, pages(least, 0)), "rewards alone");
}

/// A row that is missing fails the question that needs it, and no other.
#[test]
fn a_row_that_is_missing_fails_one_question() {
    let mut room = Room::new(2);
    let store = room.chain.store();
    let hash = store.hash_at(1).unwrap().unwrap();
    let txid = store.body(1, &hash).unwrap().unwrap().transactions[0].0.txid();
    store.damage("bodies", &[&1u64.to_be_bytes()[..], &hash.0].concat(), Some(b"torn"));
    room.requests.views = views(&room.chain);
    assert!(matches!(room.ask(Request::Transaction { txid }), Some(Response::Failed { .. })));
    assert!(matches!(room.ask(Request::Blocks { hashes: vec![hash] }), Some(Response::Failed { .. })));
    assert!(matches!(room.ask(Request::Status), Some(Response::Status(_))));
    assert!(matches!(room.ask(Request::Block { by: BlockId::Height(2) }), Some(Response::Block(Some(_)))));
}

#[test]
fn refusals_are_said_late_in_their_order() {
    let mut room = Room::new(0);
    let mut answers = Vec::new();
    for number in 0..3 {
        let (to, answer) = waiting();
        let due = room.around.clock.now() + SLOW_MILLIS + number;
        room.requests.delayed.push_back((due, to, Response::failed("later")));
        answers.push(answer);
    }
    room.around.clock.step_wall(7200);
    room.requests.answer_delayed();
    assert!(answers[0].try_recv().is_err());
    room.around.clock.advance(SLOW_MILLIS + 1);
    room.requests.answer_delayed();
    let said: Vec<bool> = answers.iter().map(|answer| answer.recv_timeout(Duration::ZERO).is_ok()).collect();
    assert_eq!(said, [true, true, false]);
}
