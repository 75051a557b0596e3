//! The address book: where peers are said to be and where they were, and whom to dial next.
//!
//! Bitcoin Core's scheme (`src/addrman.h`), with peer ids. There are two tables: *new* addresses are claims, and *tried* ones are
//! those where we have dialled a peer and found it. Both have buckets, chosen under a secret (see [`slots`]): claims from one
//! address group share a few buckets of the new table, and addresses of one group a few of the tried. So whoever sends a million
//! addresses, or dials us under ever new names, fills its own buckets and displaces nothing elsewhere. Whoever is in a place first
//! stays: a claim gives way to another once a dial there has failed, and an address that worked gives way only when a probe
//! finds it gone (test before evict).
//!
//! Heilman, Kendler, Zohar and Goldberg, *Eclipse Attacks on Bitcoin's Peer-to-Peer Network*, USENIX Security 2015, sections 3
//! and 7.

mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::Group;
use super::backoff::Backoff;
use super::slots::Groups;
pub(super) use slots::Contact;
use slots::{Slot, Slots, Table};

/// Addresses of one peer that are dialled at once.
const MAX_ADDRESSES: usize = 8;

/// The wait after the first failed dial; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// The longest wait between two dials.
const LAST_RETRY: Duration = Duration::from_secs(600);

/// An address that never worked leaves the book after this many failed dials, one that did after the larger number.
const MAX_FAILURES: u32 = 4;
const MAX_FAILURES_TRIED: u32 = 20;

/// An address that worked so lately keeps its place without a test, as in Bitcoin Core (`ADDRMAN_REPLACEMENT`).
const TRUSTED_FOR: Duration = Duration::from_secs(4 * 60 * 60);

/// Places for which another address waits until who has it is tested.
const MAX_CONTESTED: usize = 16;

/// Addresses of peers, in places of which there are so many.
pub(super) struct Book {
    slots: Slots,
    entries: BTreeMap<Contact, Entry>,
    taken: BTreeMap<Slot, Contact>,
    /// Who waits for a place among the tried.
    contested: BTreeMap<Slot, Contact>,
    remembered: usize,
    /// Counts what changes the export.
    version: u64,
    backoff: Backoff,
}

struct Entry {
    slot: Slot,
    /// In a row.
    failures: u32,
    next_dial: Instant,
    /// Its number among those remembered from an earlier run, where the first were the best.
    order: usize,
    luck: u64,
    /// When it was last dialled, if it was in this run.
    dialled: Option<Instant>,
    /// When the peer was last found there, if it was in this run.
    worked: Option<Instant>,
}

impl Entry {
    fn is_tried(&self) -> bool {
        self.slot.table == Table::Tried
    }
}

/// Who is dialled before whom: smaller is better. Claims take turns by bucket, so that a full bucket counts no more than one
/// with a single address.
type Rank = (Table, u32, usize, u64);

impl Book {
    /// An empty book. The secret says what stands where, and should be the same in each run; the seed is for the spread of
    /// waits.
    pub(super) fn new(secret: [u8; 32], seed: u64) -> Self {
        Self {
            slots: Slots::new(secret),
            entries: BTreeMap::new(),
            taken: BTreeMap::new(),
            contested: BTreeMap::new(),
            remembered: 0,
            version: 0,
            backoff: Backoff::new(seed),
        }
    }

    /// Takes up what an earlier run exported; to be called in the same order.
    pub(super) fn remember(&mut self, contact: Contact, now: Instant) {
        let slot = self.slots.tried_slot(&contact);
        if self.taken.contains_key(&slot) || self.entries.contains_key(&contact) {
            return;
        }
        self.insert(contact.clone(), slot, now);
        if let Some(entry) = self.entries.get_mut(&contact) {
            entry.order = self.remembered;
            self.remembered += 1;
        }
    }

    /// Adds a claim of somebody in the group `source`, if there is a place for it.
    pub(super) fn add(&mut self, contact: Contact, source: Group, now: Instant) {
        if self.entries.contains_key(&contact) {
            return;
        }
        let slot = self.slots.new_slot(&contact, source);
        if let Some(there) = self.taken.get(&slot).cloned() {
            if self.entries.get(&there).is_some_and(|entry| entry.failures == 0) {
                return;
            }
            self.remove(&there);
        }
        self.insert(contact, slot, now);
    }

    /// We have dialled a peer and found it there.
    pub(super) fn prove(&mut self, contact: Contact, now: Instant) {
        let slot = self.slots.tried_slot(&contact);
        match self.taken.get(&slot) {
            Some(there) if *there == contact => {}
            None => self.place(contact.clone(), slot, now),
            Some(there) => {
                let is_trusted =
                    |entry: &Entry| entry.worked.is_some_and(|when| now.saturating_duration_since(when) < TRUSTED_FOR);
                if !self.entries.get(there).is_some_and(is_trusted)
                    && (self.contested.len() < MAX_CONTESTED || self.contested.contains_key(&slot))
                {
                    self.contested.entry(slot).or_insert_with(|| contact.clone());
                }
                self.add(contact.clone(), Group::dialled(&contact.1), now);
            }
        }
        // Whoever waits for this one's place waits in vain.
        let taken = &self.taken;
        self.contested.retain(|contested, _| taken.get(contested) != Some(&contact));
        if let Some(entry) = self.entries.get_mut(&contact) {
            (entry.failures, entry.next_dial) = (0, now);
            (entry.dialled, entry.worked) = (Some(now), Some(now));
        }
    }

    /// A dial of a peer at these addresses failed: they wait longer, or are forgotten, and give way to who waits for a place.
    pub(super) fn fail(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        let contacts: Vec<Contact> = addresses.iter().map(|address| (peer, address.clone())).collect();
        let failures = contacts.iter().filter_map(|contact| self.entries.get(contact)).map(|entry| entry.failures);
        let Some(most) = failures.max() else { return };
        let next_dial = now + self.backoff.wait(most + 1, FIRST_RETRY, LAST_RETRY);
        for contact in contacts {
            let Some(entry) = self.entries.get_mut(&contact) else { continue };
            (entry.failures, entry.next_dial) = (entry.failures + 1, next_dial);
            let (slot, is_tried, failures) = (entry.slot, entry.is_tried(), entry.failures);
            let next = self.contested.remove(&slot);
            if let Some(next) = next.filter(|next| self.entries.get(next).is_some_and(|entry| entry.failures == 0)) {
                self.demote(&contact, now);
                self.place(next, slot, now);
            } else if failures >= if is_tried { MAX_FAILURES_TRIED } else { MAX_FAILURES } {
                self.remove(&contact);
            }
        }
    }

    /// Does not dial the peer before `until`: it is banned.
    pub(super) fn pause(&mut self, peer: &PeerId, until: Instant) {
        for contact in self.contacts_of(peer) {
            if let Some(entry) = self.entries.get_mut(&contact) {
                entry.next_dial = until;
            }
        }
    }

    /// Does not dial the peer before `until`, nor remember it over a restart: it is of another network.
    pub(super) fn avoid(&mut self, peer: &PeerId, now: Instant, until: Instant) {
        for contact in self.contacts_of(peer) {
            self.demote(&contact, now);
        }
        self.pause(peer, until);
    }

    /// Up to `count` peers that are due to be dialled, the best first, each in an address group that has room, which is
    /// then taken. They are not due again until a while later.
    pub(super) fn take_due(
        &mut self,
        count: usize,
        now: Instant,
        groups: &mut Groups,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        if count == 0 {
            return Vec::new();
        }
        let due = self.ranked(|(peer, _), entry| entry.next_dial <= now && wanted(peer));
        let (mut taken, mut seen) = (Vec::new(), BTreeSet::new());
        for (peer, _) in &due {
            if taken.len() >= count {
                break;
            }
            if !seen.insert(*peer) {
                continue;
            }
            let addresses = due.iter().filter(|(other, _)| other == peer).map(|(_, address)| address);
            let with_room: Vec<_> = addresses.filter(|at| groups.has_room(at)).take(MAX_ADDRESSES).cloned().collect();
            if let Some(first) = with_room.first() {
                groups.add(first);
                taken.push((*peer, with_room));
            }
        }
        taken.iter().for_each(|dial| self.note_dial(dial, now));
        taken
    }

    /// A peer to look whether it is still there: rather one whose place another waits for, then one that nobody ever met, else
    /// the one longest not tried.
    pub(super) fn take_feeler(
        &mut self,
        now: Instant,
        wanted: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        // Who is connected is there.
        let taken = &self.taken;
        self.contested.retain(|slot, _| taken.get(slot).is_some_and(|(peer, _)| wanted(peer)));
        let is_due = |entry: &Entry| entry.next_dial <= now;
        let mut contested = self.contested.keys().filter_map(|slot| self.taken.get(slot));
        let tested = contested.find(|there| self.entries.get(*there).is_some_and(is_due)).cloned();
        let (peer, address) = tested.or_else(|| {
            let due = self.ranked(|(peer, _), entry| is_due(entry) && wanted(peer));
            // The order of ranks stays among equals.
            due.into_iter().min_by_key(|contact| {
                self.entries.get(contact).map(|entry| (std::cmp::Reverse(entry.slot.table), entry.dialled))
            })
        })?;
        let dial = (peer, vec![address]);
        self.note_dial(&dial, now);
        Some(dial)
    }

    /// Changes with what worked.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many addresses it holds.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The addresses that worked, each ending in `/p2p/…`: those of the peers `first` in their order, then the others, the best
    /// first.
    pub(super) fn export(&self, first: &[PeerId]) -> Vec<String> {
        let mut tried = self.ranked(|_, entry| entry.is_tried());
        let place = |peer: &PeerId| first.iter().position(|other| other == peer).unwrap_or(first.len());
        tried.sort_by_key(|(peer, _)| place(peer));
        tried.into_iter().map(|(peer, address)| format!("{address}/p2p/{peer}")).collect()
    }

    /// Some of the entries, the best first.
    fn ranked(&self, wanted: impl Fn(&Contact, &Entry) -> bool) -> Vec<Contact> {
        let mut all: Vec<(Rank, u64, &Contact)> = self
            .entries
            .iter()
            .filter(|(contact, entry)| wanted(contact, entry))
            .map(|(contact, entry)| {
                let rank = (entry.slot.table, entry.failures, entry.order, entry.luck);
                (rank, entry.slot.bucket, contact)
            })
            .collect();
        all.sort_unstable();
        let mut turns: BTreeMap<u64, usize> = BTreeMap::new();
        for ((table, _, turn, _), bucket, _) in &mut all {
            if *table == Table::New {
                let next = turns.entry(*bucket).or_default();
                *turn = *next;
                *next += 1;
            }
        }
        all.sort_unstable();
        all.into_iter().map(|(.., contact)| contact.clone()).collect()
    }

    fn contacts_of(&self, peer: &PeerId) -> Vec<Contact> {
        let from = (*peer, Multiaddr::empty());
        self.entries.range(from..).map(|(contact, _)| contact).take_while(|(other, _)| other == peer).cloned().collect()
    }

    fn note_dial(&mut self, (peer, addresses): &(PeerId, Vec<Multiaddr>), now: Instant) {
        for address in addresses {
            if let Some(entry) = self.entries.get_mut(&(*peer, address.clone())) {
                (entry.next_dial, entry.dialled) = (now + FIRST_RETRY, Some(now));
            }
        }
    }

    /// Puts an address into a place that is free, out of the one that it had.
    fn place(&mut self, contact: Contact, slot: Slot, now: Instant) {
        let before = self.entries.get(&contact).map(|entry| entry.slot);
        match before {
            Some(before) => {
                self.version += 1;
                self.taken.remove(&before);
                self.taken.insert(slot, contact.clone());
                if let Some(entry) = self.entries.get_mut(&contact) {
                    entry.slot = slot;
                }
            }
            None => self.insert(contact, slot, now),
        }
    }

    /// Takes an address from among the tried: it is a claim again, if there is a place for one.
    fn demote(&mut self, contact: &Contact, now: Instant) {
        if !self.entries.get(contact).is_some_and(Entry::is_tried) {
            return;
        }
        let slot = self.slots.new_slot(contact, Group::dialled(&contact.1));
        if self.taken.contains_key(&slot) { self.remove(contact) } else { self.place(contact.clone(), slot, now) }
    }

    fn insert(&mut self, contact: Contact, slot: Slot, now: Instant) {
        let luck = self.slots.luck(&contact);
        let entry = Entry { slot, failures: 0, next_dial: now, order: usize::MAX, luck, dialled: None, worked: None };
        self.version += u64::from(slot.table == Table::Tried);
        self.taken.insert(slot, contact.clone());
        self.entries.insert(contact, entry);
    }

    fn remove(&mut self, contact: &Contact) {
        if let Some(entry) = self.entries.remove(contact) {
            self.version += u64::from(entry.is_tried());
            self.taken.remove(&entry.slot);
            self.contested.remove(&entry.slot);
        }
    }

    /// What must hold between calls.
    #[cfg(test)]
    fn check_invariants(&self) {
        assert_eq!(self.entries.len(), self.taken.len());
        for (slot, contact) in &self.taken {
            assert_eq!(self.entries[contact].slot, *slot);
        }
        for slot in self.contested.keys() {
            assert!(slot.table == Table::Tried && self.taken.contains_key(slot));
        }
        assert!(self.contested.len() <= MAX_CONTESTED);
    }
}

#[cfg(test)]
mod tests;
