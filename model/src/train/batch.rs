//! Batches of pictures for the float network, plain or changed at random.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Recipe;
use crate::dataset::Dataset;
use crate::graph::Shape;

/// How pictures are changed each time they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Augmentation {
    /// By how many pixels at most a picture is moved in each direction; what comes in from outside is black.
    shift: usize,
    /// Whether each picture is mirrored, left to right, in the first epoch, and then in every other one: so an epoch shows
    /// half of them as the one before did not (K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, section
    /// 3.6). Empty if none is ever mirrored.
    mirrored_first: Vec<bool>,
}

/// How a picture is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    down: isize,
    right: isize,
    mirrored: bool,
}

impl Augmentation {
    /// As a recipe says, for so many pictures.
    pub fn new(recipe: &Recipe, pictures: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        // Other numbers than those of the shifts.
        rng.set_stream(1);
        let pictures = if recipe.flip { pictures } else { 0 };
        Self { shift: recipe.shift, mirrored_first: (0..pictures).map(|_| rng.random()).collect() }
    }

    /// Draws how the pictures at some indexes are changed in an epoch, from 1.
    pub fn draw(&self, indexes: &[usize], epoch: usize, rng: &mut ChaCha8Rng) -> Vec<Change> {
        let shift = self.shift as i64;
        let change = |index: &usize| Change {
            down: rng.random_range(-shift..=shift) as isize,
            right: rng.random_range(-shift..=shift) as isize,
            mirrored: self.mirrored_first.get(*index).is_some_and(|first| *first == (epoch % 2 == 1)),
        };
        indexes.iter().map(change).collect()
    }
}

/// Writes the picture at an index as `(H, W, C)`, each number `(pixel >> 1) / 127`.
pub fn write(data: &Dataset, index: usize, change: Change, image: &mut [f32]) {
    let Shape { channels, height, width } = data.shape();
    let pixels = data.pixels(index);
    image.fill(0.0);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One picture of two channels, two rows and three columns, each pixel another.
    fn data() -> Dataset {
        let pixels = (0..12).map(|number| number * 2).collect();
        let shape = Shape { channels: 2, height: 2, width: 3 };
        Dataset::from_pixels(shape, vec!["only".into()], vec![("a".into(), 0, pixels)])
    }

    fn numbers(change: Change) -> Vec<f32> {
        let mut image = [9f32; 12];
        write(&data(), 0, change, &mut image);
        image.iter().map(|number| (number * 127.0).round()).collect()
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
        let draw = |seed| {
            let augmentation = Augmentation::new(&Recipe { seed, shift: 1, ..Recipe::default() }, 8);
            augmentation.draw(&[0, 1, 2, 3, 4, 5, 6, 7], 1, &mut ChaCha8Rng::seed_from_u64(seed))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn every_picture_is_mirrored_in_every_other_epoch() {
        let indexes: Vec<usize> = (0..100).collect();
        let mirrored = |recipe: &Recipe, epoch| -> Vec<bool> {
            let changes = Augmentation::new(recipe, 100).draw(&indexes, epoch, &mut ChaCha8Rng::seed_from_u64(1));
            changes.iter().map(|change| change.mirrored).collect()
        };
        let first = mirrored(&Recipe::default(), 1);
        let count = first.iter().filter(|mirrored| **mirrored).count();
        assert!((30..70).contains(&count), "{count}");
        let others: Vec<bool> = first.iter().map(|mirrored| !mirrored).collect();
        assert_eq!((mirrored(&Recipe::default(), 2), mirrored(&Recipe::default(), 3)), (others, first));
        assert_eq!(mirrored(&Recipe { flip: false, ..Recipe::default() }, 1), [false; 100]);
    }
}
