//! The chain at a tip, for whoever only reads.

use ocelli_consensus::block::Body;
use ocelli_consensus::rules::{self, AnchorBlock};
use ocelli_consensus::state::{self, Proof};
use ocelli_consensus::transition::{Account, ConnectError, Place, account_key};
use ocelli_consensus::{Address, Header, Parameters, Work};

use crate::store::{Overlay, Snapshot, StoreError, Tip};

/// The chain at a tip: any thread may read it, while the chain goes on.
pub struct AtTip {
    /// All rows as the tip left them.
    pub rows: Snapshot,
    /// The tip, as it is in the rows.
    pub tip: Tip,
    /// The tip's header.
    pub header: Header,
    /// The work of its chain.
    pub work: Work,
    /// Block 1 of its chain, from which difficulty is counted; `None` at genesis.
    pub anchor: Option<AnchorBlock>,
}

impl AtTip {
    /// An account with the proof that the tip's state holds it; `None` where there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn prove_account(&self, address: &Address) -> Result<Option<(Account, Proof)>, StoreError> {
        let Some(account) = self.rows.account(address)? else { return Ok(None) };
        let proof = state::prove(&*self.rows, self.tip.state, &account_key(address), |_| Ok(None))?;
        Ok(Some((account, proof)))
    }

    /// A header for the block after the tip with these transactions, its nonce still to be found.
    ///
    /// # Errors
    /// The rule that a transaction breaks, or the store's error.
    pub fn template(
        &self,
        parameters: &Parameters,
        miner: Address,
        body: &Body,
        time: u64,
    ) -> Result<Header, ConnectError<StoreError>> {
        let height = self.tip.height + 1;
        let overlay = Overlay::new(&self.rows).map_err(ConnectError::Reader)?;
        let roots = overlay.propose(parameters, Place { height, miner }, body)?;
        Ok(Header {
            version: parameters.version_at(height),
            parent: self.tip.hash,
            history: roots.history,
            state: roots.state,
            body: body.root(),
            miner,
            height,
            time,
            target: rules::expected_target(parameters, &self.header, self.anchor),
            nonce: 0,
        })
    }
}
