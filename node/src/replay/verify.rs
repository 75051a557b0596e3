//! `ocelli chain verify`: everything again, as if nothing had ever been checked.

use std::collections::BTreeMap;
use std::path::Path;

use ocelli_consensus::fork_choice::HeaderTree;
use ocelli_consensus::history::Peaks;
use ocelli_consensus::object::StateReader as _;
use ocelli_consensus::transition::{ConnectError, append_header};
use ocelli_consensus::{BlockHash, Body, Header, Network, Root, RuleError};
use ocelli_protocol::message::BlockData;

use super::answers::Answers;
use super::{BadBlock, Progress};
use crate::chain::{BodyCheck, CheckedFile, Setting};
use crate::inference::{InferenceError, InferenceHandle};
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
    /// are attachments.
    pub kept: Kept,
    /// Answers that were computed again.
    pub tasks: u64,
    /// Tasks without attachments, whose answers were taken as they are.
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
    inference: &InferenceHandle,
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
        let (hash, header) = self.store.main_header(height)?;
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
        self.tree.insert(self.network, header).map_err(|error| BadBlock::new(header.hash(), header.height, error))?;
        append_header(&mut self.peaks, header).map_err(|error| self.bad(header, error))?;
        Ok(())
    }

    fn block(&mut self, header: &Header, overlay: &mut Overlay<'_>) -> Result<(), VerifyError> {
        self.check_header(header)?;
        let (hash, height) = (header.hash(), header.height);
        let body = self.store.body(height, &hash)?.ok_or_else(|| self.bad(header, "its body is missing"))?;
        let attachments = self.store.attachments(height, &hash, &body)?;
        let data = BlockData { body, attachments };
        let checked = if data.lacks_attachments() { self.lacking(height, &hash, &data)? } else { Extent::Body };
        let setting = self.setting(header, &data.body, overlay)?;
        self.check.check(header, &data, checked, &setting, &|_| false).map_err(|error| self.bad(header, error))?;
        let claims = Claims::of(&data);
        let tasks = data.body.transactions.iter().filter(|(transaction, _)| transaction.task().is_some()).count();
        self.unchecked += (tasks - claims.places.len()) as u64;
        self.answers.check(hash, height, claims);
        self.check_files(header, &data.body, overlay)?;
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

    /// How far a block can be checked that lacks attachments: those that the owner has forgotten may lack everywhere.
    fn lacking(&self, height: u64, hash: &BlockHash, data: &BlockData) -> Result<Extent, VerifyError> {
        if height < self.kept.attachments_from {
            return Ok(Extent::OnWork);
        }
        for ((transaction, _), attachment) in data.body.transactions.iter().zip(&data.attachments) {
            if let (Some(named), None) = (transaction.attachment(), attachment)
                && !self.store.is_forgotten(&named.hash)?
            {
                let text = format!("attachment {} is missing", named.hash);
                return Err(BadBlock::new(*hash, height, text).into());
            }
        }
        Ok(Extent::OnWork)
    }

    /// What a block on the overlay's tip is checked by: records never change and never go on a branch.
    fn setting(&self, header: &Header, body: &Body, overlay: &Overlay<'_>) -> Result<Setting, VerifyError> {
        let mut setting =
            Setting { place: self.network.place_after(overlay.header(), header.miner), models: BTreeMap::new() };
        for model in body.models() {
            if let Some(record) = overlay.model(&model)? {
                setting.models.insert(model, record);
            }
        }
        Ok(setting)
    }

    /// Checks the files that a block publishes, which are kept whatever else is not.
    fn check_files(&self, header: &Header, body: &Body, overlay: &Overlay<'_>) -> Result<(), VerifyError> {
        for (index, (transaction, _)) in body.transactions.iter().enumerate() {
            let Some((model, facts)) = transaction.unsigned.action.published() else { continue };
            // Without an upload the state refuses the block.
            let Some(upload) = overlay.upload(&transaction.sender())? else { continue };
            let file = self.store.file(&model)?;
            let file = file.ok_or_else(|| self.bad(header, format!("the file of model {model} is missing")))?;
            let checked = CheckedFile::of(&file).check(&model, facts, upload.parts);
            checked.map_err(|error| self.bad(header, error.at(index)))?;
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
