//! A node that has a network of real sockets and a chain of a few blocks: it answers what the test wants it to, and lies if
//! it is to.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::hash::TxId;
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::object::{Account, MAX_ATTACHMENT_BYTES, ModelRecord};
use ocelli_consensus::{
    Action, Address, Amount, BlockHash, Body, Header, ModelId, Network, Root, Transaction, U256, Unsigned,
};
use ocelli_model::{Display, Graph, Input, Layer, Model, ModelFile, Parameters, reference, zoo};
use ocelli_node::inference::facts_of;
use ocelli_node::network::{self, NetworkConfig, NetworkEvent, NetworkHandle, kademlia_protocol};
use ocelli_node::wallet::Wallet;
use ocelli_protocol::ledger::{self, debit};
use ocelli_protocol::message::{
    AccountStatus, BlockData, BlockId, ChainStatus, Confirmation, ConnectedPeer, Control, FaucetReply, FaucetRequest,
    FaucetTerms, FeeSuggestion, FoundBlock, LedgerBlock, LedgerPage, NetworkModel, NodeIdentity, NodeStatus,
    PeerCounts, PeerList, Request, Response, ShortId, ShownEntry, SignedAnswer, Submission, SubmitReply, SyncStatus,
    TipStatus, TransactionProof, TransactionStatus,
};
use ocelli_protocol::topic::request_protocol;

use crate::scripted_chain::{Chain, Mining, State};

/// The height of the block that has everything that was submitted.
pub const HEIGHT: u64 = 6;
/// The tip's: the block has three confirmations.
pub const TIP: u64 = 8;
/// The nonce of every other account: one that a double does not hold.
pub const NONCE: u64 = (1 << 53) + 1;
/// What the node takes at least, in grains for a weight of a million, and what it suggests.
pub const FEE_RATES: [u64; 2] = [1_000_000, u64::MAX];
/// Between the first block and the others of a chain that is too long to be checked from genesis on.
pub const GAP: u64 = 700_000;

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
    /// Whether it takes each submission once, drops it, and refuses it then.
    pub drops: bool,
    /// Whether another machine with the same key uses the nonce of the first transaction just before that is handed in.
    pub overtakes: bool,
    /// Whether it is gone when it is handed something in.
    pub vanishes: bool,
    /// Whether it takes what it is given, says that it waits, and neither passes it on nor puts it into a block. Its chain is
    /// shorter by a block.
    pub keeps: bool,
    /// Whether it has a better chain without the transactions, which it has forgotten, once it has shown one in a block.
    pub reorganises: bool,
    /// How many of [`transfers`] are in the block from the beginning.
    pub transfers: usize,
    /// Whether the last of [`transfers`] waits in its mempool.
    pub waits: bool,
    /// The fee rate that it suggests, in grains for a weight of a million.
    pub fee_rate: u64,
    /// Whether the chain is too long to be checked from genesis on: all heights but the first are higher by [`GAP`].
    pub is_long: bool,
    /// What it lies about.
    pub lie: Option<Lie>,
}

/// What a node says that is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Asked for a transaction, it shows another one.
    OtherTransaction,
    /// The right transaction, in a block that does not hold it.
    WrongBlock,
    /// The right txid, with a signature that is none.
    Unsigned,
    /// Another answer than the block's.
    OtherAnswer,
    /// A body that is not the header's.
    OtherBody,
    /// The block at another height, all else right.
    OtherHeight,
    /// Headers without work.
    NoWork,
    /// Headers with a target that is too easy.
    EasyTarget,
    /// A chain of its own that has less work.
    EasyFork,
    /// More confirmations than it has headers.
    MoreConfirmations,
    /// Not all headers.
    Truncated,
    /// Headers on blocks that nobody knows.
    Unrelated,
    /// The genesis of another network.
    OtherGenesis,
    /// More work than its headers have.
    MoreWork,
    /// A tip at the highest height.
    HugeStatus,
    /// A block at the highest height and time.
    HugeHeader,
    /// [`RICHES`].
    Balance,
    /// The same, in the state of a block that no header stands for.
    BalanceInNoBlock,
    /// Nothing, where there is an account.
    NoAccount,
    /// A next nonce that is far away.
    NextNonce,
    /// Another state root than the tip's.
    StateRoot,
    /// Asked to take a transaction, it tells where it stands.
    NoSubmission,
    /// A payment to somebody else.
    PaysOther,
    /// A smaller payment than promised.
    PaysLess,
    /// A payment that it has not signed.
    PaysUnsigned,
    /// An entry of another amount than its transaction's.
    EntryAmount,
    /// An entry whose transaction has another signature.
    EntryUnsigned,
    /// A reward of a block that somebody else has mined.
    EntryReward,
    /// Entries from the earliest to the latest.
    EntryOrder,
    /// Entries that are said to be all, and to which others belong.
    EntriesWhole,
    /// Entries that go on for ever.
    EntriesEndless,
    /// A file that is not the model's.
    OtherFile,
    /// Models that go on for ever.
    EndlessModels,
    /// No lie: from one height on the rules of a version that is not known here.
    OtherVersion,
    /// No lie: that it has to be updated.
    Outdated,
}

/// The royalty of the [`published`] model.
pub const ROYALTY: Amount = Amount(7_000);

/// A model that somebody has published: 8x8 in colour, three classes.
pub fn published() -> Model {
    let graph = Graph::new(Input::new(3, 8, 8), vec![Layer::logits("linear", "input", 3)]).unwrap();
    let weight = (0..3 * 192).map(|at| (at % 11) as i8 - 5).collect();
    let parameters = vec![Parameters { weight, bias: vec![5, 0, -5], ..Parameters::default() }];
    let display = Display { name: "stranger".into(), ..Display::numbered(3) };
    ModelFile { graph, parameters, display }.build().unwrap()
}

/// A balance out of nothing: 42,424,242.42 credits.
pub const RICHES: Amount = Amount(4_242_424_242_000_000);

/// What a scripted faucet gives.
pub const GIFT: Amount = Amount(250_000_000);

/// Transfers from the development wallet.
pub fn transfers(network: &Network) -> Vec<Transaction> {
    let wallet = Wallet::from_seed(DEV_WALLET_SEED);
    let transfer = |nonce| {
        let action = Action::Transfer { to: NOBODY, amount: Amount(1_000_000 + nonce) };
        let unsigned = Unsigned { nonce, fee: Amount(1_000), expires: u64::MAX, action };
        Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash))
    };
    (1..3).map(transfer).collect()
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
        Self {
            balance: Amount(100_000_000),
            answers: Answers::Right,
            forgets: 0,
            drops: false,
            overtakes: false,
            vanishes: false,
            keeps: false,
            reorganises: false,
            transfers: 0,
            waits: false,
            fee_rate: FEE_RATES[1],
            is_long: false,
            lie: None,
        }
    }
}

pub struct ScriptedNode {
    /// The multiaddr at which it listens, with its peer id.
    pub address: String,
    handle: NetworkHandle,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedNode {
    /// Starts a node whose key is `seed` repeated, which joins through `bootstrap`.
    pub fn start(network: &Network, seed: u8, bootstrap: &[&ScriptedNode], script: Script) -> Self {
        Self::start_at(network, seed, "/ip4/127.0.0.1/tcp/0", bootstrap, script)
    }

    /// The same, at an address.
    pub fn start_at(network: &Network, seed: u8, listen: &str, bootstrap: &[&ScriptedNode], script: Script) -> Self {
        let genesis = network.genesis_hash();
        let mut config = NetworkConfig::full([seed; 32], request_protocol(genesis), Vec::new());
        config.listen = vec![listen.into()];
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
            dropped: HashSet::new(),
            kept: HashMap::new(),
            is_reorganised: false,
            state: State::default(),
            chain: None,
        };
        for transaction in transfers(network).into_iter().take(script.transfers) {
            node.taken.insert(transaction.txid(), (Submission { transaction, attachment: None }, Answer::None));
        }
        if let Some(transaction) = transfers(network).pop().filter(|_| script.waits) {
            node.kept.insert(transaction.txid(), Submission { transaction, attachment: None });
        }
        let answering = handle.clone();
        let thread = std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                match event {
                    NetworkEvent::Listening(address) => drop(listening.send(address)),
                    NetworkEvent::Request { token, data, .. } => {
                        let request = Request::from_bytes(&data).unwrap();
                        if script.vanishes && matches!(request, Request::Submit(_)) {
                            answering.shutdown();
                        } else {
                            answering.respond(token, node.answer(request).to_bytes());
                        }
                    }
                    _ => {}
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { address, handle, thread: Some(thread) }
    }

    /// Waits until it is gone; where it has listened.
    pub fn until_gone(mut self) -> String {
        self.thread.take().unwrap().join().unwrap();
        self.address.split("/p2p/").next().unwrap().to_owned()
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
    handle: NetworkHandle,
    script: Script,
    /// What is in the block, with its answer.
    taken: HashMap<TxId, (Submission, Answer)>,
    dropped: HashSet<TxId>,
    /// What waits in the mempool.
    kept: HashMap<TxId, Submission>,
    is_reorganised: bool,
    /// All accounts that were asked for: after the tip.
    state: State,
    /// Until something changes.
    chain: Option<Chain>,
}

impl Answering {
    fn answer(&mut self, request: Request) -> Response {
        let response = self.honest(&request);
        match self.script.lie {
            Some(lie) => self.distort(lie, &request, response),
            None => response,
        }
    }

    fn honest(&mut self, request: &Request) -> Response {
        let genesis = self.network.genesis_hash();
        match request {
            Request::Account { address } | Request::Ledger { address, .. }
                if *address != NOBODY && !self.state.accounts.contains_key(address) =>
            {
                self.state.insert(*address, Account { nonce: NONCE, balance: self.script.balance });
                self.chain = None;
            }
            Request::Submit(submission) => return Response::Submitted(self.take(submission.clone())),
            _ => {}
        }
        let chain = self.chain.take().unwrap_or_else(|| self.build());
        let tip = chain.tip().clone();
        let response = match request {
            Request::Status => {
                let (height, tip) = (tip.height, tip.hash());
                Response::Status(ChainStatus { genesis, height, tip, work: chain.work(), next_rules: None })
            }
            Request::Headers { locator, limit } => Response::Headers(chain.after(locator, *limit as usize)),
            Request::NodeStatus => Response::NodeStatus(Box::new(NodeStatus {
                identity: NodeIdentity {
                    agent: "scripted/1".into(),
                    network: self.network.parameters.name.clone(),
                    genesis,
                    peer_id: self.handle.local_peer().to_string(),
                    addresses: Vec::new(),
                },
                tip: TipStatus {
                    height: tip.height,
                    hash: tip.hash(),
                    time: tip.time,
                    work: chain.work(),
                    state_root: tip.state,
                },
                peers: PeerCounts { dialled: 0, inbound: 2 },
                sync: SyncStatus {
                    header_height: tip.height + 1,
                    waiting_for: vec!["a \u{1b}[31mred\u{1b}[0m thing".into()],
                    ..SyncStatus::default()
                },
                ..NodeStatus::default()
            })),
            Request::Account { address } => {
                let Account { nonce, balance } = self.state.accounts.get(address).copied().unwrap_or_default();
                let path = self.state.path(address);
                Response::Account(Box::new(AccountStatus { nonce, balance, next_nonce: nonce, header: tip, path }))
            }
            Request::Transaction { txid } => Response::Transaction(match self.confirmation(&chain, txid) {
                None if self.dropped.contains(txid) => TransactionStatus::Dropped { reason: "replaced".into() },
                None => self
                    .kept
                    .get(txid)
                    .map_or(TransactionStatus::Unknown, |kept| TransactionStatus::Pending(kept.transaction.wtxid())),
                Some(confirmation) => {
                    if self.script.reorganises && !self.is_reorganised {
                        self.is_reorganised = true;
                        self.taken.clear();
                        return Response::Transaction(TransactionStatus::Confirmed(Box::new(confirmation)));
                    }
                    TransactionStatus::Confirmed(Box::new(confirmation))
                }
            }),
            Request::Block { by } => {
                let header = match by {
                    BlockId::Height(height) => chain.at(*height),
                    BlockId::Hash(hash) => chain.by_hash(hash),
                };
                Response::Block(header.map(|header| {
                    let header = header.clone();
                    let data = if header.height == self.height() { self.data() } else { BlockData::default() };
                    Box::new(FoundBlock { header, data })
                }))
            }
            Request::Faucet(FaucetRequest::Terms) => {
                Response::Faucet(FaucetReply::Terms(FaucetTerms { amount: GIFT, bits: 1, block: tip.hash() }))
            }
            Request::Faucet(FaucetRequest::Claim(claim)) => {
                let payment = self.payment(claim.address);
                if self.script.lie.is_none() {
                    let submission = Submission { transaction: payment.clone(), attachment: None };
                    self.taken.insert(payment.txid(), (submission, Answer::None));
                    return Response::Faucet(FaucetReply::Paid(payment));
                }
                Response::Faucet(FaucetReply::Paid(payment))
            }
            Request::Models { from, limit } => {
                let mut models = self.models();
                models.retain(|model| model.id >= *from);
                models.truncate(*limit as usize);
                Response::Models(models)
            }
            Request::File { model, chunk } => {
                let file = published();
                let file = file.bytes().chunks(MAX_ATTACHMENT_BYTES).nth(*chunk as usize);
                Response::File(file.filter(|_| model.0 == published().id().0).map(<[u8]>::to_vec))
            }
            Request::Upload { .. } => Response::Upload(None),
            Request::Pending { ids } => {
                let kept = |id: &ShortId| {
                    self.kept.values().find(|kept| ShortId::of(&kept.transaction.wtxid()) == *id).cloned()
                };
                Response::Pending(ids.iter().map(kept).collect())
            }
            Request::Ledger { address, before, .. } => {
                let Response::Account(account) = self.honest(&Request::Account { address: *address }) else {
                    panic!("no account")
                };
                let (header, body) = (chain.at(self.height()).unwrap().clone(), self.data().body);
                let mut entries = Vec::new();
                for (index, (transaction, answer)) in body.transactions.iter().enumerate().rev() {
                    let event = debit(&self.network.parameters, transaction).unwrap();
                    let proof = body.prove(&header.parent, index).unwrap();
                    let index = index as u32;
                    let proof = TransactionProof { transaction: transaction.clone(), answer: answer.clone(), proof };
                    let is_before = before.is_none_or(|before| (header.height, index) < (before.height, before.index));
                    if transaction.sender() == *address && is_before {
                        entries.push(ShownEntry { index, event, proof: Some(Box::new(proof)) });
                    }
                }
                let blocks = if entries.is_empty() { Vec::new() } else { vec![LedgerBlock { header, entries }] };
                Response::Ledger(Box::new(LedgerPage { account: *account, from: 2, blocks, has_more: false }))
            }
            Request::Fee { .. } => Response::Fee(FeeSuggestion { rate: self.script.fee_rate, minimum: FEE_RATES[0] }),
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
        };
        self.chain = Some(chain);
        response
    }

    fn distort(&mut self, lie: Lie, request: &Request, response: Response) -> Response {
        match (lie, request, response) {
            (Lie::OtherTransaction, Request::Transaction { txid }, _) => {
                let chain = self.chain.as_ref().unwrap();
                let other = self.taken.keys().find(|other| *other != txid);
                let confirmation = other.and_then(|other| self.confirmation(chain, other));
                let confirmation = confirmation.unwrap_or_else(|| self.confirmation(chain, txid).unwrap());
                Response::Transaction(TransactionStatus::Confirmed(Box::new(confirmation)))
            }
            (_, _, Response::Transaction(TransactionStatus::Confirmed(mut confirmation))) => {
                let header = &mut confirmation.header;
                match lie {
                    Lie::WrongBlock => *header = self.chain.as_ref().unwrap().at(self.height() + 1).unwrap().clone(),
                    Lie::Unsigned => confirmation.submission.transaction.signature = [1; 64],
                    Lie::OtherAnswer => confirmation.answer = Answer::Classes(Classes::of(&[1, 2])),
                    Lie::OtherHeight => header.height = 777_777,
                    Lie::HugeHeader => (header.height, header.time) = (u64::MAX, u64::MAX),
                    _ => {}
                }
                Response::Transaction(TransactionStatus::Confirmed(confirmation))
            }
            (_, _, Response::Block(Some(mut found))) => {
                match lie {
                    Lie::OtherBody => drop(found.data.body.transactions.pop().zip(found.data.attachments.pop())),
                    Lie::Unsigned => found.data.body.transactions[0].0.signature = [1; 64],
                    Lie::OtherHeight => found.header.height = 777_777,
                    Lie::HugeHeader => (found.header.height, found.header.time) = (u64::MAX, u64::MAX),
                    _ => {}
                }
                Response::Block(Some(found))
            }
            (_, _, Response::Status(mut status)) => {
                match lie {
                    Lie::MoreConfirmations => (status.height, status.tip) = (TIP + 98, BlockHash([8; 32])),
                    Lie::OtherGenesis => status.genesis = BlockHash([8; 32]),
                    Lie::MoreWork => status.work = U256::MAX,
                    Lie::HugeStatus => (status.height, status.tip) = (u64::MAX, BlockHash([8; 32])),
                    _ => {}
                }
                Response::Status(status)
            }
            (Lie::Truncated, _, Response::Headers(mut headers)) => {
                headers.retain(|header| header.height < 4);
                Response::Headers(headers)
            }
            (Lie::Unrelated, _, Response::Headers(mut headers)) => {
                headers.retain(|header| header.height > 4);
                Response::Headers(headers)
            }
            (_, Request::Account { address }, Response::Account(mut account)) => {
                match lie {
                    Lie::Balance => account.balance = RICHES,
                    Lie::BalanceInNoBlock => {
                        account.balance = RICHES;
                        let mut state = State::default();
                        state.insert(*address, Account { nonce: account.nonce, balance: RICHES });
                        account.path = state.path(address);
                        account.header =
                            Header { parent: account.header.hash(), state: state.root(), ..account.header };
                        account.header.height += 1;
                    }
                    Lie::NoAccount => {
                        let header = account.header;
                        *account = AccountStatus { nonce: 0, balance: Amount::ZERO, next_nonce: 0, header, path: None };
                    }
                    Lie::NextNonce => account.next_nonce = u64::MAX,
                    _ => {}
                }
                Response::Account(account)
            }
            (_, request @ Request::Ledger { address, limit, proofs, .. }, Response::Ledger(mut page)) => {
                let mut nobody = Vec::new();
                let block = page.blocks.first_mut();
                let entries = block.map_or(&mut nobody, |block| &mut block.entries);
                match (lie, entries.first_mut()) {
                    (Lie::EntryAmount, Some(ShownEntry { event: ledger::Event::Sent { amount, .. }, .. })) => {
                        amount.0 -= 1;
                    }
                    (Lie::EntryUnsigned, Some(ShownEntry { proof: Some(proof), .. })) => {
                        proof.transaction.signature = [1; 64];
                    }
                    (Lie::EntryReward, Some(first)) => {
                        let reward = self.network.parameters.reward_at(HEIGHT);
                        let event = ledger::Event::Reward { reward, fees: Amount(2_000) };
                        *first = ShownEntry { index: ledger::REWARD, event, proof: None };
                    }
                    (Lie::EntryOrder, _) => entries.reverse(),
                    (Lie::EntriesWhole, _) => page.from = 1,
                    (Lie::EntriesEndless, _) => {
                        page.has_more = true;
                        let latest =
                            Request::Ledger { address: *address, before: None, limit: *limit, proofs: *proofs };
                        if *request != latest {
                            return self.answer(latest);
                        }
                    }
                    (Lie::Balance, _) => page.account.balance = RICHES,
                    _ => {}
                }
                Response::Ledger(page)
            }
            (Lie::Outdated, _, Response::NodeStatus(mut status)) => {
                status.rules.update = Some("a chain of version 9 has more work".into());
                Response::NodeStatus(status)
            }
            (Lie::StateRoot, _, Response::NodeStatus(mut status)) => {
                status.tip.state_root = Root([8; 32]);
                Response::NodeStatus(status)
            }
            (Lie::OtherFile, Request::File { .. }, _) => Response::File(Some(b"another file".to_vec())),
            (Lie::EndlessModels, Request::Models { limit, .. }, Response::Models(models)) => {
                let model = models.first().cloned().unwrap_or_else(|| self.models().remove(0));
                Response::Models(vec![model; *limit as usize])
            }
            (Lie::NoSubmission, Request::Submit(_), _) => self.honest(&Request::Status),
            (_, _, response) => response,
        }
    }

    /// Those of the network's beginning and the [`published`] one, in the order of their ids.
    fn models(&self) -> Vec<NetworkModel> {
        let record = |author, royalty, first, facts| ModelRecord { author, royalty, first, facts };
        let genesis = self.network.parameters.models.iter().map(|model| {
            let record = record(Address([0; 20]), Amount::ZERO, 0, model.facts);
            NetworkModel { id: model.id, record, uses: 12, name: "cifar10-cnn".into() }
        });
        let stranger = published();
        let record = record(NOBODY, ROYALTY, 2, facts_of(&stranger));
        let stranger = NetworkModel { id: ModelId(stranger.id().0), record, uses: 3, name: "stranger".into() };
        let mut models: Vec<_> = genesis.chain([stranger]).collect();
        models.sort_by_key(|model| model.id);
        models
    }

    /// Where the block is that has everything.
    fn height(&self) -> u64 {
        match (self.script.lie, self.script.is_long) {
            (Some(Lie::EasyFork), false) => 1,
            (_, false) => HEIGHT,
            (_, true) => GAP + HEIGHT,
        }
    }

    fn build(&self) -> Chain {
        let (mining, from, tip) = match self.script.lie {
            Some(Lie::NoWork) => (Mining::NoWork, HEIGHT, TIP),
            Some(Lie::EasyTarget) => (Mining::EasyTarget, HEIGHT, TIP),
            Some(Lie::OtherVersion) => (Mining::OtherVersion, HEIGHT, TIP),
            // Of a long chain nobody can see how much work it has.
            Some(Lie::EasyFork) if self.script.is_long => (Mining::Other, GAP, TIP),
            Some(Lie::EasyFork) => (Mining::Other, 0, 3),
            _ if self.is_reorganised => (Mining::Other, HEIGHT - 1, TIP + 1),
            _ => (Mining::Honest, 0, TIP - u64::from(self.script.keeps)),
        };
        let gap = if self.script.is_long { GAP } else { 0 };
        let (full, empty) = (self.data().body, Body::default());
        let bodies = (1..=tip).map(|height| if height == 1 { height } else { height + gap });
        let bodies: Vec<_> =
            bodies.map(|height| (height, if height == self.height() { &full } else { &empty })).collect();
        Chain::build(&self.network, &bodies, self.state.root(), mining, from)
    }

    /// Of the block that has everything.
    fn data(&self) -> BlockData {
        let mut taken: Vec<_> = self.taken.values().collect();
        taken.sort_by_key(|(submission, _)| submission.transaction.unsigned.nonce);
        let mut data = BlockData::default();
        for (submission, answer) in taken {
            data.body.transactions.push((submission.transaction.clone(), answer.clone()));
            data.attachments.push(submission.attachment.clone());
        }
        data
    }

    fn confirmation(&self, chain: &Chain, txid: &TxId) -> Option<Confirmation> {
        let data = self.data();
        let index = data.body.transactions.iter().position(|(transaction, _)| transaction.txid() == *txid)?;
        let header = chain.at(self.height())?.clone();
        Confirmation::of(header, &data.body, index as u32, data.attachments[index].clone())
    }

    /// What a faucet gives to an address.
    fn payment(&self, to: Address) -> Transaction {
        let wallet = Wallet::from_seed([77; 32]);
        let (to, amount) = match self.script.lie {
            Some(Lie::PaysOther) => (NOBODY, GIFT),
            Some(Lie::PaysLess) => (to, Amount(GIFT.0 - 1)),
            _ => (to, GIFT),
        };
        let action = Action::Transfer { to, amount };
        let unsigned = Unsigned { nonce: 0, fee: Amount(1_000), expires: 1_000_000, action };
        let genesis = self.network.genesis_hash();
        let mut payment = Transaction::sign(unsigned, wallet.public_key(), genesis, |hash| wallet.sign(hash));
        if self.script.lie == Some(Lie::PaysUnsigned) {
            payment.signature = [1; 64];
        }
        payment
    }

    fn take(&mut self, submission: Submission) -> SubmitReply {
        let transaction = &submission.transaction;
        let genesis = self.network.genesis_hash();
        transaction.verify_signatures(genesis).unwrap();
        if self.script.answers == Answers::Refused {
            return SubmitReply::refused(4, "the mempool is full");
        }
        if self.script.drops {
            return if self.dropped.insert(transaction.txid()) {
                SubmitReply::Accepted { answer: None }
            } else {
                SubmitReply::refused(4, "the account has used this nonce")
            };
        }
        let (sender, nonce) = (transaction.sender(), transaction.unsigned.nonce);
        if std::mem::take(&mut self.script.overtakes) {
            self.state.insert(sender, Account { nonce: nonce + 1, balance: self.script.balance });
            self.chain = None;
        }
        // The transfers have lower nonces than any account that is shown.
        if !self.script.waits && self.state.accounts.get(&sender).is_some_and(|account| nonce < account.nonce) {
            return SubmitReply::refused(4, "the account has used this nonce");
        }
        if self.script.keeps {
            self.kept.insert(transaction.txid(), submission);
            return SubmitReply::Accepted { answer: None };
        }
        let logits = self.logits(&submission);
        let answer = transaction.task().zip(logits.clone()).map(|(task, mut logits)| {
            if self.script.answers == Answers::OffByOne {
                logits[7] += 1;
            }
            let answer = Classes::of(&logits);
            let hash = SignedAnswer::signing_hash(genesis, transaction.txid(), &task, &answer);
            let public_key = if self.script.answers == Answers::Foreign { [9; 32] } else { self.handle.public_key() };
            SignedAnswer { answer, public_key, signature: self.handle.sign(&hash) }
        });
        let right = logits.map_or(Answer::None, |logits| Answer::Classes(Classes::of(&logits)));
        match self.script.forgets.checked_sub(1) {
            Some(left) => self.script.forgets = left,
            None => drop(self.taken.insert(transaction.txid(), (submission, right))),
        }
        self.chain = None;
        SubmitReply::Accepted { answer }
    }

    fn logits(&self, submission: &Submission) -> Option<Vec<i32>> {
        let model = submission.transaction.task()?.model;
        let model = if model.0 == self.model.id().0 { self.model.clone() } else { published() };
        submission.attachment.as_ref().map(|pixels| reference::logits(&model, pixels))
    }
}
