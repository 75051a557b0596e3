//! What has happened to an account: each entry checked against the headers, as far as the node that is asked keeps what proves it,
//! and all of them against the balance.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ocelli_consensus::network::Network;
use ocelli_consensus::rules::{check_body_root, check_signature};
use ocelli_consensus::{Address, Amount, Body, Header, ModelId};
use ocelli_protocol::ledger::{Entry, Event, Place, REWARD, Side, credit, debit};
use ocelli_protocol::limits::{Bucket, Limit, WORK, proving, work};
use ocelli_protocol::message::{
    AccountStatus, LedgerBlock, LedgerPage, MAX_ENTRIES, MAX_TRANSACTIONS, Proofs, Request, Response, ShownEntry,
    TransactionProof,
};

use super::chains::unexpected;
use super::lie::Lie;
use super::{ANSWER_TIMEOUT, Client, ClientError, Connection};

/// The work that a node is asked for: half of what it does for one peer, as bytes and other questions count too.
const PAGES: Limit = Limit { rate: WORK.rate / 2, burst: WORK.burst / 2 };
/// How often it is begun anew when the chain is reorganised meanwhile.
const ATTEMPTS: usize = 3;
/// Entries that are read at most: whoever shows more without proving them fills no memory.
const MOST_ENTRIES: usize = 1 << 20;

/// How an entry is known, where the headers are checked from genesis on. On a chain too long for that, all of it is said of the
/// headers that the node shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The transaction is in the block, or the block has none and pays its reward alone.
    Proven,
    /// The block names its miner; the fees among what it pays are the node's word.
    FeesByWord,
    /// The transaction is in the block and pays a royalty; that the account is the model's author is the node's word.
    AuthorByWord,
    /// The node's word alone: it has pruned the block.
    ByWord,
}

/// An entry, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEntry {
    pub entry: Entry,
    /// The block's, in seconds since 1970.
    pub time: u64,
    /// What the account had after it, in grains.
    pub balance: u64,
    pub evidence: Evidence,
}

/// What has happened to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it has after the block at `height`.
    pub balance: Amount,
    /// Transactions confirmed from it.
    pub nonce: u64,
    pub height: u64,
    /// Whether the state of that block was shown to hold the balance, and all headers were checked from genesis on.
    pub is_checked: bool,
    /// What it had before the first entry.
    pub opening: Amount,
    /// Whether these are all, and add up with what genesis gave it to the balance. Otherwise older ones were not asked for, or the
    /// node has none: the opening balance is what is left.
    pub is_whole: bool,
    /// The first height from which on the node has entries.
    pub from: u64,
    /// The earliest first.
    pub entries: Vec<KnownEntry>,
}

/// What was read of an account, the latest first.
struct Read {
    account: AccountStatus,
    from: u64,
    entries: Vec<(Entry, u64, Evidence)>,
    is_whole: bool,
    /// Whether the chain stayed where it was.
    is_steady: bool,
}

impl Client {
    /// What has happened to an account in blocks whose time is not before `since`, from the node that has most of it. A node whose
    /// entries cannot be true, or do not add up, is left.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers that can be believed.
    pub fn statement(&mut self, address: Address, since: u64) -> Result<Statement, ClientError> {
        self.follow(Instant::now() + ANSWER_TIMEOUT)?;
        let (mut best, mut failure): (Option<Statement>, _) = (None, None);
        for node in self.asked() {
            match self.statement_of(&node, address, since) {
                Ok(found) => {
                    let is_enough = found.from <= 1 && (found.is_checked || self.is_long());
                    let rank = |found: &Statement| (found.is_checked, Reverse(found.from));
                    if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                        best = Some(found);
                    }
                    if is_enough {
                        break;
                    }
                }
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        best.ok_or_else(|| failure.unwrap_or_else(|| self.nobody()))
    }

    fn statement_of(&mut self, node: &Connection, address: Address, since: u64) -> Result<Statement, ClientError> {
        let mut attempt = 1;
        loop {
            match self.read_ledger(node, address, since) {
                Ok(read) => {
                    let is_steady = read.is_steady;
                    match self.add_up(address, read) {
                        // Read of two branches, they fit neither.
                        Err(_) if !is_steady && attempt < ATTEMPTS => {}
                        Err(_) if !is_steady => return Err(ClientError::Unsteady { address: node.address.clone() }),
                        result => return result.map_err(|lie| lie.told_by(node)),
                    }
                }
                Err(error) if error.may_be_a_reorg() && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Reads the pages of one node, each entry checked by itself.
    fn read_ledger(&mut self, node: &Connection, address: Address, since: u64) -> Result<Read, ClientError> {
        let mut read: Option<Read> = None;
        let mut before = None;
        let (start, mut asked) = (Instant::now(), Bucket::new(PAGES, 0));
        let millis = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        loop {
            while let Err(wait) = asked.check(1, millis()) {
                self.pause(Instant::now() + Duration::from_millis(wait))?;
            }
            let limit = MAX_ENTRIES as u32;
            let request = Request::Ledger { address, before, limit, proofs: Proofs::With };
            let page = match self.ask_until(node, &request, Instant::now() + ANSWER_TIMEOUT)? {
                Response::Ledger(page) => *page,
                other => return Err(unexpected(node, "Ledger", &other)),
            };
            asked.charge(work(&request) + proving(transactions_of(&page)), millis());
            let LedgerPage { account, from, blocks, has_more } = page;
            if read.as_ref().is_none_or(|read| read.account.header != account.header) {
                self.check_account(node, address, &account)?;
            }
            let read = read.get_or_insert_with(|| Read {
                account: account.clone(),
                from,
                entries: Vec::new(),
                is_whole: false,
                is_steady: true,
            });
            read.is_steady &= read.account.header == account.header;
            read.from = read.from.max(from);
            let (mut is_early, seen) = (false, read.entries.len());
            for block in &blocks {
                if !self.is_long() {
                    self.see(node, &block.header)?;
                }
                is_early |= block.header.time < since;
                if is_early {
                    break;
                }
                let entries = checked(&self.network, address, block, before).map_err(|lie| lie.told_by(node))?;
                before = entries.last().map(|(entry, _)| entry.place).or(before);
                read.entries.extend(entries.into_iter().map(|(entry, how)| (entry, block.header.time, how)));
            }
            if !has_more || is_early {
                read.is_whole = !is_early && read.from <= 1;
                break;
            }
            if read.entries.len() == seen {
                return Err(Lie::LedgerOrder.told_by(node));
            }
            if read.entries.len() > MOST_ENTRIES {
                return Err(ClientError::TooMuch { limit: MOST_ENTRIES });
            }
        }
        read.ok_or(ClientError::Alone)
    }

    /// Gives each entry the balance after it, and finds out who is the author of what.
    fn add_up(&self, address: Address, read: Read) -> Result<Statement, Lie> {
        let Read { account, from, entries, is_whole, .. } = read;
        let sum = |left: i128| {
            let found = i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX });
            Lie::LedgerSum { balance: account.balance, found }
        };
        let (mut balance, mut known) = (i128::from(account.balance.0), Vec::with_capacity(entries.len()));
        for (entry, time, evidence) in entries {
            let after = u64::try_from(balance).map_err(|_| sum(balance))?;
            known.push(KnownEntry { entry, time, balance: after, evidence });
            balance -= entry.event.change();
        }
        known.reverse();
        let opening = u64::try_from(balance).map(Amount).map_err(|_| sum(balance))?;
        if is_whole {
            let given = self.network.parameters.balances().get(&address).copied().unwrap_or_default();
            if opening != given {
                return Err(sum(balance - i128::from(given.0)));
            }
            let sent = known.iter().filter(|known| known.entry.place.side == Side::Debit).count();
            if sent as u64 != account.nonce {
                return Err(Lie::LedgerCount { found: sent as u64, nonce: account.nonce });
            }
        }
        let mut published: BTreeSet<ModelId> = BTreeSet::new();
        for known in &mut known {
            match (known.entry.event, known.evidence) {
                (Event::Publish { model, .. }, Evidence::Proven) => _ = published.insert(model),
                (Event::Royalty { model, .. }, Evidence::AuthorByWord) if published.contains(&model) => {
                    known.evidence = Evidence::Proven;
                }
                _ => {}
            }
        }
        let AccountStatus { balance, nonce, header, path, .. } = account;
        let is_checked = !self.is_long() && path.is_some() && self.depth(header.height, &header.hash()) > 0;
        Ok(Statement { balance, nonce, height: header.height, is_checked, opening, is_whole, from, entries: known })
    }
}

/// How many transactions the bodies have, by the page's word, that a node has gone through for it.
fn transactions_of(page: &LedgerPage) -> usize {
    let count = |block: &LedgerBlock| block.entries.iter().find_map(|shown| Some(shown.proof.as_ref()?.proof.count));
    page.blocks.iter().filter_map(count).map(|count| count as usize).sum()
}

/// The entries that a node shows of a block, the latest first, each checked by itself and against the header.
fn checked(
    network: &Network,
    address: Address,
    block: &LedgerBlock,
    mut before: Option<Place>,
) -> Result<Vec<(Entry, Evidence)>, Lie> {
    let (header, mut entries) = (&block.header, Vec::new());
    for shown in &block.entries {
        let entry = shown.entry(header.height);
        let is_place = entry.place.index == REWARD || (entry.place.index as usize) < MAX_TRANSACTIONS;
        if !is_place || before.is_some_and(|before| entry.place >= before) {
            return Err(Lie::LedgerOrder);
        }
        before = Some(entry.place);
        let evidence = match (&entry.event, &shown.proof) {
            (Event::Reward { .. }, _) => reward(network, address, header, &entry),
            (_, None) => Some(Evidence::ByWord),
            (_, Some(proof)) => transaction(network, address, header, shown, proof)?,
        };
        entries.push((entry, evidence.ok_or(Lie::LedgerEntry { height: header.height })?));
    }
    Ok(entries)
}

/// What speaks for a reward; `None` if there is none like that.
fn reward(network: &Network, address: Address, header: &Header, entry: &Entry) -> Option<Evidence> {
    let Event::Reward { reward, fees } = entry.event else { return None };
    let is_own = header.miner == address && entry.place.index == REWARD;
    if !is_own || reward != network.parameters.reward_at(header.height) {
        return None;
    }
    match (header.body == Body::default().root(&header.parent), fees) {
        (true, Amount::ZERO) => Some(Evidence::Proven),
        (true, _) => None,
        (false, _) => Some(Evidence::FeesByWord),
    }
}

/// What speaks for one side of a transaction; `None` if it does not do that to the account.
fn transaction(
    network: &Network,
    address: Address,
    header: &Header,
    shown: &ShownEntry,
    proof: &TransactionProof,
) -> Result<Option<Evidence>, Lie> {
    let (height, index) = (header.height, proof.proof.index as usize);
    let rule = |source| Lie::Body { height, source };
    check_body_root(header, proof.body_root().map_err(Lie::Path)?).map_err(rule)?;
    check_signature(&proof.transaction, network.genesis_hash()).map_err(|error| rule(error.at(index)))?;
    if proof.proof.index != shown.index {
        return Ok(None);
    }
    let sender = proof.transaction.sender();
    // Whoever it is, for a royalty goes to nobody else here.
    let credited = credit::<std::convert::Infallible>(&proof.transaction, |_| Ok(address));
    let Ok(credited) = credited;
    Ok(match shown.event {
        event if event.side() == Side::Debit => (sender == address
            && debit(&network.parameters, &proof.transaction) == Some(event))
        .then_some(Evidence::Proven),
        event if credited != Some((address, event)) => None,
        Event::Royalty { .. } => Some(Evidence::AuthorByWord),
        _ => Some(Evidence::Proven),
    })
}
