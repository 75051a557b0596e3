//! Samples of one component or colour.

/// Bytes, column by column.
pub(crate) struct Plane {
    samples: Vec<u8>,
    rows: usize,
}

impl Plane {
    /// Of zeros.
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        Self { samples: vec![0; columns * rows], rows }
    }

    pub(crate) fn column(&self, column: usize) -> &[u8] {
        &self.samples[column * self.rows..][..self.rows]
    }

    pub(crate) fn column_mut(&mut self, column: usize) -> &mut [u8] {
        &mut self.samples[column * self.rows..][..self.rows]
    }

    /// Puts a block, column by column, where its first sample belongs.
    pub(crate) fn put(&mut self, block: &[[u8; 8]; 8], column: usize, row: usize) {
        let columns = self.samples[column * self.rows..].chunks_exact_mut(self.rows);
        for (to, from) in columns.zip(block) {
            to[row..row + 8].copy_from_slice(from);
        }
    }
}
