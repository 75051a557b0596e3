use super::slots::{NEW_BUCKETS_OF_SOURCE, PLACES, TRIED_BUCKETS_OF_GROUP};
use super::*;

const SECRET: [u8; 32] = [7; 32];

thread_local! {
    static PEERS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Another peer with each call, the same in each run of a test: which addresses share a bucket depends on them.
fn peer_id() -> PeerId {
    let number = PEERS.replace(PEERS.get() + 1);
    // An identity multihash of 32 bytes, as Ed25519 keys have longer ones.
    let mut bytes = [0; 34];
    bytes[1] = 32;
    bytes[2..10].copy_from_slice(&number.to_le_bytes());
    PeerId::from_bytes(&bytes).expect("a multihash")
}

fn at(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

fn address(port: u16) -> Multiaddr {
    at(&format!("/ip4/127.0.0.1/tcp/{port}"))
}

/// An address in a group of its own for each number.
fn far(number: u32) -> Contact {
    (peer_id(), at(&format!("/ip4/{}.{}.1.1/tcp/1", 1 + number / 256 % 120, number % 256)))
}

fn source() -> Group {
    Group::V4([200, 1])
}

fn due(book: &mut Book, count: usize, now: Instant, wanted: impl Fn(&PeerId) -> bool) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let taken = book.take_due(count, now, &mut Groups::default(), wanted);
    book.check_invariants();
    taken
}

fn tried(book: &Book) -> usize {
    book.entries.values().filter(|entry| entry.is_tried()).count()
}

/// A book with addresses of many groups that worked in an earlier run, and claims of as many sources.
fn settled(now: Instant) -> (Book, Vec<Contact>, Vec<Contact>) {
    let mut book = Book::new(SECRET, 1);
    let (good, claimed): (Vec<_>, Vec<_>) = (0..400).map(|number| (far(number), far(1_000 + number))).unzip();
    good.iter().for_each(|contact| book.remember(contact.clone(), now));
    for (number, contact) in (0..400u32).zip(&claimed) {
        let [.., high, low] = number.to_be_bytes();
        book.add(contact.clone(), Group::V4([201 + high, low]), now);
    }
    let stays = |all: Vec<Contact>| all.into_iter().filter(|contact| book.entries.contains_key(contact)).collect();
    let (good, claimed): (Vec<_>, Vec<_>) = (stays(good), stays(claimed));
    assert!(good.len() > 300 && claimed.len() > 200, "{} {}", good.len(), claimed.len());
    (book, good, claimed)
}

/// Half of the addresses that one group sends are in groups of their own, and half in its own; each names another peer.
#[test]
fn a_million_addresses_of_one_group_fill_its_buckets_and_displace_nothing() {
    let now = Instant::now();
    let (mut book, good, claimed) = settled(now);
    let before = book.len();
    let peers: Vec<PeerId> = (0..1_000).map(|_| peer_id()).collect();
    for number in 0..1_000_000u32 {
        let [a, b, c, d] = (number / 2).to_be_bytes();
        let ip = if number % 2 == 0 { [200, 1, c, d] } else { [a.max(1), b, c, d].map(|byte| byte ^ 0x55) };
        let ip = std::net::Ipv4Addr::from(ip);
        let contact = (peers[number as usize % peers.len()], at(&format!("/ip4/{ip}/tcp/{}", 1 + number % 60_000)));
        book.add(contact, source(), now);
    }
    book.check_invariants();
    let most = (NEW_BUCKETS_OF_SOURCE * PLACES) as usize;
    assert!(book.len() - before <= most, "{} more, at most {most}", book.len() - before);
    assert!(good.iter().chain(&claimed).all(|contact| book.entries.contains_key(contact)), "nobody is displaced");
    assert_eq!(tried(&book), good.len());
    // Most of what is dialled next, once all that worked is open, is not the sender's.
    let open: BTreeSet<PeerId> = good.iter().map(|(peer, _)| *peer).collect();
    let next = due(&mut book, 64, now, |peer| !open.contains(peer));
    let honest = next.iter().filter(|(peer, _)| claimed.iter().any(|(other, _)| other == peer)).count();
    assert!(next.len() == 64 && honest > 48, "{honest} of {}", next.len());
}

/// One host that dials us under a new name each time, and says each time where it can be reached.
#[test]
fn a_churning_inbound_peer_displaces_nobody_and_never_counts_as_tried() {
    let start = Instant::now();
    let (mut book, good, claimed) = settled(start);
    for number in 0..100_000u32 {
        let port = 1 + number % 60_000;
        for address in [format!("/ip4/200.1.2.3/tcp/{port}"), format!("/ip4/10.0.0.{}/tcp/{port}", number % 256)] {
            book.add((peer_id(), at(&address)), source(), start + Duration::from_secs(number.into()));
        }
    }
    book.check_invariants();
    assert!(good.iter().chain(&claimed).all(|contact| book.entries.contains_key(contact)));
    assert_eq!((tried(&book), book.export(&[]).len()), (good.len(), good.len()));
}

/// One host behind whose every port another peer answers: all of its addresses work when they are dialled.
#[test]
fn a_host_of_many_peers_fills_its_part_of_those_that_worked() {
    let start = Instant::now();
    let (mut book, good, _) = settled(start);
    let before = tried(&book);
    let mut tests = 0;
    for port in 1..=20_000u16 {
        let now = start + Duration::from_secs(port.into());
        book.prove((peer_id(), at(&format!("/ip4/200.1.2.3/tcp/{port}"))), now);
        // Those that are tested are there.
        if let Some((peer, addresses)) = book.take_feeler(now, |_| true) {
            tests += usize::from(good.iter().any(|(other, _)| *other == peer));
            book.prove((peer, addresses[0].clone()), now);
        }
    }
    assert!(tests > 10, "{tests}");
    book.check_invariants();
    assert!(good.iter().all(|contact| book.entries[contact].is_tried()));
    let most = (TRIED_BUCKETS_OF_GROUP * PLACES) as usize;
    // The claims of the others were found to be true meanwhile.
    let of_host =
        book.entries.iter().filter(|((_, address), entry)| entry.is_tried() && Group::dialled(address) == source());
    assert!(of_host.count() <= most && tried(&book) > before);
}

/// Two addresses of one place: the one that was there first is tested before it gives way.
#[test]
fn who_worked_is_tested_before_it_gives_way() {
    let start = Instant::now();
    for still_there in [true, false] {
        let mut book = Book::new(SECRET, 1);
        let incumbent = far(1);
        book.remember(incumbent.clone(), start);
        let slot = book.slots.tried_slot(&incumbent);
        let rival =
            (0..).map(far).find(|contact| book.slots.tried_slot(contact) == slot).expect("one of some thousands");
        book.prove(rival.clone(), start);
        assert!(book.entries[&incumbent].is_tried() && !book.entries[&rival].is_tried());
        let feeler = book.take_feeler(start, |_| true).expect("a test");
        assert_eq!(feeler, (incumbent.0, vec![incumbent.1.clone()]));
        if still_there {
            book.prove(incumbent.clone(), start);
            assert!(book.contested.is_empty());
            // Not again so soon.
            book.prove(rival.clone(), start + Duration::from_secs(60));
            assert!(book.contested.is_empty());
        } else {
            book.fail(incumbent.0, std::slice::from_ref(&incumbent.1), start);
        }
        book.check_invariants();
        assert_eq!(book.entries[&rival].is_tried(), !still_there);
        assert!(book.entries.get(&incumbent).is_some_and(|entry| entry.is_tried() == still_there));
    }
}

#[test]
fn a_claim_gives_way_once_a_dial_has_failed() {
    let now = Instant::now();
    let mut book = Book::new(SECRET, 1);
    let first = far(1);
    book.add(first.clone(), source(), now);
    let slot = book.entries[&first].slot;
    let rival = (0..).map(far).find(|contact| book.slots.new_slot(contact, source()) == slot).expect("one of some");
    book.add(rival.clone(), source(), now);
    assert!(!book.entries.contains_key(&rival), "who is there stays");
    book.fail(first.0, std::slice::from_ref(&first.1), now);
    book.add(rival.clone(), source(), now);
    assert!(book.entries.contains_key(&rival) && !book.entries.contains_key(&first));
    book.check_invariants();
}

#[test]
fn what_is_remembered_comes_in_its_order_and_anchors_go_first() {
    let peers = [(); 5].map(|()| peer_id());
    let start = Instant::now();
    let mut book = Book::new(SECRET, 1);
    for (port, peer) in (1..).zip(peers) {
        book.remember((peer, address(port)), start);
        book.remember((peer, address(port + 100)), start);
    }
    let order: Vec<_> = due(&mut book, 9, start, |_| true).into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(order, peers);
    let lines = book.export(&[peers[3], peers[1]]);
    let expected = [3, 1, 0, 2, 4].map(|at| {
        [1, 101].map(|port| format!("{}/p2p/{}", address(port + u16::try_from(at).expect("small")), peers[at]))
    });
    assert_eq!(lines, expected.concat());
    let mut again = Book::new(SECRET, 2);
    for line in &lines {
        let address = at(line);
        let peer = super::super::address::peer(&address).expect("named");
        again.remember((peer, super::super::address::without_peer(address)), start);
    }
    assert_eq!(again.export(&[]), lines, "nothing is lost, and the order stays");
}

#[test]
fn dials_are_spread_over_groups() {
    let start = Instant::now();
    let mut book = Book::new(SECRET, 1);
    // Five peers of one group, each with an address elsewhere only the last has.
    let peers = [(); 5].map(|()| peer_id());
    for (number, peer) in peers.into_iter().enumerate() {
        book.remember((peer, at(&format!("/ip4/1.2.3.{number}/tcp/1"))), start);
    }
    let elsewhere = at("/ip4/9.9.9.9/tcp/1");
    book.add((peers[4], elsewhere.clone()), source(), start);
    let taken = due(&mut book, 9, start, |_| true);
    assert_eq!(taken.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [peers[0], peers[1], peers[4]]);
    assert_eq!(taken[2].1, [elsewhere], "only where there is room");
}

#[test]
fn feelers_go_to_the_unproven_first_and_then_to_the_longest_untried() {
    let [proven, new] = [(); 2].map(|()| peer_id());
    let start = Instant::now();
    let mut book = Book::new(SECRET, 1);
    book.remember((proven, address(1)), start);
    book.add((new, address(2)), source(), start);
    let mut now = start;
    let mut feeler = |book: &mut Book| {
        now += FIRST_RETRY;
        book.take_feeler(now, |_| true).map(|(peer, _)| peer)
    };
    assert_eq!(feeler(&mut book), Some(new));
    book.prove((new, address(2)), start + FIRST_RETRY);
    assert_eq!(feeler(&mut book), Some(proven));
    assert_eq!(feeler(&mut book), Some(new));
    assert_eq!(book.take_feeler(start, |_| true), None, "none is due");
}

#[test]
fn dials_wait_longer_after_each_failure() {
    let (peer, start) = (peer_id(), Instant::now());
    let mut book = Book::new(SECRET, 1);
    book.add((peer, address(1)), source(), start);
    book.add((peer, address(1)), source(), start);
    assert_eq!(due(&mut book, 9, start, |_| false), []);
    assert_eq!(due(&mut book, 9, start, |_| true), [(peer, vec![address(1)])]);
    assert_eq!(due(&mut book, 9, start, |_| true), [], "it is being dialled");
    book.fail(peer, &[address(1)], start);
    book.fail(peer, &[address(1)], start);
    assert_eq!(due(&mut book, 9, start + FIRST_RETRY * 5 / 4, |_| true), []);
    assert_eq!(due(&mut book, 9, start + FIRST_RETRY * 5 / 2, |_| true).len(), 1);
    book.fail(peer, &[address(1)], start);
    book.fail(peer, &[address(1)], start);
    assert_eq!(book.len(), 0, "forgotten");
}

#[test]
fn what_worked_comes_first_and_is_exported() {
    let (good, new, start) = (peer_id(), peer_id(), Instant::now());
    let mut book = Book::new(SECRET, 1);
    book.add((new, address(1)), source(), start);
    book.add((good, address(2)), source(), start);
    book.prove((good, address(3)), start);
    assert_eq!(due(&mut book, 1, start, |_| true), [(good, vec![address(3), address(2)])]);
    assert_eq!(book.export(&[]), [format!("{}/p2p/{good}", address(3))], "where it was found, not where it says it is");
    book.avoid(&good, start, start + LAST_RETRY);
    assert_eq!(book.export(&[]), Vec::<String>::new());
    assert_eq!(due(&mut book, 9, start + FIRST_RETRY, |peer| *peer == good), []);
    book.pause(&good, start);
    assert_eq!(due(&mut book, 9, start + FIRST_RETRY, |peer| *peer == good).len(), 1);
}

#[test]
fn few_addresses_of_a_peer_are_dialled_at_once() {
    let (peer, now) = (peer_id(), Instant::now());
    let mut book = Book::new(SECRET, 1);
    for port in 1..100 {
        book.add((peer, address(port)), source(), now);
    }
    book.prove((peer, address(200)), now);
    let due = due(&mut book, 1, now, |_| true);
    assert_eq!(due[0].1.len(), MAX_ADDRESSES);
    assert_eq!(due[0].1[0], address(200));
}
