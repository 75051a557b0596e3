//! Batches of pictures for the float network, plain or changed at random.

use std::ops::Range;

use ocelli_model::graph::Shape;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Changes, Recipe};
use crate::dataset::Dataset;

/// How pictures are changed each time they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    changes: Changes,
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
    /// What is shown of another picture.
    patch: Option<Patch>,
}

/// A rectangle of another picture, which lies where it lay there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Patch {
    index: usize,
    mirrored: bool,
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// What a picture is to be taken for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// What most of it shows.
    pub label: u32,
    /// What the rest shows, and how large a share of the picture that is; the same class and 0 for a whole picture.
    pub other: (u32, f64),
}

impl Target {
    /// Of a picture that shows one thing.
    pub fn whole(label: u32) -> Self {
        Self { label, other: (label, 0.0) }
    }

    /// Of a picture of the data as it is changed.
    pub fn of(data: &Dataset, index: usize, change: Change) -> Self {
        let (labels, shape) = (data.labels(), data.shape());
        let Some(patch) = change.patch else { return Self::whole(labels[index]) };
        let (label, other) = (labels[index], labels[patch.index]);
        let share = (patch.height * patch.width) as f64 / (shape.height * shape.width) as f64;
        if share > 0.5 {
            return Self { label: other, other: (label, 1.0 - share) };
        }
        Self { label, other: (other, share) }
    }
}

impl Augmentation {
    /// As a recipe says, for so many pictures.
    pub fn new(recipe: &Recipe, pictures: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
        // Other numbers than those of the shifts.
        rng.set_stream(1);
        let pictures = if recipe.changes.flip { pictures } else { 0 };
        let mirrored_first = (0..pictures).map(|_| rng.random()).collect();
        Self { changes: recipe.changes.clone(), mirrored_first }
    }

    /// Draws how the pictures at some indexes, of some shape, are changed in an epoch, from 1.
    pub fn draw(&self, indexes: &[usize], shape: Shape, epoch: usize, rng: &mut ChaCha8Rng) -> Vec<Change> {
        let Changes { shift, cutout, cutmix, .. } = self.changes;
        let shift = shift as i64;
        let corner =
            |size: usize, rng: &mut ChaCha8Rng| rng.random_range(0..size as u64) as isize - (cutout / 2) as isize;
        let mirrored = |index: usize| self.mirrored_first.get(index).is_some_and(|first| *first == (epoch % 2 == 1));
        let change = |(place, index): (usize, &usize)| {
            let (down, right) = (rng.random_range(-shift..=shift) as isize, rng.random_range(-shift..=shift) as isize);
            let mut change = Change { down, right, mirrored: mirrored(*index), ..Change::default() };
            // The order is a random one, so the next picture is any.
            let other = indexes[(place + 1) % indexes.len()];
            if cutmix > 0.0 && rng.random::<f64>() < cutmix {
                change.patch = Some(Patch::draw(other, mirrored(other), shape, rng));
            } else if cutout > 0 {
                change.hole = (corner(shape.height, rng), corner(shape.width, rng), cutout);
            }
            change
        };
        indexes.iter().enumerate().map(change).collect()
    }
}

impl Patch {
    /// Draws a rectangle around any pixel: its area is any share of the picture's, but for what falls outside.
    fn draw(index: usize, mirrored: bool, shape: Shape, rng: &mut ChaCha8Rng) -> Self {
        let side = rng.random::<f64>().sqrt();
        let mut span = |size: usize| {
            let (centre, half) = (rng.random_range(0..size as u64) as f64, side * size as f64 / 2.0);
            let (first, end) = ((centre - half).round().max(0.0) as usize, (centre + half).round() as usize);
            (first, end.min(size) - first)
        };
        let ((top, height), (left, width)) = (span(shape.height), span(shape.width));
        Self { index, mirrored, top, left, height, width }
    }
}

/// What the bytes of pixels stand for in each channel of a network's input: 0 for its zero point, and 1 for the distance from 0
/// to the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading(Vec<[f32; 256]>);

impl Reading {
    /// Of an input of these zero points whose bytes are halved first, or taken as they are.
    pub fn new(zero_points: &[u8], halved: bool) -> Self {
        let of_byte = |byte: usize, zero_point: f32| {
            if halved { ((byte >> 1) as f32 - zero_point) / 127.0 } else { (byte as f32 - zero_point) / 255.0 }
        };
        let table = |zero_point: &u8| std::array::from_fn(|byte| of_byte(byte, f32::from(*zero_point)));
        Self(zero_points.iter().map(table).collect())
    }

    /// What a pixel of a channel stands for.
    pub fn number(&self, channel: usize, pixel: u8) -> f32 {
        self.0[channel][usize::from(pixel)]
    }
}

/// Writes the picture at an index as `(H, W, C)`. What is not of the picture has the colour of the zero points.
pub fn write(data: &Dataset, reading: &Reading, index: usize, change: Change, image: &mut [f32]) {
    let shape = data.shape();
    let Shape { height, width, .. } = shape;
    image.fill(0.0);
    let pixels = data.pixels(index);
    let (top, left, side) = change.hole;
    let side = side as isize;
    // Columns that the moved picture covers, and those of the hole.
    let covered = within(change.right..change.right + width as isize, width);
    let hole = within(left..left + side, width);
    for y in within(change.down..change.down + height as isize, height) {
        let from_y = y.wrapping_add_signed(-change.down);
        let pieces = if (top..top + side).contains(&(y as isize)) {
            [covered.start..covered.end.min(hole.start), covered.start.max(hole.end)..covered.end]
        } else {
            [covered.clone(), 0..0]
        };
        for columns in pieces {
            let from = (from_y, columns.start.wrapping_add_signed(-change.right));
            show(pixels, reading, shape, (y, columns), from, change.mirrored, image);
        }
    }
    let Some(patch) = change.patch else { return };
    let pixels = data.pixels(patch.index);
    for y in patch.top..patch.top + patch.height {
        let columns = patch.left..patch.left + patch.width;
        show(pixels, reading, shape, (y, columns), (y, patch.left), patch.mirrored, image);
    }
}

/// What of a range falls inside of `0..size`.
fn within(range: Range<isize>, size: usize) -> Range<usize> {
    let inside = |place: isize| place.clamp(0, size as isize) as usize;
    inside(range.start)..inside(range.end)
}

/// Writes some columns of a row, as they lie in a picture `(C, H, W)` from some row and column on; of a mirrored picture, columns
/// count from the right.
fn show(
    pixels: &[u8],
    reading: &Reading,
    Shape { channels, height, width }: Shape,
    (y, columns): (usize, Range<usize>),
    (from_y, from_x): (usize, usize),
    mirrored: bool,
    image: &mut [f32],
) {
    if columns.is_empty() {
        return;
    }
    let begin = if mirrored { width - from_x - columns.len() } else { from_x };
    let targets = &mut image[(y * width + columns.start) * channels..][..columns.len() * channels];
    for channel in 0..channels {
        let sources = &pixels[(channel * height + from_y) * width + begin..][..columns.len()];
        let targets = targets[channel..].iter_mut().step_by(channels);
        let number = |pixel: &u8| reading.number(channel, *pixel);
        if mirrored {
            targets.zip(sources.iter().rev()).for_each(|(target, pixel)| *target = number(pixel));
        } else {
            targets.zip(sources).for_each(|(target, pixel)| *target = number(pixel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pictures of two channels, two rows and three columns, each pixel another.
    fn data() -> Dataset {
        let pixels = |first: u8| (first..first + 12).map(|number| number * 2).collect();
        let shape = Shape { channels: 2, height: 2, width: 3 };
        let pictures = vec![("a".into(), 0, pixels(0)), ("b".into(), 1, pixels(20))];
        Dataset::from_pixels(shape, vec!["first".into(), "second".into()], pictures)
    }

    fn numbers(change: Change) -> Vec<f32> {
        let mut image = [9f32; 12];
        write(&data(), &Reading::new(&[0, 0], true), 0, change, &mut image);
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
    fn bytes_are_read_around_their_zero_points() {
        let reading = Reading::new(&[0, 51], false);
        assert_eq!(
            [(0, 0), (0, 255), (1, 0), (1, 51)].map(|(channel, pixel)| reading.number(channel, pixel)),
            [0.0, 1.0, -0.2, 0.0]
        );
        let halved = Reading::new(&[64], true);
        assert_eq!([0, 128, 129, 255].map(|pixel| halved.number(0, pixel) * 127.0), [-64.0, 0.0, 0.0, 63.0]);
    }

    #[test]
    fn a_patch_shows_what_is_there_in_another_picture() {
        let patch = |mirrored, (top, height), (left, width)| {
            let patch = Some(Patch { index: 1, mirrored, top, left, height, width });
            Change { patch, ..Change::default() }
        };
        let corner = patch(false, (1, 1), (1, 2));
        assert_eq!(numbers(corner), [0., 6., 1., 7., 2., 8., 3., 9., 24., 30., 25., 31.]);
        assert_eq!(Target::of(&data(), 0, corner), Target { label: 0, other: (1, 1.0 / 3.0) });
        let columns = patch(true, (0, 2), (0, 2));
        assert_eq!(numbers(columns), [22., 28., 21., 27., 2., 8., 25., 31., 24., 30., 5., 11.]);
        assert_eq!(Target::of(&data(), 0, columns), Target { label: 1, other: (0, 1.0 - 2.0 / 3.0) });
        assert_eq!(Target::of(&data(), 0, Change::default()), Target { label: 0, other: (0, 0.0) });
    }

    fn changing(changes: Changes) -> Recipe {
        Recipe { changes, ..Recipe::default() }
    }

    #[test]
    fn patches_are_of_any_size_and_lie_inside() {
        let shape = Shape { channels: 1, height: 8, width: 20 };
        let recipe = changing(Changes { cutmix: 0.5, cutout: 4, ..Changes::default() });
        let indexes: Vec<usize> = (0..2000).collect();
        let changes = Augmentation::new(&recipe, 2000).draw(&indexes, shape, 1, &mut ChaCha8Rng::seed_from_u64(1));
        let patches: Vec<Patch> = changes.iter().filter_map(|change| change.patch).collect();
        assert!((900..1100).contains(&patches.len()), "{}", patches.len());
        assert!(patches.iter().all(|patch| patch.top + patch.height <= 8 && patch.left + patch.width <= 20));
        let area = |patch: &Patch| patch.height * patch.width;
        assert!(patches.iter().any(|patch| area(patch) == 0) && patches.iter().any(|patch| area(patch) > 140));
        for (place, change) in changes.iter().enumerate() {
            assert_eq!(change.patch.is_some(), change.hole.2 == 0);
            let Some(patch) = change.patch else { continue };
            assert_eq!(patch.index, (place + 1) % 2000);
            assert_eq!(patch.mirrored, changes[patch.index].mirrored);
        }
    }

    #[test]
    fn a_seed_gives_the_same_changes() {
        let draw = |seed| {
            let augmentation =
                Augmentation::new(&Recipe { seed, ..changing(Changes { shift: 1, ..Changes::default() }) }, 8);
            augmentation.draw(&[0, 1, 2, 3, 4, 5, 6, 7], data().shape(), 1, &mut ChaCha8Rng::seed_from_u64(seed))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn holes_lie_around_pixels_of_the_picture() {
        let shape = Shape { channels: 1, height: 8, width: 20 };
        let draw = |cutout| {
            let augmentation = Augmentation::new(&changing(Changes { cutout, shift: 0, ..Changes::default() }), 1);
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
        assert_eq!(mirrored(&changing(Changes { flip: false, ..Changes::default() }), 1), [false; 100]);
    }
}
