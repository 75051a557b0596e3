//! Peers whose lines stall: what gossip then drops they are told of, and they get it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_consensus::block::{BlockShortId, Body, BodyCommitment};
use ocelli_consensus::{Address, Amount, Network, Root};
use ocelli_node::network::NetworkEvent;
use ocelli_protocol::message::{Announcement, Request};

use super::harness::{Maker, RawPeer, TestNode, easy_network, mine, wait};

/// A line to a node that can be made to stall: what either end sends stays where it is.
struct Line {
    address: String,
    stalled: Arc<AtomicBool>,
}

impl Line {
    /// A line to the node at an address.
    fn to(node: &str) -> Self {
        let port: u16 = node.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a TCP address");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
        let stalled = Arc::new(AtomicBool::new(false));
        let is_stalled = stalled.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", port))) else { break };
                let ends = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
                for (from, to) in ends {
                    let is_stalled = is_stalled.clone();
                    std::thread::spawn(move || carry(from, to, &is_stalled));
                }
            }
        });
        Self { address, stalled }
    }

    fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }
}

/// Carries bytes from one end to the other until one of them closes.
fn carry(mut from: TcpStream, mut to: TcpStream, is_stalled: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while is_stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

/// Longer than a message waits to be forwarded.
const STALL: Duration = Duration::from_secs(6);

#[test]
fn who_misses_gossip_on_a_stalled_line_is_told_and_gets_everything() {
    let mut parameters = easy_network().parameters;
    // So that announcements may be large.
    parameters.weight_limit = 12_000_000;
    let network = Network::new(parameters, Vec::new());
    let node = TestNode::start(&network, &[], None);
    let lines = [Line::to(&node.address()), Line::to(&node.address())];
    let witness = RawPeer::dial(&network, &lines[0].address);
    let other = TestNode::start(&network, std::slice::from_ref(&lines[1].address), None);
    wait("both to take part in gossip", || (node.status().peers.total() == 2).then_some(()));
    let (miner, _) = RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);

    // Announcements that are together too large for what may be under way on a stream, of blocks that nobody will ever have.
    let announcement = |number: u8| {
        let ids = (0..29_000).map(BlockShortId).collect();
        let commitment = BodyCommitment { ids, transactions: Root([number; 32]), answers: Root([2; 32]) };
        let mut header = maker.header(&Body::default());
        header.body = commitment.root();
        Announcement { header: mine(header), commitment }
    };
    let strangers: Vec<_> = (0..3).map(|number| (RawPeer::connect(&network, &node).0, announcement(number))).collect();
    // A longer chain than that block's.
    let blocks = [maker.make(&[]), maker.make(&[])];
    let hash = blocks[1].0.hash();
    let transfer = maker.transfer(0, Address([5; 20]), Amount(1_000_000));
    let txid = transfer.transaction.txid();

    lines.iter().for_each(|line| line.stall(true));
    strangers.iter().for_each(|(stranger, announcement)| stranger.publish_block(announcement));
    for (header, data) in &blocks {
        miner.announce(header, &data.body);
        node.wait_for_tip(header.hash());
    }
    node.submit(transfer);
    let stalled = Instant::now();
    // Nobody behind the lines hears anything, and nobody else has to wait for them.
    drop(miner.hold("the announcement of the transaction", |request| matches!(request, Request::Announce { .. })));
    std::thread::sleep(STALL.saturating_sub(stalled.elapsed()));
    lines.iter().for_each(|line| line.stall(false));

    // The announcements were dropped; the peer is told of the new tip instead.
    witness.until("the new tip", |event| match event {
        NetworkEvent::Request { data, .. } => match Request::from_bytes(data).unwrap() {
            Request::NewTip(status) => (status.tip == hash).then_some(()),
            _ => None,
        },
        NetworkEvent::Gossip { data, .. } => {
            let announced = Announcement::from_bytes(data).unwrap().header.hash();
            assert_ne!(announced, hash, "it was not dropped, so that this test shows nothing");
            None
        }
        _ => None,
    });
    // A node fetches it, and what was announced meanwhile.
    other.wait_for_tip(hash);
    wait("the transaction", || other.is_pending(txid).then_some(()));
}
