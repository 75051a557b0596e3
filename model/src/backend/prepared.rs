//! Models that stay prepared on a device.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::id::ModelId;
use crate::model::Model;

/// Bounds how many models stay prepared.
const MAX_MODELS: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");
/// Bounds the bytes of all prepared models but the one that runs. The largest that is allowed takes about as much by itself.
const MAX_BYTES: u64 = 512 << 20;

/// The models that ran last, each as a device needs it.
#[derive(Debug)]
pub(super) struct PreparedModels<T> {
    models: LruCache<ModelId, (T, u64)>,
    bytes: u64,
}

impl<T> Default for PreparedModels<T> {
    fn default() -> Self {
        Self { models: LruCache::new(MAX_MODELS), bytes: 0 }
    }
}

impl<T> PreparedModels<T> {
    /// What they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The model, prepared now if it was not before; `prepare` also says how many bytes that takes. Those that ran least recently
    /// make room.
    pub(super) fn get<E>(&mut self, model: &Model, prepare: impl FnOnce() -> Result<(T, u64), E>) -> Result<&mut T, E> {
        if !self.models.contains(&model.id()) {
            let (prepared, bytes) = prepare()?;
            while self.models.len() == MAX_MODELS.get() || self.bytes + bytes > MAX_BYTES {
                let Some((_, (_, freed))) = self.models.pop_lru() else { break };
                self.bytes -= freed;
            }
            self.bytes += bytes;
            self.models.put(model.id(), (prepared, bytes));
        }
        Ok(self.models.get_mut(&model.id()).map(|(prepared, _)| prepared).expect("it is there or was just put there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Input, Layer};
    use crate::{Display, ModelFile, Parameters};

    /// A model of its own for each number.
    fn model(number: i32) -> Model {
        let graph = Graph::new(Input::new(1, 1, 1), vec![Layer::logits("out", "input", 1)]).unwrap();
        let parameters = vec![Parameters { weight: vec![1], bias: vec![number], ..Parameters::default() }];
        ModelFile { graph, parameters, display: Display::numbered(1) }.build().unwrap()
    }

    fn is_kept(models: &mut PreparedModels<i32>, number: i32) -> bool {
        models.models.contains(&model(number).id())
    }

    fn get(models: &mut PreparedModels<i32>, number: i32, bytes: u64) {
        let found = models.get(&model(number), || Ok::<_, ()>((number, bytes)));
        assert_eq!(found.copied(), Ok(number));
    }

    #[test]
    fn the_least_recently_run_makes_room() {
        let mut models = PreparedModels::default();
        (0..8).for_each(|number| get(&mut models, number, 1));
        get(&mut models, 0, 1);
        get(&mut models, 8, 1);
        assert_eq!((0..9).filter(|number| is_kept(&mut models, *number)).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7, 8]);
        // Half of the bytes: all others together are 8, and fit; the other half and one more do not.
        get(&mut models, 9, MAX_BYTES / 2);
        assert_eq!(models.models.len(), 8);
        get(&mut models, 10, MAX_BYTES / 2 + 1);
        assert!(is_kept(&mut models, 10) && !is_kept(&mut models, 9) && models.bytes <= MAX_BYTES);
        // One that is too large by itself runs, alone.
        get(&mut models, 11, MAX_BYTES + 1);
        assert_eq!((models.models.len(), models.bytes), (1, MAX_BYTES + 1));
        assert_eq!(models.get(&model(12), || Err("no memory")).copied(), Err("no memory"));
        get(&mut models, 13, 1);
        assert_eq!((models.models.len(), models.bytes), (1, 1));
    }
}
