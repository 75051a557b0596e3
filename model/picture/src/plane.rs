//! Samples of one component or colour.

use crate::crop::Rectangle;

/// How many bytes are worked on at once: every column has a multiple of them.
pub(crate) const LANES: usize = 16;

/// Bytes, column by column.
pub(crate) struct Plane {
    samples: Vec<u8>,
    /// From one column to the next: the rows, up to a multiple of [`LANES`].
    stride: usize,
}

impl Plane {
    /// Of zeros.
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        let stride = rows.next_multiple_of(LANES);
        Self { samples: vec![0; columns * stride], stride }
    }

    /// All of it, and the bytes from one column to the next.
    pub(crate) fn columns(&self) -> (&[u8], usize) {
        (&self.samples, self.stride)
    }

    /// A column, and what fills it up.
    pub(crate) fn column(&self, column: usize) -> &[u8] {
        &self.samples[column * self.stride..][..self.stride]
    }

    /// A column, and what fills it up.
    pub(crate) fn column_mut(&mut self, column: usize) -> &mut [u8] {
        &mut self.samples[column * self.stride..][..self.stride]
    }

    /// Puts a block, column by column, where its first sample belongs.
    pub(crate) fn put(&mut self, block: &[[u8; 8]; 8], column: usize, row: usize) {
        let columns = self.samples[column * self.stride..].chunks_exact_mut(self.stride);
        for (to, from) in columns.zip(block) {
            to[row..row + 8].copy_from_slice(from);
        }
    }

    /// A part of it, as a plane.
    pub(crate) fn cut(&self, kept: Rectangle) -> Self {
        let mut part = Self::new(kept.columns, kept.rows);
        for column in 0..kept.columns {
            let from = &self.column(kept.left + column)[kept.top..][..kept.rows];
            part.column_mut(column)[..kept.rows].copy_from_slice(from);
        }
        part
    }
}
