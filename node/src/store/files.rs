//! The files of published models: kept for good, whatever else is pruned, in chunks as peers are given them.

use ocelli_consensus::codec::encode;
use ocelli_consensus::object::MAX_ATTACHMENT_BYTES;
use ocelli_consensus::{Address, ModelId};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use std::sync::{Arc, Weak};

use super::options::Step;
use super::write::Durability;
use super::{Rows, Source, Store, StoreError, TransactionLocation, columns, rows};

/// Bytes of a chunk, and of a part of an upload, but for the last, which may have fewer.
pub const CHUNK_BYTES: usize = MAX_ATTACHMENT_BYTES;

impl<S: Source> Rows<S> {
    /// Whether a model's file is here, whole.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn has_file(&self, model: &ModelId) -> Result<bool, StoreError> {
        Ok(self.file_length(model)?.is_some())
    }

    /// A chunk of a model's file, counted from 0; `None` where the file is not here, or has no such chunk.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn chunk(&self, model: &ModelId, number: u16) -> Result<Option<Vec<u8>>, StoreError> {
        let length = self.file_length(model)?;
        if length.is_none_or(|length| usize::from(number) * CHUNK_BYTES >= length) {
            return Ok(None);
        }
        self.require(columns::FILES, &rows::chunk_key(model, number), |bytes| Some(bytes.to_vec())).map(Some)
    }

    /// A model's file, at most 64 MiB; `None` where it is not here.
    ///
    /// # Errors
    /// If it cannot be read, or is not the file that was written.
    pub fn file(&self, model: &ModelId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(length) = self.file_length(model)? else { return Ok(None) };
        let mut file = Vec::with_capacity(length);
        for number in (0..=u16::MAX).take(length.div_ceil(CHUNK_BYTES)) {
            let key = rows::chunk_key(model, number);
            file.extend(self.require(columns::FILES, &key, |bytes| Some(bytes.to_vec()))?);
        }
        if file.len() != length || ModelId::of(&file) != *model {
            return Err(StoreError::damaged(columns::FILES, model.as_bytes()));
        }
        Ok(Some(file))
    }

    /// Where on the main chain a part of an upload is: of the sender's that began at height `since`.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn part(&self, sender: &Address, since: u64, number: u16) -> Result<Option<TransactionLocation>, StoreError> {
        self.get(columns::PARTS, &rows::part_key(sender, since, number), rows::location)
    }

    /// The heights at which a sender's uploads have begun that have parts on the main chain, the latest first.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn uploads_of(&self, sender: &Address) -> Result<Vec<u64>, StoreError> {
        let end = rows::part_key(sender, u64::MAX, u16::MAX);
        let mut uploads = Vec::new();
        for row in self.iterate(columns::PARTS, IteratorMode::From(&end, Direction::Reverse)) {
            let (key, _) = row?;
            match rows::part(&key) {
                Some((of, since, _)) if of == *sender => {
                    if uploads.last() != Some(&since) {
                        uploads.push(since);
                    }
                }
                Some(_) => break,
                None => return Err(StoreError::damaged(columns::PARTS, &key)),
            }
        }
        Ok(uploads)
    }

    /// How a model's author names it; `None` where its file is not here.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn name(&self, model: &ModelId) -> Result<Option<String>, StoreError> {
        Ok(self.get(columns::FILES, model.as_bytes(), rows::file)?.map(|(_, name)| name))
    }

    fn file_length(&self, model: &ModelId) -> Result<Option<usize>, StoreError> {
        Ok(self.get(columns::FILES, model.as_bytes(), rows::file)?.map(|(length, _)| length as usize))
    }
}

/// Where the files of models are that are not built in.
pub trait ModelFiles: Send + Sync {
    /// A model's file; `None` if this node does not have it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn file(&self, model: ModelId) -> Result<Option<Vec<u8>>, StoreError>;
}

/// No files: for programs that run only models that they have loaded.
pub struct NoFiles;

impl ModelFiles for NoFiles {
    fn file(&self, _: ModelId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
}

/// Where inference has the files of published models from. It keeps no store open.
struct StoredFiles(Weak<Store>);

impl ModelFiles for StoredFiles {
    fn file(&self, model: ModelId) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.upgrade().map_or(Ok(None), |store| Rows::file(&store, &model))
    }
}

impl Store {
    /// Where inference has the files of published models from.
    pub fn model_files(self: &Arc<Self>) -> Arc<dyn ModelFiles> {
        Arc::new(StoredFiles(Arc::downgrade(self)))
    }

    /// Keeps the file of a model, which its author gives this name, for good. One that is here is left as it is. Chunks are written one by one, so that a large
    /// file takes no more memory, and its length last: until then it is not here.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_file(&self, file: &[u8], name: &str) -> Result<ModelId, StoreError> {
        let model = ModelId::of(file);
        if self.has_file(&model)? {
            return Ok(model);
        }
        let length = u32::try_from(file.len()).unwrap_or(u32::MAX);
        self.options.observed(Step::File, || {
            for (number, chunk) in (0..=u16::MAX).zip(file.chunks(CHUNK_BYTES)) {
                let mut batch = WriteBatch::default();
                batch.put_cf(self.column(columns::FILES), rows::chunk_key(&model, number), chunk);
                self.write(batch, Durability::Logged)?;
            }
            let mut batch = WriteBatch::default();
            batch.put_cf(self.column(columns::FILES), model.as_bytes(), encode(&(length, name)));
            self.write(batch, Durability::Logged)
        })?;
        Ok(model)
    }
}
