use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use ocelli_consensus::block::Answer;
use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::genesis::genesis_state;
use ocelli_consensus::hash::UploadHash;
use ocelli_consensus::header::Place as BlockPlace;
use ocelli_consensus::network::Network;
use ocelli_consensus::object::{ModelFacts, Object, ObjectId, StateReader};
use ocelli_consensus::parameters::StartingAccount;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::transition::{self, Changes, UPLOAD_DELAY};
use ocelli_consensus::{AttachmentHash, Unsigned};
use proptest::prelude::*;

use super::*;

/// A chain of bodies on a state in memory, and what its entries add up to.
struct World {
    parameters: Parameters,
    objects: BTreeMap<ObjectId, Object>,
    header: Header,
    body: Body,
    changes: Changes,
    sums: BTreeMap<Address, i128>,
    seen: Vec<(Address, Entry)>,
}

struct State<'a>(&'a BTreeMap<ObjectId, Object>);

impl StateReader for State<'_> {
    type Error = Infallible;

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Infallible> {
        Ok(self.0.get(id).copied())
    }
}

const SIZE: u32 = 100;

fn address(number: u8) -> Address {
    Address::of(&[number; 32])
}

fn model(number: u8) -> ModelId {
    ModelId([number; 32])
}

impl World {
    fn new() -> Self {
        let mut parameters = Network::builtin("local").unwrap().parameters;
        (parameters.model_delay, parameters.upload_window) = (1, 1_000);
        (parameters.model_price, parameters.halving) = (Amount(3), 7);
        let balance = Amount(10_000_000_000);
        parameters.accounts = (0..3).map(|number| StartingAccount { address: address(number), balance }).collect();
        let (_, _, objects) = genesis_state(&parameters);
        let sums = parameters.balances().into_iter().map(|(address, amount)| (address, amount.0.into())).collect();
        let header = Header { height: 1, miner: address(9), ..Network::builtin("local").unwrap().genesis };
        let (body, changes) = (Body::default(), Changes::default());
        Self { parameters, objects, header, body, changes, sums, seen: Vec::new() }
    }

    fn place(&self) -> BlockPlace {
        let Header { height, version, miner, .. } = self.header;
        BlockPlace { height, version, miner, parent_time: 0 }
    }

    /// Puts a transaction into the block if the rules allow it.
    fn act(&mut self, from: u8, fee: u64, action: Action) -> bool {
        let reader = State(&self.objects);
        let Ok(account) = self.changes.account(&address(from), &reader);
        let nonce = account.unwrap_or_default().nonce;
        let unsigned = Unsigned { nonce, fee: Amount(fee), expires: u64::MAX, action };
        let transaction = Transaction { unsigned, public_key: [from; 32], signature: [0; 64] };
        let Ok(done) = self.changes.transact(&self.parameters, &self.place(), &transaction, &reader);
        if done.is_ok() {
            self.body.transactions.push((transaction, Answer::None));
        }
        done.is_ok()
    }

    /// Connects the block, and begins another one.
    fn connect(&mut self, miner: u8) {
        self.header.miner = address(miner);
        let reader = State(&self.objects);
        let author =
            |id: &ModelId| reader.model(id).map(|record| record.expect("a model that is asked is there").author);
        let Ok(entries) = entries(&self.parameters, &self.header, &self.body, author);
        let Ok(places) = places(&self.header, &self.body, author);
        let delta = transition::apply(&self.parameters, &self.place(), &self.body, &reader).unwrap();
        let own: BTreeSet<_> = entries.iter().map(|(address, entry)| (*address, entry.place)).collect();
        assert_eq!(own.len(), entries.len(), "one entry at a place");
        assert!(own.is_subset(&places.into_iter().collect()));
        assert!(entries.windows(2).all(|two| two[0].1.place <= two[1].1.place));
        for (address, entry) in &entries {
            *self.sums.entry(*address).or_default() += entry.event.change();
            assert_eq!(decode::<Event>(&encode(&entry.event), MAX_EVENT_BYTES), Ok(entry.event));
        }
        self.seen.extend(entries);
        for (id, change) in delta.objects {
            match change.after {
                Some(object) => self.objects.insert(id, object),
                None => self.objects.remove(&id),
            };
        }
        (self.changes, self.body) = Default::default();
        self.header.height += 1;
        self.assert_sums();
    }

    /// That the entries of every account add up to its balance.
    fn assert_sums(&self) {
        let balances = self.objects.iter().filter_map(|(id, object)| match id {
            ObjectId::Account(address) => Some((*address, i128::from(object.account()?.balance.0))),
            _ => None,
        });
        let balances: BTreeMap<_, _> = balances.collect();
        let sums: BTreeMap<_, _> = self.sums.iter().filter(|(who, _)| balances.contains_key(who)).collect();
        assert_eq!(sums, balances.iter().collect());
        assert!(self.sums.iter().all(|(who, sum)| balances.contains_key(who) || *sum == 0));
    }

    fn upload(&mut self, from: u8, which: u8) -> bool {
        let file = UploadHash::of(&address(from), &model(which));
        self.act(from, 5, Action::Upload { file, size: SIZE })
    }

    fn part(&mut self, from: u8) -> bool {
        self.act(from, 6, Action::Part { number: 0, bytes: SIZE, data: AttachmentHash([4; 32]) })
    }

    fn publish(&mut self, from: u8, which: u8, royalty: u64) -> bool {
        let facts = ModelFacts { size: SIZE, channels: 1, height: 1, width: 1, classes: 2, cost: 1 };
        self.act(from, 7, Action::Publish { model: model(which), facts, royalty: Amount(royalty) })
    }

    fn ask(&mut self, from: u8, which: u8) -> bool {
        let Ok(record) = State(&self.objects).model(&model(which));
        let royalty = record.map_or(Amount::ZERO, |record| record.royalty);
        let picture = AttachmentHash([5; 32]);
        self.act(from, 8, Action::Classify { model: model(which), picture, bytes: 1, royalty, form: Form::Pixels })
    }
}

#[test]
fn each_event_once() {
    let mut world = World::new();
    assert!(world.upload(0, 1));
    world.connect(9);
    (1..UPLOAD_DELAY).for_each(|_| world.connect(9));
    assert!(world.part(0));
    world.connect(9);
    assert!(world.publish(0, 1, 40));
    world.connect(9);
    let before = world.seen.len();
    assert!(world.ask(1, 1) && world.ask(0, 1));
    assert!(world.act(2, 9, Action::Transfer { to: address(2), amount: Amount(50) }));
    assert!(world.act(2, 9, Action::Transfer { to: address(0), amount: Amount(60) }));
    world.connect(2);
    let place = |index, side| Place { height: world.header.height - 1, index, side };
    let events: Vec<_> =
        world.seen[before..].iter().map(|(who, entry)| (*who, entry.place, entry.event.change())).collect();
    let reward = world.parameters.reward_at(world.header.height - 1);
    let expected = [
        (address(1), place(0, Side::Debit), -48),
        (address(0), place(0, Side::Credit), 40),
        (address(0), place(1, Side::Debit), -48),
        (address(0), place(1, Side::Credit), 40),
        (address(2), place(2, Side::Debit), -59),
        (address(2), place(2, Side::Credit), 50),
        (address(2), place(3, Side::Debit), -69),
        (address(0), place(3, Side::Credit), 60),
        (address(2), place(REWARD, Side::Credit), i128::from(reward.0) + 34),
    ];
    assert_eq!(events, expected);
    let burnt: Vec<_> = world.seen.iter().filter(|(who, _)| *who == address(0)).map(|(_, entry)| entry.event).collect();
    assert!(matches!(burnt[0], Event::Upload { fee: Amount(5), .. }));
    assert!(matches!(burnt[1], Event::Part { fee: Amount(6), burnt: Amount(300), .. }));
    assert!(matches!(burnt[2], Event::Publish { fee: Amount(7), burnt: Amount(196_608), .. }));
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    let (txid, fee) = (TxId([0xaa; 32]), Amount(7));
    let (who, model) = (Address([0xbb; 20]), ModelId([0xcc; 32]));
    let [tx, who_hex, model_hex, fee_hex] =
        ["aa".repeat(32), "bb".repeat(20), "cc".repeat(32), "0700000000000000".into()];
    let amount = "0900000000000000";
    for (event, expected) in [
        (Event::Reward { reward: Amount(9), fees: fee }, format!("01{amount}{fee_hex}")),
        (Event::Received { txid, from: who, amount: Amount(9) }, format!("02{tx}{who_hex}{amount}")),
        (Event::Royalty { txid, from: who, model, amount: Amount(9) }, format!("03{tx}{who_hex}{model_hex}{amount}")),
        (Event::Sent { txid, fee, to: who, amount: Amount(9) }, format!("04{tx}{fee_hex}{who_hex}{amount}")),
        (Event::Task { txid, fee, model, royalty: Amount(9) }, format!("05{tx}{fee_hex}{model_hex}{amount}")),
        (Event::Upload { txid, fee }, format!("06{tx}{fee_hex}")),
        (Event::Part { txid, fee, burnt: Amount(9) }, format!("07{tx}{fee_hex}{amount}")),
        (Event::Publish { txid, fee, burnt: Amount(9), model }, format!("08{tx}{fee_hex}{amount}{model_hex}")),
    ] {
        assert_eq!(hex(encode(&event)), expected);
        assert_eq!(decode::<Event>(&encode(&event), MAX_EVENT_BYTES), Ok(event));
    }
    for bytes in [&[][..], &[0], &[9; MAX_EVENT_BYTES], &[1; 16], &[1; 18]] {
        assert!(decode::<Event>(bytes, MAX_EVENT_BYTES).is_err());
    }
    let place = Place { height: 1, index: 2, side: Side::Credit };
    assert_eq!(hex(encode(&place)), "01000000000000000200000001");
    assert!(decode::<Place>(&[&encode(&place)[..12], &[2]].concat(), 13).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the rules allow, in any order, and whoever mines.
    #[test]
    fn the_entries_of_every_account_add_up_to_its_balance(
        steps in prop::collection::vec(any::<(u8, u8, u8, u32)>(), 0..500),
    ) {
        let mut world = World::new();
        for (kind, from, to, amount) in steps {
            let (from, which) = (from % 4, 1 + to % 2);
            match kind % 10 {
                0 => _ = world.upload(from, which),
                1 => _ = world.part(from),
                2 => _ = world.publish(from, which, u64::from(amount % 1_000)),
                3 | 4 => _ = world.ask(from, which),
                5..=7 => {
                    let action = Action::Transfer { to: address(to % 6), amount: Amount(amount.into()) };
                    world.act(from, u64::from(amount % 100), action);
                }
                _ => world.connect(to % 6),
            }
        }
        world.connect(9);
    }
}
