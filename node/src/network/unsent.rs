//! Own gossip that has found nobody yet.

use std::time::{Duration, Instant};

/// How much waits, and how long.
const MAX_UNSENT: usize = 64;
const MAX_UNSENT_BYTES: usize = 16 << 20;
const UNSENT_FOR: Duration = Duration::from_secs(60);

struct Message {
    topic: String,
    data: Vec<u8>,
    since: Instant,
}

/// Messages that wait for somebody to take part in their topic, oldest first.
#[derive(Default)]
pub(super) struct Unsent(Vec<Message>);

impl Unsent {
    /// Keeps a message; returns whether there was room.
    pub(super) fn keep(&mut self, topic: String, data: Vec<u8>, now: Instant) -> bool {
        let waiting: usize = self.0.iter().map(|unsent| unsent.data.len()).sum();
        let has_room = self.0.len() < MAX_UNSENT && waiting + data.len() <= MAX_UNSENT_BYTES;
        if has_room {
            self.0.push(Message { topic, data, since: now });
        }
        has_room
    }

    /// Takes out what waits on a topic.
    pub(super) fn take(&mut self, topic: &str) -> Vec<Vec<u8>> {
        self.0.extract_if(.., |unsent| unsent.topic == topic).map(|unsent| unsent.data).collect()
    }

    /// Forgets what has waited too long; returns how many messages that were.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let before = self.0.len();
        self.0.retain(|unsent| now.saturating_duration_since(unsent.since) < UNSENT_FOR);
        before - self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_in_order_and_not_for_ever() {
        let start = Instant::now();
        let mut unsent = Unsent::default();
        for (topic, data) in [("a", 1), ("b", 2), ("a", 3)] {
            assert!(unsent.keep(topic.into(), vec![data], start + Duration::from_secs(data.into())));
        }
        assert_eq!(unsent.take("a"), [vec![1], vec![3]]);
        assert_eq!(unsent.take("a"), Vec::<Vec<u8>>::new());
        assert_eq!(unsent.expire(start + UNSENT_FOR), 0);
        assert_eq!(unsent.expire(start + UNSENT_FOR + Duration::from_secs(2)), 1);
    }

    #[test]
    fn few_wait_and_few_bytes() {
        let now = Instant::now();
        let mut unsent = Unsent::default();
        assert!(unsent.keep("a".into(), vec![0; MAX_UNSENT_BYTES], now));
        assert!(!unsent.keep("a".into(), vec![0], now));
        unsent.take("a");
        assert_eq!((0..2 * MAX_UNSENT).filter(|_| unsent.keep("a".into(), vec![0], now)).count(), MAX_UNSENT);
    }
}
