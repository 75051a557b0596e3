//! Peers that speak our protocols and mean harm: they are told, lose points, and are banned, each for its own reason,
//! while the node goes on serving others. And peers that surround a node and withhold blocks.

use futures::StreamExt as _;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use ocelli_consensus::{Address, Amount, BlockHash, Network, U256};
use ocelli_node::network::{NetworkEvent, Peer};
use ocelli_protocol::message::{Ban, BanSubject, ChainStatus, Request, Response};
use ocelli_protocol::topic;

use super::attacker::RawCodec;
use super::harness::{Maker, PATIENCE, RawPeer, TestNode, easy_network, wait};

#[derive(NetworkBehaviour)]
struct Raw {
    identify: identify::Behaviour,
    requests: request_response::Behaviour<RawCodec>,
}

/// Sends the same bytes on request streams again and again until the node closes the connection. Returns its peer id, how
/// many it could send, and the first answer, if there was one.
fn send_until_closed(network: &Network, node: &str, bytes: &[u8]) -> (String, usize, Option<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let protocol = StreamProtocol::try_from_owned(topic::request_protocol(network.genesis_hash())).unwrap();
    let node: Multiaddr = node.parse().unwrap();
    let talk = async {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| Raw {
                identify: identify::Behaviour::new(
                    identify::Config::new("ocelli/1".into(), key.public()).with_agent_version("ocelli/0 light".into()),
                ),
                requests: request_response::Behaviour::new(
                    [(protocol, ProtocolSupport::Outbound)],
                    request_response::Config::default(),
                ),
            })
            .unwrap()
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(PATIENCE))
            .build();
        swarm.dial(node).unwrap();
        let (mut sent, mut answer) = (0, None);
        loop {
            let send = |swarm: &mut libp2p::Swarm<Raw>, peer| {
                swarm.behaviour_mut().requests.send_request(peer, bytes.to_vec());
            };
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(RawEvent::Identify(identify::Event::Received { peer_id, .. })) if sent == 0 => {
                    sent += 1;
                    send(&mut swarm, &peer_id);
                }
                SwarmEvent::Behaviour(RawEvent::Requests(request_response::Event::Message {
                    peer,
                    message: request_response::Message::Response { response, .. },
                    ..
                })) => {
                    answer.get_or_insert(response);
                    if swarm.is_connected(&peer) {
                        sent += 1;
                        send(&mut swarm, &peer);
                    }
                }
                SwarmEvent::Behaviour(RawEvent::Requests(request_response::Event::OutboundFailure {
                    peer, ..
                })) if swarm.is_connected(&peer) => {
                    sent += 1;
                    send(&mut swarm, &peer);
                }
                SwarmEvent::ConnectionClosed { .. } => return (swarm.local_peer_id().to_string(), sent, answer),
                _ => {}
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await.expect("the node closes the connection") })
}

/// Waits until the node has banned this peer, and returns why.
fn ban_reason(node: &TestNode, peer: &str) -> String {
    wait("the ban", || {
        let found = |ban: &Ban| ban.subject == BanSubject::Peer(peer.to_owned());
        node.peers().bans.into_iter().find(found).map(|ban| {
            assert!((3500..=3600).contains(&ban.seconds_left), "{ban:?}");
            ban.reason
        })
    })
}

#[test]
fn frames_that_are_no_requests_cost_what_the_table_says() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let (honest, _) = RawPeer::connect(&network, &node);
    let oversize = u32::MAX.to_le_bytes();
    // A request for the status, of 1,000 bytes.
    let of_its_kind = [0xe8, 3, 0, 0, 1, 0, 0, 0];
    let torn = [100, 0, 0, 0, 1, 2, 3];
    let no_message = [4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    // The bytes on the stream, why the peer is banned, after how many of them, and what it is told.
    let rows: [(&[u8], &str, usize, Option<&str>); 4] = [
        (&oversize, "a message that is too large", 2, None),
        (&of_its_kind, "a message that is too large", 2, None),
        (&torn, "requests that do not come whole", 10, None),
        (&no_message, "bytes that are no message", 1, Some("not a request")),
    ];
    for (bytes, reason, least, told) in rows {
        let (peer, sent, answer) = send_until_closed(&network, &node.address(), bytes);
        assert_eq!(ban_reason(&node, &peer), reason);
        assert!(sent >= least, "{reason}: banned after {sent}, expected at least {least}");
        if let (Some(told), Some(answer)) = (told, answer.filter(|answer| !answer.is_empty())) {
            assert!(String::from_utf8_lossy(&answer).contains(told), "{answer:?}");
        }
    }
    assert_eq!(node.peers().peers.len(), 1, "the honest peer is still there");
    assert_served(&node, &network, &honest);
}

#[test]
fn what_peers_say_wrong_bans_them_with_its_reason() {
    let network = easy_network();
    let node = TestNode::start(&network, &[], None);
    let maker = Maker::new(&network);
    let mut unsigned = maker.transfer(0, Address([5; 20]), Amount(1_000_000));
    unsigned.transaction.signature[0] ^= 1;
    let mut unsigned_too = maker.transfer(0, Address([6; 20]), Amount(1_000_000));
    unsigned_too.transaction.signature[0] ^= 1;
    let genesis = network.genesis_hash();

    type Deed<'a> = &'a dyn Fn(&RawPeer, Peer);
    let deeds: [(Deed, &str); 3] = [
        (&|peer, _| peer.handle.publish(&topic::blocks(genesis), b"junk".to_vec()), "bytes that are no message"),
        (
            &|peer, node| {
                peer.relay(node, &unsigned, Some(unsigned.clone()));
                peer.relay(node, &unsigned_too, Some(unsigned_too.clone()));
            },
            "invalid transactions",
        ),
        (
            &|peer, _| {
                peer.answer("the node to ask where the chain stands", |request| match request {
                    Request::Status => Some(Response::Status(ChainStatus {
                        genesis: BlockHash([1; 32]),
                        height: 9,
                        tip: BlockHash([2; 32]),
                        work: U256::from(9),
                        next_rules: None,
                    })),
                    _ => None,
                });
            },
            "another genesis than this network's",
        ),
    ];
    for (deed, reason) in deeds {
        let (peer, at) = RawPeer::connect(&network, &node);
        let id = peer.handle.local_peer().to_string();
        deed(&peer, at);
        peer.until_gone(reason);
        assert_eq!(ban_reason(&node, &id), reason);
    }
    let (honest, _) = RawPeer::connect(&network, &node);
    assert_served(&node, &network, &honest);
}

#[test]
fn a_node_surrounded_by_peers_that_withhold_blocks_follows_the_best_chain_through_one_honest_peer() {
    let network = easy_network();
    let honest = TestNode::start(&network, &[], None);
    let victim = TestNode::start(&network, &[], None);
    // They claim a far better chain, and give nothing of it.
    let surrounding: Vec<_> = (0..12).map(|_| RawPeer::connect(&network, &victim).0).collect();
    let withholding: Vec<_> = surrounding
        .into_iter()
        .map(|peer| {
            let genesis = network.genesis_hash();
            std::thread::spawn(move || {
                while let Ok(event) = peer.events.recv_timeout(PATIENCE) {
                    let (token, data) = match event {
                        NetworkEvent::Request { token, data, .. } => (token, data),
                        // The victim is gone.
                        NetworkEvent::Disconnected { .. } => break,
                        _ => continue,
                    };
                    let response = match Request::from_bytes(&data).unwrap() {
                        Request::Status => Response::Status(ChainStatus {
                            genesis,
                            height: 1_000_000,
                            tip: BlockHash([9; 32]),
                            work: U256::MAX,
                            next_rules: None,
                        }),
                        Request::Headers { .. } => Response::Headers(Vec::new()),
                        Request::Blocks { hashes } => Response::Blocks(vec![None; hashes.len()]),
                        _ => Response::Transactions(Vec::new()),
                    };
                    peer.handle.respond(token, response.to_bytes());
                }
            })
        })
        .collect();
    let mut maker = Maker::new(&network);
    let (source, _) = RawPeer::connect(&network, &honest);
    let mut tip = None;
    for seed in 0..3 {
        let (header, data) = maker.make(&[maker.classify(0, seed)]);
        source.announce(&header, &data.body);
        source.serve_until(&data, header.hash(), || honest.status().tip.hash == header.hash());
        tip = Some(header.hash());
    }
    // The owner names one honest peer.
    victim.add(&honest.address());
    victim.wait_for_tip(tip.unwrap());
    drop(victim);
    for thread in withholding {
        thread.join().unwrap();
    }
}

/// A peer's questions are answered, and its good block is taken.
fn assert_served(node: &TestNode, network: &Network, peer: &RawPeer) {
    let mut maker = Maker::new(network);
    let (header, data) = maker.make(&[maker.classify(0, 1)]);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
}
