//! The bits of a scan between two restart markers (T.81, B.1.1.5 and F.2.2.5).

use crate::refusal::Refusal;

/// Ones behind the data, so that eight bytes can be read at once: more than a block can take before the end is seen.
const BEHIND: [u8; 24] = [0xFF; 24];

/// Takes the bytes of a piece out of a file: FF 00 is FF, and FF before anything else ends it. Says where that FF is.
pub(crate) fn unstuff(file: &[u8], mut at: usize, data: &mut Vec<u8>) -> usize {
    data.clear();
    loop {
        let rest = &file[at..];
        let run = rest.iter().position(|byte| *byte == 0xFF).unwrap_or(rest.len());
        data.extend_from_slice(&rest[..run]);
        at += run;
        if file.get(at + 1) != Some(&0) {
            data.extend_from_slice(&BEHIND);
            return at;
        }
        data.push(0xFF);
        at += 2;
    }
}

/// Reads a piece, the highest bit of a byte first.
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    /// The first byte that is not all in `next`.
    at: usize,
    /// What comes next, from the highest bit down; below `count` bits it may hold more of the same data.
    next: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Of bytes that [`unstuff`] took out.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, next: 0, count: 0 }
    }

    /// Sees to it that 56 bits can be read.
    ///
    /// # Errors
    /// If the piece ended long ago.
    #[inline(always)]
    pub(crate) fn refill(&mut self) -> Result<(), Refusal> {
        let bytes = self.data.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Refusal::PieceEnds)?;
        self.next |= u64::from_be_bytes(*bytes) >> self.count;
        self.at += (63 - self.count as usize) / 8;
        self.count |= 56;
        Ok(())
    }

    /// The next bits, 1 to 32 of them, which stay.
    #[inline(always)]
    pub(crate) fn peek(&self, bits: u32) -> u32 {
        (self.next >> (64 - bits)) as u32
    }

    #[inline(always)]
    pub(crate) fn skip(&mut self, bits: u32) {
        self.next <<= bits;
        self.count -= bits;
    }

    /// A number of 1 to 16 bits: those that begin with 0 are the negative ones (T.81, F.2.2.1, EXTEND).
    #[inline(always)]
    pub(crate) fn value(&mut self, size: u32) -> i32 {
        let value = extend(self.peek(size), size);
        self.skip(size);
        value
    }

    /// Bits of the piece that were not read; none if more was read than there is.
    fn left(&self) -> Option<usize> {
        (8 * (self.data.len() - BEHIND.len())).checked_sub(8 * self.at - self.count as usize)
    }

    /// Why the next 16 bits begin no code: those behind the end are ones, and so is what fills up the last byte.
    #[cold]
    pub(crate) fn no_code(&self) -> Refusal {
        let left = self.left().unwrap_or(0);
        if left < 16 && self.peek(16) == 0xFFFF { Refusal::PieceEnds } else { Refusal::Code }
    }

    /// Holds what is left after the last MCU against the rule: fewer than 8 bits, all ones.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        let left = self.left().ok_or(Refusal::PieceEnds)?;
        if left >= 8 {
            return Err(Refusal::PieceGoesOn { found: left / 8 });
        }
        if left > 0 && self.next >> (64 - left) != (1 << left) - 1 {
            return Err(Refusal::Padding);
        }
        Ok(())
    }
}

/// What `size` bits, 1 to 16, mean.
#[inline(always)]
pub(crate) fn extend(bits: u32, size: u32) -> i32 {
    let negative = (bits >> (size - 1)) ^ 1;
    bits as i32 - (((1 << size) - 1) & (negative as i32).wrapping_neg())
}
