//! The inbox of a room: what comes to the one thread that owns something.
//!
//! What may get lost is offered, and refused where too much waits already. What may not is sent: there is room for four times as
//! much, and beyond that whoever sends it waits. What a room has asked for itself is left, without ever waiting: there are never
//! more answers than there were questions, and those are few.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

/// How much of what may get lost waits at a time.
pub const OFFERED: usize = 1_024;
/// How much waits at a time of all but answers.
const SENT: usize = 4 * OFFERED;

/// Makes both ends of an inbox.
pub fn inbox<T>() -> (Sender<T>, Receiver<T>) {
    let (sent, from_others) = mpsc::sync_channel(SENT);
    let (answers, from_questions) = mpsc::channel();
    let (waiting, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let sender = Sender { sent, answers, waiting: Arc::clone(&waiting), left: Arc::clone(&left) };
    (sender, Receiver { from_others, from_questions, waiting, left })
}

/// Puts things into an inbox.
#[derive(Debug)]
pub struct Sender<T> {
    sent: SyncSender<Option<T>>,
    answers: mpsc::Sender<T>,
    /// Of what was sent and offered.
    waiting: Arc<AtomicUsize>,
    /// Of answers.
    left: Arc<AtomicUsize>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            sent: self.sent.clone(),
            answers: self.answers.clone(),
            waiting: Arc::clone(&self.waiting),
            left: Arc::clone(&self.left),
        }
    }
}

impl<T> Sender<T> {
    /// Puts in what may get lost.
    ///
    /// # Errors
    /// Hands it back if too much waits, or nobody takes anything any more.
    pub fn offer(&self, thing: T) -> Result<(), T> {
        // Counted first: it may be taken, and counted as taken, before we go on.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= OFFERED {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(thing);
        }
        self.sent.try_send(Some(thing)).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let (mpsc::TrySendError::Full(thing) | mpsc::TrySendError::Disconnected(thing)) = error;
            thing.expect("what was sent is something")
        })
    }

    /// Puts in what may not get lost, and waits while the inbox is full. False if nobody takes anything any more.
    pub fn send(&self, thing: T) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.sent.send(Some(thing)).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// Puts in the answer to something that the owner of the inbox has asked for; it never waits.
    pub fn reply(&self, answer: T) {
        // If nobody takes it, nobody needs it; if there is no room to wake the owner, it is awake.
        self.left.fetch_add(1, Ordering::Relaxed);
        drop(self.answers.send(answer));
        self.wake();
    }

    /// Has the owner look around, if it sleeps.
    pub fn wake(&self) {
        drop(self.sent.try_send(None));
    }
}

/// Takes things out of an inbox.
#[derive(Debug)]
pub struct Receiver<T> {
    from_others: mpsc::Receiver<Option<T>>,
    from_questions: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

/// Nobody can put anything in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl<T> Receiver<T> {
    /// Whether answers wait to be taken.
    pub fn has_answers(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    fn answer(&self) -> Option<T> {
        let answer = self.from_questions.try_recv().ok()?;
        self.left.fetch_sub(1, Ordering::Relaxed);
        Some(answer)
    }

    /// The next thing, answers first; `None` if none comes in that time, or the owner was only woken.
    ///
    /// # Errors
    /// If nobody can put anything in any more.
    pub fn next(&self, patience: Duration) -> Result<Option<T>, Closed> {
        if let Some(answer) = self.answer() {
            return Ok(Some(answer));
        }
        match self.from_others.recv_timeout(patience) {
            Ok(Some(thing)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Ok(Some(thing))
            }
            // Woken: for an answer, or for one that has been taken already.
            Ok(None) => Ok(self.answer()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_get_lost_leaves_room_for_what_may_not() {
        let (sender, receiver) = inbox();
        let offered = (0..2 * OFFERED).filter(|number| sender.offer(*number).is_ok()).count();
        assert_eq!(offered, OFFERED);
        assert_eq!(sender.offer(7), Err(7));
        for number in OFFERED..SENT {
            assert!(sender.send(number));
        }
        // Full to the brim, answers still find their way, and come first.
        sender.reply(1_000_000);
        let mut taken = Vec::new();
        while let Some(number) = receiver.next(Duration::ZERO).unwrap() {
            taken.push(number);
        }
        assert_eq!(taken[0], 1_000_000);
        assert!(taken[1..].iter().copied().eq(0..SENT), "in order");
        assert_eq!(sender.offer(1), Ok(()), "there is room again");
    }

    #[test]
    fn an_answer_wakes_the_owner() {
        let (sender, receiver) = inbox();
        std::thread::spawn(move || sender.reply(5));
        let mut found = None;
        while found.is_none() {
            found = receiver.next(Duration::from_secs(60)).unwrap_or_else(|Closed| receiver.answer());
        }
        assert_eq!(found, Some(5));
    }

    #[test]
    fn who_sends_waits_until_there_is_room() {
        let (sender, receiver) = inbox();
        for number in 0..SENT {
            assert!(sender.send(number));
        }
        let last = std::thread::spawn(move || sender.send(SENT));
        for number in 0..=SENT {
            let mut next = None;
            while next.is_none() {
                next = receiver.next(Duration::from_secs(60)).unwrap();
            }
            assert_eq!(next, Some(number));
        }
        assert!(last.join().unwrap());
    }

    #[test]
    fn nothing_comes_after_the_last_sender_or_the_receiver_is_gone() {
        let (sender, receiver) = inbox::<u8>();
        drop(sender);
        assert_eq!(receiver.next(Duration::ZERO), Err(Closed));
        let (sender, receiver) = inbox::<u8>();
        drop(receiver);
        sender.reply(1);
        assert!(!sender.send(2));
        assert_eq!(sender.offer(3), Err(3));
    }
}
