//! Labelled pictures: a folder or a `.tar`, `.tar.gz` or `.tgz` archive of class folders, or of CIFAR-10's binary
//! batches.
//!
//! The class of a picture is the name of the folder that holds it. A folder named `train` or `test` above that splits the
//! pictures into two parts. Names that begin with a dot are passed over. Pictures are decoded once, into memory, as a
//! model reads them, and stand in the order of their names, whatever order the archive has.
//!
//! A file named `data_batch_*.bin` or `test_batch.bin` is a batch of CIFAR-10, wherever it lies, and may also be given by
//! itself; its pictures are named `data_batch_1.bin#00042`, from 0.

mod cifar10;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::cifar10::Role;
use crate::graph::Shape;
use crate::picture::{self, PictureError};

/// The largest picture file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The largest number of pictures in a data set.
pub const MAX_PICTURES: usize = 1 << 24;
/// How many files are read before they are decoded side by side.
const FILES_AT_ONCE: usize = 256;
/// How many bytes of files are read before they are decoded, unless one file has more.
const BYTES_AT_ONCE: usize = 256 << 20;

/// Which part of a data set is wanted, where it has a folder for each; where it has only one of them, or none, its
/// pictures are taken all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is under `train/`.
    Train,
    /// What is under `test/`.
    Test,
}

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
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The path is neither a folder nor an archive.
    #[error(
        "{path}: found a file that is no .tar, .tar.gz or .tgz archive and no CIFAR-10 batch, data_batch_*.bin or \
         test_batch.bin; expected one of these or a folder"
    )]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// There is not one readable picture in a class folder or batch.
    #[error("{path}: found no readable picture in a class folder or CIFAR-10 batch, and {skipped} files that are none")]
    Empty {
        /// The path.
        path: PathBuf,
        /// The number of other files.
        skipped: usize,
    },
    /// There are too many pictures.
    #[error("{path}: more than {MAX_PICTURES} pictures")]
    TooMany {
        /// The path.
        path: PathBuf,
    },
    /// A class of the data is none of the model's.
    #[error("class {class:?} of the data is not one of the model's: {known}", known = known.join(", "))]
    UnknownClass {
        /// The class.
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
}

impl Dataset {
    /// Reads a folder or archive. `progress` is told now and then how many files were read.
    ///
    /// # Errors
    /// If something cannot be read, or there is no picture. Files that are no pictures are no error: see
    /// [`Dataset::skipped`].
    pub fn read(path: &Path, part: Part, shape: Shape, progress: &mut dyn FnMut(usize)) -> Result<Self, DatasetError> {
        let broken = |source| DatasetError::Read { path: path.into(), source };
        let mut reader = Reader::new(shape, progress);
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
        let (entries, skipped) = reader.finish();
        if entries.len() > MAX_PICTURES {
            return Err(DatasetError::TooMany { path: path.into() });
        }
        Self::collect(entries, skipped, part, shape)
            .map_err(|skipped| DatasetError::Empty { path: path.into(), skipped })
    }

    /// Makes a data set of pixels in memory: a name, a class and the pixels of each picture.
    ///
    /// # Panics
    /// If pixels are not of the shape.
    pub fn from_pixels(shape: Shape, classes: Vec<String>, pictures: Vec<(String, u32, Vec<u8>)>) -> Self {
        let mut data = Self { shape, classes, names: vec![], labels: vec![], pixels: vec![], skipped: vec![] };
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

    /// The names of the classes, sorted.
    pub fn classes(&self) -> &[String] {
        &self.classes
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
        }
    }

    /// The label of every picture, as an index into other class names, such as a model's.
    ///
    /// # Errors
    /// If a class that has pictures is not among them.
    pub fn labels_among(&self, classes: &[String]) -> Result<Vec<u32>, DatasetError> {
        let places: Vec<Option<usize>> =
            self.classes.iter().map(|class| classes.iter().position(|known| known == class)).collect();
        let find = |label: &u32| {
            places[*label as usize].map(|place| place as u32).ok_or_else(|| DatasetError::UnknownClass {
                class: self.classes[*label as usize].clone(),
                known: classes.to_vec(),
            })
        };
        self.labels.iter().map(find).collect()
    }

    fn collect(entries: Vec<Entry>, skipped: Vec<Skipped>, part: Part, shape: Shape) -> Result<Self, usize> {
        let has = |part| entries.iter().any(|entry| entry.part == Some(part));
        let both = has(Part::Train) && has(Part::Test);
        let mut entries: Vec<Entry> = entries.into_iter().filter(|entry| !both || entry.part == Some(part)).collect();
        if entries.is_empty() {
            return Err(skipped.len());
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let classes: BTreeSet<&String> = entries.iter().map(|entry| &entry.class).collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let mut data = Self { shape, classes, names: vec![], labels: vec![], pixels: vec![], skipped };
        data.pixels.reserve(entries.len() * shape.elements());
        for entry in entries {
            let label = data.classes.binary_search(&entry.class).expect("the classes are those of the entries");
            data.labels.push(label as u32);
            data.names.push(entry.name);
            data.pixels.extend(entry.pixels);
        }
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
    part: Option<Part>,
    class: String,
    pixels: Vec<u8>,
}

/// A picture of a batch, whose class is known by number until the names have been read.
struct Record {
    name: String,
    part: Part,
    label: u8,
    pixels: Vec<u8>,
}

struct Reader<'a> {
    shape: Shape,
    /// Files read and not yet decoded.
    pending: Vec<(String, Option<Part>, String, Vec<u8>)>,
    pending_bytes: usize,
    entries: Vec<Entry>,
    records: Vec<Record>,
    class_names: Option<Vec<String>>,
    skipped: Vec<Skipped>,
    progress: &'a mut dyn FnMut(usize),
}

impl<'a> Reader<'a> {
    fn new(shape: Shape, progress: &'a mut dyn FnMut(usize)) -> Self {
        Self {
            shape,
            pending: Vec::new(),
            pending_bytes: 0,
            entries: Vec::new(),
            records: Vec::new(),
            class_names: None,
            skipped: Vec::new(),
            progress,
        }
    }

    fn read_archive(&mut self, source: impl Read) -> io::Result<()> {
        for entry in tar::Archive::new(source).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                self.skip(&path.to_string_lossy(), "it is a link within the archive, which is not followed".into());
            }
            if !kind.is_file() {
                continue;
            }
            let size = entry.size();
            self.add(&path, size, &mut entry)?;
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
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                if entry.file_type().map_err(broken)?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(root).expect("the walk began at the root").to_path_buf();
                let added = fs::metadata(&path).and_then(|metadata| {
                    if metadata.is_file() {
                        return self.add(&name, metadata.len(), &mut File::open(&path)?);
                    }
                    // It could lead round in a circle.
                    let kind = if metadata.is_dir() { "a link to a folder, which is not entered" } else { "no file" };
                    self.skip(&name.to_string_lossy(), format!("it is {kind}"));
                    Ok(())
                });
                if let Err(error) = added {
                    self.skip(&name.to_string_lossy(), error.to_string());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, size: u64, source: &mut impl Read) -> io::Result<()> {
        let parts: Vec<String> = path
            .components()
            .filter_map(|component| match component {
                Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let name = parts.join("/");
        if parts.iter().any(|part| part.starts_with('.')) {
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
        let [above @ .., class, _] = parts.as_slice() else {
            self.skip(&name, "it is in no class folder".into());
            return Ok(());
        };
        let part = above.iter().rev().find_map(|folder| match folder.as_str() {
            "train" => Some(Part::Train),
            "test" => Some(Part::Test),
            _ => None,
        });
        let mut bytes = Vec::new();
        source.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        self.pending_bytes += bytes.len();
        self.pending.push((name, part, class.clone(), bytes));
        if self.pending.len() == FILES_AT_ONCE || self.pending_bytes >= BYTES_AT_ONCE {
            self.decode();
        }
        Ok(())
    }

    fn add_batch(&mut self, name: &str, part: Part, bytes: &[u8]) {
        let records = match cifar10::records(bytes) {
            Ok(records) => records,
            Err(reason) => return self.skip(name, reason),
        };
        for (index, (label, record)) in records.enumerate() {
            let name = format!("{name}#{index:05}");
            match cifar10::pixels(record, self.shape) {
                Ok(pixels) => self.records.push(Record { name, part, label, pixels }),
                Err(error) => self.skip(&name, error.to_string()),
            }
        }
        self.tell();
    }

    /// The pictures, and what gave none.
    fn finish(mut self) -> (Vec<Entry>, Vec<Skipped>) {
        self.decode();
        let classes = self.class_names.take().unwrap_or_else(cifar10::default_class_names);
        for Record { name, part, label, pixels } in std::mem::take(&mut self.records) {
            match classes.get(usize::from(label)) {
                Some(class) => self.entries.push(Entry { name, part: Some(part), class: class.clone(), pixels }),
                None => self.skip(&name, format!("its label is {label}, expected one of {} classes", classes.len())),
            }
        }
        (self.entries, self.skipped)
    }

    fn tell(&mut self) {
        (self.progress)(self.entries.len() + self.records.len() + self.skipped.len());
    }

    fn decode(&mut self) {
        self.pending_bytes = 0;
        let shape = self.shape;
        let pending = std::mem::take(&mut self.pending);
        let decoded: Vec<(String, Result<Entry, PictureError>)> = pending
            .into_par_iter()
            .map(|(name, part, class, bytes)| {
                let entry =
                    picture::to_pixels(&bytes, shape).map(|pixels| Entry { name: name.clone(), part, class, pixels });
                (name, entry)
            })
            .collect();
        for (name, entry) in decoded {
            match entry {
                Ok(entry) => self.entries.push(entry),
                Err(error) => self.skip(&name, error.to_string()),
            }
        }
        self.tell();
    }

    fn skip(&mut self, name: &str, reason: String) {
        self.skipped.push(Skipped { name: name.into(), reason });
    }
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
