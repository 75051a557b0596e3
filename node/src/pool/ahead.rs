//! Tasks that are run before they are in any block.

use ocelli_consensus::TxId;
use ocelli_consensus::block::{Answer, Classes};
use ocelli_protocol::mempool::PendingTask;

use super::{Input, Pool};
use crate::full_message::full_message;
use crate::inference::{InferenceError, PictureFault, Task};

/// Tasks run ahead of any block at a time, in one batch.
pub const RUN_AHEAD: usize = 256;
/// Batches of them that are under way at a time: one computes, one waits.
const RUNNING: usize = 2;
/// Blocks whose worth of tasks is run ahead.
pub const BLOCKS_AHEAD: u64 = 3;
/// How long to wait when inference has no room, in milliseconds.
const RETRY_MILLIS: u64 = 200;

/// What is being run ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Batches.
    running: usize,
    /// When inference is asked again after it had no room, in monotonic milliseconds.
    retry_at: u64,
}

impl Pool {
    /// Has tasks run that will be in one of the next blocks.
    pub(super) fn run_ahead(&mut self) {
        while self.ahead.running < RUNNING && self.others.clock.now() >= self.ahead.retry_at {
            let budget = self.others.views.parameters().weight_limit.saturating_mul(BLOCKS_AHEAD);
            let tasks = self.mempool.tasks_to_run(budget, RUN_AHEAD);
            if tasks.is_empty() {
                return;
            }
            let txids = tasks.iter().map(|task| task.txid).collect();
            let batch = tasks.into_iter().map(|PendingTask { task, bytes, .. }| Task::of(task, bytes));
            let batch = batch.collect();
            self.ahead.running += 1;
            let inbox = self.others.inbox.clone();
            self.others.inference.run(batch, move |result| inbox.reply(Input::Answers(txids, result)));
        }
    }

    pub(super) fn on_answers(
        &mut self,
        txids: &[TxId],
        result: Result<Vec<Result<Classes, PictureFault>>, InferenceError>,
    ) {
        self.ahead.running = self.ahead.running.saturating_sub(1);
        match result {
            Ok(answers) => {
                for (txid, answer) in txids.iter().zip(answers) {
                    let answer = match answer {
                        Ok(classes) => Answer::Classes(classes),
                        // Looked at before it was taken, so this is a defect of this machine; no block here will hold it.
                        Err(fault) => {
                            tracing::error!(%txid, %fault, "a pending picture is refused");
                            continue;
                        }
                    };
                    self.mempool.set_answer(txid, answer);
                    for to in self.waiting.end(txid) {
                        self.answer(txid, to);
                    }
                }
                self.mempool_changed();
            }
            Err(error) => {
                tracing::warn!(
                    reason = full_message(&error),
                    tasks = txids.len(),
                    "tasks were not run; they are tried again"
                );
                txids.iter().for_each(|txid| self.mempool.task_failed(txid));
                self.ahead.retry_at = self.others.clock.now() + RETRY_MILLIS;
            }
        }
        self.run_ahead();
    }

    /// What the device said is worth nothing: all of it is computed again.
    pub(super) fn on_device_fault(&mut self) {
        self.mempool.clear_answers();
        self.tip_moved();
        self.run_ahead();
    }
}
