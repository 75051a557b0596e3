//! A running node: its services put together.
//!
//! One thread owns the chain, the mempool and the sync machine and does one thing at a time ([`service`]). Everything
//! comes to it through one bounded inbox: what the network brings, logits that inference has computed, blocks that the
//! miner has found, questions from this process. It never waits for any of them, so nothing can wait in a circle.

mod admission;
mod assembly;
mod bans_file;
mod blocks;
mod config;
mod control;
pub mod cookie;
mod error;
mod faucet;
mod input;
mod mempool_file;
mod mining;
mod node_file;
mod open_files;
mod peers;
mod progress;
mod relay;
mod requests;
mod run;
mod service;
mod traffic;
mod transactions;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ocelli_protocol::message::{Request, Response};

pub use config::{Capacity, Config, Discovery, Mining, Storage, models};
pub(crate) use control::SNAPSHOT;
pub use error::NodeError;
pub use faucet::FaucetConfig;
pub use run::run;
pub(crate) use service::unix_millis;
pub(crate) use transactions::{BLOCKS_AHEAD, RUN_AHEAD};

use crate::chain::Chain;
use crate::inference::InferenceService;
use crate::store::Store;
use input::{Input, ReplyTo, Results};
use peers::{Joining, network_config};
use service::Service;

/// Inputs that wait for the chain thread. Beyond it whoever has one waits; the network then drops gossip.
const INBOX_LENGTH: usize = 1024;

/// A node that runs in this process. Dropping it stops it.
pub struct Node {
    inbox: SyncSender<Input>,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
    ended: Receiver<()>,
}

impl Node {
    /// Opens the data folder, joins the network and starts all services.
    ///
    /// # Errors
    /// [`NodeError`]: the folder, the network or the device cannot be used.
    pub fn start(config: Config) -> Result<Self, NodeError> {
        let identity = node_file::identity(&config.data)?;
        let storage = config.storage;
        let store = Store::open_with(&config.data.join("chain"), &config.network, storage.store)?;
        let chain = Chain::open(config.network.clone(), store)?.keeping(storage.prune, storage.missing_pixels);
        let (inbox, inputs) = sync_channel(INBOX_LENGTH);

        let (results, received) = Results::new(inbox.clone());
        let faults = results.clone();
        let inference = InferenceService::start(config.backend, config.models, config.inference, move || {
            faults.leave(Input::DeviceFault);
        });
        let joining = Joining {
            bans: bans_file::read(&config.data),
            listen: config.listen,
            external: config.external,
            bootstrap: config.bootstrap,
            discovery: config.discovery,
            traversal: config.traversal,
            capacity: config.capacity,
        };
        let (network, mut events) = crate::network::spawn(network_config(&chain, identity, joining)?)?;
        let forward = inbox.clone();
        std::thread::Builder::new().name("events".into()).spawn(move || {
            while let Some(event) = events.blocking_recv() {
                if forward.send(Input::from(event)).is_err() {
                    break;
                }
            }
        })?;
        let service = Service::new(chain, network, inference, results, config.data, config.mining, config.faucet)?;
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name("chain".into()).spawn(move || {
            let result = service.run(&inputs, &received);
            let _ = end.try_send(()); // nobody need listen
            result
        })?;
        Ok(Self { inbox, thread: Some(thread), ended })
    }

    /// Answers a request as the node would answer a peer; `None` if it has stopped.
    pub fn ask(&self, request: Request) -> Option<Response> {
        let (reply, answer) = sync_channel(1);
        self.inbox.send(Input::Ask(request, ReplyTo::Local(reply))).ok()?;
        answer.recv().ok()
    }

    /// Whether the node ends by itself within that time, which it does when its store fails.
    pub fn ends_within(&self, time: Duration) -> bool {
        !matches!(self.ended.recv_timeout(time), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
    }

    /// Stops the node and waits until everything is on disk.
    ///
    /// # Errors
    /// Why it had ended by itself.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), NodeError> {
        drop(self.inbox.send(Input::Stop));
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(NodeError::Panicked),
            None => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(error = crate::chain::full_message(&error), "the node had ended");
        }
    }
}
