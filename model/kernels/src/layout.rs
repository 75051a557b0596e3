//! Where the elements of activations lie in memory.

/// What may be read beyond the last element that means something: the widest load begins at the last pixel.
const SLACK: usize = 64;

/// An activation of several images in one buffer of bytes: HWC order, every pixel `pitch` bytes wide, a border of zeros
/// around each image where a convolution pads.
///
/// Bytes of a pixel beyond its channels hold anything in 0..=127; weights that meet them are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Channels that mean something.
    pub(crate) channels: usize,
    /// Rows that some layer reads, the border excluded.
    pub(crate) height: usize,
    /// Columns that some layer reads, the border excluded.
    pub(crate) width: usize,
    /// Bytes between pixels.
    pub(crate) pitch: usize,
    /// Zeros around the image, in pixels.
    pub(crate) border: usize,
    /// Whether tails lie behind the images: see [`Layout::tail`].
    pub(crate) has_tails: bool,
}

impl Layout {
    /// Bytes between rows.
    #[inline(always)]
    pub(crate) fn row(&self) -> usize {
        (self.width + 2 * self.border) * self.pitch
    }

    /// Bytes between images.
    #[inline(always)]
    pub(crate) fn image(&self) -> usize {
        (self.height + 2 * self.border) * self.row()
    }

    /// Bytes of a buffer for `images` images. After the last one, tiles of 4x4 outputs of a 3x3 kernel may reach 3 rows
    /// and 3 pixels further than the image, and loads may be wider than what they are needed for.
    pub(crate) fn buffer(&self, images: usize) -> usize {
        self.tails(images) + if self.has_tails { images * self.tail_image() } else { 0 }
    }

    fn tails(&self, images: usize) -> usize {
        images * self.image() + 4 * (self.row() + self.pitch) + SLACK
    }

    fn tail_row(&self) -> usize {
        4 * (self.width + 2 * self.border)
    }

    fn tail_image(&self) -> usize {
        (self.height + 2 * self.border) * self.tail_row()
    }

    /// The first byte of the tail of the 3x3 window that begins at row `y` and column `x` of an image, both counted with
    /// the border.
    ///
    /// A row of such a window over 3 channels (or 7, 11, …) is some words of four bytes and one byte more. A tail is that
    /// last byte of each of the three rows, side by side, and a zero: one word, where the rows would need one each.
    pub(crate) fn tail(&self, images: usize, image: usize, y: usize, x: usize) -> usize {
        self.tails(images) + image * self.tail_image() + y * self.tail_row() + 4 * x
    }

    /// The first byte of the pixel at row `y` and column `x` of an image, both counted with the border.
    pub(crate) fn bordered(&self, image: usize, y: usize, x: usize) -> usize {
        image * self.image() + y * self.row() + x * self.pitch
    }

    /// The first byte of the pixel at row `y` and column `x` of an image.
    pub(crate) fn at(&self, image: usize, y: usize, x: usize) -> usize {
        self.bordered(image, y + self.border, x + self.border)
    }

    /// The bytes that one image takes in memory, or `None` if that is beyond counting.
    pub(crate) fn checked_image(&self) -> Option<usize> {
        let wide = self.border.checked_mul(2)?;
        let row = self.width.checked_add(wide)?.checked_mul(self.pitch)?;
        let row = if self.has_tails { row.checked_mul(3)? } else { row };
        self.height.checked_add(wide)?.checked_add(4)?.checked_mul(row)
    }
}
