//! Where in the book an address may stand: tables of buckets, chosen by groups under a secret.
//!
//! What one party can fill is bounded by where it is, not by how much it sends: claims from one group reach
//! [`NEW_BUCKETS_OF_SOURCE`] buckets of the table of claims, and addresses of one group [`TRIED_BUCKETS_OF_GROUP`] of the table of
//! those that worked. Nobody outside knows which, so nobody can aim.

use libp2p::{Multiaddr, PeerId};
use ocelli_consensus::hash::tagged;

use super::super::Group;

/// Buckets of the two tables, and places in each.
pub(super) const NEW_BUCKETS: u64 = 256;
pub(super) const TRIED_BUCKETS: u64 = 64;
pub(super) const PLACES: u64 = 16;

/// Buckets of claims that all claims from one group share.
pub(super) const NEW_BUCKETS_OF_SOURCE: u64 = 16;

/// Buckets of addresses that worked which all addresses of one group share.
pub(super) const TRIED_BUCKETS_OF_GROUP: u64 = 4;

/// An address, without `/p2p/…`, and who is there.
pub(in super::super) type Contact = (PeerId, Multiaddr);

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// We have dialled it, and the peer was there.
    Tried,
    /// Somebody says so.
    New,
}

/// A place for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) table: Table,
    pub(super) bucket: u64,
    pub(super) place: u64,
}

/// Finds places.
pub(super) struct Slots {
    secret: [u8; 32],
}

impl Slots {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The one place of a claim from a group. All that it says of one other group is in one bucket.
    pub(super) fn new_slot(&self, contact: &Contact, source: Group) -> Slot {
        let (group, source) = (Group::dialled(&contact.1).id().to_le_bytes(), source.id().to_le_bytes());
        let nth = self.number(b"new nth", &[&group, &source]) % NEW_BUCKETS_OF_SOURCE;
        let bucket = self.number(b"new bucket", &[&source, &nth.to_le_bytes()]) % NEW_BUCKETS;
        self.slot(Table::New, bucket, contact)
    }

    /// The one place of an address that worked.
    pub(super) fn tried_slot(&self, contact: &Contact) -> Slot {
        let group = Group::dialled(&contact.1).id().to_le_bytes();
        let nth = self.of_contact(b"tried nth", contact) % TRIED_BUCKETS_OF_GROUP;
        let bucket = self.number(b"tried bucket", &[&group, &nth.to_le_bytes()]) % TRIED_BUCKETS;
        self.slot(Table::Tried, bucket, contact)
    }

    /// A number by which equals are put into an order that nobody outside can foresee.
    pub(super) fn luck(&self, contact: &Contact) -> u64 {
        self.of_contact(b"luck", contact)
    }

    fn slot(&self, table: Table, bucket: u64, contact: &Contact) -> Slot {
        let what = [b"place", &[table as u8][..], &bucket.to_le_bytes()].concat();
        Slot { table, bucket, place: self.of_contact(&what, contact) % PLACES }
    }

    fn of_contact(&self, what: &[u8], (peer, address): &Contact) -> u64 {
        let peer = peer.to_bytes();
        self.number(what, &[&peer, address.as_ref()])
    }

    fn number(&self, what: &[u8], parts: &[&[u8]]) -> u64 {
        let mut hashed = vec![&self.secret[..], what];
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_le_bytes()).collect();
        for (part, length) in parts.iter().zip(&lengths) {
            hashed.extend([&length[..], part]);
        }
        let hash = tagged("ocelli/address book", &hashed);
        hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn contact(address: String) -> Contact {
        (PeerId::random(), address.parse().expect("a multiaddr"))
    }

    #[test]
    fn groups_reach_few_buckets() {
        let slots = Slots::new([7; 32]);
        let source = Group::V4([1, 2]);
        let claims: Vec<_> = (0..10_000u32)
            .map(|number| contact(format!("/ip4/{}.{}.1.1/tcp/1", number / 256 % 223 + 1, number % 256)))
            .collect();
        let buckets = |slots: Vec<Slot>| slots.into_iter().map(|slot| slot.bucket).collect::<BTreeSet<_>>().len();
        let of_one = claims.iter().map(|contact| slots.new_slot(contact, source)).collect();
        assert!((10..=16).contains(&buckets(of_one)), "a source reaches few buckets");
        let of_many = (0..200).map(|number| slots.new_slot(&claims[0], Group::V4([9, number]))).collect();
        assert!(buckets(of_many) > 100, "many sources reach many");
        let near: Vec<_> = (0..1000).map(|port| contact(format!("/ip4/1.2.3.4/tcp/{}", port + 1))).collect();
        let from_one = near.iter().map(|contact| slots.new_slot(contact, source)).collect();
        assert_eq!(buckets(from_one), 1, "what a source says of one group is in one bucket");
        let tried = near.iter().map(|contact| slots.tried_slot(contact)).collect();
        assert!(buckets(tried) <= 4, "a group reaches few buckets of those that worked");
    }

    #[test]
    fn places_depend_on_the_secret_alone() {
        let contact = contact("/ip4/1.2.3.4/tcp/1".into());
        let [one, again, other] = [[1; 32], [1; 32], [2; 32]].map(Slots::new);
        assert_eq!(one.tried_slot(&contact), again.tried_slot(&contact));
        let all = |slots: &Slots| {
            (slots.tried_slot(&contact), slots.new_slot(&contact, Group::V4([1, 2])), slots.luck(&contact))
        };
        assert_eq!(all(&one), all(&again));
        assert_ne!(all(&one), all(&other));
    }
}
