//! Why a file, or a model, is refused.

use std::error::Error;
use std::fmt;

use crate::{MAX_FILE_BYTES, MAX_SIDE, WHOLE};

/// The rule that is broken: whether a file is refused is part of consensus, the reason is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The file is too large; its bytes.
    FileTooLarge {
        /// Bytes.
        found: usize,
    },
    /// The file does not begin with SOI.
    NoStart,
    /// The file ends before its scan.
    HeaderEnds,
    /// There is no marker where a segment should begin.
    NoMarker {
        /// Where in the file.
        at: usize,
        /// The byte there.
        found: u8,
    },
    /// The marker is none of those allowed before the scan.
    Marker {
        /// Where in the file.
        at: usize,
        /// The marker's second byte.
        found: u8,
    },
    /// The segment is shorter than its length, or ends behind the file.
    SegmentLength {
        /// Where in the file.
        at: usize,
        /// The marker's second byte.
        marker: u8,
        /// The length that it gives.
        found: u16,
    },
    /// A segment that may come once comes twice.
    SegmentTwice {
        /// The marker's second byte.
        marker: u8,
    },
    /// APP0 is not that of JFIF 1 without thumbnail.
    Jfif,
    /// DQT is not made of whole tables.
    QuantisationLength {
        /// Bytes of its body.
        found: usize,
    },
    /// A quantisation table has no number of 0 to 3, or 16 bits.
    QuantisationNumber {
        /// The byte that says both.
        found: u8,
    },
    /// A quantisation table is defined twice.
    QuantisationTwice { number: u8 },
    /// A quantisation table has a 0.
    QuantisationZero { number: u8 },
    /// DHT is not made of whole tables.
    HuffmanLength,
    /// A Huffman table has another class or number than 0 or 1.
    HuffmanName {
        /// The byte that says both.
        found: u8,
    },
    /// A Huffman table is defined twice.
    HuffmanTwice {
        /// Its class and number, as the file has them.
        table: u8,
    },
    /// A Huffman table has no codes, or too many.
    HuffmanNumber {
        /// Its class and number, as the file has them.
        table: u8,
        /// Its codes.
        found: usize,
    },
    /// A Huffman table has a code of only ones, or more codes than there is room for.
    HuffmanCodes {
        /// Its class and number, as the file has them.
        table: u8,
        /// Bits of the codes that have no room.
        length: u8,
    },
    /// A Huffman table has a symbol that baseline files do not have.
    HuffmanSymbol {
        /// Its class and number, as the file has them.
        table: u8,
        found: u8,
    },
    /// DRI has another body than 2 bytes.
    RestartLength {
        /// Bytes.
        found: usize,
    },
    /// There is no SOF0 before SOS.
    NoFrame,
    /// SOF0 does not fit its components.
    FrameLength {
        /// Bytes of its body.
        found: usize,
    },
    /// Samples have not 8 bits.
    Precision {
        /// Their bits.
        found: u8,
    },
    /// A side is 0, or too long.
    Size {
        /// Pixels in a row.
        columns: u16,
        rows: u16,
    },
    /// There is neither one component nor three.
    Components { found: u8 },
    /// The scan has not all components.
    ScanComponents {
        /// How many it has.
        found: u8,
        /// How many the frame has.
        expected: u8,
    },
    /// SOS does not fit its components.
    ScanLength {
        /// Bytes of its body.
        found: usize,
    },
    /// The scan is not one of whole coefficients 0 to 63.
    Spectrum,
    /// Components are neither 1, 2, 3 nor 0, 1, 2, in this order, in frame and scan.
    Name {
        /// Which, from 0 on.
        component: u8,
        /// Its name in SOF0.
        frame: u8,
        /// Its name in SOS.
        scan: u8,
    },
    /// A component is sampled as none is here.
    Sampling {
        /// Which, from 0 on.
        component: u8,
        /// Its two factors, a half byte each.
        found: u8,
    },
    /// A component names a quantisation table that is not defined.
    NoQuantisation { number: u8 },
    /// A component names a Huffman table that is not defined.
    NoHuffman {
        /// Class and number.
        table: u8,
    },
    /// The file ends within its scan.
    ScanEnds,
    /// Another marker than the restart marker or EOI that is due ends a piece of the scan.
    ScanMarker {
        /// Where in the file.
        at: usize,
        /// The marker's second byte.
        found: u8,
        /// That of the marker due.
        expected: u8,
    },
    /// Bytes follow EOI.
    AfterEnd { found: usize },
    /// Bits begin no code.
    Code,
    /// A run goes past the last coefficient of a block.
    Run,
    /// A piece of the scan ends before its last MCU.
    PieceEnds,
    /// Whole bytes follow the last MCU of a piece.
    PieceGoesOn { found: usize },
    /// What fills up the last byte of a piece is not all ones.
    Padding,
    /// A sample is outside of -512 to 511 before 128 is added.
    Sample,
    /// EXIF turns or mirrors the picture, so that it cannot go without these data.
    Turned {
        /// 2 to 8.
        orientation: u8,
    },
    /// Adobe's marker may say that the components are no Y, Cb and Cr, so that it cannot be left out.
    Adobe {
        /// What it says: 0 for none or unknown.
        transform: u8,
    },
    /// The model takes neither one channel nor three.
    Channels { found: usize },
    /// A side of the model's input is 0, or too long.
    Side {
        /// Pixels.
        found: usize,
    },
    /// The model's crop is out of range.
    Crop { found: usize },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FileTooLarge { found } => write!(f, "the file has {found} bytes, more than {MAX_FILE_BYTES}"),
            Self::NoStart => write!(f, "no JPEG: the file does not begin with FF D8"),
            Self::HeaderEnds => write!(f, "the file ends before its scan"),
            Self::NoMarker { at, found } => write!(f, "found {found:02X} at byte {at}, expected FF and a marker"),
            Self::Marker { at, found } => {
                write!(f, "found marker {found:02X}{} at byte {at}, expected E0, DB, C4, DD, C0 or DA", named(found))
            }
            Self::SegmentLength { at, marker, found } => write!(
                f,
                "segment {marker:02X} at byte {at} gives its length as {found}: expected 2 or more, and an end within the file"
            ),
            Self::SegmentTwice { marker } => write!(f, "segment {marker:02X} comes twice"),
            Self::Jfif => write!(f, "segment E0 is not that of JFIF 1 without thumbnail"),
            Self::QuantisationLength { found } => {
                write!(f, "DQT has {found} bytes, expected one or more tables of 65")
            }
            Self::QuantisationNumber { found } => {
                write!(f, "found quantisation table {found:02X}, expected 00 to 03 (8 bits)")
            }
            Self::QuantisationTwice { number } => write!(f, "quantisation table {number} is defined twice"),
            Self::QuantisationZero { number } => write!(f, "quantisation table {number} has a 0"),
            Self::HuffmanLength => write!(f, "DHT does not consist of one or more whole tables"),
            Self::HuffmanName { found } => write!(f, "found Huffman table {found:02X}, expected 00, 01, 10 or 11"),
            Self::HuffmanTwice { table } => write!(f, "Huffman table {table:02X} is defined twice"),
            Self::HuffmanNumber { table, found } => {
                write!(f, "Huffman table {table:02X} has {found} codes, expected 1 to 256")
            }
            Self::HuffmanCodes { table, length } => write!(
                f,
                "Huffman table {table:02X} has more codes of {length} bits than there is room for, or one of only ones"
            ),
            Self::HuffmanSymbol { table, found } => {
                write!(f, "Huffman table {table:02X} has the symbol {found:02X}, which baseline files do not have")
            }
            Self::RestartLength { found } => write!(f, "DRI has {found} bytes, expected 2"),
            Self::NoFrame => write!(f, "no SOF0 before SOS"),
            Self::FrameLength { found } => {
                write!(f, "SOF0 has {found} bytes, expected 6 and 3 for each of its components")
            }
            Self::Precision { found } => write!(f, "samples have {found} bits, expected 8"),
            Self::Size { columns, rows } => {
                write!(f, "the picture has {columns}x{rows} pixels, expected sides of 1 to {MAX_SIDE}")
            }
            Self::Components { found } => write!(f, "{found} components, expected 1 or 3"),
            Self::ScanComponents { found, expected } => {
                write!(f, "a scan of {found} components, expected one of all {expected}")
            }
            Self::ScanLength { found } => {
                write!(f, "SOS has {found} bytes, expected 4 and 2 for each of its components")
            }
            Self::Spectrum => write!(f, "the scan is not one of all bits of coefficients 0 to 63"),
            Self::Name { component, frame, scan } => write!(
                f,
                "component {component} is called {frame} in SOF0 and {scan} in SOS, expected 1, 2, 3 or 0, 1, 2 in this order"
            ),
            Self::Sampling { component, found } => write!(
                f,
                "component {component} has the sampling factors {found:02X}, expected 11, or 21 or 22 for the first of three"
            ),
            Self::NoQuantisation { number } => write!(f, "quantisation table {number} is named and not defined"),
            Self::NoHuffman { table } => write!(f, "Huffman table {table:02X} is named and not defined"),
            Self::ScanEnds => write!(f, "the file ends within its scan"),
            Self::ScanMarker { at, found, expected } => {
                write!(f, "found marker {found:02X} at byte {at} of the scan, expected {expected:02X}")
            }
            Self::AfterEnd { found } => write!(f, "{found} bytes follow EOI"),
            Self::Code => write!(f, "bits of the scan begin no Huffman code"),
            Self::Run => write!(f, "a run goes past the end of a block"),
            Self::PieceEnds => write!(f, "the scan, or a part between restart markers, ends before its last block"),
            Self::PieceGoesOn { found } => {
                write!(f, "{found} whole bytes follow the last block of the scan, or of a part between restart markers")
            }
            Self::Padding => {
                write!(f, "the last byte of the scan, or before a restart marker, is not filled up with ones")
            }
            Self::Sample => write!(f, "a sample lies outside of -512 to 511"),
            Self::Turned { orientation } => write!(f, "EXIF turns or mirrors the picture (orientation {orientation})"),
            Self::Adobe { transform } => {
                write!(f, "Adobe's marker gives the components another meaning (transform {transform})")
            }
            Self::Channels { found } => write!(f, "the model takes {found} channels, a JPEG gives 1 or 3"),
            Self::Side { found } => {
                write!(f, "a side of the model's input has {found} pixels, a JPEG gives 1 to {MAX_SIDE}")
            }
            Self::Crop { found } => write!(f, "the model's crop is {found}, expected 1 to {WHOLE}"),
        }
    }
}

impl Error for Refusal {}

/// What people know a marker by.
fn named(marker: u8) -> &'static str {
    match marker {
        0xC1 => " (extended)",
        0xC2 => " (progressive)",
        0xC3 | 0xC7 => " (lossless)",
        0xC9..=0xCB | 0xCD..=0xCF => " (arithmetic coding)",
        0xE1 => " (EXIF or XMP)",
        0xE2 => " (colour profile)",
        0xED => " (Photoshop)",
        0xEE => " (Adobe)",
        0xE3..=0xEF => " (application data)",
        0xFE => " (comment)",
        _ => "",
    }
}
