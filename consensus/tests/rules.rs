//! Every rule that a block must keep: a block that keeps them all, then one that breaks one.

mod chain;

use chain::*;
use ocelli_consensus::history::{self, Entry, Peaks};
use ocelli_consensus::rules::{self, BASE_WEIGHT, Blame, PixelsError, RuleError, TIME_LIMIT, check_pixels};
use ocelli_consensus::signature::SignatureError;
use ocelli_consensus::transition::{self, Account, Base};
use ocelli_consensus::*;

const PIXELS: [u8; 4] = [9, 8, 7, 6];

/// A chain of three blocks: genesis, a transfer, a task.
fn chain() -> Chain {
    let mut chain = Chain::new(parameters());
    chain.extend(vec![(chain.transfer(1, 0, address(2), 7, 3), None)]);
    chain.extend(vec![(chain.classify(2, 0, &PIXELS, 5), Some(PIXELS.to_vec()))]);
    chain
}

/// Block 3: a transfer, a task, and a transfer that creates an account.
fn valid(chain: &Chain) -> Candidate {
    chain.candidate(vec![
        (chain.transfer(1, 1, address(2), 1, 1), None),
        (chain.classify(2, 1, &PIXELS, 2), Some(PIXELS.to_vec())),
        (chain.transfer(3, 0, address(9), 100, 0), None),
    ])
}

/// When a row makes its change, and what is made good afterwards.
enum Change {
    /// To the body: then the roots are filled in and a nonce is found.
    Body(fn(&Chain, &mut Candidate)),
    /// To the header: then a nonce is found.
    Header(fn(&Chain, &mut Header)),
    /// To what is there, and nothing is made good.
    Bytes(fn(&Chain, &mut Candidate)),
}
use Change::{Body as InBody, Bytes, Header as InHeader};

/// One change to the valid block, the error that it must give, and who answers for it.
struct Row(&'static str, Change, fn(&Chain, &Candidate) -> RuleError, Blame);

fn unsigned(candidate: &mut Candidate, index: usize) -> &mut Unsigned {
    &mut candidate.body.transactions[index].0.unsigned
}

/// Changes a transaction and signs it again with the key of `seed`.
fn resign(chain: &Chain, candidate: &mut Candidate, index: usize, seed: u8, change: impl FnOnce(&mut Unsigned)) {
    change(unsigned(candidate, index));
    let unsigned = unsigned(candidate, index).clone();
    candidate.body.transactions[index].0 = chain.sign(seed, unsigned);
}

fn transfer_of(unsigned: &mut Unsigned) -> (&mut Address, &mut Amount) {
    match &mut unsigned.action {
        Action::Transfer { to, amount } => (to, amount),
        Action::Classify { .. } => panic!("not a transfer"),
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row(
            "an older version",
            InHeader(|_, header| header.version = 0),
            |_, _| RuleError::Version { found: 0, expected: 1, height: 3 },
            Blame::Sender,
        ),
        Row(
            "a newer version",
            InHeader(|_, header| header.version = 2),
            |_, _| RuleError::Version { found: 2, expected: 1, height: 3 },
            Blame::Nobody,
        ),
        Row(
            "a height left out",
            InHeader(|_, header| header.height = 4),
            |_, _| RuleError::Height { found: 4, expected: 3 },
            Blame::Sender,
        ),
        Row(
            "the parent's height",
            InHeader(|_, header| header.height = 2),
            |_, _| RuleError::Height { found: 2, expected: 3 },
            Blame::Sender,
        ),
        Row(
            "the parent's time",
            InHeader(|chain, header| header.time = chain.tip().time),
            |chain, _| RuleError::TimeNotAfterParent { found: chain.tip().time, parent: chain.tip().time },
            Blame::Sender,
        ),
        Row(
            "a time of 2^40",
            InHeader(|_, header| header.time = TIME_LIMIT),
            |_, _| RuleError::TimeTooLarge { found: 1 << 40 },
            Blame::Sender,
        ),
        Row(
            "a harder target",
            InHeader(|_, header| header.target.0 -= 1),
            |chain, candidate| RuleError::Target { found: candidate.header.target, expected: chain.expected_target() },
            Blame::Sender,
        ),
        Row(
            "an easier target",
            InHeader(|_, header| header.target = CompactTarget(0x2100_ffff)),
            |chain, _| RuleError::Target { found: CompactTarget(0x2100_ffff), expected: chain.expected_target() },
            Blame::Sender,
        ),
        Row(
            "a hash above the target",
            Bytes(|chain, candidate| {
                let target = chain.expected_target().to_target().unwrap();
                while target.is_met_by(candidate.header.hash().0) {
                    candidate.header.nonce += 1;
                }
            }),
            |chain, candidate| RuleError::ProofOfWork {
                hash: candidate.header.hash(),
                target: chain.expected_target(),
            },
            Blame::Sender,
        ),
        Row(
            "a transaction left out",
            Bytes(|_, candidate| drop(candidate.body.transactions.pop())),
            |_, candidate| RuleError::BodyRoot { found: candidate.body.root(), expected: candidate.header.body },
            Blame::SenderOnly,
        ),
        Row(
            "a signature swapped in a good block",
            Bytes(|_, candidate| candidate.body.transactions[0].0.signature[63] ^= 1),
            |_, candidate| RuleError::BodyRoot { found: candidate.body.root(), expected: candidate.header.body },
            Blame::SenderOnly,
        ),
        Row(
            "a logit swapped in a good block",
            Bytes(|_, candidate| candidate.body.transactions[1].1 = Some(vec![1, 2])),
            |_, candidate| RuleError::BodyRoot { found: candidate.body.root(), expected: candidate.header.body },
            Blame::SenderOnly,
        ),
        Row(
            "another history",
            InHeader(|_, header| header.history.0[0] ^= 1),
            |chain, candidate| RuleError::HistoryRoot {
                found: candidate.header.history,
                expected: Root(chain.peaks.root().unwrap()),
            },
            Blame::Block,
        ),
        Row(
            "another state",
            InHeader(|_, header| header.state = Root([0; 32])),
            |chain, _| RuleError::StateRoot { found: Root([0; 32]), expected: valid(chain).header.state },
            Blame::Block,
        ),
        Row(
            "another miner than the state's",
            InHeader(|_, header| header.miner = address(8)),
            |chain, candidate| {
                let mut sealed = candidate.clone();
                chain.seal(&mut sealed);
                RuleError::StateRoot { found: candidate.header.state, expected: sealed.header.state }
            },
            Blame::Block,
        ),
        Row(
            "a signature of nobody",
            InBody(|_, candidate| candidate.body.transactions[2].0.signature[0] ^= 1),
            |chain, candidate| {
                let source = candidate.body.transactions[2].0.verify_signatures(chain.genesis).unwrap_err();
                RuleError::Signature { index: 2, source }
            },
            Blame::Block,
        ),
        Row(
            "a signature for another amount",
            InBody(|_, candidate| unsigned(candidate, 0).fee.0 += 1),
            |_, _| RuleError::Signature { index: 0, source: SignatureError::Mismatch },
            Blame::Block,
        ),
        Row(
            "a signature for another network",
            InBody(|chain, candidate| {
                let mut elsewhere = chain.clone();
                elsewhere.genesis = BlockHash([1; 32]);
                resign(&elsewhere, candidate, 0, 1, |_| {});
            }),
            |_, _| RuleError::Signature { index: 0, source: SignatureError::Mismatch },
            Blame::Block,
        ),
        Row(
            "a transaction that came a block too late",
            InBody(|chain, candidate| resign(chain, candidate, 0, 1, |unsigned| unsigned.expires = 2)),
            |_, _| RuleError::Expired { index: 0, expires: 2, height: 3 },
            Blame::Block,
        ),
        Row(
            "a nonce left out",
            InBody(|chain, candidate| resign(chain, candidate, 0, 1, |unsigned| unsigned.nonce = 2)),
            |_, _| RuleError::Nonce { index: 0, found: 2, expected: 1 },
            Blame::Block,
        ),
        Row(
            "a nonce used before",
            InBody(|chain, candidate| resign(chain, candidate, 0, 1, |unsigned| unsigned.nonce = 0)),
            |_, _| RuleError::Nonce { index: 0, found: 0, expected: 1 },
            Blame::Block,
        ),
        Row(
            "a transaction twice",
            InBody(|_, candidate| {
                candidate.body.transactions.push(candidate.body.transactions[0].clone());
                candidate.pixels.push(None);
            }),
            |_, _| RuleError::Nonce { index: 3, found: 1, expected: 2 },
            Blame::Block,
        ),
        Row(
            "a model that nobody has",
            InBody(|chain, candidate| {
                resign(chain, candidate, 1, 2, |unsigned| {
                    unsigned.action = Action::Classify { model: ModelId([1; 32]), image: ImageHash::of(&PIXELS) };
                });
            }),
            |_, _| RuleError::UnknownModel { index: 1, model: ModelId([1; 32]) },
            Blame::Block,
        ),
        Row(
            "a model that comes later",
            InBody(|chain, candidate| {
                resign(chain, candidate, 1, 2, |unsigned| {
                    unsigned.action = Action::Classify { model: LATER_MODEL, image: ImageHash::of(&[1]) };
                });
            }),
            |_, _| RuleError::UnknownModel { index: 1, model: LATER_MODEL },
            Blame::Block,
        ),
        Row(
            "a task without an answer",
            InBody(|_, candidate| candidate.body.transactions[1].1 = None),
            |_, _| RuleError::OutputMissing { index: 1 },
            Blame::Block,
        ),
        Row(
            "an answer to nothing",
            InBody(|_, candidate| candidate.body.transactions[0].1 = Some(vec![])),
            |_, _| RuleError::OutputUnexpected { index: 0 },
            Blame::Block,
        ),
        Row(
            "a logit too many",
            InBody(|_, candidate| candidate.body.transactions[1].1.as_mut().unwrap().push(0)),
            |_, _| RuleError::OutputLength { index: 1, found: 3, expected: 2 },
            Blame::Block,
        ),
        Row(
            "no logits",
            InBody(|_, candidate| candidate.body.transactions[1].1 = Some(vec![])),
            |_, _| RuleError::OutputLength { index: 1, found: 0, expected: 2 },
            Blame::Block,
        ),
        Row(
            "the last logit off by one",
            InBody(|_, candidate| candidate.body.transactions[1].1.as_mut().unwrap()[1] -= 1),
            |_, _| RuleError::Output { index: 1, class: 1, found: -31, expected: -30 },
            Blame::Block,
        ),
        Row(
            "an image of three pixels",
            InBody(|chain, candidate| {
                candidate.pixels[1] = Some(vec![1, 2, 3]);
                resign(chain, candidate, 1, 2, |unsigned| {
                    unsigned.action = Action::Classify { model: MODEL, image: ImageHash::of(&[1, 2, 3]) };
                });
            }),
            |_, _| RuleError::ImageSize { index: 1, found: 3, expected: 4 },
            Blame::Block,
        ),
        Row(
            "a grain more than there is",
            InBody(|chain, candidate| {
                // Account 1 had 10,000 and paid 10.
                resign(chain, candidate, 0, 1, |unsigned| *transfer_of(unsigned).1 = Amount(9_990));
            }),
            |_, _| RuleError::Balance { index: 0, balance: Amount(9_990), needed: Amount(9_991) },
            Blame::Block,
        ),
        Row(
            "a fee from nowhere",
            InBody(|chain, candidate| {
                resign(chain, candidate, 1, 8, |unsigned| unsigned.nonce = 0);
            }),
            |_, _| RuleError::Balance { index: 1, balance: Amount(0), needed: Amount(2) },
            Blame::Block,
        ),
        Row(
            "a new account with a grain too little",
            InBody(|chain, candidate| {
                resign(chain, candidate, 2, 3, |unsigned| *transfer_of(unsigned).1 = Amount(99));
            }),
            |_, _| RuleError::MinimumBalance { index: 2, amount: Amount(99), minimum: Amount(100) },
            Blame::Block,
        ),
        Row(
            "amount and fee above 64 bits",
            InBody(|chain, candidate| {
                resign(chain, candidate, 0, 1, |unsigned| {
                    unsigned.fee = Amount(1);
                    *transfer_of(unsigned).1 = Amount(u64::MAX);
                });
            }),
            |_, _| RuleError::AmountOverflow { index: 0 },
            Blame::Block,
        ),
    ]
}

/// A number for each variant: a new one does not compile until it has a row.
fn variant(error: &RuleError) -> usize {
    match error {
        RuleError::Version { .. } => 0,
        RuleError::Height { .. } => 1,
        RuleError::TimeNotAfterParent { .. } => 2,
        RuleError::TimeTooLarge { .. } => 3,
        RuleError::Target { .. } => 4,
        RuleError::ProofOfWork { .. } => 5,
        RuleError::BodyRoot { .. } => 6,
        RuleError::HistoryRoot { .. } => 7,
        RuleError::StateRoot { .. } => 8,
        RuleError::Signature { .. } => 9,
        RuleError::Expired { .. } => 10,
        RuleError::Nonce { .. } => 11,
        RuleError::UnknownModel { .. } => 12,
        RuleError::OutputMissing { .. } => 13,
        RuleError::OutputUnexpected { .. } => 14,
        RuleError::OutputLength { .. } => 15,
        RuleError::Output { .. } => 16,
        RuleError::ImageSize { .. } => 17,
        RuleError::Balance { .. } => 18,
        RuleError::MinimumBalance { .. } => 19,
        RuleError::AmountOverflow { .. } => 20,
        // These have tests of their own below: no change to the one block shows them.
        RuleError::Weight { .. } => 21,
        RuleError::WorkOverflow => 22,
    }
}

#[test]
fn each_rule() {
    let chain = chain();
    let valid = valid(&chain);
    chain.verdict(&valid).expect("the block that the rows change is valid");
    let mut seen = std::collections::BTreeSet::new();
    for Row(name, change, expected, blame) in rows() {
        let mut candidate = valid.clone();
        match change {
            InBody(change) => {
                change(&chain, &mut candidate);
                chain.seal(&mut candidate);
            }
            InHeader(change) => {
                change(&chain, &mut candidate.header);
                chain.mine(&mut candidate.header);
            }
            Bytes(change) => change(&chain, &mut candidate),
        }
        let expected = expected(&chain, &candidate);
        assert_eq!(chain.verdict(&candidate), Err(expected.clone()), "{name}");
        assert_eq!(expected.blame(), blame, "{name}");
        seen.insert(variant(&expected));
    }
    assert!(seen.into_iter().eq(0..=20), "each variant has a row");
}

#[test]
fn weight_is_the_formula_and_its_limit_may_be_reached() {
    let chain = chain();
    let block = valid(&chain);
    let weigh = |index: usize| {
        let (transaction, _) = &block.body.transactions[index];
        rules::weight(transaction, &chain.parameters, 3)
    };
    // 152 bytes; 188 bytes, 4 pixels and 12,287 / 4096, rounded down.
    assert_eq!((weigh(0), weigh(1)), (Some(152 + BASE_WEIGHT), Some(188 + 4 + 2 + BASE_WEIGHT)));
    let total = 2 * (152 + 256) + 188 + 4 + 2 + 256;
    for (limit, expected) in [(total, Ok(())), (total - 1, Err(RuleError::Weight { found: total, limit: total - 1 }))] {
        let limited = Parameters { weight_limit: limit, ..chain.parameters.clone() };
        assert_eq!(rules::check_body(&limited, 3, &block.body), expected);
    }
    assert_eq!(RuleError::Weight { found: 1, limit: 0 }.blame(), Blame::Block);
    let other = chain.sign(
        1,
        Unsigned {
            nonce: 0,
            fee: Amount(0),
            expires: 9,
            action: Action::Classify { model: LATER_MODEL, image: ImageHash([0; 32]) },
        },
    );
    assert_eq!(rules::weight(&other, &chain.parameters, 4), None);
    assert_eq!(rules::weight(&other, &chain.parameters, 5), Some(188 + 1 + 256));
    assert_eq!(rules::max_transactions(8_000_000), 31_250);
}

#[test]
fn work_stays_within_256_bits() {
    let chain = chain();
    let mut peaks = Peaks::default();
    history::append(&mut peaks, Entry::leaf([0; 32], U256::MAX, 0, 0)).unwrap();
    let mut block = chain.candidate(vec![]);
    block.header.history = Root(peaks.root().unwrap());
    let base = Base { peaks: &peaks, ..chain.base() };
    let found = transition::connect(&chain.parameters, &base, &block.header, &block.body).map_err(rule);
    assert_eq!(found, Err(RuleError::WorkOverflow));
    assert_eq!(RuleError::WorkOverflow.blame(), Blame::Sender);
}

/// What is still valid at each bound.
#[test]
fn bounds_are_inclusive() {
    let chain = chain();
    let check = |name: &str, transactions: Vec<Transaction>| {
        let block = chain.candidate(transactions.into_iter().map(|transaction| (transaction, None)).collect());
        let connection = chain.check(&block);
        connection.unwrap_or_else(|error| panic!("{name}: {error}")).delta
    };
    let to = address(9);
    let mut last = chain.transfer(1, 1, address(2), 1, 0).unsigned;
    last.expires = 3;
    check("the last height that it may be included at", vec![chain.sign(1, last)]);
    let delta = check("all that there is", vec![chain.transfer(1, 1, address(2), 9_000, 990)]);
    assert_eq!(delta.accounts[&address(1)].after, Account { nonce: 2, balance: Amount(0) });
    check("nothing, to an account that there is", vec![chain.transfer(1, 1, address(2), 0, 0)]);
    let delta = check("the minimum balance", vec![chain.transfer(1, 1, to, 100, 0)]);
    assert_eq!(delta.accounts[&to].before, None);
    assert_eq!(delta.accounts[&to].after.balance, Amount(100));
    check(
        "less to an account created just before",
        vec![chain.transfer(1, 1, to, 100, 0), chain.transfer(1, 2, to, 1, 0)],
    );
    let delta = check(
        "created and emptied in one block",
        vec![chain.transfer(1, 1, to, 100, 0), chain.transfer(9, 0, address(1), 90, 10)],
    );
    assert_eq!(delta.accounts[&to].after, Account { nonce: 1, balance: Amount(0) }, "and kept");
    let delta = check("to itself", vec![chain.transfer(1, 1, address(1), 9_000, 90)]);
    assert_eq!(delta.accounts[&address(1)].after, Account { nonce: 2, balance: Amount(9_900) });
    let late = {
        let mut block = chain.candidate(vec![]);
        block.header.time = TIME_LIMIT - 1;
        chain.seal(&mut block);
        block
    };
    chain.verdict(&late).expect("a time just below 2^40");
    let next = {
        let mut block = chain.candidate(vec![]);
        block.header.time = chain.tip().time + 1;
        chain.seal(&mut block);
        block
    };
    chain.verdict(&next).expect("a second after the parent");
}

/// An amount that is there cannot be sent twice, nor one that only comes later in the block.
#[test]
fn transactions_apply_in_order() {
    let chain = chain();
    let check = |transactions: Vec<Transaction>| {
        chain.verdict(&chain.candidate(transactions.into_iter().map(|transaction| (transaction, None)).collect()))
    };
    let (first, second) = (chain.transfer(1, 1, address(9), 100, 0), chain.transfer(9, 0, address(1), 100, 0));
    check(vec![first.clone(), second.clone()]).unwrap();
    let nothing = RuleError::Balance { index: 0, balance: Amount(0), needed: Amount(100) };
    assert_eq!(check(vec![second, first]), Err(nothing));
    let twice = vec![chain.transfer(1, 1, address(2), 9_990, 0), chain.transfer(1, 2, address(3), 1, 0)];
    let nothing = RuleError::Balance { index: 1, balance: Amount(0), needed: Amount(1) };
    assert_eq!(check(twice), Err(nothing));
    // The miner is paid after all transactions.
    let early =
        RuleError::Balance { index: 0, balance: chain.ledger.accounts[&address(7)].balance, needed: Amount(120) };
    assert_eq!(check(vec![chain.transfer(7, 0, address(1), 120, 0)]), Err(early));
}

#[test]
fn the_miner_gets_reward_and_fees() {
    let mut chain = Chain::new(parameters());
    let mut pay = Vec::new();
    for nonce in 0..7 {
        let before = chain.ledger.accounts.get(&address(7)).map_or(0, |account| account.balance.0);
        chain.extend(vec![(chain.transfer(1, nonce, address(2), 1, nonce), None)]);
        pay.push(chain.ledger.accounts[&address(7)].balance.0 - before);
    }
    // 50 at heights 1 to 3, 25 at 4 to 6, 12 from 7 on, and fees of 0 to 6.
    assert_eq!(pay, [50, 51, 52, 28, 29, 30, 18]);
    assert_eq!(chain.tip().version, 2, "the upgrade came at height 5");
    let later = chain.sign(
        1,
        Unsigned {
            nonce: 7,
            fee: Amount(0),
            expires: 8,
            action: Action::Classify { model: LATER_MODEL, image: ImageHash::of(&[5]) },
        },
    );
    chain.extend(vec![(later, Some(vec![5]))]);

    // Pay of nothing creates no account.
    let mut poor = Chain::new(Parameters { reward: Amount(0), ..parameters() });
    poor.extend(vec![]);
    assert_eq!(poor.ledger.accounts.get(&address(7)), None);
    assert_eq!(poor.tip().state, poor.headers[0].state);
}

#[test]
fn sums_of_amounts_stay_within_64_bits() {
    let half = 1 << 63;
    let accounts = starting([(1, u64::MAX), (2, u64::MAX), (3, 1), (7, u64::MAX - 50)]);
    let chain = Chain::new(Parameters { accounts, ..parameters() });
    let check = |transactions: Vec<Transaction>| {
        chain.verdict(&chain.candidate(transactions.into_iter().map(|transaction| (transaction, None)).collect()))
    };
    check(vec![]).expect("the miner's balance reaches 2^64 - 1");
    let overflow = |index| Err(RuleError::AmountOverflow { index });
    let (first, second) = (chain.transfer(1, 0, address(3), 0, half), chain.transfer(2, 0, address(3), 0, half));
    assert_eq!(check(vec![first, second]), overflow(1), "the fees");
    assert_eq!(check(vec![chain.transfer(3, 0, address(1), 1, 0)]), overflow(0), "the recipient's balance");
    assert_eq!(check(vec![chain.transfer(3, 0, address(2), 0, 1)]), overflow(1), "the miner's balance");
    assert_eq!(check(vec![chain.transfer(1, 0, address(3), 0, u64::MAX)]), overflow(1), "reward and fees");
    check(vec![chain.transfer(1, 0, address(1), u64::MAX, 0)]).expect("to itself: the debit comes first");

    let mut sent = chain.clone();
    let account = Account { nonce: u64::MAX, balance: Amount(1) };
    sent.ledger.accounts.insert(address(3), account);
    let last = sent.transfer(3, u64::MAX, address(1), 0, 0);
    assert_eq!(sent.verdict(&sent.candidate(vec![(last, None)])), overflow(0), "the nonce");
}

#[test]
fn pixels_are_the_transactions_or_the_senders_fault() {
    let chain = chain();
    let (task, transfer) = (chain.classify(1, 1, &PIXELS, 0), chain.transfer(1, 1, address(2), 1, 0));
    let check =
        |transaction: &Transaction, pixels: Option<&[u8]>| check_pixels(&chain.parameters, 3, 4, transaction, pixels);
    assert_eq!(check(&task, Some(&PIXELS)), Ok(()));
    assert_eq!(check(&transfer, None), Ok(()));
    assert_eq!(check(&task, None), Err(PixelsError::Presence { index: 4, expected: true }));
    assert_eq!(check(&transfer, Some(&PIXELS)), Err(PixelsError::Presence { index: 4, expected: false }));
    let other = [9, 8, 7, 5];
    let (found, expected) = (ImageHash::of(&other), ImageHash::of(&PIXELS));
    assert_eq!(check(&task, Some(&other)), Err(PixelsError::Hash { index: 4, found, expected }));
    assert_eq!(check(&task, Some(&PIXELS[..3])), {
        Err(PixelsError::Hash { index: 4, found: ImageHash::of(&PIXELS[..3]), expected })
    });
    for pixels in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
        let size = RuleError::ImageSize { index: 4, found: pixels.len(), expected: 4 };
        let task = chain.classify(1, 1, pixels, 0);
        assert_eq!(check(&task, Some(pixels)), Err(PixelsError::Rule(size)));
    }
}

/// Signatures are looked at last: an image of the wrong size anywhere comes before a bad one.
#[test]
fn an_image_size_comes_before_any_signature() {
    let chain = chain();
    let mut candidate = valid(&chain);
    candidate.pixels[1] = Some(vec![1, 2, 3]);
    resign(&chain, &mut candidate, 1, 2, |unsigned| {
        unsigned.action = Action::Classify { model: MODEL, image: ImageHash::of(&[1, 2, 3]) };
    });
    candidate.body.transactions[0].0.signature[0] ^= 1;
    chain.seal(&mut candidate);
    assert_eq!(chain.verdict(&candidate), Err(RuleError::ImageSize { index: 1, found: 3, expected: 4 }));
}

#[test]
fn answers_are_compared_number_by_number() {
    assert_eq!(rules::check_output(3, &[1, -2, 3], &[1, -2, 3]), Ok(()));
    for (found, error) in [
        (vec![1, -2, 4], RuleError::Output { index: 3, class: 2, found: 4, expected: 3 }),
        (vec![0, -2, 4], RuleError::Output { index: 3, class: 0, found: 0, expected: 1 }),
        (vec![1, -2], RuleError::OutputLength { index: 3, found: 2, expected: 3 }),
        (vec![1, -2, 3, 0], RuleError::OutputLength { index: 3, found: 4, expected: 3 }),
    ] {
        assert_eq!(rules::check_output(3, &found, &[1, -2, 3]), Err(error));
    }
}

/// Block 1 and 2 have the easiest target; block 3 is the first whose target depends on a time.
#[test]
fn targets_of_the_first_blocks() {
    // Seconds from block 1 to block 2, and the target of block 3; spacing 10, half-life 100. Computed by
    // docs/protocol.md, "Difficulty":
    //   def f(dt):
    //       e = (dt - 10) * 65536
    //       e = e // 100 if e >= 0 else -(-e // 100)
    //       w, x = e >> 16, e & 65535
    //       k = 65536 + ((195766423245049 * x + 971821376 * x**2 + 5127 * x**3 + (1 << 47)) >> 48)
    //       t = (0xffff << 240) * k; s = w - 16; t = t << s if s > 0 else t >> -s
    //       return min(max(t, 1), 0xffff << 240)
    for (seconds, expected) in TARGETS_OF_BLOCK_3 {
        let mut chain = Chain::new(Parameters { easiest_target: CompactTarget(0x2100_ffff), ..parameters() });
        let easiest = chain.parameters.easiest_target;
        assert_eq!(chain.expected_target(), easiest);
        assert_eq!(chain.anchor(), None);
        let mut first = chain.candidate(vec![]);
        first.header.time += 123_456;
        chain.seal(&mut first);
        chain.connect(&first);
        assert_eq!(chain.expected_target(), easiest, "a late block 1 changes nothing");
        let mut second = chain.candidate(vec![]);
        second.header.time = first.header.time + seconds;
        chain.seal(&mut second);
        chain.connect(&second);
        assert_eq!(chain.expected_target(), CompactTarget(expected), "{seconds} s");
    }
}

const TARGETS_OF_BLOCK_3: [(u64, u32); 6] =
    [(1, 0x2100_f08a), (5, 0x2100_f74b), (9, 0x2100_fe3c), (10, 0x2100_ffff), (11, 0x2100_ffff), (1000, 0x2100_ffff)];
