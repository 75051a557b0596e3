//! A window that slides over an image `(H, W, C)`.

use std::iter;
use std::ops::Range;

/// A square window that slides over rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub kernel: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros around the input on every side.
    pub padding: usize,
}

/// The window of a single place.
pub const POINT: Window = Window { kernel: 1, stride: 1, padding: 0 };

impl Window {
    /// How often the window fits into `size` rows or columns, which must hold it at least once.
    pub fn outputs(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// The first place (of the first channel) of every window without padding, image by image without end.
    pub fn corners(self, image: [usize; 3]) -> impl Iterator<Item = usize> {
        let mut places = self.places(image, 0);
        iter::from_fn(move || places.advance().whole)
    }

    /// The places of a window without padding, from its first one.
    pub fn steps(self, [_, width, channels]: [usize; 3]) -> Vec<usize> {
        let of_row = |row| (0..self.kernel).map(move |column| (row * width + column) * channels);
        (0..self.kernel).flat_map(of_row).collect()
    }

    /// The windows of images, row by row and image by image without end, from one of them on.
    pub fn places(self, [height, width, channels]: [usize; 3], index: usize) -> Places {
        let (down, across) = (self.outputs(height), self.outputs(width));
        let next = [index / (down * across), index / across % down, index % across];
        Places { window: self, image: [height, width, channels], outputs: [down, across], next }
    }

    /// Visits the runs of a window, row by row: where each begins in the images, and its range in the window's own numbers. What
    /// lies in the padding is left out.
    #[inline(always)]
    pub fn visit_runs(self, image: [usize; 3], place: Place, mut visit: impl FnMut(usize, Range<usize>)) {
        if let Some(begin) = place.whole {
            let [run, across] = [self.kernel, image[1]].map(|columns| columns * image[2]);
            for row in 0..self.kernel {
                visit(begin + row * across, row * run..(row + 1) * run);
            }
            return;
        }
        for (begin, range) in self.runs(image, place) {
            visit(begin, range);
        }
    }

    fn runs(self, image: [usize; 3], place: Place) -> impl Iterator<Item = (usize, Range<usize>)> {
        let [height, width, channels] = image;
        let Window { kernel, padding, .. } = self;
        let Place { image, top, left, .. } = place;
        // Columns of the kernel that fall inside the image.
        let first = padding.saturating_sub(left);
        let last = kernel.min((width + padding).saturating_sub(left)).max(first);
        (0..kernel).filter_map(move |row| {
            let y = (top + row).checked_sub(padding).filter(|y| *y < height)?;
            let x = left + first - padding;
            let begin = (row * kernel + first) * channels;
            Some((((image * height + y) * width + x) * channels, begin..begin + (last - first) * channels))
        })
    }
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

/// See [`Window::places`].
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
        let (top, left) = (*row * stride, *column * stride);
        let inside = |corner: usize, size| corner.checked_sub(padding).filter(|begin| begin + kernel <= size);
        let whole = inside(top, height).zip(inside(left, width));
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
