//! Connections: so many at a time, who asks on each, and which of them makes room for another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections at a time. The one that has asked nothing for longest makes room for a new one; where all ask something, the one
/// whose body is furthest behind.
pub const MAX_CONNECTIONS: usize = 2_048;

/// All connections, the oldest first.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    count: Gauge,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, Arc<Work>>,
}

/// An open connection; it counts until it is dropped.
pub(super) struct Connection {
    id: u64,
    work: Arc<Work>,
    connections: Arc<Connections>,
}

/// What a connection does.
#[derive(Debug, Default)]
pub(super) struct Work {
    doing: Mutex<Doing>,
    make_room: Notify,
}

#[derive(Debug, Default)]
struct Doing {
    /// That are being answered.
    requests: usize,
    /// Where a body is still coming: when it is given up unless more of it comes.
    body_until: Option<Instant>,
}

/// What a connection does that makes room for others, in the order in which they do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Idle {
    AsksNothing,
    SendsBody(Instant),
}

/// Who asks: put beside every request.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) ip: IpAddr,
    /// The connection, which is at work while a copy of this is held.
    at_work: Arc<AtWork>,
}

#[derive(Debug)]
struct AtWork(Arc<Work>);

impl Connections {
    pub(super) fn new(count: Gauge) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), count })
    }

    /// Takes a new connection; `None` where all places are taken by those that wait for their answers.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Connection> {
        let mut open = self.open();
        if open.all.len() >= MAX_CONNECTIONS {
            let idle = open.all.iter().filter_map(|(id, work)| Some((work.idle()?, *id)));
            let (_, id) = idle.min()?;
            open.all.remove(&id)?.make_room.notify_one();
        }
        let (id, work) = (open.next, Arc::new(Work::default()));
        open.next += 1;
        open.all.insert(id, Arc::clone(&work));
        self.count.inc();
        Some(Connection { id, work, connections: Arc::clone(self) })
    }

    /// Locked for a few steps only, each whole in itself.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(super) fn work(&self) -> Arc<Work> {
        Arc::clone(&self.work)
    }

    /// Ends when the connection is to make room for another.
    pub(super) async fn makes_room(&self) {
        self.work.make_room.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open().all.remove(&self.id);
        self.connections.count.dec();
    }
}

impl Work {
    fn idle(&self) -> Option<Idle> {
        let doing = self.doing();
        if doing.requests == 0 { Some(Idle::AsksNothing) } else { doing.body_until.map(Idle::SendsBody) }
    }

    /// Locked for a few steps only, each whole in itself.
    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Begins a request of a connection.
    pub(super) fn begin(ip: IpAddr, work: Arc<Work>) -> Self {
        let mut doing = work.doing();
        doing.requests += 1;
        doing.body_until = None;
        drop(doing);
        Self { ip, at_work: Arc::new(AtWork(work)) }
    }

    /// A body is still coming, and is given up at that moment unless more of it comes.
    pub(super) fn sends_until(&self, until: Instant) {
        self.at_work.0.doing().body_until = Some(until);
    }

    /// All of the body is here: from now on the client waits for the node.
    pub(super) fn has_sent(&self) {
        self.at_work.0.doing().body_until = None;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.doing().requests -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_make_room_that_ask_nothing_and_then_those_who_are_furthest_behind() {
        let connections = Connections::new(Gauge::default());
        let mut open: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connections.admit().unwrap()).collect();
        let now = Instant::now();
        let begin = |connection: &Connection| Client::begin([127, 0, 0, 1].into(), connection.work());
        let left = |open: &[Connection]| -> Vec<u64> {
            let all = &connections.open().all;
            open.iter().map(|connection| connection.id).filter(|id| !all.contains_key(id)).collect()
        };
        let clients: Vec<_> = open.iter().map(begin).collect();
        // All wait for answers: the door is shut.
        assert!(connections.admit().is_none());
        for (client, seconds) in clients.iter().zip([9, 7, 8]) {
            client.sends_until(now + Duration::from_secs(seconds));
        }
        clients[2].has_sent();
        open.push(connections.admit().unwrap());
        assert_eq!(left(&open), [1]);
        // What asks nothing goes first.
        open.push(connections.admit().unwrap());
        let first = MAX_CONNECTIONS as u64;
        assert_eq!(left(&open), [1, first]);
        let last = begin(&open[MAX_CONNECTIONS + 1]);
        open.push(connections.admit().unwrap());
        assert_eq!(left(&open), [0, 1, first]);
        // Whoever has its answer asks nothing.
        let next = begin(&open[MAX_CONNECTIONS + 2]);
        assert!(connections.admit().is_none());
        drop(last);
        assert!(connections.admit().is_some());
        drop((clients, next));
    }
}
