//! What nodes say of an account, and what they suggest as a fee: the first checked as far as it can be.

use std::time::Instant;

use ocelli_consensus::{Address, Amount, BlockHash};
use ocelli_protocol::mempool::MAX_PENDING;
use ocelli_protocol::message::{AccountStatus, FeeSuggestion, NodeStatus, Request, Response};

use super::chains::unexpected;
use super::lie::Lie;
use super::{ANSWER_TIMEOUT, Client, ClientError, Connection};

/// An account, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Transactions confirmed from it.
    pub nonce: u64,
    /// What it holds.
    pub balance: Amount,
    /// The nonce for its next transaction, those pending in mempools counted: by the nodes' word, never checked.
    pub next_nonce: u64,
    /// The block after which it is so.
    pub height: u64,
    pub block: BlockHash,
    /// Whether the state of that block was shown to hold it so, and the chain from genesis to the block checked.
    pub is_checked: bool,
    /// Nodes that say the same.
    pub nodes: usize,
}

/// What nodes suggest as a fee: each one's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suggested {
    /// In the middle of what they say: of an even number the lower.
    pub fee: FeeSuggestion,
    /// The lowest and the highest rate that was suggested.
    pub rates: (u64, u64),
    /// Nodes that were asked and answered.
    pub nodes: usize,
}

impl Client {
    /// An account at the tip of the nodes. Where it exists, a path leads to it from the state's root in a header, which is
    /// checked; that one does not exist is their word, and so is everything on a chain too long to be checked.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers that can be believed, or when they say different things that cannot be checked.
    pub fn account(&mut self, address: Address) -> Result<Known, ClientError> {
        self.follow(Instant::now() + ANSWER_TIMEOUT)?;
        let (mut answers, mut failure) = (Vec::new(), None);
        let nodes = self.asked();
        for (node, result) in self.ask_each(&nodes, &Request::Account { address }, Instant::now() + ANSWER_TIMEOUT)? {
            let account = match result {
                Ok(Response::Account(account)) => self.check_account(&node, address, &account).map(|()| account),
                Ok(other) => Err(unexpected(&node, "Account", &other)),
                Err(error) => Err(error),
            };
            match account {
                Ok(account) => answers.push((node, *account)),
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        // One header of a long chain says little.
        if self.is_long() {
            return self.agreed(&answers).ok_or_else(|| failure.unwrap_or_else(|| self.nobody()))?;
        }
        // Of one that is proven the latest; whoever says that there is none at that block or later is refuted.
        let on_chain = |account: &AccountStatus| self.depth(account.header.height, &account.header.hash()) > 0;
        let proven = answers.iter().filter(|(_, account)| account.path.is_some() && on_chain(account));
        let proven = proven.max_by_key(|(_, account)| account.header.height).cloned();
        let Some((_, best)) = proven else {
            return self.agreed(&answers).ok_or_else(|| failure.unwrap_or_else(|| self.nobody()))?;
        };
        let since = best.header.height;
        for (node, account) in &answers {
            if account.path.is_none() && account.header.height >= since {
                self.disconnect(node, &Lie::NoAccount { height: account.header.height, since }.told_by(node));
            }
        }
        let same = |other: &AccountStatus| (other.nonce, other.balance) == (best.nonce, best.balance);
        Ok(Known {
            is_checked: true,
            nodes: answers.iter().filter(|(_, other)| same(other)).count(),
            ..known(&best, &answers)
        })
    }

    /// Checks what a node says of an account: its path from the header's state, and that the header is on the node's chain.
    pub(super) fn check_account(
        &mut self,
        node: &Connection,
        address: Address,
        account: &AccountStatus,
    ) -> Result<(), ClientError> {
        let AccountStatus { header, nonce, next_nonce, .. } = account;
        account.check(&address).map_err(|source| Lie::Account { height: header.height, source }.told_by(node))?;
        let highest = nonce.saturating_add(MAX_PENDING as u64);
        if !(*nonce..=highest).contains(next_nonce) {
            return Err(Lie::NextNonce { found: *next_nonce, nonce: *nonce, highest }.told_by(node));
        }
        self.see(node, header)
    }

    /// What all say alike; `None` if nobody says anything.
    fn agreed(&self, answers: &[(Connection, AccountStatus)]) -> Option<Result<Known, ClientError>> {
        let (_, latest) = answers.iter().max_by_key(|(_, account)| account.header.height)?;
        let same = |account: &AccountStatus| (account.nonce, account.balance) == (latest.nonce, latest.balance);
        if answers.iter().all(|(_, account)| same(account)) {
            return Some(Ok(Known { nodes: answers.len(), ..known(latest, answers) }));
        }
        let says = answers.iter().map(|(node, account)| {
            let AccountStatus { balance, nonce, header, .. } = account;
            let height = header.height;
            format!("{}: {balance} credits, {nonce} transactions sent, at block {height}", node.address)
        });
        Some(Err(ClientError::Disagreement { says: says.collect() }))
    }

    /// The fee with which a transaction is likely to be in one of the next `blocks`, by what waits at the nodes.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers.
    pub fn fee(&mut self, blocks: u32) -> Result<Suggested, ClientError> {
        let (mut fees, mut failure) = (Vec::new(), None);
        let nodes = self.asked();
        for (node, result) in self.ask_each(&nodes, &Request::Fee { blocks }, Instant::now() + ANSWER_TIMEOUT)? {
            match result {
                Ok(Response::Fee(suggestion)) => fees.push(suggestion),
                Ok(other) => failure = self.judge(&node, unexpected(&node, "Fee", &other)).or(failure),
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        fees.sort_by_key(|fee| (fee.rate, fee.minimum));
        let Some(fee) = fees.get(fees.len().saturating_sub(1) / 2).copied() else {
            return Err(failure.unwrap_or_else(|| self.nobody()));
        };
        let rate = |fee: Option<&FeeSuggestion>| fee.map_or(0, |fee| fee.rate);
        Ok(Suggested { fee, rates: (rate(fees.first()), rate(fees.last())), nodes: fees.len() })
    }

    /// How the first node is, its own word; what it says of its tip is checked where the chain can be checked from genesis on:
    /// whether it was.
    ///
    /// # Errors
    /// [`ClientError`] when it does not answer, or its tip is not what it says.
    pub fn checked_status(&mut self) -> Result<(NodeStatus, bool), ClientError> {
        loop {
            self.follow(Instant::now() + ANSWER_TIMEOUT)?;
            let Some(node) = self.connections.first().cloned() else { return Err(self.nobody()) };
            let status = match self.ask_until(&node, &Request::NodeStatus, Instant::now() + ANSWER_TIMEOUT)? {
                Response::NodeStatus(status) => *status,
                other => return Err(unexpected(&node, "NodeStatus", &other)),
            };
            if self.is_long() {
                return Ok((status, false));
            }
            match self.check_tip(&node, &status) {
                Ok(()) => return Ok((status, true)),
                Err(error) if error.is_lie() => self.disconnect(&node, &error),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Of this answer, with the highest next nonce that any node tells.
fn known(account: &AccountStatus, answers: &[(Connection, AccountStatus)]) -> Known {
    let next_nonce = answers.iter().map(|(_, other)| other.next_nonce).max().unwrap_or(0).max(account.next_nonce);
    let AccountStatus { nonce, balance, ref header, .. } = *account;
    let (height, block) = (header.height, header.hash());
    Known { nonce, balance, next_nonce, height, block, is_checked: false, nodes: 0 }
}
