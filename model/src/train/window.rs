//! A window that slides over an image `(H, W, C)`.

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
    pub fn corners(self, [height, width, channels]: [usize; 3]) -> impl Iterator<Item = usize> {
        let (rows, columns) = (self.outputs(height), self.outputs(width));
        let of_row = move |begin| (0..columns).map(move |column| begin + column * self.stride * channels);
        let of_image = move |image| (0..rows).map(move |row| (image * height + row * self.stride) * width * channels);
        (0..).flat_map(of_image).flat_map(of_row)
    }

    /// The places of a window without padding, from its first one.
    pub fn steps(self, [_, width, channels]: [usize; 3]) -> Vec<usize> {
        let of_row = |row| (0..self.kernel).map(move |column| (row * width + column) * channels);
        (0..self.kernel).flat_map(of_row).collect()
    }

    /// The runs of a window, counted row by row: where each begins in the image, and its range in the window's own numbers.
    /// What lies in the padding is left out.
    pub fn runs(self, image: [usize; 3], index: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let [height, width, channels] = image;
        let Window { kernel, padding, .. } = self;
        let (top, left) = self.corner(width, index);
        // Columns of the kernel that fall inside the image.
        let first = padding.saturating_sub(left);
        let last = kernel.min((width + padding).saturating_sub(left)).max(first);
        (0..kernel).filter_map(move |row| {
            let y = (top + row).checked_sub(padding).filter(|y| *y < height)?;
            let x = left + first - padding;
            let begin = (row * kernel + first) * channels;
            Some(((y * width + x) * channels, begin..begin + (last - first) * channels))
        })
    }

    /// The row and column, in the padded image, at which a window begins.
    fn corner(&self, width: usize, index: usize) -> (usize, usize) {
        let across = self.outputs(width);
        (index / across * self.stride, index % across * self.stride)
    }
}
