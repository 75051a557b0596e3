//! The files of models: put together from the parts of their uploads, checked once, and kept for good when they are published.
//!
//! Parts are attachments of blocks. When the last part of an upload connects, the file is checked on a thread of its own, and what
//! comes of it is remembered for the block that publishes it: that block connects when it is known. Where parts are gone the file
//! is had from peers, by its id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocelli_consensus::hash::PartsHash;
use ocelli_consensus::object::{ModelFacts, StateReader, UploadRecord};
use ocelli_consensus::rules::TransactionError;
use ocelli_consensus::{Action, Address, BlockHash, Body, ModelId, Parameters, RuleError};

use super::{Chain, Moved};
use crate::inference::{built_in, describe_file};
use crate::store::{CHUNK_BYTES, Overlay, Rows, Source, Store, StoreError};

/// Files of which it is remembered what they are: uploads that wait to be published.
const REMEMBERED: usize = 1024;

/// A file that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    pub id: ModelId,
    /// Of the parts that it is cut into.
    pub parts: PartsHash,
    /// What model it holds, and how its author names that; or why none.
    pub facts: Result<(ModelFacts, String), String>,
}

impl CheckedFile {
    /// Checks a file: reads it as `docs/inference.md` says, the proof included, which may take seconds.
    pub fn of(file: &[u8]) -> Self {
        Self { id: ModelId::of(file), parts: PartsHash::of_file(file), facts: describe_file(file) }
    }

    /// Whether the rule *File* lets the file be published as this model from an upload of these parts.
    ///
    /// # Errors
    /// The rule, with what differs.
    pub fn check(&self, model: &ModelId, facts: &ModelFacts, parts: PartsHash) -> Result<(), TransactionError> {
        let reason = match &self.facts {
            _ if self.id != *model => format!("the parts make the file of model {}", self.id),
            _ if self.parts != parts => "the parts are not those of the model's file".into(),
            Err(reason) => reason.clone(),
            Ok((found, _)) if found != facts => format!("the file has {found:?}, declared are {facts:?}"),
            Ok(_) => return Ok(()),
        };
        Err(TransactionError::File { reason })
    }
}

/// What is known of files, for the chain and for whoever admits transactions.
#[derive(Debug, Default)]
pub struct CheckedFiles(Mutex<VecDeque<CheckedFile>>);

impl CheckedFiles {
    /// Remembers a file; the one that was checked first is forgotten where too many are.
    pub fn add(&self, file: CheckedFile) {
        let mut files = self.lock();
        files.retain(|known| known.parts != file.parts);
        if files.len() >= REMEMBERED {
            files.pop_front();
        }
        files.push_back(file);
    }

    /// Whether what an upload's parts make, or a file of this id, has been checked: then what the rule *File* says.
    pub fn verdict(
        &self,
        model: &ModelId,
        facts: &ModelFacts,
        parts: PartsHash,
    ) -> Option<Result<(), TransactionError>> {
        let files = self.lock();
        let known =
            files.iter().find(|file| file.parts == parts).or_else(|| files.iter().find(|file| file.id == *model));
        known.map(|file| file.check(model, facts, parts))
    }

    /// What the author of a model names it, if its file has been checked.
    pub fn name(&self, model: &ModelId) -> Option<String> {
        let files = self.lock();
        let (_, name) = files.iter().find(|file| file.id == *model)?.facts.as_ref().ok()?;
        Some(name.clone())
    }

    /// Whether what an upload's parts make has been checked.
    pub fn knows(&self, parts: PartsHash) -> bool {
        self.lock().iter().any(|file| file.parts == parts)
    }

    /// It is held for as long as a list is looked through.
    fn lock(&self) -> MutexGuard<'_, VecDeque<CheckedFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of a model that the network has from genesis on and this program has built in: it is not kept once more.
pub fn built_in_file(parameters: &Parameters, model: &ModelId) -> Option<&'static [u8]> {
    parameters.genesis_facts(model)?;
    built_in(model).map(|(_, file)| file)
}

/// A finished upload whose file is to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedUpload {
    pub sender: Address,
    pub upload: UploadRecord,
}

impl FinishedUpload {
    /// An upload, if no part is missing.
    pub fn of(sender: Address, upload: UploadRecord) -> Option<Self> {
        (usize::from(upload.next) * CHUNK_BYTES >= upload.size as usize).then_some(Self { sender, upload })
    }
}

/// A model whose file is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedFile {
    pub model: ModelId,
    /// Whose uploads may hold it.
    pub author: Address,
    /// Its bytes.
    pub size: u32,
}

/// What a block's publications are found to be.
pub(super) enum Publications {
    /// All that they need is known, and good.
    Good,
    /// One breaks the rule *File*.
    Broken(RuleError),
    /// These files have not been checked yet.
    Unchecked(Vec<(WantedFile, FinishedUpload)>),
}

/// Blocks that wait for files.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// What the rest of the node is to be told of.
    blocks: BTreeMap<BlockHash, Vec<(WantedFile, FinishedUpload)>>,
}

impl Chain {
    /// What is known of files.
    pub fn checked_files(&self) -> &Arc<CheckedFiles> {
        &self.files
    }

    /// Publications of a block that is to be connected to the overlay's tip.
    pub(super) fn publications(&self, overlay: &Overlay<'_>, body: &Body) -> Result<Publications, StoreError> {
        let mut unchecked = Vec::new();
        for (index, (transaction, _)) in body.transactions.iter().enumerate() {
            let Some((model, facts)) = transaction.unsigned.action.published() else { continue };
            let sender = transaction.sender();
            // Without an upload, or before it is finished, the state refuses the block.
            let upload = overlay.upload(&sender)?.and_then(|upload| FinishedUpload::of(sender, upload));
            let Some(finished) = upload else { continue };
            match self.files.verdict(&model, facts, finished.upload.parts) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Ok(Publications::Broken(error.at(index))),
                None => {
                    let file = WantedFile { model, author: sender, size: facts.size };
                    unchecked.push((file, finished));
                }
            }
        }
        Ok(if unchecked.is_empty() { Publications::Good } else { Publications::Unchecked(unchecked) })
    }

    /// Has a verified block wait until its files are checked.
    pub(super) fn await_files(&mut self, hash: BlockHash, files: Vec<(WantedFile, FinishedUpload)>) {
        self.tree.set_status(hash, ocelli_consensus::fork_choice::BlockStatus::Received);
        self.awaited.blocks.insert(hash, files);
    }

    /// The files that blocks wait for.
    pub fn awaited_files(&self) -> impl Iterator<Item = &(WantedFile, FinishedUpload)> {
        self.awaited.blocks.values().flatten()
    }

    /// Remembers a file that was checked. Whether a block has waited for it, so that the tip may move.
    pub fn file_checked(&mut self, file: CheckedFile) -> bool {
        let (id, parts) = (file.id, file.parts);
        self.files.add(file);
        let is_for =
            |(wanted, finished): &(WantedFile, FinishedUpload)| wanted.model == id || finished.upload.parts == parts;
        let mut blocks = Vec::new();
        self.awaited.blocks.retain(|hash, files| {
            files.retain(|file| !is_for(file));
            if files.is_empty() {
                blocks.push(*hash);
            }
            !files.is_empty()
        });
        for hash in &blocks {
            self.tree.set_status(*hash, ocelli_consensus::fork_choice::BlockStatus::Verified);
        }
        !blocks.is_empty()
    }

    /// The uploads that connected blocks have finished, if what they hold is not known.
    ///
    /// # Errors
    /// The store's.
    pub fn finished_uploads(&self, connected: &[Moved]) -> Result<Vec<FinishedUpload>, StoreError> {
        let mut senders = std::collections::BTreeSet::new();
        for (transaction, _) in connected.iter().flat_map(|block| &block.body.transactions) {
            if matches!(transaction.unsigned.action, Action::Part { .. }) {
                senders.insert(transaction.sender());
            }
        }
        let mut finished = Vec::new();
        for sender in senders {
            let upload = self.store.upload(&sender)?.and_then(|upload| FinishedUpload::of(sender, upload));
            finished.extend(upload.filter(|finished| !self.files.knows(finished.upload.parts)));
        }
        Ok(finished)
    }
}

/// The files that connected blocks have published.
pub fn published_files(connected: &[Moved]) -> impl Iterator<Item = WantedFile> {
    let transactions = connected.iter().flat_map(|block| &block.body.transactions);
    transactions.filter_map(|(transaction, _)| {
        let (model, facts) = transaction.unsigned.action.published()?;
        Some(WantedFile { model, author: transaction.sender(), size: facts.size })
    })
}

/// What a finished upload holds; `None` where a part of it is gone.
///
/// # Errors
/// The store's.
pub fn assemble(store: &Store, finished: &FinishedUpload) -> Result<Option<Vec<u8>>, StoreError> {
    let FinishedUpload { sender, upload } = finished;
    let file = parts(store, sender, upload.since, upload.size)?;
    // After a reorganisation other parts may stand there.
    Ok(file.filter(|file| PartsHash::of_file(file) == upload.parts))
}

/// A model's file from one of its author's uploads; `None` where parts of it are gone.
///
/// # Errors
/// The store's.
pub fn assemble_published(store: &Store, wanted: &WantedFile) -> Result<Option<Vec<u8>>, StoreError> {
    for since in store.uploads_of(&wanted.author)? {
        if let Some(file) = parts(store, &wanted.author, since, wanted.size)?
            && ModelId::of(&file) == wanted.model
        {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// The parts of an upload one after the other, if they are all here and make so many bytes.
fn parts<S: Source>(rows: &Rows<S>, sender: &Address, since: u64, size: u32) -> Result<Option<Vec<u8>>, StoreError> {
    let mut file = Vec::new();
    for number in (0..=u16::MAX).take((size as usize).div_ceil(CHUNK_BYTES)) {
        let Some(place) = rows.part(sender, since, number)? else { return Ok(None) };
        let Some(part) = rows.attachment_at(place.height, &place.block, place.index)? else { return Ok(None) };
        file.extend_from_slice(&part);
    }
    Ok((file.len() == size as usize).then_some(file))
}
