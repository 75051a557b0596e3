//! The largest files, and what a model sees.

use ocelli_picture::{Input, MAX_FILE_BYTES, Rectangle, Refusal, Sides, WHOLE, kept, pixels, sides};

fn input(channels: usize, height: usize, width: usize, crop: usize) -> Input {
    Input { channels, height, width, crop }
}

/// Bits, the highest of a byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn push(&mut self, bits: u32, length: usize) {
        for bit in (0..length).rev() {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("a byte");
            *last |= ((bits >> bit & 1) as u8) << (7 - self.count % 8);
            self.count += 1;
        }
    }
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(body.len() as u16 + 2).to_be_bytes()[..], body].concat()
}

/// A grey file of 1,024x1,024 pixels and so many bytes: blocks with as many coefficients of 1, each in 17 bits, as it takes.
fn largest(bytes: usize) -> Vec<u8> {
    let table = |name: u8, length: usize, symbols: &[u8]| {
        let mut counts = [0; 16];
        counts[length - 1] = symbols.len() as u8;
        segment(0xC4, &[&[name], &counts[..], symbols].concat())
    };
    let header = [
        vec![0xFF, 0xD8],
        segment(0xDB, &[&[0][..], &[1; 64]].concat()),
        table(0x00, 4, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        table(0x10, 16, &[0x00, 0x01]),
        segment(0xC0, &[8, 4, 0, 4, 0, 1, 1, 0x11, 0]),
        segment(0xDA, &[1, 1, 0x00, 0, 63, 0]),
    ]
    .concat();
    let blocks = 128 * 128;
    let free = 8 * (bytes - header.len() - 2) - 20 * blocks;
    let (mut coefficients, rest) = (free / 17, free % 17);
    // A difference of the first block takes up what would fill a byte.
    let size = rest.saturating_sub(7);
    let mut scan = Bits::default();
    for block in 0..blocks {
        let size = if block == 0 { size } else { 0 };
        scan.push(size as u32, 4);
        scan.push(1 << size >> 1, size);
        // Up to 62, so that each block has its end.
        for _ in 0..coefficients.min(62) {
            scan.push(1, 16);
            scan.push(1, 1);
        }
        scan.push(0, 16);
        coefficients -= coefficients.min(62);
    }
    while !scan.count.is_multiple_of(8) {
        scan.push(1, 1);
    }
    [header, scan.bytes, vec![0xFF, 0xD9]].concat()
}

#[test]
fn the_largest_file_is_taken_and_one_of_a_byte_more_is_not() {
    let file = largest(MAX_FILE_BYTES);
    assert_eq!(file.len(), MAX_FILE_BYTES);
    assert_eq!(sides(&file), Ok(Sides { columns: 1_024, rows: 1_024 }));
    assert_eq!(pixels(&file, input(3, 1_024, 1_024, WHOLE)).map(|pixels| pixels.len()), Ok(3 << 20));
    let refused = Err(Refusal::FileTooLarge { found: MAX_FILE_BYTES + 1 });
    assert_eq!(pixels(&largest(MAX_FILE_BYTES + 1), input(3, 9, 9, WHOLE)), refused);
}

#[test]
fn a_model_sees_the_centre() {
    let at = |left, top, columns, rows| Rectangle { left, top, columns, rows };
    let table = [
        ((500, 375), input(3, 224, 224, 256), at(62, 0, 375, 375)),
        ((375, 500), input(3, 224, 224, 256), at(0, 62, 375, 375)),
        ((640, 400), input(3, 30, 40, 256), at(53, 0, 533, 400)),
        ((7, 200), input(3, 224, 224, 256), at(0, 96, 7, 7)),
        ((1_024, 1), input(3, 1_024, 1, 256), at(511, 0, 1, 1)),
        ((1, 1_024), input(3, 1, 1_024, 256), at(0, 511, 1, 1)),
        ((256, 256), input(3, 224, 224, 224), at(16, 16, 224, 224)),
        ((257, 300), input(3, 224, 224, 224), at(16, 38, 224, 224)),
        ((3, 3), input(3, 9, 9, 1), at(1, 1, 1, 1)),
    ];
    for ((columns, rows), input, expected) in table {
        assert_eq!(kept(Sides { columns, rows }, input), expected, "{columns}x{rows} for {input:?}");
    }
}

#[test]
fn models_that_take_no_jpeg_are_refused() {
    let table = [
        (input(0, 9, 9, 256), Refusal::Channels { found: 0 }),
        (input(2, 9, 9, 256), Refusal::Channels { found: 2 }),
        (input(4, 9, 9, 256), Refusal::Channels { found: 4 }),
        (input(3, 0, 9, 256), Refusal::Side { found: 0 }),
        (input(3, 9, 0, 256), Refusal::Side { found: 0 }),
        (input(3, 1_025, 9, 256), Refusal::Side { found: 1_025 }),
        (input(1, 9, usize::MAX, 256), Refusal::Side { found: usize::MAX }),
        (input(1, 9, 9, 0), Refusal::Crop { found: 0 }),
        (input(1, 9, 9, 257), Refusal::Crop { found: 257 }),
    ];
    for (input, expected) in table {
        assert_eq!(pixels(b"", input), Err(expected));
        assert_eq!(input.check(), Err(expected));
    }
}
