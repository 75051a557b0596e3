//! How a window slides over an image `(H, W, C)`.

use std::iter;
use std::ops::Range;

pub use ocelli_model::graph::Window;

/// The window of a single place.
pub const POINT: Window = Window::square(1, 1, 0);

/// Where a window lies as it slides.
pub trait Slide: Sized {
    /// How often the window fits down and across an image, which must hold it at least once.
    fn outputs(&self, image: [usize; 3]) -> [usize; 2];

    /// The first place (of the first channel) of every window without padding, image by image without end.
    fn corners(self, image: [usize; 3]) -> impl Iterator<Item = usize>;

    /// The places of a window without padding, from its first one.
    fn steps(self, image: [usize; 3]) -> Vec<usize>;

    /// The windows of images, row by row and image by image without end, from one of them on.
    fn places(self, image: [usize; 3], index: usize) -> Places;

    /// Visits the runs of a window, row by row: where each begins in the images, and its range in the window's own numbers. What
    /// lies in the padding is left out.
    fn visit_runs(self, image: [usize; 3], place: Place, visit: impl FnMut(usize, Range<usize>));
}

impl Slide for Window {
    fn outputs(&self, [height, width, _]: [usize; 3]) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        let size = [height + top + bottom, width + left + right];
        [0, 1].map(|direction| (size[direction] - self.kernel[direction]) / self.stride[direction] + 1)
    }

    fn corners(self, image: [usize; 3]) -> impl Iterator<Item = usize> {
        let mut places = self.places(image, 0);
        iter::from_fn(move || places.advance().whole)
    }

    fn steps(self, [_, width, channels]: [usize; 3]) -> Vec<usize> {
        let [rows, columns] = self.kernel;
        let of_row = |row| (0..columns).map(move |column| (row * width + column) * channels);
        (0..rows).flat_map(of_row).collect()
    }

    fn places(self, image: [usize; 3], index: usize) -> Places {
        let outputs = self.outputs(image);
        let [down, across] = outputs;
        Places { window: self, image, outputs, next: [index / (down * across), index / across % down, index % across] }
    }

    #[inline(always)]
    fn visit_runs(self, image: [usize; 3], place: Place, mut visit: impl FnMut(usize, Range<usize>)) {
        if let Some(begin) = place.whole {
            let [run, across] = [self.kernel[1], image[1]].map(|columns| columns * image[2]);
            for row in 0..self.kernel[0] {
                visit(begin + row * across, row * run..(row + 1) * run);
            }
            return;
        }
        for (begin, range) in runs(self, image, place) {
            visit(begin, range);
        }
    }
}

fn runs(window: Window, image: [usize; 3], place: Place) -> impl Iterator<Item = (usize, Range<usize>)> {
    let [height, width, channels] = image;
    let Window { kernel: [rows, columns], padding: [above, before, ..], .. } = window;
    let Place { image, top, left, .. } = place;
    // Columns of the kernel that fall inside the image.
    let first = before.saturating_sub(left);
    let last = columns.min((width + before).saturating_sub(left)).max(first);
    (0..rows).filter_map(move |row| {
        let y = (top + row).checked_sub(above).filter(|y| *y < height)?;
        let x = left + first - before;
        let begin = (row * columns + first) * channels;
        Some((((image * height + y) * width + x) * channels, begin..begin + (last - first) * channels))
    })
}

/// Where a window lies.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The image, and the row and column in the padded image at which the window begins.
    image: usize,
    top: usize,
    left: usize,
    /// Where its first number lies in the images, if none of it lies in the padding.
    pub whole: Option<usize>,
}

/// See [`Slide::places`].
#[derive(Debug, Clone)]
pub struct Places {
    window: Window,
    image: [usize; 3],
    /// How often the window fits, down and across.
    outputs: [usize; 2],
    /// The image of the next window, and its row and column in the outputs.
    next: [usize; 3],
}

impl Places {
    /// The next one.
    #[inline(always)]
    pub fn advance(&mut self) -> Place {
        let Window { kernel, stride, padding } = self.window;
        let [height, width, channels] = self.image;
        let [image, row, column] = &mut self.next;
        let (top, left) = (*row * stride[0], *column * stride[1]);
        let inside = |corner: usize, padding: usize, kernel: usize, size: usize| {
            corner.checked_sub(padding).filter(|begin| begin + kernel <= size)
        };
        let whole = inside(top, padding[0], kernel[0], height).zip(inside(left, padding[1], kernel[1], width));
        let whole = whole.map(|(y, x)| ((*image * height + y) * width + x) * channels);
        let place = Place { image: *image, top, left, whole };
        *column += 1;
        if *column == self.outputs[1] {
            (*column, *row) = (0, *row + 1);
        }
        if *row == self.outputs[0] {
            (*row, *image) = (0, *image + 1);
        }
        place
    }
}
