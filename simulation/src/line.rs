//! A node's line: messages share what it sends a chunk at a time, and queue for what it receives.

use std::collections::VecDeque;
use std::sync::Arc;

use ocelli_protocol::message::{Request, Response};

use crate::block::Block;
use crate::world::Bandwidth;

/// Bytes of one message that go out before those of the next, as connections share a line.
const CHUNK: u64 = 16 << 10;

/// What one node sends another.
#[derive(Debug, Clone)]
pub enum Message {
    /// A block, by gossip.
    Announcement(Arc<Block>),
    /// What a machine asks.
    Request(u64, Arc<Request>),
    /// What answers it.
    Response(u64, Arc<Response>),
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: usize,
    /// Names the connection: a later one with the same node is another.
    pub connection: u64,
    pub message: Message,
    /// Bytes in all.
    pub bytes: u64,
    left: u64,
}

impl Outgoing {
    /// A message of so many bytes.
    pub fn new(to: usize, connection: u64, message: Message, bytes: u64) -> Self {
        Self { to, connection, message, bytes, left: bytes }
    }

    /// Whether none of it has gone out.
    pub fn is_whole(&self) -> bool {
        self.left == self.bytes
    }
}

/// A node's line.
#[derive(Debug)]
pub struct Line {
    bandwidth: Bandwidth,
    waiting: VecDeque<Outgoing>,
    sending: Option<Outgoing>,
    /// When all that is on its way in has come.
    received_at: u64,
}

impl Line {
    /// An idle line.
    pub fn new(bandwidth: Bandwidth) -> Self {
        Self { bandwidth, waiting: VecDeque::new(), sending: None, received_at: 0 }
    }

    /// Puts a message behind those that wait.
    pub fn push(&mut self, message: Outgoing) {
        self.waiting.push_back(message);
    }

    /// Begins the next chunk, if the line is free, leaving out messages that need not be sent any more. Returns how long the
    /// chunk takes.
    pub fn begin(&mut self, mut is_needless: impl FnMut(&Outgoing) -> bool) -> Option<u64> {
        if self.sending.is_some() {
            return None;
        }
        let mut next = loop {
            let next = self.waiting.pop_front()?;
            if !is_needless(&next) {
                break next;
            }
        };
        let chunk = next.left.min(CHUNK);
        next.left -= chunk;
        self.sending = Some(next);
        Some(time(chunk, self.bandwidth.up))
    }

    /// The chunk has gone out. Returns the message if it was its last.
    pub fn end(&mut self) -> Option<Outgoing> {
        let sent = self.sending.take()?;
        if sent.left == 0 {
            return Some(sent);
        }
        self.waiting.push_back(sent);
        None
    }

    /// When a message that would come at a time over an idle line is there.
    pub fn receive(&mut self, at: u64, bytes: u64) -> u64 {
        self.received_at = at.max(self.received_at + time(bytes, self.bandwidth.down));
        self.received_at
    }

    /// The node is gone, and what it was sending with it.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.sending = None;
    }
}

fn time(bytes: u64, bytes_per_second: u64) -> u64 {
    bytes * 1_000_000 / bytes_per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_share_the_line() {
        let mut line = Line::new(Bandwidth { up: CHUNK, down: CHUNK });
        let message = |to, bytes| Outgoing::new(to, 0, Message::Request(0, Arc::new(Request::Status)), bytes);
        line.push(message(1, 2 * CHUNK));
        line.push(message(2, CHUNK / 2));
        line.push(message(3, CHUNK));
        let mut log = Vec::new();
        let mut now = 0;
        // The third is not needed when its turn comes.
        while let Some(time) = line.begin(|message| message.to == 3) {
            now += time;
            log.extend(line.end().map(|message| (now, message.to)));
        }
        assert_eq!(log, [(1_500_000, 2), (2_500_000, 1)]);
        // A second's worth comes at 5 s; the next at 5.5 s has to wait for it.
        assert_eq!(line.receive(5_000_000, CHUNK), 5_000_000);
        assert_eq!(line.receive(5_500_000, CHUNK), 6_000_000);
    }
}
