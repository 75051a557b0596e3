//! From pixels to the first activation: CHW to HWC, so that the channels of a pixel lie side by side.
//!
//! Sixteen channels of as many pixels as a vector has bytes go together. Four rows of channels are interleaved to words of a pixel's
//! four bytes; four such vectors are interleaved once more. Where the first time rows `j`, `j + 4`, `j + 8`, `j + 12` went together, the
//! second leaves each pixel's sixteen bytes in order, in a part of a vector.

use crate::layout::{Layout, PART};
use crate::simd::{Job, Simd};

/// The pixels of some images into the buffer of the first activation.
pub(crate) struct Pack<'a> {
    pub(crate) layout: &'a Layout,
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
        let Self { layout, table, images, to } = self;
        for (image, pixels) in images.iter().enumerate() {
            match table {
                Some(table) if layout.channels == 3 => {
                    pictures(layout, image, pixels, to, |byte| table[usize::from(byte)])
                }
                None if layout.channels == 3 => pictures(layout, image, pixels, to, |byte| byte),
                _ => {
                    if layout.channels < 3 || layout.height * layout.width < PART {
                        one_by_one(layout, image, pixels, to);
                    } else {
                        transpose(simd, layout, image, pixels, to);
                    }
                    if let Some(table) = table {
                        look_up(layout, image, to, table);
                    }
                }
            }
        }
    }
}

/// The first byte of a row of an image, and of the one after its last pixel.
fn row(layout: &Layout, image: usize, y: usize) -> std::ops::Range<usize> {
    let first = layout.view().at(image, y, 0);
    first..first + layout.width * layout.pitch
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
fn one_by_one(layout: &Layout, image: usize, pixels: &[u8], to: &mut [u8]) {
    let Layout { channels, height, width, .. } = *layout;
    let plane = height * width;
    for y in 0..height {
        let to = &mut to[row(layout, image, y)];
        if channels == 1 {
            to.copy_from_slice(&pixels[y * width..][..width]);
        } else if channels == 2 {
            let (first, second) = (&pixels[y * width..][..width], &pixels[plane + y * width..][..width]);
            for ((pixel, first), second) in to.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
                *pixel = [*first, *second];
            }
        } else {
            for (x, pixel) in to.chunks_exact_mut(channels).enumerate() {
                for (byte, channel) in pixel.iter_mut().zip(pixels.chunks_exact(plane)) {
                    *byte = channel[y * width + x];
                }
            }
        }
    }
}

fn look_up(layout: &Layout, image: usize, to: &mut [u8], table: &[u8; 256]) {
    for y in 0..layout.height {
        to[row(layout, image, y)].iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
    }
}

#[inline(always)]
fn transpose<S: Simd>(simd: S, layout: &Layout, image: usize, pixels: &[u8], to: &mut [u8]) {
    let Layout { channels, width, .. } = *layout;
    let (plane, view, block) = (layout.height * width, layout.view(), 4 * S::LANES);
    assert!(row(layout, image, layout.height - 1).end <= to.len(), "all pixels are in the buffer");
    let to = to.as_mut_ptr();
    let (mut x, mut next) = (0, view.at(image, 0, 0));
    let mut places = [0; STRETCH];
    let mut staged = [0u8; 64 * PART];
    for start in (0..plane).step_by(STRETCH) {
        let count = STRETCH.min(plane - start);
        for place in &mut places[..count] {
            *place = next;
            (x, next) = (x + 1, next + view.pixel);
            if x == width {
                (x, next) = (0, next + view.row - width * view.pixel);
            }
        }
        for (channel, first) in
            (0..channels).step_by(PART).flat_map(|channel| (0..count).step_by(block).map(move |first| (channel, first)))
        {
            let (places, first) = (&places[first..count], start + first);
            let places = &places[..block.min(places.len())];
            let is_whole = places.len() == block && channels >= PART;
            // The last ones overlap those before.
            let channel = channel.min(channels.saturating_sub(PART));
            let mut quads = [[simd.splat(0); 4]; 4];
            for (j, quad) in quads.iter_mut().enumerate() {
                let mut rows = [simd.splat_bytes(0); 4];
                for (k, row) in rows.iter_mut().enumerate() {
                    let line = &pixels[(channel + 4 * k + j).min(channels - 1) * plane + first..];
                    let last;
                    let from = if line.len() < block {
                        last = rest(line);
                        last.as_ptr()
                    } else {
                        line.as_ptr()
                    };
                    // SAFETY: there is a vector's bytes, of the pixels or of the copy of their last ones.
                    *row = unsafe { simd.load_pieces([from]) };
                }
                *quad = simd.interleave(rows);
            }
            let to = to.wrapping_add(channel);
            for vector in 0..4 {
                let mut rows = [simd.splat_bytes(0); 4];
                for (row, quad) in rows.iter_mut().zip(quads) {
                    *row = simd.bytes(quad[vector]);
                }
                for (word, words) in simd.interleave(rows).into_iter().enumerate() {
                    // Part `i` is pixel `16 * i + 4 * vector + word`.
                    let mut parts = [to; 4];
                    for (i, part) in parts.iter_mut().enumerate().take(S::LANES / 4) {
                        let pixel = 16 * i + 4 * vector + word;
                        *part = match is_whole {
                            true => to.wrapping_add(places[pixel]),
                            false => staged[PART * pixel..][..PART].as_mut_ptr(),
                        };
                    }
                    let [a, b, c, d] = parts;
                    let bytes = simd.bytes(words);
                    // SAFETY: pixels have `PART` channels from this one on, and are in the buffer; or there is room for them.
                    unsafe {
                        match S::LANES {
                            16 => simd.store_pieces([a, b, c, d], bytes),
                            8 => simd.store_pieces([a, b], bytes),
                            _ => simd.store_pieces([a], bytes),
                        }
                    }
                }
            }
            if !is_whole {
                for (bytes, place) in staged.as_chunks::<PART>().0.iter().zip(places) {
                    // SAFETY: pixels are in the buffer, with as many channels as are written.
                    unsafe { write(bytes, channels, to.wrapping_add(*place)) };
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

/// Writes the first `count` of some bytes, or all of them: in two pieces that overlap.
///
/// # Safety
/// As many must be writable at `to`.
#[inline(always)]
unsafe fn write(bytes: &[u8; PART], count: usize, to: *mut u8) {
    macro_rules! two {
        ($size:literal) => {{
            let from = bytes.as_ptr();
            // SAFETY: `count` is between the size and twice of it.
            unsafe {
                to.cast::<[u8; $size]>().write(from.cast::<[u8; $size]>().read());
                let last = count - $size;
                to.add(last).cast::<[u8; $size]>().write(from.add(last).cast::<[u8; $size]>().read());
            }
        }};
    }
    match count {
        PART.. => {
            // SAFETY: as the caller promises.
            unsafe { to.cast::<[u8; PART]>().write(*bytes) }
        }
        8.. => two!(8),
        4.. => two!(4),
        2.. => two!(2),
        _ => two!(1),
    }
}
