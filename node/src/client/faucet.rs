//! Something to begin with, from a node that gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ocelli_consensus::{Address, Amount, BlockHash, TxId};
use ocelli_protocol::message::{
    Confirmation, FaucetClaim, FaucetReply, FaucetRequest, FaucetTerms, Request, Response, TransactionStatus,
};
use rayon::prelude::*;

use super::{Client, ClientError, Connection};

/// More work than any faucet has reason to ask for: minutes on one core.
pub const MAX_BITS: u32 = 30;

/// Between two looks at a payment.
const POLL: Duration = Duration::from_millis(500);
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
                Ok(other) => others.push(self.unexpected("Faucet", &other)),
                Err(ClientError::Alone) => return Err(ClientError::Alone),
                Err(error) => others.push(error),
            }
        }
        Ok((faucets, others))
    }

    /// Claims a payment that has been worked for.
    ///
    /// # Errors
    /// [`ClientError`] when the node does not answer, or does not pay.
    pub fn claim(&mut self, faucet: &Connection, claim: FaucetClaim) -> Result<(TxId, Amount), ClientError> {
        match self.ask_at(faucet.clone(), &Request::Faucet(FaucetRequest::Claim(claim)))? {
            Response::Faucet(FaucetReply::Paid { txid, amount }) => Ok((txid, amount)),
            other => Err(self.unexpected("Faucet", &other)),
        }
    }

    /// Waits until a transaction has `depth` confirmations, at most for `time`; what is known of it then.
    ///
    /// # Errors
    /// [`ClientError`] when no node answers.
    pub fn wait_for(
        &mut self,
        txid: TxId,
        depth: u64,
        time: Duration,
    ) -> Result<Option<Box<Confirmation>>, ClientError> {
        let deadline = Instant::now() + time;
        loop {
            let found = match self.transaction(txid)? {
                TransactionStatus::Confirmed(confirmation) => Some(confirmation),
                TransactionStatus::Unknown | TransactionStatus::Pending => None,
            };
            if found.as_ref().is_some_and(|found| found.confirmations() >= depth) || Instant::now() >= deadline {
                return Ok(found);
            }
            self.pause((Instant::now() + POLL).min(deadline))?;
        }
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
