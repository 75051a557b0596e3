//! A peer that does all that a node allows, as often as it allows it, and nothing else: it signs with a key that has money, pays
//! the lowest fee that is taken, serves what it announces, answers what it is asked, and pauses when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ocelli_consensus::parameters::GenesisModel;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{Action, Address, Amount, AttachmentHash, BlockHash, Network, Transaction, Unsigned};
use ocelli_node::fee::task_weight;
use ocelli_node::wallet::Wallet;
use ocelli_protocol::message::{
    BlockId, ChainStatus, FeeSuggestion, MAX_BLOCKS, MAX_HEADERS, Request, Response, ShortId, Submission, SubmitReply,
};
use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;

/// How often the account and the fee are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long after a refusal for asking too much: one a second is forgiven.
const PAUSE: Duration = Duration::from_millis(1_500);
/// How long after a transaction that is not taken: two a second may be in vain.
const VAIN_PAUSE: Duration = Duration::from_millis(500);
/// Transactions of an account that a node keeps, waiting ones among them.
const MAX_PENDING: u64 = 64;
/// What is announced is served for as long as so many others are announced.
const MAX_HELD: usize = 256;
/// Accounts of attackers, who share them where they are more.
pub const ACCOUNTS: usize = 100;
/// Grains that each account is given: some ten thousand tasks.
pub const FUNDS: Amount = Amount(100_000_000);

/// What such a peer sends, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lawful {
    /// Tasks at the lowest fee, as many as an account may have pending.
    LowestFee,
    /// The same with a nonce left out before each.
    Gaps,
    /// The requests that cost a node most.
    Requests,
    /// Announcements of tasks that are served when they are asked for.
    Announcements,
}

/// One of them.
pub struct Peer {
    network: Network,
    wallet: Wallet,
    /// By the node's word, once it has told.
    fee: Option<Amount>,
    /// The same, with the nonces of what is pending counted.
    next_nonce: Option<u64>,
    confirmed: u64,
    /// Nonces below it have been used.
    used: u64,
    asked_at: Option<Instant>,
    paused_until: Instant,
    held: BTreeMap<ShortId, Submission>,
    announced: VecDeque<ShortId>,
    /// The latest blocks that the node has told of.
    blocks: Vec<BlockHash>,
    turn: usize,
    /// How often it was told to ask less, or that a transaction is not taken.
    pub refusals: u64,
}

/// The key of an attacker, by its number.
pub fn wallet(number: usize) -> Wallet {
    let mut seed = [0xf1; 32];
    seed[..8].copy_from_slice(&((number % ACCOUNTS) as u64).to_le_bytes());
    Wallet::from_seed(seed)
}

/// Signs for an account.
pub fn signed(wallet: &Wallet, network: &Network, nonce: u64, fee: Amount, action: Action) -> Transaction {
    let unsigned = Unsigned { nonce, fee, expires: 1_000_000, action };
    Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash))
}

impl Peer {
    /// The attacker of a number, who has just connected.
    pub fn new(network: &Network, number: usize) -> Self {
        Self {
            network: network.clone(),
            wallet: wallet(number),
            fee: None,
            next_nonce: None,
            confirmed: 0,
            used: 0,
            asked_at: None,
            paused_until: Instant::now(),
            held: BTreeMap::new(),
            announced: VecDeque::new(),
            blocks: Vec::new(),
            turn: 0,
            refusals: 0,
        }
    }

    fn address(&self) -> Address {
        Address::of(&self.wallet.public_key())
    }

    /// The next request, if one is allowed now.
    pub fn next(&mut self, kind: Lawful, random: &mut ChaCha8Rng) -> Option<Request> {
        let now = Instant::now();
        if now < self.paused_until {
            return None;
        }
        if self.asked_at.is_none_or(|at| at + ASK_EVERY <= now) {
            self.asked_at = Some(now);
            self.turn += 1;
            let asks_fee = self.turn % 2 == 1;
            return Some(if asks_fee {
                Request::Fee { blocks: 1 }
            } else {
                Request::Account { address: self.address() }
            });
        }
        match kind {
            Lawful::Requests => Some(self.costly(random)),
            Lawful::Gaps => {
                let nonce = self.next_nonce? + random.random_range(1..MAX_PENDING);
                Some(Request::Submit(self.task(nonce, random)?))
            }
            Lawful::LowestFee => self.next_task(random).map(Request::Submit),
            Lawful::Announcements => {
                let task = self.next_task(random)?;
                let id = ShortId::of(&task.transaction.wtxid());
                self.held.insert(id, task);
                self.announced.push_back(id);
                if self.announced.len() > MAX_HELD {
                    self.announced.pop_front().map(|oldest| self.held.remove(&oldest));
                }
                Some(Request::Announce { ids: vec![id] })
            }
        }
    }

    /// A task with the next nonce, while the account may have more pending.
    fn next_task(&mut self, random: &mut ChaCha8Rng) -> Option<Submission> {
        let nonce = self.used.max(self.next_nonce?);
        let task = self.task(nonce, random).filter(|_| nonce < self.confirmed + MAX_PENDING)?;
        self.used = nonce + 1;
        Some(task)
    }

    /// A task of a picture that nobody has seen.
    fn task(&self, nonce: u64, random: &mut ChaCha8Rng) -> Option<Submission> {
        let model = self.network.parameters.models.first()?;
        let mut pixels = vec![0; model.facts.pixels() as usize];
        random.fill_bytes(&mut pixels);
        let transaction = signed(&self.wallet, &self.network, nonce, self.fee?, classify(model, &pixels));
        Some(Submission { transaction, attachment: Some(pixels.into()) })
    }

    fn costly(&mut self, random: &mut ChaCha8Rng) -> Request {
        let genesis = self.network.genesis_hash();
        self.turn += 1;
        let height = random.random_range(0..=self.blocks.len() as u64);
        match self.turn % 5 {
            0 => Request::Headers { locator: vec![genesis], limit: MAX_HEADERS as u32 },
            1 if !self.blocks.is_empty() => Request::Blocks { hashes: self.blocks.clone() },
            2 => Request::NodeStatus,
            3 => Request::Block { by: BlockId::Height(height) },
            _ => Request::Account { address: self.address() },
        }
    }

    /// Takes note of an answer.
    pub fn on_response(&mut self, response: &Response) {
        match response {
            Response::Fee(FeeSuggestion { minimum, .. }) => {
                let lowest = FeeSuggestion { rate: *minimum, minimum: *minimum };
                self.fee = self.network.parameters.models.first().map(|model| lowest.fee(task_weight(&model.facts)));
            }
            Response::Account(account) => {
                // What was not taken is offered again.
                self.used = if self.next_nonce == Some(account.next_nonce) { account.next_nonce } else { self.used };
                (self.next_nonce, self.confirmed) = (Some(account.next_nonce), account.nonce);
            }
            Response::Headers(headers) => {
                let newest = headers.iter().rev().take(MAX_BLOCKS);
                self.blocks = newest.map(ocelli_consensus::Header::hash).collect();
            }
            Response::Failed { .. } => {
                self.refusals += 1;
                self.paused_until = Instant::now() + PAUSE;
            }
            Response::Submitted(SubmitReply::Refused { .. }) => {
                self.refusals += 1;
                self.paused_until = self.paused_until.max(Instant::now() + VAIN_PAUSE);
            }
            _ => {}
        }
    }

    /// What it answers: it has the genesis, and what it has announced.
    pub fn answer(&self, request: &Request) -> Response {
        let genesis = &self.network.genesis;
        let found = |ids: &[ShortId]| ids.iter().map(|id| self.held.get(id).cloned()).collect::<Vec<_>>();
        match request {
            Request::Status => {
                let hash = self.network.genesis_hash();
                let work = ocelli_consensus::fork_choice::work_of(genesis).0;
                Response::Status(ChainStatus { genesis: hash, height: 0, tip: hash, work, next_rules: None })
            }
            Request::Headers { .. } => Response::Headers(Vec::new()),
            Request::Blocks { hashes } => Response::Blocks(vec![None; hashes.len()]),
            Request::Announce { ids } => Response::Announce { noted: ids.len() as u32 },
            Request::Pending { ids } => Response::Pending(found(ids)),
            Request::Attachments { ids } => {
                let attachments = found(ids).into_iter().map(|task| task.and_then(|task| task.attachment));
                Response::Attachments(attachments.collect())
            }
            Request::NewTip(_) => Response::NewTip,
            _ => Response::failed("not served here"),
        }
    }
}

/// Asks a model of the network's beginning about these pixels.
pub fn classify(model: &GenesisModel, pixels: &[u8]) -> Action {
    let (picture, bytes) = (AttachmentHash::of(pixels), pixels.len() as u32);
    Action::Classify { model: model.id, picture, bytes, royalty: Amount::ZERO, form: Form::Pixels }
}
