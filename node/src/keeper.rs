//! What outlives the process beside the chain, and the thread that writes it: whoever has something to be written down need not
//! wait for the disk. Bans and the mempool are in the store; `node.json` and `cookie` are files of the data folder, for other
//! programs to read.

pub mod cookie;
mod node_file;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ocelli_consensus::{CheckedTransaction, Network, TxId};
use ocelli_protocol::message::Submission;

pub use node_file::identity;

use crate::error::NodeError;
use crate::full_message::full_message;
use crate::inbox::{Closed, Receiver};
use crate::network::{Ban, NetworkError, NetworkHandle};
use crate::store::{KeptBan, Store};

/// How often it is looked whether bans have changed: time and again in a flood.
const TICK: Duration = Duration::from_secs(1);

/// Files of older versions, whose content the store has now.
const FORMER_FILES: [&str; 2] = ["bans.json", "mempool"];

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
    /// A pending transaction was written down already.
    Saved(TxId),
    /// End, when all before this is written.
    Stop,
}

/// What an earlier run has left of the mempool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeftOver {
    /// In an order in which nonces ascend. Nothing of them has been checked.
    pub submissions: Vec<Submission>,
    /// All that is stored, what is not taken up among it.
    ids: BTreeSet<TxId>,
}

/// All that the keeper's thread owns.
pub struct Keeper {
    data: PathBuf,
    network: Network,
    peers: NetworkHandle,
    store: Arc<Store>,
    /// Where the node answers over HTTP.
    api: Option<SocketAddr>,
    /// The version of the bans that are stored.
    bans_saved: u64,
    /// The pending transactions that are stored.
    pending_saved: BTreeSet<TxId>,
}

impl Keeper {
    /// Keeps what belongs to a data folder, of whose mempool `left_over` is stored.
    pub fn new(
        data: PathBuf,
        network: Network,
        peers: NetworkHandle,
        store: Arc<Store>,
        api: Option<SocketAddr>,
        left_over: &LeftOver,
    ) -> Self {
        Self { data, network, peers, store, api, bans_saved: 0, pending_saved: left_over.ids.clone() }
    }

    /// Runs until it is told to stop, and takes the files away by which others find the node.
    ///
    /// # Errors
    /// If `node.json` cannot be written: nobody would find the node.
    pub fn run(mut self, inbox: &Receiver<Input>) -> Result<(), NodeError> {
        remove_former(&self.data);
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
                Ok(Some(Input::Mempool { pending, left_over })) => self.save_mempool(&pending, &left_over),
                Ok(Some(Input::Saved(txid))) => {
                    self.pending_saved.insert(txid);
                }
                Ok(None) => self.save_bans(),
            }
        }
    }

    fn write_addresses(&self, address: &str) -> Result<(), NodeError> {
        tracing::info!(address, "listening");
        let status = self.peers.status();
        // Commands on this machine need no relay to get here.
        let direct: Vec<_> = status.addresses.into_iter().filter(|one| !one.contains("/p2p-circuit")).collect();
        node_file::write(&self.data, &status.peer.to_string(), &direct, &self.network, self.api)
    }

    /// Writes down what has come, and forgets what is gone.
    fn save_mempool(&mut self, pending: &[CheckedTransaction], left_over: &[Submission]) {
        let pending = pending.iter().map(|checked| (checked.txid(), Pending::Checked(checked)));
        let left_over = left_over.iter().map(|left| (left.transaction.txid(), Pending::LeftOver(left)));
        let saved = &self.pending_saved;
        let mut ids = BTreeSet::new();
        let new: Vec<_> = pending.chain(left_over).filter(|(id, _)| ids.insert(*id) && !saved.contains(id)).collect();
        let bytes = new.into_iter().map(|(id, pending)| (id, pending.to_bytes()));
        match self.store.change_pending(saved.difference(&ids).copied(), bytes) {
            Ok(()) => {
                tracing::debug!(transactions = ids.len(), "mempool saved");
                self.pending_saved = ids;
            }
            Err(error) => tracing::warn!(reason = full_message(&error), "the mempool could not be saved"),
        }
    }

    /// Writes down who is kept out, if that has changed.
    fn save_bans(&mut self) {
        if self.peers.bans_version() == self.bans_saved {
            return;
        }
        let (version, bans) = self.peers.bans();
        self.bans_saved = version;
        let kept: Vec<_> = bans.iter().map(kept).collect();
        if let Err(error) = self.store.set_bans(&kept) {
            let reason = full_message(&error);
            tracing::warn!(reason, "the bans could not be written down: they end with this process");
        }
    }
}

/// A pending transaction, which is only copied if it has to be written.
enum Pending<'a> {
    Checked(&'a CheckedTransaction),
    LeftOver(&'a Submission),
}

impl Pending<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Checked(checked) => {
                let (transaction, attachment) = (checked.transaction().clone(), checked.attachment().cloned());
                Submission { transaction, attachment }.to_bytes()
            }
            Self::LeftOver(submission) => submission.to_bytes(),
        }
    }
}

/// The bans of earlier runs. Those that cannot be read are said and not used: the node starts without bans rather than not at all.
pub fn bans(store: &Store) -> Vec<Ban> {
    let bans = store.bans().map_err(|error| full_message(&error));
    let bans =
        bans.and_then(|bans| bans.into_iter().map(|ban| parse(ban).map_err(|error| error.to_string())).collect());
    bans.unwrap_or_else(|reason| {
        tracing::warn!(reason, "the bans of earlier runs cannot be read and are forgotten");
        Vec::new()
    })
}

fn kept(ban: &Ban) -> KeptBan {
    KeptBan {
        subject: ban.subject.to_string(),
        until: ban.until,
        reason: ban.reason.clone(),
        of: ban.of.map(|peer| peer.to_string()),
    }
}

fn parse(KeptBan { subject, until, reason, of }: KeptBan) -> Result<Ban, NetworkError> {
    Ok(Ban { subject: subject.parse()?, until, reason, of: of.map(|peer| peer.parse()).transpose()? })
}

/// The mempool of an earlier run, at most `limit` bytes of submissions. Answers are not in it: they are computed again. What cannot
/// be read is said, left out, and gone when the mempool is written down next.
pub fn mempool(store: &Store, limit: usize) -> LeftOver {
    let (mut left_over, mut bytes, mut too_many, mut unreadable) = (LeftOver::default(), 0, 0, 0);
    for row in store.pending() {
        let submission = match row {
            Ok((id, row)) => {
                left_over.ids.insert(id);
                bytes += row.len();
                if bytes > limit {
                    too_many += 1;
                    continue;
                }
                Submission::from_bytes(&row).ok().filter(|submission| submission.transaction.txid() == id)
            }
            Err(error) => {
                tracing::warn!(reason = full_message(&error), "a row of the saved mempool cannot be read");
                None
            }
        };
        match submission {
            Some(submission) => left_over.submissions.push(submission),
            None => unreadable += 1,
        }
    }
    if too_many + unreadable > 0 {
        let taken = left_over.submissions.len();
        tracing::warn!(too_many, unreadable, taken, "not all of the saved mempool is of use; the rest is left out");
    }
    left_over.submissions.sort_by_key(|left| (left.transaction.public_key, left.transaction.unsigned.nonce));
    left_over
}

/// Removes what older versions have left.
fn remove_former(data: &Path) {
    for name in FORMER_FILES {
        let file = data.join(name);
        if file.is_file() {
            match fs::remove_file(&file) {
                Ok(()) => {
                    tracing::info!(file = %file.display(), "removed a file of an older version: the store has this now")
                }
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a file of an older version is not used any more")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::transaction::Form;
    use ocelli_consensus::{Action, Address, Amount, AttachmentHash, ModelId, Transaction, Unsigned};
    use tempfile::TempDir;

    use super::*;
    use crate::inbox::inbox;

    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn submission(nonce: u64) -> Submission {
        let action = match nonce % 2 {
            0 => Action::Transfer { to: Address([1; 20]), amount: Amount(7) },
            _ => Action::Classify {
                model: ModelId([2; 32]),
                picture: AttachmentHash([3; 32]),
                bytes: 3072,
                royalty: Amount(0),
                form: Form::Pixels,
            },
        };
        let unsigned = Unsigned { nonce, fee: Amount(9), expires: 10, action };
        let attachment = (nonce % 2 == 1).then(|| vec![4; 3072].into());
        Submission { transaction: Transaction { unsigned, public_key: [6; 32], signature: [7; 64] }, attachment }
    }

    fn open(folder: &TempDir) -> (Arc<Store>, Network) {
        let network = Network::builtin("local").unwrap();
        (Arc::new(Store::open(&folder.path().join("chain"), &network).unwrap()), network)
    }

    fn keeper(folder: &TempDir, store: &Arc<Store>, network: &Network) -> Keeper {
        let (peers, _) = NetworkHandle::detached();
        Keeper::new(folder.path().into(), network.clone(), peers, Arc::clone(store), None, &mempool(store, usize::MAX))
    }

    #[test]
    fn bans_are_read_back() {
        let folder = TempDir::new().unwrap();
        let (store, _) = open(&folder);
        let ban = |subject: &str, of: Option<&str>| Ban {
            subject: subject.parse().unwrap(),
            until: 7,
            reason: "a \"reason\"".into(),
            of: of.map(|peer| peer.parse().unwrap()),
        };
        let all = [ban(PEER, None), ban("1.2.3.4", Some(PEER)), ban("2001:db8::1", None)];
        store.set_bans(&all.iter().map(kept).collect::<Vec<_>>()).unwrap();
        assert_eq!(bans(&store), all);
        for (subject, of) in [("nobody", None), ("127.0.0.1", None), ("1.2.3.4", Some("x"))] {
            let bad = KeptBan { subject: subject.into(), until: 1, reason: String::new(), of: of.map(Into::into) };
            store.set_bans(&[kept(&all[0]), bad]).unwrap();
            assert_eq!(bans(&store), [], "{subject}");
        }
    }

    /// What was there is not written again, what is gone goes, and the order of nonces is kept.
    #[test]
    fn the_mempool_is_read_back() {
        let folder = TempDir::new().unwrap();
        let (store, network) = open(&folder);
        assert_eq!(mempool(&store, usize::MAX), LeftOver::default());
        let mut keeper = keeper(&folder, &store, &network);
        let all: Vec<_> = (0..10).map(submission).collect();
        for range in [0..0, 3..10, 2..5, 0..10] {
            keeper.save_mempool(&[], &all[range.clone()]);
            let found = mempool(&store, usize::MAX);
            assert_eq!(found.submissions, all[range.clone()]);
            assert_eq!(found.ids, keeper.pending_saved);
        }
        // No more than there is room for.
        let few = mempool(&store, 5_000).submissions;
        assert!((1..10).contains(&few.len()) && few.iter().map(|one| one.to_bytes().len()).sum::<usize>() <= 5_000);
        // What is left out is gone with the next that is written.
        Keeper { pending_saved: mempool(&store, 5_000).ids, ..keeper }.save_mempool(&[], &few);
        assert_eq!(mempool(&store, usize::MAX).submissions, few);
    }

    #[test]
    fn what_is_damaged_is_left_out_and_gone_with_the_next() {
        let folder = TempDir::new().unwrap();
        let (store, network) = open(&folder);
        keeper(&folder, &store, &network).save_mempool(&[], &(0..4).map(submission).collect::<Vec<_>>());
        let id = submission(2).transaction.txid();
        for damage in [&b"torn"[..], &submission(3).to_bytes()] {
            store.change_pending([], [(id, damage.to_vec())]).unwrap();
            let found = mempool(&store, usize::MAX);
            assert_eq!(found.submissions, [0, 1, 3].map(submission));
            keeper(&folder, &store, &network).save_mempool(&[], &found.submissions);
            assert_eq!(mempool(&store, usize::MAX).ids.len(), 3);
        }
    }

    #[test]
    fn files_of_older_versions_are_removed() {
        let folder = TempDir::new().unwrap();
        let (store, network) = open(&folder);
        for name in FORMER_FILES {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        let (sender, inbox) = inbox();
        assert!(sender.send(Input::Stop));
        keeper(&folder, &store, &network).run(&inbox).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["chain"]);
    }
}
