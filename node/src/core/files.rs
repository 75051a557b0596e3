//! Files of models: checked when an upload is finished, kept when it is published, and fetched where its parts are gone. Those of
//! genesis models that are not built in are fetched, too.
//!
//! What takes long, putting a file together and reading it as a model, is for a thread of its own, one file after the other: it
//! holds a file, at most 64 MiB, and what the proof of it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use ocelli_consensus::object::{ModelFacts, ModelRecord, StateReader as _};
use ocelli_consensus::{BlockHash, ModelId};
use ocelli_protocol::files::{self, FilesAction};

use super::{Asked, Core, Input};
use crate::chain::{
    CheckedFile, CheckedFiles, FinishedUpload, Moved, WantedFile, assemble, assemble_published, built_in_file,
    published_files,
};
use crate::error::NodeError;
use crate::inference::describe_file;
use crate::network::Peer;
use crate::offence::misbehaviour;
use crate::store::{Store, StoreError};

/// Files that wait for the thread beyond which none is checked for who wants to publish it.
const MAX_ASKED: usize = 16;
/// The name of the thread.
const THREAD: &str = "files";

/// What the thread is given.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    /// Find out what an upload holds.
    Check(FinishedUpload),
    /// Keep what was published.
    Keep(WantedFile),
    /// Keep, and check, what a peer has sent for a model. Of a genesis model the network says what it has to be.
    Take(Vec<u8>, Option<ModelFacts>),
}

/// What became of it.
#[derive(Debug)]
pub enum Done {
    Checked {
        /// `None` where a part is gone.
        file: Option<CheckedFile>,
    },
    /// Whether its parts were all here.
    Kept { model: ModelId, is_here: bool },
    /// A file of a peer is here now.
    Taken(CheckedFile),
    /// The file of a genesis model is not what the network says of it.
    Differs { model: ModelId, found: String, expected: ModelFacts },
}

/// Work on files, and who waits for them.
pub(super) struct Files {
    machine: files::Files<Peer>,
    pub(super) inputs: VecDeque<files::Input<Peer>>,
    /// When the machine wants to be woken, in monotonic milliseconds.
    pub(super) wake_at: Option<u64>,
    jobs: VecDeque<Job>,
    /// At work on one of them.
    thread: Option<JoinHandle<()>>,
    /// To be had from peers.
    wanted: BTreeMap<ModelId, u32>,
    /// Blocks whose answers are to be checked with models whose files are not here.
    waiting: BTreeMap<ModelId, BTreeSet<BlockHash>>,
}

impl Files {
    pub(super) fn new() -> Self {
        Self {
            machine: files::Files::new(),
            inputs: VecDeque::new(),
            wake_at: None,
            jobs: VecDeque::new(),
            thread: None,
            wanted: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Waits for the thread, so that the store is closed when the core is gone.
    fn join(&mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }

    /// The models whose files are to be had from peers.
    pub(super) fn wanted(&self) -> impl Iterator<Item = ModelId> {
        self.wanted.keys().copied()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What it has not done is looked for with the next start.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Core {
    /// Looks which files of models are not here: after a start, some may be.
    pub(super) fn look_for_files(&mut self) -> Result<(), NodeError> {
        let store = Arc::clone(self.chain.store());
        for row in store.models(&ModelId([0; 32])) {
            let (model, record) = row?;
            self.keep(model, &record)?;
        }
        self.next_job();
        Ok(())
    }

    /// Has a model's file kept if it is not.
    fn keep(&mut self, model: ModelId, record: &ModelRecord) -> Result<(), StoreError> {
        if built_in_file(self.chain.parameters(), &model).is_none() && !self.chain.store().has_file(&model)? {
            let file = WantedFile { model, author: record.author, size: record.facts.size };
            self.files.jobs.push_back(Job::Keep(file));
        }
        Ok(())
    }

    /// Follows blocks that were connected.
    pub(super) fn follow_files(&mut self, connected: &[Moved]) -> Result<(), StoreError> {
        let finished = self.chain.finished_uploads(connected)?;
        self.files.jobs.extend(finished.into_iter().map(Job::Check));
        for file in published_files(connected) {
            if !self.chain.store().has_file(&file.model)? {
                self.files.jobs.push_back(Job::Keep(file));
            }
        }
        let awaited: Vec<_> = self.chain.awaited_files().cloned().collect();
        for (file, finished) in awaited {
            // From peers, if its parts turn out to be gone; it is known to be wanted already.
            let job = Job::Check(finished);
            if !self.files.jobs.contains(&job) && !self.files.wanted.contains_key(&file.model) {
                self.files.jobs.push_back(job);
            }
        }
        self.next_job();
        Ok(())
    }

    /// Has a file checked that somebody wants to publish, unless there is much to do: then they ask again.
    pub(super) fn check_file(&mut self, finished: FinishedUpload) {
        let (is_known, job) = (self.chain.checked_files().knows(finished.upload.parts), Job::Check(finished));
        if !is_known && self.files.jobs.len() < MAX_ASKED && !self.files.jobs.contains(&job) {
            self.files.jobs.push_back(job);
            self.next_job();
        }
    }

    /// Has a block wait for a model's file.
    pub(super) fn wait_for_file(&mut self, model: ModelId, block: BlockHash) {
        self.files.waiting.entry(model).or_default().insert(block);
    }

    /// Gives the thread its next work.
    fn next_job(&mut self) {
        if self.files.thread.is_some() {
            return;
        }
        let Some(job) = self.files.jobs.pop_front() else { return };
        let (store, inbox) = (Arc::clone(self.chain.store()), self.others.inbox.clone());
        let known = Arc::clone(self.chain.checked_files());
        let work = move || {
            let done = job.run(&store, &known);
            // The store is closed when nobody has it.
            drop(store);
            inbox.reply(Input::File(done));
        };
        match std::thread::Builder::new().name(THREAD.into()).spawn(work) {
            Ok(thread) => self.files.thread = Some(thread),
            // It is looked for again with the next start; blocks that wait for it wait.
            Err(error) => tracing::error!(%error, "no thread can be started for the file of a model"),
        }
    }

    pub(super) fn on_file(&mut self, done: Result<Done, StoreError>) -> Result<(), NodeError> {
        self.files.join();
        match done? {
            Done::Checked { file: Some(file) } => self.file_checked(file)?,
            Done::Checked { file: None } => {
                // Blocks that wait for what cannot be put together here wait for peers.
                let awaited: Vec<_> = self.chain.awaited_files().map(|(file, _)| (file.model, file.size)).collect();
                self.files.wanted.extend(awaited);
                self.want_files();
            }
            Done::Kept { model, is_here: true } => self.file_is_here(model),
            Done::Kept { model, is_here: false } => {
                if let Some(record) = self.chain.store().model(&model)? {
                    if self.chain.parameters().genesis_facts(&model).is_some() {
                        tracing::warn!(
                            %model,
                            "the file of a model that the network has from its beginning is neither built in nor here: peers \
                             are asked for it, and --model-file FILE gives it"
                        );
                    }
                    self.files.wanted.insert(model, record.facts.size);
                    self.want_files();
                }
            }
            Done::Differs { model, found, expected } => {
                let (network, expected) = (self.chain.parameters().name.clone(), format!("{expected:?}"));
                return Err(NodeError::ModelDiffers { network, model, found, expected });
            }
            Done::Taken(file) => {
                self.file_is_here(file.id);
                self.file_checked(file)?;
            }
        }
        self.next_job();
        self.drive()
    }

    fn file_checked(&mut self, file: CheckedFile) -> Result<(), NodeError> {
        match &file.facts {
            Ok(_) => tracing::info!(model = %file.id, "the file of a model was checked"),
            Err(reason) => tracing::info!(file = %file.id, reason, "what was uploaded is no model"),
        }
        if self.chain.file_checked(file) {
            self.advance()?;
        }
        Ok(())
    }

    /// Goes on with what has waited for a file.
    fn file_is_here(&mut self, model: ModelId) {
        tracing::info!(%model, "the file of a model is kept");
        if self.files.wanted.remove(&model).is_some() {
            self.want_files();
        }
        self.unchecked.blocks.extend(self.files.waiting.remove(&model).into_iter().flatten());
    }

    /// Tells the machine what is wanted: first what blocks wait for.
    fn want_files(&mut self) {
        let mut wanted: Vec<_> = self.files.wanted.iter().map(|(model, size)| (*model, *size)).collect();
        let awaited: BTreeSet<_> = self.chain.awaited_files().map(|(file, _)| file.model).collect();
        let waiting = &self.files.waiting;
        wanted.sort_by_key(|(model, _)| (!awaited.contains(model), !waiting.contains_key(model)));
        self.files.inputs.push_back(files::Input::Wanted(wanted));
    }

    pub(super) fn handle_files(&mut self, input: files::Input<Peer>, now: u64) -> Vec<FilesAction<Peer>> {
        self.files.machine.handle(input, now)
    }

    pub(super) fn carry_out_files(&mut self, output: FilesAction<Peer>) {
        match output {
            FilesAction::Send { peer, id, request } => self.asking.ask(peer, &request, Asked::Files(id)),
            FilesAction::File { model, peer, bytes } => {
                tracing::info!(%peer, %model, bytes = bytes.len(), "the file of a model has come");
                let facts = self.chain.parameters().genesis_facts(&model);
                self.files.jobs.push_front(Job::Take(bytes, facts));
                self.next_job();
            }
            FilesAction::Unavailable(model) => tracing::warn!(%model, "no peer gives the file of a model"),
            FilesAction::Penalize { peer, offence } => {
                if self.logs.complaints.has_room() {
                    tracing::warn!(%peer, ?offence, "a peer is to blame for the file of a model");
                }
                self.penalize(peer, misbehaviour(offence));
            }
            FilesAction::WakeAt(at) => self.files.wake_at = Some(at),
        }
    }

    /// Wakes the machine when it is time.
    pub(super) fn wake_files(&mut self, now: u64) -> Result<(), NodeError> {
        match self.files.wake_at.take_if(|at| *at <= now) {
            Some(_) => {
                self.files.inputs.push_back(files::Input::Woken);
                self.drive()
            }
            None => Ok(()),
        }
    }
}

impl Job {
    fn run(self, store: &Store, known: &CheckedFiles) -> Result<Done, StoreError> {
        Ok(match self {
            Self::Check(finished) => {
                let file = assemble(store, &finished)?;
                Done::Checked { file: file.map(|file| CheckedFile::of(&file)) }
            }
            Self::Keep(wanted) => {
                let file = assemble_published(store, &wanted)?;
                let is_here = file.is_some();
                if let Some(file) = file {
                    let name = known.name(&wanted.model);
                    let described = || describe_file(&file).map(|(_, name)| name).unwrap_or_default();
                    store.add_file(&file, &name.unwrap_or_else(described))?;
                }
                Done::Kept { model: wanted.model, is_here }
            }
            Self::Take(file, genesis) => {
                let checked = CheckedFile::of(&file);
                match (genesis, &checked.facts) {
                    (Some(expected), Ok((facts, _))) if *facts != expected => {
                        return Ok(Done::Differs { model: checked.id, found: format!("{facts:?}"), expected });
                    }
                    (Some(expected), Err(reason)) => {
                        return Ok(Done::Differs { model: checked.id, found: reason.clone(), expected });
                    }
                    _ => {}
                }
                let name = checked.facts.as_ref().map_or("", |(_, name)| name);
                store.add_file(&file, name)?;
                Done::Taken(checked)
            }
        })
    }
}
