//! Bans: who is kept out, until when and why. They are temporary, and the node keeps them over a restart.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// Why.
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

/// All bans. Bounded: if there are too many, the one that ends first gives way.
#[derive(Default)]
pub(super) struct Bans {
    bans: HashMap<BanSubject, Ban>,
    /// Counts changes, so that whoever writes bans down knows when to.
    version: u64,
}

impl Bans {
    /// Those of an earlier run that still hold.
    pub(super) fn of(bans: &[Ban], now: u64) -> Self {
        let mut all = Self::default();
        for ban in bans.iter().filter(|ban| ban.until > now) {
            all.add(ban.clone());
        }
        all.version = 0;
        all
    }

    /// Adds a ban. One of the same subject that lasts longer stays.
    pub(super) fn add(&mut self, mut ban: Ban) {
        if self.bans.get(&ban.subject).is_some_and(|other| other.until > ban.until) {
            return;
        }
        ban.reason = super::error::shorten(&ban.reason, MAX_REASON);
        if !self.bans.contains_key(&ban.subject)
            && self.bans.len() >= MAX_BANS
            && let Some(first) = self.bans.values().min_by_key(|ban| ban.until).map(|ban| ban.subject)
        {
            self.bans.remove(&first);
        }
        self.bans.insert(ban.subject, ban);
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
    pub(super) fn holds(&self, subject: &BanSubject, now: u64) -> bool {
        self.bans.get(subject).is_some_and(|ban| ban.until > now)
    }

    /// Forgets bans that are over.
    pub(super) fn forget_expired(&mut self, now: u64) {
        let before = self.bans.len();
        self.bans.retain(|_, ban| ban.until > now);
        self.version += u64::from(self.bans.len() != before);
    }

    /// Those that hold, the longest first.
    pub(super) fn all(&self, now: u64) -> Vec<Ban> {
        let mut bans: Vec<_> = self.bans.values().filter(|ban| ban.until > now).cloned().collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.until), ban.subject));
        bans
    }

    /// Changes with every change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

/// Seconds since 1970. Bans outlive the process, so they are told by the clock on the wall.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;

    fn ban(subject: BanSubject, until: u64, of: Option<Peer>) -> Ban {
        Ban { subject, until, reason: "because".into(), of }
    }

    fn peer() -> Peer {
        Peer(PeerId::random())
    }

    #[test]
    fn bans_hold_until_they_end_and_are_lifted_with_their_addresses() {
        let (bad, other) = (peer(), peer());
        let [shared, own] = ["1.2.3.4", "1.2.3.5"].map(|ip| BanSubject::ip(ip.parse().unwrap()).unwrap());
        let mut bans = Bans::default();
        bans.add(ban(BanSubject::Peer(bad), 100, None));
        bans.add(ban(shared, 100, Some(bad)));
        bans.add(ban(own, 50, None));
        for (subject, now, holds) in [
            (BanSubject::Peer(bad), 99, true),
            (BanSubject::Peer(bad), 100, false),
            (BanSubject::Peer(other), 0, false),
            (shared, 99, true),
            (own, 49, true),
            (own, 50, false),
        ] {
            assert_eq!(bans.holds(&subject, now), holds, "{subject} at {now}");
        }
        // What is written down is read back.
        let again = Bans::of(&bans.all(50), 50);
        assert_eq!(again.all(0), bans.all(50));
        assert_eq!((again.all(0).len(), again.version()), (2, 0));

        let version = bans.version();
        bans.lift(&BanSubject::Peer(bad));
        assert_ne!(bans.version(), version);
        assert_eq!(bans.all(0).iter().map(|ban| ban.subject).collect::<Vec<_>>(), [own]);
        bans.forget_expired(50);
        assert!(bans.bans.is_empty());
    }

    #[test]
    fn a_longer_ban_is_not_shortened() {
        let mut bans = Bans::default();
        let subject = BanSubject::Peer(peer());
        bans.add(ban(subject, 100, None));
        bans.add(ban(subject, 50, None));
        assert!(bans.holds(&subject, 99));
    }

    #[test]
    fn memory_is_bounded_and_reasons_are_short() {
        let mut bans = Bans::default();
        let longest = BanSubject::Peer(peer());
        bans.add(ban(longest, 1000, None));
        for _ in 0..2 * MAX_BANS {
            bans.add(Ban { reason: "x\n".repeat(1000), ..ban(BanSubject::Peer(peer()), 10, None) });
        }
        assert_eq!(bans.bans.len(), MAX_BANS);
        assert!(bans.holds(&longest, 999));
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
