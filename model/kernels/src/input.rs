//! From pixels to the first activation: CHW to HWC, so that the channels of a pixel lie side by side.
//!
//! Sixteen channels of as many pixels as a vector has bytes go together. Four rows of channels are interleaved to words of a pixel's
//! four bytes; four such vectors are interleaved once more. Where the first time rows `j`, `j + 4`, `j + 8`, `j + 12` went together, the
//! second leaves each pixel's sixteen bytes in order, in a part of a vector. Four channels are in order after the first time.

use crate::copy::{followers, write};
use crate::layout::{Layout, PART, View};
use crate::lookup::look_up;
use crate::simd::{Job, Simd};

/// The pixels of some images into the buffer of the first activation.
pub(crate) struct Pack<'a> {
    pub(crate) layout: &'a Layout,
    /// Whether its rows are the images' columns.
    pub(crate) is_turned: bool,
    /// What stands for each byte, if not itself.
    pub(crate) table: Option<&'a [u8; 256]>,
    /// In CHW order.
    pub(crate) images: &'a [&'a [u8]],
    pub(crate) to: &'a mut [u8],
}

impl Job for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layout, is_turned, table, images, to } = self;
        let is_tight = !is_turned && layout.pitch == layout.channels;
        for (image, pixels) in images.iter().enumerate() {
            match table {
                Some(table) if is_tight && layout.channels == 3 => {
                    pictures(layout, image, pixels, to, |byte| table[usize::from(byte)])
                }
                None if is_tight && layout.channels == 3 => pictures(layout, image, pixels, to, |byte| byte),
                _ => {
                    if layout.channels <= 3 || layout.height * layout.width < PART {
                        one_by_one(layout, is_turned, is_tight, image, pixels, to);
                    } else if layout.channels == 4 && is_tight && layout.width >= 4 * S::LANES {
                        fours(simd, layout, image, pixels, to);
                    } else {
                        transpose(simd, layout, is_turned, image, pixels, to);
                    }
                    if let Some(table) = table {
                        for y in 0..layout.height {
                            let row = &mut to[row(layout, image, y)];
                            // SAFETY: the slice has as many bytes.
                            unsafe { look_up(simd, table, row.as_ptr(), row.as_mut_ptr(), row.len()) };
                        }
                    }
                }
            }
        }
    }
}

/// The first byte of a row of a layout's image, and of the one after its last pixel.
fn row(layout: &Layout, image: usize, y: usize) -> std::ops::Range<usize> {
    let first = layout.view().at(image, y, 0);
    first..first + layout.width * layout.pitch
}

/// Rows and columns of the images, and where their pixels lie.
fn places(layout: &Layout, is_turned: bool) -> (usize, usize, View) {
    match is_turned {
        true => (layout.width, layout.height, layout.view().turned()),
        false => (layout.height, layout.width, layout.view()),
    }
}

/// What most pictures are, in a form that the compiler makes shuffles of.
#[inline(always)]
fn pictures(layout: &Layout, image: usize, pixels: &[u8], to: &mut [u8], of: impl Fn(u8) -> u8) {
    let (width, plane) = (layout.width, layout.height * layout.width);
    for y in 0..layout.height {
        let line = |channel: usize| &pixels[channel * plane + y * width..][..width];
        let (red, green, blue) = (line(0), line(1), line(2));
        let to = to[row(layout, image, y)].as_chunks_mut::<3>().0;
        for (((pixel, red), green), blue) in to.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [of(*red), of(*green), of(*blue)];
        }
    }
}

/// Few channels, or few pixels.
#[inline(always)]
fn one_by_one(layout: &Layout, is_turned: bool, is_tight: bool, image: usize, pixels: &[u8], to: &mut [u8]) {
    let channels = layout.channels;
    let (height, width, view) = places(layout, is_turned);
    let plane = height * width;
    for y in 0..height {
        let line = |channel: usize| &pixels[channel * plane + y * width..][..width];
        let to = &mut to[view.at(image, y, 0)..];
        match channels {
            1 if is_tight => to[..width].copy_from_slice(line(0)),
            2 if is_tight => {
                let pixels = to.as_chunks_mut::<2>().0.iter_mut().zip(line(0)).zip(line(1));
                pixels.for_each(|((pixel, first), second)| *pixel = [*first, *second]);
            }
            _ => {
                for channel in 0..channels {
                    for (x, byte) in line(channel).iter().enumerate() {
                        to[x * view.pixel + channel] = *byte;
                    }
                }
            }
        }
    }
}

/// Four channels: as many pixels as a vector has bytes, the last of a row with some of those before.
#[inline(always)]
fn fours<S: Simd>(simd: S, layout: &Layout, image: usize, pixels: &[u8], to: &mut [u8]) {
    let (width, plane, block) = (layout.width, layout.height * layout.width, 4 * S::LANES);
    for y in 0..layout.height {
        let line = |channel: usize| &pixels[channel * plane + y * width..][..width];
        let lines = [line(0), line(1), line(2), line(3)];
        let to = &mut to[row(layout, image, y)];
        for first in (0..width).step_by(block) {
            let first = first.min(width - block);
            let to = to[4 * first..][..4 * block].as_mut_ptr();
            let mut rows = [simd.splat_bytes(0); 4];
            for (row, line) in rows.iter_mut().zip(lines) {
                // SAFETY: the slice has as many bytes as a vector.
                *row = unsafe { simd.load_pieces([line[first..][..block].as_ptr()]) };
            }
            for (vector, words) in simd.interleave(rows).into_iter().enumerate() {
                let part = to.wrapping_add(PART * vector);
                let parts = [part, part.wrapping_add(64), part.wrapping_add(128), part.wrapping_add(192)];
                // SAFETY: part `i` is of the four pixels from `16 * i + 4 * vector` on, all in the slice.
                unsafe { store_parts(simd, parts, words) };
            }
        }
    }
}

/// Writes each part of a vector somewhere else.
///
/// # Safety
/// [`PART`] bytes must be writable at as many of the places as a vector has parts.
#[inline(always)]
unsafe fn store_parts<S: Simd>(simd: S, to: [*mut u8; 4], words: S::Words) {
    let ([a, b, ..], bytes) = (to, simd.bytes(words));
    // SAFETY: as the caller promises.
    unsafe {
        match S::LANES {
            16 => simd.store_pieces(to, bytes),
            8 => simd.store_pieces([a, b], bytes),
            _ => simd.store_pieces([a], bytes),
        }
    }
}

#[inline(always)]
fn transpose<S: Simd>(simd: S, layout: &Layout, is_turned: bool, image: usize, pixels: &[u8], to: &mut [u8]) {
    let channels = layout.channels;
    let (height, width, view) = places(layout, is_turned);
    let (plane, block) = (height * width, 4 * S::LANES);
    assert!(row(layout, image, layout.height - 1).end <= to.len(), "all pixels are in the buffer");
    let to = to.as_mut_ptr();
    // Rows without a gap are one.
    let (height, width) = if view.row == width * view.pixel { (1, plane) } else { (height, width) };
    // A part may be written whole if what it covers beside its pixel's channels are pixels that are written later.
    let more = followers(layout.pitch);
    let (mut x, mut y) = (0, 0);
    let (mut places, mut is_roomy) = ([0; STRETCH], [true; STRETCH]);
    let mut staged = [0u8; 64 * PART];
    for start in (0..plane).step_by(STRETCH) {
        let count = STRETCH.min(plane - start);
        let mut done = 0;
        while done < count {
            let (first, run) = (view.at(image, y, x), (width - x).min(count - done));
            for (i, place) in places[done..][..run].iter_mut().enumerate() {
                *place = first + i * view.pixel;
            }
            if more > 0 {
                for (i, is_roomy) in is_roomy[done..][..run].iter_mut().enumerate() {
                    *is_roomy = if is_turned { y + more < height } else { x + i + more < width };
                }
            }
            (x, done) = (x + run, done + run);
            if x == width {
                (x, y) = (0, y + 1);
            }
        }
        for (channel, first) in
            (0..channels).step_by(PART).flat_map(|channel| (0..count).step_by(block).map(move |first| (channel, first)))
        {
            let (all, first) = (first..count.min(first + block), start + first);
            let (places, is_roomy) = (&places[all.clone()], &is_roomy[all]);
            let is_whole = places.len() == block && layout.pitch >= PART;
            // The last ones overlap those before.
            let channel = channel.min(channels.saturating_sub(PART));
            // Channels lie so far apart, and so little of each is read at a time, that no processor foresees what comes next.
            let next = if channel + PART < channels { (channel + PART) * plane + first } else { first + STRETCH };
            for channel in 0..channels.min(PART) {
                simd.prefetch(pixels.as_ptr().wrapping_add(next + channel * plane));
            }
            // Written out: arrays of vectors that are indexed lie in memory.
            macro_rules! row {
                ($channel:expr) => {
                    if channel + $channel < channels {
                        let line = &pixels[(channel + $channel) * plane + first..];
                        let last;
                        let from = if line.len() < block {
                            last = rest(line);
                            last.as_ptr()
                        } else {
                            line.as_ptr()
                        };
                        // SAFETY: there is a vector's bytes, of the pixels or of the copy of their last ones.
                        unsafe { simd.load_pieces([from]) }
                    } else {
                        simd.splat_bytes(0)
                    }
                };
            }
            let a = simd.interleave([row!(0), row!(4), row!(8), row!(12)]);
            let b = simd.interleave([row!(1), row!(5), row!(9), row!(13)]);
            let c = simd.interleave([row!(2), row!(6), row!(10), row!(14)]);
            let d = simd.interleave([row!(3), row!(7), row!(11), row!(15)]);
            let to = to.wrapping_add(channel);
            macro_rules! pixels_of {
                ($($vector:literal)*) => {$(
                    let rows = [a[$vector], b[$vector], c[$vector], d[$vector]];
                    let rows = [simd.bytes(rows[0]), simd.bytes(rows[1]), simd.bytes(rows[2]), simd.bytes(rows[3])];
                    for (word, words) in simd.interleave(rows).into_iter().enumerate() {
                        // Part `i` is pixel `16 * i + 4 * vector + word`.
                        let mut parts = [to; 4];
                        for (i, part) in parts.iter_mut().enumerate().take(S::LANES / 4) {
                            let pixel = 16 * i + 4 * $vector + word;
                            *part = match is_whole {
                                true => to.wrapping_add(places[pixel]),
                                false => staged[PART * pixel..][..PART].as_mut_ptr(),
                            };
                        }
                        // SAFETY: pixels have `PART` bytes from this channel on, and are in the buffer; or there is room for them.
                        unsafe { store_parts(simd, parts, words) };
                    }
                )*};
            }
            pixels_of!(0 1 2 3);
            if !is_whole {
                for ((bytes, place), is_roomy) in staged.as_chunks::<PART>().0.iter().zip(places).zip(is_roomy) {
                    let count = if *is_roomy { PART } else { channels };
                    // SAFETY: pixels are in the buffer, with as many bytes as are written.
                    unsafe { write(bytes, count, to.wrapping_add(*place)) };
                }
            }
        }
    }
}

/// The pixels of a channel that are read before those of the next: some cache lines, which lie far from the next channel's.
const STRETCH: usize = 256;

/// The last bytes of all pixels, and zeros up to a vector.
#[inline(always)]
fn rest(line: &[u8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..line.len()].copy_from_slice(line);
    bytes
}
