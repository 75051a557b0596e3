//! A network's parameters, its genesis, which binds them, and its schedule of rules, which nothing binds.

mod file;
mod schedule;

pub use file::{DEV_WALLET_SEED, Network, NetworkFileError};
pub use schedule::{Schedule, ScheduleError, ScheduledVersion, TEST_VERSION, knows_version};

use std::collections::BTreeMap;

use crate::address::Address;
use crate::amount::Amount;
use crate::block::Body;
use crate::codec::encode;
use crate::hash::{BlockHash, ModelId, Root, tagged};
use crate::header::Header;
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

    /// The genesis header; `state` is the root of the starting accounts and models. It needs no proof of work.
    pub fn genesis(&self, state: Root) -> Header {
        Header {
            version: 1,
            parent: BlockHash(tagged("ocelli/params", &[&encode(self)])),
            history: Root([0; 32]),
            state,
            body: Body::default().root(&BlockHash::default()),
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
    use crate::transition::genesis_state;

    fn parameters() -> Parameters {
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

    #[test]
    fn genesis_binds_every_parameter() {
        let one = parameters();
        let changes: [fn(&mut Parameters); 17] = [
            |it| it.name.push('x'),
            |it| it.address_prefix.push('x'),
            |it| it.genesis_time += 1,
            |it| it.spacing += 1,
            |it| it.half_life += 1,
            |it| it.easiest_target.0 += 1,
            |it| it.reward.0 += 1,
            |it| it.halving += 1,
            |it| it.weight_limit += 1,
            |it| it.minimum_balance.0 += 1,
            |it| it.retention += 1,
            |it| it.attachment_retention += 1,
            |it| it.upload_window += 1,
            |it| it.model_delay += 1,
            |it| it.model_price.0 += 1,
            |it| it.accounts[0].balance.0 += 1,
            |it| it.models[0].facts.cost += 1,
        ];
        let hash = |parameters: &Parameters| parameters.genesis(Root([0; 32])).hash();
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            assert_ne!(hash(&one), hash(&other));
        }
    }

    #[test]
    fn a_genesis_model_has_54_bytes_and_is_in_the_state() {
        let parameters = parameters();
        assert_eq!(encode(&parameters.models[0]).len(), 54);
        let (_, _, objects) = genesis_state(&parameters);
        assert_eq!(objects.len(), 2);
        let model = objects[&crate::ObjectId::Model(ModelId([1; 32]))].model().unwrap();
        assert_eq!((model.author, model.royalty, model.first), (Address([0; 20]), Amount(0), 0));
    }
}
