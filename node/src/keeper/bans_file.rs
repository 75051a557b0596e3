//! Bans over restarts: the file `bans.json` of the data folder.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ocelli_program::output_file::{self, Readers};
use serde::{Deserialize, Serialize};

use crate::network::{Ban, MAX_BANS};

/// The file's name in the data folder.
const NAME: &str = "bans.json";

/// Bounds what is read: as many bans as there may be, each with a reason and two peer ids.
const MAX_BYTES: u64 = (MAX_BANS * 1024) as u64;

/// A ban as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// A peer id or an IP address.
    subject: String,
    /// Seconds since 1970.
    until: u64,
    reason: String,
    /// The peer for whose sake an address is banned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

/// Writes the file; it appears whole or not at all.
pub(super) fn write(data: &Path, bans: &[Ban]) -> io::Result<()> {
    let rows: Vec<_> = bans
        .iter()
        .map(|ban| Row {
            subject: ban.subject.to_string(),
            until: ban.until,
            reason: ban.reason.clone(),
            of: ban.of.map(|peer| peer.to_string()),
        })
        .collect();
    let mut text = serde_json::to_vec_pretty(&rows)?;
    text.push(b'\n');
    output_file::write(&data.join(NAME), &text, Readers::Owner)
}

/// Reads the file. A damaged one is said and not used: the node starts without bans rather than not at all.
pub fn read(data: &Path) -> Vec<Ban> {
    try_read(data).unwrap_or_else(|error| {
        let file = data.join(NAME);
        tracing::warn!(file = %file.display(), %error, "the bans of earlier runs cannot be read and are forgotten");
        Vec::new()
    })
}

fn try_read(data: &Path) -> io::Result<Vec<Ban>> {
    let mut text = Vec::new();
    match File::open(data.join(NAME)) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice::<Vec<Row>>(&text)?.into_iter().map(Row::parse).collect()
}

impl Row {
    fn parse(self) -> io::Result<Ban> {
        Ok(Ban {
            subject: self.subject.parse().map_err(io::Error::other)?,
            until: self.until,
            reason: self.reason,
            of: self.of.map(|peer| peer.parse()).transpose().map_err(io::Error::other)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    #[test]
    fn bans_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(try_read(folder.path()).unwrap(), []);
        let ban = |subject: &str, of: Option<&str>| Ban {
            subject: subject.parse().unwrap(),
            until: 7,
            reason: "a \"reason\"".into(),
            of: of.map(|peer| peer.parse().unwrap()),
        };
        let bans = [ban(PEER, None), ban("1.2.3.4", Some(PEER)), ban("2001:db8::1", None)];
        write(folder.path(), &bans).unwrap();
        assert_eq!(try_read(folder.path()).unwrap(), bans);
    }

    #[test]
    fn what_is_damaged_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            "[{}]",
            r#"[{"subject":"nobody","until":1,"reason":""}]"#,
            r#"[{"subject":"127.0.0.1","until":1,"reason":""}]"#,
            r#"[{"subject":"1.2.3.4","until":1,"reason":"","of":"x"}]"#,
            r#"[{"subject":"1.2.3.4","until":1,"reason":"","more":1}]"#,
        ] {
            fs::write(folder.path().join(NAME), text).unwrap();
            assert!(try_read(folder.path()).is_err(), "{text}");
            assert_eq!(read(folder.path()), []);
        }
    }
}
