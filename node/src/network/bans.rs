//! Bans: who is kept out, until when and why. They are temporary, and the node keeps them over a restart.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{NetworkError, Peer};

/// Bans that are remembered.
pub const MAX_BANS: usize = 2048;

/// The longest reason kept, in characters.
const MAX_REASON: usize = 120;

/// Whom a ban keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BanSubject {
    /// A peer, wherever it comes from.
    Peer(Peer),
    /// Whoever comes from an address. Never loopback, which is every program on this machine.
    Ip(IpAddr),
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whom it keeps out.
    pub subject: BanSubject,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    pub reason: String,
    /// The peer for whose sake its address is banned: both bans are lifted together.
    pub of: Option<Peer>,
}

impl BanSubject {
    /// An address to ban, in its one form.
    ///
    /// # Errors
    /// [`NetworkError::BanLoopback`]: it is this machine's own.
    pub fn ip(ip: IpAddr) -> Result<Self, NetworkError> {
        let ip = ip.to_canonical();
        if ip.is_loopback() { Err(NetworkError::BanLoopback { ip }) } else { Ok(Self::Ip(ip)) }
    }
}

impl FromStr for BanSubject {
    type Err = NetworkError;

    /// Reads a peer id or an IP address.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Self::ip(ip),
            Err(_) => text.parse().map(Self::Peer),
        }
    }
}

impl fmt::Display for BanSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The longest time that a ban holds.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// All bans. Bounded: if there are too many, the one that ends first gives way.
///
/// While the process runs they end by monotonic time, so that nobody who sets the clock on the wall lifts or prolongs one; only
/// what is shown and written down has ends by that clock.
#[derive(Default)]
pub(super) struct Bans {
    bans: HashMap<BanSubject, Held>,
    /// Counts changes, so that whoever writes bans down knows when to.
    version: u64,
}

/// What is known of a ban beside its subject.
struct Held {
    ends: Instant,
    reason: String,
    of: Option<Peer>,
}

impl Bans {
    /// Those of an earlier run that still hold at `unix_now`, in seconds since 1970.
    pub(super) fn of(bans: &[Ban], now: Instant, unix_now: u64) -> Self {
        let mut all = Self::default();
        for ban in bans.iter().filter(|ban| ban.until > unix_now) {
            all.add(ban.subject, Duration::from_secs(ban.until - unix_now), &ban.reason, ban.of, now);
        }
        all.version = 0;
        all
    }

    /// Adds a ban for a time; `of` is the peer for whose sake an address is banned. One of the same subject that lasts longer
    /// stays.
    pub(super) fn add(&mut self, subject: BanSubject, time: Duration, reason: &str, of: Option<Peer>, now: Instant) {
        let ends = now + time.min(MAX_TIME);
        if self.bans.get(&subject).is_some_and(|other| other.ends > ends) {
            return;
        }
        let reason = super::text::shorten(reason, MAX_REASON);
        if !self.bans.contains_key(&subject)
            && self.bans.len() >= MAX_BANS
            && let Some(first) = self.bans.iter().min_by_key(|(_, ban)| ban.ends).map(|(subject, _)| *subject)
        {
            self.bans.remove(&first);
        }
        self.bans.insert(subject, Held { ends, reason, of });
        self.version += 1;
    }

    /// Lifts a ban, and for a peer's those of its addresses too.
    pub(super) fn lift(&mut self, subject: &BanSubject) {
        self.bans.remove(subject);
        if let BanSubject::Peer(peer) = subject {
            self.bans.retain(|_, ban| ban.of != Some(*peer));
        }
        self.version += 1;
    }

    /// Whether the subject is kept out now.
    pub(super) fn holds(&self, subject: &BanSubject, now: Instant) -> bool {
        self.bans.get(subject).is_some_and(|ban| ban.ends > now)
    }

    /// Forgets bans that are over.
    pub(super) fn forget_expired(&mut self, now: Instant) {
        let before = self.bans.len();
        self.bans.retain(|_, ban| ban.ends > now);
        self.version += u64::from(self.bans.len() != before);
    }

    /// Those that hold, the longest first, with their ends by the clock on the wall, which shows `unix_now`.
    pub(super) fn all(&self, now: Instant, unix_now: u64) -> Vec<Ban> {
        let holding = self.bans.iter().filter(|(_, ban)| ban.ends > now);
        let bans = holding.map(|(subject, Held { ends, reason, of })| Ban {
            subject: *subject,
            until: unix_now.saturating_add(ends.saturating_duration_since(now).as_secs_f64().round() as u64),
            reason: reason.clone(),
            of: *of,
        });
        let mut bans: Vec<_> = bans.collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.until), ban.subject));
        bans
    }

    /// Changes with every change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn peer() -> Peer {
        Peer(PeerId::random())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn bans_hold_until_they_end_and_are_lifted_with_their_addresses() {
        let (bad, other) = (peer(), peer());
        let [shared, own] = ["1.2.3.4", "1.2.3.5"].map(|ip| BanSubject::ip(ip.parse().unwrap()).unwrap());
        let (mut bans, start) = (Bans::default(), Instant::now());
        bans.add(BanSubject::Peer(bad), seconds(100), "because", None, start);
        bans.add(shared, seconds(100), "because", Some(bad), start);
        bans.add(own, seconds(50), "because", None, start);
        for (subject, after, holds) in [
            (BanSubject::Peer(bad), 99, true),
            (BanSubject::Peer(bad), 100, false),
            (BanSubject::Peer(other), 0, false),
            (shared, 99, true),
            (own, 49, true),
            (own, 50, false),
        ] {
            assert_eq!(bans.holds(&subject, start + seconds(after)), holds, "{subject} after {after} s");
        }
        // What is written down is read back, whenever that is: 20 s later, in a process that began just then.
        let (written, later) = (bans.all(start + seconds(50), 1_050), Instant::now() + seconds(7));
        let again = Bans::of(&written, later, 1_070);
        assert_eq!(again.all(later, 1_070), written);
        assert_eq!((written.len(), written[0].until, again.version()), (2, 1_100, 0));

        let version = bans.version();
        bans.lift(&BanSubject::Peer(bad));
        assert_ne!(bans.version(), version);
        assert_eq!(bans.all(start, 0).iter().map(|ban| ban.subject).collect::<Vec<_>>(), [own]);
        bans.forget_expired(start + seconds(50));
        assert!(bans.bans.is_empty());
    }

    #[test]
    fn the_clock_on_the_wall_neither_lifts_nor_prolongs_a_ban() {
        let (mut bans, start, subject) = (Bans::default(), Instant::now(), BanSubject::Peer(peer()));
        bans.add(subject, seconds(3600), "because", None, start);
        // Shown and written down by that clock, wherever it stands.
        for wall in [10_000, 10_000 + 7_200, 10_000 - 7_200] {
            assert_eq!(bans.all(start + seconds(600), wall)[0].until, wall + 3_000);
        }
        assert!(bans.holds(&subject, start + seconds(3599)));
        assert!(!bans.holds(&subject, start + seconds(3600)));
    }

    #[test]
    fn a_longer_ban_is_not_shortened() {
        let (mut bans, start, subject) = (Bans::default(), Instant::now(), BanSubject::Peer(peer()));
        bans.add(subject, seconds(100), "because", None, start);
        bans.add(subject, seconds(50), "because", None, start);
        assert!(bans.holds(&subject, start + seconds(99)));
        bans.add(subject, Duration::MAX, "for ever", None, start);
        assert!(bans.holds(&subject, start + MAX_TIME - seconds(1)));
    }

    #[test]
    fn memory_is_bounded_and_reasons_are_short() {
        let (mut bans, start, longest) = (Bans::default(), Instant::now(), BanSubject::Peer(peer()));
        bans.add(longest, seconds(1000), "because", None, start);
        for _ in 0..2 * MAX_BANS {
            bans.add(BanSubject::Peer(peer()), seconds(10), &"x\n".repeat(1000), None, start);
        }
        assert_eq!(bans.bans.len(), MAX_BANS);
        assert!(bans.holds(&longest, start + seconds(999)));
        assert!(bans.bans.values().all(|ban| ban.reason.len() <= MAX_REASON && !ban.reason.contains('\n')));
    }

    #[test]
    fn subjects_are_peer_ids_and_addresses() {
        let id = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
        for (text, expected) in [
            (id, Some(id)),
            ("1.2.3.4", Some("1.2.3.4")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("2001:db8::1", Some("2001:db8::1")),
        ] {
            assert_eq!(text.parse::<BanSubject>().ok().map(|subject| subject.to_string()).as_deref(), expected);
        }
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let error = text.parse::<BanSubject>().unwrap_err();
            assert!(matches!(error, NetworkError::BanLoopback { .. }), "{text}: {error}");
        }
        for text in ["", "12D3", "1.2.3", "/ip4/1.2.3.4"] {
            assert!(matches!(text.parse::<BanSubject>(), Err(NetworkError::BadPeer { .. })), "{text}");
        }
    }
}
