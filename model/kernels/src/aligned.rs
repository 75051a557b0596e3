//! Memory that begins at a cache line, so that no vector load crosses two without need.

/// A cache line, and the widest vector.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();

/// A list of bytes that begins at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// Zeros, at least so many bytes.
    pub(crate) fn zeros(bytes: usize) -> Self {
        Self { lines: vec![Line([0; LINE]); bytes.div_ceil(LINE)] }
    }

    /// Some words, and zeros up to a whole line.
    pub(crate) fn collect(length: usize, words: impl Iterator<Item = i32>) -> Self {
        let mut list = Self::zeros(length * size_of::<i32>());
        let mut count = 0;
        for (place, word) in list.words_mut().iter_mut().zip(words) {
            *place = word;
            count += 1;
        }
        assert_eq!(count, length, "as many words as announced");
        list
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() * LINE
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: lines are bytes, side by side.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: lines are bytes, side by side.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * LINE) }
    }

    #[inline(always)]
    pub(crate) fn words(&self) -> &[i32] {
        // SAFETY: lines are bytes, side by side, at a multiple of 64; any bytes are words.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE / 4) }
    }

    #[inline(always)]
    pub(crate) fn words_mut(&mut self) -> &mut [i32] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * LINE / 4) }
    }

    #[inline(always)]
    pub(crate) fn halves(&self) -> &[i16] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE / 2) }
    }

    #[inline(always)]
    pub(crate) fn halves_mut(&mut self) -> &mut [i16] {
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * LINE / 2) }
    }
}
