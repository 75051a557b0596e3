//! The folder that a store lives in: whether it is still there, and how much it takes.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StoreError;

/// The file that RocksDB locks: made when a database is first opened, and never replaced.
const LOCK: &str = "LOCK";

/// A folder, and which one it was when the store was opened.
pub(super) struct Folder {
    path: PathBuf,
    lock: FileId,
    /// The last measurement of its size, and when that was.
    measured: Mutex<Option<(Instant, u64)>>,
}

/// How old a measurement of the size may be where anybody may ask: a large chain has thousands of files.
const MAX_AGE: Duration = Duration::from_secs(10);

impl Folder {
    /// The folder of a database that has just been opened.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let lock = fs::metadata(path.join(LOCK)).map_err(|error| error_at(path)(error))?;
        Ok(Self { path: path.to_owned(), lock: file_id(&lock), measured: Mutex::new(None) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder is still the one that was opened. Without this, a database whose files were deleted goes on
    /// writing to them as if nothing had happened, and all is lost when it is closed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match fs::metadata(self.path.join(LOCK)) {
            Ok(lock) if file_id(&lock) == self.lock => Ok(()),
            Ok(_) => Err(StoreError::FolderGone { path: self.path.clone() }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(StoreError::FolderGone { path: self.path.clone() })
            }
            Err(error) => Err(error_at(&self.path)(error)),
        }
    }

    /// As [`Folder::disk_bytes`], up to 10 s old.
    pub(super) fn recent_disk_bytes(&self) -> Result<u64, StoreError> {
        // What is behind the lock is whole whenever a holder panics.
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = *measured
            && at.elapsed() < MAX_AGE
        {
            return Ok(bytes);
        }
        let bytes = self.disk_bytes()?;
        *measured = Some((Instant::now(), bytes));
        Ok(bytes)
    }

    /// Bytes of all files. What the system has set aside for the log's growth, up to some megabytes, is not counted.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path).map_err(error_at(&self.path))? {
            match entry.and_then(|entry| entry.metadata()) {
                Ok(metadata) => bytes += metadata.len(),
                // Deleted by a compaction since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error_at(&self.path)(error)),
            }
        }
        Ok(bytes)
    }
}

pub(super) fn error_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::Folder { path: path.into(), kind: error.kind() }
}

/// Device and inode: a file made anew under the same name has another.
#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(unix)]
fn file_id(metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere open files cannot be deleted, so that it is enough that there is one.
#[cfg(not(unix))]
type FileId = ();
#[cfg(not(unix))]
fn file_id(_: &Metadata) -> FileId {}
