//! The golden files of the specification, and those that must be refused.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_picture::{Input, Refusal, Sides, WHOLE, check, pixels, sides};
use sha2::{Digest as _, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn input(channels: usize, height: usize, width: usize) -> Input {
    Input { channels, height, width, crop: WHOLE }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn golden_files_give_their_pixels() {
    let table = fs::read_to_string(folder().join("good.tsv")).expect("a table");
    let mut lines = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().expect("a head");
    let mut files = 0;
    for row in lines {
        let name = row[0];
        let file = fs::read(folder().join("good").join(name)).expect("a file");
        let [columns, rows] = [row[2], row[3]].map(|side| side.parse().expect("a number"));
        assert_eq!([sides(&file), check(&file)], [Ok(Sides { columns, rows }); 2], "{name}");
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        let planar = pixels(&file, input(3, rows, columns)).expect(name);
        let area = rows * columns;
        let rgb: Vec<u8> = (0..area).flat_map(|at| [0, 1, 2].map(|channel| planar[channel * area + at])).collect();
        assert_eq!(sha256(&rgb), row[4], "{name}: decoded");
        for (size, expected) in head.iter().zip(&row).skip(5) {
            let (width, height) = size.split_once('x').expect("two sides");
            let [width, height] = [width, height].map(|side| side.parse().expect("a number"));
            let found = pixels(&file, input(3, height, width)).expect(name);
            assert_eq!(found.len(), 3 * height * width);
            assert_eq!(sha256(&found), *expected, "{name}: {size}");
        }
        files += 1;
    }
    assert_eq!(files, fs::read_dir(folder().join("good")).expect("a folder").count(), "each file has a row");
}

/// What is refused is the rule; the reasons are ours.
#[test]
fn files_that_break_a_rule_are_refused_with_its_name() {
    use Refusal::*;
    #[rustfmt::skip]
    let table = [
        // APP0 that is not JFIF.
        ("app0_jfxx", Jfif),
        // JFIF 2.
        ("app0_major_2", Jfif),
        // APP0 of 14 bytes.
        ("app0_short", Jfif),
        // A thumbnail.
        ("app0_thumbnail", Jfif),
        // APP0 twice.
        ("app0_twice", SegmentTwice { marker: 0xE0 }),
        // Adobe, RGB.
        ("app14_adobe_0", Marker { at: 2, found: 0xEE }),
        // Adobe, YCbCr.
        ("app14_adobe_1", Marker { at: 2, found: 0xEE }),
        // EXIF, here with orientation 6.
        ("app1_exif", Marker { at: 2, found: 0xE1 }),
        // An ICC profile.
        ("app2_icc", Marker { at: 2, found: 0xE2 }),
        // Values between the passes past 16 bits.
        ("between_wraps", Sample),
        // Ends within a value.
        ("bits_missing", PieceEnds),
        // A byte after the last MCU, of ones.
        ("byte_extra", PieceGoesOn { found: 1 }),
        // A byte after the last MCU.
        ("byte_extra_0", PieceGoesOn { found: 1 }),
        // Bits that are no code of the table.
        ("code_unknown", Code),
        // The same for a DC code.
        ("code_unknown_dc", Code),
        // A coefficient of 260,865: 16 bits overflow.
        ("coefficient_wraps", Sample),
        // A comment.
        ("com", Marker { at: 2, found: 0xFE }),
        // Two components.
        ("components_2", Components { found: 2 }),
        // Four components.
        ("components_4", Components { found: 4 }),
        // DAC.
        ("dac", Marker { at: 2, found: 0xCC }),
        // DC steps of 2047, 40 times.
        ("dc_climbs", Sample),
        // 257 codes.
        ("dht_257_codes", HuffmanNumber { table: 0x01, found: 257 }),
        // An AC size of 11, defined only.
        ("dht_ac_11", HuffmanSymbol { table: 0x10, found: 0x0B }),
        // The AC symbol 10, which only progressive pictures have.
        ("dht_ac_eob1", HuffmanSymbol { table: 0x10, found: 0x10 }),
        // A code of only ones.
        ("dht_all_ones", HuffmanCodes { table: 0x00, length: 1 }),
        // Huffman class 2.
        ("dht_class_2", HuffmanName { found: 0x20 }),
        // A DC size of 12, defined only.
        ("dht_dc_12", HuffmanSymbol { table: 0x00, found: 0x0C }),
        // DHT a byte too long.
        ("dht_length", HuffmanLength),
        // A Huffman table without codes.
        ("dht_no_codes", HuffmanNumber { table: 0x01, found: 0 }),
        // Huffman table 2.
        ("dht_number_2", HuffmanName { found: 0x02 }),
        // More codes than there is room for.
        ("dht_oversubscribed", HuffmanCodes { table: 0x00, length: 4 }),
        // DHT a symbol short.
        ("dht_short", HuffmanLength),
        // A Huffman table twice, both the same.
        ("dht_twice", HuffmanTwice { table: 0x00 }),
        // DNL.
        ("dnl", ScanMarker { at: 963, found: 0xDC, expected: 0xD9 }),
        // Quantisation in 16 bits.
        ("dqt_16_bits", QuantisationNumber { found: 0x10 }),
        // DQT without a table.
        ("dqt_empty", QuantisationLength { found: 0 }),
        // DQT a byte too long.
        ("dqt_length", QuantisationLength { found: 66 }),
        // Quantisation table 4.
        ("dqt_number_4", QuantisationNumber { found: 0x04 }),
        // A quantisation table twice, both the same.
        ("dqt_twice", QuantisationTwice { number: 0 }),
        // Quantisation by 0.
        ("dqt_zero", QuantisationZero { number: 0 }),
        // DRI of 3 bytes.
        ("dri_length", RestartLength { found: 3 }),
        // DRI twice.
        ("dri_twice", SegmentTwice { marker: 0xDD }),
        // No bytes.
        ("empty", NoStart),
        // A second EOI.
        ("eoi_twice", AfterEnd { found: 2 }),
        // FF FF 00 within the scan.
        ("ff_ff_00", PieceEnds),
        // A fill byte before a marker.
        ("fill_byte", Marker { at: 20, found: 0xFF }),
        // A fill byte before EOI.
        ("fill_eoi", ScanMarker { at: 963, found: 0xFF, expected: 0xD9 }),
        // One component with factors 2x2.
        ("grey_22", Sampling { component: 0, found: 0x22 }),
        // Half an EOI.
        ("half_eoi", ScanEnds),
        // Height 0, given by DNL.
        ("height_0_dnl", Size { columns: 40, rows: 0 }),
        // A sample out of range in a block that only fills up the MCU and is never shown.
        ("hidden_block", Sample),
        // Components 1, 3, 2.
        ("ids_1_3_2", Name { component: 1, frame: 3, scan: 3 }),
        // Components 2, 3, 4.
        ("ids_2_3_4", Name { component: 0, frame: 2, scan: 2 }),
        // Components R, G, B.
        ("ids_rgb", Name { component: 0, frame: 82, scan: 82 }),
        // A reserved marker.
        ("jpg0", Marker { at: 2, found: 0xF0 }),
        // A byte between segments.
        ("junk_byte", NoMarker { at: 20, found: 0x00 }),
        // A byte before SOI.
        ("leading_byte", NoStart),
        // A segment length of 1.
        ("length_1", SegmentLength { at: 2, marker: 0xE0, found: 1 }),
        // A segment longer than the file.
        ("length_past_end", SegmentLength { at: 609, marker: 0xDA, found: 65535 }),
        // DHT within the scan.
        ("marker_in_scan", PieceEnds),
        // A scan of one MCU for two.
        ("mcu_missing", PieceEnds),
        // No Huffman tables (the usual ones are meant).
        ("no_dht", NoHuffman { table: 0x00 }),
        // No quantisation table.
        ("no_dqt", NoQuantisation { number: 0 }),
        // No EOI.
        ("no_eoi", ScanEnds),
        // Padding of zeros.
        ("padding_zeros", Padding),
        // Not a JPEG.
        ("png", NoStart),
        // 12 bits.
        ("precision_12", Precision { found: 12 }),
        // Progressive.
        ("progressive", Marker { at: 158, found: 0xC2 }),
        // A restart marker after the last MCU.
        ("rst_after_last", ScanMarker { at: 340, found: 0xD2, expected: 0xD9 }),
        // A restart interval without bytes.
        ("rst_empty", PieceEnds),
        // A fill byte before RST0.
        ("rst_fill", ScanMarker { at: 332, found: 0xFF, expected: 0xD0 }),
        // RST0 before SOS.
        ("rst_in_header", Marker { at: 2, found: 0xD0 }),
        // A restart marker is missing.
        ("rst_missing", PieceGoesOn { found: 2 }),
        // Restart markers begin with RST1.
        ("rst_number", ScanMarker { at: 332, found: 0xD1, expected: 0xD0 }),
        // Padding of zeros before RST0.
        ("rst_padding", Padding),
        // Restart markers in the wrong order.
        ("rst_swapped", ScanMarker { at: 332, found: 0xD1, expected: 0xD0 }),
        // Restart markers without DRI.
        ("rst_undeclared", PieceEnds),
        // A run past the 64th coefficient.
        ("run_past_end", Run),
        // A run of zeros up to the end of the block.
        ("run_to_end", Run),
        // ZRL over the last 16 coefficients.
        ("run_zrl_48", Run),
        // A flat sample of -513 before the shift.
        ("sample_-513", Sample),
        // A flat sample of 512 before the shift.
        ("sample_512", Sample),
        // Samples past the range: the C code of libjpeg-turbo wraps, its SIMD code saturates.
        ("sample_wraps", Sample),
        // A sampling factor of 0.
        ("sampling_0", Sampling { component: 0, found: 0x20 }),
        // 4:2:2 with factors 2x2 and 1x2.
        ("sampling_22_12", Sampling { component: 1, found: 0x12 }),
        // 4:4:0 with factors 2x2 and 2x1.
        ("sampling_22_21", Sampling { component: 1, found: 0x21 }),
        // 4:4:4 with factors 2x2.
        ("sampling_22_22", Sampling { component: 1, found: 0x22 }),
        // 4:1:1.
        ("sampling_411", Sampling { component: 0, found: 0x41 }),
        // 4:4:0.
        ("sampling_440", Sampling { component: 0, found: 0x12 }),
        // Cb and Cr sampled unequally.
        ("sampling_unequal", Sampling { component: 2, found: 0x21 }),
        // A scan without bytes.
        ("scan_empty", PieceEnds),
        // A scan for each component.
        ("scans_3", ScanComponents { found: 1, expected: 3 }),
        // A side of 1,025.
        ("side_1025", Size { columns: 1025, rows: 1 }),
        // A side of 1,025.
        ("side_1025_down", Size { columns: 1, rows: 1025 }),
        // SOF1.
        ("sof1", Marker { at: 158, found: 0xC1 }),
        // SOF9.
        ("sof9", Marker { at: 158, found: 0xC9 }),
        // SOF0 a byte too long.
        ("sof_length", FrameLength { found: 16 }),
        // SOF0 twice.
        ("sof_twice", SegmentTwice { marker: 0xC0 }),
        // No picture.
        ("soi_eoi", HeaderEnds),
        // Nothing after SOI.
        ("soi_only", HeaderEnds),
        // SOI twice.
        ("soi_twice", Marker { at: 2, found: 0xD8 }),
        // Al of 1.
        ("sos_al_1", Spectrum),
        // No SOF0.
        ("sos_before_sof", NoFrame),
        // SOS a byte too long.
        ("sos_length", ScanLength { found: 11 }),
        // The components of the scan in another order.
        ("sos_order", Name { component: 0, frame: 1, scan: 2 }),
        // Se of 0.
        ("sos_se_0", Spectrum),
        // Marker TEM.
        ("tem", Marker { at: 2, found: 0x01 }),
        // A byte after EOI.
        ("trailing_byte", AfterEnd { found: 1 }),
        // Ends within the header.
        ("truncated_header", SegmentLength { at: 177, marker: 0xC4, found: 31 }),
        // Ends within the scan.
        ("truncated_scan", PieceEnds),
        // A second picture after EOI.
        ("two_pictures", AfterEnd { found: 965 }),
        // Width 0.
        ("width_0", Size { columns: 0, rows: 32 }),

    ];
    let mut wrong = Vec::new();
    for (name, expected) in table {
        let file = fs::read(folder().join("bad").join(name).with_extension("jpg")).expect(name);
        let found = pixels(&file, input(3, 32, 32)).map(|pixels| pixels.len());
        if found != Err(expected) || check(&file) != Err(expected) {
            wrong.push(format!("{name}: found {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(table.len(), fs::read_dir(folder().join("bad")).expect("a folder").count(), "each file has a row");
}
