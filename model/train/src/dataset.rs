//! Labelled pictures: a folder or a `.tar`, `.tar.gz` or `.tgz` archive of class folders, or of CIFAR-10's binary
//! batches.
//!
//! The class of a picture is the name of the folder that holds it, in Unicode's composed form (NFC): macOS's file systems and
//! archives take names apart. A folder above that with one of the names of [`TRAIN`], [`TEST`] and [`VALIDATION`], in any case,
//! is a part; parts are never mixed. Names that begin with a dot, and macOS's `__MACOSX`, are passed over. Pictures are decoded
//! once, into memory, as a model reads them, and stand in the order of their names, whatever order the archive has.
//!
//! A file named `data_batch_*.bin` or `test_batch.bin` is a batch of CIFAR-10, wherever it lies, and may also be given by
//! itself; its pictures are named `data_batch_1.bin#00042`, from 0.

mod cifar10;
mod parts;
mod sparse;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ocelli_model::graph::Shape;
use ocelli_model::picture::{self, PictureError};
use ocelli_picture::Input;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::cifar10::Role;
pub(crate) use self::parts::composed;
pub use self::parts::{Part, TEST, TRAIN, VALIDATION};
use self::parts::{PartsError, Place};
use self::sparse::Sparse;

/// The largest picture file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The largest number of pictures in a data set.
pub const MAX_PICTURES: usize = 1 << 24;
/// How many files are read before they are decoded side by side.
const FILES_AT_ONCE: usize = 256;
/// How many bytes of files are read before they are decoded, unless one file has more.
const BYTES_AT_ONCE: usize = 256 << 20;

/// How a picture file's name ends: a folder that holds such files only, none of them readable, is meant as a class.
const PICTURE_ENDINGS: [&str; 14] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl"];
/// A file that gave no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The name, below the folder or in the archive.
    pub name: String,
    /// Why it gave none.
    pub reason: String,
}

/// A data set that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file or folder cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The path is neither a folder nor an archive.
    #[error(
        "{path}: found a file that is no .tar, .tar.gz or .tgz archive and no CIFAR-10 batch, data_batch_*.bin or \
         test_batch.bin; expected one of these or a folder"
    )]
    Kind { path: PathBuf },
    /// There is not one readable picture in a class folder or batch.
    #[error("{path}: found no readable picture in a class folder or CIFAR-10 batch, and {skipped} files that are none")]
    Empty {
        path: PathBuf,
        /// The number of other files.
        skipped: usize,
    },
    /// There are several parts, and none is the one that is wanted.
    #[error("{path}: found the parts {found}, expected one of {expected}")]
    Parts {
        path: PathBuf,
        /// The parts that are there.
        found: String,
        /// The names that the wanted part may have.
        expected: String,
    },
    /// A folder's name is no text.
    #[error("{path:?}: the folder's name is not UTF-8, as names of classes are; rename it")]
    FolderName { path: PathBuf },
    /// There are too many pictures.
    #[error("{path}: more than {MAX_PICTURES} pictures")]
    TooMany { path: PathBuf },
    /// A class of the data is none of the model's.
    #[error("class {class:?} of the data is not one of the model's: {known}", known = known.join(", "))]
    UnknownClass {
        class: String,
        /// The classes of the model.
        known: Vec<String>,
    },
}

/// Pictures and their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    shape: Shape,
    classes: Vec<String>,
    names: Vec<String>,
    labels: Vec<u32>,
    pixels: Vec<u8>,
    skipped: Vec<Skipped>,
    notes: Vec<String>,
}

fn shape_of(Input { channels, height, width, .. }: Input) -> Shape {
    Shape { channels, height, width }
}

impl Dataset {
    /// Reads a folder or archive. `progress` is told now and then how many files were read.
    ///
    /// # Errors
    /// If something cannot be read, or there is no picture. Files that are no pictures are no error: see
    /// [`Dataset::skipped`].
    pub fn read(
        path: &Path,
        part: Part,
        input: impl Into<Input>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, DatasetError> {
        let input = input.into();
        let shape = shape_of(input);
        let broken = |source| DatasetError::Read { path: path.into(), source };
        let mut reader = Reader::new(input, progress);
        let metadata = fs::metadata(path).map_err(broken)?;
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        if metadata.is_dir() {
            reader.read_folder(path)?;
        } else {
            let file = BufReader::new(File::open(path).map_err(broken)?);
            if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
                reader.read_archive(MultiGzDecoder::new(file)).map_err(broken)?;
            } else if name.ends_with(".tar") {
                reader.read_archive(file).map_err(broken)?;
            } else if let Some(Role::Batch(_)) = Role::of(&name) {
                reader.add(Path::new(&name), metadata.len(), &mut { file }).map_err(broken)?;
            } else {
                return Err(DatasetError::Kind { path: path.into() });
            }
        }
        let contents = reader.finish();
        if contents.entries.len() > MAX_PICTURES {
            return Err(DatasetError::TooMany { path: path.into() });
        }
        let skipped = contents.skipped.len();
        let data = Self::collect(contents, part, shape)
            .map_err(|PartsError { found, expected }| DatasetError::Parts { path: path.into(), found, expected })?;
        if data.is_empty() { Err(DatasetError::Empty { path: path.into(), skipped }) } else { Ok(data) }
    }

    /// Makes a data set of pixels in memory: a name, a class and the pixels of each picture.
    ///
    /// # Panics
    /// If pixels are not of the shape.
    pub fn from_pixels(shape: Shape, classes: Vec<String>, pictures: Vec<(String, u32, Vec<u8>)>) -> Self {
        let mut data = Self::without_pictures(shape, classes);
        for (name, label, pixels) in pictures {
            assert_eq!(pixels.len(), shape.elements(), "pixels of {name} are not {shape}");
            assert!((label as usize) < data.classes.len(), "label {label} of {name} is no class");
            data.names.push(name);
            data.labels.push(label);
            data.pixels.extend(pixels);
        }
        data
    }

    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The shape of every picture.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The names of the classes, sorted, those without pictures included.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The classes whose folders hold no readable picture.
    pub fn empty_classes(&self) -> Vec<&str> {
        let mut empty = vec![true; self.classes.len()];
        self.labels.iter().for_each(|label| empty[*label as usize] = false);
        self.classes.iter().zip(empty).filter(|(_, empty)| *empty).map(|(class, _)| class.as_str()).collect()
    }

    /// The class of every picture.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The name of a picture, below the folder or in the archive.
    pub fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// The pixels of a picture, u8, CHW.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.shape.elements()..][..self.shape.elements()]
    }

    /// The files that gave no picture.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What a person should know of how the folders were understood, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Splits off a share of every class, drawn by a seed; returns the rest and what was split off. Every class keeps at
    /// least one picture in the rest; skipped files stay with the rest.
    pub fn split(&self, share: f64, seed: u64) -> (Self, Self) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut off = vec![false; self.len()];
        for class in 0..self.classes.len() as u32 {
            let mut members: Vec<usize> = (0..self.len()).filter(|index| self.labels[*index] == class).collect();
            members.shuffle(&mut rng);
            let count = (members.len() as f64 * share).round() as usize;
            for index in members.iter().take(count.min(members.len().saturating_sub(1))) {
                off[*index] = true;
            }
        }
        let indexes = |wanted| (0..self.len()).filter(|index| off[*index] == wanted).collect::<Vec<_>>();
        let mut rest = self.select(&indexes(false));
        rest.skipped.clone_from(&self.skipped);
        (rest, self.select(&indexes(true)))
    }

    /// At most `count` pictures, drawn by a seed.
    pub fn sample(&self, count: usize, seed: u64) -> Self {
        self.select(&shuffled(self.len(), &mut ChaCha8Rng::seed_from_u64(seed))[..count.min(self.len())])
    }

    /// The pictures at some indexes.
    pub fn select(&self, indexes: &[usize]) -> Self {
        Self {
            shape: self.shape,
            classes: self.classes.clone(),
            names: indexes.iter().map(|index| self.names[*index].clone()).collect(),
            labels: indexes.iter().map(|index| self.labels[*index]).collect(),
            pixels: indexes.iter().flat_map(|index| self.pixels(*index)).copied().collect(),
            skipped: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The label of every picture, as an index into other class names, such as a model's, compared in one Unicode form.
    ///
    /// # Errors
    /// If a class that has pictures is not among them.
    pub fn labels_among(&self, classes: &[String]) -> Result<Vec<u32>, DatasetError> {
        let known: Vec<String> = classes.iter().map(|class| composed(class)).collect();
        let places: Vec<Option<usize>> =
            self.classes.iter().map(|class| known.iter().position(|known| known == class)).collect();
        let find = |label: &u32| {
            places[*label as usize].map(|place| place as u32).ok_or_else(|| DatasetError::UnknownClass {
                class: self.classes[*label as usize].clone(),
                known: classes.to_vec(),
            })
        };
        self.labels.iter().map(find).collect()
    }

    fn without_pictures(shape: Shape, classes: Vec<String>) -> Self {
        let (names, labels, pixels) = Default::default();
        Self { shape, classes, names, labels, pixels, skipped: Vec::new(), notes: Vec::new() }
    }

    fn collect(mut contents: Contents, part: Part, shape: Shape) -> Result<Self, PartsError> {
        let chosen = part.choose(&contents.parts)?;
        contents.entries.retain(|entry| chosen.is_none() || entry.part == chosen);
        contents.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let empty = contents.empty.iter().filter(|(_, part)| chosen.is_none() || *part == chosen);
        let classes: BTreeSet<&String> =
            contents.entries.iter().map(|entry| &entry.class).chain(empty.map(|(class, _)| class)).collect();
        let mut data = Self::without_pictures(shape, classes.into_iter().cloned().collect());
        data.notes = parts::notes(part, &contents.parts, chosen, &contents.groups);
        data.notes.extend(contents.notes());
        data.pixels.reserve(contents.entries.len() * shape.elements());
        for entry in contents.entries {
            let label = data.classes.binary_search(&entry.class).expect("the classes are those of the entries");
            data.labels.push(label as u32);
            data.names.push(entry.name);
            data.pixels.extend(entry.pixels);
        }
        data.skipped = contents.skipped;
        data.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(data)
    }
}

/// The numbers below `count` in an order drawn by a generator.
pub(crate) fn shuffled(count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(rng);
    order
}

struct Entry {
    name: String,
    part: Option<&'static str>,
    class: String,
    pixels: Vec<u8>,
}

/// A picture of a batch, whose class is known by number until the names have been read.
struct Record {
    name: String,
    part: &'static str,
    label: u8,
    pixels: Vec<u8>,
}

/// All that a folder or archive holds.
struct Contents {
    entries: Vec<Entry>,
    skipped: Vec<Skipped>,
    /// The parts that have class folders.
    parts: BTreeSet<&'static str>,
    /// Class folders without a readable picture.
    empty: Vec<(String, Option<&'static str>)>,
    /// The number of files by part and by the folders above their class folder.
    groups: BTreeMap<(Option<&'static str>, String), usize>,
    /// The ways in which folders of each class are written.
    written: BTreeMap<String, BTreeSet<String>>,
    /// Files of macOS's that were passed over.
    apple: usize,
}

impl Contents {
    /// What a person should know of the names.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (class, written) in self.written.iter().filter(|(_, written)| written.len() > 1) {
            notes.push(format!(
                "{} folders are one class, {class}: their names differ only in how accents are written",
                written.len()
            ));
        }
        if self.apple > 0 {
            notes.push(format!(
                "{} file{} that macOS adds (._* and __MACOSX) were passed over",
                self.apple,
                parts::plural(self.apple)
            ));
        }
        notes
    }
}

/// What is known of a folder.
#[derive(Default)]
struct Folder {
    has_files: bool,
    has_picture_names: bool,
}

struct Reader<'a> {
    input: Input,
    /// Files read and not yet decoded.
    pending: Vec<(String, Place, Vec<u8>)>,
    pending_bytes: usize,
    entries: Vec<Entry>,
    records: Vec<Record>,
    class_names: Option<Vec<String>>,
    skipped: Vec<Skipped>,
    /// All folders, by path.
    folders: BTreeMap<Vec<String>, Folder>,
    groups: BTreeMap<(Option<&'static str>, String), usize>,
    written: BTreeMap<String, BTreeSet<String>>,
    apple: usize,
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Reader<'a> {
    fn new(input: Input, progress: &'a mut dyn FnMut(usize)) -> Self {
        Self {
            input,
            pending: Vec::new(),
            pending_bytes: 0,
            entries: Vec::new(),
            records: Vec::new(),
            class_names: None,
            skipped: Vec::new(),
            folders: BTreeMap::new(),
            groups: BTreeMap::new(),
            written: BTreeMap::new(),
            apple: 0,
            progress,
        }
    }

    fn read_archive(&mut self, source: impl Read) -> io::Result<()> {
        for entry in tar::Archive::new(source).entries()? {
            let mut entry = entry?;
            let (kind, written) = (entry.header().entry_type(), entry.path_bytes().into_owned());
            let sparse = match entry.pax_extensions()? {
                Some(extensions) => Sparse::of(extensions),
                None => Ok(None),
            };
            let path = match &sparse {
                Ok(Some(Sparse { name: Some(name), .. })) => PathBuf::from(name),
                _ => entry.path()?.into_owned(),
            };
            if let Some(name) = folder_that_is_no_text(&path) {
                return Err(io::Error::other(format!("the folder's name {name:?} is not UTF-8: rename it")));
            }
            // Archives older than POSIX tell folders by a slash.
            if kind.is_dir() || written.ends_with(b"/") {
                self.see_folder(names_in(&path));
            } else if kind.is_symlink() || kind.is_hard_link() {
                self.refuse(&path, "it is a link within the archive, which is not followed".into());
            } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                match sparse {
                    Ok(None) => self.add(&path, entry.size(), &mut entry)?,
                    Ok(Some(sparse)) if sparse.size <= MAX_FILE_BYTES => match sparse.expand(&mut entry) {
                        Ok(bytes) => self.add(&path, bytes.len() as u64, &mut bytes.as_slice())?,
                        Err(error) => self.refuse(&path, format!("its holes cannot be put back: {error}")),
                    },
                    Ok(Some(sparse)) => self.add(&path, sparse.size, &mut io::empty())?,
                    Err(error) => self.refuse(&path, error.to_string()),
                }
            } else if !kind.is_pax_global_extensions() {
                self.refuse(&path, "it is no file".into());
            }
        }
        Ok(())
    }

    fn read_folder(&mut self, root: &Path) -> Result<(), DatasetError> {
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let broken = |source| DatasetError::Read { path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let path = entry.path();
                // Those of macOS's are counted in `add`.
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                if hidden && !entry.file_name().to_string_lossy().starts_with(APPLE_DOUBLE) {
                    continue;
                }
                let name = path.strip_prefix(root).expect("the walk began at the root").to_path_buf();
                if entry.file_type().map_err(broken)?.is_dir() {
                    if entry.file_name().to_str().is_none() {
                        return Err(DatasetError::FolderName { path });
                    }
                    self.see_folder(names_in(&name));
                    folders.push(path);
                    continue;
                }
                let added = fs::metadata(&path).and_then(|metadata| {
                    if metadata.is_file() {
                        return self.add(&name, metadata.len(), &mut File::open(&path)?);
                    }
                    // It could lead round in a circle.
                    let kind = if metadata.is_dir() { "a link to a folder, which is not entered" } else { "no file" };
                    Err(io::Error::other(format!("it is {kind}")))
                });
                if let Err(error) = added {
                    self.refuse(&name, error.to_string());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, size: u64, source: &mut impl Read) -> io::Result<()> {
        let parts = names_in(path);
        let name = parts.join("/");
        if !self.see_file(&parts) {
            return Ok(());
        }
        if size > MAX_FILE_BYTES {
            self.skip(&name, format!("it has {size} bytes, more than {MAX_FILE_BYTES}"));
            return Ok(());
        }
        if let Some(role) = parts.last().and_then(|file| Role::of(file)) {
            let mut bytes = Vec::new();
            source.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
            match role {
                Role::Batch(part) => self.add_batch(&name, part, &bytes),
                Role::ClassNames => match cifar10::class_names(&bytes) {
                    Ok(names) => self.class_names = Some(names),
                    Err(reason) => self.skip(&name, reason),
                },
            }
            return Ok(());
        }
        let place = match Place::of(&parts[..parts.len().saturating_sub(1)]) {
            Ok(place) => place,
            Err(reason) => {
                self.skip(&name, reason);
                return Ok(());
            }
        };
        let mut bytes = Vec::new();
        source.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        self.pending_bytes += bytes.len();
        self.pending.push((name, place, bytes));
        if self.pending.len() == FILES_AT_ONCE || self.pending_bytes >= BYTES_AT_ONCE {
            self.decode();
        }
        Ok(())
    }

    fn see_folder(&mut self, parts: Vec<String>) {
        if !parts.is_empty() && !parts.iter().any(|part| is_passed_over(part)) {
            self.folders.entry(parts).or_default();
        }
    }

    /// Remembers a file's folder; whether the file counts.
    fn see_file(&mut self, parts: &[String]) -> bool {
        if parts.iter().any(|part| part.starts_with(APPLE_DOUBLE) || part == MACOSX) {
            self.apple += 1;
        }
        let Some((file, folders)) = parts.split_last() else { return false };
        if parts.iter().any(|part| is_passed_over(part)) {
            return false;
        }
        let folder = self.folders.entry(folders.to_vec()).or_default();
        folder.has_files = true;
        let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
        folder.has_picture_names |= ending.is_some_and(|ending| PICTURE_ENDINGS.contains(&ending.as_str()));
        true
    }

    fn add_batch(&mut self, name: &str, part: &'static str, bytes: &[u8]) {
        let records = match cifar10::records(bytes) {
            Ok(records) => records,
            Err(reason) => return self.skip(name, reason),
        };
        for (index, (label, record)) in records.enumerate() {
            let name = format!("{name}#{index:05}");
            match cifar10::pixels(record, shape_of(self.input)) {
                Ok(pixels) => self.records.push(Record { name, part, label, pixels }),
                Err(error) => self.skip(&name, error.to_string()),
            }
        }
        self.tell();
    }

    fn finish(mut self) -> Contents {
        self.decode();
        let classes = self.class_names.take().unwrap_or_else(cifar10::default_class_names);
        for Record { name, part, label, pixels } in std::mem::take(&mut self.records) {
            match classes.get(usize::from(label)) {
                Some(class) => self.entries.push(Entry { name, part: Some(part), class: class.clone(), pixels }),
                None => self.skip(&name, format!("its label is {label}, expected one of {} classes", classes.len())),
            }
        }
        let empty = self.empty_classes();
        let of_folders = self.folders.keys().filter_map(|path| Place::of(path).ok()?.part);
        let parts = self.entries.iter().filter_map(|entry| entry.part).chain(of_folders).collect();
        let Self { entries, skipped, groups, written, apple, .. } = self;
        Contents { entries, skipped, parts, empty, groups, written, apple }
    }

    /// Folders that are meant as classes and gave no picture: those without anything in them, and those with names of pictures.
    fn empty_classes(&self) -> Vec<(String, Option<&'static str>)> {
        let full: BTreeSet<Vec<&str>> =
            self.entries.iter().map(|entry| entry.name.rsplit('/').skip(1).collect()).collect();
        let mut folders = self.folders.iter().peekable();
        let mut empty = Vec::new();
        while let Some((path, folder)) = folders.next() {
            // What is in a folder comes right after it in the order of paths.
            let is_leaf = folders.peek().is_none_or(|(next, _)| !next.starts_with(path));
            if is_leaf
                && (folder.has_picture_names || !folder.has_files)
                && !full.contains(&path.iter().rev().map(String::as_str).collect::<Vec<_>>())
                && let Ok(place) = Place::of(path)
            {
                empty.push((place.class, place.part));
            }
        }
        empty
    }

    fn tell(&mut self) {
        (self.progress)(self.entries.len() + self.records.len() + self.skipped.len());
    }

    fn decode(&mut self) {
        self.pending_bytes = 0;
        let input = self.input;
        let pending = std::mem::take(&mut self.pending);
        let decoded: Vec<(String, Place, Result<Vec<u8>, PictureError>)> = pending
            .into_par_iter()
            .map(|(name, place, bytes)| (name, place, picture::to_pixels(&bytes, input)))
            .collect();
        for (name, place, pixels) in decoded {
            let Place { part, group, written, class } = place;
            match pixels {
                Ok(pixels) => {
                    *self.groups.entry((part, group)).or_default() += 1;
                    self.written.entry(class.clone()).or_default().insert(written);
                    self.entries.push(Entry { name, part, class, pixels });
                }
                Err(error) => self.skip(&name, error.to_string()),
            }
        }
        self.tell();
    }

    /// Passes over a file that was not looked into; its folder is seen all the same.
    fn refuse(&mut self, path: &Path, reason: String) {
        if self.see_file(&names_in(path)) {
            self.skip(&path.to_string_lossy(), reason);
        }
    }

    fn skip(&mut self, name: &str, reason: String) {
        self.skipped.push(Skipped { name: name.into(), reason });
    }
}

/// What macOS puts the attributes of a file into, where a file system or archive has no place for them.
const APPLE_DOUBLE: &str = "._";
/// The folder of the same in archives that macOS makes.
const MACOSX: &str = "__MACOSX";

fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || name == MACOSX
}

/// The names in a path.
fn names_in(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

/// The first folder of a path whose name is not UTF-8, which could not be told from others.
fn folder_that_is_no_text(path: &Path) -> Option<&std::ffi::OsStr> {
    path.parent()?.iter().find(|name| name.to_str().is_none())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    const SHAPE: Shape = Shape { channels: 3, height: 2, width: 2 };

    /// A picture of one colour, as a PNG file.
    fn picture(red: u8) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        RgbImage::from_pixel(2, 2, Rgb([red, 20, 30])).write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("train/dog/1.png", picture(1)),
            ("train/cat/9.png", picture(2)),
            ("train/cat/10.png", picture(3)),
            ("train/cat/broken.png", b"no picture".to_vec()),
            ("train/cat/.hidden", b"passed over".to_vec()),
            ("test/cat/5.png", picture(4)),
            ("notes.txt", b"in no class folder".to_vec()),
        ]
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn folders_and_archives_are_the_same() {
        let files = files();
        let folder = folder(&files);
        let data = Dataset::read(folder.path(), Part::Train, SHAPE, &mut |_| ()).unwrap();
        assert_eq!(data.classes(), ["cat", "dog"]);
        assert_eq!((data.len(), data.labels()), (3, &[0, 0, 1][..]));
        assert_eq!([data.name(0), data.name(2)], ["train/cat/10.png", "train/dog/1.png"]);
        assert_eq!(data.pixels(0), [3, 3, 3, 3, 20, 20, 20, 20, 30, 30, 30, 30]);
        let skipped: Vec<&str> = data.skipped().iter().map(|skipped| skipped.name.as_str()).collect();
        assert_eq!(skipped, ["notes.txt", "train/cat/broken.png"]);
        assert_eq!(data.skipped()[0].reason, "it is in no class folder");

        let outside = tempfile::tempdir().unwrap();
        let (tar, tar_gz) = (outside.path().join("data.tar"), outside.path().join("data.tar.gz"));
        fs::write(&tar, archive(&files)).unwrap();
        let mut gz = GzEncoder::new(File::create(&tar_gz).unwrap(), Compression::fast());
        gz.write_all(&archive(&files)).unwrap();
        gz.finish().unwrap();
        for path in [&tar, &tar_gz] {
            assert_eq!(Dataset::read(path, Part::Train, SHAPE, &mut |_| ()).unwrap(), data);
            let test = Dataset::read(path, Part::Test, SHAPE, &mut |_| ()).unwrap();
            assert_eq!((test.classes(), test.len()), (&["cat".to_owned()][..], 1));
        }
    }

    /// Records of a label and one grey, as CIFAR-10's binary batches have them, but for the last byte, a blue of 9.
    fn batch(records: &[(u8, u8)]) -> Vec<u8> {
        let of_one = |(label, grey): &(u8, u8)| {
            let mut record = vec![*grey; 3073];
            (record[0], record[3072]) = (*label, 9);
            record
        };
        records.iter().flat_map(of_one).collect()
    }

    const CIFAR10: Shape = Shape { channels: 3, height: 32, width: 32 };

    #[test]
    fn batches_of_cifar10_are_read_from_folder_archive_and_file() {
        let files = [
            // The order of the official archive: the names come between the batches.
            ("cifar-10-batches-bin/data_batch_1.bin", batch(&[(3, 50), (0, 51), (7, 52)])),
            ("cifar-10-batches-bin/batches.meta.txt", b"plane\ncar\nbird\ncat\n\n".to_vec()),
            ("cifar-10-batches-bin/data_batch_2.bin", batch(&[(1, 60)])),
            ("cifar-10-batches-bin/readme.html", b"no picture".to_vec()),
            ("cifar-10-batches-bin/test_batch.bin", batch(&[(2, 70)])),
            ("cifar-10-batches-bin/data_batch_3.bin", vec![0; 3072]),
        ];
        let folder = folder(&files);
        let tar = folder.path().join("cifar-10-binary.tar");
        fs::write(&tar, archive(&files)).unwrap();
        let data = Dataset::read(&tar, Part::Train, CIFAR10, &mut |_| ()).unwrap();
        let inner =
            Dataset::read(&folder.path().join("cifar-10-batches-bin"), Part::Train, CIFAR10, &mut |_| ()).unwrap();
        assert_eq!((data.classes(), data.labels()), (inner.classes(), inner.labels()));
        assert_eq!((data.pixels(0), data.skipped().len()), (inner.pixels(0), inner.skipped().len()));
        assert_eq!((data.classes(), data.labels()), (&["car", "cat", "plane"].map(String::from)[..], &[1, 2, 0][..]));
        assert_eq!(data.name(1), "cifar-10-batches-bin/data_batch_1.bin#00001");
        assert_eq!((data.pixels(1)[0], data.pixels(1)[3071]), (51, 9));
        let skipped: Vec<&str> = data.skipped().iter().map(|skipped| skipped.reason.as_str()).collect();
        assert_eq!(
            skipped,
            [
                "its label is 7, expected one of 4 classes",
                "it has 3072 bytes, expected records of 3073 as CIFAR-10's binary batches have",
                "not a picture: expected PNG, JPEG, WebP, GIF or BMP",
            ]
        );
        let test = Dataset::read(&tar, Part::Test, CIFAR10, &mut |_| ()).unwrap();
        assert_eq!((test.classes(), test.len()), (&["bird".to_owned()][..], 1));

        // A batch by itself has CIFAR-10's names; another shape is resampled, and one channel is the luma.
        let alone = folder.path().join("cifar-10-batches-bin/test_batch.bin");
        let alone = Dataset::read(&alone, Part::Test, Shape { channels: 1, height: 8, width: 8 }, &mut |_| ()).unwrap();
        assert_eq!((alone.classes(), alone.name(0)), (&["bird".to_owned()][..], "test_batch.bin#00000"));
        assert_eq!((alone.pixels(0)[0], alone.pixels(0).len()), (70, 64));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_passed_over_in_silence() {
        let folder = folder(&[("real/cat/1.png", picture(1))]);
        std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("real/linked")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("real/cat/gone.png")).unwrap();
        let data = Dataset::read(&folder.path().join("real"), Part::Train, SHAPE, &mut |_| ()).unwrap();
        let skipped: Vec<(&str, bool)> =
            data.skipped().iter().map(|file| (file.name.as_str(), file.reason.contains("link to a folder"))).collect();
        assert_eq!((data.len(), skipped), (1, vec![("cat/gone.png", false), ("linked", true)]));

        let (file, mut archive) = (picture(1), tar::Builder::new(Vec::new()));
        let mut header = tar::Header::new_gnu();
        header.set_size(file.len() as u64);
        archive.append_data(&mut header, "cat/1.png", file.as_slice()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "cat/2.png", "1.png").unwrap();
        let tar = folder.path().join("linked.tar");
        fs::write(&tar, archive.into_inner().unwrap()).unwrap();
        let data = Dataset::read(&tar, Part::Train, SHAPE, &mut |_| ()).unwrap();
        assert_eq!((data.len(), data.skipped()[0].name.as_str()), (1, "cat/2.png"));
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
    }

    fn read(path: &Path, part: Part) -> Dataset {
        Dataset::read(path, part, SHAPE, &mut |_| ()).unwrap()
    }

    fn names(data: &Dataset) -> Vec<&str> {
        (0..data.len()).map(|index| data.name(index)).collect()
    }

    /// `tests/fixtures/data/sparse-*.tar.gz` are by GNU tar 1.34 (`--sparse --hole-detection=raw --format=pax
    /// --sparse-version=1.0` and so on), of the files that `dense.tar.gz` holds; one has 108 pieces.
    #[test]
    fn sparse_archives_are_read_as_dense_ones() {
        let dense = read(&fixture("dense.tar.gz"), Part::Train);
        assert_eq!(names(&dense), ["cat/0.bmp", "cat/1.bmp", "cat/2.bmp", "dog/0.bmp", "dog/1.bmp"]);
        assert_ne!(dense.pixels(2), dense.pixels(0));
        for format in ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"] {
            assert_eq!(read(&fixture(&format!("sparse-{format}.tar.gz")), Part::Train), dense, "{format}");
        }
        let data = read(&fixture("d9-sparse-pax.tar.gz"), Part::Train);
        assert_eq!((data.classes(), data.len()), (&["cat", "dog"].map(String::from)[..], 8));
        assert_eq!((data.skipped(), data.notes()), (&[][..], &[][..]));
        assert_eq!((data.pixels(0), data.pixels(4)), (dense.pixels(0), dense.pixels(3)));
    }

    /// An archive of one member with a PAX header.
    fn with_header(records: &[(&str, &str)], name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
        let mut header = tar::Header::new_ustar();
        let good = picture(1);
        header.set_size(good.len() as u64);
        archive.append_data(&mut header, "cat/good.png", good.as_slice()).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn sparse_members_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.tar");
        let one: &[(&str, &str)] =
            &[("GNU.sparse.major", "1"), ("GNU.sparse.name", "cat/1.png"), ("GNU.sparse.realsize", "9")];
        let mut reaches_beyond = b"1\n8\n2\n".to_vec();
        reaches_beyond.resize(512, 0);
        reaches_beyond.extend(b"ab");
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [u8], &'a str);
        let rows: [Row<'_>; 8] = [
            (one, &reaches_beyond, "reaches beyond its size"),
            (one, b"1\n8\n2\n", "cannot be put back"),
            (one, &[b'x'; 512], "cannot be put back"),
            (one, &[b"1\nx\n2\n", &[0; 512][..]].concat(), "holds \"x\", expected a number"),
            (&[("GNU.sparse.major", "2"), ("GNU.sparse.name", "cat/1.png")], b"", "sparse in format 2, expected GNU's"),
            (
                &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,1,2"), ("GNU.sparse.name", "cat/1.png")],
                b"a",
                "without a length",
            ),
            (&[("GNU.sparse.map", "0,1"), ("GNU.sparse.name", "cat/1.png")], b"a", "its size is missing"),
            (&[("GNU.sparse.size", "99999999999"), ("GNU.sparse.name", "cat/1.png")], b"a", "more than"),
        ];
        for (records, bytes, reason) in rows {
            fs::write(&path, with_header(records, "cat/GNUSparseFile.0/1.png", bytes)).unwrap();
            let data = read(&path, Part::Train);
            assert_eq!(names(&data), ["cat/good.png"], "{reason}");
            let skipped = &data.skipped()[0];
            assert!(skipped.name.ends_with("1.png") && skipped.reason.contains(reason), "{reason}: {skipped:?}");
        }
    }

    #[test]
    fn long_names_and_what_macos_adds() {
        let long = format!("{}/1.png", "c".repeat(120));
        let mut archive = with_header(&[("path", &long)], "cut/short.png", &picture(1));
        // Without the two empty blocks at the end, another archive goes on.
        archive.truncate(archive.len() - 1024);
        archive.extend(super::tests::archive(&[
            ("cat/._1.png", b"attributes".to_vec()),
            ("__MACOSX/cat/._1.png", b"attributes".to_vec()),
            ("cat/.DS_Store", b"hidden".to_vec()),
        ]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.tar");
        fs::write(&path, archive).unwrap();
        let data = read(&path, Part::Train);
        assert_eq!(names(&data), ["cat/good.png", &long]);
        assert_eq!(data.notes(), ["2 files that macOS adds (._* and __MACOSX) were passed over"]);
        assert_eq!(data.skipped(), []);
    }

    #[test]
    fn parts_are_never_mixed() {
        let picture = |name: &str| (name.to_owned(), picture(1));
        type Found<'a> = Result<&'a [&'a str], &'a str>;
        type Row<'a> = (&'a [&'a str], Found<'a>, Found<'a>, &'a str);
        let rows: [Row<'_>; 9] = [
            (&["train/a/1", "val/a/2"], Ok(&["train/a/1"]), Ok(&["val/a/2"]), "the part train is taken, not val"),
            (&["Train/a/1", "VALID/a/2"], Ok(&["Train/a/1"]), Ok(&["VALID/a/2"]), "the part train is taken, not valid"),
            (
                &["training/a/1", "dev/a/2", "testing/a/3"],
                Ok(&["training/a/1"]),
                Ok(&["testing/a/3"]),
                "the part training is taken, not dev, testing",
            ),
            (&["x/training/a/1", "x/evaluation/a/2"], Ok(&["x/training/a/1"]), Ok(&["x/evaluation/a/2"]), "evaluation"),
            (&["eval/a/1", "validation/a/2"], Err("found the parts eval, validation"), Ok(&["eval/a/1"]), ""),
            (&["train/a/1", "training/a/2"], Ok(&["train/a/1"]), Err("expected one of test, testing"), "is taken"),
            (&["val/a/1"], Ok(&["val/a/1"]), Ok(&["val/a/1"]), "the part val is taken, there is no other"),
            (
                &["train/a/1", "test/a/2", "holdout/a/3", "a/4"],
                Ok(&["train/a/1"]),
                Ok(&["test/a/2"]),
                "2 files in the top folder, holdout/ belong to no part and are not used; the names of parts are train,",
            ),
            (
                &["training_set/a/1", "test_set/a/2"],
                Ok(&["test_set/a/2", "training_set/a/1"]),
                Ok(&["test_set/a/2", "training_set/a/1"]),
                "the class folders in test_set/, training_set/ are taken together, as these are not names of parts",
            ),
        ];
        for (files, train, test, note) in rows {
            let files: Vec<(String, Vec<u8>)> = files.iter().map(|name| picture(name)).collect();
            let files: Vec<(&str, Vec<u8>)> =
                files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
            let folder = self::folder(&files);
            for (part, expected) in [(Part::Train, train), (Part::Test, test)] {
                match (Dataset::read(folder.path(), part, SHAPE, &mut |_| ()), expected) {
                    (Ok(data), Ok(expected)) => {
                        assert_eq!((names(&data).as_slice(), data.classes().len()), (expected, 1), "{part:?}");
                        if part == Part::Train {
                            assert!(data.notes().iter().any(|text| text.contains(note)), "{note}: {:?}", data.notes());
                        }
                    }
                    (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                    (found, expected) => panic!("{part:?}: {found:?}, expected {expected:?}"),
                }
            }
        }
        // A part whose pictures are all damaged is not another one.
        let folder = self::folder(&[("train/a/1.png", b"none".to_vec()), ("val/a/2.png", self::picture(1))]);
        let error = Dataset::read(folder.path(), Part::Train, SHAPE, &mut |_| ()).unwrap_err();
        assert!(matches!(error, DatasetError::Empty { skipped: 1, .. }), "{error}");
        // A part is no class, and what lies in it directly is said.
        let folder = self::folder(&[("train/1.png", self::picture(1)), ("train/cat/2.png", self::picture(1))]);
        let data = read(folder.path(), Part::Train);
        assert_eq!((data.classes(), data.skipped().len()), (&["cat".to_owned()][..], 1));
        assert_eq!(data.skipped()[0].reason, "it is in no class folder: train is a part, not a class");
    }

    #[test]
    fn names_of_classes_are_compared_in_one_form() {
        let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
        let picture = picture(1);
        let both = [(format!("{composed}/1.png"), picture.clone()), (format!("{apart}/2.png"), picture.clone())];
        let both: Vec<(&str, Vec<u8>)> = both.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let outside = tempfile::tempdir().unwrap();
        let tar = outside.path().join("data.tar");
        fs::write(&tar, archive(&both)).unwrap();
        let data = read(&tar, Part::Train);
        assert_eq!((data.classes(), data.len()), (&[composed.to_owned()][..], 2));
        assert_eq!(
            data.notes(),
            ["2 folders are one class, caf\u{e9}: their names differ only in how accents are written"]
        );
        assert_eq!(data.labels_among(&["x".into(), apart.into()]).unwrap(), [1, 1]);
        assert_eq!(data.labels_among(&["x".into(), composed.into()]).unwrap(), [1, 1]);
        // Hangul is taken apart too, and a letter with two marks.
        let names = ["\u{1112}\u{1161}\u{11ab}/1.png", "a\u{323}\u{302}/2.png"];
        fs::write(&tar, archive(&names.map(|name| (name, picture.clone())))).unwrap();
        assert_eq!(read(&tar, Part::Train).classes(), ["\u{1ead}", "\u{d55c}"]);
    }

    #[test]
    fn classes_without_pictures_keep_their_places() {
        let broken = b"no picture".to_vec();
        let files = [
            ("bee/1.png", broken.clone()),
            ("cat/1.png", picture(1)),
            ("notes/read.me", broken.clone()),
            ("owl/1.heic", broken),
            ("pig/1.png", picture(2)),
        ];
        let folder = folder(&files);
        fs::create_dir_all(folder.path().join("ant/.hidden")).unwrap();
        fs::create_dir(folder.path().join("test")).unwrap();
        let data = read(folder.path(), Part::Train);
        assert_eq!(data.classes(), ["ant", "bee", "cat", "owl", "pig"]);
        assert_eq!((data.labels(), data.empty_classes()), (&[2, 4][..], vec!["ant", "bee", "owl"]));
        let (rest, _) = data.split(0.5, 1);
        assert_eq!(rest.classes(), data.classes());
        assert_eq!(data.labels_among(&["pig".into(), "cat".into()]).unwrap(), [1, 0]);

        // In an archive folders are members of their own; those of another part are no matter.
        let mut archive = tar::Builder::new(Vec::new());
        for name in ["./", "train/", "train/ant/", "train/cat/", "val/bee/"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, name, io::empty()).unwrap();
        }
        for name in ["train/cat/1.png", "val/cat/1.png"] {
            let (mut header, file) = (tar::Header::new_gnu(), picture(1));
            header.set_size(file.len() as u64);
            archive.append_data(&mut header, name, file.as_slice()).unwrap();
        }
        let tar = folder.path().join("data.tar");
        fs::write(&tar, archive.into_inner().unwrap()).unwrap();
        assert_eq!(read(&tar, Part::Train).classes(), ["ant", "cat"]);
        assert_eq!(read(&tar, Part::Test).classes(), ["bee", "cat"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_class_folder_is_named_in_utf_8() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = folder(&[("cat/1.png", picture(1))]);
        fs::create_dir(folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).unwrap();
        let error = Dataset::read(folder.path(), Part::Train, SHAPE, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(r"caf\xE9"), "{error}");
    }

    #[test]
    fn without_parts_everything_counts() {
        let folder = folder(&[("a/1.png", picture(1)), ("b/2.png", picture(2))]);
        for part in [Part::Train, Part::Test] {
            assert_eq!(Dataset::read(folder.path(), part, SHAPE, &mut |_| ()).unwrap().len(), 2);
        }
    }

    #[test]
    fn what_cannot_be_read() {
        let folder =
            folder(&[("cat/x.png", b"none".to_vec()), ("data.zip", vec![]), ("half.tar.gz", vec![31, 139, 8])]);
        let read = |name: &str| Dataset::read(&folder.path().join(name), Part::Train, SHAPE, &mut |_| ()).unwrap_err();
        assert!(matches!(read("cat"), DatasetError::Empty { skipped: 1, .. }));
        assert!(matches!(read("data.zip"), DatasetError::Kind { .. }));
        assert!(matches!(read("half.tar.gz"), DatasetError::Read { .. }));
        assert!(matches!(read("missing"), DatasetError::Read { .. }));
    }

    #[test]
    fn a_split_is_seeded_and_fair() {
        let pictures = (0..100).map(|index| (format!("{index}"), u32::from(index >= 80), vec![index; 12])).collect();
        let data = Dataset::from_pixels(SHAPE, vec!["a".into(), "b".into()], pictures);
        let (rest, off) = data.split(0.1, 7);
        assert_eq!((rest.len(), off.len()), (90, 10));
        assert_eq!(off.labels().iter().filter(|label| **label == 1).count(), 2);
        assert!((0..off.len()).all(|one| (0..rest.len()).all(|other| off.name(one) != rest.name(other))));
        assert_eq!(data.split(0.1, 7), (rest, off.clone()));
        assert_ne!(data.split(0.1, 8).1, off);
    }
}
