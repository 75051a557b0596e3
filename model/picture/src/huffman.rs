//! Huffman codes (T.81, annex C and F.2.2.3; jdhuff.c, `jpeg_make_d_derived_tbl` and `jpeg_huff_decode`).

use crate::bits::{Bits, extend};
use crate::refusal::Refusal;

/// What a table's symbols are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Sizes of differences, 0 to 11.
    Dc,
    /// A run of zeros and the size of what follows it.
    Ac,
}

/// A table as the file has it, its rules checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes<'a> {
    class: Class,
    /// How many codes have 1, 2, … 16 bits.
    counts: &'a [u8; 16],
    symbols: &'a [u8],
}

impl<'a> Codes<'a> {
    /// Checks symbols and codes of a table; `name` is the byte that names it.
    ///
    /// # Errors
    /// For a symbol that baseline files do not have, more codes than there is room for, and a code of only ones.
    pub(crate) fn new(name: u8, counts: &'a [u8; 16], symbols: &'a [u8]) -> Result<Self, Refusal> {
        let class = if name < 0x10 { Class::Dc } else { Class::Ac };
        let known = |symbol: u8| match class {
            Class::Dc => symbol <= 11,
            Class::Ac => matches!(symbol, 0x00 | 0xF0) || (1..=10).contains(&(symbol & 15)),
        };
        if let Some(found) = symbols.iter().copied().find(|symbol| !known(*symbol)) {
            return Err(Refusal::HuffmanSymbol { table: name, found });
        }
        let mut code = 0;
        for (count, length) in counts.iter().zip(1u8..) {
            code = 2 * code + u32::from(*count);
            // The last code of this length is one less.
            if *count > 0 && code >= 1 << length {
                return Err(Refusal::HuffmanCodes { table: name, length });
            }
        }
        Ok(Self { class, counts, symbols })
    }
}

/// How many bits are looked up at once.
const FAST: u32 = 10;

/// In an entry: there is a value in its upper half. Else that is the symbol.
const HAS_VALUE: u32 = 1 << 15;

/// A table to decode with.
pub(crate) struct Table {
    /// For the next [`FAST`] bits: from bit 0 the bits to skip, from bit 8 the run before the value, at bit 15
    /// [`HAS_VALUE`], from bit 16 value or symbol. 0 if the code is longer or there is none.
    fast: Box<[u32; 1 << FAST]>,
    /// For each length, where the codes of that length end, as if they had 16 bits.
    ends: [u32; 17],
    /// For each length, what to add to a code for its symbol's place, modulo 2^32.
    places: [u32; 17],
    symbols: [u8; 256],
}

/// What a code says.
pub(crate) enum Decoded {
    /// A run of zeros, and the value after it, which is read already.
    Value {
        /// Zeros, 0 to 15.
        run: usize,
        /// Not 0, but for a difference of 0.
        value: i32,
    },
    /// A symbol, whose value comes next.
    Symbol(u32),
}

impl Table {
    pub(crate) fn new(codes: Codes<'_>) -> Self {
        let mut table = Self { fast: Box::new([0; 1 << FAST]), ends: [0; 17], places: [0; 17], symbols: [0; 256] };
        for (to, from) in table.symbols.iter_mut().zip(codes.symbols) {
            *to = *from;
        }
        let (mut code, mut place) = (0u32, 0u32);
        for (count, length) in codes.counts.iter().zip(1u32..) {
            code *= 2;
            table.places[length as usize] = place.wrapping_sub(code);
            for _ in 0..*count {
                if length <= FAST {
                    table.enter(code, length, codes.class, u32::from(codes.symbols[place as usize]));
                }
                code += 1;
                place += 1;
            }
            table.ends[length as usize] = code << (16 - length);
        }
        table
    }

    /// Enters a code for whatever bits may follow it, with the value if it lies within the bits looked up.
    fn enter(&mut self, code: u32, length: u32, class: Class, symbol: u32) {
        let (size, run) = (symbol & 15, symbol >> 4);
        let free = FAST - length;
        let entries = &mut self.fast[(code << free) as usize..][..1 << free];
        for (below, entry) in (0..).zip(entries) {
            *entry = if size == 0 && class == Class::Dc {
                length | HAS_VALUE
            } else if size > 0 && size <= free {
                let value = extend(below >> (free - size), size);
                (length + size) | run << 8 | HAS_VALUE | (value as u32) << 16
            } else {
                length | symbol << 16
            };
        }
    }

    /// Reads a code. There must be 16 bits to read, and 10 more for its value if the table is one of values.
    ///
    /// # Errors
    /// If the bits begin no code.
    #[inline(always)]
    pub(crate) fn decode(&self, bits: &mut Bits<'_>) -> Result<Decoded, Refusal> {
        let entry = self.fast[bits.peek(FAST) as usize];
        if entry & HAS_VALUE != 0 {
            bits.skip(entry & 0xFF);
            return Ok(Decoded::Value { run: (entry >> 8 & 15) as usize, value: entry as i32 >> 16 });
        }
        if entry != 0 {
            bits.skip(entry & 0xFF);
            return Ok(Decoded::Symbol(entry >> 16));
        }
        self.long(bits).map(Decoded::Symbol)
    }

    #[cold]
    fn long(&self, bits: &mut Bits<'_>) -> Result<u32, Refusal> {
        let next = bits.peek(16);
        for length in FAST + 1..=16 {
            if next < self.ends[length as usize] {
                bits.skip(length);
                let place = (next >> (16 - length)).wrapping_add(self.places[length as usize]);
                return Ok(u32::from(self.symbols[place as usize & 255]));
            }
        }
        Err(bits.no_code())
    }
}
