//! Numbers that begin at a cache line, so that no vector load crosses two.

/// The bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A list of words that begins at a multiple of 64 bytes.
#[derive(Debug)]
pub(crate) struct Aligned {
    words: Vec<i32>,
    first: usize,
}

impl Aligned {
    /// Copies the words of an iterator of exactly `length` of them.
    pub(crate) fn collect(length: usize, words: impl Iterator<Item = i32>) -> Self {
        let padding = LINE / size_of::<i32>();
        let mut list: Vec<i32> = Vec::with_capacity(length + padding);
        // Known only once the memory is there; the list never grows beyond it, so it stays where it is.
        let first = list.as_ptr().align_offset(LINE).min(padding);
        list.resize(first, 0);
        list.extend(words);
        assert_eq!(list.len(), first + length, "as many words as announced");
        Self { words: list, first }
    }

    /// The words.
    #[inline(always)]
    pub(crate) fn words(&self) -> &[i32] {
        &self.words[self.first..]
    }
}
