//! Blocks in a file. The format is described in `docs/store.md`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::header::HEADER_BYTES;
use ocelli_consensus::object::MAX_FILE_BYTES;
use ocelli_consensus::{BlockHash, Header, ModelId, Network};
use ocelli_program::output_file::{OutputFile, Readers};
use ocelli_protocol::message::BlockData;

use super::Progress;
use crate::store::{Store, StoreError};

/// What a file of blocks begins with: its format and version. The genesis hash comes next, then the files of models.
const MAGIC: &[u8; 16] = b"ocelli blocks 2\n";
/// The longest data of a block that is read: far more than any weight limit lets through.
const MAX_DATA_BYTES: u32 = 256 << 20;
/// The most files of models that are read: each costs its author a week's rewards of all blocks.
const MAX_FILES: u32 = 1 << 20;

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    pub blocks: u64,
    /// The first height.
    pub from: u64,
    /// The last height.
    pub to: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why blocks cannot be exported, or a file of them not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no such blocks.
    #[error("found blocks {first} to {last} with their bodies, expected {from} to {to} among them, from 1 on")]
    Range {
        /// The first height asked for.
        from: u64,
        /// The last height asked for.
        to: u64,
        /// The first height with a body.
        first: u64,
        /// The tip's height.
        last: u64,
    },
    /// The file is something else.
    #[error("{} is no file of blocks: expected one that `ocelli chain export` wrote", path.display())]
    Foreign { path: PathBuf },
    /// The blocks are another network's.
    #[error("{} holds blocks of genesis {found}, expected {expected}", path.display())]
    Network {
        path: PathBuf,
        /// Its genesis hash.
        found: BlockHash,
        /// This network's.
        expected: BlockHash,
    },
    /// The file is cut off or damaged.
    #[error("{} is damaged after {blocks} blocks: {reason}", path.display())]
    Damaged {
        path: PathBuf,
        /// Blocks before the damage.
        blocks: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Writes the blocks of the main chain from one height to another, with the attachments that are kept, to a new file, before
/// them the files of all published models; `None` is the first block that has a body, and the tip. A regular file appears under its name when it is whole.
///
/// # Errors
/// [`ExportError`]; no new file is left then.
pub fn export(
    store: &Store,
    path: &Path,
    from: Option<u64>,
    to: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, ExportError> {
    let (first, last) = (store.kept()?.bodies_from, store.tip()?.height);
    let (from, to) = (from.unwrap_or(first), to.unwrap_or(last));
    if from < first || to > last || from > to.saturating_add(1) {
        return Err(ExportError::Range { from, to, first, last });
    }
    let mut file = BufWriter::new(OutputFile::create(path, Readers::Umask).map_err(at(path))?);
    let mut bytes = 0;
    let mut write = |part: &[u8]| {
        bytes += part.len() as u64;
        file.write_all(part).map_err(at(path))
    };
    write(MAGIC)?;
    write(store.genesis().hash().as_bytes())?;
    let mut models = Vec::new();
    for row in store.models(&ModelId([0; 32])) {
        let (model, _) = row?;
        if store.has_file(&model)? {
            models.push(model);
        }
    }
    write(&u32::try_from(models.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    for model in models {
        let file = store.file(&model)?.ok_or_else(|| StoreError::missing("files", model.as_bytes()))?;
        write(&u32::try_from(file.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        write(&file)?;
    }
    let of = to.saturating_add(1).saturating_sub(from);
    for (blocks, height) in (1..).zip(from..=to) {
        let (hash, header) = store.main_header(height)?;
        let body = store.body(height, &hash)?.ok_or_else(|| StoreError::missing("bodies", hash.as_bytes()))?;
        let attachments = store.attachments(height, &hash, &body)?;
        let data = encode(&BlockData { body, attachments });
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        write(&header.to_bytes())?;
        write(&length.to_le_bytes())?;
        write(&data)?;
        progress(Progress { blocks, of, tasks: 0 });
    }
    let file = file.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.finish().map_err(at(path))?;
    Ok(Exported { blocks: of, from, to, bytes })
}

/// Reads a file of blocks from front to back.
pub(super) struct Blocks {
    file: BufReader<File>,
    path: PathBuf,
    /// Where the first block is.
    start: u64,
    blocks: u64,
}

impl Blocks {
    /// Opens a file of this network's blocks, and hands over the files of models in it, one after the other.
    pub(super) fn open<E: From<ExportError>>(
        path: &Path,
        network: &Network,
        mut model: impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (mut blocks, count) = Self::open_at_models(path, network)?;
        for _ in 0..count {
            let file = blocks.next_file()?;
            model(file)?;
        }
        blocks.start = blocks.file.stream_position().map_err(at(path))?;
        Ok(blocks)
    }

    fn open_at_models(path: &Path, network: &Network) -> Result<(Self, u32), ExportError> {
        let mut file = BufReader::new(File::open(path).map_err(at(path))?);
        let (mut magic, mut genesis) = ([0; MAGIC.len()], [0; 32]);
        let read = file.read_exact(&mut magic).and_then(|()| file.read_exact(&mut genesis));
        match read {
            Ok(()) if &magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(at(path)(error)),
            _ => return Err(ExportError::Foreign { path: path.into() }),
        }
        let (found, expected) = (BlockHash(genesis), network.genesis_hash());
        if found != expected {
            return Err(ExportError::Network { path: path.into(), found, expected });
        }
        let mut blocks = Self { file, path: path.into(), start: 0, blocks: 0 };
        let count = blocks.length("the number of models", MAX_FILES)?;
        Ok((blocks, count))
    }

    /// The next file of a model.
    fn next_file(&mut self) -> Result<Vec<u8>, ExportError> {
        let length = self.length("the length of a model's file", MAX_FILE_BYTES)?;
        let mut file = Vec::new();
        (&mut self.file).take(length.into()).read_to_end(&mut file).map_err(at(&self.path))?;
        if file.len() == length as usize {
            Ok(file)
        } else {
            Err(self.damaged("it ends in the midst of a model's file"))
        }
    }

    fn length(&mut self, what: &str, limit: u32) -> Result<u32, ExportError> {
        let mut bytes = [0; 4];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(format!("it ends before {what}")));
            }
            Err(error) => return Err(at(&self.path)(error)),
        }
        let found = u32::from_le_bytes(bytes);
        if found > limit {
            return Err(self.damaged(format!("{what} is {found}, expected at most {limit}")));
        }
        Ok(found)
    }

    /// The next header, its block's data passed over; `None` at the end.
    pub(super) fn next_header(&mut self) -> Result<Option<Header>, ExportError> {
        let Some((header, length)) = self.next_head()? else { return Ok(None) };
        self.file.seek_relative(length.into()).map_err(at(&self.path))?;
        // Passing over the end is no error to the system.
        let (position, end) = (self.file.stream_position(), self.file.get_ref().metadata().map(|file| file.len()));
        if position.map_err(at(&self.path))? > end.map_err(at(&self.path))? {
            return Err(self.damaged("it ends in the midst of a block"));
        }
        self.blocks += 1;
        Ok(Some(header))
    }

    /// The next block; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<(Header, BlockData)>, ExportError> {
        let Some((header, length)) = self.next_head()? else { return Ok(None) };
        let mut data = Vec::new();
        // Not more memory than there are bytes, whatever the length says.
        (&mut self.file).take(length.into()).read_to_end(&mut data).map_err(at(&self.path))?;
        if data.len() != length as usize {
            return Err(self.damaged("it ends in the midst of a block"));
        }
        let data = decode(&data, data.len()).map_err(|error| self.damaged(error.to_string()))?;
        self.blocks += 1;
        Ok(Some((header, data)))
    }

    /// Back to the first block.
    pub(super) fn rewind(&mut self) -> Result<(), ExportError> {
        self.blocks = 0;
        self.file.seek(SeekFrom::Start(self.start)).map_err(at(&self.path))?;
        Ok(())
    }

    /// How many blocks there are before a block.
    pub(super) fn before(&mut self, hash: &BlockHash) -> Result<u64, ExportError> {
        self.rewind()?;
        while let Some(header) = self.next_header()? {
            if header.hash() == *hash {
                return Ok(self.blocks - 1);
            }
        }
        Ok(self.blocks)
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> ExportError {
        ExportError::Damaged { path: self.path.clone(), blocks: self.blocks, reason: reason.into() }
    }

    fn next_head(&mut self) -> Result<Option<(Header, u32)>, ExportError> {
        let mut head = Vec::with_capacity(HEADER_BYTES + 4);
        (&mut self.file).take(HEADER_BYTES as u64 + 4).read_to_end(&mut head).map_err(at(&self.path))?;
        if head.is_empty() {
            return Ok(None);
        }
        let parts = head.split_first_chunk::<HEADER_BYTES>();
        let parts = parts.and_then(|(header, length)| Some((header, length.try_into().ok()?)));
        let Some((header, length)) = parts else { return Err(self.damaged("it ends in the midst of a block")) };
        let length = u32::from_le_bytes(length);
        if length > MAX_DATA_BYTES {
            return Err(self.damaged(format!("a block of {length} bytes, expected at most {MAX_DATA_BYTES}")));
        }
        Ok(Some((Header::from_bytes(header), length)))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    move |source| ExportError::File { path: path.into(), source }
}
