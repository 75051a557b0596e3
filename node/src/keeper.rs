//! The small files of a data folder, and the thread that writes them: whoever has something to be written down need not wait for
//! the disk.

mod bans_file;
pub mod cookie;
mod mempool_file;
mod node_file;

use std::path::PathBuf;
use std::time::Duration;

use ocelli_consensus::{CheckedTransaction, Network};
use ocelli_protocol::message::Submission;

pub use bans_file::read as bans;
pub use mempool_file::read as mempool;
pub use node_file::identity;

use crate::error::NodeError;
use crate::inbox::{Closed, Receiver};
use crate::network;

/// How often it is looked whether bans have changed: time and again in a flood.
const TICK: Duration = Duration::from_secs(1);

/// What is to be written down.
pub enum Input {
    /// The network listens somewhere more: commands on this machine find it there.
    Listening(String),
    /// What is pending.
    Mempool {
        /// Checked, in an order in which nonces ascend.
        pending: Vec<CheckedTransaction>,
        /// Left by an earlier run, and not looked at yet.
        left_over: Vec<Submission>,
    },
    /// End, when all before this is written.
    Stop,
}

/// All that the keeper's thread owns.
pub struct Keeper {
    data: PathBuf,
    network: Network,
    peers: network::Handle,
    /// The version of the bans that are on disk.
    bans_saved: u64,
}

impl Keeper {
    /// Keeps the files of a data folder.
    pub fn new(data: PathBuf, network: Network, peers: network::Handle) -> Self {
        Self { data, network, peers, bans_saved: 0 }
    }

    /// Runs until it is told to stop, and takes the files away by which others find the node.
    ///
    /// # Errors
    /// If `node.json` cannot be written: nobody would find the node.
    pub fn run(mut self, inbox: &Receiver<Input>) -> Result<(), NodeError> {
        let result = self.take_inputs(inbox);
        self.save_bans();
        node_file::remove(&self.data);
        cookie::remove(&self.data);
        result
    }

    fn take_inputs(&mut self, inbox: &Receiver<Input>) -> Result<(), NodeError> {
        loop {
            match inbox.next(TICK) {
                Ok(Some(Input::Stop)) | Err(Closed) => return Ok(()),
                Ok(Some(Input::Listening(address))) => self.write_addresses(&address)?,
                Ok(Some(Input::Mempool { pending, left_over })) => self.save_mempool(&pending, left_over),
                Ok(None) => self.save_bans(),
            }
        }
    }

    fn write_addresses(&self, address: &str) -> Result<(), NodeError> {
        tracing::info!(address, "listening");
        let status = self.peers.status();
        // Commands on this machine need no relay to get here.
        let direct: Vec<_> = status.addresses.into_iter().filter(|one| !one.contains("/p2p-circuit")).collect();
        node_file::write(&self.data, &status.peer.to_string(), &direct, &self.network)
    }

    fn save_mempool(&self, pending: &[CheckedTransaction], left_over: Vec<Submission>) {
        let pending = pending.iter().map(|checked| Submission {
            transaction: checked.transaction().clone(),
            pixels: checked.pixels().map(|pixels| pixels.to_vec()),
        });
        match mempool_file::write(&self.data, self.network.genesis_hash(), pending.chain(left_over)) {
            Ok(transactions) => tracing::debug!(transactions, "mempool saved"),
            Err(error) => tracing::warn!(%error, "the mempool could not be saved"),
        }
    }

    /// Writes down who is kept out, if that has changed.
    fn save_bans(&mut self) {
        if self.peers.bans_version() == self.bans_saved {
            return;
        }
        let (version, bans) = self.peers.bans();
        self.bans_saved = version;
        if let Err(error) = bans_file::write(&self.data, &bans) {
            tracing::warn!(%error, "the bans could not be written down: they end with this process");
        }
    }
}
