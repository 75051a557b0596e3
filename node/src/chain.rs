//! The chain as this node has it: the store, the tree of headers, and the moves of the tip.
//!
//! A block passes four gates: its header ([`Chain::insert_headers`]), its body and attachments by themselves
//! ([`Chain::accept_block`]), its answers ([`Chain::set_answers`], decided elsewhere), and its state when the tip moves
//! over it ([`Chain::advance`]), with the files that it publishes. Only the last depends on where the tip is, so a reorganisation connects a branch whose
//! answers are all checked already, in one atomic write.

mod at_tip;
mod files;
mod models;
mod pruning;
mod reconsider;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::block::{Answer, Body};
use ocelli_consensus::fork_choice::{BlockStatus, HeaderTree, InsertError, TreeNode};
use ocelli_consensus::header::TIME_LIMIT;
use ocelli_consensus::object::{Account, StateReader as _};
use ocelli_consensus::target::{Target, Work};
use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{Address, BlockHash, Header, Network, Parameters, RuleError, U256, WtxId};
use ocelli_protocol::message::BlockData;
use ocelli_protocol::sync::HeaderPlace;

pub use crate::full_message::full_message;
pub use at_tip::AtTip;
pub use files::{
    CheckedFile, CheckedFiles, FinishedUpload, WantedFile, assemble, assemble_published, built_in_file, published_files,
};
pub use pruning::{Bytes, MIN_PRUNE_BYTES, MissingAttachments, Prune, PruneError};
pub use reconsider::ReconsiderError;

use crate::store::{Durability, Extent, Overlay, Store, StoreError};
use files::Publications;

mod check;

pub use check::{BodyCheck, BodyError, Setting};

/// A header further ahead of this node's clock, in seconds, is held back: never invalid, never penalised.
pub const MAX_AHEAD_SECONDS: u64 = 30;
/// A block's time, which must be after its parent's, may be so far ahead of this clock, in seconds, that a miner whose blocks
/// come fast is not held up, and stays far from what others hold back. A first choice.
pub const MAX_MINED_AHEAD_SECONDS: u64 = 10;
/// Headers on chains with less work than ours this many blocks ago are not stored.
const LOW_WORK_BLOCKS: u64 = 144;
/// Blocks are forwarded only while their chain is at most this many blocks' work behind the best.
const FORWARD_BLOCKS: u64 = 6;

/// A chain move this near to the best header is on the disk for good before anybody hears of it.
const NEAR_TIP_BLOCKS: u64 = 16;
/// Further behind, where nobody takes anything for confirmed yet, the disk is waited for this often.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Blocks connected in one write at most, once the new branch has more work than the old.
const MAX_CONNECTED_AT_ONCE: usize = 64;

/// The chain and all that is known beside it.
pub struct Chain {
    network: Network,
    genesis: BlockHash,
    check: BodyCheck,
    /// Shared with the thread that frees what was pruned, which ends before the chain does.
    store: Arc<Store>,
    tree: HeaderTree,
    tip: BlockHash,
    keeping: pruning::Keeping,
    published: models::Published,
    files: Arc<CheckedFiles>,
    awaited: files::Awaited,
    /// When a chain move was last brought to the disk for good.
    synced_at: Instant,
}

/// Why a header is not taken.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It is too far ahead of this node's clock: try again later.
    #[error("header {hash} is {seconds} s ahead of this clock")]
    Ahead {
        /// The header's hash.
        hash: BlockHash,
        /// How far.
        seconds: u64,
    },
    /// Its chain has less work than ours had long ago, or than the network's is known to have.
    #[error("headers up to {hash} have work {found}, below the {least} that are worth storing")]
    LowWork {
        /// The last header's hash.
        hash: BlockHash,
        /// With all that it claims.
        found: Work,
        /// Needed.
        least: Work,
    },
    /// It does not fit into the tree.
    #[error(transparent)]
    Insert(#[from] InsertError),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a block's data is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The block's header is not here, or its data already is.
    #[error("block {0} was not asked for")]
    NotWanted(BlockHash),
    /// These bytes are not what the block hash commits to: whoever sent them is to blame, and the block is not.
    #[error("not the data of block {hash}")]
    NotTheBlock {
        /// The block that they were given for.
        hash: BlockHash,
        source: BodyError,
    },
    /// Blocks before it have to come first.
    #[error("block {0} cannot be checked before those on which it stands have come")]
    Early(BlockHash),
    /// The block breaks a rule, and from now on is invalid.
    #[error("block {hash} at height {height}")]
    Refused { hash: BlockHash, height: u64, source: RuleError },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A block that the tip moved over.
#[derive(Debug, Clone)]
pub struct Moved {
    pub hash: BlockHash,
    pub header: Header,
    /// Its transactions and answers.
    pub body: Body,
}

/// What [`Chain::advance`] did.
#[derive(Debug, Default)]
pub struct Advance {
    /// Blocks taken off, highest first.
    pub disconnected: Vec<Moved>,
    /// Blocks put on, lowest first.
    pub connected: Vec<Moved>,
    /// Blocks that turned out to break a rule of the state.
    pub refused: Vec<(BlockHash, u64, RuleError)>,
}

/// How a move of the tip ended.
enum MoveEnd {
    /// Disconnected and connected.
    Moved(Vec<Moved>, Vec<Moved>),
    /// Nothing has moved: a block is in the way that breaks a rule.
    Refused(BlockHash, u64, RuleError),
    /// Nothing has moved: a block is in the way whose files are not checked yet.
    Awaits(BlockHash, Vec<(WantedFile, FinishedUpload)>),
}

impl Chain {
    /// Takes up the chain that the store holds.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(network: Network, store: Store) -> Result<Self, StoreError> {
        let mut tree = HeaderTree::new(&network.genesis);
        for row in store.headers() {
            let (header, status) = row?;
            tree.restore(&header, status);
        }
        let tip = store.tip()?.hash;
        if !tree.contains(&tip) {
            return Err(StoreError::missing("headers", tip.as_bytes()));
        }
        let keeping = pruning::Keeping::default();
        let synced_at = Instant::now();
        let check = BodyCheck::new(&network);
        let (genesis, store) = (check.genesis, Arc::new(store));
        let (published, files, awaited) = (models::Published::default(), Arc::default(), files::Awaited::default());
        let mut chain =
            Self { genesis, check, network, store, tree, tip, keeping, published, files, awaited, synced_at };
        chain.ask_again_for_what_was_pruned()?;
        Ok(chain)
    }

    /// Blocks that wait for their answers to be checked, and whose attachments were pruned meanwhile, have to be fetched anew.
    fn ask_again_for_what_was_pruned(&mut self) -> Result<(), StoreError> {
        for hash in self.unchecked() {
            if self.block_data(&hash)?.is_none() {
                self.store.set_status(&hash, BlockStatus::Header, None)?;
                self.tree.set_status(hash, BlockStatus::Header);
            }
        }
        Ok(())
    }

    /// The network's parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.network.parameters
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The genesis hash.
    pub fn genesis(&self) -> BlockHash {
        self.genesis
    }

    /// What is on disk.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// All headers.
    pub fn tree(&self) -> &HeaderTree {
        &self.tree
    }

    /// The last block of the best chain that is connected.
    pub fn tip(&self) -> TreeNode {
        self.tree.get(&self.tip).expect("the tip is in the tree from the start, and every block that it moves to is")
    }

    /// Takes headers, each the child of the one before or of a known one, of a chain that is worth storing
    /// ([`Chain::minimum_work`]). Known ones pass. Returns how many of them are in the tree now, from the first on, and why
    /// the next one is not. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Only the store's; what is wrong with a header is in the answer.
    pub fn insert_headers(&mut self, headers: &[Header], now: u64) -> Result<(usize, Option<HeaderError>), StoreError> {
        let (mut taken, mut error, mut new) = (0, None, Vec::new());
        for header in headers {
            let hash = header.hash();
            let is_new = !self.tree.contains(&hash);
            let seconds = header.time.saturating_sub(now);
            // Beyond the limit no clock ever comes: that is for the rules.
            if is_new && seconds > MAX_AHEAD_SECONDS && header.time < TIME_LIMIT {
                error = Some(HeaderError::Ahead { hash, seconds });
                break;
            }
            if let Err(source) = self.tree.insert(&self.network, header) {
                error = Some(source.into());
                break;
            }
            if is_new {
                new.push(header.clone());
            }
            taken += 1;
        }
        self.store.add_headers(&new)?;
        Ok((taken, error))
    }

    /// Takes one header as [`Chain::insert_headers`], if its chain is worth storing.
    ///
    /// # Errors
    /// Only the store's.
    pub fn insert_announced(&mut self, header: &Header, now: u64) -> Result<Option<HeaderError>, StoreError> {
        if let Some(parent) = self.tree.get(&header.parent) {
            match HeaderPlace::of(&parent).child(&self.network, header) {
                Ok(HeaderPlace { hash, work, .. }) if work < self.minimum_work() => {
                    return Ok(Some(HeaderError::LowWork { hash, found: work, least: self.minimum_work() }));
                }
                Ok(_) => {}
                Err(source) => {
                    return Ok(Some(InsertError::Rule { height: header.height, source }.into()));
                }
            }
        }
        Ok(self.insert_headers(std::slice::from_ref(header), now)?.1)
    }

    /// Whether the chain of a header whose parent is known has enough work to be stored.
    pub fn is_worth_storing(&self, header: &Header) -> bool {
        let one = header.target.to_target().unwrap_or(Target::MAX).work();
        let work = self.tree.get(&header.parent).and_then(|parent| parent.work.checked_add(one));
        work.is_some_and(|work| work >= self.minimum_work())
    }

    /// Work without which a chain's headers are not stored: what the network's chain is known to have, or the tip's less
    /// that of 144 blocks.
    pub fn minimum_work(&self) -> Work {
        self.work_before(LOW_WORK_BLOCKS).max(self.network.minimum_work)
    }

    /// The tip's work less that of so many blocks like it.
    fn work_before(&self, blocks: u64) -> Work {
        let tip = self.tip();
        let one = tip.target.to_target().unwrap_or(Target::MAX).work().0;
        Work(tip.work.0.saturating_sub(one.saturating_mul(U256::from(blocks))))
    }

    /// Whether a block's chain has enough work for the block to be forwarded before its answers are checked.
    pub fn is_worth_forwarding(&self, block: &TreeNode) -> bool {
        block.work >= self.work_before(FORWARD_BLOCKS)
    }

    /// Takes the body and attachments of a block whose header is here, and checks all that they show by themselves.
    /// `is_known` says which transactions' signatures have been checked before. A block that may lack attachments
    /// ([`Chain::may_lack_attachments`]) and does is taken on the work above it: it counts as verified at once.
    ///
    /// # Errors
    /// [`AcceptError`]: [`AcceptError::Refused`] has been noted, so that nothing is ever built on the block.
    pub fn accept_block(
        &mut self,
        hash: BlockHash,
        data: &BlockData,
        is_known: &(dyn Fn(&WtxId) -> bool + Sync),
    ) -> Result<(), AcceptError> {
        let header = self.wanted(&hash)?.ok_or(AcceptError::NotWanted(hash))?;
        let extent = self.extent(&hash, data);
        let setting = self.setting(&header, &data.body.models())?.ok_or(AcceptError::Early(hash))?;
        let result = self.check.check(&header, data, extent, &setting, is_known);
        self.accept_checked(hash, data, extent, result)
    }

    /// Whether a block's header is here and its data are not.
    pub fn wants(&self, hash: &BlockHash) -> bool {
        self.tree.get(hash).is_some_and(|node| node.status == BlockStatus::Header)
    }

    /// The header of a block whose data are not here yet.
    ///
    /// # Errors
    /// The store's.
    pub fn wanted(&self, hash: &BlockHash) -> Result<Option<Header>, StoreError> {
        if self.wants(hash) { self.header(hash).map(Some) } else { Ok(None) }
    }

    /// The header of a block of the tree.
    fn header(&self, hash: &BlockHash) -> Result<Header, StoreError> {
        let stored = self.store.header(hash)?;
        stored.map(|(header, _)| header).ok_or_else(|| StoreError::missing("headers", hash.as_bytes()))
    }

    /// How far a block's data can be checked: only by themselves if attachments are missing that may be.
    pub fn extent(&self, hash: &BlockHash, data: &BlockData) -> Extent {
        if !data.lacks_attachments() || !self.may_lack_attachments(hash) { Extent::Body } else { Extent::OnWork }
    }

    /// What checks bodies.
    pub fn body_check(&self) -> &BodyCheck {
        &self.check
    }

    /// Takes a block's data as [`Chain::accept_block`], after [`BodyCheck::check`] has given `result`
    /// for the extent.
    ///
    /// # Errors
    /// As [`Chain::accept_block`].
    pub fn accept_checked(
        &mut self,
        hash: BlockHash,
        data: &BlockData,
        checked: Extent,
        result: Result<(), BodyError>,
    ) -> Result<(), AcceptError> {
        let node = self.tree.get(&hash).filter(|node| node.status == BlockStatus::Header);
        let height = node.ok_or(AcceptError::NotWanted(hash))?.height;
        if let Err(error) = result {
            let rule = error.into_verdict().map_err(|source| AcceptError::NotTheBlock { hash, source })?;
            self.refuse(hash, height, &rule)?;
            return Err(AcceptError::Refused { hash, height, source: rule });
        }
        self.store.add_block(&hash, &data.body, &data.attachments, checked)?;
        self.published.note(hash, height, self.network.parameters.model_delay, &data.body);
        self.tree
            .set_status(hash, if checked == Extent::OnWork { BlockStatus::Verified } else { BlockStatus::Received });
        if checked == Extent::OnWork {
            self.say_on_work(height);
        }
        Ok(())
    }

    /// Says what checking a block's answers gave: nothing wrong, or the rule broken.
    ///
    /// # Errors
    /// The store's.
    pub fn set_answers(&mut self, hash: BlockHash, answers: Result<(), RuleError>) -> Result<(), StoreError> {
        let Some(height) = self.tree.get(&hash).map(|node| node.height) else { return Ok(()) };
        match answers {
            Ok(()) => {
                self.store.set_status(&hash, BlockStatus::Verified, None)?;
                self.tree.set_status(hash, BlockStatus::Verified);
                Ok(())
            }
            Err(rule) => self.refuse(hash, height, &rule),
        }
    }

    /// Notes that a block breaks a rule.
    ///
    /// # Errors
    /// The store's.
    pub fn refuse(&mut self, hash: BlockHash, height: u64, rule: &RuleError) -> Result<(), StoreError> {
        self.store.set_status(&hash, BlockStatus::Invalid, Some(&full_message(rule)))?;
        self.tree.set_status(hash, BlockStatus::Invalid);
        tracing::warn!(%hash, height, reason = full_message(rule), "block refused");
        Ok(())
    }

    /// Blocks whose data is here and whose answers are not checked, in the order in which their headers came: what to do
    /// after a restart.
    pub fn unchecked(&self) -> Vec<BlockHash> {
        let unchecked = |node: &TreeNode| node.status == BlockStatus::Received && !self.tree.is_condemned(&node.hash);
        self.tree.iter().filter(unchecked).map(|node| node.hash).collect()
    }

    /// A block's body and the attachments of all its tasks; `None` where any of that is not here.
    ///
    /// # Errors
    /// The store's.
    pub fn block_data(&self, hash: &BlockHash) -> Result<Option<BlockData>, StoreError> {
        Ok(self.kept_data(hash)?.filter(|data| !data.lacks_attachments()))
    }

    /// A block's body with the attachments that are kept; `None` where not even the body is here.
    ///
    /// # Errors
    /// The store's.
    pub fn kept_data(&self, hash: &BlockHash) -> Result<Option<BlockData>, StoreError> {
        let Some(height) = self.tree.get(hash).map(|node| node.height) else { return Ok(None) };
        let Some(body) = self.store.body(height, hash)? else { return Ok(None) };
        let attachments = self.store.attachments(height, hash, &body)?;
        Ok(Some(BlockData { body, attachments }))
    }

    /// Moves the tip to the best block that can be connected, however the chain must be reorganised for that. What is taken
    /// off and what has more work than that go into one write; a long way from there on into several. Blocks that break a rule of the state on the way are refused, and the next best is tried.
    ///
    /// # Errors
    /// The store's; then nothing has moved.
    pub fn advance(&mut self) -> Result<Advance, StoreError> {
        let mut advance = Advance::default();
        loop {
            let (best, tip) = (self.tree.best_candidate(), self.tip());
            if best.work <= tip.work && !self.tree.is_condemned(&tip.hash) {
                return Ok(advance);
            }
            let (best, tip) = (best.hash, tip.hash);
            if best == tip {
                return Ok(advance);
            }
            match self.move_towards(&best)? {
                MoveEnd::Moved(disconnected, connected) => {
                    advance.disconnected.extend(disconnected);
                    advance.connected.extend(connected);
                }
                MoveEnd::Refused(hash, height, rule) => {
                    self.refuse(hash, height, &rule)?;
                    advance.refused.push((hash, height, rule));
                }
                MoveEnd::Awaits(hash, files) => self.await_files(hash, files),
            }
        }
    }

    fn move_towards(&mut self, best: &BlockHash) -> Result<MoveEnd, StoreError> {
        let fork = self.tree.fork_point(&self.tip, best).map_or(self.genesis, |node| node.hash);
        let mut overlay = Overlay::new(&self.store)?;
        let (mut disconnected, mut connected) = (Vec::new(), Vec::new());
        while overlay.tip().hash != fork {
            let hash = overlay.tip().hash;
            let (header, body) = overlay.disconnect_tip()?;
            disconnected.push(Moved { hash, header, body });
        }
        for hash in self.tree.path(&fork, best).unwrap_or_default() {
            let header = self.header(&hash)?;
            let body = self.store.body(header.height, &hash)?;
            let body = body.ok_or_else(|| StoreError::missing("bodies", hash.as_bytes()))?;
            match self.publications(&overlay, &body)? {
                Publications::Good => {}
                Publications::Broken(rule) => return Ok(MoveEnd::Refused(hash, header.height, rule)),
                // What is taken on work is so without its files.
                Publications::Unchecked(_) if self.may_lack_attachments(&hash) => {}
                Publications::Unchecked(files) => return Ok(MoveEnd::Awaits(hash, files)),
            }
            match overlay.connect(&self.network.parameters, &header, &body) {
                Ok(()) => connected.push(Moved { hash, header, body }),
                Err(ConnectError::Rule(rule)) => return Ok(MoveEnd::Refused(hash, header.height, rule)),
                Err(ConnectError::Reader(error)) => return Err(error),
                Err(ConnectError::Tree(error)) => return Err(error.into()),
            }
            // What is left begins at a tip that is better than the old one already.
            if connected.len() >= MAX_CONNECTED_AT_ONCE && self.is_better_than_tip(&hash) {
                break;
            }
        }
        let tip = *overlay.tip();
        self.commit(overlay.into_move(), tip.height)?;
        self.tip = tip.hash;
        Ok(MoveEnd::Moved(disconnected, connected))
    }

    fn is_better_than_tip(&self, hash: &BlockHash) -> bool {
        let tip = self.tip();
        self.tree.get(hash).is_some_and(|node| node.work > tip.work) || self.tree.is_condemned(&tip.hash)
    }

    /// Writes a chain move to a block at that height, for good where somebody may take it for confirmed.
    fn commit(&mut self, chain_move: crate::store::ChainMove, height: u64) -> Result<(), StoreError> {
        let behind = self.tree.best_header().height.saturating_sub(height);
        let due = behind < NEAR_TIP_BLOCKS || self.synced_at.elapsed() >= SYNC_INTERVAL;
        self.store.commit(chain_move, if due { Durability::Synced } else { Durability::Logged })?;
        if due {
            self.synced_at = Instant::now();
        }
        Ok(())
    }

    /// An account at the tip; nothing yet of an unknown one.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, address: &Address) -> Result<Account, StoreError> {
        Ok(self.store.account(address)?.unwrap_or_default())
    }

    /// A header for the block after the tip with these transactions, its nonce still to be found. A transaction that the
    /// state refuses is named by its index.
    ///
    /// # Errors
    /// The rule that a transaction breaks, or the store's error.
    pub fn template(&self, miner: Address, body: &Body, time: u64) -> Result<Header, ConnectError<StoreError>> {
        self.at_tip().map_err(ConnectError::Reader)?.template(&self.network, miner, body, time)
    }

    /// The chain at the tip, for whoever only reads.
    ///
    /// # Errors
    /// The store's.
    pub fn at_tip(&self) -> Result<AtTip, StoreError> {
        let (rows, tip) = (self.store.snapshot(), self.tip());
        let stored = rows.tip()?;
        Ok(AtTip { tip: stored, rows, header: self.header(&tip.hash)?, work: tip.work, anchor: tip.anchor() })
    }
}

/// Where a block's tasks are: index, transaction and claimed answer.
pub fn tasks(body: &Body) -> impl Iterator<Item = (usize, &(ocelli_consensus::Transaction, Answer))> {
    body.transactions.iter().enumerate().filter(|(_, (transaction, _))| transaction.task().is_some())
}
