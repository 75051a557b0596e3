//! An immutable picture of the node, replaced whole: whoever reads waits for nobody.
//!
//! The core shows the newest tip as soon as it is written, before anybody is told of it. The pool replaces the [`View`], which
//! has what is pending beside the tip that it has followed to, so that what is asked about accounts, fees and transactions is
//! of one moment. Both are a few pointers. Rows are read from a snapshot of the store at that tip; a block that is not
//! connected, which no tip shows, is read from the store as it is.
//!
//! A row that is missing here, or a store that cannot be read, fails the question and nothing else: whether the node can go on
//! is for its core to find.

mod answers;
mod ledger;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ocelli_consensus::{BlockHash, ModelId, Network, Parameters};
use ocelli_protocol::mempool::{FeeRates, Pending};

use crate::chain::{AtTip, CheckedFiles};
use crate::dropped;
use crate::network::Peer;

pub use answers::{chain_status, next_rules};
pub use status::Figures;

/// What is pending.
#[derive(Clone)]
pub struct PoolView {
    /// Every pending transaction.
    pub pending: Pending,
    /// Bytes held, attachments included.
    pub bytes: u64,
    /// What it costs to be in one of the next blocks.
    pub fees: Arc<FeeRates>,
    /// What has left the mempool without being in a block.
    pub dropped: dropped::Reasons,
}

/// The node at one moment. A clone shares everything.
#[derive(Clone)]
pub struct View {
    /// The chain at the tip that the pool has followed to.
    pub chain: Arc<AtTip>,
    /// What is pending there.
    pub pool: PoolView,
}

/// How far the core is beyond its tip, and what it waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreFigures {
    /// Height of the header with the most work.
    pub best_height: u64,
    /// The lowest block whose data is missing.
    pub missing: Option<u64>,
    /// The lowest block that is being checked.
    pub checking: Option<u64>,
    /// Published models whose files are being fetched.
    pub files: Vec<ModelId>,
    /// Why this node has to be updated before it can go on.
    pub update: Option<String>,
    /// Blocks that this node's miner has found since the start, and how many of them are off the main chain.
    pub mined: (u64, u64),
    /// Full peers, and the heights of their tips, by their own word.
    pub peers: BTreeMap<Peer, Option<u64>>,
}

/// Where everybody finds the latest.
pub struct Views {
    /// For whoever reads.
    pub network: Network,
    /// The genesis hash.
    pub genesis: BlockHash,
    /// What is known of the files of uploads.
    pub files: Arc<CheckedFiles>,
    view: RwLock<Arc<View>>,
    newest: RwLock<Arc<AtTip>>,
    core: RwLock<Arc<CoreFigures>>,
}

impl Views {
    /// Shows a node that has nothing pending.
    pub fn new(network: Network, files: Arc<CheckedFiles>, chain: Arc<AtTip>) -> Self {
        let view = View { chain: Arc::clone(&chain), pool: PoolView::default() };
        let core = CoreFigures { best_height: chain.tip.height, ..CoreFigures::default() };
        Self {
            genesis: network.genesis_hash(),
            network,
            files,
            view: RwLock::new(Arc::new(view)),
            newest: RwLock::new(chain),
            core: RwLock::new(Arc::new(core)),
        }
    }

    /// The network's.
    pub fn parameters(&self) -> &Parameters {
        &self.network.parameters
    }

    /// The node at the tip that all of it has followed to.
    pub fn view(&self) -> Arc<View> {
        get(&self.view)
    }

    /// The chain at the newest tip: never older than that of the view, and for a moment newer.
    pub fn newest(&self) -> Arc<AtTip> {
        get(&self.newest)
    }

    /// How the core is.
    pub fn core(&self) -> Arc<CoreFigures> {
        get(&self.core)
    }

    /// Replaces the view; for the pool.
    pub fn show(&self, view: View) {
        set(&self.view, view.into());
    }

    /// Replaces the newest tip; for the core.
    pub fn show_tip(&self, chain: Arc<AtTip>) {
        set(&self.newest, chain);
    }

    /// Replaces the core's figures; for the core.
    pub fn show_core(&self, figures: CoreFigures) {
        set(&self.core, figures.into());
    }
}

impl Default for PoolView {
    fn default() -> Self {
        Self {
            pending: Pending::default(),
            bytes: 0,
            fees: Arc::new(FeeRates::default()),
            dropped: dropped::Reasons::default(),
        }
    }
}

/// The lock is held for as long as a pointer is copied, and nothing that can panic happens meanwhile.
fn get<T>(place: &RwLock<Arc<T>>) -> Arc<T> {
    Arc::clone(&place.read().unwrap_or_else(PoisonError::into_inner))
}

fn set<T>(place: &RwLock<Arc<T>>, value: Arc<T>) {
    // What was there is dropped after the lock is: it may be the last that holds a snapshot.
    let before = std::mem::replace(&mut *place.write().unwrap_or_else(PoisonError::into_inner), value);
    drop(before);
}
