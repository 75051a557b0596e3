//! The genesis of a network: its state and its header, both of which follow from the parameters.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::block::Body;
use crate::codec::encode;
use crate::hash::{BlockHash, Root, tagged};
use crate::header::Header;
use crate::object::{Account, Object, ObjectId, leaves};
use crate::parameters::Parameters;
use crate::state::{self, BranchChanges, BranchReader, Child};

impl Parameters {
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

/// The state of genesis, the network's starting accounts and models, as tree and as objects.
pub fn genesis_state(parameters: &Parameters) -> (Child, BranchChanges, BTreeMap<ObjectId, Object>) {
    struct Nothing;
    impl BranchReader for Nothing {
        type Error = std::convert::Infallible;
        fn branch(&self, _: &state::Path) -> Result<Option<state::Branch>, Self::Error> {
            Ok(None)
        }
    }
    let account = |(address, balance)| (ObjectId::Account(address), Object::from(Account { nonce: 0, balance }));
    let accounts = parameters.balances().into_iter().map(account);
    let models = parameters.models.iter().map(|model| (ObjectId::Model(model.id), Object::from(model.record())));
    let objects: BTreeMap<_, _> = accounts.chain(models).collect();
    let values = leaves(objects.iter().map(|(id, object)| (*id, Some(object.to_bytes()))));
    let (state, branches) =
        state::update(&Nothing, Child::Empty, &values).expect("an empty tree is built without reading any branch");
    (state, branches, objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::hash::ModelId;
    use crate::parameters::tests::parameters;

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
        let model = objects[&ObjectId::Model(ModelId([1; 32]))].model().unwrap();
        assert_eq!((model.author, model.royalty, model.first), (Address([0; 20]), Amount(0), 0));
    }
}
