//! From pixels to the first activation.

use crate::layout::Layout;

/// Writes an image's pixels, CHW order and halved, into its place in the buffer of the first activation.
///
/// `height` and `width` are those of the image; the layout may need fewer of its rows and columns.
#[inline(always)]
pub(crate) fn pack(layout: &Layout, (height, width): (usize, usize), image: usize, pixels: &[u8], to: &mut [u8]) {
    let plane = height * width;
    for y in 0..layout.height {
        let row = &mut to[layout.at(image, y, 0)..][..layout.width * layout.pitch];
        let line = |channel: usize| &pixels[channel * plane + y * width..][..layout.width];
        if (layout.channels, layout.pitch) == (3, 3) {
            // What most pictures are, in a form that the compiler makes shuffles of.
            let (red, green, blue) = (line(0), line(1), line(2));
            for (((pixel, red), green), blue) in row.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
                *pixel = [red >> 1, green >> 1, blue >> 1];
            }
        } else {
            for channel in 0..layout.channels {
                for (pixel, value) in row.chunks_exact_mut(layout.pitch).zip(line(channel)) {
                    pixel[channel] = value >> 1;
                }
            }
        }
    }
}

/// Writes the tails of an image (see [`Layout::tail`]): for each window the last channel of its third column, of three rows.
#[inline(always)]
pub(crate) fn pack_tails(
    layout: &Layout,
    images: usize,
    (height, width): (usize, usize),
    image: usize,
    pixels: &[u8],
    to: &mut [u8],
) {
    let last = &pixels[(layout.channels - 1) * height * width..];
    // The third column of the first window is column 2 of the border and the image together. What is left of the image, or
    // right of it, stays zero.
    let first = 2_usize.saturating_sub(layout.border);
    let count = layout.width.saturating_sub(first);
    let zeros = vec![0; count];
    let line = |y: usize| match y.checked_sub(layout.border) {
        Some(y) if y < layout.height => &last[y * width + first..][..count],
        _ => &zeros,
    };
    let column = layout.border.saturating_sub(2);
    for y in 0..(layout.height + 2 * layout.border).saturating_sub(2) {
        let row = &mut to[layout.tail(images, image, y, column)..][..4 * count];
        let rows = line(y).iter().zip(line(y + 1)).zip(line(y + 2));
        for (tail, ((a, b), c)) in row.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            *tail = [a >> 1, b >> 1, c >> 1, 0];
        }
    }
}
