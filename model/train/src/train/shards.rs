//! The gradient of a batch, from shards of it that threads work on for themselves.
//!
//! How a batch is split does not depend on the number of threads, and shards are added up in their order, so a seed gives
//! the same network on any number of them.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::activation::Statistics;
use super::batch::{self, Change, Reading, Target};
use super::pass::{NormPlaces, Pass, Workspace};
use crate::dataset::Dataset;

/// Pictures of a shard: few, so that threads end together and activations stay in the processor's caches.
const SHARD: usize = 8;
/// Pictures of a shard where sums are normalised by its own statistics ("ghost batch normalisation": E. Hoffer et al.,
/// "Train longer, generalize better", 2017, section 4), which are noisy if they are of fewer. No thread waits for the
/// statistics of others, and networks generalise rather better.
const GHOST_BATCH: usize = 32;
/// How many numbers of the shards' gradients are added up at once.
const SUM_NUMBERS: usize = 1 << 14;

/// The buffers of a training, which are used again.
#[derive(Debug, Default)]
pub struct Shards {
    /// One for each thread.
    workspaces: Vec<Mutex<Workspace>>,
    /// One for each shard.
    gradients: Vec<Vec<f32>>,
}

/// How a batch was answered.
#[derive(Debug)]
pub struct Answered {
    /// The mean loss.
    pub loss: f32,
    /// How many pictures were right.
    pub right: usize,
    /// The statistics of each shard, with where the running ones lie.
    pub statistics: Vec<Vec<(NormPlaces, Statistics)>>,
}

/// What pictures are shown to be learnt from.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    pub data: &'a Dataset,
    pub indexes: &'a [usize],
    /// A change for each.
    pub changes: &'a [Change],
    /// The share of every label that is spread over all classes.
    pub label_smoothing: f64,
}

impl Shards {
    /// Writes the gradient of the mean loss of a batch.
    pub fn gradient(&mut self, pass: &Pass, lesson: Lesson, gradient: &mut [f32]) -> Answered {
        let Lesson { data, indexes, changes, label_smoothing } = lesson;
        let pictures: Vec<(usize, Change)> = indexes.iter().copied().zip(changes.iter().copied()).collect();
        let size = if pass.normalises() { GHOST_BATCH } else { SHARD };
        // Of nearly the same size, so that the last one is not of a single picture.
        let shards: Vec<&[(usize, Change)]> = evenly(&pictures, size).collect();
        self.workspaces.resize_with(rayon::current_num_threads().max(1), Mutex::default);
        if self.gradients.len() < shards.len() {
            self.gradients.resize(shards.len(), Vec::new());
        }
        let (workspaces, gradients) = (&self.workspaces, &mut self.gradients[..shards.len()]);
        let share = 1.0 / indexes.len() as f64;
        let of_shards: Vec<(Score, Vec<(NormPlaces, Statistics)>)> = shards
            .par_iter()
            .zip(gradients.par_iter_mut())
            .with_max_len(1)
            .map(|(shard, of_shard)| {
                let thread = rayon::current_thread_index().unwrap_or(0) % workspaces.len();
                let mut work = workspaces[thread].lock().unwrap_or_else(PoisonError::into_inner);
                of_shard.resize(gradient.len(), 0.0);
                let targets: Vec<Target> =
                    shard.iter().map(|(index, change)| Target::of(data, *index, *change)).collect();
                let logits = pass.forward(&mut work, shard.len(), |images| write(data, pass.reading(), shard, images));
                let mut slopes = vec![0.0; logits.len()];
                let score = cross_entropy(logits, &targets, label_smoothing, share, &mut slopes);
                pass.backward(&mut work, &slopes, of_shard);
                let statistics = pass.statistics(&work);
                (score, statistics.map(|(places, statistics)| (places.clone(), statistics.clone())).collect())
            })
            .collect();
        let gradients = &*gradients;
        gradient.par_chunks_mut(SUM_NUMBERS).enumerate().for_each(|(chunk, sums)| {
            let place = chunk * SUM_NUMBERS;
            sums.copy_from_slice(&gradients[0][place..][..sums.len()]);
            for of_shard in &gradients[1..] {
                sums.iter_mut().zip(&of_shard[place..]).for_each(|(sum, value)| *sum += value);
            }
        });
        let loss = of_shards.iter().map(|(score, _)| score.loss).sum::<f64>() * share;
        Answered {
            loss: loss as f32,
            right: of_shards.iter().map(|(score, _)| score.right).sum(),
            statistics: of_shards.into_iter().map(|(_, statistics)| statistics).collect(),
        }
    }
}

/// What `answer` says of unchanged pictures, some at a time and in their order.
pub fn of_plain<T: Send>(
    pass: &Pass,
    data: &Dataset,
    indexes: &[usize],
    answer: impl Fn(&Workspace, &[f32]) -> T + Sync,
) -> Vec<T> {
    let pictures: Vec<(usize, Change)> = indexes.iter().map(|index| (*index, Change::default())).collect();
    let shards = pictures.par_chunks(SHARD);
    let answers = shards.map_init(Workspace::default, |work, shard| {
        let logits = pass.forward(work, shard.len(), |images| write(data, pass.reading(), shard, images)).to_vec();
        answer(work, &logits)
    });
    answers.collect()
}

fn write(data: &Dataset, reading: &Reading, shard: &[(usize, Change)], images: &mut [f32]) {
    for ((index, change), image) in shard.iter().zip(images.chunks_exact_mut(data.shape().elements())) {
        batch::write(data, reading, *index, *change, image);
    }
}

/// Splits a list into as few parts as are needed for none to be larger than `size`, all of nearly the same size.
fn evenly<T>(list: &[T], size: usize) -> impl Iterator<Item = &[T]> {
    let parts = list.len().div_ceil(size).max(1);
    (0..parts).map(move |part| &list[list.len() * part / parts..list.len() * (part + 1) / parts])
}

/// How logits compare with labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The sum of the losses.
    pub loss: f64,
    /// How many pictures were right.
    pub right: usize,
}

/// The sum of `-sum(target * log softmax)` over logits `(N, classes)`, the target being `1 - smoothing` at the label, or
/// divided between two, and `smoothing` spread evenly over all classes (C. Szegedy et al., "Rethinking the Inception
/// Architecture", 2016, section 7). Writes its gradient times `share`.
pub fn cross_entropy(logits: &[f32], targets: &[Target], smoothing: f64, share: f64, slopes: &mut [f32]) -> Score {
    let classes = logits.len() / targets.len().max(1);
    let mut score = Score { loss: 0.0, right: 0 };
    let rows = logits.chunks_exact(classes).zip(slopes.chunks_exact_mut(classes));
    for ((logits, slopes), Target { label, other: (other, of_other) }) in rows.zip(targets) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for (class, ((slope, power), logit)) in (0..).zip(slopes.iter_mut().zip(&powers).zip(logits)) {
            let shown =
                if class == *label { 1.0 - of_other } else { 0.0 } + if class == *other { *of_other } else { 0.0 };
            let target = smoothing / classes as f64 + (1.0 - smoothing) * shown;
            score.loss -= target * (f64::from(logit - largest) - sum.ln());
            *slope = ((power / sum - target) * share) as f32;
        }
        score.right += usize::from(logits.iter().position(|logit| *logit == largest) == Some(*label as usize));
    }
    score
}

#[cfg(test)]
mod tests {
    use ocelli_model::graph::{Finish, Graph, Layer, Window};

    use super::super::tests::{bars, input};
    use super::super::{FloatNetwork, Normalization};
    use super::*;

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let layers = vec![
            Layer::conv("conv", "input", 4, Window::square(3, 1, 1), Finish::RELU),
            Layer::max_pool("pool", "conv", Window::square(2, 2, 0)),
            Layer::logits("out", "pool", 3),
        ];
        let (data, graph) = (bars(70, 1), Graph::new(input(), layers).unwrap());
        let plain = FloatNetwork::new(graph, data.classes().to_vec(), 6.0, &Normalization::identity(1), 1).unwrap();
        let indexes: Vec<usize> = (0..70).collect();
        for (network, parts) in [(plain.clone(), 9), (plain.with_batch_norm(), 3)] {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut gradient = vec![f32::NAN; network.trained()];
                let lesson =
                    Lesson { data: &data, indexes: &indexes, changes: &[Change::default(); 70], label_smoothing: 0.1 };
                let answered =
                    pool.install(|| Shards::default().gradient(&network.training_pass(), lesson, &mut gradient));
                assert_eq!(answered.statistics.len(), parts);
                (gradient, answered.loss, answered.right)
            };
            let (gradient, loss, right) = run(1);
            assert!(gradient.iter().all(|slope| slope.is_finite()) && loss > 0.0);
            assert_eq!(run(3), (gradient, loss, right));
        }
    }

    #[test]
    fn parts_are_of_nearly_the_same_size() {
        let sizes = |count: usize| evenly(&vec![(); count], 8).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!((sizes(1), sizes(8), sizes(9), sizes(17)), (vec![1], vec![8], vec![4, 5], vec![5, 6, 6]));
    }

    #[test]
    fn smoothing_spreads_the_label() {
        let of = |target, smoothing| cross_entropy(&[1., 0., 0., 0.], &[target], smoothing, 1.0, &mut [0.0; 4]).loss;
        let loss = |smoothing| of(Target::whole(0), smoothing);
        let log_sum = (1f64.exp() + 3.0).ln();
        assert!((loss(0.0) - (log_sum - 1.0)).abs() < 1e-6);
        assert!((loss(0.2) - (log_sum - 0.85)).abs() < 1e-6);
        let divided = Target { label: 0, other: (3, 0.4) };
        assert!((of(divided, 0.0) - (log_sum - 0.6)).abs() < 1e-6);
        assert!((of(divided, 0.2) - (log_sum - 0.53)).abs() < 1e-6);
    }

    #[test]
    fn the_slope_of_the_loss_is_that_of_small_differences() {
        let logits = [0.3f32, -1.2, 2.0, 0.1, 0.4, -0.5];
        let targets = [Target::whole(2), Target { label: 0, other: (1, 0.25) }];
        let mut slopes = [0.0; 6];
        let score = cross_entropy(&logits, &targets, 0.1, 0.5, &mut slopes);
        assert_eq!(score.right, 1);
        for (place, slope) in slopes.iter().enumerate() {
            let moved = |by: f32| {
                let mut logits = logits;
                logits[place] += by;
                cross_entropy(&logits, &targets, 0.1, 0.5, &mut [0.0; 6]).loss
            };
            let expected = 0.5 * (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!((f64::from(*slope) - expected).abs() < 1e-4, "{place}: {slope} and {expected}");
        }
    }
}
