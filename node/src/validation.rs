//! Validation as a pipeline. Bodies, attachments and signatures of several blocks are checked at once on all cores; their
//! answers go to inference side by side, so that its batches reach across blocks; state and commit are the chain's, in
//! order. Meanwhile the next blocks are downloaded, and nobody waits: what is done is left for the owner of the chain.
//!
//! A block that was put together from its announcement comes without answers: these are asked of inference, and the announced root
//! says whether the block has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::rules::{TransactionError, check_answer};
use ocelli_consensus::{BlockHash, Header, RuleError, WtxId};
use ocelli_protocol::message::{Assembled, BlockData, Submission};

use crate::chain::{BodyCheck, BodyError, Setting, tasks};
use crate::inference::{AnswerCheck, InferenceError, InferenceHandle, PictureFault, Task};
use crate::network::Peer;
use crate::store;

/// Images that are with inference at a time, in all blocks together: enough that it never waits for the next block, and
/// half of what it takes. A block with more goes alone.
const MAX_IMAGES: usize = 8_192;
/// Bytes that weigh as much as a block in [`Validation::load`].
const BYTES_PER_LOAD: usize = 1 << 20;
/// The most [`Validation::load`] of blocks that are held until others have come: half of what sync hands over, so that there is
/// always room for those.
const MAX_HELD_LOAD: usize = 32;

/// What has been found out, left for the owner of the chain.
#[derive(Debug)]
pub enum Checked {
    /// A body has been checked by itself.
    Body(Box<CheckedBody>),
    /// The answers of a block have been checked.
    Answers {
        hash: BlockHash,
        /// Which of its transactions are tasks.
        places: Vec<usize>,
        /// What the service says.
        result: Result<AnswerCheck, InferenceError>,
    },
    /// The transactions of a block without answers have been checked by themselves.
    Unanswered(Box<Unanswered>, Result<(), RuleError>),
    /// And its answers computed; `Err` where a picture is refused.
    Answered(Box<Unanswered>, Result<Vec<Result<Classes, PictureFault>>, InferenceError>),
}

/// A body and what checking it by itself gave.
#[derive(Debug)]
pub struct CheckedBody {
    pub hash: BlockHash,
    /// Who sent the data.
    pub from: Option<Peer>,
    /// What was checked.
    pub data: BlockData,
    /// How far it could be checked.
    pub extent: store::Extent,
    /// The first rule that it breaks.
    pub result: Result<(), BodyError>,
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
        setting: &Setting,
        known: &BTreeSet<WtxId>,
    ) -> Self {
        let result = check.check(header, &data, extent, setting, &|wtxid| known.contains(wtxid));
        let claims = if result.is_ok() { Claims::of(&data) } else { Claims::default() };
        Self { hash: header.hash(), from, data, extent, result, claims }
    }
}

/// A block that was put together from its announcement.
#[derive(Debug)]
pub struct Unanswered {
    pub header: Header,
    pub assembled: Assembled,
    /// What it is checked by.
    pub setting: Setting,
}

impl Unanswered {
    /// The questions that its transactions ask, in their order.
    fn tasks(&self) -> Vec<Task> {
        let asked = self.assembled.submissions.iter().filter_map(|Submission { transaction, attachment }| {
            Some(Task::of(transaction.task()?, Arc::clone(attachment.as_ref()?)))
        });
        asked.collect()
    }

    /// The block with these answers to its tasks, if they are those that were announced.
    pub fn with_answers(self, answers: Vec<Classes>) -> Option<BlockData> {
        let mut answers = answers.into_iter();
        let all = self.assembled.submissions.iter().map(|submission| match submission.transaction.task() {
            Some(_) => answers.next().map_or(Answer::None, Answer::Classes),
            None => Answer::None,
        });
        let all = all.collect();
        self.assembled.with_answers(all).ok()
    }
}

/// The answers that a block claims, as far as its attachments are here.
#[derive(Debug, Default)]
pub struct Claims {
    /// Which of its transactions are tasks.
    pub places: Vec<usize>,
    /// The tasks, and what the block says of each.
    pub claims: Vec<(Task, Classes)>,
}

impl Claims {
    /// The tasks of a block, with the answers that it gives.
    pub fn of(data: &BlockData) -> Self {
        let mut all = Self::default();
        for (index, (transaction, answer)) in tasks(&data.body) {
            let attachment = data.attachments.get(index).and_then(Option::as_ref);
            let (Some(task), Some(bytes), Some(claimed)) = (transaction.task(), attachment, answer.classes()) else {
                continue;
            };
            all.places.push(index);
            all.claims.push((Task::of(task, Arc::clone(bytes)), claimed.clone()));
        }
        all
    }
}

/// What checking a block's answers has shown, as a rule; `places` are those of its tasks.
///
/// # Errors
/// The rule that the block breaks.
pub fn broken_rule(verdict: AnswerCheck, places: &[usize]) -> Result<(), RuleError> {
    let place = |index: usize| places.get(index).copied().unwrap_or(index);
    match verdict {
        AnswerCheck::Right => Ok(()),
        AnswerCheck::Wrong { index, claimed, expected } => {
            check_answer(&claimed, &expected).map_err(|error| error.at(place(index)))
        }
        AnswerCheck::Picture { index, fault } => {
            Err(TransactionError::Picture { reason: fault.to_string() }.at(place(index)))
        }
    }
}

/// Blocks on their way from their data to the verdict on their answers.
pub struct Validation {
    check: BodyCheck,
    inference: InferenceHandle,
    reply: Arc<dyn Fn(Checked) + Send + Sync>,
    under_way: BTreeMap<BlockHash, UnderWay>,
    /// To be given to inference, the lowest first.
    ready: BTreeMap<(u64, BlockHash), Ready>,
    /// Until what they are checked by is known, the lowest first.
    held: BTreeMap<(u64, BlockHash), Held>,
    held_load: usize,
    load: usize,
    /// With inference.
    images: usize,
}

/// What is to be asked of inference.
enum Ready {
    /// Whether the answers of a stored block are right.
    Claims(Claims),
    /// The answers of one that has none.
    Unanswered(Box<Unanswered>),
}

/// A block whose data are here before those on which it stands.
pub enum Held {
    /// Who sent it, and all of it.
    Data(Option<Peer>, BlockData),
    /// What it was put together from.
    Assembled(Assembled),
}

struct UnderWay {
    height: u64,
    load: usize,
    images: usize,
}

impl Validation {
    /// A pipeline in which nothing is. `reply` is called on other threads, with what is found out about each block.
    pub fn new(check: BodyCheck, inference: InferenceHandle, reply: impl Fn(Checked) + Send + Sync + 'static) -> Self {
        Self {
            check,
            inference,
            reply: Arc::new(reply),
            under_way: BTreeMap::new(),
            ready: BTreeMap::new(),
            held: BTreeMap::new(),
            held_load: 0,
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
        setting: Setting,
        known: BTreeSet<WtxId>,
    ) {
        let hash = header.hash();
        self.enter(hash, header.height, data.encoded_len());
        let (check, reply) = (self.check.clone(), Arc::clone(&self.reply));
        rayon::spawn_fifo(move || {
            let body = CheckedBody::of(&check, from, &header, data, extent, &setting, &known);
            reply(Checked::Body(Box::new(body)));
        });
    }

    /// Has the transactions of a block checked that has no answers yet; [`Checked::Unanswered`] follows. `known` are transactions
    /// whose signatures have been checked before.
    pub fn begin_unanswered(&mut self, unanswered: Unanswered, known: BTreeSet<WtxId>) {
        let hash = unanswered.header.hash();
        self.enter(hash, unanswered.header.height, bytes_of(&unanswered.assembled));
        let (check, reply) = (self.check.clone(), Arc::clone(&self.reply));
        rayon::spawn_fifo(move || {
            let submissions = &unanswered.assembled.submissions;
            let result = check.check_unanswered(submissions, &unanswered.setting, &|wtxid| known.contains(wtxid));
            reply(Checked::Unanswered(Box::new(unanswered), result));
        });
    }

    /// Keeps a block until what it is checked by is known. Where too many are, the highest is let go, to be fetched again.
    pub fn hold(&mut self, hash: BlockHash, height: u64, held: Held) {
        let bytes = match &held {
            Held::Data(_, data) => data.encoded_len(),
            Held::Assembled(assembled) => bytes_of(assembled),
        };
        self.enter(hash, height, bytes);
        self.held_load += self.under_way.get(&hash).map_or(0, |block| block.load);
        self.held.insert((height, hash), held);
        while self.held_load > MAX_HELD_LOAD
            && let Some(((_, hash), _)) = self.held.pop_last()
        {
            self.held_load -= self.under_way.get(&hash).map_or(0, |block| block.load);
            self.finish(&hash);
        }
    }

    /// Takes all that is held, the lowest first: it is no longer under way.
    pub fn take_held(&mut self) -> impl Iterator<Item = (BlockHash, Held)> + use<> {
        let held = std::mem::take(&mut self.held);
        self.held_load = 0;
        for (_, hash) in held.keys() {
            self.finish(hash);
        }
        held.into_iter().map(|((_, hash), held)| (hash, held))
    }

    /// Whether anything is held.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Has the answers of a block checked whose body is good; [`Checked::Answers`] follows.
    pub fn check_answers(&mut self, hash: BlockHash, height: u64, claims: Claims) {
        self.enter(hash, height, 0);
        self.ready.insert((height, hash), Ready::Claims(claims));
        self.submit();
    }

    /// Has the answers of a block computed whose transactions are good; [`Checked::Answered`] follows.
    pub fn answer(&mut self, unanswered: Box<Unanswered>) {
        let place = (unanswered.header.height, unanswered.header.hash());
        self.ready.insert(place, Ready::Unanswered(unanswered));
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
            let (hash, images) = (next.key().1, next.get().images());
            if self.images > 0 && self.images + images > MAX_IMAGES {
                return;
            }
            let ready = next.remove();
            if let Some(block) = self.under_way.get_mut(&hash) {
                block.images = images;
                self.images += images;
            }
            let (reply, inference) = (Arc::clone(&self.reply), self.inference.clone());
            // There it looks at each attachment once more, which the chain's owner need not wait for.
            match ready {
                Ready::Claims(Claims { places, .. }) if images == 0 => {
                    reply(Checked::Answers { hash, places, result: Ok(AnswerCheck::Right) });
                }
                Ready::Claims(Claims { places, claims }) => rayon::spawn_fifo(move || {
                    inference.check(claims, move |result| reply(Checked::Answers { hash, places, result }));
                }),
                Ready::Unanswered(unanswered) if images == 0 => reply(Checked::Answered(unanswered, Ok(Vec::new()))),
                Ready::Unanswered(unanswered) => rayon::spawn_fifo(move || {
                    let tasks = unanswered.tasks();
                    inference.answer(tasks, move |result| reply(Checked::Answered(unanswered, result)));
                }),
            }
        }
    }
}

impl Ready {
    fn images(&self) -> usize {
        match self {
            Self::Claims(claims) => claims.claims.len(),
            Self::Unanswered(unanswered) => {
                let submissions = &unanswered.assembled.submissions;
                submissions.iter().filter(|submission| submission.transaction.task().is_some()).count()
            }
        }
    }
}

fn bytes_of(assembled: &Assembled) -> usize {
    let bytes = assembled.submissions.iter().map(|Submission { transaction, attachment }| {
        transaction.encoded_len() + attachment.as_ref().map_or(0, |attachment| attachment.len())
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{Address, Root};

    use super::*;
    use crate::chain::Chain;
    use crate::fixture::{Around, make, submissions};

    fn hash(number: u64) -> BlockHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        BlockHash(hash)
    }

    /// A block that counts as much as so many megabytes and one.
    fn large(chain: &Chain, megabytes: usize) -> Held {
        let transfer = submissions(&make(chain, |maker| maker.transfer(0, Address([1; 20]), 1_000_000)).1).remove(0);
        let submissions = vec![Submission { attachment: Some(vec![0; megabytes * BYTES_PER_LOAD].into()), ..transfer }];
        Held::Assembled(Assembled { submissions, answer_root: Root([0; 32]) })
    }

    /// Whoever sends blocks whose parents are not here fills only so much memory, and the lowest of them, which are needed next, stay.
    #[test]
    fn of_what_is_held_the_lowest_stays() {
        let (around, chain) = Around::new();
        let mut validation = Validation::new(chain.body_check().clone(), around.inference.clone(), |_| {});
        let held = |validation: &Validation| {
            (1..200).filter(|number| validation.contains(&hash(*number))).collect::<Vec<u64>>()
        };
        for number in (10..100).rev() {
            validation.hold(hash(number), number, Held::Data(None, BlockData::default()));
            assert!(validation.load() <= MAX_HELD_LOAD);
        }
        assert_eq!(held(&validation), (10..42).collect::<Vec<_>>());
        // One that is higher than all finds no room, and takes none.
        validation.hold(hash(150), 150, large(&chain, 3));
        assert_eq!((held(&validation).len(), validation.load()), (32, MAX_HELD_LOAD));
        // One that is lower takes what it needs from the highest.
        validation.hold(hash(5), 5, large(&chain, 3));
        assert_eq!(held(&validation), [5].into_iter().chain(10..38).collect::<Vec<_>>());
        assert_eq!(validation.load(), MAX_HELD_LOAD);
        validation.hold(hash(6), 6, large(&chain, 1));
        assert_eq!(held(&validation), [5, 6].into_iter().chain(10..36).collect::<Vec<_>>());
        let order: Vec<u64> = validation
            .take_held()
            .map(|(found, _)| (1..200).find(|number| hash(*number) == found).expect("held"))
            .collect();
        assert_eq!(order, [5, 6].into_iter().chain(10..36).collect::<Vec<_>>());
        assert_eq!((validation.load(), validation.holds(), validation.lowest()), (0, false, None));
    }
}
