//! What is run and mined next.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use ocelli_consensus::Address;
use ocelli_consensus::rules::MAX_BLOCK_MODEL_BYTES;

use super::{FeeRate, Mempool, MempoolEntry, PendingTask};

/// Senders whose next transaction did not fit, one after the other, after which packing stops.
const MAX_MISSES: usize = 1000;

/// All tasks within a budget have been handed out.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandedOut {
    pub(super) budget: u64,
    /// The lowest fee rate within it; `None` while all that is ready fits, so that whatever comes does too.
    pub(super) lowest: Option<FeeRate>,
}

/// What to do after a visit to an entry.
pub(super) enum Step {
    /// It counts against the budget; its sender's next follows.
    Take,
    /// Neither it nor its sender's later ones.
    SkipSender,
    /// No more.
    Stop,
}

/// How a walk ended.
pub(super) enum End {
    /// All that is ready was visited.
    All,
    /// Some of it did not fit.
    Full,
    /// A visit wanted no more.
    Stopped,
}

/// What happened to an entry.
#[derive(Clone, Copy)]
pub(super) enum Change {
    New,
    Gone,
}

impl Mempool {
    /// Hands out tasks to run, best fee rate first: those without answer among what fits `weight_budget` (the next few
    /// blocks), at most `max`. A task is handed out once, until it has an answer or [`Mempool::task_failed`].
    ///
    /// To be called after every change, however small: it looks through the budget only when the last change can have brought a
    /// task into it. Where more is ready than fits, what pays no more than the last that fits waits until something within the budget
    /// goes.
    pub fn tasks_to_run(&mut self, weight_budget: u64, max: usize) -> Vec<PendingTask> {
        if self.handed_out.is_some_and(|handed_out| handed_out.budget == weight_budget) {
            return Vec::new();
        }
        let (mut tasks, mut lowest) = (Vec::new(), None);
        let end = self.walk(weight_budget, |entry| {
            if tasks.len() == max {
                return Step::Stop;
            }
            if !entry.is_answered() && !entry.running {
                tasks.extend(entry.task());
            }
            lowest = Some(lowest.map_or(entry.fee_rate(), |lowest: FeeRate| lowest.min(entry.fee_rate())));
            Step::Take
        });
        self.handed_out = match end {
            End::Stopped => None,
            End::All => Some(HandedOut { budget: weight_budget, lowest: None }),
            End::Full => Some(HandedOut { budget: weight_budget, lowest: Some(lowest.unwrap_or_default()) }),
        };
        for task in &tasks {
            if let Some(entry) = self.get_mut(&task.txid) {
                entry.running = true;
            }
        }
        tasks
    }

    /// What to mine: the best fee rates first, nonces of a sender in order, in all at most `weight_limit`, and models of at most
    /// [`MAX_BLOCK_MODEL_BYTES`]. A task without answer is left out, and so are its sender's later transactions. All of it follows on the state of the tip.
    pub fn template(&self, weight_limit: u64) -> Vec<&MempoolEntry> {
        self.template_of(weight_limit, |_| true)
    }

    /// The same of those that a miner wants, as such that are ripe ([`MempoolEntry::ripe_at`]); a sender's later ones wait with it.
    pub fn template_of(&self, weight_limit: u64, is_wanted: impl Fn(&MempoolEntry) -> bool) -> Vec<&MempoolEntry> {
        let (mut entries, mut models, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        self.walk(weight_limit, |entry| {
            let new = entry.size.model.filter(|(model, _)| !models.contains(model));
            let more = new.map_or(0, |(_, bytes)| bytes);
            if !entry.is_answered() || !is_wanted(entry) || bytes + more > MAX_BLOCK_MODEL_BYTES {
                return Step::SkipSender;
            }
            models.extend(new.map(|(model, _)| model));
            bytes += more;
            entries.push(entry);
            Step::Take
        });
        entries
    }

    /// Visits ready entries by fee rate, a sender's in the order of nonces, while their weights fit `budget`.
    pub(super) fn walk<'a>(&'a self, budget: u64, mut visit: impl FnMut(&'a MempoolEntry) -> Step) -> End {
        let mut left = budget;
        let mut misses = 0;
        let mut end = End::All;
        let mut firsts = self.order.heads.iter().rev().peekable();
        // What follows on those that were taken.
        let mut nexts: BinaryHeap<(FeeRate, Reverse<Address>, u64)> = BinaryHeap::new();
        loop {
            let first = firsts.peek().map(|(rate, address)| (*rate, *address));
            let next = nexts.peek().map(|(rate, address, _)| (*rate, *address));
            let Some((_, Reverse(address))) = first.max(next) else { return end };
            let sender = &self.senders[&address];
            let nonce = if first > next {
                firsts.next();
                sender.nonce
            } else {
                nexts.pop().map_or(sender.nonce, |(.., nonce)| nonce)
            };
            let Some(entry) = sender.pending.get(&nonce) else { continue };
            if entry.weight() > left {
                end = End::Full;
                misses += 1;
                if misses == MAX_MISSES {
                    return end;
                }
                continue;
            }
            match visit(entry) {
                Step::Stop => return End::Stopped,
                Step::SkipSender => continue,
                Step::Take => {}
            }
            misses = 0;
            left -= entry.weight();
            let next = nonce.checked_add(1).and_then(|nonce| sender.pending.get(&nonce));
            if let Some(next) = next.filter(|next| next.is_ready()) {
                nexts.push((next.fee_rate(), Reverse(address), next.nonce()));
            }
        }
    }

    /// An entry becomes ready or goes that pays so much: a task may have come within the budget.
    pub(super) fn changed_at(&mut self, rate: FeeRate, change: Change) {
        self.handed_out.take_if(|handed_out| match (handed_out.lowest, change) {
            // What goes makes room only where there is none.
            (None, Change::Gone) => false,
            (None, Change::New) => true,
            (Some(lowest), Change::New) => rate > lowest,
            (Some(lowest), Change::Gone) => rate >= lowest,
        });
    }
}
