//! Blocks taken as fast as they come: while the answers of some are with inference and another is stored, the next are checked
//! by themselves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{BlockHash, ModelId, RuleError};
use ocelli_protocol::message::BlockData;

use super::BadBlock;
use super::answers::{Answers, CheckedBlock};
use crate::chain::{AcceptError, BodyError, Chain, CheckedFile, Moved, assemble, assemble_published, published_files};
use crate::inference::{InferenceError, InferenceHandle};
use crate::store::StoreError;
use crate::validation::{CheckedBody, Claims};

/// Why a block is not taken. Those that were given before it are on the chain.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// These bytes are not what the block hash commits to.
    #[error("not the data of block {hash} at height {height}")]
    NotTheBlock { hash: BlockHash, height: u64, source: Box<BodyError> },
    /// A block is not valid.
    #[error("found a block that is not valid")]
    Bad(#[from] BadBlock),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A published model's file is in neither the blocks nor the store.
    #[error(
        "block {hash} at height {height} cannot be checked: the file of model {model} is not here; start the node, which fetches it"
    )]
    File {
        /// The block that publishes it.
        hash: BlockHash,
        height: u64,
        model: ModelId,
    },
    /// The answers cannot be computed here.
    #[error("the answers cannot be checked")]
    Inference(#[from] InferenceError),
}

/// Blocks that are checked by themselves at a time: enough that all cores have something to check while one block is stored and
/// connected.
const MAX_BODIES: usize = 6;

/// Takes block after block whose headers are on the chain already.
pub struct Intake<'a> {
    chain: &'a mut Chain,
    bodies: VecDeque<Body>,
    answers: Answers<'a>,
    tasks: u64,
    blocks: u64,
}

/// A block that is being checked by itself.
struct Body {
    hash: BlockHash,
    height: u64,
    checked: Receiver<CheckedBody>,
}

impl<'a> Intake<'a> {
    /// Begins at the chain's tip.
    pub fn new(chain: &'a mut Chain, inference: &'a InferenceHandle) -> Self {
        Self { chain, bodies: VecDeque::new(), answers: Answers::new(inference), tasks: 0, blocks: 0 }
    }

    /// Checks the answers of stored blocks that a process which has ended did not come to. What is found of them is noted in the
    /// chain.
    ///
    /// # Errors
    /// The store's and inference's.
    pub fn take_left_over(&mut self) -> Result<(), IntakeError> {
        loop {
            match self.check_left_over() {
                // One less is left, and what stands on it.
                Err(IntakeError::Bad(_)) => {}
                result => {
                    self.chain.advance()?;
                    (self.tasks, self.blocks) = (0, 0);
                    return result;
                }
            }
        }
    }

    fn check_left_over(&mut self) -> Result<(), IntakeError> {
        for hash in self.chain.unchecked() {
            let Some(height) = self.chain.tree().get(&hash).map(|node| node.height) else { continue };
            let Some(data) = self.chain.block_data(&hash)? else { continue };
            self.answers.check(hash, height, Claims::of(&data));
            while self.answers.is_full() {
                self.settle()?;
            }
        }
        while self.settle()? {}
        Ok(())
    }

    /// The chain as it is now, some of what was given not yet on it.
    pub fn chain(&self) -> &Chain {
        self.chain
    }

    /// Whether a block's header is here and its data are not, nor have been given.
    pub fn wants(&self, hash: &BlockHash) -> bool {
        self.chain.wants(hash) && self.bodies.iter().all(|body| body.hash != *hash)
    }

    /// Answers that have been checked.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Takes a block, the parent of the next.
    ///
    /// # Errors
    /// [`IntakeError`], also of a block that was taken before and is known to be bad by now: of several the lowest, and what was
    /// given after it is forgotten.
    pub fn take(&mut self, hash: BlockHash, height: u64, data: BlockData) -> Result<(), IntakeError> {
        let header = if self.wants(&hash) { self.chain.wanted(&hash)? } else { None };
        let Some(header) = header else {
            return Err(BadBlock::new(hash, height, AcceptError::NotWanted(hash)).into());
        };
        let models = data.body.models();
        let setting = loop {
            match self.chain.setting(&header, &models)? {
                Some(setting) => break setting,
                // It may name a model that a block publishes which is not stored yet.
                None if self.store_and_settle()? => {}
                None => return Err(BadBlock::new(hash, height, AcceptError::Early(hash)).into()),
            }
        };
        let (extent, check) = (self.chain.extent(&hash, &data), self.chain.body_check().clone());
        let (send, checked) = mpsc::channel();
        rayon::spawn_fifo(move || {
            // An error only says that nobody waits any more.
            drop(send.send(CheckedBody::of(&check, None, &header, data, extent, &setting, &BTreeSet::new())));
        });
        self.bodies.push_back(Body { hash, height, checked });
        while self.bodies.len() >= MAX_BODIES {
            self.store_and_settle()?;
        }
        Ok(())
    }

    /// Waits until all is on the chain, and says how many blocks that makes.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub fn finish(&mut self) -> Result<u64, IntakeError> {
        while self.store_and_settle()? {}
        while self.settle()? {}
        Ok(self.blocks)
    }

    /// Blocks that have been put on the chain or beside it.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Stores the oldest block; where that is bad, those before it are brought to their end first.
    fn store_and_settle(&mut self) -> Result<bool, IntakeError> {
        let stored = self.store();
        if matches!(stored, Err(IntakeError::Bad(_) | IntakeError::NotTheBlock { .. })) {
            self.bodies.clear();
            // Of two bad ones, that is the lower.
            while self.settle()? {}
        }
        stored
    }

    /// Stores the oldest block that was checked by itself, and has its answers checked; `false` if there is none.
    fn store(&mut self) -> Result<bool, IntakeError> {
        let Some(Body { hash, height, checked }) = self.bodies.pop_front() else { return Ok(false) };
        let CheckedBody { data, extent, result, claims, .. } =
            checked.recv().expect("a check ends, and does not panic");
        match self.chain.accept_checked(hash, &data, extent, result) {
            Ok(()) => {}
            Err(AcceptError::Store(error)) => return Err(error.into()),
            Err(AcceptError::NotTheBlock { source, .. }) => {
                return Err(IntakeError::NotTheBlock { hash, height, source: source.into() });
            }
            Err(AcceptError::Refused { source, .. }) => return Err(BadBlock::new(hash, height, source).into()),
            Err(error @ (AcceptError::NotWanted(_) | AcceptError::Early(_))) => {
                return Err(BadBlock::new(hash, height, error).into());
            }
        }
        // The file of a model is here when the block that publishes it is connected.
        let mut models = claims.claims.iter().map(|(task, _)| task.model()).collect::<BTreeSet<_>>();
        let genesis = &self.chain.parameters().models;
        models.retain(|model| genesis.iter().all(|known| known.id != *model));
        for model in models {
            if !self.chain.store().has_file(&model)? {
                while self.settle()? {}
            }
        }
        self.answers.check(hash, height, claims);
        while self.answers.is_full() {
            self.settle()?;
        }
        Ok(true)
    }

    /// Takes the verdict on the oldest answers and moves the tip; `false` if none are out.
    fn settle(&mut self) -> Result<bool, IntakeError> {
        let Some(checked) = self.answers.next() else { return Ok(false) };
        let CheckedBlock { hash, height, tasks, answers } = checked?;
        let result = self.settle_one(hash, height, answers);
        match result {
            Ok(()) => (self.tasks, self.blocks) = (self.tasks + tasks, self.blocks + 1),
            // What comes after it stands on it.
            Err(IntakeError::Bad(_)) => {
                self.bodies.clear();
                self.answers.forget();
            }
            Err(_) => {}
        }
        result.map(|()| true)
    }

    /// Checks and keeps the files that blocks have finished, published or wait for. Whether the tip may move for that.
    fn take_files(&mut self, connected: &[Moved]) -> Result<bool, IntakeError> {
        let store = Arc::clone(self.chain.store());
        for finished in self.chain.finished_uploads(connected)? {
            if let Some(file) = assemble(&store, &finished)? {
                self.chain.file_checked(CheckedFile::of(&file));
            }
        }
        for wanted in published_files(connected) {
            if !store.has_file(&wanted.model)?
                && let Some(file) = assemble_published(&store, &wanted)?
            {
                store.add_file(&file, &self.chain.checked_files().name(&wanted.model).unwrap_or_default())?;
            }
        }
        let awaited = self.chain.awaited_files().next().cloned();
        let Some((wanted, finished)) = awaited else { return Ok(false) };
        let file = match assemble(&store, &finished)? {
            Some(file) => Some(file),
            None => store.file(&wanted.model)?,
        };
        match file {
            Some(file) => Ok(self.chain.file_checked(CheckedFile::of(&file))),
            None => {
                let tip = self.chain.tip();
                Err(IntakeError::File { hash: tip.hash, height: tip.height + 1, model: wanted.model })
            }
        }
    }

    fn settle_one(&mut self, hash: BlockHash, height: u64, answers: Result<(), RuleError>) -> Result<(), IntakeError> {
        // One that was taken on work is verified already.
        if self.chain.tree().get(&hash).is_some_and(|node| node.status == BlockStatus::Received) {
            self.chain.set_answers(hash, answers.clone())?;
        }
        answers.map_err(|rule| BadBlock::new(hash, height, rule))?;
        let mut refused = Vec::new();
        loop {
            let advance = self.chain.advance()?;
            refused.extend(advance.refused);
            if !self.take_files(&advance.connected)? {
                break;
            }
        }
        self.chain.prune()?;
        // Other branches that were here before are no fault of this one.
        if !self.chain.tree().is_condemned(&hash) {
            return Ok(());
        }
        Err(match refused.into_iter().next() {
            Some((hash, height, rule)) => BadBlock::new(hash, height, rule),
            None => BadBlock::new(hash, height, "it stands on a block that is not valid"),
        }
        .into())
    }
}
