//! What tests of rooms have around them: a chain on a disk, clocks that are moved by hand, a network that is not there.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use ocelli_consensus::{Address, Header};
use ocelli_model::ReferenceBackend;
use ocelli_protocol::message::{BlockData, Request, Response, Submission};

use crate::chain::{Advance, Chain};
use crate::clock::Clock;
use crate::inference::{InferenceHandle, InferenceLimits, InferenceService};
use crate::network::{NetworkCommand, NetworkHandle, Peer};
use crate::reply::ReplyTo;
use crate::store::tests::{Folder, Maker, network};
use crate::store::{NoFiles, Overlay, Store};
use crate::view::Views;

/// When the clocks begin: after the genesis.
pub(crate) const BEGIN: u64 = 2_000_000_000;

/// The surroundings of a room.
pub(crate) struct Around {
    /// Gone with the last that uses it.
    pub(crate) folder: Folder,
    pub(crate) clock: Clock,
    pub(crate) network: NetworkHandle,
    /// What the network is told.
    pub(crate) told: tokio::sync::mpsc::Receiver<NetworkCommand>,
    pub(crate) inference: InferenceHandle,
}

impl Around {
    pub(crate) fn new() -> (Self, Chain) {
        let folder = Folder::new();
        let network = network();
        let chain = Chain::open(network.clone(), Store::open(&folder.path(), &network).unwrap()).unwrap();
        let (handle, told) = NetworkHandle::detached();
        let limits = InferenceLimits::default();
        let inference =
            InferenceService::start(Box::new(ReferenceBackend), Vec::new(), Arc::new(NoFiles), limits, || {});
        (Self { folder, clock: Clock::by_hand(BEGIN), network: handle, told, inference }, chain)
    }

    /// What the network was asked to ask peers since this was asked last.
    pub(crate) fn asked(&mut self) -> Vec<(Peer, Request)> {
        let mut asked = Vec::new();
        while let Ok(command) = self.told.try_recv() {
            if let NetworkCommand::Request { peer, data, .. } = command {
                asked.push((peer, Request::from_bytes(&data).unwrap()));
            }
        }
        asked
    }

    /// What the network was told of whom it is to blame since this was asked last.
    pub(crate) fn blamed(&mut self) -> Vec<Peer> {
        let mut blamed = Vec::new();
        while let Ok(command) = self.told.try_recv() {
            if let NetworkCommand::Penalize { peer, .. } = command {
                blamed.push(peer);
            }
        }
        blamed
    }
}

/// Views of a chain as it stands.
pub(crate) fn views(chain: &Chain) -> Arc<Views> {
    let at_tip = Arc::new(chain.at_tip().unwrap());
    Arc::new(Views::new(chain.network().clone(), Arc::clone(chain.checked_files()), at_tip))
}

/// A block on the tip, with what is put into it.
pub(crate) fn make(chain: &Chain, fill: impl for<'a> FnOnce(Maker<'a>) -> Maker<'a>) -> (Header, BlockData) {
    let overlay = Overlay::new(chain.store()).unwrap();
    let (header, body, attachments) = fill(Maker::new(chain.network(), &overlay)).mine(Address([9; 20]));
    (header, BlockData { body, attachments })
}

/// Puts a block on the tip.
pub(crate) fn connect(chain: &mut Chain, (header, data): &(Header, BlockData)) -> Advance {
    let hash = header.hash();
    assert!(chain.insert_headers(std::slice::from_ref(header), u64::MAX).unwrap().1.is_none());
    chain.accept_block(hash, data, &|_| false).unwrap();
    chain.set_answers(hash, Ok(())).unwrap();
    let advance = chain.advance().unwrap();
    assert_eq!(chain.tip().hash, hash);
    advance
}

/// The transactions of a block, as they are handed in.
pub(crate) fn submissions(data: &BlockData) -> Vec<Submission> {
    let transactions = data.body.transactions.iter().zip(&data.attachments);
    let submissions = transactions.map(|((transaction, _), attachment)| Submission {
        transaction: transaction.clone(),
        attachment: attachment.clone(),
    });
    submissions.collect()
}

/// Somebody in this process who waits for a response.
pub(crate) fn waiting() -> (ReplyTo, Receiver<Response>) {
    let (sender, receiver) = sync_channel(1);
    (ReplyTo::Local(sender), receiver)
}

/// A peer.
pub(crate) fn peer(number: u8) -> Peer {
    let key = ed25519_dalek::SigningKey::from_bytes(&[number; 32]);
    Peer::of(key.verifying_key().as_bytes()).unwrap()
}
