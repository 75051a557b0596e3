//! Max-pools by themselves, which no convolution takes along.
//!
//! The maximum of the rows of a row of windows comes first, in bytes that lie side by side; then that of the columns of each window.
//! Of tall windows, what some rows of them share is done once.
//! Then a line has zeros for padding, than which no byte is less, and becomes the maxima of some columns from each on, at once and by
//! doubling: so windows are vectors that follow each other. Only windows of few columns that lie apart are gone through: where few
//! channels are left, two or four of them go together, each in a piece of a vector, and padding is left out: every window has a column
//! of the image, the last of which stands for those that others have more.

use std::ops::Range;

use crate::average_pool::Places;
use crate::depthwise::{Group, groups};
use crate::layout::{PART, rows_of};
use crate::operator::{Room, Run, Work};
use crate::simd::{Job, Simd};

/// Rows of windows that share what all of them have, if those are at least as many rows of the input.
const BATCH: usize = 4;
/// Bytes of a row that are done at once, so that the maximum stays in a first-level cache: whole vectors.
const PIECE: usize = 1024;
/// Columns whose maximum is made at once, before lines are doubled.
const AT_ONCE: usize = 16;

/// A max-pool.
#[derive(Debug)]
pub(crate) struct MaxPool {
    pub(crate) places: Places,
    groups: Vec<Group>,
    /// Whether windows are gone through.
    is_apart: bool,
}

impl MaxPool {
    pub(crate) fn new<S: Simd>(places: Places) -> Self {
        let groups = groups::<S>(places.pitch);
        // Loads for a vector of outputs, of which each may be put together of pieces; or for a vector of a line.
        let (kernel, pieces) = (places.kernel(), groups[0].pieces);
        let is_tight = places.step() == 4 * S::LANES / pieces;
        let apart = kernel * if is_tight { 1 } else { 2 * pieces - 1 };
        let doublings = kernel.div_ceil(AT_ONCE).next_power_of_two().ilog2() as usize;
        let line = (kernel.min(AT_ONCE) + 4 * doublings) * (places.step() / places.pixel());
        Self { is_apart: !places.is_flat() && apart < line, groups, places }
    }

    /// Bytes of a line: see [`Places::padded`].
    fn line<S: Simd>(&self) -> usize {
        let (left, padded) = self.places.padded();
        let (line, pixel) = (self.places.line(), self.places.pixel());
        (line + left * pixel).max(padded * pixel + self.places.pitch) + 4 * S::LANES
    }

    /// Room for the maxima of a row's columns, and for what is read beyond them; and for what rows of windows share.
    pub(crate) fn room<S: Simd>(&self) -> Room {
        Room { first: self.line::<S>(), second: self.places.line() + 4 * S::LANES }
    }
}

/// A max-pool of some rows.
pub(crate) struct RunMaxPool<'a> {
    pub(crate) layer: &'a MaxPool,
    pub(crate) run: Run<'a>,
}

impl Job for RunMaxPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let (places, rows) = (&self.layer.places, self.run.rows.clone());
        if rows.is_empty() {
            return;
        }
        let from = self.run.from[0];
        let (first, end) = places.written(&rows);
        let to = self.run.to.bytes(first, end);
        let line = places.line() + 4 * S::LANES;
        let Work { first: maxima, second: shared } = self.run.work;
        let (padded, shared) = (&mut maxima.bytes_mut()[..self.layer.line::<S>()], &mut shared.bytes_mut()[..line]);
        let left = if self.layer.is_apart { 0 } else { places.padded().0 * places.pixel() };
        let (mut batch, mut common) = (0..0, 0..0);
        let end = rows.end;
        for (place, (image, row)) in rows.clone().zip(rows_of(rows, places.rows)) {
            let rows = places.rows_of(row);
            if !batch.contains(&place) {
                batch = place..end.min(place + BATCH).min(place + places.rows - row);
                let all = rows.start.max(places.rows_of(row + batch.len() - 1).start)..rows.end;
                common = if batch.len() > 1 && all.len() >= BATCH { all } else { 0..0 };
                if !common.is_empty() {
                    for piece in places.pieces(PIECE) {
                        raise(simd, places, from, (image, common.clone()), piece, shared, true);
                    }
                }
            }
            let maxima = &mut padded[left..];
            for piece in places.pieces(PIECE) {
                let mut is_new = true;
                if !common.is_empty() {
                    let end = piece.end.next_multiple_of(16);
                    maxima[piece.start..end].copy_from_slice(&shared[piece.start..end]);
                    is_new = false;
                }
                let others = if common.is_empty() {
                    [rows.clone(), 0..0]
                } else {
                    [rows.start..common.start, common.end..rows.end]
                };
                for rows in others.into_iter().filter(|rows| !rows.is_empty()) {
                    raise(simd, places, from, (image, rows), piece.clone(), maxima, is_new);
                    is_new = false;
                }
            }
            if let Some(span) = places.span(image, row) {
                let maxima = &maxima[..span.count];
                // SAFETY: the output has as many bytes as the span counts, and the maxima are not there.
                unsafe { to.wrapping_add(span.to).copy_from_nonoverlapping(maxima.as_ptr(), maxima.len()) };
                continue;
            }
            if !self.layer.is_apart {
                pad(places, padded);
                let (kernel, pixel) = (places.kernel(), places.pixel());
                let all = places.padded().1;
                assert!(
                    all * pixel + 4 * S::LANES <= padded.len(),
                    "a line has room for its windows, and a vector more"
                );
                let line = padded.as_mut_ptr();
                let mut done = kernel.min(AT_ONCE);
                if places.is_flat() && done == kernel {
                    let to = to.wrapping_add(places.to(image, row, 0));
                    // SAFETY: the output's pixels follow each other, and were found writable; the line ends where its last window does.
                    unsafe { raise_line(simd, line, (1, done), pixel, places.columns * pixel, to) };
                    continue;
                }
                // SAFETY: the line ends where its last window does, and has room for a vector more.
                unsafe {
                    raise_line(simd, line, (1, done), pixel, (all + 1 - done) * pixel, line);
                    while done < kernel {
                        // At last as many as are missing, of which some are there already.
                        let more = done.min(kernel - done);
                        raise_line(simd, line, (more, 2), pixel, (all + 1 - done - more) * pixel, line);
                        done += more;
                    }
                }
                for column in 0..places.columns {
                    let (from, to) =
                        (&padded[column * places.step()..], to.wrapping_add(places.to(image, row, column)));
                    for (part, from) in from[..places.pitch].as_chunks::<PART>().0.iter().enumerate() {
                        // SAFETY: a pixel of the output has `pitch` bytes, whole parts, which were found writable.
                        unsafe { to.add(part * PART).cast::<[u8; PART]>().write(*from) };
                    }
                }
                continue;
            }
            for group in &self.layer.groups {
                let from = maxima.as_ptr().wrapping_add(group.first);
                let to = to.wrapping_add(places.to(image, row, 0) + group.first);
                // SAFETY: columns are below the width, so that pieces end within the maxima; a pixel of the output has `pitch` bytes,
                // whole pieces, which were found writable.
                unsafe {
                    match group.pieces {
                        1 => columns::<S, 1>(simd, places, from, to),
                        2 if S::LANES >= 8 => columns::<S, 2>(simd, places, from, to),
                        4 if S::LANES >= 16 => columns::<S, 4>(simd, places, from, to),
                        pieces => unreachable!("{pieces} pieces of a vector"),
                    }
                }
            }
        }
    }
}

/// Raises some bytes of a line to the maximum of some rows of the input; `is_new` where they are of nothing yet.
///
/// # Panics
/// If the line does not have as many bytes, in whole vectors.
#[inline(always)]
fn raise<S: Simd>(
    simd: S,
    places: &Places,
    from: &[u8],
    (image, rows): (usize, Range<usize>),
    piece: Range<usize>,
    line: &mut [u8],
    mut is_new: bool,
) {
    let vector = 4 * S::LANES;
    // Four rows at once, each of them along its bytes: rows may lie so far apart that a cache holds few of one place.
    for y in rows.clone().step_by(4) {
        let lines = [0, 1, 2, 3].map(|more| &from[places.row(image, (y + more).min(rows.end - 1))..]);
        for at in piece.clone().step_by(vector) {
            let to = line[at..][..vector].as_mut_ptr();
            // SAFETY: the slices have as many bytes as a vector.
            unsafe {
                let mut most = if is_new { simd.splat_bytes(0) } else { simd.load_pieces([to.cast_const()]) };
                for line in lines {
                    most = simd.max_bytes(most, simd.load_pieces([line[at..][..vector].as_ptr()]));
                }
                simd.store_pieces([to], most);
            }
        }
        is_new = false;
    }
}

/// Fills with zeros what a line has of padding.
#[inline(always)]
fn pad(places: &Places, line: &mut [u8]) {
    let ((left, padded), pixel) = (places.padded(), places.pixel());
    line[..left * pixel].fill(0);
    if left + places.width() < padded {
        line[(left + places.width()) * pixel..].fill(0);
    }
}

/// For `count` bytes of a line, the maximum of `many` bytes from each on, which are `apart` pixels apart, in order: `to` may be the line.
///
/// # Safety
/// All of them must be readable, and a vector more, and `count` bytes writable.
#[inline(always)]
unsafe fn raise_line<S: Simd>(
    simd: S,
    line: *const u8,
    (apart, many): (usize, usize),
    pixel: usize,
    count: usize,
    to: *mut u8,
) {
    let vector = 4 * S::LANES;
    for at in (0..count).step_by(vector) {
        // SAFETY: as the caller promises; where fewer bytes than a vector are left, a copy is written of which they are the first.
        unsafe {
            let mut most = simd.load_pieces([line.wrapping_add(at)]);
            for place in 1..many {
                most = simd.max_bytes(most, simd.load_pieces([line.wrapping_add(at + place * apart * pixel)]));
            }
            if at + vector <= count {
                simd.store_pieces([to.wrapping_add(at)], most);
            } else {
                let mut last = [0u8; 64];
                simd.store_pieces([last.as_mut_ptr()], most);
                to.wrapping_add(at).copy_from_nonoverlapping(last.as_ptr(), count - at);
            }
        }
    }
}

/// The maxima of the columns of each window of a row, for some channels.
///
/// # Safety
/// An `N`th of a vector must be readable at every column after `from`, and writable at every output after `to`.
#[inline(always)]
unsafe fn columns<S: Simd, const N: usize>(simd: S, places: &Places, from: *const u8, to: *mut u8) {
    // Windows that follow each other without a gap, as pieces do in a vector.
    let is_tight = places.step() == 4 * S::LANES / N;
    for first in (0..places.columns).step_by(N) {
        let last = (first + N).min(places.columns) - 1;
        let mut most = simd.splat_bytes(0);
        if let (Some(start), true) = (places.inside(first, last), last + 1 == first + N) {
            let from = from.wrapping_add(start);
            for x in 0..places.kernel() {
                let from = from.wrapping_add(x * places.pixel());
                let mut pieces = [from; N];
                for (piece, from) in pieces.iter_mut().enumerate() {
                    *from = from.wrapping_add(piece * places.step());
                }
                // SAFETY: as the caller promises.
                let bytes = unsafe { if is_tight { simd.load_pieces([from]) } else { simd.load_pieces(pieces) } };
                most = simd.max_bytes(most, bytes);
            }
        } else {
            let columns: [Range<usize>; N] = std::array::from_fn(|piece| places.columns_of((first + piece).min(last)));
            let most_columns = columns.iter().map(Range::len).max().unwrap_or_default();
            for x in 0..most_columns {
                let mut pieces = [from; N];
                for (columns, from) in columns.iter().zip(&mut pieces) {
                    *from = from.wrapping_add((columns.start + x).min(columns.end - 1) * places.pixel());
                }
                // SAFETY: as the caller promises.
                most = simd.max_bytes(most, unsafe { simd.load_pieces(pieces) });
            }
        }
        let mut nowhere = [0u8; 64];
        let mut pieces = [nowhere.as_mut_ptr(); N];
        for (piece, at) in pieces.iter_mut().enumerate().take(places.columns - first) {
            *at = to.wrapping_add(places.to_column(first + piece));
        }
        // SAFETY: as the caller promises; a piece is at most 64 bytes.
        unsafe {
            match last + 1 == first + N && places.to_column(1) == 4 * S::LANES / N {
                true => simd.store_pieces([pieces[0]], most),
                false => simd.store_pieces(pieces, most),
            }
        }
    }
}
