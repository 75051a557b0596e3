//! What is written: headers, blocks, statuses, peers, and chain moves.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use ocelli_consensus::codec::encode;
use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::{BlockHash, Body, Header};
use rocksdb::{WriteBatch, WriteOptions};

use super::options::Step;
use super::{ChainMove, Kept, RefusedBlock, Store, StoreError, columns, rows};

/// The most bytes that are kept of the reason why a block was refused.
pub const MAX_REASON_BYTES: usize = 500;
/// The most peers that are remembered.
pub const MAX_KNOWN_PEERS: usize = 1_000;
/// Longer multiaddrs are not remembered.
const MAX_PEER_BYTES: usize = 512;

/// What a write outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process. After a power failure the last such writes may be gone, whole ones and the latest first.
    Logged,
    /// The end of the machine: the log with this and all earlier writes is on the disk when the write returns.
    Synced,
}

/// How far a block that is added has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// By itself: its answers are still to be.
    Body,
    /// Its attachments are nowhere to be had, and it is taken on the work above it.
    OnWork,
}

impl Store {
    /// Adds a header whose parent has been added before and that has been checked. One that is known is left as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_header(&self, header: &Header) -> Result<(), StoreError> {
        self.add_headers(std::slice::from_ref(header))
    }

    /// Adds headers in the order of their arrival, as [`Store::add_header`], in one write.
    ///
    /// # Errors
    /// If they cannot be written; none is then.
    pub fn add_headers(&self, headers: &[Header]) -> Result<(), StoreError> {
        let mut next_arrival = self.lock();
        let (mut arrival, mut added, mut batch) = (*next_arrival, HashSet::new(), WriteBatch::default());
        for header in headers {
            let hash = header.hash();
            let known = self.get(columns::ARRIVALS, hash.as_bytes(), rows::number)?;
            if known.is_none() && added.insert(hash) {
                self.put_header(&mut batch, arrival, header, BlockStatus::Header);
                batch.put_cf(self.column(columns::ARRIVALS), hash.as_bytes(), rows::number_key(arrival));
                arrival += 1;
            }
        }
        self.options.observed(Step::Headers, || self.write(batch, Durability::Logged))?;
        *next_arrival = arrival;
        Ok(())
    }

    /// Says how far a block has been checked. `reason`, the first [`MAX_REASON_BYTES`] of it, is kept with an invalid
    /// block as its [`RefusedBlock`]; any other status lifts the verdict. The genesis stays as it is.
    ///
    /// # Errors
    /// If its header was not added or it cannot be written.
    pub fn set_status(&self, hash: &BlockHash, status: BlockStatus, reason: Option<&str>) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (arrival, header, _) = self.arrived(hash)?.ok_or(StoreError::UnknownBlock(*hash))?;
        if arrival == 0 {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        self.put_header(&mut batch, arrival, &header, status);
        let (verdicts, key) = (self.column(columns::VERDICTS), rows::number_key(arrival));
        if status == BlockStatus::Invalid {
            let reason = prefix(reason.unwrap_or_default(), MAX_REASON_BYTES).to_owned();
            batch.put_cf(verdicts, key, encode(&RefusedBlock { block: *hash, height: header.height, reason }));
        } else {
            batch.delete_cf(verdicts, key);
        }
        self.write(batch, Durability::Logged)
    }

    /// Adds what a block has beside its header: the body, and what is there of its attachments, `attachments[i]` of the i-th
    /// transaction. A block of which only the header was here becomes [`BlockStatus::Received`], or [`BlockStatus::Verified`] if it is
    /// taken on work, which [`Rows::kept`](super::Rows::kept) shows from then on; others keep their status.
    ///
    /// # Errors
    /// If its header was not added or it cannot be written.
    pub fn add_block(
        &self,
        hash: &BlockHash,
        body: &Body,
        attachments: &[Option<Arc<[u8]>>],
        checked: Extent,
    ) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (arrival, header, status) = self.arrived(hash)?.ok_or(StoreError::UnknownBlock(*hash))?;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.column(columns::BODIES), rows::block_key(header.height, hash), encode(body));
        for (index, attachment) in (0u32..).zip(attachments) {
            let Some(attachment) = attachment else { continue };
            let transaction = body.transactions.get(index as usize);
            if !transaction.map_or(Ok(false), |(transaction, _)| self.refuses(transaction))? {
                let key = rows::attachment_key(header.height, hash, index);
                batch.put_cf(self.column(columns::ATTACHMENTS), key, attachment);
            }
        }
        if status == BlockStatus::Header {
            let status = if checked == Extent::OnWork { BlockStatus::Verified } else { BlockStatus::Received };
            self.put_header(&mut batch, arrival, &header, status);
        }
        if checked == Extent::OnWork {
            let (kept, next) = (self.kept()?, header.height.saturating_add(1));
            let kept = Kept {
                attachments_from: kept.attachments_from.max(next),
                answers_from: kept.answers_from.max(next),
                ..kept
            };
            batch.put_cf(self.column(columns::METADATA), rows::KEPT_KEY, rows::kept_bytes(&kept));
        }
        self.options.observed(Step::Block, || self.write(batch, Durability::Logged))
    }

    /// Remembers the multiaddrs of peers, the best first; at most [`MAX_KNOWN_PEERS`] are kept.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn set_known_peers(&self, peers: &[String]) -> Result<(), StoreError> {
        let short = peers.iter().filter(|peer| peer.len() <= MAX_PEER_BYTES);
        let kept: Vec<&String> = short.take(MAX_KNOWN_PEERS).collect();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.column(columns::METADATA), rows::PEERS_KEY, encode(&kept));
        self.write(batch, Durability::Logged)
    }

    /// Writes a chain move: all of it, the tip included, or nothing.
    ///
    /// # Errors
    /// If the tip has moved since the move's overlay was made, or it cannot be written.
    pub fn commit(&self, chain_move: ChainMove, durability: Durability) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (found, expected) = (self.tip()?.hash, chain_move.from);
        if found != expected {
            return Err(StoreError::TipMoved { found, expected });
        }
        let mut batch = WriteBatch::default();
        chain_move.changes.write(self, &chain_move.to, &mut batch);
        // It may have fallen since the move was begun.
        if let (Some(moved), Some(from)) = (chain_move.changes.ledger_from, self.ledger_from()?)
            && moved < from
        {
            self.put_ledger_from(&mut batch, moved);
        }
        let step = if chain_move.changes.disconnects() { Step::Reorganise } else { Step::Connect };
        self.options.observed(step, || self.write(batch, durability))
    }

    /// Checks that the folder is still the one that was opened, as every write does.
    ///
    /// # Errors
    /// [`StoreError::FolderGone`] if it is not.
    pub fn check_folder(&self) -> Result<(), StoreError> {
        self.folder.check()
    }

    pub(super) fn write(&self, batch: WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.folder.check()?;
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        Ok(self.database().write_opt(batch, &options)?)
    }

    pub(super) fn put_header(&self, batch: &mut WriteBatch, arrival: u64, header: &Header, status: BlockStatus) {
        let (key, row) = (rows::number_key(arrival), rows::header_bytes(header, status));
        batch.put_cf(self.column(columns::HEADERS), key, row);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, u64> {
        // The number only changes after a write has succeeded, so that it is right even where a holder panicked.
        self.next_arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest beginning of at most `bytes` bytes that does not cut a character.
fn prefix(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}
