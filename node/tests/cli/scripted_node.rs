//! A node that has a network of real sockets but no chain: it answers what the test wants it to.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ocelli_consensus::hash::TxId;
use ocelli_consensus::{Address, Amount, Header, Network};
use ocelli_model::{Model, reference, zoo};
use ocelli_node::network::{self, Config, Event, Handle, kademlia_protocol};
use ocelli_protocol::message::{
    AccountStatus, BlockData, BlockId, ChainStatus, Confirmation, ConnectedPeer, FeeSuggestion, FoundBlock, NodeStatus,
    PeerInfo, PeerList, Request, Response, SignedAnswer, Submission, SubmitReply, TransactionStatus,
};
use ocelli_protocol::topic::request_protocol;

/// The height of the block that has everything that was submitted.
pub const HEIGHT: u64 = 6;
/// The tip's: the block has three confirmations.
pub const TIP: u64 = 8;
/// The nonce of every other account: one that a double does not hold.
pub const NONCE: u64 = (1 << 53) + 1;
/// The nonce of every header.
pub const HEADER_NONCE: u64 = u64::MAX - 2;
/// What the node takes at least, in grains for a weight of a million, and what it suggests.
pub const FEE_RATES: [u64; 2] = [1_000_000, u64::MAX];

/// The address that has no account.
pub const NOBODY: Address = Address([7; 20]);

/// How the node behaves.
#[derive(Clone, Copy)]
pub struct Script {
    /// Of every account but [`NOBODY`]'s.
    pub balance: Amount,
    /// What the node does with its answers.
    pub answers: Answers,
    /// How many submissions it takes and then forgets.
    pub forgets: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Right,
    /// One logit is one too high.
    OffByOne,
    /// Signed with somebody else's key.
    Foreign,
    /// It takes no task at all.
    Refused,
}

impl Default for Script {
    fn default() -> Self {
        Self { balance: Amount(100_000_000), answers: Answers::Right, forgets: 0 }
    }
}

pub struct ScriptedNode {
    /// The multiaddr at which it listens, with its peer id.
    pub address: String,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedNode {
    /// Starts a node whose key is `seed` repeated, which joins through `bootstrap`.
    pub fn start(network: &Network, seed: u8, bootstrap: &[&ScriptedNode], script: Script) -> Self {
        let genesis = network.genesis_hash();
        let mut config = Config::full([seed; 32], request_protocol(genesis), Vec::new());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        config.kademlia = Some(kademlia_protocol(&genesis.to_string()));
        config.bootstrap = bootstrap.iter().map(|node| node.address.clone()).collect();
        let (handle, mut events) = network::spawn(config).unwrap();
        let (listening, address) = mpsc::channel();
        let mut node = Answering {
            network: network.clone(),
            model: zoo::get("cifar10-cnn").unwrap(),
            handle: handle.clone(),
            script,
            taken: HashMap::new(),
        };
        let answering = handle.clone();
        let thread = std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                match event {
                    Event::Listening(address) => drop(listening.send(address)),
                    Event::Request { token, data, .. } => {
                        let response = node.answer(Request::from_bytes(&data).unwrap());
                        answering.respond(token, response.to_bytes());
                    }
                    _ => {}
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { address, handle, thread: Some(thread) }
    }

    /// What the node would write as `node.json`.
    pub fn node_file(&self, network: &Network) -> String {
        let (address, peer, genesis) = (&self.address, self.handle.local_peer(), network.genesis_hash());
        format!(r#"{{"peer_id":"{peer}","addresses":["{address}"],"network":"local","genesis":"{genesis}","pid":1}}"#)
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Answering {
    network: Network,
    model: Model,
    handle: Handle,
    script: Script,
    taken: HashMap<TxId, Submission>,
}

impl Answering {
    fn answer(&mut self, request: Request) -> Response {
        let genesis = self.network.genesis_hash();
        let header = self.header(TIP);
        match request {
            Request::Status => Response::Status(ChainStatus {
                genesis,
                height: TIP,
                tip: header.hash(),
                work: ocelli_consensus::U256::from(1u64 << 40),
            }),
            Request::NodeStatus => {
                let peer = PeerInfo {
                    id: "12D3KooW".into(),
                    address: "/ip4/127.0.0.1/tcp/9".into(),
                    inbound: true,
                    height: Some(7),
                };
                Response::NodeStatus(Box::new(NodeStatus {
                    agent: "scripted/1".into(),
                    network: self.network.parameters.name.clone(),
                    genesis,
                    peer_id: self.handle.local_peer().to_string(),
                    height: TIP,
                    tip: header.hash(),
                    header_height: TIP + 1,
                    peers: vec![peer; 2],
                    waiting_for: vec!["a \u{1b}[31mred\u{1b}[0m thing".into()],
                    ..NodeStatus::default()
                }))
            }
            Request::Account { address } if address == NOBODY => {
                Response::Account(AccountStatus { nonce: 0, balance: Amount::ZERO, next_nonce: 0, height: TIP })
            }
            Request::Account { .. } => Response::Account(AccountStatus {
                nonce: NONCE,
                balance: self.script.balance,
                next_nonce: NONCE,
                height: TIP,
            }),
            Request::Submit(submission) => Response::Submitted(self.take(submission)),
            Request::Transaction { txid } => Response::Transaction(match self.taken.get(&txid) {
                None => TransactionStatus::Unknown,
                Some(submission) => TransactionStatus::Confirmed(Box::new(Confirmation {
                    header: self.header(HEIGHT),
                    index: 0,
                    tip_height: TIP,
                    submission: submission.clone(),
                    output: self.logits(submission),
                })),
            }),
            Request::Block { by: BlockId::Height(HEIGHT) } => {
                let mut data = BlockData::default();
                let mut taken: Vec<_> = self.taken.values().collect();
                taken.sort_by_key(|submission| submission.transaction.unsigned.nonce);
                for submission in taken {
                    data.body.transactions.push((submission.transaction.clone(), self.logits(submission)));
                    data.pixels.push(submission.pixels.clone());
                }
                let header = self.header(HEIGHT);
                Response::Block(Some(Box::new(FoundBlock { header, data, main_chain: true, tip_height: TIP })))
            }
            Request::Block { .. } => Response::Block(None),
            Request::Fee { .. } => Response::Fee(FeeSuggestion { rate: FEE_RATES[1], minimum: FEE_RATES[0] }),
            Request::Control { control: Control::Peers, .. } => Response::Peers(Box::new(PeerList {
                peers: vec![ConnectedPeer {
                    id: "12D3KooW".into(),
                    address: "/ip4/127.0.0.1/tcp/9".into(),
                    inbound: true,
                    light: false,
                    agent: "scripted/1".into(),
                    // By the peer's own word.
                    height: Some(u64::MAX),
                    score: -1_500,
                    points: 5,
                    seconds: 60,
                    round_trip: Some(1_500),
                }],
                bans: Vec::new(),
                known_addresses: 1,
            })),
            _ => Response::failed("not in the script"),
        }
    }

    fn take(&mut self, submission: Submission) -> SubmitReply {
        let transaction = &submission.transaction;
        let genesis = self.network.genesis_hash();
        transaction.verify_signatures(genesis).unwrap();
        if self.script.answers == Answers::Refused {
            return SubmitReply::refused(4, "the mempool is full");
        }
        let answer = transaction.task().zip(self.logits(&submission)).map(|((model, image), mut logits)| {
            if self.script.answers == Answers::OffByOne {
                logits[7] += 1;
            }
            let hash = SignedAnswer::signing_hash(genesis, transaction.txid(), model, image, &logits);
            let public_key = if self.script.answers == Answers::Foreign { [9; 32] } else { self.handle.public_key() };
            SignedAnswer { logits, public_key, signature: self.handle.sign(&hash) }
        });
        match self.script.forgets.checked_sub(1) {
            Some(left) => self.script.forgets = left,
            None => drop(self.taken.insert(transaction.txid(), submission)),
        }
        SubmitReply::Accepted { answer }
    }

    fn logits(&self, submission: &Submission) -> Option<Vec<i32>> {
        submission.pixels.as_ref().map(|pixels| reference::logits(&self.model, pixels))
    }

    fn header(&self, height: u64) -> Header {
        Header { height, nonce: HEADER_NONCE, ..self.network.genesis.clone() }
    }
}
