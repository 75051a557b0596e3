//! What blocks do to the state: golden values, and a naive ledger that must agree.

mod chain;

use std::collections::BTreeMap;

use chain::*;
use ocelli_consensus::header::Place;
use ocelli_consensus::object::StateReader;
use ocelli_consensus::rules::{Sum, TransactionError};
use ocelli_consensus::state::{self, Child};
use ocelli_consensus::transition::{self, Changes};
use ocelli_consensus::*;
use proptest::prelude::*;

/// Objects in the plainest way: nothing to undo, nothing shared with the code under test. Accounts, uploads, models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Naive {
    accounts: BTreeMap<Address, (u64, u128)>,
    /// By sender: the model that it is bound to, its size, the parts that have come, begin and last height.
    uploads: BTreeMap<Address, (ModelId, u32, Vec<AttachmentHash>, u64, u64)>,
    /// By id: author, royalty, first height, size.
    models: BTreeMap<ModelId, (Address, u64, u64, u32)>,
    burnt: u128,
}

/// One transaction of a generated block: its sender by seed, what is added to the right nonce, its fee.
#[derive(Debug, Clone)]
struct Move {
    from: u8,
    nonce: u64,
    fee: u64,
    action: MoveAction,
}

#[derive(Debug, Clone)]
enum MoveAction {
    Transfer {
        to: u8,
        amount: u64,
    },
    /// The royalty is the model's plus this.
    Classify {
        model: u8,
        royalty: u64,
    },
    Upload {
        model: u8,
        size: u32,
    },
    /// The number is the next plus `number`, the length the right one plus `bytes`.
    Part {
        number: u16,
        bytes: u32,
    },
    Publish {
        model: u8,
        royalty: u64,
        size: u32,
    },
}

/// Models 0 to 2: 0 is there from genesis on, the others may be published. They are as small as the price is high.
fn model_id(number: u8) -> ModelId {
    if number == 0 { MODEL } else { ModelId([number; 32]) }
}

fn facts_of(size: u32) -> ModelFacts {
    ModelFacts { size, ..FACTS }
}

fn moves() -> impl Strategy<Value = Move> {
    let amounts = || prop_oneof![Just(0u64), 1u64..99, Just(99), Just(100), 100u64..12_000];
    let nonces = prop_oneof![9 => Just(0u64), 1 => 1u64..3];
    let rarely = || prop_oneof![12 => Just(0u64), 1 => 1u64..3];
    let sizes = || prop_oneof![4 => Just(5u32), 1 => Just(262_149u32)];
    let action = prop_oneof![
        3 => (1u8..9, amounts()).prop_map(|(to, amount)| MoveAction::Transfer { to, amount }),
        3 => (0u8..3, rarely()).prop_map(|(model, royalty)| MoveAction::Classify { model, royalty }),
        2 => (1u8..3, sizes()).prop_map(|(model, size)| MoveAction::Upload { model, size }),
        4 => (rarely(), rarely())
            .prop_map(|(number, bytes)| MoveAction::Part { number: number as u16, bytes: bytes as u32 }),
        3 => (1u8..3, 0u64..9, sizes())
            .prop_map(|(model, royalty, size)| MoveAction::Publish { model, royalty, size }),
    ];
    // 1 to 3 begin with something, 7 mines, the others begin with nothing. Uploads are the first three's.
    (1u8..9, nonces, prop_oneof![0u64..30, amounts()], action).prop_map(|(from, nonce, fee, action)| {
        let is_upload = !matches!(action, MoveAction::Transfer { .. } | MoveAction::Classify { .. });
        Move { from: if is_upload { 1 + from % 3 } else { from }, nonce, fee, action }
    })
}

/// Blocks, some of them after many empty ones: uploads take time. Before most of them model 1 is published, so that it is asked
/// for its royalty.
fn blocks() -> impl Strategy<Value = Vec<(u8, Vec<Move>)>> {
    let empty = prop_oneof![4 => Just(0u8), 1 => Just(3), 3 => Just(7)];
    let blocks = prop::collection::vec((empty, prop::collection::vec(moves(), 0..8)), 1..7);
    let published = prop_oneof![1 => Just(vec![]), 3 => (1u8..4, 1u64..200).prop_map(publication)];
    (published, blocks).prop_map(|(published, blocks)| [published, blocks].concat())
}

/// The blocks in which model 1 is published, until it may be asked.
fn publication((from, royalty): (u8, u64)) -> Vec<(u8, Vec<Move>)> {
    let (model, size) = (1, 5);
    let by = |action| vec![Move { from, nonce: 0, fee: 1, action }];
    vec![
        (0, by(MoveAction::Upload { model, size })),
        (7, by(MoveAction::Part { number: 0, bytes: 0 })),
        (0, by(MoveAction::Publish { model, royalty, size })),
        (3, vec![]),
    ]
}

const BYTES_A_PART: u64 = 262_144;

/// What a move is in the state before it: the action, and the attachment beside it.
fn to_action(naive: &Naive, it: &Move) -> (Action, Option<Vec<u8>>) {
    let sender = address(it.from);
    match it.action {
        MoveAction::Transfer { to, amount } => (Action::Transfer { to: address(to), amount: Amount(amount) }, None),
        MoveAction::Classify { model, royalty } => {
            let asked = naive.models.get(&model_id(model)).map_or(0, |model| model.1);
            let pixels = vec![it.from; 4];
            let picture = AttachmentHash::of(&pixels);
            let royalty = Amount(asked + royalty);
            let action = Action::Classify { model: model_id(model), picture, bytes: 4, royalty, form: Form::Pixels };
            (action, Some(pixels))
        }
        MoveAction::Upload { model, size } => {
            (Action::Upload { file: UploadHash::of(&sender, &model_id(model)), size }, None)
        }
        MoveAction::Part { number, bytes } => {
            let (next, size) =
                naive.uploads.get(&sender).map_or((0, 5), |(_, size, parts, ..)| (parts.len() as u16, *size));
            let rest = u64::from(size).saturating_sub(u64::from(next) * BYTES_A_PART).clamp(1, BYTES_A_PART);
            let bytes = (rest as u32 + bytes).min(262_144);
            let data = vec![next as u8; bytes as usize];
            let action = Action::Part { number: next + number, bytes, data: AttachmentHash::of(&data) };
            (action, Some(data))
        }
        MoveAction::Publish { model, royalty, size } => {
            let (model, facts, royalty) = (model_id(model), facts_of(size), Amount(royalty));
            (Action::Publish { model, facts, royalty }, None)
        }
    }
}

/// Applies a transaction at a height as docs/protocol.md says it, or gives the rule that it breaks.
fn apply(naive: &Naive, parameters: &Parameters, height: u64, it: &Move) -> Result<Naive, &'static str> {
    let mut after = naive.clone();
    let sender = address(it.from);
    let (action, _) = to_action(naive, it);
    let (nonce, balance) = after.accounts.get(&sender).copied().unwrap_or_default();
    let price = u128::from(parameters.model_price.0);
    let paid = match &action {
        Action::Transfer { amount: Amount(amount), .. } | Action::Classify { royalty: Amount(amount), .. } => {
            u128::from(*amount)
        }
        Action::Part { bytes, .. } => u128::from(*bytes) * price,
        Action::Publish { .. } => 65_536 * price,
        _ => 0,
    };
    if it.nonce != 0 {
        return Err("Nonce");
    }
    let rest = balance.checked_sub(paid + u128::from(it.fee)).ok_or("Balance")?;
    after.accounts.insert(sender, (nonce + 1, rest));
    match action {
        Action::Transfer { to, amount } => {
            if !after.accounts.contains_key(&to) && amount.0 < 100 {
                return Err("MinimumBalance");
            }
            after.accounts.entry(to).or_default().1 += paid;
        }
        Action::Classify { model, .. } => {
            let Some(&(author, asked, first, _)) = naive.models.get(&model) else { return Err("UnknownModel") };
            if first > height {
                return Err("UnknownModel");
            }
            if u128::from(asked) != paid {
                return Err("Royalty");
            }
            if paid > 0 {
                after.accounts.entry(author).or_default().1 += paid;
            }
        }
        Action::Upload { size, .. } => {
            let MoveAction::Upload { model, .. } = it.action else { unreachable!() };
            after.uploads.insert(sender, (model_id(model), size, vec![], height, height));
        }
        Action::Part { number, bytes, data } => {
            let (_, size, parts, since, last) = after.uploads.get_mut(&sender).ok_or("NoUpload")?;
            let begin = u64::from(number) * BYTES_A_PART;
            if usize::from(number) != parts.len() || begin >= u64::from(*size) {
                return Err("PartNumber");
            }
            if u64::from(bytes) != (u64::from(*size) - begin).min(BYTES_A_PART) {
                return Err("PartLength");
            }
            if height < *since + 8 || height >= *since + parameters.upload_window {
                return Err("UploadWindow");
            }
            parts.push(data);
            *last = height;
            after.burnt += paid;
        }
        Action::Publish { model, facts, royalty } => {
            let (bound, size, parts, since, last) = after.uploads.get(&sender).ok_or("NoUpload")?;
            if *bound != model {
                return Err("UploadFile");
            }
            if *size != facts.size {
                return Err("UploadSize");
            }
            if (parts.len() as u64) * BYTES_A_PART < u64::from(*size) {
                return Err("PartsMissing");
            }
            if height <= *last || height >= *since + parameters.upload_window {
                return Err("UploadWindow");
            }
            if after.models.contains_key(&model) {
                return Err("ModelExists");
            }
            after.uploads.remove(&sender);
            after.models.insert(model, (sender, royalty.0, height + parameters.model_delay, facts.size));
            after.burnt += paid;
        }
        Action::Unknown(_) => unreachable!(),
    }
    Ok(after)
}

impl Naive {
    /// Kind, id and value of every object, by the tables of docs/protocol.md.
    fn values(&self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let mut values = Vec::new();
        for (address, (nonce, balance)) in &self.accounts {
            let balance = u64::try_from(*balance).unwrap();
            values.push((0, address.0.to_vec(), [nonce.to_le_bytes(), balance.to_le_bytes()].concat()));
        }
        for (id, (author, royalty, first, size)) in &self.models {
            let ModelFacts { channels, height, width, classes, cost, .. } = FACTS;
            let sides = [channels, height, width].map(u16::to_le_bytes).concat();
            let value = [
                &author.0[..],
                &royalty.to_le_bytes(),
                &first.to_le_bytes(),
                &size.to_le_bytes(),
                &sides,
                &classes.to_le_bytes(),
                &cost.to_le_bytes(),
            ];
            values.push((1, id.0.to_vec(), value.concat()));
        }
        for (sender, (model, size, parts, since, last)) in &self.uploads {
            let file = hash::tagged("ocelli/upload", &[&sender.0, &model.0]);
            let chained = parts.iter().fold([0; 32], |hash, part| hash::tagged("ocelli/parts", &[&hash, &part.0]));
            let numbers = [&since.to_le_bytes()[..], &last.to_le_bytes()].concat();
            let next = (parts.len() as u16).to_le_bytes();
            values.push((2, sender.0.to_vec(), [&file[..], &chained, &size.to_le_bytes(), &next, &numbers].concat()));
        }
        values
    }

    /// The state root by its definition, over all objects.
    fn root(&self) -> [u8; 32] {
        let leaves: Vec<_> = self
            .values()
            .iter()
            .map(|(kind, id, value)| {
                let key = hash::tagged("ocelli/state/key", &[&[*kind], id]);
                (key, hash::tagged("ocelli/state/leaf", &[&key, value]))
            })
            .collect();
        tree(0, &leaves)
    }

    /// As a store would hold them.
    fn objects(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.values().into_iter().map(|(kind, id, value)| ([vec![kind], id].concat(), value)).collect()
    }
}

fn tree(depth: usize, leaves: &[([u8; 32], [u8; 32])]) -> [u8; 32] {
    match leaves {
        [] => [0; 32],
        [(_, hash)] => *hash,
        _ => {
            let one = |(key, _): &([u8; 32], _)| key[depth / 8] >> (7 - depth % 8) & 1 == 1;
            let (right, left): (Vec<_>, Vec<_>) = leaves.iter().copied().partition(|leaf| one(leaf));
            hash::tagged("ocelli/state/node", &[&tree(depth + 1, &left), &tree(depth + 1, &right)])
        }
    }
}

/// A network whose models cost little enough for the accounts of these tests.
fn priced() -> Parameters {
    let accounts = starting((1..=3).map(|seed| (seed, 100_000_000)));
    Parameters { accounts, model_price: Amount(3), weight_limit: 12_000_000, ..parameters() }
}

fn genesis_of(parameters: &Parameters) -> Naive {
    let accounts = (1..=3).map(|seed| (address(seed), (0, 100_000_000))).collect();
    let model = (Address::default(), 0, 0, parameters.models[0].facts.size);
    Naive { accounts, models: [(MODEL, model)].into(), ..Naive::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_naive_ledger_agrees_and_undo_goes_back(blocks in blocks()) {
        let mut chain = Chain::new(priced());
        let mut naive = genesis_of(chain.parameters());
        prop_assert_eq!(chain.tip().state.0, naive.root());
        prop_assert_eq!(&chain.ledger.objects, &naive.objects());
        let mut stages = vec![];
        let blocks = blocks.into_iter().flat_map(|(empty, moves)| {
            std::iter::repeat_n(vec![], empty.into()).chain([moves])
        });
        for moves in blocks {
            stages.push((chain.ledger.clone(), chain.state, naive.root()));
            let (mut transactions, mut fees, height) = (vec![], 0, chain.tip().height + 1);
            for it in &moves {
                let nonce = naive.accounts.get(&address(it.from)).map_or(0, |account| account.0) + it.nonce;
                let (action, attachment) = to_action(&naive, it);
                let unsigned = Unsigned { nonce, fee: Amount(it.fee), expires: u64::MAX, action };
                let transaction = (chain.sign(it.from, unsigned), attachment);
                match apply(&naive, chain.parameters(), height, it) {
                    Ok(after) => {
                        naive = after;
                        fees += u128::from(it.fee);
                        transactions.push(transaction);
                    }
                    Err(expected) => {
                        let with = [transactions.clone(), vec![transaction]].concat();
                        let index = with.len() - 1;
                        let found = chain.verdict(&chain.candidate(with)).unwrap_err();
                        // What needs no state comes before what does.
                        let first = match found.rule().name {
                            "UnknownModel" => expected_model(&chain, it),
                            _ => expected,
                        };
                        prop_assert_eq!(found.rule().name, first);
                        let RuleError::Transaction { index: last, .. } = found else { panic!("{found}") };
                        prop_assert_eq!(last, index);
                    }
                }
            }
            let reward = u128::from(chain.parameters().reward_at(height).0);
            if reward + fees > 0 {
                naive.accounts.entry(address(7)).or_default().1 += reward + fees;
            }
            let candidate = chain.candidate(transactions);
            let connected = chain.check(&candidate).unwrap();
            let unchanged = connected.delta.objects.values().any(|change| change.before == change.after);
            prop_assert!(!unchanged, "a delta holds only what differs");
            let undo = connected.delta.undo();
            prop_assert_eq!(codec::decode::<transition::Undo>(&codec::encode(&undo), 1 << 20), Ok(undo));
            chain.connect(&candidate);
            prop_assert_eq!(&chain.ledger.objects, &naive.objects());
            prop_assert_eq!(candidate.header.state.0, naive.root());
            let reward = |height| u128::from(chain.parameters().reward_at(height).0);
            let rewards: u128 = (1..=chain.tip().height).map(reward).sum();
            let held = naive.accounts.values().map(|account| account.1).sum::<u128>();
            prop_assert_eq!(held + naive.burnt, 300_000_000 + rewards, "nothing is lost but what is burnt");
        }
        for (ledger, state, root) in stages.into_iter().rev() {
            prop_assert_eq!(chain.disconnect(), state);
            prop_assert_eq!(chain.state, state);
            prop_assert_eq!(chain.state.hash(), root);
            prop_assert_eq!(&chain.ledger, &ledger);
        }
    }
}

/// A task whose model is not offered breaks that rule, whatever its account.
fn expected_model(chain: &Chain, it: &Move) -> &'static str {
    let MoveAction::Classify { model, .. } = it.action else { return "no task" };
    let record = chain.ledger.model(&model_id(model));
    match record.filter(|record| record.first <= chain.tip().height + 1) {
        Some(_) => "another rule",
        None => "UnknownModel",
    }
}

/// A store that lost a branch is not a block's fault.
#[test]
fn a_damaged_store_condemns_no_block() {
    let mut chain = Chain::new(parameters());
    let candidate = chain.candidate(vec![(chain.transfer(1, 0, address(2), 1, 0), None)]);
    chain.ledger.branches.clear();
    let found = transition::connect(chain.parameters(), &chain.base(), &candidate.header, &candidate.body);
    assert!(matches!(found, Err(transition::ConnectError::Tree(_))), "{found:?}");
}

/// Each row: a transaction, and why it cannot follow on the one before it. Nothing has changed then.
#[test]
fn what_cannot_follow_changes_nothing() {
    let chain = Chain::new(parameters());
    let mut changes = Changes::default();
    let mut transact = |transaction: Transaction| {
        let before = changes.clone();
        let Ok(result) = changes.transact(chain.parameters(), &chain.place(), &transaction, &chain.ledger);
        assert_eq!(changes == before, result.is_err());
        result
    };
    let balance = |balance, needed| TransactionError::Balance { balance: Amount(balance), needed: Amount(needed) };
    let small = TransactionError::MinimumBalance { amount: Amount(99), minimum: Amount(100) };
    let rows = [
        (chain.transfer(1, 1, address(2), 1, 1), Err(TransactionError::Nonce { found: 1, expected: 0 })),
        (chain.transfer(1, 0, address(2), 9_999, 2), Err(balance(10_000, 10_001))),
        (chain.transfer(1, 0, address(9), 99, 1), Err(small)),
        (chain.transfer(1, 0, address(9), u64::MAX, 1), Err(TransactionError::AmountOverflow { sum: Sum::Total })),
        (chain.transfer(9, 0, address(1), 1, 1), Err(balance(0, 2))),
        (chain.transfer(1, 0, address(1), 9_000, 1_000), Ok(())),
        (chain.transfer(1, 1, address(9), 100, 8_900), Ok(())),
        (chain.transfer(9, 0, address(1), 99, 1), Ok(())),
        (chain.classify(1, 2, &[1; 4], 100), Err(balance(99, 100))),
        (chain.classify(1, 2, &[1; 4], 99), Ok(())),
    ];
    for (row, (transaction, expected)) in rows.into_iter().enumerate() {
        assert_eq!(transact(transaction), expected, "row {row}");
    }
}

/// Where an account may have nothing, a transfer of nothing creates it, and the state tree holds it; the miner's pay of nothing does
/// not.
#[test]
fn a_transfer_of_nothing_creates_an_account_where_the_minimum_is_nothing() {
    for (minimum, is_created) in [(0, true), (1, false)] {
        let minimum_balance = Amount(minimum);
        let mut chain = Chain::new(Parameters { minimum_balance, reward: Amount(0), ..parameters() });
        let transfer = chain.transfer(1, 0, address(9), 0, 0);
        let candidate = chain.candidate(vec![(transfer, None)]);
        if !is_created {
            let expected = TransactionError::MinimumBalance { amount: Amount(0), minimum: minimum_balance };
            assert_eq!(chain.verdict(&candidate), Err(expected.at(0)));
            continue;
        }
        chain.connect(&candidate);
        assert_eq!(chain.ledger.account(&address(9)), Some(Account { nonce: 0, balance: Amount(0) }));
        assert_eq!(chain.ledger.account(&candidate.header.miner), None);
        let mut naive = Naive { models: genesis_of(chain.parameters()).models, ..Naive::default() };
        naive.accounts =
            chain.ledger.accounts().map(|(address, it)| (address, (it.nonce, it.balance.0.into()))).collect();
        assert_eq!(chain.tip().state.0, naive.root());
        // Again, it is there: another minimum is no matter to it.
        chain.extend(vec![(chain.transfer(1, 1, address(9), 0, 0), None)]);
    }
}

/// From `Upload` to the first use: heights, burns, the royalty, and back again across a reorganisation.
#[test]
fn a_model_comes_to_the_chain() {
    let mut chain = Chain::new(priced());
    let file = [vec![1; 262_144], vec![2; 5]];
    let (model, facts) = (ModelId([1; 32]), facts_of(262_149));
    let balance = |chain: &Chain, seed| chain.ledger.account(&address(seed)).unwrap().balance.0;
    chain.extend(vec![(
        chain.act(1, 0, Action::Upload { file: UploadHash::of(&address(1), &model), size: facts.size }),
        None,
    )]);
    let part = |chain: &Chain, after, number: u16| {
        let data = file[usize::from(number)].clone();
        let action = Action::Part { number, bytes: data.len() as u32, data: AttachmentHash::of(&data) };
        (chain.act(1, after, action), Some(data))
    };
    let publish =
        |chain: &Chain, after, royalty| chain.act(1, after, Action::Publish { model, facts, royalty: Amount(royalty) });
    let window = |height, from, until| Err(TransactionError::UploadWindow { height, from, until });
    while chain.tip().height < 7 {
        let early = chain.verdict(&chain.candidate(vec![part(&chain, 0, 0)]));
        assert_eq!(early, window(chain.tip().height + 1, 9, 21).map_err(|error| error.at(0)));
        chain.extend(vec![]);
    }
    chain.extend(vec![]);
    // Both parts may come in one block, the publish only after it.
    let all = vec![part(&chain, 0, 0), part(&chain, 1, 1), (publish(&chain, 2, 5), None)];
    assert_eq!(chain.verdict(&chain.candidate(all)), window(9, 10, 21).map_err(|error| error.at(2)));
    chain.extend(vec![part(&chain, 0, 0), part(&chain, 1, 1)]);
    assert_eq!(balance(&chain, 1), 100_000_000 - 3 * 262_149);
    let upload = chain.ledger.upload(&address(1)).unwrap();
    assert_eq!((upload.next, upload.since, upload.last, upload.is_complete()), (2, 1, 9, true));
    assert_eq!(upload.parts, PartsHash::of_file(&file.concat()));

    let before = chain.clone();
    chain.extend(vec![(publish(&chain, 0, 5), None)]);
    assert_eq!(balance(&chain, 1), 100_000_000 - 3 * (262_149 + 65_536));
    assert_eq!(chain.ledger.upload(&address(1)), None, "it goes");
    let record = ModelRecord { author: address(1), royalty: Amount(5), first: 12, facts };
    assert_eq!(chain.ledger.model(&model), Some(record));

    let task = |chain: &Chain, royalty| {
        let (picture, form) = (AttachmentHash::of(&[3; 4]), Form::Pixels);
        let action = Action::Classify { model, picture, bytes: 4, royalty: Amount(royalty), form };
        vec![(chain.act(2, 0, action), Some(vec![3; 4]))]
    };
    let unknown = TransactionError::UnknownModel { model, height: 11 };
    assert_eq!(chain.verdict(&chain.candidate(task(&chain, 5))), Err(unknown.at(0)));
    chain.extend(vec![]);
    let wrong = TransactionError::Royalty { found: Amount(4), expected: Amount(5) };
    assert_eq!(chain.verdict(&chain.candidate(task(&chain, 4))), Err(wrong.at(0)));
    chain.extend(task(&chain, 5));
    assert_eq!(balance(&chain, 1), 100_000_000 - 3 * (262_149 + 65_536) + 5);
    assert_eq!(balance(&chain, 2), 100_000_000 - 5);

    // Another branch from before the publish: there the model is not, and is published later, for another price.
    (0..3).for_each(|_| _ = chain.disconnect());
    assert_eq!(chain.ledger, before.ledger);
    chain.extend(vec![]);
    chain.extend(vec![(publish(&chain, 0, 6), None)]);
    let unknown = TransactionError::UnknownModel { model, height: 12 };
    assert_eq!(chain.verdict(&chain.candidate(task(&chain, 5))), Err(unknown.at(0)));
    assert_eq!(chain.ledger.model(&model).map(|record| (record.first, record.royalty)), Some((13, Amount(6))));
}

/// An upload takes the place of another, whose parts are lost with what they burnt.
#[test]
fn an_upload_is_replaced() {
    let mut chain = Chain::new(priced());
    let begin = |chain: &Chain, after, model: u8, size| {
        let file = UploadHash::of(&address(1), &ModelId([model; 32]));
        (chain.act(1, after, Action::Upload { file, size }), None)
    };
    chain.extend(vec![begin(&chain, 0, 1, 5)]);
    (0..7).for_each(|_| chain.extend(vec![]));
    let part = Action::Part { number: 0, bytes: 5, data: AttachmentHash::of(&[1; 5]) };
    chain.extend(vec![(chain.act(1, 0, part), Some(vec![1; 5]))]);
    chain.extend(vec![begin(&chain, 0, 1, 5), begin(&chain, 1, 2, 6)]);
    let upload = chain.ledger.upload(&address(1)).unwrap();
    let expected = UploadRecord {
        file: UploadHash::of(&address(1), &ModelId([2; 32])),
        parts: PartsHash([0; 32]),
        size: 6,
        next: 0,
        since: 10,
        last: 10,
    };
    assert_eq!(upload, expected);
}

/// Authors are paid as anybody: an account may come of it, whatever the minimum, and who asks their own model pays
/// themselves.
#[test]
fn a_royalty_is_a_payment() {
    let chain = Chain::new(priced());
    let model = ModelId([1; 32]);
    for (asker, author) in [(1, 9), (1, 1), (1, 2)] {
        let mut ledger = chain.ledger.clone();
        let record = ModelRecord { author: address(author), royalty: Amount(7), first: 0, facts: FACTS };
        ledger.put(ObjectId::Model(model), record);
        let (picture, form) = (AttachmentHash::default(), Form::Pixels);
        let action = Action::Classify { model, picture, bytes: 4, royalty: Amount(7), form };
        let unsigned = Unsigned { nonce: 0, fee: Amount(2), expires: 9, action };
        let mut changes = Changes::default();
        let transaction = chain.sign(asker, unsigned);
        let Ok(result) = changes.transact(chain.parameters(), &chain.place(), &transaction, &ledger);
        result.unwrap();
        let after = |seed| changes.account(&address(seed), &ledger).unwrap().unwrap();
        let left = if author == asker { 99_999_998 } else { 99_999_991 };
        assert_eq!(after(asker), Account { nonce: 1, balance: Amount(left) });
        match author {
            9 => assert_eq!(after(9), Account { nonce: 0, balance: Amount(7) }),
            2 => assert_eq!(after(2), Account { nonce: 0, balance: Amount(100_000_007) }),
            _ => {}
        }
        assert_eq!(changes.fees(), Amount(2));
    }
}

/// What is burnt may exceed what there is, or 64 bits.
#[test]
fn burning_needs_a_balance() {
    let chain = Chain::new(Parameters { model_price: Amount((1 << 40) - 1), ..priced() });
    let part = chain.act(1, 0, Action::Part { number: 0, bytes: 262_144, data: AttachmentHash::default() });
    let publish = chain.act(1, 0, Action::Publish { model: MODEL, facts: FACTS, royalty: Amount(0) });
    for (transaction, needed) in [(part, 262_144 * ((1u64 << 40) - 1)), (publish, 65_536 * ((1 << 40) - 1))] {
        let mut changes = Changes::default();
        let Ok(found) = changes.transact(chain.parameters(), &chain.place(), &transaction, &chain.ledger);
        let balance = TransactionError::Balance { balance: Amount(100_000_000), needed: Amount(needed) };
        assert_eq!(found, Err(balance));
    }
}

/// The vector of docs/protocol.md's worked example: when the upload goes, the node that held it and the model collapses into
/// the model's leaf, and so do the two above it.
#[test]
fn a_node_collapses_into_a_leaf() {
    let mut chain = Chain::new(example_parameters());
    let candidate = example_block(&chain);
    chain.connect(&candidate);
    let upload = ObjectId::Upload(address(1));
    let depth = |chain: &Chain, id: &ObjectId| {
        let proof = state::prove(&chain.ledger, chain.state, &id.key(), |_| Ok(None)).unwrap();
        proof.siblings.len()
    };
    let model = ObjectId::Model(example_model());
    assert_eq!((depth(&chain, &upload), depth(&chain, &model)), (4, 4));
    let (state, branches) = state::update(&chain.ledger, chain.state, &[(upload.key(), None)].into()).unwrap();
    assert_eq!(branches.values().filter(|branch| branch.is_none()).count(), 3, "branches that go");
    assert_eq!(hex::encode(state.hash()), "0cd8e1394ac1cdec71cecbd37279274eccdcb363c09340bff147fd57fd7b1f7f");
    chain.ledger.write([(upload, None)], branches);
    chain.state = state;
    assert_eq!(depth(&chain, &model), 1);
    // As if it had never been there.
    let objects: BTreeMap<_, _> = (chain.ledger.objects.iter())
        .map(|(key, value)| {
            let (key, hash) = object::leaf(&ObjectId::from_bytes(key).unwrap(), value);
            (key, Some(hash))
        })
        .collect();
    assert_eq!(state::update(&Ledger::default(), Child::Empty, &objects).unwrap().0, state);
}

/// The transition reads nothing but the transaction, the state and the height.
#[test]
fn a_place_is_its_height() {
    let chain = Chain::new(priced());
    let transaction = chain.transfer(1, 0, address(2), 5, 1);
    let changes = |place: Place| {
        let mut changes = Changes::default();
        let Ok(result) = changes.transact(chain.parameters(), &place, &transaction, &chain.ledger);
        result.unwrap();
        changes
    };
    let place = chain.place();
    let other = Place { miner: address(9), parent_time: 5, ..place };
    assert_eq!(changes(place), changes(other));
    let Ok(account) = StateReader::account(&chain.ledger, &address(1));
    assert_eq!(account.unwrap().nonce, 0);
}
