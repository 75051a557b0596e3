//! The blocks of a PEM file, as leniently as OpenSSL reads them: what stands around and between them, the width of their
//! lines, blank lines, and spaces and tabs at either end of a line are no matter.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// A block that is whole.
pub struct Block<'a> {
    /// All that stands before it in the file.
    pub above: &'a str,
    /// What stands after `-----BEGIN`.
    pub label: &'a str,
    body: &'a str,
}

impl Block<'_> {
    /// The bytes that the block holds; none if that is no base64.
    pub fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        // A line with a colon is a header, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421); base64 has no colon.
        let lines = self.body.lines().filter(|line| !line.contains(':'));
        let text: Zeroizing<String> = Zeroizing::new(lines.flat_map(str::split_whitespace).collect());
        STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
    }
}

/// The whole blocks of a text in their order. One that is cut short by the next one's beginning, or by the end, is none.
pub fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    text.match_indices(BEGIN).filter_map(|(start, _)| {
        let rest = &text[start + BEGIN.len()..];
        let (label, rest) = rest[..rest.find(BEGIN).unwrap_or(rest.len())].split_once(DASHES)?;
        let (body, _) = rest.split_once(&format!("-----END {label}{DASHES}"))?;
        (!label.contains('\n')).then_some(Block { above: &text[..start], label, body })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Option<Vec<u8>>)> {
        blocks(text).map(|block| (block.label.into(), block.decode().map(|bytes| bytes.to_vec()))).collect()
    }

    #[test]
    fn layout_is_no_matter() {
        let whole = ("A KEY".to_owned(), Some(b"hello, wallet".to_vec()));
        for text in [
            "-----BEGIN A KEY-----\naGVsbG8sIHdhbGxldA==\n-----END A KEY-----\n",
            "-----BEGIN A KEY-----\r\naGVsbG8s\r\nIHdhbGxldA==\r\n-----END A KEY-----",
            "-----BEGIN A KEY-----\raGVsbG8s\rIHdhbGxldA==\r-----END A KEY-----\r",
            "\n\n  -----BEGIN A KEY----- \t\n\n\t aG\nVsbG8s \n\nIHdhbG xldA==\n \n  -----END A KEY-----  \n\n",
            "-----BEGIN A KEY----- aGVsbG8sIHdhbGxldA== -----END A KEY-----",
            "Bag Attributes\n    friendlyName: -----\n-----BEGIN A KEY-----\nProc-Type: 4,CLEAR\n\naGVsbG8sIHdhbGxldA==\n\
             -----END A KEY-----\nafter",
            "\u{feff}-----BEGIN A KEY-----\naGVsbG8sIHdhbGxldA==\n-----END A KEY-----\n",
            "-----BEGIN A KEY-----\ncut short\n-----BEGIN A KEY-----\naGVsbG8sIHdhbGxldA==\n-----END A KEY-----\n",
        ] {
            assert_eq!(read(text), std::slice::from_ref(&whole), "{text:?}");
        }
    }

    #[test]
    fn blocks_come_in_order_and_whole() {
        let text = "-----BEGIN B-----\nYg==\n-----END B-----\nbetween\n-----BEGIN A-----\nYQ==\n-----END A-----\n\
                    -----BEGIN A-----\nnot base64!\n-----END A-----\n-----BEGIN A-----\nYQ==\n-----END B-----\n";
        let expected = [("B", Some(&b"b"[..])), ("A", Some(b"a")), ("A", None)];
        let found = read(text);
        assert_eq!(found.iter().map(|(label, bytes)| (label.as_str(), bytes.as_deref())).collect::<Vec<_>>(), expected);
        assert!(read("-----BEGIN A-----\nYQ==\n").is_empty());
        assert!(read("-----BEGIN A\nB-----\nYQ==\n-----END A\nB-----").is_empty());
    }
}
