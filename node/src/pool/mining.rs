//! Mining: what the next block is to hold, and what is done with one that is found.

use std::cell::Cell;
use std::collections::VecDeque;

use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{Address, Header};
use ocelli_protocol::mempool::{MempoolEntry, ripe_age};
use ocelli_protocol::message::BlockData;

use super::{Found, Input, Pool};
use crate::chain::MAX_MINED_AHEAD_SECONDS;
use crate::error::NodeError;
use crate::inbox::Sender;
use crate::miner::{HashRate, Miner};
use crate::store::StoreError;

/// A template is made anew after this time even if nothing has changed: its time grows old.
pub(super) const REFRESH_MILLIS: u64 = 5_000;
/// Changes of the mempool wait this long for others to come.
pub(super) const GATHER_MILLIS: u64 = 250;
/// Templates that a found header may still be for.
const KEPT_TEMPLATES: usize = 4;

/// How a node mines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mining {
    /// Who is paid.
    pub address: Address,
    /// Threads that search.
    pub threads: usize,
}

/// The miner, and what it is looking for.
pub struct Mine {
    miner: Miner,
    mining: Mining,
    /// Latest last.
    templates: VecDeque<(Header, BlockData)>,
    /// In monotonic milliseconds; `None` if the latest is worth nothing any more.
    made_at: Option<u64>,
    /// When the first of those becomes ripe that the latest leaves out for their age.
    ripens_at: Option<u64>,
    is_stale: bool,
    /// The latest that was handed over: a template that is made in the same second is the same, and so may be what is found for it.
    handed_over: Option<Header>,
}

impl Mine {
    /// Starts the miner's threads. What they find comes to the pool.
    pub fn start(mining: Mining, pool: Sender<Input>) -> Self {
        let miner = Miner::start(mining.threads, move |header| pool.reply(Input::Mined(header)));
        Self {
            miner,
            mining,
            templates: VecDeque::new(),
            made_at: None,
            ripens_at: None,
            is_stale: true,
            handed_over: None,
        }
    }

    /// For whom it mines, and how fast.
    pub fn figures(&self) -> (Address, HashRate) {
        (self.mining.address, self.miner.rate())
    }

    /// The latest template.
    #[cfg(test)]
    pub(super) fn latest(&self) -> Option<&(Header, BlockData)> {
        self.templates.back()
    }

    pub(super) fn stop(self) {
        drop(self.miner);
    }
}

impl Pool {
    /// The tip has moved: what is mined on is worth nothing any more.
    pub(super) fn tip_moved(&mut self) {
        if let Some(mine) = &mut self.mine {
            mine.miner.set_template(None);
            mine.templates.clear();
            mine.is_stale = true;
            mine.made_at = None;
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
        if self.others.views.core().update.is_some() {
            // Whoever mines on a chain that most have left mines in vain.
            self.tip_moved();
            return Ok(());
        }
        let Some(mine) = &self.mine else { return Ok(()) };
        let age = mine.made_at.map_or(u64::MAX, |at| now.saturating_sub(at));
        let is_poor = mine.is_stale || mine.ripens_at.is_some_and(|at| at <= now);
        if age < GATHER_MILLIS || !(is_poor || age >= REFRESH_MILLIS) {
            return Ok(());
        }
        // Mining only on validated tips: the tip is one.
        let wall = self.others.clock.unix_seconds();
        let time = wall.max(self.chain.header.time + 1);
        if time > wall + MAX_MINED_AHEAD_SECONDS {
            return Ok(());
        }
        let address = mine.mining.address;
        let (header, data, ripens_at) = self.choose(address, time, now)?;
        if let Some(mine) = &mut self.mine {
            if mine.templates.len() >= KEPT_TEMPLATES {
                mine.templates.pop_front();
            }
            mine.templates.push_back((header.clone(), data));
            mine.miner.set_template(Some(header));
            (mine.made_at, mine.ripens_at, mine.is_stale) = (Some(now), ripens_at, false);
        }
        Ok(())
    }

    /// Packs the best transactions into a block: those that others have had time to hear of, so that none has to ask for them. Says
    /// when the first of those becomes ripe that it leaves out.
    fn choose(&self, address: Address, time: u64, now: u64) -> Result<(Header, BlockData, Option<u64>), NodeError> {
        let network = &self.others.views.network;
        let (age, ripens_at) = (ripe_age(network.parameters.spacing), Cell::new(None));
        let is_ripe = |entry: &MempoolEntry| {
            let Some(later) = entry.ripe_at(age).filter(|at| *at > now) else { return true };
            ripens_at.set(Some(ripens_at.get().map_or(later, |first: u64| first.min(later))));
            false
        };
        let mut data = BlockData::default();
        for entry in self.mempool.template_of(network.parameters.weight_limit, is_ripe) {
            data.attachments.push(entry.attachment().cloned());
            data.body.transactions.push((entry.transaction().clone(), entry.answer().clone()));
        }
        match self.chain.template(network, address, &data.body, time) {
            Ok(header) => Ok((header, data, ripens_at.get())),
            Err(ConnectError::Reader(error)) => Err(error.into()),
            Err(ConnectError::Tree(error)) => Err(StoreError::from(error).into()),
            // Every template of the mempool connects: this one shows a defect, with which mining had better end.
            Err(error) => Err(NodeError::Template(Box::new(error))),
        }
    }

    /// Hands over a block of our own, if it is still one on the tip.
    pub(super) fn on_mined(&mut self, header: Header) {
        let Some(mine) = self.mine.as_mut().filter(|mine| mine.handed_over.as_ref() != Some(&header)) else { return };
        let template = mine
            .templates
            .iter()
            .position(|(template, _)| Header { nonce: header.nonce, ..template.clone() } == header);
        let Some((_, data)) = template.and_then(|index| mine.templates.remove(index)) else { return };
        mine.is_stale = true;
        mine.made_at = None;
        mine.handed_over = Some(header.clone());
        if header.parent == self.chain.tip.hash {
            (self.others.found)(Found { header, data });
        }
    }
}
