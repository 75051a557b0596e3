//! The queue of events between the swarm task, which never waits, and the consumer, which may.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::NetworkEvent;

/// Makes both ends of a queue for `events` events of together `bytes` bytes.
pub(super) fn queue(events: usize, bytes: usize) -> (EventQueue, Events) {
    let (sender, receiver) = mpsc::channel(events.max(1));
    let queued = Arc::new(AtomicUsize::new(0));
    let queue = EventQueue { sender, queued: queued.clone(), max_bytes: bytes, kept: VecDeque::new() };
    (queue, Events { receiver, queued })
}

/// The consumer's end: the events in the order in which they happened.
pub struct Events {
    receiver: mpsc::Receiver<NetworkEvent>,
    queued: Arc<AtomicUsize>,
}

/// Why [`Events::try_recv`] has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing has happened yet.
    #[error("no event is waiting")]
    Empty,
    /// The network has ended.
    #[error("the network has shut down")]
    Closed,
}

impl Events {
    /// The next event; `None` after the network has ended. Safe to drop while it waits.
    pub async fn recv(&mut self) -> Option<NetworkEvent> {
        let event = self.receiver.recv().await;
        self.taken(event)
    }

    /// The next event, for a plain thread; `None` after the network has ended.
    ///
    /// # Panics
    /// When called from async code.
    pub fn blocking_recv(&mut self) -> Option<NetworkEvent> {
        let event = self.receiver.blocking_recv();
        self.taken(event)
    }

    /// The next event if there is one already.
    ///
    /// # Errors
    /// There is none, or there will be none any more.
    pub fn try_recv(&mut self) -> Result<NetworkEvent, TryRecvError> {
        match self.receiver.try_recv() {
            Ok(event) => {
                self.queued.fetch_sub(event.size(), Ordering::Relaxed);
                Ok(event)
            }
            Err(mpsc::error::TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(TryRecvError::Closed),
        }
    }

    fn taken(&self, event: Option<NetworkEvent>) -> Option<NetworkEvent> {
        if let Some(event) = &event {
            self.queued.fetch_sub(event.size(), Ordering::Relaxed);
        }
        event
    }
}

/// The swarm task's end.
pub(super) struct EventQueue {
    sender: mpsc::Sender<NetworkEvent>,
    /// Bytes in the channel.
    queued: Arc<AtomicUsize>,
    max_bytes: usize,
    /// What may not get lost and finds no room. At most two connection events a peer that is open or told as open (see
    /// [`EventQueue::insist`]), one response a request, one event a listening address.
    kept: VecDeque<NetworkEvent>,
}

impl EventQueue {
    /// Queues what may be dropped.
    ///
    /// # Errors
    /// Hands the event back if there is no room.
    pub(super) fn offer(&mut self, event: NetworkEvent) -> Result<(), Box<NetworkEvent>> {
        let size = event.size();
        if !self.kept.is_empty() || self.queued.load(Ordering::Relaxed).saturating_add(size) > self.max_bytes {
            return Err(Box::new(event));
        }
        self.send(event)
    }

    /// Queues what may not be dropped, and keeps it if there is no room.
    ///
    /// A peer that comes and goes while nobody looks leaves nothing behind.
    pub(super) fn insist(&mut self, event: NetworkEvent) {
        let event = if self.kept.is_empty() {
            match self.send(event) {
                Ok(()) => return,
                Err(event) => *event,
            }
        } else {
            event
        };
        match &event {
            NetworkEvent::Disconnected { peer } => {
                let came =
                    |kept: &NetworkEvent| matches!(kept, NetworkEvent::Connected { peer: other, .. } if other == peer);
                if let Some(index) = self.kept.iter().rposition(came) {
                    self.kept.remove(index);
                    return;
                }
            }
            NetworkEvent::Listening(address)
                if self.kept.iter().any(|kept| matches!(kept, NetworkEvent::Listening(other) if other == address)) =>
            {
                return;
            }
            _ => {}
        }
        self.kept.push_back(event);
    }

    /// Whether something waits for [`EventQueue::deliver`].
    pub(super) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Waits for room and moves one kept event there. Safe to drop while it waits.
    pub(super) async fn deliver(&mut self) {
        let Ok(permit) = self.sender.reserve().await else {
            self.kept.clear();
            return;
        };
        if let Some(event) = self.kept.pop_front() {
            self.queued.fetch_add(event.size(), Ordering::Relaxed);
            permit.send(event);
        }
    }

    /// Whether the consumer is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn send(&mut self, event: NetworkEvent) -> Result<(), Box<NetworkEvent>> {
        let size = event.size();
        // Counted first: the consumer may take it, and subtract, before we go on.
        self.queued.fetch_add(size, Ordering::Relaxed);
        self.sender.try_send(event).map_err(|error| {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(event) | mpsc::error::TrySendError::Closed(event) => Box::new(event),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::network::{GossipId, Group, Peer, RequestFailure, RequestId};

    fn connected(peer: Peer) -> NetworkEvent {
        let group = Group::of_dialled("");
        NetworkEvent::Connected { peer, address: String::new(), group, inbound: false, light: false, protocol: None }
    }

    fn gossip(bytes: usize) -> NetworkEvent {
        let id = GossipId { message: [0; 32], source: PeerId::random() };
        NetworkEvent::Gossip { id, topic: String::new(), source: Peer(PeerId::random()), data: vec![0; bytes] }
    }

    fn response(number: u64, peer: Peer) -> NetworkEvent {
        NetworkEvent::Response { id: RequestId { number, asker: 0 }, peer, result: Err(RequestFailure::TimedOut) }
    }

    /// Drains both stages and names what comes out.
    async fn drain(queue: &mut EventQueue, events: &mut Events) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            while let Ok(event) = events.try_recv() {
                names.push(match event {
                    NetworkEvent::Connected { peer, .. } => format!("+{peer}"),
                    NetworkEvent::Disconnected { peer } => format!("-{peer}"),
                    NetworkEvent::Response { id, .. } => format!("response {}", id.number),
                    NetworkEvent::Gossip { data, .. } => format!("gossip {}", data.len()),
                    other => format!("{other:?}"),
                });
            }
            if !queue.keeps() {
                return names;
            }
            queue.deliver().await;
        }
    }

    #[tokio::test]
    async fn what_matters_is_kept_in_order_and_gossip_is_not() {
        let (mut queue, mut events) = queue(2, 1 << 20);
        let [a, b] = [Peer(PeerId::random()), Peer(PeerId::random())];
        queue.insist(connected(a));
        queue.offer(gossip(7)).expect("room");
        queue.offer(gossip(8)).expect_err("full");
        queue.insist(response(1, a));
        queue.insist(NetworkEvent::Disconnected { peer: a });
        queue.insist(connected(b));
        assert!(matches!(events.try_recv(), Ok(NetworkEvent::Connected { .. })));
        queue.offer(gossip(9)).expect_err("what is kept comes first");
        assert_eq!(
            drain(&mut queue, &mut events).await,
            ["gossip 7".into(), "response 1".into(), format!("-{a}"), format!("+{b}")]
        );
        assert_eq!(queue.queued.load(Ordering::Relaxed), 0);
        queue.offer(gossip(10)).expect("room again");
    }

    #[tokio::test]
    async fn a_peer_that_comes_and_goes_unseen_leaves_nothing() {
        let (mut queue, mut events) = queue(1, 1 << 20);
        let known = Peer(PeerId::random());
        queue.insist(connected(known));
        queue.insist(NetworkEvent::Disconnected { peer: known });
        for _ in 0..1000 {
            let stranger = Peer(PeerId::random());
            queue.insist(connected(known));
            queue.insist(connected(stranger));
            queue.insist(NetworkEvent::Disconnected { peer: stranger });
            queue.insist(NetworkEvent::Disconnected { peer: known });
            assert!(queue.kept.len() <= 3);
            queue.insist(NetworkEvent::Listening("/ip4/1.2.3.4/tcp/1".into()));
        }
        assert_eq!(queue.kept.len(), 2, "the disconnection and the address");
        let names = drain(&mut queue, &mut events).await;
        assert_eq!(names[..2], [format!("+{known}"), format!("-{known}")]);
    }

    #[test]
    fn bytes_are_bounded() {
        let (mut queue, mut events) = queue(100, 3000);
        queue.offer(gossip(2000)).expect("room");
        queue.offer(gossip(2000)).expect_err("too many bytes");
        events.try_recv().expect("the first");
        queue.offer(gossip(2000)).expect("room again");
        drop(queue);
        events.try_recv().expect("the second");
        assert_eq!(events.try_recv().expect_err("ended"), TryRecvError::Closed);
    }
}
