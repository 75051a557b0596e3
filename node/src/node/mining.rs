//! Mining: what the next block is to hold, and what is done with one that is found.

use std::collections::VecDeque;

use ocelli_consensus::block::Body;
use ocelli_consensus::fork_choice::Status;
use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{Address, Header, RuleError};
use ocelli_protocol::message::BlockData;

use super::NodeError;
use super::config::Mining;
use super::input::{Input, Results};
use super::service::{Service, unix_seconds};
use crate::chain::full_message;
use crate::miner::Miner;

/// A template is made anew after this time even if nothing has changed: its time grows old.
const REFRESH_MILLIS: u64 = 5_000;
/// Changes of the mempool wait this long for others to come.
const GATHER_MILLIS: u64 = 250;
/// A block's time, which must be after its parent's, may be so far ahead of this clock that a miner whose blocks come fast
/// is not held up, and stays far from what others hold back. A first choice.
pub(super) const MAX_MINED_AHEAD_SECONDS: u64 = 10;
/// Templates that a found header may still be for.
const KEPT_TEMPLATES: usize = 4;

/// The miner, and what it is looking for.
pub(super) struct Mine {
    miner: Miner,
    mining: Mining,
    /// Latest last.
    templates: VecDeque<(Header, BlockData)>,
    made_at: u64,
    is_stale: bool,
}

impl Mine {
    pub(super) fn start(mining: Mining, results: Results) -> Self {
        let miner = Miner::start(mining.threads, move |header| results.leave(Input::Mined(header)));
        Self { miner, mining, templates: VecDeque::new(), made_at: 0, is_stale: true }
    }

    pub(super) fn address(&self) -> Address {
        self.mining.address
    }

    /// Hashes per second, all threads together.
    pub(super) fn hash_rate(&self) -> u64 {
        self.miner.hash_rate()
    }

    pub(super) fn stop(self) {
        drop(self.miner);
    }
}

impl Service {
    /// The tip has moved: what is mined on is worth nothing any more.
    pub(super) fn tip_moved(&mut self) {
        if let Some(mine) = &mut self.mine {
            mine.miner.set_template(None);
            mine.templates.clear();
            mine.is_stale = true;
            mine.made_at = 0;
        }
    }

    /// There are other transactions to choose from.
    pub(super) fn mempool_changed(&mut self) {
        if let Some(mine) = &mut self.mine {
            mine.is_stale = true;
        }
    }

    /// Makes a new template where the present one is too old, or too poor.
    pub(super) fn refresh_template(&mut self, now: u64) -> Result<(), NodeError> {
        let Some(mine) = &self.mine else { return Ok(()) };
        let age = now.saturating_sub(mine.made_at);
        if age < GATHER_MILLIS || !(mine.is_stale || age >= REFRESH_MILLIS) {
            return Ok(());
        }
        // Mining only on validated tips: the tip is one.
        let time = unix_seconds().max(self.chain.tip().header.time + 1);
        if time > unix_seconds() + MAX_MINED_AHEAD_SECONDS {
            return Ok(());
        }
        let address = mine.mining.address;
        let (header, data) = self.choose(address, time)?;
        if let Some(mine) = &mut self.mine {
            if mine.templates.len() >= KEPT_TEMPLATES {
                mine.templates.pop_front();
            }
            mine.templates.push_back((header.clone(), data));
            mine.miner.set_template(Some(header));
            (mine.made_at, mine.is_stale) = (now, false);
        }
        Ok(())
    }

    /// Packs the best transactions into a block. One that the state refuses, which the mempool should have known, is
    /// dropped, and the rest packed again.
    fn choose(&mut self, address: Address, time: u64) -> Result<(Header, BlockData), NodeError> {
        loop {
            let limit = self.chain.parameters().weight_limit;
            let mut data = BlockData::default();
            for entry in self.mempool.template(limit) {
                data.pixels.push(entry.pixels.as_deref().map(<[u8]>::to_vec));
                data.body.transactions.push((entry.transaction.clone(), entry.output.clone()));
            }
            let error = match self.chain.template(address, &data.body, time) {
                Ok(header) => return Ok((header, data)),
                Err(error) => error,
            };
            let index = match &error {
                ConnectError::Rule(rule) => index_of(rule),
                ConnectError::Reader(_) | ConnectError::Tree(_) => None,
            };
            let refused = index.and_then(|index| data.body.transactions.get(index));
            match (refused, error) {
                (Some((transaction, _)), error) => {
                    let txid = transaction.txid();
                    tracing::warn!(%txid, reason = full_message(&error), "dropped from the mempool");
                    self.mempool.remove(&txid);
                }
                (None, ConnectError::Reader(error)) => return Err(error.into()),
                (None, ConnectError::Tree(error)) => {
                    return Err(crate::store::StoreError::from(error).into());
                }
                // The miner's own pay: an empty block says whether that is it.
                (None, ConnectError::Rule(rule)) => {
                    tracing::error!(reason = full_message(&rule), "no template can be made with transactions");
                    let body = Body::default();
                    match self.chain.template(address, &body, time) {
                        Ok(header) => return Ok((header, BlockData::default())),
                        Err(error) => return Err(NodeError::Template(Box::new(error))),
                    }
                }
            }
        }
    }

    /// Takes a block of our own: its answers are this node's, so nothing is left to check but the state.
    pub(super) fn on_mined(&mut self, header: Header) -> Result<(), NodeError> {
        let Some(mine) = &mut self.mine else { return Ok(()) };
        let template = mine
            .templates
            .iter()
            .position(|(template, _)| Header { nonce: header.nonce, ..template.clone() } == header);
        let Some((_, data)) = template.and_then(|index| mine.templates.remove(index)) else { return Ok(()) };
        mine.is_stale = true;
        mine.made_at = 0;
        if header.parent != self.chain.tip().hash {
            return Ok(());
        }
        let hash = header.hash();
        if let (_, Some(error)) = self.chain.insert_headers(std::slice::from_ref(&header), unix_seconds())? {
            tracing::error!(%hash, reason = full_message(&error), "our own block is refused");
            return Ok(());
        }
        let mempool = &self.mempool;
        if let Err(error) = self.chain.accept_block(hash, &data, &|wtxid| mempool.get_by_wtxid(wtxid).is_some()) {
            tracing::error!(%hash, reason = full_message(&error), "our own block is refused");
            return Ok(());
        }
        tracing::info!(height = header.height, %hash, "block found");
        debug_assert!(self.chain.tree().get(&hash).is_some_and(|node| node.status == Status::Received));
        self.chain.set_answers(hash, Ok(()))?;
        self.announce(header, &data.body)?;
        self.advance()
    }
}

/// The transaction that breaks a rule.
fn index_of(rule: &RuleError) -> Option<usize> {
    match rule {
        RuleError::Signature { index, .. }
        | RuleError::Expired { index, .. }
        | RuleError::Nonce { index, .. }
        | RuleError::UnknownModel { index, .. }
        | RuleError::OutputMissing { index }
        | RuleError::OutputUnexpected { index }
        | RuleError::OutputLength { index, .. }
        | RuleError::Output { index, .. }
        | RuleError::ImageSize { index, .. }
        | RuleError::Balance { index, .. }
        | RuleError::MinimumBalance { index, .. }
        | RuleError::AmountOverflow { index } => Some(*index),
        _ => None,
    }
}
