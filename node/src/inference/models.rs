//! The models that can be run: built-in ones, and others, loaded from their files as they are needed.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use ocelli_consensus::ModelId;
use ocelli_consensus::object::ModelFacts;
use ocelli_model::{Model, ModelError, zoo};

use crate::store::{ModelFiles, StoreError};

/// Bounds how many models that are not built in stay loaded.
const MAX_LOADED: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");
/// Bounds the bytes of all loaded models but the latest. The largest file that is allowed takes a quarter.
const MAX_LOADED_BYTES: usize = 512 << 20;

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// This node does not have its file.
    #[error("its file is not here")]
    Missing,
    /// Its file cannot be read.
    #[error("its file cannot be read")]
    Store(#[source] StoreError),
    /// What is stored as its file is another one.
    #[error("its file is that of model {found}")]
    Other {
        /// Whose file it is.
        found: ModelId,
    },
    /// What is stored as its file is none.
    #[error("its file is not one that nodes run")]
    File(#[source] ModelError),
}

/// The models at hand.
pub struct Models {
    built_in: BTreeMap<ModelId, Model>,
    files: Arc<dyn ModelFiles>,
    loaded: LruCache<ModelId, Model>,
    bytes: usize,
}

impl Models {
    /// Models of which `models` stay loaded, and the others come from `files`.
    pub fn new(models: Vec<Model>, files: Arc<dyn ModelFiles>) -> Self {
        let built_in = models.into_iter().map(|model| (model_id(&model), model)).collect();
        Self { built_in, files, loaded: LruCache::new(MAX_LOADED), bytes: 0 }
    }

    /// Those that are never unloaded.
    pub(super) fn built_in(&self) -> &BTreeMap<ModelId, Model> {
        &self.built_in
    }

    /// A model, loaded now if it was not before. Those that were wanted least recently make room.
    ///
    /// # Errors
    /// If it is not here, or its file cannot be read or run.
    pub fn get(&mut self, id: ModelId) -> Result<Model, ModelFault> {
        if let Some(model) = self.built_in.get(&id).or_else(|| self.loaded.get(&id)) {
            return Ok(model.clone());
        }
        let file = self.files.file(id).map_err(ModelFault::Store)?.ok_or(ModelFault::Missing)?;
        let model = load(id, &file)?;
        self.keep(&model);
        Ok(model)
    }

    /// Keeps a model that was loaded elsewhere, as [`Models::get`] does.
    pub fn keep(&mut self, model: &Model) {
        let (id, bytes) = (model_id(model), memory(model));
        if self.built_in.contains_key(&id) || self.loaded.get(&id).is_some() {
            return;
        }
        while self.loaded.len() == MAX_LOADED.get() || self.bytes.saturating_add(bytes) > MAX_LOADED_BYTES {
            let Some((_, unloaded)) = self.loaded.pop_lru() else { break };
            self.bytes -= memory(&unloaded);
        }
        self.bytes += bytes;
        self.loaded.put(id, model.clone());
    }
}

fn load(expected: ModelId, file: &[u8]) -> Result<Model, ModelFault> {
    let model = Model::from_bytes(file).map_err(ModelFault::File)?;
    // What a disk gives is looked at again: another model would give other answers.
    let found = model_id(&model);
    if found == expected { Ok(model) } else { Err(ModelFault::Other { found }) }
}

/// A model's id as the chain has it.
pub fn model_id(model: &Model) -> ModelId {
    ModelId(model.id().0)
}

/// The file, and its numbers once more.
fn memory(model: &Model) -> usize {
    2 * model.bytes().len()
}

/// What a model's file is, and its author's name for it: read and proven exact.
///
/// # Errors
/// The first rule of `docs/inference.md` that it breaks.
pub fn describe_file(file: &[u8]) -> Result<(ModelFacts, String), String> {
    let model = Model::from_bytes(file).map_err(|error| error.to_string())?;
    Ok((facts_of(&model), model.name().to_owned()))
}

/// What the network knows of a model. All are far below their types' bounds, which a file is held to.
pub fn facts_of(model: &Model) -> ModelFacts {
    let shape = model.input();
    ModelFacts {
        size: model.bytes().len() as u32,
        channels: shape.channels as u16,
        height: shape.height as u16,
        width: shape.width as u16,
        classes: model.logits() as u32,
        cost: model.cost(),
    }
}

/// The fewest digits of an id that name a model.
const MIN_DIGITS: usize = 8;

/// Whether a text is an id, or the beginning of one that names a model.
pub fn is_id(text: &str) -> bool {
    (MIN_DIGITS..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text means a model: by its author's name for it, its id, or the first digits of that.
pub fn is_meant(text: &str, id: &ModelId, name: &str) -> bool {
    name == text || is_id(text) && id.to_string().starts_with(text)
}

/// Name and file of a model that is built in.
pub fn built_in(id: &ModelId) -> Option<(&'static str, &'static [u8])> {
    zoo::by_id(&ocelli_model::ModelId(id.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_meant_by_its_name_and_by_the_first_digits_of_its_id() {
        let id: ModelId = "0123456789abcdef".repeat(4).parse().unwrap();
        let all = id.to_string();
        for (text, meant) in [("net", true), ("01234567", true), (&all, true), ("0123456", false), ("nets", false)] {
            assert_eq!(is_meant(text, &id, "net"), meant, "{text}");
        }
        assert!(is_meant("0123", &id, "0123"), "a name may look like that");
    }
}
