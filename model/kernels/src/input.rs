//! From pixels to the first activation.

use crate::layout::Layout;

/// Writes what `of` makes of an image's pixels, in CHW order, into its place in the buffer of the first activation.
#[inline(always)]
pub(crate) fn pack(layout: &Layout, image: usize, pixels: &[u8], to: &mut [u8], of: impl Fn(u8) -> u8) {
    let Layout { channels, height, width, pitch, .. } = *layout;
    let (plane, view) = (height * width, layout.view());
    for y in 0..height {
        let row = &mut to[view.at(image, y, 0)..][..width * pitch];
        let line = |channel: usize| &pixels[channel * plane + y * width..][..width];
        if (channels, pitch) == (3, 3) {
            // What most pictures are, in a form that the compiler makes shuffles of.
            let (red, green, blue) = (line(0), line(1), line(2));
            for (((pixel, red), green), blue) in row.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
                *pixel = [of(*red), of(*green), of(*blue)];
            }
        } else {
            for channel in 0..channels {
                for (pixel, value) in row.chunks_exact_mut(pitch).zip(line(channel)) {
                    pixel[channel] = of(*value);
                }
            }
        }
    }
}
