//! Several nodes of the network module in one process, on loopback.

use std::time::{Duration, Instant};

use ocelli_node::network::{
    Acceptance, Ban, BanSubject, DialFailure, Events, GossipId, Misbehaviour, NetworkConfig, NetworkError,
    NetworkEvent, NetworkHandle, NetworkStatus, Peer, PeerStatus, Reachability, RequestFailure, RequestId,
    ResponseToken, Traversal, kademlia_protocol, spawn,
};

/// No step takes as long as this on the slowest machine that runs the tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a snapshot is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const TOPIC: &str = "/ocelli/00/blocks/1";

fn request_protocol(genesis: &str) -> String {
    format!("/ocelli/{genesis}/request/1")
}

/// A full node on loopback, without discovery, whose identity is `seed` repeated.
fn full(seed: u8) -> NetworkConfig {
    let mut config = NetworkConfig::full([seed; 32], request_protocol("00"), vec![TOPIC.into()]);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    config
}

/// A full node that finds others by itself.
fn finding(seed: u8, bootstrap: &[&str]) -> NetworkConfig {
    let mut config = full(seed);
    config.kademlia = Some(kademlia_protocol("00"));
    config.bootstrap = bootstrap.iter().map(ToString::to_string).collect();
    config
}

fn light(seed: u8, bootstrap: &str, protocols: &[&str]) -> NetworkConfig {
    let mut config = NetworkConfig::light([seed; 32], protocols.iter().map(ToString::to_string).collect());
    config.bootstrap = vec![bootstrap.into()];
    config
}

/// A node with its consumer.
struct Node {
    handle: NetworkHandle,
    events: Events,
}

impl Node {
    fn start(config: NetworkConfig) -> Self {
        let (handle, events) = spawn(config).expect("the network starts");
        Self { handle, events }
    }

    fn peer(&self) -> Peer {
        self.handle.local_peer()
    }

    /// The first event that `pick` takes; others are dropped.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(NetworkEvent) -> Option<T>) -> T {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {what}; status: {:#?}", self.handle.status()))
    }

    async fn listening(&mut self) -> String {
        self.wait("address", |event| match event {
            NetworkEvent::Listening(address) => Some(address),
            _ => None,
        })
        .await
    }

    /// Waits until `expected` is connected and returns whether it is light and what it speaks.
    async fn connected(&mut self, expected: Peer) -> (bool, Option<String>) {
        self.wait("connection", |event| match event {
            NetworkEvent::Connected { peer, light, protocol, .. } if peer == expected => Some((light, protocol)),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self, expected: Peer) {
        self.wait("disconnection", |event| match event {
            NetworkEvent::Disconnected { peer } if peer == expected => Some(()),
            _ => None,
        })
        .await;
    }

    async fn gossip(&mut self) -> (GossipId, Peer, Vec<u8>) {
        self.wait("gossip", |event| match event {
            NetworkEvent::Gossip { id, topic, source, data } => {
                assert_eq!(topic, TOPIC);
                Some((id, source, data))
            }
            _ => None,
        })
        .await
    }

    async fn asked(&mut self) -> (Peer, ResponseToken, Vec<u8>) {
        self.wait("request", |event| match event {
            NetworkEvent::Request { peer, token, data } => Some((peer, token, data)),
            _ => None,
        })
        .await
    }

    async fn response(&mut self, expected: RequestId) -> Result<Vec<u8>, RequestFailure> {
        self.wait("response", |event| match event {
            NetworkEvent::Response { id, result, .. } if id == expected => Some(result),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> (String, DialFailure) {
        self.wait("failed dial", |event| match event {
            NetworkEvent::DialFailed { address, reason } => Some((address, reason)),
            _ => None,
        })
        .await
    }

    /// Waits until the snapshot, which may lag behind the events, is as `good` wants it.
    async fn until_status(&self, what: &str, good: impl Fn(&NetworkStatus) -> bool) {
        let start = Instant::now();
        while !good(&self.handle.status()) {
            assert!(start.elapsed() < PATIENCE, "not {what}: {:#?}", self.handle.status());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the snapshot shows `peer` as `good` wants it.
    async fn until(&self, peer: Peer, what: &str, good: impl Fn(&PeerStatus) -> bool) {
        self.until_status(what, |status| status.peers.iter().any(|one| one.peer == peer && good(one))).await;
    }

    /// Waits until gossip reaches `peer`.
    async fn until_gossips_with(&self, peer: Peer) {
        self.until(peer, "in the topic", |status| status.topics == 1).await;
    }

    /// Answers one request with its own bytes, reversed.
    async fn answer_reversed(&mut self) {
        let (_, token, mut data) = self.asked().await;
        data.reverse();
        self.handle.respond(token, data);
    }
}

/// Two connected nodes; the second has dialled the first.
async fn pair(first: NetworkConfig, mut second: NetworkConfig) -> (Node, Node) {
    let mut first = Node::start(first);
    second.bootstrap = vec![first.listening().await];
    let mut second = Node::start(second);
    second.connected(first.peer()).await;
    first.connected(second.peer()).await;
    (first, second)
}

/// Three nodes in a line: the outer two know the middle one only.
async fn line() -> (Node, Node, Node) {
    let (mut middle, left) = pair(full(2), full(1)).await;
    let mut config = full(3);
    config.bootstrap = middle.handle.status().addresses;
    let mut right = Node::start(config);
    right.connected(middle.peer()).await;
    middle.connected(right.peer()).await;
    for (one, other) in [(&left, &middle), (&middle, &left), (&middle, &right), (&right, &middle)] {
        one.until_gossips_with(other.peer()).await;
    }
    (left, middle, right)
}

#[tokio::test]
async fn nodes_that_know_only_the_bootstrap_find_each_other() {
    let mut first = Node::start(finding(1, &[]));
    let address = first.listening().await;
    assert!(address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&format!("/p2p/{}", first.peer())));
    // With and without the identity at its end.
    let (bare, _) = address.split_once("/p2p/").expect("it ends in the identity");
    let mut second = Node::start(finding(2, &[&address]));
    let mut third = Node::start(finding(3, &[bare]));
    let (second_peer, third_peer) = (second.peer(), third.peer());
    assert_eq!(second.connected(third_peer).await, (false, Some(request_protocol("00"))));
    third.connected(second_peer).await;
    first.until_status("connected with both", |status| status.peers.len() == 2).await;
    // Whoever was dialled is known, and can be given to the next run.
    second.until_status("connected with both", |status| status.peers.len() == 2).await;
    let known = second.handle.known_peers();
    assert!(known.contains(&address), "{known:?}");
    second.handle.shutdown();
    while second.events.recv().await.is_some() {}
    first.disconnected(second_peer).await;
    let mut config = finding(2, &[]);
    config.known = known;
    let mut again = Node::start(config);
    again.connected(first.peer()).await;
}

#[tokio::test]
async fn quic_works_as_well() {
    let mut config = full(1);
    config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()];
    let (first, mut second) = pair(config, full(2)).await;
    second.until(first.peer(), "connected by QUIC", |status| status.address.contains("/quic-v1")).await;
    let id = second.handle.request(first.peer(), b"abc".to_vec());
    let mut first = first;
    first.answer_reversed().await;
    assert_eq!(second.response(id).await, Ok(b"cba".to_vec()));
}

#[tokio::test]
async fn gossip_travels_as_it_is_judged() {
    let (left, mut middle, mut right) = line().await;

    // Rejected and ignored messages stop in the middle: what arrives on the right first is the accepted one, which was
    // sent last, over the same connections.
    left.handle.publish(TOPIC, b"bad".to_vec());
    let (id, source, data) = middle.gossip().await;
    assert_eq!((source, data.as_slice()), (left.peer(), &b"bad"[..]));
    middle.handle.report(id, Acceptance::Reject);
    middle.until(left.peer(), "below zero", |status| status.score < -5.0).await;

    left.handle.publish(TOPIC, b"odd".to_vec());
    let (id, _, data) = middle.gossip().await;
    assert_eq!(data, b"odd");
    middle.handle.report(id, Acceptance::Ignore);

    left.handle.publish(TOPIC, b"good".to_vec());
    let (id, _, data) = middle.gossip().await;
    assert_eq!(data, b"good");
    middle.handle.report(id, Acceptance::Accept);
    let (_, source, data) = right.gossip().await;
    assert_eq!((source, data.as_slice()), (middle.peer(), &b"good"[..]));

    // Equal content is one message, whoever publishes it: nobody hears of it again.
    right.handle.publish(TOPIC, b"good".to_vec());
    left.handle.publish(TOPIC, b"good".to_vec());
    right.handle.publish(TOPIC, b"next".to_vec());
    let (_, source, data) = middle.gossip().await;
    assert_eq!((source, data.as_slice()), (right.peer(), &b"next"[..]));
}

#[tokio::test]
async fn own_gossip_waits_for_the_first_who_listens() {
    let mut first = Node::start(full(1));
    first.handle.publish(TOPIC, b"early".to_vec());
    let mut config = full(2);
    config.bootstrap = vec![first.listening().await];
    let mut second = Node::start(config);
    assert_eq!(second.gossip().await.2, b"early");
}

#[tokio::test]
async fn much_invalid_gossip_bans() {
    let (mut first, mut second) = pair(full(1), full(2)).await;
    second.until_gossips_with(first.peer()).await;
    for number in 0..4u8 {
        second.handle.publish(TOPIC, vec![number]);
        let (id, ..) = first.gossip().await;
        first.handle.report(id, Acceptance::Reject);
    }
    first.disconnected(second.peer()).await;
    second.disconnected(first.peer()).await;
    first.until_status("banned", |status| is_banned(status, second.peer())).await;
}

#[tokio::test]
async fn requests_small_and_large() {
    let (mut first, mut second) = pair(full(1), full(2)).await;
    for size in [0, 1, 3 << 20] {
        let data: Vec<u8> = (0..size).map(|i: usize| (i % 251) as u8).collect();
        let id = second.handle.request(first.peer(), data.clone());
        first.answer_reversed().await;
        let mut back = second.response(id).await.expect("a response");
        back.reverse();
        assert!(back == data, "{size} bytes");
    }
    let large: Vec<u8> = (0..8 << 20).map(|i: usize| (i % 241) as u8).collect();
    // Either side may ask.
    let id = first.handle.request(second.peer(), b"large".to_vec());
    let (asker, token, data) = second.asked().await;
    assert_eq!((asker, data.as_slice()), (first.peer(), &b"large"[..]));
    assert!(token.is_open());
    second.handle.respond(token, large.clone());
    assert!(first.response(id).await.expect("a response") == large);
    let counted = |status: &NetworkStatus| {
        let counters = status.counters;
        (counters.requests.sent, counters.requests.received) == (1, 3) && counters.bytes_received > 11 << 20
    };
    first.until_status("counted", counted).await;
}

#[tokio::test]
async fn what_cannot_be_answered_fails_with_a_reason() {
    let mut small = full(2);
    small.limits.messages.response_bytes = |_| 1000;
    small.limits.messages.requests = 2;
    let (mut first, mut second) = pair(full(1), small).await;
    let (first_peer, second_peer) = (first.peer(), second.peer());

    let limit = 4 << 20;
    let id = second.handle.request(first_peer, vec![0; limit + 1]);
    assert_eq!(second.response(id).await, Err(RequestFailure::RequestTooLarge { bytes: limit + 1, limit }));

    let id = second.handle.request(first_peer, Vec::new());
    let (_, token, _) = first.asked().await;
    first.handle.respond(token, vec![0; 1001]);
    assert_eq!(second.response(id).await, Err(RequestFailure::ResponseTooLarge { bytes: 1001, limit: 1000 }));

    let id = second.handle.request(first_peer, Vec::new());
    drop(first.asked().await);
    assert_eq!(second.response(id).await, Err(RequestFailure::NoAnswer));

    let ids = [(); 3].map(|()| second.handle.request(first_peer, Vec::new()));
    assert_eq!(second.response(ids[2]).await, Err(RequestFailure::TooManyRequests { limit: 2 }));

    // Two are still under way when the peer goes.
    first.handle.shutdown();
    let mut failures = Vec::new();
    while failures.len() < 2 {
        failures.push(
            second
                .wait("response", |event| match event {
                    NetworkEvent::Response { id, peer, result } => Some((id, peer, result)),
                    _ => None,
                })
                .await,
        );
    }
    failures.sort_by_key(|(id, ..)| *id);
    for ((id, peer, result), expected) in failures.into_iter().zip(ids) {
        assert_eq!((id, peer), (expected, first_peer));
        result.expect_err("the peer is gone");
    }
    second.until_status("alone", |status| status.peers.is_empty()).await;
    let id = second.handle.request(first_peer, Vec::new());
    assert_eq!(second.response(id).await, Err(RequestFailure::NotConnected));
    let id = second.handle.request(second_peer, Vec::new());
    assert_eq!(second.response(id).await, Err(RequestFailure::NotConnected));
}

#[tokio::test]
async fn a_request_that_nobody_answers_times_out() {
    let mut hasty = full(2);
    hasty.limits.times.request = Duration::from_millis(300);
    let (mut first, mut second) = pair(full(1), hasty).await;
    let id = second.handle.request(first.peer(), Vec::new());
    let kept = first.asked().await;
    assert_eq!(second.response(id).await, Err(RequestFailure::TimedOut));
    drop(kept);
}

#[tokio::test]
async fn a_busy_consumer_loses_gossip_and_requests_but_no_connection() {
    let mut busy = full(1);
    busy.limits.queue.events = 2;
    let mut busy = Node::start(busy);
    let address = busy.listening().await;
    let mut others = Vec::new();
    for seed in 2..6 {
        let mut config = full(seed);
        config.bootstrap = vec![address.clone()];
        let mut other = Node::start(config);
        other.connected(busy.peer()).await;
        other.until_gossips_with(busy.peer()).await;
        busy.until(other.peer(), "connected", |_| true).await;
        others.push(other);
    }
    // Two connections fill the queue and two more are kept; gossip and requests find no room, responses do.
    others[0].handle.publish(TOPIC, b"lost".to_vec());
    let lost = others[1].handle.request(busy.peer(), b"lost".to_vec());
    assert_eq!(others[1].response(lost).await, Err(RequestFailure::NoAnswer));
    let ids = [(); 3].map(|()| busy.handle.request(others[2].peer(), b"abc".to_vec()));
    for _ in ids {
        others[2].answer_reversed().await;
    }
    busy.until_status("dropping gossip", |status| status.counters.gossip.dropped > 0).await;
    // A plain thread that sends many more commands than the queue holds is not stuck while nobody reads events.
    let handle = busy.handle.clone();
    let gone = Peer::of(&ed25519_dalek::SigningKey::from_bytes(&[99; 32]).verifying_key().to_bytes()).expect("a key");
    std::thread::spawn(move || (0..1000).for_each(|_| handle.disconnect(gone))).join().expect("not stuck");
    // Neither is async code.
    (0..1000).for_each(|_| busy.handle.disconnect(gone));
    // One that goes again before anybody looks leaves nothing.
    others.pop().expect("the last").handle.shutdown();
    busy.until_status("left by one", |status| status.peers.len() == 3).await;
    let mut connected = Vec::new();
    let mut answered = Vec::new();
    while answered.len() < 3 {
        busy.wait("event", |event| match event {
            NetworkEvent::Connected { peer, .. } => {
                connected.push(peer);
                Some(())
            }
            NetworkEvent::Response { id, result, .. } => {
                assert_eq!(result, Ok(b"cba".to_vec()));
                answered.push(id);
                Some(())
            }
            NetworkEvent::Listening(_) => Some(()),
            other => panic!("unexpected: {other:?}"),
        })
        .await;
    }
    answered.sort();
    assert_eq!(answered, ids);
    assert_eq!(connected, others.iter().map(Node::peer).collect::<Vec<_>>());
    // With room again, all is heard.
    others[0].handle.publish(TOPIC, b"heard".to_vec());
    assert_eq!(busy.gossip().await.2, b"heard");
}

#[tokio::test]
async fn penalties_ban_and_bans_end() {
    let (mut first, mut second) = pair(full(1), full(2)).await;
    let second_peer = second.peer();
    for _ in 0..6 {
        first.handle.penalize(second_peer, Misbehaviour::Flood);
    }
    first.until(second_peer, "penalized", |status| status.penalty >= 59 && status.score < -50.0).await;
    first.handle.penalize(second_peer, Misbehaviour::Oversize);
    first.disconnected(second_peer).await;
    second.disconnected(first.peer()).await;
    first.until_status("banned", |status| is_banned(status, second_peer)).await;
    // It dials again, in vain.
    second.dial_failed().await;
    let (version, bans) = first.handle.bans();
    assert_eq!(bans.iter().map(|ban| ban.subject).collect::<Vec<_>>(), [BanSubject::Peer(second_peer)]);
    assert_eq!(bans[0].reason, "a message that is too large");
    first.handle.unban(BanSubject::Peer(second_peer));
    second.connected(first.peer()).await;
    first.connected(second_peer).await;
    first.until_status("forgiven", |status| status.banned.is_empty()).await;
    assert_ne!(first.handle.bans_version(), version);
    first.handle.ban(BanSubject::Peer(second_peer), Duration::from_secs(1), "by hand");
    first.disconnected(second_peer).await;
    // It is over in a second, and the peer finds its way back.
    first.connected(second_peer).await;
}

#[tokio::test]
async fn bans_of_an_earlier_run_hold() {
    let mut config = full(1);
    let second = full(2);
    let second_peer = Peer::of(&ed25519_dalek::SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
    let subject = BanSubject::Peer(second_peer.expect("a key"));
    let ban = |until| Ban { subject, until, reason: "earlier".into(), of: None };
    let unix_now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let until = unix_now + 3600;
    config.bans = vec![ban(until)];
    let mut first = Node::start(config.clone());
    let mut dialler = second.clone();
    dialler.bootstrap = vec![first.listening().await];
    let mut dialler = Node::start(dialler);
    dialler.dial_failed().await;
    assert_eq!(first.handle.status().peers.len(), 0);
    let (_, bans) = first.handle.bans();
    // It is kept by monotonic time, and told by the clock on the wall.
    assert!(bans[0].until.abs_diff(until) <= 1, "{bans:?}");
    assert_eq!(bans, [ban(bans[0].until)]);

    // One that is over does not, and is forgotten.
    config.bans = vec![ban(1)];
    let (again, _) = pair(config, full(3)).await;
    assert_eq!(again.handle.bans().1, []);
}

#[tokio::test]
async fn a_newcomer_takes_no_slot_of_the_few_that_are_spared() {
    let mut config = full(1);
    config.limits.connections.inbound = 1;
    let (first, second) = pair(config, full(2)).await;
    let mut third = full(3);
    third.bootstrap = first.handle.status().addresses;
    let mut third = Node::start(third);
    third.dial_failed().await;
    first.until_status("making room", |status| status.counters.evicted > 0).await;
    assert_eq!(first.handle.status().peers.iter().map(|peer| peer.peer).collect::<Vec<_>>(), [second.peer()]);
}

#[tokio::test]
async fn a_process_that_takes_too_much_memory_does_not_dial() {
    let mut open = Node::start(full(1));
    let mut config = full(2);
    config.limits.connections.memory_bytes = Some(1 << 20);
    config.bootstrap = vec![open.listening().await];
    let mut tight = Node::start(config);
    let address = tight.listening().await;
    let (_, reason) = tight.dial_failed().await;
    let DialFailure::Memory { used_mib, allowed_mib: 1 } = reason else { panic!("{reason:?}") };
    assert!(used_mib > 1, "{used_mib}");
    // Commands of the same machine get in and ask what is wrong.
    let command = Node::start(light(3, &address, &[&request_protocol("00")]));
    tight.connected(command.peer()).await;
}

#[tokio::test]
async fn feelers_prove_an_address_and_take_no_slot() {
    let mut there = full(1);
    there.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".into());
    // It does not dial whom it has heard of.
    there.limits.connections.target_outbound = 0;
    let mut there = Node::start(there);
    there.listening().await;
    there.listening().await;
    let mut addresses = there.handle.status().addresses;
    addresses.sort();
    let mut config = full(2);
    config.limits.connections.target_outbound = 0;
    config.limits.times.feeler_interval = Duration::from_millis(200);
    config.known = vec![addresses[0].clone()];
    let mut feeling = Node::start(config);
    // What the peer says of itself is heard, its other address among it.
    let start = Instant::now();
    while feeling.handle.known_peers().len() < 2 {
        let (known, status) = (feeling.handle.known_peers(), feeling.handle.status());
        assert!(start.elapsed() < PATIENCE, "no feeler: {known:?} {status:#?}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let mut known = feeling.handle.known_peers();
    known.sort();
    assert_eq!(known, addresses);
    let Some(NetworkEvent::Listening(_)) = feeling.events.recv().await else { panic!("it listens first") };
    assert!(feeling.events.try_recv().is_err(), "its consumer hears nothing of feelers");
}

#[tokio::test]
async fn a_peer_tests_whether_a_node_can_be_reached() {
    let tested = |seed| {
        let mut config = full(seed);
        config.traversal =
            Some(Traversal { upnp: false, relay_server: true, probe_interval: Duration::from_millis(50) });
        config
    };
    let (first, second) = pair(tested(1), tested(2)).await;
    let (own, _) = second.handle.status().addresses[0]
        .split_once("/p2p/")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("an identity");
    let reachable = Reachability::Public(vec![own]);
    second.until_status("reachable", |status| status.reachability == reachable).await;
    // Nobody whom the first has dialled could tell it.
    assert_eq!(first.handle.status().reachability, Reachability::Unknown);
    assert_eq!(second.handle.status().peers.len(), 1);
}

fn is_banned(status: &NetworkStatus, peer: Peer) -> bool {
    status.banned.iter().any(|ban| ban.subject == BanSubject::Peer(peer))
}

#[tokio::test]
async fn a_peer_of_another_network_is_sent_away_with_a_reason() {
    let mut first = Node::start(full(1));
    let address = first.listening().await;
    let mut config = NetworkConfig::full([2; 32], request_protocol("ff"), Vec::new());
    config.bootstrap = vec![address.clone()];
    let mut stranger = Node::start(config);
    let (failed, reason) = stranger.dial_failed().await;
    assert_eq!(failed, address);
    let DialFailure::OtherNetwork { agent, expected } = reason else { panic!("{reason:?}") };
    assert!(agent.starts_with("ocelli/"));
    assert_eq!(expected, request_protocol("ff"));
    stranger.until_status("told", |status| status.failures.iter().any(|(failed, _)| *failed == address)).await;
    assert!(first.handle.status().peers.is_empty());
    // The same for a light peer that knows two other networks.
    let mut client = Node::start(light(3, &address, &["/ocelli/ee/request/1", "/ocelli/ff/request/1"]));
    assert!(matches!(client.dial_failed().await.1, DialFailure::OtherNetwork { .. }));
}

#[tokio::test]
async fn a_light_peer_asks_any_of_its_networks_and_stays_while_it_asks() {
    let mut config = full(1);
    config.limits.times.idle = Duration::from_secs(1);
    let mut server = Node::start(config);
    let address = server.listening().await;
    let mut client = Node::start(light(2, &address, &["/ocelli/ff/request/1", "/ocelli/00/request/1"]));
    let (client_peer, server_peer) = (client.peer(), server.peer());
    assert_eq!(client.connected(server_peer).await, (false, Some("/ocelli/00/request/1".into())));
    assert_eq!(server.connected(client_peer).await, (true, None));
    server.until(client_peer, "light", |status| status.light && status.agent.ends_with(" light")).await;
    // It cannot be asked.
    let id = server.handle.request(client_peer, Vec::new());
    assert_eq!(server.response(id).await, Err(RequestFailure::NotSupported));
    // It asks for three times as long as idleness is tolerated; nobody disconnects.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let id = client.handle.request(server_peer, b"abc".to_vec());
        let (_, token, _) = tokio::time::timeout(PATIENCE, server.events.recv())
            .await
            .ok()
            .flatten()
            .and_then(|event| match event {
                NetworkEvent::Request { peer, token, data } => Some((peer, token, data)),
                _ => None,
            })
            .expect("a request and nothing else");
        server.handle.respond(token, b"cba".to_vec());
        assert_eq!(client.response(id).await, Ok(b"cba".to_vec()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Then it is silent, and the server takes its place back.
    server.disconnected(client_peer).await;
    client.disconnected(server_peer).await;
}

#[tokio::test]
async fn full_nodes_stay_connected_while_idle() {
    let idle = |seed| {
        let mut config = full(seed);
        config.topics.clear();
        config.limits.times.idle = Duration::from_millis(100);
        config
    };
    let (mut first, second) = pair(idle(1), idle(2)).await;
    let quiet = tokio::time::timeout(Duration::from_secs(2), first.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(second.handle.status().peers.len(), 1);
}

#[tokio::test]
async fn the_bootstrap_is_dialled_until_it_is_there() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let mut second = Node::start(finding(2, &[&address]));
    assert_eq!(second.dial_failed().await, (address.clone(), DialFailure::Refused));
    assert_eq!(second.dial_failed().await, (address.clone(), DialFailure::Refused));
    let mut config = full(1);
    config.listen = vec![address];
    let first = Node::start(config);
    second.connected(first.peer()).await;
    second.until_status("free of failures", |status| status.failures.is_empty()).await;
}

#[tokio::test]
async fn dials_fail_with_reasons() {
    let (mut first, second) = pair(full(1), full(2)).await;
    let own = first.handle.status().addresses.remove(0);
    let (bare, _) = own.split_once("/p2p/").expect("it ends in the identity");
    first.handle.dial(bare).expect("a multiaddr");
    assert_eq!(first.dial_failed().await, (bare.into(), DialFailure::Myself));
    let theirs = second.handle.status().addresses.remove(0);
    let (bare, _) = theirs.split_once("/p2p/").expect("it ends in the identity");
    let nobody = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    let wrong = format!("{bare}/p2p/{nobody}");
    first.handle.dial(&wrong).expect("a multiaddr");
    assert_eq!(
        first.dial_failed().await,
        (wrong, DialFailure::WrongPeer { found: second.peer(), expected: nobody.parse().ok() })
    );
    assert!(matches!(first.handle.dial("nonsense"), Err(NetworkError::BadAddress { .. })));
    assert!(matches!(first.handle.dial("/ip4/127.0.0.1/udp/1"), Err(NetworkError::UnsupportedTransport { .. })));
}

#[tokio::test]
async fn wrong_configurations_are_named() {
    let mut first = Node::start(full(1));
    let address = first.listening().await;
    let start = |change: &dyn Fn(&mut NetworkConfig)| {
        let mut config = full(2);
        change(&mut config);
        spawn(config).map(|_| ()).expect_err("it cannot work")
    };
    let error = start(&|config| config.listen = vec![address.clone()]);
    assert!(matches!(&error, NetworkError::PortInUse { address: found } if *found == address), "{error}");
    assert!(error.to_string().contains("the port is in use; stop the other program"));
    let error = start(&|config| config.listen = vec!["localhost:1".into()]);
    assert!(matches!(error, NetworkError::BadAddress { .. }), "{error}");
    let error = start(&|config| config.listen = vec!["/ip4/127.0.0.1/tcp/1/ws".into()]);
    assert!(matches!(error, NetworkError::UnsupportedTransport { .. }), "{error}");
    let error = start(&|config| config.bootstrap = vec!["/ip4/127.0.0.1".into()]);
    assert!(matches!(error, NetworkError::UnsupportedTransport { .. }), "{error}");
    let error = start(&|config| config.listen = vec!["/ip4/192.0.2.1/tcp/0".into()]);
    assert!(matches!(error, NetworkError::Listen { .. }), "{error}");
    let error = start(&|config| config.request_protocols = vec!["ocelli".into()]);
    assert!(matches!(error, NetworkError::BadProtocol { .. }), "{error}");
    let error = start(&|config| config.request_protocols.clear());
    assert!(matches!(error, NetworkError::NoProtocol), "{error}");
    let error = "12D3".parse::<Peer>().expect_err("too short");
    assert!(matches!(error, NetworkError::BadPeer { .. }), "{error}");
    assert_eq!(first.peer().to_string().parse::<Peer>().expect("a peer id"), first.peer());
}

/// The identity's own key, checked with another implementation of Ed25519.
#[test]
fn the_identity_signs() {
    let (handle, events) = spawn(full(7)).expect("the network starts");
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    assert_eq!(handle.public_key(), key.verifying_key().to_bytes());
    assert_eq!(handle.sign(b"answer"), ed25519_dalek::Signer::sign(&key, b"answer").to_bytes());
    drop(events);
}

/// The port is free again once the events have ended, from a plain thread as well.
#[test]
fn the_end_of_events_is_the_end() {
    let (handle, mut events) = spawn(full(1)).expect("the network starts");
    let Some(NetworkEvent::Listening(address)) = events.blocking_recv() else { panic!("not listening") };
    handle.shutdown();
    while events.blocking_recv().is_some() {}
    let mut config = full(2);
    config.listen = vec![address];
    let (handle, mut events) = spawn(config).expect("the port is free");
    drop(handle);
    while events.blocking_recv().is_some() {}
}
