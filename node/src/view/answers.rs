//! What is read of the chain and of what is pending.

use ocelli_consensus::fork_choice::BlockStatus;
use ocelli_consensus::object::{StateReader as _, UploadRecord};
use ocelli_consensus::{Address, BlockHash, Header, ModelId, Network, TxId, WtxId};
use ocelli_protocol::message::{
    AccountStatus, BlockData, BlockId, ChainStatus, Confirmation, FeeSuggestion, FoundBlock, MAX_HEADERS, MAX_MODELS,
    NetworkModel, NextRules, Response, Submission, TransactionStatus, take_blocks, take_transactions,
};

use super::{View, Views};
use crate::chain::{AtTip, built_in_file};
use crate::inference::built_in;
use crate::store::{CHUNK_BYTES, Store, StoreError};

/// A block on a branch that is longer than that before it meets the best chain is not served.
const MAX_BRANCH: u64 = 1_000;

/// Where a chain stands.
pub fn chain_status(network: &Network, chain: &AtTip) -> ChainStatus {
    let AtTip { tip, work, .. } = chain;
    let next_rules = next_rules(network, tip.height);
    ChainStatus { genesis: network.genesis_hash(), height: tip.height, tip: tip.hash, work: work.0, next_rules }
}

/// The next rules of the schedule above a height.
pub fn next_rules(network: &Network, height: u64) -> Option<NextRules> {
    network.schedule.next_after(height).map(|next| NextRules { height: next.height, version: next.version })
}

impl AtTip {
    /// The headers of the best chain after the first of the locator that is on it, lowest first.
    ///
    /// # Errors
    /// The store's.
    pub fn headers_after(&self, locator: &[BlockHash], limit: usize) -> Result<Vec<Header>, StoreError> {
        let mut from = 0;
        for hash in locator {
            if let Some((header, _)) = self.rows.header(hash)?
                && self.rows.hash_at(header.height)? == Some(*hash)
            {
                from = header.height;
                break;
            }
        }
        self.rows.headers_from(from + 1, limit.min(MAX_HEADERS))
    }

    /// Blocks in the order of their hashes; those that would make the response too long are left out at the end. What breaks
    /// a rule is not passed on, not even when asked for.
    ///
    /// # Errors
    /// The store's.
    pub fn blocks(&self, hashes: &[BlockHash]) -> Result<Vec<Option<BlockData>>, StoreError> {
        let mut failure = None;
        let blocks = hashes.iter().map_while(|hash| {
            let data = self.place(hash).and_then(|height| match height {
                Some(height) => data_of(self.rows.store(), height, hash),
                None => Ok(None),
            });
            data.map_err(|error| failure = Some(error)).ok()
        });
        let blocks = take_blocks(blocks);
        failure.map_or(Ok(blocks), Err)
    }

    /// Transactions of a stored block with their attachments, `None` for those that are not here. `None` where the block is not
    /// stored.
    ///
    /// # Errors
    /// The store's.
    pub fn transactions(
        &self,
        hash: &BlockHash,
        indexes: &[u32],
    ) -> Result<Option<Vec<Option<Submission>>>, StoreError> {
        let Some(height) = self.place(hash)? else { return Ok(None) };
        let store = self.rows.store();
        let Some(body) = store.body(height, hash)? else { return Ok(None) };
        let mut failure = None;
        let found = indexes.iter().map_while(|&index| {
            let Some((transaction, _)) = body.transactions.get(index as usize) else { return Some(None) };
            let attachment = match transaction.attachment() {
                Some(_) => store.attachment_at(height, hash, index),
                None => Ok(None),
            };
            let attachment = attachment.map_err(|error| failure = Some(error)).ok()?;
            let submission = Submission { transaction: transaction.clone(), attachment };
            Some((submission.attachment.is_some() == transaction.attachment().is_some()).then_some(submission))
        });
        let found = take_transactions(found);
        failure.map_or(Ok(Some(found)), Err)
    }

    /// The wtxids of a stored block, in its order; `None` where it is not stored.
    ///
    /// # Errors
    /// The store's.
    pub fn transaction_ids(&self, hash: &BlockHash) -> Result<Option<Vec<WtxId>>, StoreError> {
        let Some(height) = self.place(hash)? else { return Ok(None) };
        let body = self.rows.store().body(height, hash)?;
        Ok(body.map(|body| body.transactions.iter().map(|(transaction, _)| transaction.wtxid()).collect()))
    }

    /// Models of the tip's state in the order of their ids, from one on.
    ///
    /// # Errors
    /// The store's.
    pub fn models(&self, from: &ModelId, limit: u32) -> Result<Vec<NetworkModel>, StoreError> {
        self.models_from(from).take((limit as usize).min(MAX_MODELS)).collect()
    }

    /// All models of the tip's state in the order of their ids, from one on.
    pub fn models_from(&self, from: &ModelId) -> impl Iterator<Item = Result<NetworkModel, StoreError>> {
        let rows = &self.rows;
        rows.models(from).map(|row| {
            let (id, record) = row?;
            let name = match rows.name(&id)? {
                Some(name) => name,
                None => built_in(&id).map(|(name, _)| name.to_owned()).unwrap_or_default(),
            };
            Ok(NetworkModel { id, record, uses: rows.uses(&id)?, name })
        })
    }

    /// What a sender has under way.
    ///
    /// # Errors
    /// The store's.
    pub fn upload(&self, sender: &Address) -> Result<Option<UploadRecord>, StoreError> {
        self.rows.upload(sender)
    }

    /// A block with what is kept of its data.
    ///
    /// # Errors
    /// The store's.
    pub fn block(&self, by: BlockId) -> Result<Option<FoundBlock>, StoreError> {
        let hash = match by {
            BlockId::Hash(hash) => Some(hash),
            BlockId::Height(height) => self.rows.hash_at(height)?,
        };
        let Some(hash) = hash else { return Ok(None) };
        let store = self.rows.store();
        let Some((header, _)) = store.header(&hash)? else { return Ok(None) };
        let data = if header.height == 0 { Some(BlockData::default()) } else { data_of(store, header.height, &hash)? };
        let Some(data) = data else { return Ok(None) };
        Ok(Some(FoundBlock { header, data }))
    }

    /// The height of a stored block that stands on no refused one; `None` of all others.
    fn place(&self, hash: &BlockHash) -> Result<Option<u64>, StoreError> {
        let store = self.rows.store();
        let Some((header, mut status)) = store.header(hash)? else { return Ok(None) };
        let (height, mut at) = (header.height, header);
        for _ in 0..MAX_BRANCH {
            if status == BlockStatus::Invalid {
                return Ok(None);
            }
            // What is connected stands on nothing bad.
            let below = at.height.saturating_sub(1);
            if at.height == 0 || self.rows.hash_at(below)? == Some(at.parent) {
                return Ok(Some(height));
            }
            let Some(parent) = store.header(&at.parent)? else { return Ok(None) };
            (at, status) = parent;
        }
        Ok(None)
    }
}

/// A block's body with the attachments that are kept; `None` where not even the body is here.
fn data_of(store: &Store, height: u64, hash: &BlockHash) -> Result<Option<BlockData>, StoreError> {
    let Some(body) = store.body(height, hash)? else { return Ok(None) };
    let attachments = store.attachments(height, hash, &body)?;
    Ok(Some(BlockData { body, attachments }))
}

impl View {
    /// What became of a transaction.
    ///
    /// # Errors
    /// The store's.
    pub fn transaction(&self, txid: &TxId) -> Result<Response, StoreError> {
        if let Some(wtxid) = self.pool.pending.wtxid(txid) {
            return Ok(Response::Transaction(TransactionStatus::Pending(wtxid)));
        }
        let rows = &self.chain.rows;
        let Some(location) = rows.transaction_location(txid)? else {
            let dropped = self.pool.dropped.get(txid);
            let dropped = dropped.map(|reason| TransactionStatus::Dropped { reason: reason.text().into() });
            return Ok(Response::Transaction(dropped.unwrap_or(TransactionStatus::Unknown)));
        };
        // Its body is one row, and its attachment another; no other is read. What is pruned is gone at once, whatever a
        // snapshot still shows of it.
        let (store, index) = (rows.store(), location.index);
        let Some(body) = store.body(location.height, &location.block)? else {
            let (height, bodies_from) = (location.height, rows.store().kept()?.bodies_from);
            return Ok(Response::failed(format!(
                "the transaction is confirmed in block {height}, whose body this node has pruned: it keeps those from block \
                 {bodies_from} on; ask another node"
            )));
        };
        let transaction = body.transactions.get(index as usize).map(|(transaction, _)| transaction);
        let attachment = match transaction.and_then(|transaction| transaction.attachment()) {
            Some(_) => store.attachment_at(location.height, &location.block, index)?,
            None => None,
        };
        let (header, _) =
            rows.header(&location.block)?.ok_or_else(|| StoreError::missing("headers", &location.block.0))?;
        let confirmation = Confirmation::of(header, &body, index, attachment);
        let confirmation = confirmation.ok_or_else(|| StoreError::missing("bodies", &location.block.0))?;
        Ok(Response::Transaction(TransactionStatus::Confirmed(Box::new(confirmation))))
    }

    /// An account at the tip with the path that proves it, and the nonce after what it has pending.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, address: Address) -> Result<AccountStatus, StoreError> {
        let (account, path) =
            self.chain.prove_account(&address)?.map(|(account, proof)| (account, proof.siblings)).unzip();
        let account = account.unwrap_or_default();
        Ok(AccountStatus {
            nonce: account.nonce,
            balance: account.balance,
            next_nonce: self.pool.pending.next_nonce(&address).unwrap_or(account.nonce),
            header: self.chain.header.clone(),
            path,
        })
    }
}

impl Views {
    /// A chunk of a model's file; `None` where the file is not here, or has no such chunk.
    ///
    /// # Errors
    /// The store's.
    pub fn file(&self, model: &ModelId, chunk: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(chunk) = u16::try_from(chunk) else { return Ok(None) };
        match built_in_file(self.parameters(), model) {
            Some(file) => Ok(file.chunks(CHUNK_BYTES).nth(chunk.into()).map(<[u8]>::to_vec)),
            None => self.newest().rows.store().chunk(model, chunk),
        }
    }

    /// The fee that comes before half of so many blocks: the other half is left to what is still to come.
    pub fn fee(&self, blocks: u32) -> FeeSuggestion {
        let rates = &self.view().pool.fees;
        let weight = (self.parameters().weight_limit / 2).saturating_mul(u64::from(blocks.max(1)));
        let rate = |rate: ocelli_protocol::mempool::FeeRate| rate.fee(FeeSuggestion::WEIGHT).0;
        FeeSuggestion { rate: rate(rates.within(weight)), minimum: rate(rates.minimum()) }
    }
}
