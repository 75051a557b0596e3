//! `/v1/events`: what happens, as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! The latest are kept, so that a client whose connection breaks misses nothing: it says the last id that it has seen, as every
//! browser does by itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use futures::Stream;
use ocelli_consensus::BlockHash;
use ocelli_program::output::to_json;
use serde::Serialize;
use tokio::sync::watch;

use super::Api;
use super::chain::MempoolInfo;
use super::connections::Client;
use super::places::{Caller, Place, Places};
use super::problem::Problem;
use crate::chain::Moved;
use crate::view::Views;

/// Events that are kept: some minutes at the most that there are.
const KEPT: usize = 1_024;
/// Clients that listen at a time, of those who show the token and of all others.
const LISTENERS: usize = 512;
/// How often a line goes to who listens while nothing happens, so that nobody between takes the connection for dead.
const QUIET: Duration = Duration::from_secs(15);
/// How often it is looked whether what is pending has changed.
const MEMPOOL: Duration = Duration::from_secs(1);

/// What has happened lately, and who listens.
pub struct Events {
    /// Told apart from those of other runs.
    run: String,
    latest: Mutex<VecDeque<Arc<Event>>>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    listeners: Arc<Places>,
}

/// Something that happened.
struct Event {
    number: u64,
    kind: &'static str,
    /// JSON.
    data: String,
    audience: Audience,
}

/// Who may hear of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Audience {
    Everybody,
    /// The node's owner.
    Owner,
}

/// `block`: a block was connected.
#[derive(Serialize)]
struct Block {
    height: u64,
    hash: BlockHash,
    parent: BlockHash,
    /// Seconds since 1970.
    time: u64,
    transactions: usize,
}

/// `reorganization`: blocks were taken off the chain, whose transactions are pending again; others follow.
#[derive(Serialize)]
struct Reorganization {
    /// The highest block that stays.
    fork_height: u64,
    /// Highest first.
    disconnected: Vec<BlockHash>,
}

/// `start`: where the node stands when a client begins to listen.
#[derive(Serialize)]
struct Start {
    height: u64,
    tip: BlockHash,
    /// Whether there were events since the one that the client has seen last that are not kept: it had better ask anew.
    missed: bool,
}

impl Start {
    fn of(views: &Views, missed: bool) -> Self {
        let view = views.view();
        Self { height: view.chain.tip.height, tip: view.chain.tip.hash, missed }
    }
}

impl Events {
    /// Nothing has happened yet.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> std::io::Result<Self> {
        let mut run = [0; 6];
        getrandom::fill(&mut run).map_err(std::io::Error::other)?;
        Ok(Self {
            run: hex::encode(run),
            latest: Mutex::default(),
            last: watch::Sender::new(0),
            listeners: Places::new("clients listen to events", LISTENERS),
        })
    }

    /// The tip has moved, as can be seen by whoever asks.
    pub fn moved(&self, disconnected: &[Moved], connected: &[Moved]) {
        if let Some(lowest) = disconnected.last() {
            self.add(
                "reorganization",
                &Reorganization {
                    fork_height: lowest.header.height.saturating_sub(1),
                    disconnected: disconnected.iter().map(|block| block.hash).collect(),
                },
            );
        }
        // Of more than are kept only the last are of use.
        for block in &connected[connected.len().saturating_sub(KEPT)..] {
            self.add(
                "block",
                &Block {
                    height: block.header.height,
                    hash: block.hash,
                    parent: block.header.parent,
                    time: block.header.time,
                    transactions: block.body.transactions.len(),
                },
            );
        }
    }

    /// Told when something has happened: the number of the last event.
    pub(super) fn happened(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Something that concerns the node's owner has happened.
    pub(super) fn add_own(&self, kind: &'static str, data: &impl Serialize) {
        self.add_for(Audience::Owner, kind, data);
    }

    fn add(&self, kind: &'static str, data: &impl Serialize) {
        self.add_for(Audience::Everybody, kind, data);
    }

    fn add_for(&self, audience: Audience, kind: &'static str, data: &impl Serialize) {
        let Ok(Ok(data)) = to_json(data).map(String::from_utf8) else { return };
        let mut latest = self.latest();
        let number = *self.last.borrow() + 1;
        latest.push_back(Arc::new(Event { number, kind, data, audience }));
        if latest.len() > KEPT {
            latest.pop_front();
        }
        self.last.send_replace(number);
    }

    /// The first event that is kept after one; `None` if there is none yet.
    fn after(&self, number: u64) -> Option<Arc<Event>> {
        let latest = self.latest();
        let at = latest.partition_point(|event| event.number <= number);
        latest.get(at).cloned()
    }

    /// The number of the event with which a client goes on, and whether it has missed some.
    fn resume(&self, id: Option<&str>) -> (u64, bool) {
        let latest = self.latest();
        let last = *self.last.borrow();
        let Some(id) = id else { return (last, false) };
        let number = id.split_once('-').filter(|(run, _)| *run == self.run).and_then(|(_, number)| number.parse().ok());
        match number.filter(|number| *number <= last) {
            Some(number) => (number, latest.front().is_some_and(|first| first.number > number + 1)),
            None => (last, true),
        }
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// Locked for a few steps only, each whole in itself.
    fn latest(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes changes of what is pending, for as long as the API runs.
pub(super) async fn watch_mempool(events: Arc<Events>, views: Arc<Views>) {
    let mut known = None;
    loop {
        tokio::time::sleep(MEMPOOL).await;
        let view = views.view();
        let mempool = MempoolInfo::of(&view);
        if known.as_ref() != Some(&mempool) {
            events.add("mempool", &mempool);
            known = Some(mempool);
        }
    }
}

/// A client that listens.
struct Listener {
    api: Arc<Api>,
    /// The last event that it was sent.
    number: u64,
    last: watch::Receiver<u64>,
    start: Option<Start>,
    audience: Audience,
    _place: Place,
    /// Not idle, though nothing may happen for long.
    _client: Option<Client>,
}

/// Tells what happens, as it happens
///
/// Server-sent events: `start`, `block`, `reorganization` and `mempool`, each with JSON; and `task`, of the node's own tasks, to its
/// owner. With the header `Last-Event-ID` what
/// came since is told first; where that is not kept any more, `start` says `"missed": true`.
#[utoipa::path(
    get, path = "/v1/events", tag = "chain",
    params(("last-event-id" = Option<String>, Header, description = "The last id that was seen")),
    responses(
        (status = OK, description = "Events without end", body = String, content_type = "text/event-stream"),
        (status = TOO_MANY_REQUESTS, description = "This address listens often enough"),
    )
)]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    client: Option<axum::Extension<Client>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let place = api.events.listeners.take(caller)?;
    let last = api.events.happened();
    let audience = if api.guard.is_owner(&headers) { Audience::Owner } else { Audience::Everybody };
    let (number, missed) = api.events.resume(headers.get("last-event-id").and_then(|id| id.to_str().ok()));
    let start = Some(Start::of(&api.views, missed));
    let listener =
        Listener { number, last, start, audience, _place: place, _client: client.map(|client| client.0), api };
    Ok(Sse::new(futures::stream::unfold(listener, next)).keep_alive(KeepAlive::new().interval(QUIET)))
}

/// The next event for a client. Whoever is so slow that it was not kept hears of that.
async fn next(mut listener: Listener) -> Option<(Result<Message, Infallible>, Listener)> {
    loop {
        let events = &listener.api.events;
        if let Some(start) = listener.start.take() {
            let data = String::from_utf8(to_json(&start).ok()?).ok()?;
            let message = Message::default().event("start").id(events.id(listener.number)).data(data);
            return Some((Ok(message), listener));
        }
        match events.after(listener.number) {
            Some(event) if event.number > listener.number + 1 => {
                listener.number = event.number - 1;
                listener.start = Some(Start::of(&listener.api.views, true));
            }
            Some(event) if event.audience > listener.audience => listener.number = event.number,
            Some(event) => {
                let message = Message::default().event(event.kind).id(events.id(event.number)).data(&event.data);
                listener.number = event.number;
                return Some((Ok(message), listener));
            }
            None => listener.last.changed().await.ok()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_on_where_they_were_as_far_as_events_are_kept() {
        let events = Events::new().unwrap();
        assert_eq!(events.resume(None), (0, false));
        let id = |number| events.id(number);
        assert_eq!(events.resume(Some(&id(0))), (0, false));
        for transactions in 1..=KEPT {
            events.add("mempool", &MempoolInfo { transactions, bytes: 7 });
        }
        let last = KEPT as u64;
        assert_eq!(events.resume(None), (last, false));
        assert_eq!(events.resume(Some(&id(0))), (0, false), "all are kept");
        events.add("mempool", &MempoolInfo { transactions: 0, bytes: 0 });
        assert_eq!(events.resume(Some(&id(0))), (0, true), "the first is gone");
        assert_eq!(events.resume(Some(&id(1))), (1, false));
        assert_eq!(events.after(1).map(|event| event.number), Some(2));
        assert_eq!(events.after(last).map(|event| event.data.clone()).unwrap(), r#"{"transactions":0,"bytes":0}"#);
        assert!(events.after(last + 1).is_none());
        // Of another run, of the future, or none at all.
        for other in ["abc-1", &id(last + 2), "", "-", &events.run] {
            assert_eq!(events.resume(Some(other)), (last + 1, true), "{other}");
        }
        assert_eq!(events.latest().len(), KEPT);
    }
}
