//! Nodes in this process, a peer that does whatever a test wants, and a maker of blocks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ocelli_consensus::block::{Answer, Body, Classes};
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, Header, ModelId, Network, Transaction, TxId, Unsigned,
};
use ocelli_model::{Backend, DeviceChoice, Model};
use ocelli_node::api;
use ocelli_node::chain::Chain;
use ocelli_node::clock::Clock;
use ocelli_node::inference::InferenceLimits;
use ocelli_node::network::{self, NetworkConfig, NetworkEvent, NetworkHandle, Peer, ResponseToken};
use ocelli_node::node::{Addresses, Capacity, Discovery, Mining, Node, NodeConfig, NodeError, Storage, models};
use ocelli_node::store::Store;
use ocelli_node::wallet::Wallet;
use ocelli_protocol::message::{
    Announcement, BlockData, BlockId, ChainStatus, Control, FoundBlock, NodeStatus, PeerList, Request, Response,
    ShortId, Submission, SubmitReply, TransactionStatus,
};
use ocelli_protocol::topic;
use tempfile::TempDir;

/// How long anything may take before a test fails. Generous, for nothing waits it out when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The network `local` with a target that every few hashes meet, so that tests make blocks at will.
pub fn easy_network() -> Network {
    let mut network = Network::builtin("local").unwrap();
    network.parameters.name = "test".into();
    network.parameters.easiest_target = ocelli_consensus::CompactTarget(0x207f_ffff);
    // Difficulty hardly moves while a test runs.
    network.parameters.half_life = 1 << 30;
    Network::new(network.parameters, Vec::new())
}

/// The wallet that has all credits.
pub fn rich() -> Wallet {
    Wallet::from_seed(DEV_WALLET_SEED)
}

pub fn cpu() -> Box<dyn Backend> {
    ocelli_model::backend::open(DeviceChoice::Cpu).unwrap().0
}

pub fn model() -> Model {
    ocelli_model::zoo::get("cifar10-cnn").unwrap()
}

/// A node with a folder of its own.
pub struct TestNode {
    node: Option<Node>,
    folder: TempDir,
    network: Network,
    storage: Storage,
}

impl TestNode {
    pub fn start(network: &Network, bootstrap: &[String], mining: Option<Address>) -> Self {
        Self::with_backend(network, bootstrap, mining, cpu())
    }

    pub fn with_backend(
        network: &Network,
        bootstrap: &[String],
        mining: Option<Address>,
        backend: Box<dyn Backend>,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let storage = Storage::default();
        let node = start(network, folder.path(), bootstrap, mining, backend, storage);
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// A node whose clocks are these.
    pub fn with_clock(network: &Network, bootstrap: &[String], clock: Clock) -> Self {
        let (folder, storage) = (TempDir::new().unwrap(), Storage::default());
        let config = NodeConfig { clock, ..config(network, folder.path(), bootstrap, None, cpu(), storage) };
        Self { node: Some(Node::start(config).unwrap()), folder, network: network.clone(), storage }
    }

    /// A node that is given files of models of the network's genesis.
    pub fn with_files(network: &Network, files: &[Model]) -> Self {
        let (folder, storage) = (TempDir::new().unwrap(), Storage::default());
        let config = NodeConfig { files: files.to_vec(), ..config(network, folder.path(), &[], None, cpu(), storage) };
        Self { node: Some(Node::start(config).unwrap()), folder, network: network.clone(), storage }
    }

    /// A node that keeps what `storage` says.
    pub fn with_storage(network: &Network, bootstrap: &[String], storage: Storage) -> Self {
        let folder = TempDir::new().unwrap();
        let node = start(network, folder.path(), bootstrap, None, cpu(), storage);
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// A node that answers over HTTP.
    pub fn with_api(network: &Network, api: api::Config, backend: Box<dyn Backend>) -> Self {
        Self::with_api_of(network, api, backend, InferenceLimits::default())
    }

    /// The same, whose inference has other limits.
    pub fn with_api_of(
        network: &Network,
        api: api::Config,
        backend: Box<dyn Backend>,
        inference: InferenceLimits,
    ) -> Self {
        let (folder, storage) = (TempDir::new().unwrap(), Storage::default());
        let config = config(network, folder.path(), &[], None, backend, storage);
        let node = Node::start(NodeConfig { api: Some(api), inference, ..config }).unwrap();
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// A node that answers over HTTP, on a folder that another left.
    pub fn with_api_on(network: &Network, api: api::Config, folder: TempDir) -> Self {
        Self::with_api_keeping(network, api, folder, Storage::default())
    }

    /// The same, which keeps what `storage` says.
    pub fn with_api_keeping(network: &Network, api: api::Config, folder: TempDir, storage: Storage) -> Self {
        let config = config(network, folder.path(), &[], None, cpu(), storage);
        let node = Node::start(NodeConfig { api: Some(api), ..config }).unwrap();
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// A node that answers over HTTP and mines.
    pub fn with_api_mining(network: &Network, api: api::Config, miner: Address) -> Self {
        let (folder, storage) = (TempDir::new().unwrap(), Storage::default());
        let config = config(network, folder.path(), &[], Some(miner), cpu(), storage);
        let node = Node::start(NodeConfig { api: Some(api), ..config }).unwrap();
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// Where it answers over HTTP.
    pub fn api(&self) -> SocketAddr {
        self.node.as_ref().unwrap().api_address().expect("it answers over HTTP")
    }

    /// Stops the node and starts it again on its folder.
    pub fn restart(&mut self, bootstrap: &[String], mining: Option<Address>) {
        self.node.take().unwrap().stop().unwrap();
        self.node = Some(start(&self.network, self.folder.path(), bootstrap, mining, cpu(), self.storage));
    }

    /// A node on a folder that another left.
    pub fn on_folder(network: &Network, folder: TempDir, bootstrap: &[String]) -> Self {
        Self::on_folder_with(network, folder, bootstrap, None, Storage::default())
    }

    /// The same, which keeps what `storage` says, and mines.
    pub fn on_folder_with(
        network: &Network,
        folder: TempDir,
        bootstrap: &[String],
        mining: Option<Address>,
        storage: Storage,
    ) -> Self {
        let node = start(network, folder.path(), bootstrap, mining, cpu(), storage);
        Self { node: Some(node), folder, network: network.clone(), storage }
    }

    /// Stops the node and leaves its data folder.
    pub fn into_folder(self) -> TempDir {
        self.node.unwrap().stop().unwrap();
        self.folder
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until the node ends by itself, and says why.
    pub fn wait_for_end(&mut self) -> NodeError {
        let node = self.node.take().unwrap();
        assert!(node.ends_within(PATIENCE), "the node goes on");
        node.stop().expect_err("it has ended by itself")
    }

    pub fn ask(&self, request: Request) -> Response {
        self.node.as_ref().unwrap().ask(request).expect("the node runs")
    }

    pub fn status(&self) -> NodeStatus {
        match self.ask(Request::NodeStatus) {
            Response::NodeStatus(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// A multiaddr to reach it at.
    pub fn address(&self) -> String {
        wait("the node to listen", || {
            let node = self.node.as_ref().expect("it runs");
            node.addresses().into_iter().find(|address| address.contains("/tcp/"))
        })
    }

    /// Has the node dial an address, as its owner.
    pub fn add(&self, address: &str) {
        let cookie = ocelli_node::node::cookie::read(self.folder()).unwrap();
        let control = Control::Add { address: address.into() };
        let response = self.ask(Request::Control { cookie, control });
        assert!(matches!(response, Response::Controlled { .. }), "{response:?}");
    }

    /// What it tells its owner of its peers.
    pub fn peers(&self) -> PeerList {
        let cookie = ocelli_node::node::cookie::read(self.folder()).unwrap();
        match self.ask(Request::Control { cookie, control: Control::Peers }) {
            Response::Peers(list) => *list,
            other => panic!("{other:?}"),
        }
    }

    pub fn block(&self, by: BlockId) -> Option<FoundBlock> {
        match self.ask(Request::Block { by }) {
            Response::Block(block) => block.map(|block| *block),
            other => panic!("{other:?}"),
        }
    }

    pub fn account(&self, address: Address) -> ocelli_protocol::message::AccountStatus {
        match self.ask(Request::Account { address }) {
            Response::Account(account) => *account,
            other => panic!("{other:?}"),
        }
    }

    pub fn transaction(&self, txid: TxId) -> TransactionStatus {
        match self.ask(Request::Transaction { txid }) {
            Response::Transaction(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Whether a transaction waits in its mempool.
    pub fn is_pending(&self, txid: TxId) -> bool {
        matches!(self.transaction(txid), TransactionStatus::Pending(_))
    }

    pub fn submit(&self, submission: Submission) -> SubmitReply {
        match self.ask(Request::Submit(submission)) {
            Response::Submitted(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Why the node has refused a block.
    pub fn verdict(&self, hash: BlockHash) -> Option<String> {
        self.status().invalid.into_iter().find(|invalid| invalid.hash == hash).map(|invalid| invalid.reason)
    }

    pub fn wait_for_tip(&self, hash: BlockHash) {
        wait("the tip to move", || (self.status().tip.hash == hash).then_some(()));
    }
}

pub fn start(
    network: &Network,
    folder: &Path,
    bootstrap: &[String],
    mining: Option<Address>,
    backend: Box<dyn Backend>,
    storage: Storage,
) -> Node {
    Node::start(config(network, folder, bootstrap, mining, backend, storage)).unwrap()
}

fn config(
    network: &Network,
    folder: &Path,
    bootstrap: &[String],
    mining: Option<Address>,
    backend: Box<dyn Backend>,
    storage: Storage,
) -> NodeConfig {
    NodeConfig {
        network: network.clone(),
        data: folder.to_owned(),
        addresses: Addresses {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            bootstrap: bootstrap.to_vec(),
            ..Addresses::default()
        },
        discovery: Discovery::BootstrapOnly,
        traversal: network::Traversal::default(),
        capacity: Capacity::default(),
        backend,
        models: models(network).unwrap(),
        files: Vec::new(),
        inference: InferenceLimits::default(),
        mining: mining.map(|address| Mining { address, threads: 1 }),
        storage,
        api: None,
        faucet: None,
        clock: Clock::system(),
    }
}

/// Asks again and again until there is an answer.
pub fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes blocks as a miner would, and bad ones too. It has a chain of its own.
pub struct Maker {
    pub chain: Chain,
    pub wallet: Wallet,
    miner: Address,
    folder: TempDir,
}

impl Maker {
    pub fn new(network: &Network) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("chain"), network).unwrap();
        let chain = Chain::open(network.clone(), store).unwrap();
        Self { chain, wallet: rich(), miner: Address([9; 20]), folder }
    }

    /// The data folder, for a node to take over.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    /// A signed transaction of the rich wallet with the nonce that is `ahead` of its account's.
    pub fn sign(&self, ahead: u64, action: Action) -> Transaction {
        let key = self.wallet.public_key();
        let account = self.chain.account(&Address::of(&key)).unwrap();
        let unsigned = Unsigned { nonce: account.nonce + ahead, fee: Amount(1_000_000), expires: 1_000_000, action };
        Transaction::sign(unsigned, key, self.chain.genesis(), |hash| self.wallet.sign(hash))
    }

    pub fn transfer(&self, ahead: u64, to: Address, amount: Amount) -> Submission {
        Submission { transaction: self.sign(ahead, Action::Transfer { to, amount }), attachment: None }
    }

    /// A task on a picture that `seed` makes.
    pub fn classify(&self, ahead: u64, seed: u8) -> Submission {
        let pixels: Vec<u8> = (0..3072u32).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect();
        self.task(ahead, Form::Pixels, pixels)
    }

    /// A task with that attachment.
    pub fn task(&self, ahead: u64, form: Form, attachment: Vec<u8>) -> Submission {
        let (model, picture) = (ModelId(model().id().0), AttachmentHash::of(&attachment));
        let (bytes, royalty) = (attachment.len() as u32, Amount::ZERO);
        let action = Action::Classify { model, picture, bytes, royalty, form };
        Submission { transaction: self.sign(ahead, action), attachment: Some(attachment.into()) }
    }

    /// The data of a block with right answers.
    pub fn data(&self, submissions: &[Submission]) -> BlockData {
        let mut data = BlockData::default();
        for submission in submissions {
            let answer = submission.transaction.task().map_or(Answer::None, |_| Answer::Classes(right(submission)));
            data.body.transactions.push((submission.transaction.clone(), answer));
            data.attachments.push(submission.attachment.clone());
        }
        data
    }

    /// A header for the next block; its nonce is still to be found.
    pub fn header(&self, body: &Body) -> Header {
        let time = self.chain.tip().time + 1;
        self.chain.template(self.miner, body, time).unwrap()
    }

    /// Makes a good block and puts it on this maker's own chain.
    pub fn make(&mut self, submissions: &[Submission]) -> (Header, BlockData) {
        let data = self.data(submissions);
        let header = mine(self.header(&data.body));
        self.connect(&header, &data);
        (header, data)
    }

    /// Puts a good block on this maker's own chain.
    pub fn connect(&mut self, header: &Header, data: &BlockData) {
        let hash = header.hash();
        assert!(self.chain.insert_headers(std::slice::from_ref(header), u64::MAX).unwrap().1.is_none());
        self.chain.accept_block(hash, data, &|_| false).unwrap();
        self.chain.set_answers(hash, Ok(())).unwrap();
        self.chain.advance().unwrap();
        assert_eq!(self.chain.tip().hash, hash);
    }
}

/// What the reference says of a task of the harness's model.
pub fn right(submission: &Submission) -> Classes {
    let (model, attachment) = (model(), submission.attachment.as_ref().expect("a task has an attachment"));
    let logits = |pixels: &[u8]| Classes::of(&ocelli_model::reference::logits(&model, pixels));
    match submission.transaction.task().expect("a task").form {
        Form::Pixels => logits(attachment),
        Form::Jpeg { .. } => logits(&ocelli_picture::pixels(attachment, model.graph().input().into()).unwrap()),
    }
}

/// Signs a transaction of the rich wallet anew, after it was changed.
pub fn signed(transaction: Transaction) -> Transaction {
    let wallet = rich();
    let genesis = easy_network().genesis_hash();
    Transaction::sign(transaction.unsigned, wallet.public_key(), genesis, |hash| wallet.sign(hash))
}

/// Finds a nonce.
pub fn mine(mut header: Header) -> Header {
    let target = header.target.to_target().unwrap();
    while !target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    header
}

/// Finds a nonce that does *not* meet the target.
pub fn unmine(mut header: Header) -> Header {
    let target = header.target.to_target().unwrap();
    while target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
    header
}

/// Some transactions of a block, with their attachments.
pub fn transactions_of(data: &BlockData, indexes: &[u32]) -> Response {
    let submission = |&index: &u32| Some(submission_of(data, index as usize));
    Response::Transactions(indexes.iter().map(submission).collect())
}

/// A transaction of a block, with its attachment.
pub fn submission_of(data: &BlockData, index: usize) -> Submission {
    let transaction = data.body.transactions[index].0.clone();
    Submission { transaction, attachment: data.attachments[index].clone() }
}

/// Those of some blocks that are asked for.
pub fn blocks_of(known: &[(BlockHash, &BlockData)], hashes: &[BlockHash]) -> Response {
    let of = |hash: &BlockHash| known.iter().find(|(known, _)| known == hash).map(|(_, data)| (*data).clone());
    Response::Blocks(hashes.iter().map(of).collect())
}

/// A peer on the network's own protocols that only does what a test says.
pub struct RawPeer {
    pub handle: NetworkHandle,
    pub events: Receiver<NetworkEvent>,
    network: Network,
}

impl RawPeer {
    /// Connects to a node, and returns when the node has said who it is.
    pub fn connect(network: &Network, node: &TestNode) -> (Self, Peer) {
        let (peer, found) = Self::connect_to_all(network, &[node]);
        (peer, found[0])
    }

    /// Connects to several nodes.
    pub fn connect_to_all(network: &Network, nodes: &[&TestNode]) -> (Self, Vec<Peer>) {
        let addresses: Vec<_> = nodes.iter().map(|node| node.address()).collect();
        Self::dial_all(network, &addresses)
    }

    /// Connects to a node at an address.
    pub fn dial(network: &Network, address: &str) -> Self {
        Self::dial_all(network, &[address.to_owned()]).0
    }

    fn dial_all(network: &Network, addresses: &[String]) -> (Self, Vec<Peer>) {
        let genesis = network.genesis_hash();
        let topics = vec![topic::blocks(genesis)];
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let mut config = NetworkConfig::full(secret, topic::request_protocol(genesis), topics);
        config.bootstrap = addresses.to_vec();
        let (handle, mut events) = network::spawn(config).unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            while let Some(event) = events.blocking_recv() {
                if send.send(event).is_err() {
                    break;
                }
            }
        });
        let peer = Self { handle, events: receive, network: network.clone() };
        let found = addresses.iter().map(|_| {
            peer.until("the connection", |event| match event {
                NetworkEvent::Connected { peer, .. } => Some(*peer),
                _ => None,
            })
        });
        let found = found.collect();
        // Gossip flows once each knows that the other has the topic.
        wait("the topic", || {
            let peers = peer.handle.status().peers;
            (peers.iter().filter(|peer| peer.topics == 1).count() == addresses.len()).then_some(())
        });
        (peer, found)
    }

    /// Waits for an event, and behaves in the meantime.
    pub fn until<T>(&self, what: &str, mut pick: impl FnMut(&NetworkEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    if let Some(picked) = pick(&event) {
                        return picked;
                    }
                    self.behave(event);
                }
                Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the network ended while waiting for {what}"),
            }
        }
    }

    /// Waits for a request that `pick` takes, and gives the response that it says.
    pub fn answer(&self, what: &str, mut pick: impl FnMut(&Request) -> Option<Response>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else { panic!("waited in vain for {what}") };
            match event {
                NetworkEvent::Request { peer, token, data } => match pick(&Request::from_bytes(&data).unwrap()) {
                    Some(response) => {
                        self.handle.respond(token, response.to_bytes());
                        return;
                    }
                    None => self.behave(NetworkEvent::Request { peer, token, data }),
                },
                other => self.behave(other),
            }
        }
    }

    /// Waits for a request that `pick` takes, and leaves it open.
    pub fn hold(&self, what: &str, pick: impl Fn(&Request) -> bool) -> ResponseToken {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else { panic!("waited in vain for {what}") };
            match event {
                NetworkEvent::Request { token, data, .. } if pick(&Request::from_bytes(&data).unwrap()) => {
                    return token;
                }
                other => self.behave(other),
            }
        }
    }

    /// Serves one block's data, whole or in part, until `done`.
    pub fn serve_until(&self, data: &BlockData, hash: BlockHash, done: impl FnMut() -> bool) {
        self.serve("the block to be taken", data, hash, done);
    }

    /// Serves one block's data, whole or in part, until `done`, which is `what`.
    pub fn serve(&self, what: &str, data: &BlockData, hash: BlockHash, done: impl FnMut() -> bool) {
        let what = format!("{what} while serving block {hash}");
        self.respond_until(&what, done, |request| match request {
            Request::Transactions { block, indexes } if *block == hash => Some(transactions_of(data, indexes)),
            Request::Blocks { hashes } => Some(blocks_of(&[(hash, data)], hashes)),
            _ => None,
        });
    }

    /// Gives the responses that `answer` says until `done`, which is `what`, and behaves where it says none.
    pub fn respond_until(
        &self,
        what: &str,
        mut done: impl FnMut() -> bool,
        mut answer: impl FnMut(&Request) -> Option<Response>,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            let Ok(event) = self.events.recv_timeout(Duration::from_millis(20)) else { continue };
            let NetworkEvent::Request { peer, token, data } = event else { continue };
            match answer(&Request::from_bytes(&data).unwrap()) {
                Some(response) => self.handle.respond(token, response.to_bytes()),
                None => self.behave(NetworkEvent::Request { peer, token, data }),
            }
        }
    }

    /// Answers as an honest node would that has nothing but the genesis.
    fn behave(&self, event: NetworkEvent) {
        let NetworkEvent::Request { token, data, .. } = event else { return };
        let genesis = &self.network.genesis;
        let response = match Request::from_bytes(&data).unwrap() {
            Request::Status => Response::Status(ChainStatus {
                genesis: genesis.hash(),
                height: 0,
                tip: genesis.hash(),
                work: genesis.target.to_target().unwrap().work().0,
                next_rules: None,
            }),
            Request::Headers { .. } => Response::Headers(Vec::new()),
            Request::Blocks { hashes } => Response::Blocks(vec![None; hashes.len()]),
            Request::Transactions { .. } => Response::Transactions(Vec::new()),
            Request::NewTip(_) => Response::NewTip,
            Request::Announce { ids } => Response::Announce { noted: ids.len() as u32 },
            Request::Pending { ids } => Response::Pending(vec![None; ids.len()]),
            other => panic!("nodes do not ask each other {other:?}"),
        };
        self.handle.respond(token, response.to_bytes());
    }

    /// Waits for the response to a request of this peer and for the question for what a block lacks, which stays open.
    pub fn until_status_and_question(&self, hash: BlockHash) -> ResponseToken {
        let (mut question, mut answered) = (None, false);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match question.take() {
                Some(token) if answered => return token,
                other => question = other,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left).expect("the node answers and asks") {
                NetworkEvent::Response { .. } => answered = true,
                NetworkEvent::Request { peer, token, data } => match Request::from_bytes(&data).unwrap() {
                    Request::Transactions { block, .. } if block == hash => question = Some(token),
                    _ => self.behave(NetworkEvent::Request { peer, token, data }),
                },
                _ => {}
            }
        }
    }

    /// Waits until the node has thrown this peer out.
    pub fn until_gone(&self, what: &str) {
        self.until(&format!("the end of the connection after: {what}"), |event| {
            matches!(event, NetworkEvent::Disconnected { .. }).then_some(())
        });
    }

    pub fn announce(&self, header: &Header, body: &Body) {
        self.publish_block(&Announcement::of(header.clone(), body));
    }

    pub fn publish_block(&self, announcement: &Announcement) {
        self.handle.publish(&topic::blocks(self.network.genesis_hash()), announcement.to_bytes());
    }

    /// Announces a transaction to a node.
    pub fn announce_transaction(&self, node: Peer, submission: &Submission) {
        let ids = vec![ShortId::of(&submission.transaction.wtxid())];
        self.handle.request(node, Request::Announce { ids }.to_bytes());
    }

    /// Announces a transaction to a node, and answers with `sent` when it asks for it.
    pub fn relay(&self, node: Peer, submission: &Submission, sent: Option<Submission>) {
        self.announce_transaction(node, submission);
        self.answer("the transaction to be asked for", |request| {
            matches!(request, Request::Pending { .. }).then(|| Response::Pending(vec![sent.clone()]))
        });
    }
}
