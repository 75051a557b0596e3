//! Transactions on their way from node to node: the relay machine put to work.

use ocelli_consensus::checked::CheckError;
use ocelli_consensus::rules::check_signature;
use ocelli_consensus::{Transaction, TxId};
use ocelli_protocol::mempool::{Blame, Holds, InsertError, Mempool, MempoolError, Readiness};
use ocelli_protocol::message::{Response, ShortId, Submission, take_pending, take_pixels};
use ocelli_protocol::relay::{self, Decision, Offence, Pool, Verdict};
use ocelli_protocol::sync::Failure;

use super::input::ReplyTo;
use super::service::{Asked, Service};
use super::transactions::{Refusal, tip};
use crate::chain::{Chain, full_message};
use crate::network::{Misbehaviour, Peer};

/// What relay sees of the mempool and of the chain.
struct View<'a> {
    chain: &'a Chain,
    mempool: &'a Mempool,
}

impl Pool for View<'_> {
    fn mempool(&self) -> &Mempool {
        self.mempool
    }

    fn would_take(&self, transaction: &Transaction) -> Verdict {
        let tip = tip(self.chain);
        let model = transaction.task().and_then(|(model, _)| tip.parameters.model_at(model, tip.height + 1));
        let pixels = model.map_or(0, |model| model.pixels as usize);
        let refused = match self.mempool.check(transaction, pixels, &tip) {
            Ok(()) => {
                check_signature(0, transaction, self.chain.genesis()).map_err(CheckError::Rule).err().map(Into::into)
            }
            Err(InsertError::Refused(refused)) => Some(refused),
            // Without its account nothing of the sender is fetched; the next write will end the node.
            Err(InsertError::Reader(error)) => {
                tracing::error!(reason = full_message(&error), "an account cannot be read");
                return Verdict::Refuse { holds: Holds::Not, blame: Blame::Nobody };
            }
        };
        refused.map_or(Verdict::Take, |error: MempoolError| Verdict::Refuse {
            holds: error.holds(),
            blame: error.misbehaviour(),
        })
    }
}

impl Service {
    /// Notes what a peer has announced; the relay machine says how much of it.
    pub(super) fn on_announced(&mut self, ids: Vec<ShortId>, to: ReplyTo) {
        match to.peer() {
            // By an old state most of it would be refused. It is announced again.
            Some(_) if self.is_far_behind() => self.reply(to, &Response::failed("syncing: announce it again later")),
            Some(peer) => self.drive_relay_for(relay::Input::Announced { peer, ids }, Some(to)),
            None => self.reply(to, &Response::failed("only peers announce transactions")),
        }
    }

    /// Transactions of the mempool by their short ids.
    pub(super) fn pending(&self, ids: &[ShortId]) -> Response {
        Response::Pending(take_pending(ids.iter().map(|id| self.mempool.to_relay(*id))))
    }

    /// Images of the mempool by their transactions' short ids.
    pub(super) fn pixels(&self, ids: &[ShortId]) -> Response {
        let pixels = |id: &ShortId| Some(self.mempool.get_by_short_id(*id)?.pixels()?.to_vec());
        Response::Pixels(take_pixels(ids.iter().map(pixels)))
    }

    pub(super) fn on_relay_response(&mut self, peer: Peer, id: u64, result: Result<Response, Failure>) {
        if let Ok(response) = &result {
            self.traffic.relayed(response);
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
        if self.relay_wake.take_if(|at| *at <= now).is_some() {
            self.drive_relay(relay::Input::Woken);
        }
    }

    /// Gives the relay machine an input and does what it says, and so on with what follows from that. What comes up in the
    /// meantime waits its turn: the machine wants one input's outputs carried out before the next.
    pub(super) fn drive_relay(&mut self, input: relay::Input<Peer>) {
        self.drive_relay_for(input, None);
    }

    fn drive_relay_for(&mut self, input: relay::Input<Peer>, mut to: Option<ReplyTo>) {
        self.relay_inputs.push_back(input);
        if std::mem::replace(&mut self.is_driving_relay, true) {
            return;
        }
        while let Some(input) = self.relay_inputs.pop_front() {
            let view = View { chain: &self.chain, mempool: &self.mempool };
            for output in self.relay.handle(input, self.clock.now(), &view) {
                self.carry_out_relay(output, &mut to);
            }
        }
        self.is_driving_relay = false;
    }

    fn carry_out_relay(&mut self, output: relay::Output<Peer>, to: &mut Option<ReplyTo>) {
        match output {
            relay::Output::Send { peer, id, request } => self.ask(peer, &request, Asked::Relay(id)),
            relay::Output::Noted { count, .. } => {
                if let Some(to) = to.take() {
                    self.reply(to, &Response::Announce { noted: count });
                }
            }
            relay::Output::Take { peer, submission } => self.take_relayed(peer, submission),
            relay::Output::Penalize { peer, offence } => {
                tracing::debug!(%peer, ?offence, "a peer does not relay as it should");
                match misbehaviour(offence) {
                    Some(misbehaviour) => self.network.penalize(peer, misbehaviour),
                    None => drop(self.blame_in_vain(peer)),
                }
            }
            relay::Output::WakeAt(at) => self.relay_wake = Some(at),
        }
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
                        tracing::error!(reason = full_message(&error), "an account cannot be read");
                        Decision::Refuse(Holds::Not)
                    }
                }
            }
        };
        self.drive_relay(relay::Input::Decided { id, decision });
    }
}

/// What an offence is among all misbehaviours; `None` where the limits say how much of it is one.
fn misbehaviour(offence: Offence) -> Option<Misbehaviour> {
    match offence {
        // A block, or want of room, may have taken it from the peer since.
        Offence::Unserved => Some(Misbehaviour::Unserved),
        Offence::Stalled => Some(Misbehaviour::Stalled),
        Offence::BrokenTransaction => Some(Misbehaviour::BadTransaction),
        Offence::InVain => None,
        Offence::WrongTransaction | Offence::WrongPixels => Some(Misbehaviour::NotTheBlock),
        Offence::WrongResponse => Some(Misbehaviour::Malformed),
    }
}
