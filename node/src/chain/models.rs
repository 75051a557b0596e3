//! The models that a block may use: those that its own branch has.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use ocelli_consensus::object::{ModelRecord, StateReader as _};
use ocelli_consensus::{Action, BlockHash, Body, Header, ModelId};

use super::{Chain, Setting};
use crate::store::StoreError;

/// Blocks off the main chain of which it is remembered what they publish: twice what is downloaded beyond the tip.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).expect("it is above zero");

/// What blocks publish, by their bodies.
pub(super) struct Published(LruCache<BlockHash, PublishedModels>);

/// The models of one block.
type PublishedModels = Arc<[(ModelId, ModelRecord)]>;

impl Default for Published {
    fn default() -> Self {
        Self(LruCache::sparse(REMEMBERED))
    }
}

impl Published {
    /// Notes a block whose body is stored.
    pub(super) fn note(&mut self, hash: BlockHash, height: u64, delay: u64, body: &Body) -> PublishedModels {
        let published = body.transactions.iter().filter_map(|(transaction, _)| match transaction.unsigned.action {
            Action::Publish { model, facts, royalty } => {
                let first = height.saturating_add(delay);
                Some((model, ModelRecord { author: transaction.sender(), royalty, first, facts }))
            }
            _ => None,
        });
        let published: PublishedModels = published.collect();
        self.0.put(hash, Arc::clone(&published));
        published
    }
}

impl Chain {
    /// What a block's body is checked by, if its tasks are for these models. `None` as long as that is not known, because blocks
    /// before it have not come yet.
    ///
    /// A model that the block may use was published at the latest `model delay` blocks before it. At or below the point where its
    /// branch leaves the main chain, the tip's state has it, whatever has come since. Above, the branch's bodies have it: if one of
    /// these blocks turns out to break a rule of the state, so does all that stands on it.
    ///
    /// # Errors
    /// The store's.
    pub fn setting(&mut self, header: &Header, wanted: &BTreeSet<ModelId>) -> Result<Option<Setting>, StoreError> {
        let Some(parent) = self.tree.get(&header.parent) else { return Ok(None) };
        let place = self.network.place_after(&parent, header.miner);
        let fork = self.tree.fork_point(&self.tip, &parent.hash).unwrap_or_else(|| self.tree.genesis());
        let delay = self.network.parameters.model_delay;
        let (mut models, mut lacking) = (BTreeMap::new(), BTreeSet::new());
        for id in wanted {
            match self.store.model(id)?.filter(|record| record.first <= fork.height.saturating_add(delay)) {
                Some(record) => drop(models.insert(*id, record)),
                None => drop(lacking.insert(*id)),
            }
        }
        let last = header.height.saturating_sub(delay);
        if lacking.is_empty() || last <= fork.height {
            return Ok(Some(Setting { place, models }));
        }
        let branch = self.tree.path(&fork.hash, &parent.hash).unwrap_or_default();
        for (height, hash) in (fork.height + 1..=last).zip(branch) {
            let Some(published) = self.published_by(&hash, height)? else { return Ok(None) };
            for (id, record) in published.iter().filter(|(id, _)| lacking.contains(id)) {
                models.entry(*id).or_insert(*record);
            }
        }
        Ok(Some(Setting { place, models }))
    }

    /// What a block publishes; `None` where its body is not here.
    fn published_by(&mut self, hash: &BlockHash, height: u64) -> Result<Option<PublishedModels>, StoreError> {
        if let Some(published) = self.published.0.get(hash) {
            return Ok(Some(Arc::clone(published)));
        }
        let Some(body) = self.store.body(height, hash)? else { return Ok(None) };
        Ok(Some(self.published.note(*hash, height, self.network.parameters.model_delay, &body)))
    }
}
