//! Transactions on their way from node to node: the relay machine put to work.

use std::collections::VecDeque;

use ocelli_consensus::checked::CheckError;
use ocelli_consensus::rules::check_signature;
use ocelli_consensus::{BlockHash, Transaction, TxId};
use ocelli_protocol::limits::InVain;
use ocelli_protocol::mempool::{AdmitError, Blame, Holds, Mempool, MempoolError, Readiness, Tip};
use ocelli_protocol::message::{Response, ShortId, Submission, take_attachments, take_pending};
use ocelli_protocol::relay::{self, Decision, FetchVerdict, Relay, RelayAction};
use ocelli_protocol::sync::{self, Direction, Failure, Origin};

use super::admission::Refusal;
use super::{Pool, say_unreadable, tip};
use crate::full_message::full_message;
use crate::network::{Group, Misbehaviour, Peer, RequestId};
use crate::offence::misbehaviour;
use crate::reply::ReplyTo;
use crate::store::{Frozen, Rows, Store};
use crate::traffic::Asking;

/// The relay machine, and what it is to be told.
pub(super) struct Relaying {
    pub(super) machine: Relay<Peer>,
    inputs: VecDeque<relay::Input<Peer>>,
    is_driving: bool,
    /// When it wants to be woken, in monotonic milliseconds.
    pub(super) wake_at: Option<u64>,
    /// Its questions, by its own names for them.
    asking: Asking<u64>,
    /// How much each peer sends that no block could hold.
    in_vain: InVain<Peer>,
}

impl Relaying {
    pub(super) fn new(seed: [u8; 32], asking: Asking<u64>) -> Self {
        Self {
            machine: Relay::new(seed),
            inputs: VecDeque::new(),
            is_driving: false,
            wake_at: None,
            asking,
            in_vain: InVain::default(),
        }
    }
}

/// What relay sees of the mempool and of the chain.
struct Glimpse<'a> {
    mempool: &'a Mempool,
    tip: Tip<'a, Rows<Frozen>>,
    store: &'a Store,
    genesis: BlockHash,
}

impl relay::Pool for Glimpse<'_> {
    fn mempool(&self) -> &Mempool {
        self.mempool
    }

    fn would_take(&self, transaction: &Transaction) -> FetchVerdict {
        let tip = &self.tip;
        let refused = match super::check(self.mempool, transaction, tip, self.store) {
            Ok(()) => check_signature(transaction, self.genesis).map_err(CheckError::Rule).err().map(Into::into),
            Err(AdmitError::Refused(refused)) => Some(refused),
            // Without its account nothing of the sender is fetched.
            Err(AdmitError::Reader(error)) => {
                say_unreadable(&error);
                return FetchVerdict::Refuse { holds: Holds::Not, blame: Blame::Nobody };
            }
        };
        refused.map_or(FetchVerdict::Take, |error: MempoolError| FetchVerdict::Refuse {
            holds: error.holds(),
            blame: error.misbehaviour(),
        })
    }
}

impl Pool {
    pub(super) fn on_connected(&mut self, peer: Peer, light: bool, group: Group, direction: Direction) {
        if let Some(faucet) = &mut self.faucet {
            faucet.connected(peer, group);
        }
        if !light {
            let origin = Origin { direction, group: sync::Group(group.id()) };
            self.drive_relay(relay::Input::PeerConnected { peer, origin });
        }
    }

    pub(super) fn on_disconnected(&mut self, peer: Peer) {
        if let Some(faucet) = &mut self.faucet {
            faucet.disconnected(peer);
        }
        self.drive_relay(relay::Input::PeerDisconnected(peer));
    }

    /// Notes what a peer has announced; the relay machine says how much of it.
    pub(super) fn on_announced(&mut self, ids: Vec<ShortId>, to: ReplyTo) {
        match to.peer() {
            // By an old state most of it would be refused. It is announced again.
            Some(_) if self.is_far_behind() => {
                self.reply(to, Response::failed("syncing: announce it again later"));
            }
            Some(peer) => self.drive_relay_for(relay::Input::Announced { peer, ids }, Some(to)),
            None => self.reply(to, Response::failed("only peers announce transactions")),
        }
    }

    /// Transactions of the mempool by their short ids.
    pub(super) fn pending(&self, ids: &[ShortId]) -> Response {
        Response::Pending(take_pending(ids.iter().map(|id| self.mempool.to_relay(*id))))
    }

    /// Attachments of the mempool by their transactions' short ids.
    pub(super) fn attachments(&self, ids: &[ShortId]) -> Response {
        let attachment = |id: &ShortId| self.mempool.get_by_short_id(*id)?.attachment().cloned();
        Response::Attachments(take_attachments(ids.iter().map(attachment)))
    }

    pub(super) fn on_response(&mut self, id: RequestId, peer: Peer, result: Result<Response, Failure>, bytes: usize) {
        let Some(id) = self.relaying.asking.answered(id, bytes) else { return };
        if let Ok(response) = &result {
            self.others.counted.relayed(response);
        }
        self.drive_relay(relay::Input::Response { peer, id, result });
    }

    /// Announces transactions of the mempool.
    pub(super) fn forward(&mut self, txids: &[TxId]) {
        let ids = txids.iter().filter_map(|txid| Some(ShortId::of(&self.mempool.get(txid)?.checked().wtxid())));
        for id in ids.collect::<Vec<_>>() {
            self.drive_relay(relay::Input::Decided { id, decision: Decision::Forward });
        }
    }

    /// Wakes the relay machine when it is time.
    pub(super) fn wake_relay(&mut self, now: u64) {
        if self.relaying.wake_at.take_if(|at| *at <= now).is_some() {
            self.drive_relay(relay::Input::Woken);
        }
    }

    /// Gives the relay machine an input and does what it says, and so on with what follows from that. What comes up in the
    /// meantime waits its turn: the machine wants one input's outputs carried out before the next.
    pub(super) fn drive_relay(&mut self, input: relay::Input<Peer>) {
        self.drive_relay_for(input, None);
    }

    fn drive_relay_for(&mut self, input: relay::Input<Peer>, mut to: Option<ReplyTo>) {
        self.relaying.inputs.push_back(input);
        if std::mem::replace(&mut self.relaying.is_driving, true) {
            return;
        }
        while let Some(input) = self.relaying.inputs.pop_front() {
            let views = &self.others.views;
            let now = self.others.clock.now();
            let tip = tip(&views.network, &self.chain, now);
            let store = self.chain.rows.store();
            let glimpse = Glimpse { mempool: &self.mempool, tip, store, genesis: views.genesis };
            for output in self.relaying.machine.handle(input, now, &glimpse) {
                self.carry_out(output, &mut to);
            }
        }
        self.relaying.is_driving = false;
    }

    fn carry_out(&mut self, output: RelayAction<Peer>, to: &mut Option<ReplyTo>) {
        match output {
            RelayAction::Send { peer, id, request } => self.relaying.asking.ask(peer, &request, id),
            RelayAction::Noted { count, .. } => {
                if let Some(to) = to.take() {
                    self.reply(to, Response::Announce { noted: count });
                }
            }
            RelayAction::Take { peer, submission } => self.take_relayed(peer, submission),
            RelayAction::CountInVain(peer) => drop(self.blame_in_vain(peer)),
            RelayAction::Penalize { peer, offence } => {
                tracing::debug!(%peer, ?offence, "a peer does not relay as it should");
                self.others.network.penalize(peer, misbehaviour(offence));
            }
            RelayAction::WakeAt(at) => self.relaying.wake_at = Some(at),
        }
    }

    /// Counts a transaction that no block on this tip could hold. Whether its sender is to blame.
    pub(super) fn blame_in_vain(&mut self, peer: Peer) -> bool {
        let Err(excess) = self.relaying.in_vain.sent(peer, self.others.clock.now()) else { return false };
        tracing::debug!(%peer, %excess, "a peer sends transactions that nobody can mine");
        self.others.network.penalize(peer, Misbehaviour::Flood);
        true
    }

    /// Takes a transaction that a peer has sent into the mempool, if it is good.
    fn take_relayed(&mut self, peer: Peer, submission: Submission) {
        let (id, txid) = (ShortId::of(&submission.transaction.wtxid()), submission.transaction.txid());
        let decision = match self.take_transaction(submission) {
            Ok(inserted) => {
                self.forward(&inserted.promoted);
                match inserted.readiness {
                    Readiness::Ready => Decision::Forward,
                    Readiness::Gap => Decision::Keep,
                }
            }
            Err(Refusal::Refused(MempoolError::AlreadyKnown(_))) => Decision::Keep,
            Err(refusal) => {
                if self.blame(peer, &refusal) && self.complaints.has_room() {
                    tracing::warn!(%peer, %txid, reason = full_message(&refusal), "a relayed transaction is refused");
                }
                match refusal {
                    Refusal::Refused(error) => Decision::Refuse(error.holds()),
                    Refusal::Reader(error) => {
                        say_unreadable(&error);
                        Decision::Refuse(Holds::Not)
                    }
                }
            }
        };
        self.drive_relay(relay::Input::Decided { id, decision });
    }
}
