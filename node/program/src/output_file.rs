//! Files that are written by name.
//!
//! A regular file, or one that is not there yet, is written under another name beside, synced, and renamed: it is there whole
//! or not at all, and one that was there before stays as it was until then. A symbolic link stays, and the file that it leads
//! to is written so. Devices, pipes and open descriptors, such as `/dev/stdout`, are written directly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{CommandError, Explain as _};

/// Bounds the links that are followed, as Linux does (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Who may read a new file. One that is replaced keeps its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner only.
    Owner,
    /// Whoever the process's umask lets.
    Umask,
}

/// A file while it is written. Unless it is finished, a regular file is left as it was.
#[must_use = "the file has its name only when it is finished"]
#[derive(Debug)]
pub struct OutputFile(Sink);

#[derive(Debug)]
enum Sink {
    /// Is renamed to the path when it is finished.
    Beside(NamedTempFile, PathBuf),
    Direct(File),
}

impl OutputFile {
    /// Begins to write the file of a path.
    ///
    /// # Errors
    /// If the path is a folder or may not be written, or there is no folder to hold it.
    pub fn create(path: &Path, readers: Readers) -> io::Result<Self> {
        let found = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if found.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if let Some(stdout) = found.as_ref().and_then(standard_output) {
            return Ok(Self(Sink::Direct(stdout)));
        }
        let target = if found.as_ref().is_none_or(fs::Metadata::is_file) { follow(path)? } else { None };
        let Some(target) = target else {
            return Ok(Self(Sink::Direct(OpenOptions::new().write(true).truncate(true).open(path)?)));
        };
        if found.is_some() {
            // Renaming asks for no permission of the file itself.
            OpenOptions::new().write(true).open(&target)?;
        }
        let file = beside(&target, readers, found.as_ref())?;
        Ok(Self(Sink::Beside(file, target)))
    }

    /// Ends the file: what was written has its name, and outlives a power failure.
    ///
    /// # Errors
    /// If it cannot be synced or renamed.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Sink::Beside(file, path) => {
                file.as_file().sync_all()?;
                file.persist(&path)?;
                sync_folder(folder(&path))
            }
            Sink::Direct(_) => Ok(()),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            // The path that tempfile adds to errors is of no use to anybody.
            Sink::Beside(file, _) => file.as_file_mut().write(bytes),
            Sink::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Sink::Beside(file, _) => file.flush(),
            Sink::Direct(file) => file.flush(),
        }
    }
}

/// Writes a file as [`OutputFile`] does.
///
/// # Errors
/// Those of [`OutputFile`], and if there is no room.
pub fn write(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let mut file = OutputFile::create(path, readers)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Writes what a command was asked for.
///
/// # Errors
/// Those of [`write()`], with the file's name.
pub fn write_result(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    write(path, bytes, Readers::Umask).context(|| format!("cannot write {}", path.display()))
}

/// Whether a path leads to the process's standard output, so that nothing else may be written there.
pub fn is_standard_output(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| standard_output(&metadata).is_some())
}

/// Makes a new name in a folder durable. Only Unix opens folders as files.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder that holds a path's last name.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that a path leads to through symbolic links, there or not; none if one of them is an open descriptor, which may
/// lead to what has no name any more.
fn follow(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let above = fs::canonicalize(folder(&path))?;
        if above.starts_with("/proc") || above == Path::new("/dev/fd") {
            return Ok(None);
        }
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(io::Error::other(format!("found more than {MAX_LINKS} symbolic links, each to the next")))
}

/// A new file beside a path, with the owner and permissions of the one that it replaces.
#[cfg(unix)]
fn beside(path: &Path, readers: Readers, found: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Umask => 0o666,
    };
    let permissions = fs::Permissions::from_mode(mode);
    let file = tempfile::Builder::new().prefix(".ocelli-").permissions(permissions).tempfile_in(folder(path))?;
    if let Some(found) = found {
        // Only root may give files away; for others the new one is theirs.
        drop(fchown(file.as_file(), Some(found.uid()), Some(found.gid())));
        file.as_file().set_permissions(found.permissions())?;
    }
    Ok(file)
}

#[cfg(not(unix))]
fn beside(path: &Path, _: Readers, _: Option<&fs::Metadata>) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".ocelli-").tempfile_in(folder(path))
}

/// Standard output, if that is the file that was found. Opened again it would be written from its beginning.
#[cfg(unix)]
fn standard_output(found: &fs::Metadata) -> Option<File> {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let metadata = stdout.metadata().ok()?;
    ((metadata.dev(), metadata.ino()) == (found.dev(), found.ino())).then_some(stdout)
}

#[cfg(not(unix))]
fn standard_output(_: &fs::Metadata) -> Option<File> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"one", Readers::Umask).unwrap();
        let mut unfinished = OutputFile::create(&path, Readers::Umask).unwrap();
        unfinished.write_all(b"tw").unwrap();
        drop(unfinished);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"two", Readers::Umask).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["file"]);

        let refused = |path: &Path| write(path, b"", Readers::Umask).unwrap_err().kind();
        assert_eq!(refused(&folder.path().join("no/such/folder")), io::ErrorKind::NotFound);
        assert_eq!(refused(folder.path()), io::ErrorKind::IsADirectory);
        assert_eq!(refused(&path.join("below")), io::ErrorKind::NotADirectory);
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_are_written_through() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("below/file"), "old").unwrap();
        symlink("below/file", at("relative")).unwrap();
        symlink(at("relative"), at("absolute")).unwrap();
        symlink("below/new", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("nowhere/file", at("lost")).unwrap();
        for name in ["relative", "absolute", "dangling"] {
            write(&at(name), name.as_bytes(), Readers::Umask).unwrap();
            assert!(at(name).symlink_metadata().unwrap().is_symlink(), "{name}");
            assert_eq!(fs::read_to_string(at(name)).unwrap(), name);
        }
        assert_eq!(fs::read_to_string(at("below/new")).unwrap(), "dangling");
        assert!(write(&at("loop"), b"", Readers::Umask).is_err());
        assert!(write(&at("lost"), b"", Readers::Umask).is_err());
        assert_eq!(names(&at("below")), ["file", "new"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (plain, ours, secret) =
            (folder.path().join("plain"), folder.path().join("ours"), folder.path().join("secret"));
        fs::write(&plain, "").unwrap();
        write(&ours, b"", Readers::Umask).unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        write(&secret, b"", Readers::Owner).unwrap();
        assert_eq!(mode(&secret), 0o600);
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o640)).unwrap();
        write(&ours, b"again", Readers::Umask).unwrap();
        assert_eq!(mode(&ours), 0o640);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_pipes_and_descriptors_are_written_directly() {
        use std::io::Read as _;
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::FileTypeExt as _;
        write(Path::new("/dev/null"), b"gone", Readers::Umask).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert_eq!(write(Path::new("/dev/full"), b"x", Readers::Umask).unwrap_err().kind(), io::ErrorKind::StorageFull);

        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        write(&fifo, b"through the pipe", Readers::Umask).unwrap();
        assert_eq!(reader.join().unwrap(), b"through the pipe");
        assert_eq!(names(folder.path()), ["fifo"]);

        let mut open = tempfile::tempfile_in(folder.path()).unwrap();
        write(Path::new(&format!("/dev/fd/{}", open.as_raw_fd())), b"without a name", Readers::Umask).unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "without a name");
        assert_eq!(names(folder.path()), ["fifo"]);
    }
}
