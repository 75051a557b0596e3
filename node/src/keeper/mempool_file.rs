//! The mempool over restarts: the file `mempool` of the data folder. Answers are not in it: they are computed again.
//!
//! `"ocelli mempool 1\n"`, the genesis hash, then of each transaction, in an order in which nonces ascend, u32
//! little-endian length and the encoded submission. Reading takes nothing for granted; what is read goes through every
//! check that a submission does.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use ocelli_consensus::BlockHash;
use ocelli_program::output_file::{OutputFile, Readers};
use ocelli_protocol::message::{MAX_SUBMISSION_BYTES, Submission};

const NAME: &str = "mempool";
const MAGIC: &[u8] = b"ocelli mempool 1\n";

/// Writes the file; it appears whole or not at all.
///
/// # Errors
/// If the folder cannot be written to.
pub(super) fn write(
    data: &Path,
    genesis: BlockHash,
    submissions: impl Iterator<Item = Submission>,
) -> io::Result<usize> {
    let mut file = BufWriter::new(OutputFile::create(&data.join(NAME), Readers::Owner)?);
    file.write_all(MAGIC)?;
    file.write_all(genesis.as_bytes())?;
    let mut count = 0;
    for submission in submissions {
        let bytes = submission.to_bytes();
        file.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
        file.write_all(&bytes)?;
        count += 1;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
    Ok(count)
}

/// Reads the file, at most `limit` bytes of submissions; nothing where there is none. Whatever is wrong ends it: what came
/// before is good, and the reason is told beside it.
pub fn read(data: &Path, genesis: BlockHash, limit: usize) -> (Vec<Submission>, Option<String>) {
    let mut submissions = Vec::new();
    let file = match File::open(data.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (submissions, None),
        Err(error) => return (submissions, Some(error.to_string())),
    };
    let problem = read_all(BufReader::new(file), genesis, limit, &mut submissions).err();
    (submissions, problem)
}

fn read_all(
    mut file: BufReader<File>,
    genesis: BlockHash,
    limit: usize,
    submissions: &mut Vec<Submission>,
) -> Result<(), String> {
    let cut = |error: io::Error| format!("it ends early or cannot be read: {error}");
    let mut head = [0; MAGIC.len() + 32];
    file.read_exact(&mut head).map_err(cut)?;
    if head[..MAGIC.len()] != *MAGIC {
        return Err("it is no mempool of this version".into());
    }
    if head[MAGIC.len()..] != genesis.0 {
        return Err("it is another network's".into());
    }
    let mut total = 0;
    while !file.fill_buf().map_err(cut)?.is_empty() {
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        total += length;
        if length > MAX_SUBMISSION_BYTES || total > limit {
            return Err(format!("a transaction of {length} bytes, {total} with those before, is too much"));
        }
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).map_err(cut)?;
        submissions.push(Submission::from_bytes(&bytes).map_err(|error| error.to_string())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{Action, Address, Amount, ImageHash, ModelId, Transaction, Unsigned};
    use tempfile::TempDir;

    use super::*;

    const GENESIS: BlockHash = BlockHash([5; 32]);

    fn submission(nonce: u64) -> Submission {
        let action = match nonce % 2 {
            0 => Action::Transfer { to: Address([1; 20]), amount: Amount(7) },
            _ => Action::Classify { model: ModelId([2; 32]), image: ImageHash([3; 32]) },
        };
        let unsigned = Unsigned { nonce, fee: Amount(9), expires: 10, action };
        let pixels = (nonce % 2 == 1).then(|| vec![4; 3072]);
        Submission { transaction: Transaction { unsigned, public_key: [6; 32], signature: [7; 64] }, pixels }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = TempDir::new().unwrap();
        assert_eq!(read(folder.path(), GENESIS, usize::MAX), (vec![], None));
        let all: Vec<_> = (0..10).map(submission).collect();
        for count in [0, 10, 3] {
            let some = all[..count].to_vec();
            assert_eq!(write(folder.path(), GENESIS, some.iter().cloned()).unwrap(), count);
            assert_eq!(read(folder.path(), GENESIS, usize::MAX), (some, None));
        }
    }

    /// Each row: what becomes of the bytes of ten transactions, how many are read, and what is said.
    #[test]
    fn damage_ends_it() {
        let folder = TempDir::new().unwrap();
        let all: Vec<_> = (0..10).map(submission).collect();
        write(folder.path(), GENESIS, all.iter().cloned()).unwrap();
        let path = folder.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        let first = MAGIC.len() + 32;
        let second = first + 4 + all[0].to_bytes().len();
        type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
        let cases: [(Damage<'_>, usize, &str); 7] = [
            (&|bytes| bytes.truncate(10), 0, "ends early"),
            (&|bytes| bytes[0] = b'O', 0, "no mempool of this version"),
            (&|bytes| bytes[MAGIC.len()] = 6, 0, "another network's"),
            (&|bytes| bytes[second + 3] = 0xff, 1, "is too much"),
            (&|bytes| bytes[second + 4 + 24] = 0xee, 1, "tag"),
            (&|bytes| bytes.truncate(second + 2), 1, "ends early"),
            (&|bytes| bytes.truncate(bytes.len() - 1), 9, "ends early"),
        ];
        for (damage, count, words) in cases {
            let mut bytes = good.clone();
            damage(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let (found, problem) = read(folder.path(), GENESIS, usize::MAX);
            assert_eq!(found, all[..count]);
            let problem = problem.expect(words);
            assert!(problem.contains(words), "{problem}");
        }
        std::fs::write(&path, good).unwrap();
        let (found, problem) = read(folder.path(), GENESIS, 5_000);
        assert_eq!(found, all[..3]);
        assert!(problem.is_some_and(|problem| problem.contains("is too much")));
    }
}
