//! The chain at a tip, for whoever only reads.

use ocelli_consensus::block::Body;
use ocelli_consensus::object::{Account, ObjectId, StateReader as _};
use ocelli_consensus::rules::{self, AnchorBlock};
use ocelli_consensus::state::{self, Proof};
use ocelli_consensus::transition::ConnectError;
use ocelli_consensus::{Address, Header, Network, Work};

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
        let proof = state::prove(&*self.rows, self.tip.state, &ObjectId::Account(*address).key(), |_| Ok(None))?;
        Ok(Some((account, proof)))
    }

    /// A header for the block after the tip with these transactions, its nonce still to be found.
    ///
    /// # Errors
    /// The rule that a transaction breaks, or the store's error.
    pub fn template(
        &self,
        network: &Network,
        miner: Address,
        body: &Body,
        time: u64,
    ) -> Result<Header, ConnectError<StoreError>> {
        let place = network.place_after(&self.header, miner);
        let overlay = Overlay::new(&self.rows).map_err(ConnectError::Reader)?;
        let roots = overlay.propose(&network.parameters, &place, body)?;
        Ok(Header {
            version: place.version,
            parent: self.tip.hash,
            history: roots.history,
            state: roots.state,
            body: body.root(&self.tip.hash),
            miner,
            height: place.height,
            time,
            target: rules::expected_target(&network.parameters, &self.header, self.anchor),
            nonce: 0,
        })
    }
}
