//! What is sent of pictures is kept, with the hashes of both: encoding a picture anew cannot be repeated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ocelli_consensus::{AttachmentHash, Transaction, TxId};
use ocelli_model::Attachment;
use ocelli_model::attachment::{Done, Form};
use ocelli_program::output_file::{Readers, write};
use serde_json::{Value, json};

/// The folder's name, in that of all data.
pub const SENT_FOLDER: &str = "sent";

/// What is sent of a picture.
pub struct Sent {
    attachment: AttachmentHash,
    /// Where that is not the file itself, under its name.
    bytes: Option<(String, Vec<u8>)>,
    note: Value,
}

impl Sent {
    /// What is sent of a file, whose name may be known.
    pub fn of(file: Option<&str>, attachment: &Attachment) -> Self {
        let hash = AttachmentHash::of(&attachment.bytes);
        let end = if attachment.form == Form::Pixels { "pixels" } else { "jpg" };
        let is_other = attachment.done != Done::AsItIs;
        Self {
            attachment: hash,
            bytes: is_other.then(|| (format!("{hash}.{end}"), attachment.bytes.clone())),
            note: json!({
                "file": file,
                "file_sha256": hex::encode(attachment.file_hash),
                "sent_sha256": hex::encode(attachment.sent_hash),
                "attachment": hash,
                "sent_as": attachment.done.to_string(),
            }),
        }
    }

    /// Whether a transaction sends it.
    pub fn is_of(&self, transaction: &Transaction) -> bool {
        transaction.carries(&self.attachment)
    }

    /// Keeps it as what a transaction has sent, readable by its owner only.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(mut self, folder: &Path, txid: &TxId) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        if let Some((name, bytes)) = &self.bytes {
            write(&folder.join(name), bytes, Readers::Owner)?;
        }
        self.note["txid"] = json!(txid);
        write(&note_of(folder, txid), format!("{}\n", self.note).as_bytes(), Readers::Owner)
    }
}

/// Whether what a transaction has sent is kept.
pub fn is_kept(folder: &Path, txid: &TxId) -> bool {
    note_of(folder, txid).exists()
}

/// Keeps no longer what a transaction has sent, nor the bytes themselves unless others have sent them too. What is not there is not
/// missed.
pub fn forget(folder: &Path, txid: &TxId, attachment: Option<&AttachmentHash>) {
    let mut outdated = vec![note_of(folder, txid)];
    outdated.extend(
        attachment.into_iter().flat_map(|hash| ["pixels", "jpg"].map(|end| folder.join(format!("{hash}.{end}")))),
    );
    for path in outdated {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "what was sent of a picture cannot be removed");
            }
            _ => {}
        }
    }
}

fn note_of(folder: &Path, txid: &TxId) -> PathBuf {
    folder.join(format!("{txid}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_gone_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, [txid, other]) = (folder.path(), [TxId([1; 32]), TxId([2; 32])]);
        let [same, alone] = [AttachmentHash([3; 32]), AttachmentHash([4; 32])];
        let names = [format!("{txid}.json"), format!("{other}.json"), format!("{same}.jpg"), format!("{alone}.pixels")];
        names.iter().for_each(|name| fs::write(folder.join(name), name).unwrap());
        let there = || names.clone().map(|name| folder.join(name).exists());
        assert!(is_kept(folder, &txid));
        forget(folder, &txid, Some(&alone));
        assert_eq!(there(), [false, true, true, false]);
        forget(folder, &txid, None);
        forget(folder, &other, None);
        assert_eq!(there(), [false, false, true, false]);
        assert!(!is_kept(folder, &other));
    }
}
