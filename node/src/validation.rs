//! Validation as a pipeline. Bodies, pixels and signatures of several blocks are checked at once on all cores; their
//! answers go to inference side by side, so that its batches reach across blocks; state and commit are the chain's, in
//! order. Meanwhile the next blocks are downloaded, and nobody waits: what is done is left for the owner of the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ocelli_consensus::block::Body;
use ocelli_consensus::rules::PixelsError;
use ocelli_consensus::{BlockHash, Header, WtxId};
use ocelli_protocol::message::BlockData;

use crate::chain::{BodyCheck, tasks};
use crate::inference::{self, InferenceError, Task, Verdict};
use crate::network::Peer;
use crate::store;

/// Images that are with inference at a time, in all blocks together: enough that it never waits for the next block, and
/// half of what it takes. A block with more goes alone.
const MAX_IMAGES: usize = 8_192;
/// Bytes that weigh as much as a block in [`Validation::load`].
const BYTES_PER_LOAD: usize = 1 << 20;

/// What has been found out, left for the owner of the chain.
#[derive(Debug)]
pub enum Checked {
    /// A body has been checked by itself.
    Body(Box<CheckedBody>),
    /// The answers of a block have been checked.
    Answers {
        /// The block.
        hash: BlockHash,
        /// Which of its transactions are tasks.
        places: Vec<usize>,
        /// What the service says.
        result: Result<Verdict, InferenceError>,
    },
}

/// A body and what checking it by itself gave.
#[derive(Debug)]
pub struct CheckedBody {
    /// The block.
    pub hash: BlockHash,
    /// Who sent the data.
    pub from: Option<Peer>,
    /// What was checked.
    pub data: BlockData,
    /// How far it could be checked.
    pub extent: store::Extent,
    /// The first rule that it breaks.
    pub result: Result<(), PixelsError>,
    /// What is to be asked of inference if it breaks none.
    pub claims: Claims,
}

impl CheckedBody {
    /// Checks a body by itself as [`BodyCheck::check`] does. `known` are transactions whose signatures have been checked before.
    pub fn of(
        check: &BodyCheck,
        from: Option<Peer>,
        header: &Header,
        data: BlockData,
        extent: store::Extent,
        known: &BTreeSet<WtxId>,
    ) -> Self {
        let result = check.check(header, &data, extent, &|wtxid| known.contains(wtxid));
        let claims = if result.is_ok() { Claims::of(&data.body, &data.pixels) } else { Claims::default() };
        Self { hash: header.hash(), from, data, extent, result, claims }
    }
}

/// The answers that a block claims, as far as its pixels are here.
#[derive(Debug, Default)]
pub struct Claims {
    /// Which of its transactions are tasks.
    pub places: Vec<usize>,
    /// The tasks, and what the block says of each.
    pub claims: Vec<(Task, Vec<i32>)>,
}

impl Claims {
    /// The tasks of a block, with the answers that it gives.
    pub fn of(body: &Body, pixels: &[Option<Vec<u8>>]) -> Self {
        let mut all = Self::default();
        for (index, (transaction, output)) in tasks(body) {
            let (Some((model, image)), Some(Some(pixels))) = (transaction.task(), pixels.get(index)) else { continue };
            let task = Task { model, image, pixels: Arc::from(pixels.as_slice()) };
            all.places.push(index);
            all.claims.push((task, output.clone().unwrap_or_default()));
        }
        all
    }
}

/// Blocks on their way from their data to the verdict on their answers.
pub struct Validation {
    check: BodyCheck,
    inference: inference::Handle,
    reply: Arc<dyn Fn(Checked) + Send + Sync>,
    under_way: BTreeMap<BlockHash, UnderWay>,
    /// Stored, to be given to inference, the lowest first.
    ready: BTreeMap<(u64, BlockHash), Claims>,
    load: usize,
    /// With inference.
    images: usize,
}

struct UnderWay {
    height: u64,
    load: usize,
    images: usize,
}

impl Validation {
    /// A pipeline in which nothing is. `leave` is called on other threads, with what is found out about each block.
    pub fn new(
        check: BodyCheck,
        inference: inference::Handle,
        reply: impl Fn(Checked) + Send + Sync + 'static,
    ) -> Self {
        Self {
            check,
            inference,
            reply: Arc::new(reply),
            under_way: BTreeMap::new(),
            ready: BTreeMap::new(),
            load: 0,
            images: 0,
        }
    }

    /// Whether a block is on its way.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.under_way.contains_key(hash)
    }

    /// How much is under way: each block counts as one, and each of its megabytes too.
    pub fn load(&self) -> usize {
        self.load
    }

    /// The height of the lowest block under way.
    pub fn lowest(&self) -> Option<u64> {
        self.under_way.values().map(|block| block.height).min()
    }

    /// Whether inference could take more at once.
    pub fn has_room(&self) -> bool {
        self.images < MAX_IMAGES
    }

    /// Has a body checked; [`Checked::Body`] follows. `known` are transactions whose signatures have been checked before.
    pub fn begin(
        &mut self,
        from: Option<Peer>,
        header: Header,
        data: BlockData,
        extent: store::Extent,
        known: BTreeSet<WtxId>,
    ) {
        let hash = header.hash();
        self.enter(hash, header.height, data.encoded_len());
        let (check, reply) = (self.check.clone(), Arc::clone(&self.reply));
        rayon::spawn_fifo(move || {
            let body = CheckedBody::of(&check, from, &header, data, extent, &known);
            reply(Checked::Body(Box::new(body)));
        });
    }

    /// Has the answers of a block checked whose body is good; [`Checked::Answers`] follows.
    pub fn check_answers(&mut self, hash: BlockHash, height: u64, claims: Claims) {
        self.enter(hash, height, 0);
        self.ready.insert((height, hash), claims);
        self.submit();
    }

    /// Notes that the answers of a block have come.
    pub fn answered(&mut self, hash: &BlockHash) {
        self.finish(hash);
        self.submit();
    }

    /// Forgets a block.
    pub fn finish(&mut self, hash: &BlockHash) {
        let Some(block) = self.under_way.remove(hash) else { return };
        self.load -= block.load;
        self.images -= block.images;
    }

    fn enter(&mut self, hash: BlockHash, height: u64, bytes: usize) {
        let load = 1 + bytes / BYTES_PER_LOAD;
        self.under_way.entry(hash).or_insert_with(|| {
            self.load += load;
            UnderWay { height, load, images: 0 }
        });
    }

    fn submit(&mut self) {
        while let Some(next) = self.ready.first_entry() {
            let (hash, images) = (next.key().1, next.get().claims.len());
            if self.images > 0 && self.images + images > MAX_IMAGES {
                return;
            }
            let Claims { places, claims } = next.remove();
            if let Some(block) = self.under_way.get_mut(&hash) {
                block.images = images;
                self.images += images;
            }
            let reply = Arc::clone(&self.reply);
            if claims.is_empty() {
                reply(Checked::Answers { hash, places, result: Ok(Verdict::Right) });
                continue;
            }
            let inference = self.inference.clone();
            // There it looks at each image once more, which the chain's owner need not wait for.
            rayon::spawn_fifo(move || {
                inference.check(claims, move |result| reply(Checked::Answers { hash, places, result }));
            });
        }
    }
}
