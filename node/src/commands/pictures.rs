//! Which files are meant by what stands on a command line, and the table of what is in them.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};

use ocelli_model::picture::MAX_PICTURE_BYTES;
use ocelli_model::{Attachment, Model};
use ocelli_program::input_file::read_bounded;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use walkdir::{DirEntry, WalkDir};

use super::error::{CommandError, Explain as _};

/// How the names of pictures end; in folders, what ends otherwise is passed over.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Pictures that are decoded at once: a large one takes some hundred MB.
pub const SIDE_BY_SIDE: usize = 8;

/// The argument that means the list on stdin.
const STDIN: &str = "-";

/// Bounds the list on stdin.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// The files that arguments mean: `-` the lines of stdin, a folder all pictures in it and below, a pattern what it fits, and
/// anything else itself. Each file once, in the order of the arguments, and those of a folder or pattern by name.
///
/// Hidden files and folders are passed over, and links to folders not followed, so that a walk ends.
///
/// # Errors
/// For a folder that cannot be read, and where an argument means no picture at all.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let mut found = Vec::new();
    for argument in arguments {
        let before = found.len();
        if argument.as_os_str() == STDIN {
            listed(io::stdin().lock(), &mut found)?;
        } else if argument.is_dir() {
            walked(argument, &mut found)?;
        } else if argument.symlink_metadata().is_ok() || !is_pattern(argument) {
            // One that is not there is a problem of that file, and no reason to leave the others.
            found.push(argument.clone());
        } else {
            matched(argument, &mut found)?;
        }
        if found.len() == before {
            return Err(CommandError::failed(format!("found no pictures in {}", argument.display()))
                .with_hint(format!("give files, folders or patterns of pictures: {}", ENDINGS.join(", "))));
        }
    }
    let mut known = BTreeSet::new();
    found.retain(|path| known.insert(path.clone()));
    Ok(found)
}

fn listed(list: impl io::BufRead, found: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    for line in list.take(MAX_LIST_BYTES).split(b'\n') {
        let line = line.context(|| "cannot read the list of pictures from stdin")?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.is_empty() {
            found.push(path_of(line)?);
        }
    }
    Ok(())
}

#[cfg(unix)]
fn path_of(line: &[u8]) -> Result<PathBuf, CommandError> {
    Ok(PathBuf::from(std::os::unix::ffi::OsStrExt::from_bytes(line) as &std::ffi::OsStr))
}

#[cfg(not(unix))]
fn path_of(line: &[u8]) -> Result<PathBuf, CommandError> {
    let text = str::from_utf8(line);
    Ok(PathBuf::from(text.context(|| "the list of pictures on stdin is not UTF-8")?))
}

fn walked(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let is_visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(is_visible) {
        let entry = entry.context(|| format!("cannot read the folder {}", folder.display()))?;
        if is_picture(entry.path()) && entry.path().is_file() {
            found.push(entry.into_path());
        }
    }
    Ok(())
}

fn matched(pattern: &Path, found: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let text = pattern.to_string_lossy();
    // As a shell does.
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
    let paths = glob::glob_with(&text, options).context(|| format!("{text} is no pattern of file names"))?;
    for path in paths {
        let path = path.context(|| format!("cannot read what {text} means"))?;
        if path.is_dir() { walked(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// A file's name in tables and messages: what is not UTF-8 of it is written as `\\xff`, so that no two files have one name.
pub fn name(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut name = String::new();
    for part in bytes.utf8_chunks() {
        name.push_str(part.valid());
        part.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02x}")));
    }
    name
}

/// A picture that was read.
pub struct Seen {
    /// What a task carries of it.
    pub attachment: Attachment,
    /// When it was taken ([`time_taken`]).
    pub taken: Option<String>,
}

/// Reads pictures on all cores; of each that is no picture for the model, or cannot be read, why.
pub fn read_all(paths: &[PathBuf], model: &Model) -> Vec<Result<Seen, String>> {
    let read = |path: &PathBuf| {
        let bytes = read_bounded(path, MAX_PICTURE_BYTES).map_err(|error| CommandError::from(error).one_line())?;
        let attachment = Attachment::from_file(&bytes, model.graph().input().into());
        let attachment = attachment.map_err(|error| CommandError::from(error).one_line())?;
        Ok(Seen { attachment, taken: time_taken(&bytes) })
    };
    let chunks = paths.chunks(SIDE_BY_SIDE);
    chunks.flat_map(|paths| paths.par_iter().map(read).collect::<Vec<_>>()).collect()
}

/// Pictures that cannot be used, and why; of the first few, as a folder may have many.
#[derive(Default)]
pub struct Problems {
    count: usize,
    first: Vec<String>,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, name: &str, problem: &str) {
        self.count += 1;
        if self.first.len() < 20 {
            self.first.push(format!("{name}: {problem}"));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Fails if there are any, of so many pictures; `then` says what that means.
    ///
    /// # Errors
    /// That names the first few.
    pub fn check(self, of: usize, then: &str) -> Result<(), CommandError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(CommandError::failed(format!("{} of {of} pictures cannot be used{then}", self.count))
            .with_causes(self.first)
            .with_hint("give PNG, JPEG, WebP, GIF or BMP files that you may read"))
    }
}

/// When a picture was taken, by its EXIF data: `2026-05-03T14:07:59`, with the zone where that is told; the camera's word.
fn time_taken(file: &[u8]) -> Option<String> {
    let exif = exif::Reader::new().read_from_container(&mut io::Cursor::new(file)).ok()?;
    let text = |tag| match &exif.get_field(tag, exif::In::PRIMARY)?.value {
        exif::Value::Ascii(texts) => texts.first().cloned(),
        _ => None,
    };
    let taken = text(exif::Tag::DateTimeOriginal).or_else(|| text(exif::Tag::DateTime))?;
    let mut time = exif::DateTime::from_ascii(&taken).ok()?;
    if let Some(offset) = text(exif::Tag::OffsetTimeOriginal) {
        // A zone that cannot be read is none.
        drop(time.parse_offset(&offset));
    }
    let zone = match time.offset {
        None => String::new(),
        Some(minutes) => {
            let sign = if minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", minutes.unsigned_abs() / 60, minutes.unsigned_abs() % 60)
        }
    };
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{zone}",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<_> = arguments.iter().map(|argument| folder.join(argument)).collect();
        let found = find(&arguments).unwrap();
        found.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn folders_and_patterns_mean_the_pictures_in_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b/two.PNG",
            "b/a ‘quoted’ \"name\".jpg",
            "b/c/deep.jpeg",
            "b/notes.txt",
            "b/.hidden.jpg",
            "b/.git/x.png",
            "b/._two.PNG",
            "a.gif",
            "z.webp",
            "none/readme.md",
            "a[1].jpg",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let folder = folder.path();
        let inside = ["b/a ‘quoted’ \"name\".jpg", "b/c/deep.jpeg", "b/two.PNG"];
        assert_eq!(names(folder, &["b"]), inside);
        assert_eq!(
            names(folder, &["z.webp", "b", "a.gif", "b/two.PNG"]),
            [&["z.webp"], &inside[..], &["a.gif"]].concat()
        );
        assert_eq!(names(folder, &["*.gif", "b/*"]).len(), 1 + 4, "a pattern says itself what it means");
        assert_eq!(names(folder, &["a[1].jpg"]), ["a[1].jpg"], "a file that is there is no pattern");
        assert_eq!(names(folder, &["gone.jpg"]), ["gone.jpg"]);
        for nothing in ["none", "*.tiff"] {
            let error = find(&[folder.join(nothing)]).unwrap_err();
            assert!(error.one_line().contains("found no pictures in"), "{}", error.one_line());
        }
        assert!(find(&[folder.join("***")]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_walk_ends_where_links_lead_in_a_circle() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        fs::write(folder.path().join("one.jpg"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("one.jpg"), folder.path().join("two.jpg")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("gone.jpg"), folder.path().join("three.jpg")).unwrap();
        assert_eq!(names(folder.path(), &[""]), ["one.jpg", "two.jpg"]);
    }

    #[test]
    fn a_list_has_a_file_a_line() {
        let mut found = Vec::new();
        listed(&b"a b.jpg\r\n\n\xff.jpg\nlast"[..], &mut found).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].as_path(), found[2].as_path()), (Path::new("a b.jpg"), Path::new("last")));
    }

    #[cfg(unix)]
    #[test]
    fn no_two_files_have_one_name() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = |bytes| name(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(name("図 \"1\".jpg".as_bytes()), "図 \"1\".jpg");
        assert_eq!(name(b"caf\xe9.jpg"), "caf\\xe9.jpg");
        assert_eq!(name(b"\xff/\xe3\x81.jpg"), "\\xff/\\xe3\\x81.jpg");
    }

    /// TIFF's bytes of one IFD with an EXIF IFD, as in a JPEG's APP1.
    fn jpeg_taken(at: &str, zone: Option<&str>) -> Vec<u8> {
        let mut tiff = Vec::from(b"II*\0\x08\0\0\0");
        tiff.extend([1, 0, 0x69, 0x87, 4, 0, 1, 0, 0, 0, 26, 0, 0, 0, 0, 0, 0, 0]);
        let fields: Vec<(u16, &str)> =
            [Some((0x9003, at)), zone.map(|zone| (0x9011, zone))].into_iter().flatten().collect();
        let mut data = 26 + 2 + 12 * fields.len() + 4;
        tiff.extend((fields.len() as u16).to_le_bytes());
        for (tag, text) in &fields {
            tiff.extend(tag.to_le_bytes());
            tiff.extend([2, 0]);
            tiff.extend((text.len() as u32 + 1).to_le_bytes());
            tiff.extend((data as u32).to_le_bytes());
            data += text.len() + 1;
        }
        tiff.extend([0; 4]);
        for (_, text) in &fields {
            tiff.extend(text.as_bytes());
            tiff.push(0);
        }
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe1];
        jpeg.extend((tiff.len() as u16 + 8).to_be_bytes());
        jpeg.extend(b"Exif\0\0");
        jpeg.extend(tiff);
        jpeg.extend([0xff, 0xd9]);
        jpeg
    }

    #[test]
    fn the_time_is_the_cameras() {
        let taken = |at, zone| time_taken(&jpeg_taken(at, zone));
        assert_eq!(taken("2026:05:03 14:07:59", None).as_deref(), Some("2026-05-03T14:07:59"));
        assert_eq!(taken("2026:05:03 14:07:59", Some("-03:30")).as_deref(), Some("2026-05-03T14:07:59-03:30"));
        assert_eq!(taken("2026:05:03 14:07:59", Some("+02:00")).as_deref(), Some("2026-05-03T14:07:59+02:00"));
        assert_eq!(taken("    :  :     :  :  ", None), None);
        assert_eq!(taken("yesterday, at noon.", None), None);
        assert_eq!(time_taken(b"no picture"), None);
    }
}
