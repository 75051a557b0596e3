//! Something to begin with, from a node that gives.

use std::sync::atomic::{AtomicBool, Ordering};

use ocelli_consensus::{Action, Address, Amount, BlockHash, Transaction};
use ocelli_protocol::message::{FaucetClaim, FaucetReply, FaucetRequest, FaucetTerms, Request, Response};
use rayon::prelude::*;

use super::chains::unexpected;
use super::lie::Lie;
use super::{Client, ClientError, Connection};

/// More work than any faucet has reason to ask for: minutes on one core.
pub const MAX_BITS: u32 = 30;

/// Nonces that one thread tries without a look at the others.
const STRIDE: u64 = 1 << 12;

impl Client {
    /// The connected nodes that run a faucet, with their terms, and what the others said.
    ///
    /// # Errors
    /// When the network ends, which it does not by itself.
    #[allow(clippy::type_complexity)] // two lists
    pub fn faucets(&mut self) -> Result<(Vec<(Connection, FaucetTerms)>, Vec<ClientError>), ClientError> {
        let (mut faucets, mut others) = (Vec::new(), Vec::new());
        for connection in self.connections.clone() {
            match self.ask_at(connection.clone(), &Request::Faucet(FaucetRequest::Terms)) {
                Ok(Response::Faucet(FaucetReply::Terms(terms))) => faucets.push((connection, terms)),
                Ok(other) => others.push(unexpected(&connection, "Faucet", &other)),
                Err(ClientError::Alone) => return Err(ClientError::Alone),
                Err(error) => others.push(error),
            }
        }
        Ok((faucets, others))
    }

    /// Claims a payment that has been worked for: a transfer of the promised amount to the claimed address, signed. Whether
    /// the faucet has so much shows when a block holds it.
    ///
    /// # Errors
    /// [`ClientError`] when the node does not answer, does not pay, or shows another transaction; for that it is left.
    pub fn claim(
        &mut self,
        faucet: &Connection,
        terms: &FaucetTerms,
        claim: FaucetClaim,
    ) -> Result<Transaction, ClientError> {
        let paid = match self.ask_at(faucet.clone(), &Request::Faucet(FaucetRequest::Claim(claim)))? {
            Response::Faucet(FaucetReply::Paid(transaction)) => {
                let checked = check_payment(&transaction, self.network.genesis_hash(), claim.address, terms.amount);
                checked.map(|()| transaction).map_err(|lie| lie.told_by(faucet))
            }
            other => Err(unexpected(faucet, "Faucet", &other)),
        };
        if let Err(error) = &paid {
            self.disconnect(faucet, error);
        }
        paid
    }
}

/// Checks that a transaction pays that amount to that address.
fn check_payment(transaction: &Transaction, genesis: BlockHash, to: Address, amount: Amount) -> Result<(), Lie> {
    let expected = Action::Transfer { to, amount };
    let lie =
        |found| Lie::Payment { found, expected: format!("a transfer of {amount} credits to the claimed address") };
    match &transaction.unsigned.action {
        found if *found == expected => {
            transaction.verify_signatures(genesis).map_err(|error| lie(format!("not signed: {error}")))
        }
        Action::Transfer { to: other, amount } if *other == to => Err(lie(format!("a transfer of {amount} credits"))),
        Action::Transfer { .. } => Err(lie("a transfer to another address".into())),
        _ => Err(lie("no transfer".into())),
    }
}

/// Finds a claim with the work that the terms want, on all cores. Takes 2^bits hashes on average; any claim does, so the one
/// that is found first is taken.
pub fn work(genesis: BlockHash, terms: &FaucetTerms, address: Address) -> FaucetClaim {
    let found = AtomicBool::new(false);
    let claim = |nonce| FaucetClaim { address, block: terms.block, nonce };
    let first = (0..u64::MAX / STRIDE).into_par_iter().find_map_any(|stride| {
        if found.load(Ordering::Relaxed) {
            return None;
        }
        let nonces = stride * STRIDE..(stride + 1) * STRIDE;
        let claim = nonces.map(claim).find(|claim| claim.work(genesis) >= terms.bits)?;
        found.store(true, Ordering::Relaxed);
        Some(claim)
    });
    first.unwrap_or_else(|| claim(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        let terms = FaucetTerms { amount: Amount(1), bits: 10, block: BlockHash([7; 32]) };
        for byte in 0..20 {
            let (genesis, address) = (BlockHash([byte; 32]), Address([byte; 20]));
            let claim = work(genesis, &terms, address);
            assert_eq!((claim.address, claim.block), (address, terms.block));
            assert!(claim.work(genesis) >= terms.bits);
        }
    }
}
