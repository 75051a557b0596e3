//! Files that are read by name.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a file; one byte more than allowed, so that whoever looks at it sees that it is too large.
///
/// # Errors
/// If it cannot be read.
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
