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
    /// The rows and columns of a square that is painted black, somewhere around a pixel of the picture, so that part of it may
    /// fall outside (T. DeVries, G. Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017).
    cutout: usize,
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
    /// The square that is black: its first row and column, and its side.
    hole: (isize, isize, usize),
}

impl Augmentation {
    /// As a recipe says, for so many pictures.
    pub fn new(recipe: &Recipe, pictures: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        // Other numbers than those of the shifts.
        rng.set_stream(1);
        let pictures = if recipe.flip { pictures } else { 0 };
        let mirrored_first = (0..pictures).map(|_| rng.random()).collect();
        Self { shift: recipe.shift, cutout: recipe.cutout, mirrored_first }
    }

    /// Draws how the pictures at some indexes, of some shape, are changed in an epoch, from 1.
    pub fn draw(&self, indexes: &[usize], shape: Shape, epoch: usize, rng: &mut ChaCha8Rng) -> Vec<Change> {
        let shift = self.shift as i64;
        let corner =
            |size: usize, rng: &mut ChaCha8Rng| rng.random_range(0..size as u64) as isize - (self.cutout / 2) as isize;
        let change = |index: &usize| Change {
            down: rng.random_range(-shift..=shift) as isize,
            right: rng.random_range(-shift..=shift) as isize,
            mirrored: self.mirrored_first.get(*index).is_some_and(|first| *first == (epoch % 2 == 1)),
            hole: match self.cutout {
                0 => Change::default().hole,
                side => (corner(shape.height, rng), corner(shape.width, rng), side),
            },
        };
        indexes.iter().map(change).collect()
    }
}

/// Writes the picture at an index as `(H, W, C)`, each number `(pixel >> 1) / 127`.
pub fn write(data: &Dataset, index: usize, change: Change, image: &mut [f32]) {
    let Shape { channels, height, width } = data.shape();
    let pixels = data.pixels(index);
    image.fill(0.0);
    let (top, left, side) = change.hole;
    let is_hole = |from: isize, place: usize| (from..from + side as isize).contains(&(place as isize));
    for y in 0..height {
        let Some(from_y) = y.checked_add_signed(-change.down).filter(|y| *y < height) else { continue };
        for x in 0..width {
            let Some(from_x) = x.checked_add_signed(-change.right).filter(|x| *x < width) else { continue };
            if is_hole(top, y) && is_hole(left, x) {
                continue;
            }
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
        let plain = numbers(Change::default());
        assert_eq!(plain, [0., 6., 1., 7., 2., 8., 3., 9., 4., 10., 5., 11.]);
        let moved = numbers(Change { down: 1, right: -1, ..Change::default() });
        assert_eq!(moved, [0., 0., 0., 0., 0., 0., 1., 7., 2., 8., 0., 0.]);
        let mirrored = numbers(Change { right: 1, mirrored: true, ..Change::default() });
        assert_eq!(mirrored, [0., 0., 2., 8., 1., 7., 0., 0., 5., 11., 4., 10.]);
        let with_hole = |top, left| numbers(Change { hole: (top, left, 2), ..Change::default() });
        assert_eq!(with_hole(1, 1), [0., 6., 1., 7., 2., 8., 3., 9., 0., 0., 0., 0.]);
        assert_eq!(with_hole(-1, -1), [0., 0., 1., 7., 2., 8., 3., 9., 4., 10., 5., 11.]);
    }

    #[test]
    fn a_seed_gives_the_same_changes() {
        let draw = |seed| {
            let augmentation = Augmentation::new(&Recipe { seed, shift: 1, ..Recipe::default() }, 8);
            augmentation.draw(&[0, 1, 2, 3, 4, 5, 6, 7], data().shape(), 1, &mut ChaCha8Rng::seed_from_u64(seed))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn holes_lie_around_pixels_of_the_picture() {
        let shape = Shape { channels: 1, height: 8, width: 20 };
        let draw = |cutout| {
            let augmentation = Augmentation::new(&Recipe { cutout, shift: 0, ..Recipe::default() }, 1);
            augmentation.draw(&[0; 1000], shape, 1, &mut ChaCha8Rng::seed_from_u64(1))
        };
        let changes = draw(4);
        let corners = |corner: fn(&Change) -> isize| {
            let corners = changes.iter().map(corner);
            (corners.clone().min(), corners.max())
        };
        assert!(changes.iter().all(|change| change.hole.2 == 4));
        assert_eq!(corners(|change| change.hole.0), (Some(-2), Some(5)));
        assert_eq!(corners(|change| change.hole.1), (Some(-2), Some(17)));
        assert!(draw(0).iter().all(|change| change.hole == (0, 0, 0)));
    }

    #[test]
    fn every_picture_is_mirrored_in_every_other_epoch() {
        let indexes: Vec<usize> = (0..100).collect();
        let mirrored = |recipe: &Recipe, epoch| -> Vec<bool> {
            let changes =
                Augmentation::new(recipe, 100).draw(&indexes, data().shape(), epoch, &mut ChaCha8Rng::seed_from_u64(1));
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
