//! `ocelli chain verify`: everything again, as if nothing had ever been checked.

use std::path::Path;

use ocelli_consensus::fork_choice::HeaderTree;
use ocelli_consensus::history::Peaks;
use ocelli_consensus::transition::{ConnectError, append_header};
use ocelli_consensus::{BlockHash, Header, Network, Root, RuleError};
use ocelli_protocol::message::BlockData;

use super::answers::Answers;
use super::{BadBlock, Progress};
use crate::chain::{BodyCheck, has_all_pixels};
use crate::inference::{Handle, InferenceError};
use crate::store::{Durability, Extent, Kept, Overlay, Store, StoreError, StoreOptions, Tip};
use crate::validation::Claims;

/// Blocks whose state changes are held in memory at most.
const BLOCKS_A_WRITE: usize = 256;

/// A chain that has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its tip, and with it all that the tip commits to.
    pub tip: Tip,
    /// What was there to be verified: headers always, bodies and state from [`Kept::bodies_from`] on, answers where there
    /// are pixels.
    pub kept: Kept,
    /// Answers that were computed again.
    pub tasks: u64,
    /// Tasks without pixels, whose answers were taken as they are.
    pub unchecked: u64,
}

/// What is wrong with a data folder.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first block that breaks a rule, or is not there.
    #[error("the chain is not valid")]
    Bad(#[from] BadBlock),
    /// The blocks are good, and what the store derived from them is something else.
    #[error("the blocks are good, and column {column} is not what follows from them: row {key} differs")]
    Differs {
        column: &'static str,
        /// The first key that differs, in hex.
        key: String,
    },
    /// The store cannot be read, or the copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answers cannot be computed here.
    #[error("the answers cannot be checked")]
    Inference(#[from] InferenceError),
}

/// Replays the main chain of a store, inference included: every header from genesis, and every body, signature, answer and
/// state as far back as bodies are kept. The state is made anew in `scratch`, an empty folder on the same disk: from
/// genesis, or where old bodies were pruned from a copy wound back to the first block that has one. Then what the store
/// derived from the blocks is compared with it, row by row. The store is only read.
///
/// # Errors
/// [`VerifyError`]; of several bad blocks the lowest.
pub fn verify(
    store: &Store,
    network: &Network,
    scratch: &Path,
    inference: &Handle,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verified, VerifyError> {
    let (tip, kept) = (store.tip()?, store.kept()?);
    let copy = wound_back(store, network, scratch, kept)?;
    let mut replay = Replay {
        store,
        network,
        check: BodyCheck::new(network),
        kept,
        tree: HeaderTree::new(&network.genesis),
        peaks: Peaks::default(),
        answers: Answers::new(inference),
        tasks: 0,
        unchecked: 0,
    };
    let mut report = |height: u64, tasks: u64| progress(Progress { blocks: height, of: tip.height, tasks });
    append_header(&mut replay.peaks, &network.genesis).map_err(|error| replay.bad(&network.genesis, error))?;

    let mut height = 1;
    while height < kept.bodies_from.min(tip.height.saturating_add(1)) {
        let header = replay.header_at(height)?;
        replay.check_header(&header)?;
        report(height, 0);
        height += 1;
    }
    while height <= tip.height {
        let mut overlay = Overlay::new(&copy)?;
        let mut headers = Vec::new();
        while height <= tip.height && headers.len() < BLOCKS_A_WRITE {
            let header = replay.header_at(height)?;
            match replay.block(&header, &mut overlay) {
                Err(VerifyError::Bad(bad)) => {
                    return Err(match replay.settle_all() {
                        // One below had wrong answers that were not looked at yet.
                        Err(VerifyError::Bad(lower)) if lower.height < bad.height => lower.into(),
                        _ => bad.into(),
                    });
                }
                result => result?,
            }
            report(height, replay.tasks);
            headers.push(header);
            height += 1;
        }
        copy.add_headers(&headers)?;
        copy.commit(overlay.into_move(), Durability::Logged)?;
    }
    replay.settle_all()?;
    let Replay { tasks, unchecked, .. } = replay;
    report(tip.height, tasks);

    if let Some((column, key)) = store.first_difference(&copy)? {
        return Err(VerifyError::Differs { column, key: hex::encode(key) });
    }
    Ok(Verified { tip, kept, tasks, unchecked })
}

/// A store with the state before the first block whose body is kept.
fn wound_back(store: &Store, network: &Network, scratch: &Path, kept: Kept) -> Result<Store, StoreError> {
    let path = scratch.join("chain");
    if kept.bodies_from <= 1 {
        return Store::open(&path, network);
    }
    store.copy_to(&path)?;
    let copy = Store::open_existing(&path, network, StoreOptions::default())?;
    while copy.tip()?.height >= kept.bodies_from {
        let mut overlay = Overlay::new(&copy)?;
        for _ in 0..BLOCKS_A_WRITE {
            if overlay.tip().height < kept.bodies_from {
                break;
            }
            overlay.disconnect_tip()?;
        }
        copy.commit(overlay.into_move(), Durability::Logged)?;
    }
    Ok(copy)
}

struct Replay<'a> {
    store: &'a Store,
    network: &'a Network,
    check: BodyCheck,
    kept: Kept,
    tree: HeaderTree,
    /// The history up to the last header that was checked, it included.
    peaks: Peaks,
    answers: Answers<'a>,
    tasks: u64,
    unchecked: u64,
}

impl Replay<'_> {
    fn header_at(&self, height: u64) -> Result<Header, VerifyError> {
        let missing = || StoreError::missing("heights", &height.to_be_bytes());
        let hash = self.store.hash_at(height)?.ok_or_else(missing)?;
        let (header, _) = self.store.header(&hash)?.ok_or_else(|| StoreError::missing("arrivals", hash.as_bytes()))?;
        if header.hash() != hash || header.height != height {
            return Err(self.bad(&header, format!("the store has it as block {hash} at height {height}")).into());
        }
        Ok(header)
    }

    /// Proof of work, difficulty, time and version; and the history of all headers before it.
    fn check_header(&mut self, header: &Header) -> Result<(), VerifyError> {
        let found = self.peaks.root().map_err(|error| self.bad(header, error))?;
        if Root(found) != header.history {
            let text = format!("the history before it has root {}, the header says {}", Root(found), header.history);
            return Err(self.bad(header, text).into());
        }
        let parameters = &self.network.parameters;
        self.tree.insert(parameters, header).map_err(|error| BadBlock::new(header.hash(), header.height, error))?;
        append_header(&mut self.peaks, header).map_err(|error| self.bad(header, error))?;
        Ok(())
    }

    fn block(&mut self, header: &Header, overlay: &mut Overlay<'_>) -> Result<(), VerifyError> {
        self.check_header(header)?;
        let (hash, height) = (header.hash(), header.height);
        let body = self.store.body(height, &hash)?.ok_or_else(|| self.bad(header, "its body is missing"))?;
        let pixels = self.store.pixels(height, &hash, &body)?;
        let data = BlockData { body, pixels };
        let may_lack = height < self.kept.pixels_from && !has_all_pixels(&data);
        let checked = if may_lack { Extent::OnWork } else { Extent::Body };
        self.check.check(header, &data, checked, &|_| false).map_err(|error| self.bad(header, error))?;
        self.unchecked += data
            .body
            .transactions
            .iter()
            .zip(&data.pixels)
            .filter(|((transaction, _), pixels)| transaction.task().is_some() && pixels.is_none())
            .count() as u64;
        self.answers.check(hash, height, Claims::of(&data.body, &data.pixels));
        match overlay.connect(&self.network.parameters, header, &data.body) {
            Ok(()) => {}
            Err(ConnectError::Rule(rule)) => return Err(self.bad(header, rule).into()),
            Err(ConnectError::Reader(error)) => return Err(error.into()),
            Err(ConnectError::Tree(error)) => return Err(StoreError::from(error).into()),
        }
        while self.answers.is_full() {
            self.settle()?;
        }
        Ok(())
    }

    /// Takes the verdict on the oldest answers; `false` if none are out.
    fn settle(&mut self) -> Result<bool, VerifyError> {
        let Some(checked) = self.answers.next() else { return Ok(false) };
        let checked = checked?;
        self.tasks += checked.tasks;
        let wrong = |rule: RuleError| BadBlock::new(checked.hash, checked.height, rule);
        checked.answers.map_err(wrong)?;
        Ok(true)
    }

    fn settle_all(&mut self) -> Result<(), VerifyError> {
        while self.settle()? {}
        Ok(())
    }

    fn bad(&self, header: &Header, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BadBlock {
        let hash: BlockHash = header.hash();
        BadBlock::new(hash, header.height, source)
    }
}
