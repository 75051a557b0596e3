//! A faucet: gives newcomers of a test network a little, from a wallet of its owner.
//!
//! What it gives is bounded by an account's balance, by address groups, by the day, and by a small proof of work. All
//! but the first is forgotten by a restart.

use std::collections::{BTreeMap, VecDeque};

use ocelli_consensus::object::StateReader as _;
use ocelli_consensus::{Action, Address, Amount, BlockHash, Transaction};
use ocelli_protocol::message::{FaucetClaim, FaucetReply, FaucetRequest, FaucetTerms, Response, Submission};

use super::own::Spender;
use super::{Pool, failed};
use crate::network::{Group, Peer};
use crate::reply::ReplyTo;
use crate::store::StoreError;

/// The work of a claim: about a million hashes, which take a processor a fraction of a second.
const BITS: u32 = 20;
/// A claim names one of so many latest blocks.
const BLOCKS: u64 = 100;
/// What the limits below are for.
const DAY_MILLIS: u64 = 24 * 3600 * 1000;
/// Payments to one address group in a day.
const GROUP_PAYMENTS: usize = 10;
/// Payments in a day.
const ALL_PAYMENTS: usize = 1_000;

/// What a faucet is started with.
pub struct FaucetConfig {
    /// What it pays from.
    pub spender: Spender,
    /// What a newcomer gets.
    pub amount: Amount,
}

/// The faucet of a node that runs one.
pub(super) struct Faucet {
    config: FaucetConfig,
    payments: Payments,
    /// The address groups of the peers that are connected.
    groups: BTreeMap<Peer, Group>,
}

/// Why a faucet does not pay.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("this node runs no faucet; one does that was started with `ocelli node --faucet WALLET`")]
    NoFaucet,
    #[error("the claim's hash begins with {found} zero bits, expected {expected}: ask for the terms and work for them")]
    Work { found: u32, expected: u32 },
    #[error("block {0} is not one of the latest {BLOCKS}: ask for the terms again")]
    OldBlock(BlockHash),
    #[error("the address has {balance} credits already, and the faucet gives {amount} to those who have less")]
    HasEnough { balance: Amount, amount: Amount },
    #[error("the address was paid {hours} h ago, expected once a day at most: the payment may still wait for a block")]
    AddressPaid { hours: u64 },
    #[error("{GROUP_PAYMENTS} addresses were paid to your network address group {group} within a day: ask tomorrow")]
    GroupPaid { group: Group },
    #[error("the faucet has paid {ALL_PAYMENTS} addresses within a day: ask tomorrow, or another node")]
    AllPaid,
    #[error("the faucet has {balance} credits left, and needs {needed}: ask another node")]
    Empty { balance: Amount, needed: Amount },
    #[error("the faucet cannot pay now, as its owner is sending from the same wallet: ask again")]
    NotItsTurn,
    #[error("the faucet cannot pay now: {0}")]
    Transaction(String),
}

impl Faucet {
    pub(super) fn new(config: FaucetConfig) -> Self {
        Self { config, payments: Payments::default(), groups: BTreeMap::new() }
    }

    pub(super) fn connected(&mut self, peer: Peer, group: Group) {
        self.groups.insert(peer, group);
    }

    pub(super) fn disconnected(&mut self, peer: Peer) {
        self.groups.remove(&peer);
    }
}

impl Pool {
    pub(super) fn on_faucet(&mut self, request: FaucetRequest, to: ReplyTo) {
        let response = match (&self.faucet, request) {
            (None, _) => Response::failed(Refusal::NoFaucet.to_string()),
            (Some(faucet), FaucetRequest::Terms) => Response::Faucet(FaucetReply::Terms(FaucetTerms {
                amount: faucet.config.amount,
                bits: BITS,
                block: self.chain.tip.hash,
            })),
            (Some(_), FaucetRequest::Claim(claim)) => match self.pay(to.peer(), &claim) {
                Ok(Ok(reply)) => Response::Faucet(reply),
                Ok(Err(refusal)) => Response::failed(refusal.to_string()),
                Err(error) => failed(&error),
            },
        };
        self.reply(to, response);
    }

    fn pay(&mut self, peer: Option<Peer>, claim: &FaucetClaim) -> Result<Result<FaucetReply, Refusal>, StoreError> {
        let work = claim.work(self.others.views.genesis);
        if work < BITS {
            return Ok(Err(Refusal::Work { found: work, expected: BITS }));
        }
        let (rows, tip) = (&self.chain.rows, self.chain.tip.height);
        let height = rows.header(&claim.block)?.map(|(header, _)| header.height);
        let is_late = height.is_some_and(|height| height.saturating_add(BLOCKS) > tip);
        if !is_late || rows.hash_at(height.unwrap_or(0))? != Some(claim.block) {
            return Ok(Err(Refusal::OldBlock(claim.block)));
        }
        let balance = rows.account(&claim.address)?.unwrap_or_default().balance;
        let Some(faucet) = &mut self.faucet else { return Ok(Err(Refusal::NoFaucet)) };
        let amount = faucet.config.amount;
        if balance >= amount {
            return Ok(Err(Refusal::HasEnough { balance, amount }));
        }
        // One that has asked is connected, or was a moment ago.
        let group = peer.and_then(|peer| faucet.groups.get(&peer)).copied().unwrap_or(Group::of_dialled(""));
        let now = self.others.clock.now();
        if let Err(refusal) = faucet.payments.check(now, claim.address, group) {
            return Ok(Err(refusal));
        }
        let Some(_turn) = faucet.config.spender.turn() else { return Ok(Err(Refusal::NotItsTurn)) };
        let transaction = match self.transfer(claim.address, amount)? {
            Ok(transaction) => transaction,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let txid = transaction.txid();
        if let Err(reason) = self.take_own(Submission { transaction: transaction.clone(), attachment: None }) {
            return Ok(Err(Refusal::Transaction(reason)));
        }
        tracing::info!(%txid, %amount, %group, "the faucet pays");
        if let Some(faucet) = &mut self.faucet {
            faucet.payments.add(now, claim.address, group);
        }
        Ok(Ok(FaucetReply::Paid(transaction)))
    }

    /// A transfer from the faucet's wallet, signed.
    fn transfer(&self, to: Address, amount: Amount) -> Result<Result<Transaction, Refusal>, StoreError> {
        let Some(Faucet { config, .. }) = &self.faucet else { return Ok(Err(Refusal::NoFaucet)) };
        let wallet = &config.spender.wallet;
        let draft = self.draft_own(wallet, Action::Transfer { to, amount }, 0)?;
        if draft.balance < draft.cost {
            return Ok(Err(Refusal::Empty { balance: draft.balance, needed: draft.cost }));
        }
        Ok(Ok(self.sign_own(wallet, draft)))
    }
}

/// Who was paid within the last day. Reads no clock; holds at most [`ALL_PAYMENTS`].
#[derive(Debug, Default)]
struct Payments(VecDeque<Payment>);

#[derive(Debug)]
struct Payment {
    /// Monotonic milliseconds.
    at: u64,
    address: Address,
    group: Group,
}

impl Payments {
    fn check(&mut self, now: u64, address: Address, group: Group) -> Result<(), Refusal> {
        self.0.retain(|payment| now.saturating_sub(payment.at) < DAY_MILLIS);
        if let Some(payment) = self.0.iter().find(|payment| payment.address == address) {
            return Err(Refusal::AddressPaid { hours: now.saturating_sub(payment.at) / 3_600_000 });
        }
        // On this machine and in private networks an address says nothing of who pays for it.
        let is_paid = self.0.iter().filter(|payment| payment.group == group).count() >= GROUP_PAYMENTS;
        if is_paid && !group.is_local() {
            return Err(Refusal::GroupPaid { group });
        }
        if self.0.len() >= ALL_PAYMENTS {
            return Err(Refusal::AllPaid);
        }
        Ok(())
    }

    fn add(&mut self, now: u64, address: Address, group: Group) {
        self.0.push_back(Payment { at: now, address, group });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Group = Group::V4([9, 0]);

    fn address(number: usize) -> Address {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Address(bytes)
    }

    #[test]
    fn an_address_is_paid_once_a_day() {
        let mut payments = Payments::default();
        let pay = |payments: &mut Payments, now| {
            payments.check(now, address(1), GROUP)?;
            payments.add(now, address(1), GROUP);
            Ok(())
        };
        assert_eq!(pay(&mut payments, 1_000), Ok(()));
        assert_eq!(pay(&mut payments, 7_201_000), Err(Refusal::AddressPaid { hours: 2 }));
        assert_eq!(pay(&mut payments, 1_000 + DAY_MILLIS - 1), Err(Refusal::AddressPaid { hours: 23 }));
        assert_eq!(pay(&mut payments, 1_000 + DAY_MILLIS), Ok(()));
    }

    #[test]
    fn groups_and_days_are_bounded() {
        let mut payments = Payments::default();
        let mut results = Vec::new();
        for number in 0..2 * ALL_PAYMENTS {
            let group = Group::V4([9, (number / (GROUP_PAYMENTS + 2)) as u8]);
            let result = payments.check(5, address(number), group);
            if result.is_ok() {
                payments.add(5, address(number), group);
            }
            results.push(result);
        }
        assert!(results[..GROUP_PAYMENTS].iter().all(Result::is_ok));
        assert_eq!(results[GROUP_PAYMENTS], Err(Refusal::GroupPaid { group: GROUP }));
        assert_eq!(results[GROUP_PAYMENTS + 2], Ok(()), "another group");
        assert_eq!(results.last(), Some(&Err(Refusal::AllPaid)));
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), ALL_PAYMENTS);
        assert_eq!(payments.check(5 + DAY_MILLIS, address(1), GROUP), Ok(()));
        assert!(payments.0.is_empty(), "what is a day old is forgotten");
    }

    #[test]
    fn machines_at_home_are_not_told_apart() {
        let mut payments = Payments::default();
        let group = Group::Local([192, 168, 0, 7].into(), 0);
        for number in 0..2 * GROUP_PAYMENTS {
            assert_eq!(payments.check(5, address(number), group), Ok(()));
            payments.add(5, address(number), group);
        }
    }
}
