//! How long clients may take.

use std::time::Duration;

/// How long clients may take. The defaults are guesses: who has a line of 256 kbit/s is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the head of a request, or without asking anything.
    pub head: Duration,
    /// Without sending any of a body that is not whole.
    pub silence: Duration,
    /// How far a body may fall behind [`slowest`](Self::slowest). What comes faster does not make up for what comes later.
    pub behind: Duration,
    /// The slowest that a body may come for long, in bytes a second.
    pub slowest: u32,
    /// Without taking any of what it is sent.
    pub unread: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            silence: Duration::from_secs(10),
            behind: Duration::from_secs(20),
            slowest: 16 << 10,
            unread: Duration::from_secs(30),
        }
    }
}
