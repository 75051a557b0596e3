//! Batches of pictures for the float network, plain or changed at random.

use candle_core::{Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::TrainError;
use crate::dataset::Dataset;
use crate::graph::Shape;

/// How pictures are changed at random, anew each time they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// By how many pixels at most a picture is moved in each direction; what comes in from outside is black.
    pub shift: usize,
    /// Whether half of the pictures are mirrored, left to right.
    pub flip: Flip,
}

/// Whether pictures may be mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flip {
    /// Half of them are.
    Random,
    /// None is.
    Never,
}

/// The pictures at some indexes as `(N, H, W, C)` in f32, each number `(pixel >> 1) / 127`.
///
/// # Errors
/// Candle's.
pub fn plain(data: &Dataset, indexes: &[usize]) -> Result<Tensor, TrainError> {
    collect(data, indexes, |_| Change { down: 0, right: 0, mirrored: false })
}

/// As [`plain`], each picture changed as a generator draws.
///
/// # Errors
/// Candle's.
pub fn augmented(
    data: &Dataset,
    indexes: &[usize],
    augmentation: Augmentation,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor, TrainError> {
    let shift = augmentation.shift as i64;
    collect(data, indexes, |_| Change {
        down: rng.random_range(-shift..=shift) as isize,
        right: rng.random_range(-shift..=shift) as isize,
        mirrored: augmentation.flip == Flip::Random && rng.random(),
    })
}

struct Change {
    down: isize,
    right: isize,
    mirrored: bool,
}

fn collect(data: &Dataset, indexes: &[usize], change: impl FnMut(usize) -> Change) -> Result<Tensor, TrainError> {
    let Shape { channels, height, width } = data.shape();
    let of_image = data.shape().elements();
    let mut batch = vec![0f32; indexes.len() * of_image];
    // Drawn in order first, so that threads change nothing.
    let changes: Vec<Change> = indexes.iter().copied().map(change).collect();
    batch.par_chunks_mut(of_image.max(1)).zip(indexes).zip(&changes).for_each(|((image, index), change)| {
        let pixels = data.pixels(*index);
        for y in 0..height {
            let Some(from_y) = y.checked_add_signed(-change.down).filter(|y| *y < height) else { continue };
            for x in 0..width {
                let Some(from_x) = x.checked_add_signed(-change.right).filter(|x| *x < width) else { continue };
                let from_x = if change.mirrored { width - 1 - from_x } else { from_x };
                for channel in 0..channels {
                    let pixel = pixels[(channel * height + from_y) * width + from_x];
                    image[(y * width + x) * channels + channel] = f32::from(pixel >> 1) / 127.0;
                }
            }
        }
    });
    Ok(Tensor::from_vec(batch, (indexes.len(), height, width, channels), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// One picture of two channels, two rows and three columns, each pixel another.
    fn data() -> Dataset {
        let pixels = (0..12).map(|number| number * 2).collect();
        let shape = Shape { channels: 2, height: 2, width: 3 };
        Dataset::from_pixels(shape, vec!["only".into()], vec![("a".into(), 0, pixels)])
    }

    fn numbers(change: Change) -> Vec<f32> {
        let mut change = Some(change);
        let batch = collect(&data(), &[0], |_| change.take().unwrap()).unwrap();
        batch.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|number| (number * 127.0).round()).collect()
    }

    #[test]
    fn every_pixel_is_where_it_belongs() {
        let plain = numbers(Change { down: 0, right: 0, mirrored: false });
        assert_eq!(plain, [0., 6., 1., 7., 2., 8., 3., 9., 4., 10., 5., 11.]);
        let moved = numbers(Change { down: 1, right: -1, mirrored: false });
        assert_eq!(moved, [0., 0., 0., 0., 0., 0., 1., 7., 2., 8., 0., 0.]);
        let mirrored = numbers(Change { down: 0, right: 1, mirrored: true });
        assert_eq!(mirrored, [0., 0., 2., 8., 1., 7., 0., 0., 5., 11., 4., 10.]);
    }

    #[test]
    fn a_seed_gives_the_same_changes() {
        let augmentation = Augmentation { shift: 1, flip: Flip::Random };
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let batch = augmented(&data(), &[0; 8], augmentation, &mut rng).unwrap();
            batch.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
