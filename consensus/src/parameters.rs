//! A network's parameters, which its genesis binds.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::hash::ModelId;
use crate::object::{ModelFacts, ModelRecord};
use crate::target::CompactTarget;

/// A model that a network offers from genesis on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct GenesisModel {
    pub id: ModelId,
    pub facts: ModelFacts,
}

impl GenesisModel {
    /// What the state of genesis holds of it: nobody's, for nothing, from the beginning.
    pub fn record(&self) -> ModelRecord {
        ModelRecord { author: Address::default(), royalty: Amount::ZERO, first: 0, facts: self.facts }
    }
}

/// An account that exists from genesis.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StartingAccount {
    /// Whose it is.
    pub address: Address,
    /// What it holds.
    pub balance: Amount,
}

/// All that the genesis hash binds. Field order is encoding order.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Parameters {
    /// The network's name.
    pub name: String,
    /// Bech32m prefix of addresses: `oc`, on test networks `toc`.
    pub address_prefix: String,
    /// Seconds since 1970 of the genesis header.
    pub genesis_time: u64,
    /// Seconds between blocks that difficulty aims at.
    pub spacing: u64,
    /// Seconds behind or ahead of schedule that halve or double the target.
    pub half_life: u64,
    /// The easiest target, also that of block 1.
    pub easiest_target: CompactTarget,
    /// What a block pays its miner before the first halving, besides fees.
    pub reward: Amount,
    /// Blocks between halvings.
    pub halving: u64,
    /// The most that a block may weigh.
    pub weight_limit: u64,
    /// What a transfer that creates an account carries at least.
    pub minimum_balance: Amount,
    /// Blocks whose bodies and undo records every node keeps.
    pub retention: u64,
    /// Blocks whose attachments every node keeps.
    pub attachment_retention: u64,
    /// Blocks from an `Upload` on within which its parts come and the model is published.
    pub upload_window: u64,
    /// Blocks from a `Publish` until the model may be used.
    pub model_delay: u64,
    /// What a byte of an uploaded model burns.
    pub model_price: Amount,
    /// Accounts at genesis, in ascending order of address.
    pub accounts: Vec<StartingAccount>,
    /// Models from genesis on.
    pub models: Vec<GenesisModel>,
}

impl Parameters {
    /// The reward at a height: halved every `halving` blocks, the first at height `halving + 1`; genesis pays nothing.
    pub fn reward_at(&self, height: u64) -> Amount {
        let Some(before) = height.checked_sub(1) else { return Amount::ZERO };
        let halvings = before / self.halving.max(1);
        Amount(u32::try_from(halvings).ok().and_then(|n| self.reward.0.checked_shr(n)).unwrap_or(0))
    }

    /// What a model that the network has from genesis on has to be; `None` if it does not have it from then on.
    pub fn genesis_facts(&self, model: &ModelId) -> Option<ModelFacts> {
        self.models.iter().find(|offered| offered.id == *model).map(|offered| offered.facts)
    }

    /// The balances that genesis begins with.
    pub fn balances(&self) -> BTreeMap<Address, Amount> {
        self.accounts.iter().map(|account| (account.address, account.balance)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn parameters() -> Parameters {
        let facts = ModelFacts { size: 5, channels: 1, height: 2, width: 2, classes: 10, cost: 20_000 };
        Parameters {
            name: "test".into(),
            address_prefix: "toc".into(),
            genesis_time: 1_000,
            spacing: 2,
            half_life: 60,
            easiest_target: CompactTarget(0x1e04_0000),
            reward: Amount(9),
            halving: 10,
            weight_limit: 2_000_000,
            minimum_balance: Amount(1),
            retention: 100,
            attachment_retention: 90,
            upload_window: 80,
            model_delay: 4,
            model_price: Amount(3),
            accounts: vec![StartingAccount { address: Address([5; 20]), balance: Amount(6) }],
            models: vec![GenesisModel { id: ModelId([1; 32]), facts }],
        }
    }

    #[test]
    fn reward_halves() {
        let parameters = parameters();
        for (height, reward) in [(0, 0), (1, 9), (10, 9), (11, 4), (21, 2), (31, 1), (41, 0), (u64::MAX, 0)] {
            assert_eq!(parameters.reward_at(height), Amount(reward), "height {height}");
        }
    }
}
