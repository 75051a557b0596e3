//! Requests: what peers ask, and what is asked in this process, on a thread of its own.
//!
//! All that only reads is answered here from the [`View`](crate::view::View), and waits for nobody. The rest is handed to whom
//! it concerns, who answers by themselves: what is pending to the pool, tips to the core. What an answer costs comes back to the
//! [`RequestLimits`] here, whoever gave it.

mod control;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ocelli_protocol::limits::{RequestLimits, RequestRefusal, SLOW_MILLIS, proving};
use ocelli_protocol::message::{Request, Response, SubmitReply};

pub use control::{Owner, SNAPSHOT};

use crate::clock::Clock;
use crate::core;
use crate::full_message::full_message;
use crate::inbox::{Closed, Receiver, Sender};
use crate::ledger::NO_LEDGER;
use crate::network::{Misbehaviour, Peer, ResponseToken};
use crate::pool;
use crate::reply::{PeerReply, ReplyTo, Spent, Till};
use crate::store::StoreError;
use crate::traffic::Purpose;
use crate::view::{self, Figures, Views};

/// How often refusals that are said late are looked at, and how long there is nothing to do at the longest.
const TICK: Duration = Duration::from_millis(200);
/// How often figures whose rates are told are looked at.
const LOOK_MILLIS: u64 = 1_000;
/// Refusals that wait to be said. Beyond it the peers hear nothing.
const MAX_DELAYED: usize = 1024;

/// Bytes of responses that nobody has taken yet beyond which blocks are given one by one.
const PRESSED_BYTES: usize = 64 << 20;

/// What comes to requests.
pub enum Input {
    /// A peer asks.
    Peer(Peer, ResponseToken, Vec<u8>),
    /// Somebody in this process asks; answered as to a peer.
    Ask(Box<Request>, ReplyTo),
    /// End.
    Stop,
}

/// Who answers what only they know.
#[derive(Clone)]
pub struct Rooms {
    /// What is pending.
    pub pool: Sender<pool::Input>,
    /// What changes the chain.
    pub core: Sender<core::Input>,
}

/// All that the thread for requests owns.
pub struct Requests {
    views: Arc<Views>,
    figures: Figures,
    rooms: Rooms,
    owner: Owner,
    limits: RequestLimits<Peer>,
    /// What was spent on whom since it was last charged.
    spent: mpsc::Receiver<Spent>,
    till: Till,
    /// Refusals that are said late, in the order in which they are due.
    delayed: VecDeque<(u64, ReplyTo, Response)>,
    looked_at: u64,
    clock: Clock,
}

impl Requests {
    /// Answers from what `views` show.
    pub fn new(
        views: Arc<Views>,
        figures: Figures,
        rooms: Rooms,
        owner: Owner,
        (till, spent): (Till, mpsc::Receiver<Spent>),
        clock: Clock,
    ) -> Self {
        let (limits, delayed, looked_at) = (RequestLimits::new(clock.now()), VecDeque::new(), clock.now());
        Self { views, figures, rooms, owner, limits, spent, till, delayed, looked_at, clock }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, inbox: &Receiver<Input>) {
        loop {
            match inbox.next(TICK) {
                Ok(Some(Input::Stop)) | Err(Closed) => return,
                Ok(Some(input)) => self.handle(input),
                Ok(None) => {}
            }
            self.answer_delayed();
            self.look();
        }
    }

    /// Keeps the rates of figures fresh.
    fn look(&mut self) {
        let now = self.clock.now();
        if now.saturating_sub(self.looked_at) >= LOOK_MILLIS {
            self.looked_at = now;
            self.figures.look();
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Peer(peer, token, data) => self.on_peer(peer, token, &data),
            Input::Ask(request, to) => self.on_request(*request, to),
            Input::Stop => {} // is for the loop
        }
    }

    /// Answers a peer's request if it is one, and within what the peer may ask for.
    fn on_peer(&mut self, peer: Peer, token: ResponseToken, data: &[u8]) {
        let request = Request::from_bytes(data);
        let purpose = request.as_ref().map_or(Purpose::Other, Purpose::of);
        let to = ReplyTo::Peer(Box::new(PeerReply { peer, token, purpose, till: self.till.clone() }));
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.till.network.penalize(peer, Misbehaviour::Malformed);
                return to.send(&Response::failed(format!("not a request: {error}")));
            }
        };
        self.till.counted.received(purpose, data.len());
        match self.admit(peer, &request) {
            Ok(()) => self.on_request(request, to),
            Err(RequestRefusal::Tell(excess)) => to.send(&Response::failed(excess.to_string())),
            Err(RequestRefusal::Slow(excess)) => {
                if self.delayed.len() < MAX_DELAYED {
                    let due = self.clock.now() + SLOW_MILLIS;
                    self.delayed.push_back((due, to, Response::failed(excess.to_string())));
                }
            }
            Err(RequestRefusal::Penalize(excess)) => {
                tracing::debug!(%peer, %excess, "a peer does not heed the limits");
                self.till.network.penalize(peer, Misbehaviour::Flood);
            }
        }
    }

    /// Whether a peer's request is to be served, once it has paid for what it was given.
    fn admit(&mut self, peer: Peer, request: &Request) -> Result<(), RequestRefusal> {
        let now = self.clock.now();
        while let Ok(Spent { peer, bytes }) = self.spent.try_recv() {
            self.limits.charge(peer, bytes, now);
        }
        self.limits.admit(peer, request, now)
    }

    /// Says the refusals whose time has come.
    fn answer_delayed(&mut self) {
        let now = self.clock.now();
        while self.delayed.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, to, response)) = self.delayed.pop_front() else { return };
            to.send(&response);
        }
    }

    /// Answers a request, or hands it on.
    fn on_request(&mut self, request: Request, to: ReplyTo) {
        let response = match request {
            Request::Submit(_)
            | Request::Faucet(_)
            | Request::Announce { .. }
            | Request::Pending { .. }
            | Request::Attachments { .. } => return self.hand_to_pool(request, to),
            Request::NewTip(status) => {
                if let Some(peer) = to.peer() {
                    // One that is lost is told again with the next tip.
                    drop(self.rooms.core.offer(core::Input::NewTip(peer, status)));
                }
                Ok(Response::NewTip)
            }
            Request::Transactions { block, indexes } => match self.views.newest().transactions(&block, &indexes) {
                Ok(Some(found)) => Ok(Response::Transactions(found)),
                // Only announced here, and perhaps being put together.
                Ok(None) => return self.hand_to_core(core::Input::Announced(block, indexes, to)),
                Err(error) => Err(error),
            },
            Request::TransactionIds { block } => match self.views.newest().transaction_ids(&block) {
                Ok(Some(found)) => Ok(Response::TransactionIds(Some(found))),
                Ok(None) => return self.hand_to_core(core::Input::AnnouncedIds(block, to)),
                Err(error) => Err(error),
            },
            Request::Control { cookie, control } => return self.owner.on_control(&cookie, control, to),
            read => self.read(&read, to.peer()),
        };
        to.send(&response.unwrap_or_else(|error| failed(&error)));
    }

    /// Answers what only reads; what it turns out to cost, the peer is charged.
    fn read(&mut self, request: &Request, peer: Option<Peer>) -> Result<Response, StoreError> {
        Ok(match request {
            Request::Status => Response::Status(view::chain_status(&self.views.network, &self.views.newest())),
            Request::Headers { locator, limit } => {
                Response::Headers(self.views.newest().headers_after(locator, *limit as usize)?)
            }
            Request::Blocks { hashes } => {
                let is_pressed = self.till.network.untaken() > PRESSED_BYTES;
                let count = if is_pressed { hashes.len().min(1) } else { hashes.len() };
                Response::Blocks(self.views.newest().blocks(&hashes[..count])?)
            }
            Request::Block { by } => Response::Block(self.views.newest().block(*by)?.map(Box::new)),
            Request::Transaction { txid } => self.views.view().transaction(txid)?,
            Request::Account { address } => Response::Account(Box::new(self.views.view().account(*address)?)),
            Request::File { model, chunk } => Response::File(self.views.file(model, *chunk)?),
            Request::Models { from, limit } => Response::Models(self.views.view().chain.models(from, *limit)?),
            Request::Upload { sender } => Response::Upload(self.views.view().chain.upload(sender)?),
            Request::Ledger { address, before, limit, proofs } => {
                match self.views.view().ledger(*address, before.as_ref(), *limit, *proofs)? {
                    Some((page, gone_through)) => {
                        if let Some(peer) = peer {
                            self.limits.charge_work(peer, proving(gone_through), self.clock.now());
                        }
                        Response::Ledger(Box::new(page))
                    }
                    None => Response::failed(NO_LEDGER),
                }
            }
            Request::NodeStatus => Response::NodeStatus(Box::new(self.figures.node_status(&self.views)?)),
            Request::Fee { blocks } => Response::Fee(self.views.fee(*blocks)),
            other => Response::failed(format!("{other:?} is not answered")),
        })
    }

    fn hand_to_pool(&self, request: Request, to: ReplyTo) {
        if let Err(pool::Input::Ask(request, to)) = self.rooms.pool.offer(pool::Input::Ask(Box::new(request), to)) {
            to.send(&match *request {
                Request::Submit(_) => {
                    Response::Submitted(SubmitReply::refused(SubmitReply::BUSY, "too much waits: ask again later"))
                }
                _ => Response::failed("too much waits: ask again later"),
            });
        }
    }

    fn hand_to_core(&self, input: core::Input) {
        match self.rooms.core.offer(input) {
            Err(core::Input::Announced(.., to)) => to.send(&Response::Transactions(Vec::new())),
            Err(core::Input::AnnouncedIds(_, to)) => to.send(&Response::TransactionIds(None)),
            _ => {}
        }
    }
}

/// A question that the store fails is answered so; whether the node can go on is for its core to find.
fn failed(error: &StoreError) -> Response {
    tracing::error!(reason = full_message(error), "a question failed");
    Response::failed(format!("the node cannot read its store: {}", full_message(error)))
}
