//! The segments of a file up to its scan (T.81, annex B), by an allowlist: what is not named here is refused.

use crate::huffman::Codes;
use crate::refusal::Refusal;
use crate::{MAX_FILE_BYTES, MAX_SIDE, Sides};

pub(crate) const SOI: u8 = 0xD8;
pub(crate) const EOI: u8 = 0xD9;
pub(crate) const RST0: u8 = 0xD0;
pub(crate) const APP0: u8 = 0xE0;
pub(crate) const DQT: u8 = 0xDB;
pub(crate) const DHT: u8 = 0xC4;
pub(crate) const DRI: u8 = 0xDD;
pub(crate) const SOF0: u8 = 0xC0;
pub(crate) const SOS: u8 = 0xDA;

/// What the segments say, all of it checked.
pub(crate) struct Header<'a> {
    pub(crate) sides: Sides,
    /// How many columns and rows share one sample of Cb and Cr: 1 and 1, 2 and 1, or 2 and 2. 1 and 1 if the picture is grey.
    pub(crate) shared: (usize, usize),
    /// Y, or Y, Cb and Cr.
    pub(crate) components: Vec<Component<'a>>,
    /// MCUs between two restart markers, if there are any.
    pub(crate) interval: Option<usize>,
    /// Where the scan begins in the file.
    pub(crate) scan: usize,
}

/// The tables that a component is decoded with.
pub(crate) struct Component<'a> {
    /// In zigzag order.
    pub(crate) quantisation: &'a [u8; 64],
    pub(crate) dc: Codes<'a>,
    pub(crate) ac: Codes<'a>,
}

/// What the segments seen up to now define.
#[derive(Default)]
struct Segments<'a> {
    /// The markers that may come once.
    seen: Vec<u8>,
    quantisation: [Option<&'a [u8; 64]>; 4],
    dc: [Option<Codes<'a>>; 2],
    ac: [Option<Codes<'a>>; 2],
    interval: Option<usize>,
    frame: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Reads all segments up to and including SOS.
    ///
    /// # Errors
    /// Names the first rule that one of them breaks.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, Refusal> {
        if file.len() > MAX_FILE_BYTES {
            return Err(Refusal::FileTooLarge { found: file.len() });
        }
        if !file.starts_with(&[0xFF, SOI]) {
            return Err(Refusal::NoStart);
        }
        let mut segments = Segments::default();
        let mut at = 2;
        loop {
            let Some(&[first, marker, high, low]) = file[at..].first_chunk() else {
                return Err(Refusal::HeaderEnds);
            };
            if first != 0xFF {
                return Err(Refusal::NoMarker { at, found: first });
            }
            if ![APP0, DQT, DHT, DRI, SOF0, SOS].contains(&marker) {
                return Err(Refusal::Marker { at, found: marker });
            }
            let length = u16::from_be_bytes([high, low]);
            let body = usize::from(length).checked_sub(2).and_then(|length| file[at + 4..].get(..length));
            let body = body.ok_or(Refusal::SegmentLength { at, marker, found: length })?;
            at += 4 + body.len();
            segments.once(marker)?;
            match marker {
                APP0 if is_jfif(body) => {}
                APP0 => return Err(Refusal::Jfif),
                DQT => segments.quantisation(body)?,
                DHT => segments.huffman(body)?,
                DRI => segments.interval(body)?,
                SOF0 => segments.frame = Some(body),
                _ => return segments.scan(body, at),
            }
        }
    }
}

/// Whether an APP0 is that of version 1 of JFIF without a thumbnail.
pub(crate) fn is_jfif(body: &[u8]) -> bool {
    body.len() == 14 && body.starts_with(b"JFIF\0\x01") && body.ends_with(&[0, 0])
}

impl<'a> Segments<'a> {
    /// Refuses a segment that came before, but for tables.
    fn once(&mut self, marker: u8) -> Result<(), Refusal> {
        if [DQT, DHT].contains(&marker) {
            return Ok(());
        }
        if self.seen.contains(&marker) {
            return Err(Refusal::SegmentTwice { marker });
        }
        self.seen.push(marker);
        Ok(())
    }

    fn quantisation(&mut self, body: &'a [u8]) -> Result<(), Refusal> {
        if body.is_empty() {
            return Err(Refusal::QuantisationLength { found: 0 });
        }
        for table in body.chunks(65) {
            let found = table[0];
            let place = self.quantisation.get_mut(usize::from(found)).ok_or(Refusal::QuantisationNumber { found })?;
            if place.is_some() {
                return Err(Refusal::QuantisationTwice { number: found });
            }
            let values: &[u8; 64] =
                table[1..].try_into().map_err(|_| Refusal::QuantisationLength { found: body.len() })?;
            if values.contains(&0) {
                return Err(Refusal::QuantisationZero { number: found });
            }
            *place = Some(values);
        }
        Ok(())
    }

    fn huffman(&mut self, mut body: &'a [u8]) -> Result<(), Refusal> {
        if body.is_empty() {
            return Err(Refusal::HuffmanLength);
        }
        while let Some((&name, rest)) = body.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(Refusal::HuffmanLength)?;
            let table = match name {
                0x00 | 0x01 => &mut self.dc[usize::from(name)],
                0x10 | 0x11 => &mut self.ac[usize::from(name & 1)],
                found => return Err(Refusal::HuffmanName { found }),
            };
            if table.is_some() {
                return Err(Refusal::HuffmanTwice { table: name });
            }
            let found = counts.iter().map(|count| usize::from(*count)).sum();
            if !(1..=256).contains(&found) {
                return Err(Refusal::HuffmanNumber { table: name, found });
            }
            let (symbols, rest) = rest.split_at_checked(found).ok_or(Refusal::HuffmanLength)?;
            *table = Some(Codes::new(name, counts, symbols)?);
            body = rest;
        }
        Ok(())
    }

    fn interval(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let body = body.try_into().map_err(|_| Refusal::RestartLength { found: body.len() })?;
        self.interval = Some(usize::from(u16::from_be_bytes(body))).filter(|interval| *interval > 0);
        Ok(())
    }

    /// Reads SOF0 and SOS, and finds the tables that they name.
    fn scan(self, body: &[u8], scan: usize) -> Result<Header<'a>, Refusal> {
        let frame = self.frame.ok_or(Refusal::NoFrame)?;
        let wrong = Refusal::FrameLength { found: frame.len() };
        let [precision, h0, h1, w0, w1, count, components @ ..] = frame else { return Err(wrong) };
        let (components, rest) = components.as_chunks::<3>();
        if components.len() != usize::from(*count) || !rest.is_empty() {
            return Err(wrong);
        }
        if *precision != 8 {
            return Err(Refusal::Precision { found: *precision });
        }
        let sides = Sides { columns: u16::from_be_bytes([*w0, *w1]), rows: u16::from_be_bytes([*h0, *h1]) };
        if ![sides.columns, sides.rows].iter().all(|side| (1..=MAX_SIDE).contains(&usize::from(*side))) {
            return Err(Refusal::Size { columns: sides.columns, rows: sides.rows });
        }
        if ![1, 3].contains(count) {
            return Err(Refusal::Components { found: *count });
        }
        let wrong = Refusal::ScanLength { found: body.len() };
        let (of, rest) = body.split_first().ok_or(wrong)?;
        if of != count {
            return Err(Refusal::ScanComponents { found: *of, expected: *count });
        }
        let (of, rest) = rest.as_chunks::<2>();
        let Some((spectrum, of)) = of.split_last().filter(|(_, of)| of.len() == components.len() && rest.len() == 1)
        else {
            return Err(wrong);
        };
        if *spectrum != [0, 63] || rest != [0] {
            return Err(Refusal::Spectrum);
        }
        let first = components[0][0];
        let mut tables = Vec::new();
        for ((number, [name, sampling, quantisation]), [scanned, huffman]) in (0..).zip(components).zip(of) {
            if first > 1 || *name != first + number || name != scanned {
                return Err(Refusal::Name { component: number, frame: *name, scan: *scanned });
            }
            if !(*sampling == 0x11 || number == 0 && *count == 3 && [0x21, 0x22].contains(sampling)) {
                return Err(Refusal::Sampling { component: number, found: *sampling });
            }
            let quantisation_table = self.quantisation.get(usize::from(*quantisation)).copied().flatten();
            let dc = self.dc.get(usize::from(huffman >> 4)).copied().flatten();
            let ac = self.ac.get(usize::from(huffman & 15)).copied().flatten();
            tables.push(Component {
                quantisation: quantisation_table.ok_or(Refusal::NoQuantisation { number: *quantisation })?,
                dc: dc.ok_or(Refusal::NoHuffman { table: huffman >> 4 })?,
                ac: ac.ok_or(Refusal::NoHuffman { table: 0x10 | huffman & 15 })?,
            });
        }
        let sampling = components[0][1];
        let shared = (usize::from(sampling >> 4), usize::from(sampling & 15));
        Ok(Header { sides, shared, components: tables, interval: self.interval, scan })
    }
}
