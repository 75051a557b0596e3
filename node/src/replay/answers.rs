//! Answers checked beside the rest, so that the device and the other cores work at the same time.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver};

use ocelli_consensus::{BlockHash, RuleError};

use crate::inference::{AnswerCheck, InferenceError, InferenceHandle};
use crate::validation::{Claims, broken_rule};

/// Images under way: some batches for the device, so that it never waits, and few enough for its queue and the memory.
const MAX_IMAGES: usize = 2048;

/// Blocks whose answers are being checked, in order.
pub(super) struct Answers<'a> {
    inference: &'a InferenceHandle,
    waiting: VecDeque<Waiting>,
    images: usize,
}

struct Waiting {
    hash: BlockHash,
    height: u64,
    /// The tasks' places in the block.
    places: Vec<usize>,
    verdict: Receiver<Result<AnswerCheck, InferenceError>>,
}

/// A block whose answers have been checked.
pub(super) struct CheckedBlock {
    pub(super) hash: BlockHash,
    pub(super) height: u64,
    pub(super) tasks: u64,
    pub(super) answers: Result<(), RuleError>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(inference: &'a InferenceHandle) -> Self {
        Self { inference, waiting: VecDeque::new(), images: 0 }
    }

    /// Has the answers of a block checked.
    pub(super) fn check(&mut self, hash: BlockHash, height: u64, Claims { places, claims }: Claims) {
        let (reply, verdict) = mpsc::channel();
        self.images += places.len();
        self.waiting.push_back(Waiting { hash, height, places, verdict });
        if claims.is_empty() {
            // The other end is in the queue.
            drop(reply.send(Ok(AnswerCheck::Right)));
        } else {
            // An error only says that nobody waits any more.
            self.inference.check(claims, move |result| drop(reply.send(result)));
        }
    }

    /// Whether the oldest should be taken before more is given.
    pub(super) fn is_full(&self) -> bool {
        self.images > MAX_IMAGES
    }

    /// Forgets all blocks: nothing of them is waited for.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.images = 0;
    }

    /// Waits for the oldest block; `None` if there is none.
    pub(super) fn next(&mut self) -> Option<Result<CheckedBlock, InferenceError>> {
        let Waiting { hash, height, places, verdict } = self.waiting.pop_front()?;
        self.images -= places.len();
        let result = verdict.recv().unwrap_or(Err(InferenceError::Stopped));
        Some(result.map(|verdict| CheckedBlock {
            hash,
            height,
            tasks: places.len() as u64,
            answers: broken_rule(verdict, &places),
        }))
    }
}
