//! A network's parameters and its genesis, which binds them.

mod file;

pub use file::{DEV_WALLET_SEED, Network, NetworkFileError};

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::Body;
use crate::codec::encode;
use crate::hash::{BlockHash, ModelId, Root, tagged};
use crate::header::Header;
use crate::target::CompactTarget;

/// A model that a network offers. What it weighs comes from here, so that consensus needs no model file.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelParameters {
    /// `H("ocelli/model", file bytes)`.
    pub id: ModelId,
    /// Bytes of an image: C·H·W.
    pub pixels: u32,
    /// Logits of an answer.
    pub logits: u32,
    /// What an image costs, as `docs/inference.md` counts it.
    pub cost: u64,
}

/// From a height on, another header version and more models.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The first height it holds for.
    pub height: u64,
    /// The version that headers must have from there on.
    pub version: u32,
    /// Models added.
    pub models: Vec<ModelParameters>,
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
    /// Blocks whose pixels, bodies and undo records every node keeps.
    pub retention: u64,
    /// Accounts at genesis, in ascending order of address.
    pub accounts: Vec<StartingAccount>,
    /// Models from genesis on.
    pub models: Vec<ModelParameters>,
    /// Upgrades known at genesis, in ascending order of height.
    pub upgrades: Vec<Upgrade>,
}

impl Parameters {
    /// The reward at a height: halved every `halving` blocks, the first at height `halving + 1`; genesis pays nothing.
    pub fn reward_at(&self, height: u64) -> Amount {
        let Some(before) = height.checked_sub(1) else { return Amount::ZERO };
        let halvings = before / self.halving.max(1);
        Amount(u32::try_from(halvings).ok().and_then(|n| self.reward.0.checked_shr(n)).unwrap_or(0))
    }

    /// The version that a header must have at a height.
    pub fn version_at(&self, height: u64) -> u32 {
        self.upgrades.iter().rev().find(|upgrade| upgrade.height <= height).map_or(1, |upgrade| upgrade.version)
    }

    /// A model that may be asked at a height.
    pub fn model_at(&self, id: ModelId, height: u64) -> Option<&ModelParameters> {
        let later = self.upgrades.iter().filter(|upgrade| upgrade.height <= height).flat_map(|upgrade| &upgrade.models);
        self.models.iter().chain(later).find(|model| model.id == id)
    }

    /// The balances that genesis begins with.
    pub fn balances(&self) -> BTreeMap<Address, Amount> {
        self.accounts.iter().map(|account| (account.address, account.balance)).collect()
    }

    /// The genesis header; `state` is the root of the starting accounts. It needs no proof of work.
    pub fn genesis(&self, state: Root) -> Header {
        Header {
            version: self.version_at(0),
            parent: BlockHash(tagged("ocelli/params", &[&encode(self)])),
            history: Root([0; 32]),
            state,
            body: Body::default().root(),
            miner: Address([0; 20]),
            height: 0,
            time: self.genesis_time,
            target: self.easiest_target,
            nonce: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        let model = |byte| ModelParameters { id: ModelId([byte; 32]), pixels: 3072, logits: 10, cost: 4096 };
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
            accounts: vec![],
            models: vec![model(1)],
            upgrades: vec![Upgrade { height: 20, version: 2, models: vec![model(2)] }],
        }
    }

    #[test]
    fn reward_halves() {
        let parameters = parameters();
        for (height, reward) in [(0, 0), (1, 9), (10, 9), (11, 4), (21, 2), (31, 1), (41, 0), (u64::MAX, 0)] {
            assert_eq!(parameters.reward_at(height), Amount(reward), "height {height}");
        }
    }

    #[test]
    fn upgrades_begin_at_their_height() {
        let parameters = parameters();
        for (height, version, second) in [(0, 1, false), (19, 1, false), (20, 2, true), (21, 2, true)] {
            assert_eq!(parameters.version_at(height), version);
            assert_eq!(parameters.model_at(ModelId([2; 32]), height).is_some(), second);
            assert!(parameters.model_at(ModelId([1; 32]), height).is_some());
        }
    }

    #[test]
    fn genesis_binds_every_parameter() {
        let one = parameters().genesis(Root([0; 32])).hash();
        let mut other = parameters();
        other.upgrades[0].models[0].cost += 1;
        assert_ne!(one, other.genesis(Root([0; 32])).hash());
        other = parameters();
        other.retention += 1;
        assert_ne!(one, other.genesis(Root([0; 32])).hash());
    }
}
