//! The entropy-coded scan (T.81, F.2.2; jdhuff.c, `decode_mcu`) and the planes that its blocks make.

use crate::bits::{Bits, unstuff};
use crate::huffman::{Decoded, Table};
use crate::idct::{self, Block};
use crate::markers::{Component, EOI, Header, RST0};
use crate::plane::Plane;
use crate::refusal::Refusal;

/// The place in a block, 8 times its row and its column, of each coefficient in the order of the file (T.81, figure A.6).
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Coefficients past it, once multiplied, make a sample out of range, whatever the others are.
const MAX_COEFFICIENT: i32 = 4_200;

/// One component at work.
struct Decoder {
    dc: Table,
    ac: Table,
    /// In zigzag order.
    quantisation: [i32; 64],
    /// The DC coefficient of the block before.
    before: i32,
    block: Block,
    /// Columns and rows of blocks in an MCU.
    blocks: (usize, usize),
    plane: Plane,
}

/// The samples of each component, up to the ends of the last MCUs.
///
/// # Errors
/// Names the first rule that the scan breaks.
pub(crate) fn decode(header: &Header<'_>, file: &[u8]) -> Result<Vec<Plane>, Refusal> {
    let (h, v) = header.shared;
    let (columns, rows) = (usize::from(header.sides.columns), usize::from(header.sides.rows));
    let (across, down) = (columns.div_ceil(8 * h), rows.div_ceil(8 * v));
    let decoder = |(number, component): (usize, &Component<'_>)| {
        let blocks = if number == 0 { (h, v) } else { (1, 1) };
        Decoder::new(component, blocks, across, down)
    };
    let mut decoders: Vec<Decoder> = header.components.iter().enumerate().map(decoder).collect();
    let interval = header.interval.unwrap_or(across * down);
    let mut data = Vec::new();
    let mut at = header.scan;
    let mut mcu = 0;
    for restart in (RST0..RST0 + 8).cycle() {
        at = unstuff(file, at, &mut data);
        let mut bits = Bits::new(&data);
        for decoder in &mut decoders {
            decoder.before = 0;
        }
        let end = (mcu + interval).min(across * down);
        for mcu in mcu..end {
            for decoder in &mut decoders {
                decoder.mcu(&mut bits, mcu % across, mcu / across)?;
            }
        }
        bits.end()?;
        mcu = end;
        let Some(&[_, found]) = file[at..].first_chunk() else { return Err(Refusal::ScanEnds) };
        let expected = if mcu == across * down { EOI } else { restart };
        if found != expected {
            return Err(Refusal::ScanMarker { at, found, expected });
        }
        at += 2;
        if expected == EOI {
            break;
        }
    }
    if at < file.len() {
        return Err(Refusal::AfterEnd { found: file.len() - at });
    }
    Ok(decoders.into_iter().map(|decoder| decoder.plane).collect())
}

impl Decoder {
    fn new(component: &Component<'_>, blocks: (usize, usize), across: usize, down: usize) -> Self {
        Self {
            dc: Table::new(component.dc),
            ac: Table::new(component.ac),
            quantisation: component.quantisation.map(i32::from),
            before: 0,
            block: [[0; 8]; 8],
            blocks,
            plane: Plane::new(8 * blocks.0 * across, 8 * blocks.1 * down),
        }
    }

    /// Decodes the component's blocks of an MCU, the one in that column and row of them.
    fn mcu(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Result<(), Refusal> {
        for below in 0..self.blocks.1 {
            for right in 0..self.blocks.0 {
                let last = self.read(bits)?;
                let samples = idct::samples(&self.block, last).ok_or(Refusal::Sample)?;
                let (column, row) = (column * self.blocks.0 + right, row * self.blocks.1 + below);
                self.plane.put(&samples, 8 * column, 8 * row);
            }
        }
        Ok(())
    }

    /// Reads the coefficients of a block, multiplies them, and says which is the last, in zigzag order, that was given.
    fn read(&mut self, bits: &mut Bits<'_>) -> Result<usize, Refusal> {
        bits.refill()?;
        let step = match self.dc.decode(bits)? {
            Decoded::Value { value, .. } => value,
            Decoded::Symbol(0) => 0,
            Decoded::Symbol(size) => bits.value(size),
        };
        self.block = [[0; 8]; 8];
        self.before += step;
        // Before the product, which this keeps in range: a factor is 255 at most.
        if self.before.abs() > MAX_COEFFICIENT {
            return Err(Refusal::Sample);
        }
        let block = self.block.as_flattened_mut();
        block[0] = checked(self.before * self.quantisation[0])?;
        let (mut next, mut last) = (1, 0);
        while next < 64 {
            bits.refill()?;
            let value = match self.ac.decode(bits)? {
                Decoded::Value { run, value } => {
                    next += run;
                    value
                }
                Decoded::Symbol(0x00) => break,
                Decoded::Symbol(0xF0) => {
                    next += 16;
                    if next >= 64 {
                        return Err(Refusal::Run);
                    }
                    continue;
                }
                Decoded::Symbol(symbol) => {
                    next += (symbol >> 4) as usize;
                    bits.value(symbol & 15)
                }
            };
            if next >= 64 {
                return Err(Refusal::Run);
            }
            block[usize::from(ZIGZAG[next]) & 63] = checked(value * self.quantisation[next])?;
            last = next;
            next += 1;
        }
        Ok(last)
    }
}

/// A coefficient as the IDCT takes it.
#[inline(always)]
fn checked(coefficient: i32) -> Result<i16, Refusal> {
    if coefficient.abs() > MAX_COEFFICIENT { Err(Refusal::Sample) } else { Ok(coefficient as i16) }
}
