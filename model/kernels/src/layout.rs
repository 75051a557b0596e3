//! Where the elements of activations lie in memory.

use std::ops::Range;

/// What may be read beyond the last element that means something: the widest load begins at the last pixel.
const SLACK: usize = 64;
/// The bytes that a pixel of an activation takes are a multiple of this.
pub(crate) const PART: usize = 16;

/// An activation of several images in one buffer of bytes: HWC order, every pixel `pitch` bytes wide, a border of the zero
/// point around each image where a convolution pads.
///
/// Bytes of a pixel beyond its channels hold anything; weights that meet them are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Channels that mean something.
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Bytes between pixels.
    pub(crate) pitch: usize,
    /// Pixels above, on the left, below and on the right of the image.
    pub(crate) border: [usize; 4],
    /// What the border holds: a byte for every channel.
    pub(crate) zero_points: Vec<u8>,
}

/// Where the pixels of a buffer lie, or the windows that begin at some of them: the first byte, and the bytes between images,
/// rows and pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) first: usize,
    pub(crate) image: usize,
    pub(crate) row: usize,
    pub(crate) pixel: usize,
}

impl Layout {
    /// Bytes between rows.
    pub(crate) fn row(&self) -> usize {
        (self.border[1] + self.width + self.border[3]) * self.pitch
    }

    /// With a wider border on the right where long rows of narrow pixels would lie about a multiple of 2 KiB apart: those of a tall
    /// window would then have to share few places of a first-level cache.
    pub(crate) fn spread(mut self) -> Self {
        while self.pitch <= 64 && self.row() >= 2048 && (self.row() + 128) % 2048 < 256 {
            self.border[3] += 1;
        }
        self
    }

    /// Rows of an image with its border.
    pub(crate) fn rows(&self) -> usize {
        self.border[0] + self.height + self.border[2]
    }

    /// Bytes between images.
    pub(crate) fn image(&self) -> usize {
        self.rows() * self.row()
    }

    /// Bytes of a buffer for `images` images. After the last one, tiles of 4x4 outputs of a 3x3 kernel may reach 3 rows
    /// and 3 pixels further than the image, and loads may be wider than what they are needed for.
    pub(crate) fn buffer(&self, images: usize) -> usize {
        images * self.image() + 3 * (self.row() + self.pitch) + SLACK
    }

    /// The same, or `None` if that is beyond counting.
    pub(crate) fn checked_buffer(&self, images: usize) -> Option<usize> {
        let row = self.border[1].checked_add(self.width)?.checked_add(self.border[3])?.checked_mul(self.pitch)?;
        let rows = self.border[0].checked_add(self.height)?.checked_add(self.border[2])?;
        let image = rows.checked_mul(row)?.checked_mul(images)?;
        image.checked_add(row.checked_add(self.pitch)?.checked_mul(3)?)?.checked_add(SLACK)
    }

    /// Its pixels.
    pub(crate) fn view(&self) -> View {
        let (row, pixel) = (self.row(), self.pitch);
        View { first: self.border[0] * row + self.border[1] * pixel, image: self.image(), row, pixel }
    }

    /// Windows with `padding` above and on the left of the image, `stride` pixels apart.
    pub(crate) fn windows(&self, padding: [usize; 4], stride: [usize; 2]) -> View {
        let (row, pixel) = (self.row(), self.pitch);
        let first = (self.border[0] - padding[0]) * row + (self.border[1] - padding[1]) * pixel;
        View { first, image: self.image(), row: stride[0] * row, pixel: stride[1] * pixel }
    }

    /// Whether the border has room for a padding.
    pub(crate) fn covers(&self, padding: [usize; 4]) -> bool {
        self.border.iter().zip(padding).all(|(border, padding)| *border >= padding)
    }

    /// Fills a row of the first image, between its borders, with a pixel.
    pub(crate) fn fill_row(&self, y: usize, channels: &[u8], to: &mut [u8]) {
        let first = self.view().at(0, y, 0);
        for to in to[first..][..self.width * self.pitch].chunks_exact_mut(self.pitch) {
            to[..channels.len()].copy_from_slice(channels);
        }
    }

    /// Fills the borders of some images.
    pub(crate) fn fill_borders(&self, images: usize, to: &mut [u8]) {
        let (row, pitch) = (self.row(), self.pitch);
        let mut pixel = vec![0; pitch];
        pixel[..self.channels].copy_from_slice(&self.zero_points);
        let mut fill = |first: usize, pixels: usize| {
            for to in to[first..][..pixels * pitch].chunks_exact_mut(pitch) {
                to.copy_from_slice(&pixel);
            }
        };
        let [above, left, below, right] = self.border;
        let all = left + self.width + right;
        for image in 0..images {
            let first = image * self.image();
            fill(first, above * all);
            fill(first + (above + self.height) * row, below * all);
            for y in above..above + self.height {
                fill(first + y * row, left);
                fill(first + y * row + (left + self.width) * pitch, right);
            }
        }
    }
}

/// The image and the row in it of some rows, counted through all images. A division for each would take as long as a small row.
#[inline(always)]
pub(crate) fn rows_of(rows: Range<usize>, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let (mut image, mut y) = (rows.start / height, rows.start % height);
    rows.map(move |_| {
        let found = (image, y);
        (image, y) = if y + 1 == height { (image + 1, 0) } else { (image, y + 1) };
        found
    })
}

impl View {
    /// With rows for columns.
    pub(crate) fn turned(self) -> Self {
        Self { row: self.pixel, pixel: self.row, ..self }
    }

    /// The first byte of a pixel.
    #[inline(always)]
    pub(crate) fn at(&self, image: usize, y: usize, x: usize) -> usize {
        self.first + image * self.image + y * self.row + x * self.pixel
    }

    /// The first byte of a row, rows counted through all images.
    #[inline(always)]
    pub(crate) fn row(&self, height: usize, row: usize) -> usize {
        self.at(row / height, row % height, 0)
    }
}
