//! Colours (jdcolor.c, `build_ycc_rgb_table`; jdcolext.c, `ycc_rgb_convert_internal`), in 16 bits.
//!
//! With c of 16 bits, `(2c * k >> 16) + 1 >> 1` is `(c * k + 32768) >> 16`: the floor of a half of a floor is the floor
//! of the half. Factors past 15 bits are taken apart: 91881 = 65536 + 26345, -46802 = -65536 + 18734 and 116130 = 131072 - 14942.

/// Red, green and blue of samples, all of one length.
pub(crate) fn to_rgb([luma, cb, cr]: [&[u8]; 3], [red, green, blue]: [&mut [u8]; 3]) {
    let channels = red.iter_mut().zip(green).zip(blue);
    for (((y, b), r), ((red, green), blue)) in luma.iter().zip(cb).zip(cr).zip(channels) {
        let y = i16::from(*y);
        let [b, r] = [b, r].map(|sample| i16::from(*sample) - 128);
        let product = |value: i16, factor: i32| (((i32::from(2 * value) * factor) >> 16) as i16 + 1) >> 1;
        *red = clip(y + r + product(r, 26_345));
        let both = (i32::from(r) * 18_734 - i32::from(b) * 22_554 + 32_768) >> 16;
        *green = clip(y - r + both as i16);
        *blue = clip(y + 2 * b + product(b, -14_942));
    }
}

#[inline(always)]
fn clip(value: i16) -> u8 {
    value.clamp(0, 255) as u8
}

/// Luma of red, then green, then blue pixels: Pillow's `convert("L")` (Convert.c, `L24`).
pub(crate) fn luma(pixels: &[u8]) -> Vec<u8> {
    let (red, rest) = pixels.split_at(pixels.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    let luma = |((red, green), blue): ((&u8, &u8), &u8)| {
        ((19_595 * u32::from(*red) + 38_470 * u32::from(*green) + 7_471 * u32::from(*blue) + 32_768) >> 16) as u8
    };
    red.iter().zip(green).zip(blue).map(luma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formulas of `docs/picture.md`, section 6.
    fn by_the_rule(y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let (y, b, r) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        [
            y + ((91_881 * r + 32_768) >> 16),
            y + ((-22_554 * b - 46_802 * r + 32_768) >> 16),
            y + ((116_130 * b + 32_768) >> 16),
        ]
        .map(|colour| colour.clamp(0, 255) as u8)
    }

    #[test]
    fn all_colours_are_those_of_the_rule() {
        let luma: Vec<u8> = (0..=255).collect();
        for cb in 0..=255 {
            for cr in 0..=255 {
                let mut rgb = [[0; 256]; 3];
                to_rgb([&luma, &[cb; 256], &[cr; 256]], rgb.each_mut().map(<[u8; 256]>::as_mut_slice));
                for y in 0..=255 {
                    assert_eq!(rgb.map(|plane| plane[usize::from(y)]), by_the_rule(y, cb, cr), "{y} {cb} {cr}");
                }
            }
        }
    }
}
