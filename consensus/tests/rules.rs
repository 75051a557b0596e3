//! Every rule that a block must keep: a block that keeps them all, then one that breaks one.

mod chain;

use chain::*;
use ocelli_consensus::block::AnswerFormError;
use ocelli_consensus::header::{Place, TIME_LIMIT};
use ocelli_consensus::history::{self, HistoryEntry, Peaks};
use ocelli_consensus::rules::*;
use ocelli_consensus::schedule::{ScheduledVersion, TEST_VERSION};
use ocelli_consensus::signature::SignatureError;
use ocelli_consensus::transition::{self, Base};
use ocelli_consensus::*;

const PIXELS: [u8; 4] = [9, 8, 7, 6];
/// A model that takes JPEG files and asks for a royalty, published at height 2 by account 3.
const PUBLISHED: ModelId = ModelId([0x70; 32]);
const PUBLISHED_FACTS: ModelFacts =
    ModelFacts { size: 300_000, channels: 3, height: 40, width: 50, classes: 7, cost: 122_880 };
/// One that is published in the block before, so that it may not be used yet.
const EARLY: ModelId = ModelId([0x71; 32]);
/// Its file, which is one part long.
const SMALL: ModelFacts = ModelFacts { size: 5, channels: 1, height: 1, width: 1, classes: 1, cost: 16_640 };

/// A chain of 12 blocks in which account 1 has an upload of one part finished at height 11, and account 2 has one under way
/// since height 2 with its first part.
fn chain() -> Chain {
    let mut chain = Chain::new(parameters());
    chain.extend(vec![(chain.transfer(1, 0, address(2), 7, 3), None)]);
    chain.extend(vec![
        (chain.classify(2, 0, &PIXELS, 5), Some(PIXELS.to_vec())),
        (begin(&chain, 2, 1, PUBLISHED, PUBLISHED_FACTS.size), None),
        (begin(&chain, 1, 0, EARLY, SMALL.size), None),
    ]);
    while chain.tip().height < 9 {
        chain.extend(vec![]);
    }
    // As if it had been published by account 3, with a royalty.
    let record = ModelRecord { author: address(3), royalty: Amount(40), first: 4, facts: PUBLISHED_FACTS };
    give(&mut chain, ObjectId::Model(PUBLISHED), record);
    chain.extend(vec![(part(&chain, 2, 0, 0, &[1; 262_144]), Some(vec![1; 262_144]))]);
    chain.extend(vec![(part(&chain, 1, 0, 0, &[5; 5]), Some(vec![5; 5]))]);
    chain.extend(vec![]);
    chain
}

/// A chain of three blocks: genesis, a transfer, a task.
fn simple() -> Chain {
    let mut chain = Chain::new(parameters());
    chain.extend(vec![(chain.transfer(1, 0, address(2), 7, 3), None)]);
    chain.extend(vec![(chain.classify(2, 0, &PIXELS, 5), Some(PIXELS.to_vec()))]);
    chain
}

/// Puts an object into the state and its tree where no block has put it.
fn give(chain: &mut Chain, id: ObjectId, object: impl Into<Object>) {
    let object = object.into();
    let (key, hash) = object::leaf(&id, &object.to_bytes());
    let (state, branches) = state::update(&chain.ledger, chain.state, &[(key, Some(hash))].into()).unwrap();
    chain.ledger.write([(id, Some(object.to_bytes()))], branches);
    chain.state = state;
}

fn begin(chain: &Chain, seed: u8, after: u64, model: ModelId, size: u32) -> Transaction {
    chain.act(seed, after, Action::Upload { file: UploadHash::of(&address(seed), &model), size })
}

fn part_of(number: u16, bytes: &[u8]) -> Action {
    Action::Part { number, bytes: bytes.len() as u32, data: AttachmentHash::of(bytes) }
}

fn part(chain: &Chain, seed: u8, after: u64, number: u16, bytes: &[u8]) -> Transaction {
    chain.act(seed, after, part_of(number, bytes))
}

/// What stands for a JPEG in these tests: whether it is one is not asked here.
const JPEG: [u8; 100] = [0xff; 100];

fn jpeg_for(model: ModelId, royalty: u64) -> Action {
    let form = Form::Jpeg { width: 80, height: 60 };
    let picture = AttachmentHash::of(&JPEG);
    Action::Classify { model, picture, bytes: 100, royalty: Amount(royalty), form }
}

/// The last part of account 2's upload.
static LAST_PART: [u8; 300_000 - 262_144] = [2; 300_000 - 262_144];

const TRANSFER: usize = 0;
const TASK: usize = 1;
const NEW_ACCOUNT: usize = 2;
const JPEG_TASK: usize = 3;
const PART: usize = 4;
const PUBLISH: usize = 5;
const UPLOAD: usize = 6;

/// Block 13: one transaction of every kind, and a transfer that creates an account.
fn valid(chain: &Chain) -> Candidate {
    chain.candidate(vec![
        (chain.act(1, 0, Action::Transfer { to: address(2), amount: Amount(1) }), None),
        (chain.act(2, 0, pixels_for(MODEL, &PIXELS)), Some(PIXELS.to_vec())),
        (chain.act(3, 0, Action::Transfer { to: address(9), amount: Amount(100) }), None),
        (chain.act(1, 1, jpeg_for(PUBLISHED, 40)), Some(JPEG.to_vec())),
        (part(chain, 2, 1, 1, &LAST_PART), Some(LAST_PART.to_vec())),
        (chain.act(1, 2, Action::Publish { model: EARLY, facts: SMALL, royalty: Amount(1) }), None),
        (begin(chain, 1, 3, PUBLISHED, 1), None),
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

/// One change to the valid block, the number and name of the rule that it breaks, and the error that it must give.
struct Row(&'static str, Change, u8, &'static str, fn(&Chain, &Candidate) -> RuleError);

fn unsigned(candidate: &mut Candidate, index: usize) -> &mut Unsigned {
    &mut candidate.body.transactions[index].0.unsigned
}

/// Changes a transaction and signs it again with the key of `seed`.
fn resign(chain: &Chain, candidate: &mut Candidate, index: usize, seed: u8, change: impl FnOnce(&mut Unsigned)) {
    change(unsigned(candidate, index));
    let unsigned = unsigned(candidate, index).clone();
    candidate.body.transactions[index].0 = chain.sign(seed, unsigned);
}

/// Changes an action and signs its transaction again with the key of its sender.
fn act(chain: &Chain, candidate: &mut Candidate, index: usize, change: impl FnOnce(&mut Action)) {
    let sender = candidate.body.transactions[index].0.sender();
    let seed = (1..=9).find(|&seed| address(seed) == sender).unwrap();
    resign(chain, candidate, index, seed, |unsigned| change(&mut unsigned.action));
}

/// Gives a `Classify` or a `Part` another attachment.
fn attach(chain: &Chain, candidate: &mut Candidate, index: usize, bytes: &[u8]) {
    act(chain, candidate, index, |action| match action {
        Action::Classify { picture: hash, bytes: length, .. } | Action::Part { data: hash, bytes: length, .. } => {
            (*hash, *length) = (AttachmentHash::of(bytes), bytes.len() as u32);
        }
        other => panic!("{other:?} has no attachment"),
    });
    candidate.attachments[index] = Some(bytes.to_vec());
}

/// Puts another amount into a transfer.
fn send(amount: u64) -> impl FnOnce(&mut Action) {
    move |action| match action {
        Action::Transfer { amount: found, .. } => *found = Amount(amount),
        other => panic!("{other:?} is no transfer"),
    }
}

/// Puts other facts into a `Publish`.
fn declare(change: impl FnOnce(&mut ModelFacts)) -> impl FnOnce(&mut Action) {
    move |action| match action {
        Action::Publish { facts, .. } => change(facts),
        other => panic!("{other:?} is no publish"),
    }
}

fn form_of(action: &mut Action) -> &mut Form {
    match action {
        Action::Classify { form, .. } => form,
        other => panic!("{other:?} is no task"),
    }
}

fn classes_of(candidate: &mut Candidate, index: usize) -> &mut Classes {
    match &mut candidate.body.transactions[index].1 {
        Answer::Classes(classes) => classes,
        Answer::None => panic!("{index} has no answer"),
    }
}

fn range(index: usize, field: &'static str, found: u64, least: u64, most: u64) -> RuleError {
    TransactionError::Range { field, found, least, most }.at(index)
}

/// Puts an upload of account 1 into the state in the place of what it has.
fn with_upload(chain: &Chain, change: impl FnOnce(&mut UploadRecord)) -> Chain {
    let mut other = chain.clone();
    let mut upload = other.ledger.upload(&address(1)).unwrap();
    change(&mut upload);
    give(&mut other, ObjectId::Upload(address(1)), upload);
    other
}

fn rows() -> Vec<Row> {
    vec![
        Row("a height left out", InHeader(|_, header| header.height = 14), 1, "Height", |_, _| RuleError::Height {
            found: 14,
            expected: 13,
        }),
        Row("the parent's height", InHeader(|_, header| header.height = 12), 1, "Height", |_, _| RuleError::Height {
            found: 12,
            expected: 13,
        }),
        Row(
            "the parent's time",
            InHeader(|chain, header| header.time = chain.tip().time),
            2,
            "TimeNotAfterParent",
            |chain, _| RuleError::TimeNotAfterParent { found: chain.tip().time, parent: chain.tip().time },
        ),
        Row("a time of 2^40", InHeader(|_, header| header.time = TIME_LIMIT), 3, "TimeTooLarge", |_, _| {
            RuleError::TimeTooLarge { found: 1 << 40 }
        }),
        Row("a harder target", InHeader(|_, header| header.target.0 -= 1), 4, "Target", |chain, candidate| {
            RuleError::Target { found: candidate.header.target, expected: chain.expected_target() }
        }),
        Row(
            "an easier target",
            InHeader(|_, header| header.target = CompactTarget(0x2100_ffff)),
            4,
            "Target",
            |chain, _| RuleError::Target { found: CompactTarget(0x2100_ffff), expected: chain.expected_target() },
        ),
        Row(
            "a hash above the target",
            Bytes(|chain, candidate| miss(chain, &mut candidate.header)),
            5,
            "ProofOfWork",
            |chain, candidate| RuleError::ProofOfWork {
                hash: candidate.header.hash(),
                target: chain.expected_target(),
            },
        ),
        Row("an older version", InHeader(|_, header| header.version = 0), 7, "Version", |_, _| RuleError::Version {
            found: 0,
            expected: 1,
            height: 13,
        }),
        Row("a newer version", InHeader(|_, header| header.version = 2), 7, "Version", |_, _| RuleError::Version {
            found: 2,
            expected: 1,
            height: 13,
        }),
        Row(
            "a newer version without proof of work: the version is looked at last",
            Bytes(|chain, candidate| {
                candidate.header.version = 2;
                miss(chain, &mut candidate.header);
            }),
            5,
            "ProofOfWork",
            |chain, candidate| RuleError::ProofOfWork {
                hash: candidate.header.hash(),
                target: chain.expected_target(),
            },
        ),
        Row(
            "a transaction left out",
            Bytes(|_, candidate| drop(candidate.body.transactions.pop())),
            8,
            "BodyRoot",
            other_body,
        ),
        Row(
            "a signature swapped in a good block",
            Bytes(|_, candidate| candidate.body.transactions[0].0.signature[63] ^= 1),
            8,
            "BodyRoot",
            other_body,
        ),
        Row(
            "an answer swapped in a good block",
            Bytes(|_, candidate| classes_of(candidate, TASK).digest.0[31] ^= 1),
            8,
            "BodyRoot",
            other_body,
        ),
        Row(
            "ids of another block in a good one",
            Bytes(|chain, candidate| {
                candidate.header.body = candidate.body.root(&BlockHash([1; 32]));
                chain.mine(&mut candidate.header);
            }),
            8,
            "BodyRoot",
            other_body,
        ),
        Row(
            "an action that nobody knows",
            InBody(|chain, candidate| {
                let mut bytes = candidate.body.transactions[TRANSFER].0.to_bytes();
                bytes[24] = 6;
                let unknown = Transaction::from_bytes(&bytes).unwrap();
                candidate.body.transactions[TRANSFER].0 = chain.sign(1, unknown.unsigned);
            }),
            10,
            "UnknownAction",
            |_, _| TransactionError::UnknownAction { tag: 6, version: 1 }.at(TRANSFER),
        ),
        Row(
            "a form that nobody knows",
            InBody(|chain, candidate| {
                let mut bytes = candidate.body.transactions[TASK].0.to_bytes();
                bytes[104] = 3;
                let unknown = Transaction::from_bytes(&bytes).unwrap();
                candidate.body.transactions[TASK].0 = chain.sign(2, unknown.unsigned);
            }),
            10,
            "UnknownAction",
            |_, _| TransactionError::UnknownAction { tag: 2, version: 1 }.at(TASK),
        ),
        Row(
            "a picture of no bytes",
            InBody(|chain, candidate| attach(chain, candidate, TASK, &[])),
            11,
            "Range",
            |_, _| range(TASK, "bytes", 0, 1, 262_144),
        ),
        Row(
            "a picture of a byte too many",
            InBody(|chain, candidate| attach(chain, candidate, JPEG_TASK, &[0; 262_145])),
            11,
            "Range",
            |_, _| range(JPEG_TASK, "bytes", 262_145, 1, 262_144),
        ),
        Row(
            "a part of no bytes",
            InBody(|chain, candidate| attach(chain, candidate, PART, &[])),
            11,
            "Range",
            |_, _| range(PART, "bytes", 0, 1, 262_144),
        ),
        Row(
            "a JPEG of no columns",
            InBody(|chain, candidate| {
                act(chain, candidate, JPEG_TASK, |action| *form_of(action) = Form::Jpeg { width: 0, height: 1_025 });
            }),
            11,
            "Range",
            |_, _| range(JPEG_TASK, "width", 0, 1, 1_024),
        ),
        Row(
            "a JPEG of a row too many",
            InBody(|chain, candidate| {
                act(chain, candidate, JPEG_TASK, |action| {
                    *form_of(action) = Form::Jpeg { width: 1_024, height: 1_025 };
                });
            }),
            11,
            "Range",
            |_, _| range(JPEG_TASK, "height", 1_025, 1, 1_024),
        ),
        Row(
            "an upload of nothing",
            InBody(|chain, candidate| {
                act(chain, candidate, UPLOAD, |action| {
                    *action = Action::Upload { file: UploadHash([1; 32]), size: 0 };
                });
            }),
            11,
            "Range",
            |_, _| range(UPLOAD, "size", 0, 1, 67_108_864),
        ),
        Row(
            "an upload of a byte too many",
            InBody(|chain, candidate| {
                act(chain, candidate, UPLOAD, |action| {
                    *action = Action::Upload { file: UploadHash([1; 32]), size: 67_108_865 };
                });
            }),
            11,
            "Range",
            |_, _| range(UPLOAD, "size", 67_108_865, 1, 67_108_864),
        ),
        Row(
            "a model of no bytes",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.size = 0))),
            11,
            "Range",
            |_, _| range(PUBLISH, "size", 0, 1, 67_108_864),
        ),
        Row(
            "a model of no channels",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.channels = 0))),
            11,
            "Range",
            |_, _| range(PUBLISH, "channels", 0, 1, 65_535),
        ),
        Row(
            "a model of no rows",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.height = 0))),
            11,
            "Range",
            |_, _| range(PUBLISH, "height", 0, 1, 65_535),
        ),
        Row(
            "a model of no columns",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.width = 0))),
            11,
            "Range",
            |_, _| range(PUBLISH, "width", 0, 1, 65_535),
        ),
        Row(
            "a model of a class too many",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.classes = 32_769))),
            11,
            "Range",
            |_, _| range(PUBLISH, "classes", 32_769, 1, 32_768),
        ),
        Row(
            "a model cheaper than any",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.cost = 16_639))),
            11,
            "Range",
            |_, _| range(PUBLISH, "cost", 16_639, 16_640, 1 << 33),
        ),
        Row(
            "a model dearer than any",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.cost = (1 << 33) + 1))),
            11,
            "Range",
            |_, _| range(PUBLISH, "cost", (1 << 33) + 1, 16_640, 1 << 33),
        ),
        Row(
            "a transaction that came a block too late",
            InBody(|chain, candidate| resign(chain, candidate, TRANSFER, 1, |unsigned| unsigned.expires = 12)),
            12,
            "Expired",
            |_, _| TransactionError::Expired { expires: 12, height: 13 }.at(TRANSFER),
        ),
        Row(
            "a model that nobody has",
            InBody(|chain, candidate| {
                act(chain, candidate, TASK, |action| *action = pixels_for(ModelId([1; 32]), &PIXELS));
            }),
            13,
            "UnknownModel",
            |_, _| TransactionError::UnknownModel { model: ModelId([1; 32]), height: 13 }.at(TASK),
        ),
        Row(
            "a model that this block publishes",
            InBody(|chain, candidate| {
                let task = chain.act(1, 4, pixels_for(EARLY, &[1]));
                let answer = Answer::Classes(Classes::of(&[1]));
                candidate.body.transactions.push((task, answer));
                candidate.attachments.push(Some(vec![1]));
            }),
            13,
            "UnknownModel",
            |_, _| TransactionError::UnknownModel { model: EARLY, height: 13 }.at(7),
        ),
        Row(
            "pixels of another model",
            InBody(|chain, candidate| attach(chain, candidate, TASK, &[1, 2, 3])),
            14,
            "Form",
            |_, _| TransactionError::Form(FormError::Pixels { found: 3, expected: 4 }).at(TASK),
        ),
        Row(
            "an answer to nothing",
            InBody(|_, candidate| candidate.body.transactions[TRANSFER].1 = Answer::Classes(Classes::of(&[]))),
            15,
            "AnswerUnexpected",
            |_, _| TransactionError::AnswerUnexpected.at(TRANSFER),
        ),
        Row(
            "a task without an answer",
            InBody(|_, candidate| candidate.body.transactions[TASK].1 = Answer::None),
            16,
            "AnswerMissing",
            |_, _| TransactionError::AnswerMissing.at(TASK),
        ),
        Row(
            "a class too few",
            InBody(|_, candidate| classes_of(candidate, JPEG_TASK).best.truncate(4)),
            17,
            "AnswerForm",
            |_, _| TransactionError::AnswerForm(AnswerFormError::Length { found: 4, expected: 5 }).at(JPEG_TASK),
        ),
        Row(
            "a class that the model does not have",
            InBody(|_, candidate| classes_of(candidate, TASK).best[1].0 = 2),
            17,
            "AnswerForm",
            |_, _| TransactionError::AnswerForm(AnswerFormError::Class { found: 2, classes: 2 }).at(TASK),
        ),
        Row(
            "classes in another order",
            InBody(|_, candidate| classes_of(candidate, TASK).best.reverse()),
            17,
            "AnswerForm",
            |_, _| TransactionError::AnswerForm(AnswerFormError::Order { class: 0 }).at(TASK),
        ),
        Row(
            "a picture shorter than it says",
            InBody(|chain, candidate| {
                candidate.attachments[JPEG_TASK] = Some(JPEG[..99].to_vec());
                act(chain, candidate, JPEG_TASK, |action| match action {
                    Action::Classify { picture, .. } => *picture = AttachmentHash::of(&JPEG[..99]),
                    other => panic!("{other:?}"),
                });
            }),
            20,
            "AttachmentLength",
            |_, _| TransactionError::AttachmentLength { found: 99, expected: 100 }.at(JPEG_TASK),
        ),
        Row(
            "a signature of nobody",
            InBody(|_, candidate| candidate.body.transactions[2].0.signature[0] ^= 1),
            21,
            "Signature",
            |chain, candidate| {
                let source = candidate.body.transactions[2].0.verify_signatures(chain.genesis).unwrap_err();
                TransactionError::Signature(source).at(2)
            },
        ),
        Row(
            "a signature for another fee",
            InBody(|_, candidate| unsigned(candidate, TRANSFER).fee.0 += 1),
            21,
            "Signature",
            |_, _| TransactionError::Signature(SignatureError::Mismatch).at(TRANSFER),
        ),
        Row(
            "a signature for another network",
            InBody(|chain, candidate| {
                let mut elsewhere = chain.clone();
                elsewhere.genesis = BlockHash([1; 32]);
                resign(&elsewhere, candidate, TRANSFER, 1, |_| {});
            }),
            21,
            "Signature",
            |_, _| TransactionError::Signature(SignatureError::Mismatch).at(TRANSFER),
        ),
        Row(
            "the last logit off by one",
            InBody(|_, candidate| classes_of(candidate, TASK).best[1].1 -= 1),
            23,
            "Answer",
            |_, _| TransactionError::Answer(AnswerDifference::Class { found: (1, -31), expected: (1, -30) }).at(TASK),
        ),
        Row(
            "a logit that is not among the best off by one",
            InBody(|_, candidate| classes_of(candidate, JPEG_TASK).digest = LogitsDigest([1; 32])),
            23,
            "Answer",
            |_, _| {
                let expected = Classes::of(&logits(&JPEG, 7)).digest;
                let difference = AnswerDifference::Digest { found: LogitsDigest([1; 32]), expected };
                TransactionError::Answer(difference).at(JPEG_TASK)
            },
        ),
        Row(
            "a nonce left out",
            InBody(|chain, candidate| resign(chain, candidate, TRANSFER, 1, |unsigned| unsigned.nonce = 4)),
            25,
            "Nonce",
            |_, _| TransactionError::Nonce { found: 4, expected: 3 }.at(TRANSFER),
        ),
        Row(
            "a nonce used before",
            InBody(|chain, candidate| resign(chain, candidate, TRANSFER, 1, |unsigned| unsigned.nonce = 0)),
            25,
            "Nonce",
            |_, _| TransactionError::Nonce { found: 0, expected: 3 }.at(TRANSFER),
        ),
        Row(
            "a transaction twice",
            InBody(|_, candidate| {
                candidate.body.transactions.push(candidate.body.transactions[TRANSFER].clone());
                candidate.attachments.push(None);
            }),
            25,
            "Nonce",
            |_, _| TransactionError::Nonce { found: 3, expected: 7 }.at(7),
        ),
        Row(
            "amount and fee above 64 bits",
            InBody(|chain, candidate| {
                act(chain, candidate, TRANSFER, send(u64::MAX));
                resign(chain, candidate, TRANSFER, 1, |unsigned| unsigned.fee = Amount(1));
            }),
            26,
            "AmountOverflow",
            |_, _| TransactionError::AmountOverflow { sum: Sum::Total }.at(TRANSFER),
        ),
        Row(
            "a grain more than there is",
            // Account 1 had 10,000 and paid 10.
            InBody(|chain, candidate| act(chain, candidate, TRANSFER, send(9_991))),
            27,
            "Balance",
            |_, _| TransactionError::Balance { balance: Amount(9_990), needed: Amount(9_991) }.at(TRANSFER),
        ),
        Row(
            "a royalty from nowhere",
            InBody(|chain, candidate| resign(chain, candidate, JPEG_TASK, 8, |unsigned| unsigned.nonce = 0)),
            27,
            "Balance",
            |_, _| TransactionError::Balance { balance: Amount(0), needed: Amount(40) }.at(JPEG_TASK),
        ),
        Row(
            "a new account with a grain too little",
            InBody(|chain, candidate| act(chain, candidate, NEW_ACCOUNT, send(99))),
            29,
            "MinimumBalance",
            |_, _| TransactionError::MinimumBalance { amount: Amount(99), minimum: Amount(100) }.at(NEW_ACCOUNT),
        ),
        Row(
            "a royalty too low",
            InBody(|chain, candidate| {
                act(chain, candidate, JPEG_TASK, |action| *action = jpeg_for(PUBLISHED, 39));
            }),
            30,
            "Royalty",
            |_, _| TransactionError::Royalty { found: Amount(39), expected: Amount(40) }.at(JPEG_TASK),
        ),
        Row(
            "a royalty where none is asked for",
            InBody(|chain, candidate| {
                act(chain, candidate, TASK, |action| match action {
                    Action::Classify { royalty, .. } => *royalty = Amount(1),
                    other => panic!("{other:?}"),
                });
            }),
            30,
            "Royalty",
            |_, _| TransactionError::Royalty { found: Amount(1), expected: Amount(0) }.at(TASK),
        ),
        Row(
            "a part of no upload",
            InBody(|chain, candidate| resign(chain, candidate, PART, 3, |unsigned| unsigned.nonce = 1)),
            32,
            "NoUpload",
            |_, _| TransactionError::NoUpload.at(PART),
        ),
        Row(
            "no upload to publish",
            InBody(|chain, candidate| resign(chain, candidate, PUBLISH, 3, |unsigned| unsigned.nonce = 1)),
            32,
            "NoUpload",
            |_, _| TransactionError::NoUpload.at(PUBLISH),
        ),
        Row(
            "a part again",
            InBody(|chain, candidate| {
                attach(chain, candidate, PART, &[1; 262_144]);
                act(chain, candidate, PART, |action| *action = part_of(0, &[1; 262_144]));
            }),
            33,
            "PartNumber",
            |_, _| TransactionError::PartNumber { found: 0, expected: 1, parts: 2 }.at(PART),
        ),
        Row(
            "a part beyond the file's end",
            InBody(|chain, candidate| {
                act(chain, candidate, PART, |action| *action = part_of(2, &LAST_PART));
            }),
            33,
            "PartNumber",
            |_, _| TransactionError::PartNumber { found: 2, expected: 1, parts: 2 }.at(PART),
        ),
        Row(
            "a part that is not as long as the rest of the file",
            InBody(|chain, candidate| attach(chain, candidate, PART, &[2; 37_855])),
            34,
            "PartLength",
            |_, _| TransactionError::PartLength { found: 37_855, expected: 37_856 }.at(PART),
        ),
        Row(
            "another model than the upload was bound to",
            InBody(|chain, candidate| {
                act(chain, candidate, PUBLISH, |action| {
                    *action = Action::Publish { model: ModelId([1; 32]), facts: SMALL, royalty: Amount(0) };
                });
            }),
            35,
            "UploadFile",
            |_, _| {
                let [found, expected] = [EARLY, ModelId([1; 32])].map(|model| UploadHash::of(&address(1), &model));
                TransactionError::UploadFile { found, expected }.at(PUBLISH)
            },
        ),
        Row(
            "another size than the upload's",
            InBody(|chain, candidate| act(chain, candidate, PUBLISH, declare(|facts| facts.size = 6))),
            36,
            "UploadSize",
            |_, _| TransactionError::UploadSize { found: 6, expected: 5 }.at(PUBLISH),
        ),
        Row(
            "another history",
            InHeader(|_, header| header.history.0[0] ^= 1),
            41,
            "HistoryRoot",
            |chain, candidate| RuleError::HistoryRoot {
                found: candidate.header.history,
                expected: Root(chain.peaks.root().unwrap()),
            },
        ),
        Row("another state", InHeader(|_, header| header.state = Root([0; 32])), 42, "StateRoot", |chain, _| {
            RuleError::StateRoot { found: Root([0; 32]), expected: valid(chain).header.state }
        }),
        Row(
            "another miner than the state's",
            InHeader(|_, header| header.miner = address(8)),
            42,
            "StateRoot",
            |chain, candidate| {
                let mut sealed = candidate.clone();
                chain.seal(&mut sealed);
                RuleError::StateRoot { found: candidate.header.state, expected: sealed.header.state }
            },
        ),
    ]
}

/// Finds a nonce that does not meet the target.
fn miss(chain: &Chain, header: &mut Header) {
    let target = chain.expected_target().to_target().unwrap();
    while target.is_met_by(header.hash().0) {
        header.nonce += 1;
    }
}

fn other_body(_: &Chain, candidate: &Candidate) -> RuleError {
    let Candidate { header, body, .. } = candidate;
    RuleError::BodyRoot { found: body.root(&header.parent), expected: header.body }
}

/// Rules that no change to the one block shows: they have tests of their own below, or need what a model or a decoder says.
const ELSEWHERE: [u8; 12] = [6, 9, 18, 19, 22, 24, 28, 31, 37, 38, 39, 40];

#[test]
fn each_rule() {
    let chain = chain();
    let valid = valid(&chain);
    chain.verdict(&valid).expect("the block that the rows change is valid");
    let mut seen = std::collections::BTreeSet::from(ELSEWHERE);
    for Row(row, change, number, name, expected) in rows() {
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
        assert_eq!(chain.verdict(&candidate), Err(expected.clone()), "{row}");
        assert_eq!(expected.rule(), Rule { number, name }, "{row}");
        let blame = match number {
            ..=6 => Blame::Sender,
            7 => Blame::SenderIfCheap,
            8 => Blame::SenderOnly,
            _ => Blame::Block,
        };
        assert_eq!(expected.blame(), blame, "{row}");
        assert!(expected.to_string().contains(&format!("rule {number} ({name}): ")), "{expected}");
        seen.insert(number);
    }
    assert!(seen.into_iter().eq(1..=42), "each number has a row");
}

/// Rows about an upload that is not as the one in the block: what account 1 has in the state, whether it sends a part or
/// publishes, and the rule that breaks.
#[test]
fn uploads_that_are_not_ready() {
    type Row = (&'static str, fn(&mut UploadRecord), bool, Option<TransactionError>);
    let window = |from, until| Some(TransactionError::UploadWindow { height: 13, from, until });
    let rows: Vec<Row> = vec![
        ("as it is", |_| {}, false, None),
        ("parts are missing", |it| it.next = 0, false, Some(TransactionError::PartsMissing { found: 0, expected: 1 })),
        ("the last part is of this block", |it| it.last = 13, false, window(14, 22)),
        ("the last part is of the block before", |it| it.last = 12, false, None),
        ("the last height for a publication", |it| (it.since, it.last) = (0, 12), false, window(13, 20)),
        ("the last height for a part", |it| (it.since, it.next) = (0, 0), true, window(8, 20)),
        ("the first part comes at the first height", |it| (it.since, it.next) = (5, 0), true, None),
        ("the first part comes a block too early", |it| (it.since, it.next) = (6, 0), true, window(14, 26)),
    ];
    let chain = chain();
    for (row, change, is_part, expected) in rows {
        let mut other = with_upload(&chain, change);
        let verdict = |chain: &Chain| {
            let (action, attachment) = match is_part {
                true => (part_of(0, &[5; 5]), Some(vec![5; 5])),
                false => (Action::Publish { model: EARLY, facts: SMALL, royalty: Amount(0) }, None),
            };
            chain.verdict(&chain.candidate(vec![(chain.act(1, 0, action), attachment)]))
        };
        if row.starts_with("the last height") {
            // At height 20 it is too late, at 19 it is not.
            let Some(TransactionError::UploadWindow { from, until, .. }) = expected else { panic!("{row}") };
            while other.tip().height + 2 < until {
                other.extend(vec![]);
            }
            assert_eq!(verdict(&other), Ok(()), "{row}");
            other.extend(vec![]);
            let late = TransactionError::UploadWindow { height: until, from, until };
            assert_eq!(verdict(&other), Err(late.at(0)), "{row}");
            continue;
        }
        assert_eq!(verdict(&other), expected.map_or(Ok(()), |error| Err(error.at(0))), "{row}");
    }
    // The file has no part after its last, though the number is the next.
    let after_last = chain.act(1, 0, part_of(1, &[5; 5]));
    let found = chain.verdict(&chain.candidate(vec![(after_last, Some(vec![5; 5]))]));
    assert_eq!(found, Err(TransactionError::PartNumber { found: 1, expected: 1, parts: 1 }.at(0)));
    for (error, number, name) in [
        (TransactionError::PartsMissing { found: 0, expected: 1 }, 37, "PartsMissing"),
        (TransactionError::UploadWindow { height: 0, from: 0, until: 0 }, 38, "UploadWindow"),
        (TransactionError::ModelExists { model: MODEL }, 39, "ModelExists"),
        (TransactionError::Picture { reason: String::new() }, 22, "Picture"),
        (TransactionError::File { reason: String::new() }, 24, "File"),
        (TransactionError::AmountOverflow { sum: Sum::Nonce }, 28, "AmountOverflow"),
        (TransactionError::AmountOverflow { sum: Sum::Fees }, 28, "AmountOverflow"),
        (TransactionError::AmountOverflow { sum: Sum::Credited }, 31, "AmountOverflow"),
        (TransactionError::AmountOverflow { sum: Sum::Pay }, 40, "AmountOverflow"),
    ] {
        assert_eq!(error.rule(), Rule { number, name });
        assert_eq!(error.at(1).blame(), Blame::Block);
    }
}

/// A model is there already: from genesis, and since the transaction before.
#[test]
fn a_model_is_published_once() {
    let chain = chain();
    let publish = |chain: &Chain, model| chain.act(1, 0, Action::Publish { model, facts: SMALL, royalty: Amount(0) });
    let bound = |model| with_upload(&chain, |upload| upload.file = UploadHash::of(&address(1), &model));
    for model in [MODEL, PUBLISHED] {
        let other = bound(model);
        let found = other.verdict(&other.candidate(vec![(publish(&other, model), None)]));
        assert_eq!(found, Err(TransactionError::ModelExists { model }.at(0)));
    }
    let mut twice = chain.clone();
    let upload = chain.ledger.upload(&address(1)).unwrap();
    let other = UploadRecord { file: UploadHash::of(&address(3), &EARLY), ..upload };
    give(&mut twice, ObjectId::Upload(address(3)), other);
    let second = twice.act(3, 0, Action::Publish { model: EARLY, facts: SMALL, royalty: Amount(0) });
    let found = twice.verdict(&twice.candidate(vec![(publish(&twice, EARLY), None), (second, None)]));
    assert_eq!(found, Err(TransactionError::ModelExists { model: EARLY }.at(1)));
}

/// A JPEG only for models whose shape one can have; pixels for all.
#[test]
fn which_models_take_a_jpeg() {
    let chain = chain();
    let place = chain.place();
    let sides = [(1, 1_024, 1_024), (3, 1, 1), (2, 8, 8), (4, 8, 8), (3, 1_025, 8), (3, 8, 1_025)];
    for (row, (channels, height, width)) in sides.into_iter().enumerate() {
        let facts = ModelFacts { channels, height, width, ..PUBLISHED_FACTS };
        let record = ModelRecord { author: address(3), royalty: Amount(0), first: 13, facts };
        let task = chain.act(1, 0, jpeg_for(PUBLISHED, 0));
        let expected = match row < 2 {
            true => Ok(()),
            false => Err(TransactionError::Form(FormError::Jpeg { channels, height, width })),
        };
        assert_eq!(check_transaction(&place, &task, Some(&record)), expected, "{facts}");
        let early = Place { height: 12, ..place };
        let unknown = TransactionError::UnknownModel { model: PUBLISHED, height: 12 };
        assert_eq!(check_transaction(&early, &task, Some(&record)), Err(unknown.clone()));
        let mut changes = transition::Changes::default();
        let mut other = chain.clone();
        give(&mut other, ObjectId::Model(PUBLISHED), record);
        let Ok(found) = changes.transact(chain.parameters(), &early, &task, &other.ledger);
        assert_eq!(found, Err(unknown), "the transition says the same");
    }
}

/// Models count as many bytes as a node has to load, each once, and at least 262,144.
#[test]
fn models_of_a_block_have_a_limit() {
    let chain = chain();
    let most = 67_108_864;
    for (sizes, expected) in [
        (vec![most, most - 262_144, 1], Ok(())),
        (vec![most, most - 262_144, 262_144], Ok(())),
        (vec![most, most - 262_144, 262_145], Err(134_217_729)),
        (vec![most, most - 262_143, 1], Err(134_217_729)),
    ] {
        let models: std::collections::BTreeMap<ModelId, ModelRecord> = (1u8..)
            .zip(sizes)
            .map(|(number, size)| {
                let facts = ModelFacts { size, ..FACTS };
                (ModelId([number; 32]), ModelRecord { author: address(3), royalty: Amount(0), first: 0, facts })
            })
            .collect();
        let mut body = Body::default();
        for model in models.keys().chain(models.keys()) {
            let task = chain.act(1, 0, pixels_for(*model, &PIXELS));
            body.transactions.push((task, Answer::Classes(Classes::of(&[1, 2]))));
        }
        let Ok(found) = check_body(chain.parameters(), &chain.place(), &body, &models);
        let expected = expected.map_err(|found| RuleError::ModelBytes { found, limit: 134_217_728 });
        assert_eq!(found, expected);
    }
    let error = RuleError::ModelBytes { found: 1, limit: 0 };
    assert_eq!((error.blame(), error.rule()), (Blame::Block, Rule { number: 18, name: "ModelBytes" }));
}

#[test]
fn weight_is_the_formula_and_its_limit_may_be_reached() {
    let chain = chain();
    let block = valid(&chain);
    let expected = [
        256 + 152,
        // 204 bytes and 4 pixels; 36,863 / 12,288 is less.
        256 + 208,
        256 + 152,
        // (80 * 60 + 40 * 50) / 16 + 122,880 / 12,288 is more than 208 + 100 bytes.
        256 + 425 + 10,
        256 + 162 + 37_856,
        256 + 186,
        256 + 160,
    ];
    for ((transaction, _), expected) in block.body.transactions.iter().zip(expected) {
        let model = transaction.unsigned.action.model().map(|model| chain.ledger.model(&model).unwrap().facts);
        assert_eq!(weight(transaction, model.as_ref()), Some(expected));
        assert_eq!(weight(transaction, None), model.is_none().then_some(expected));
    }
    let large = chain.act(
        1,
        0,
        Action::Publish { model: EARLY, facts: ModelFacts { size: 1_000_063, ..SMALL }, royalty: Amount(0) },
    );
    assert_eq!(weight(&large, None), Some(256 + 15_625));
    let total: u64 = expected.iter().sum();
    for (limit, expected) in [(total, Ok(())), (total - 1, Err(RuleError::Weight { found: total, limit: total - 1 }))] {
        let limited = Parameters { weight_limit: limit, ..chain.parameters().clone() };
        let Ok(found) = check_body(&limited, &chain.place(), &block.body, &chain.ledger);
        assert_eq!(found, expected);
    }
    let error = RuleError::Weight { found: 1, limit: 0 };
    assert_eq!((error.blame(), error.rule()), (Blame::Block, Rule { number: 19, name: "Weight" }));
    assert_eq!(max_transactions(4_200_000), 4_200_000 / 408);
}

/// The dearest transaction of every kind fits into the smallest block that a network may have.
#[test]
fn the_dearest_transactions_fit() {
    let chain = chain();
    let facts =
        ModelFacts { size: 67_108_864, channels: 3, height: 1_024, width: 1_024, classes: 32_768, cost: 1 << 33 };
    let form = Form::Jpeg { width: 1_024, height: 1_024 };
    let picture = AttachmentHash::default();
    let jpeg = Action::Classify { model: MODEL, picture, bytes: 262_144, royalty: Amount(0), form };
    let publish = Action::Publish { model: MODEL, facts, royalty: Amount(0) };
    let part = Action::Part { number: 0, bytes: 262_144, data: picture };
    for (action, expected) in [(jpeg, 256 + 131_072 + 699_050), (publish, 256 + 1_048_576), (part, 256 + 162 + 262_144)]
    {
        let found = weight(&chain.act(1, 0, action), Some(&facts)).unwrap();
        assert_eq!(found, expected);
        assert!(found <= 1_100_000);
    }
}

#[test]
fn work_stays_within_256_bits() {
    let chain = chain();
    let mut peaks = Peaks::default();
    history::append(&mut peaks, HistoryEntry::leaf([0; 32], U256::MAX, 0, 0)).unwrap();
    let mut block = chain.candidate(vec![]);
    let header = &block.header;
    let found = check_header(&chain.network, chain.tip(), chain.anchor(), Work(U256::MAX - U256::ONE), header);
    assert_eq!(found, Err(RuleError::WorkOverflow));
    let found = check_header(&chain.network, chain.tip(), chain.anchor(), chain.work(), header);
    let work = header.target.to_target().unwrap().work();
    assert_eq!(found, Ok(chain.work().checked_add(work).unwrap()));
    block.header.history = Root(peaks.root().unwrap());
    let base = Base { peaks: &peaks, ..chain.base() };
    let found = transition::connect(chain.parameters(), &base, &block.header, &block.body).map_err(rule);
    assert_eq!(found, Err(RuleError::WorkOverflow));
    let error = RuleError::WorkOverflow;
    assert_eq!((error.blame(), error.rule()), (Blame::Sender, Rule { number: 6, name: "WorkOverflow" }));
}

/// Rules change with the height of the schedule and by nothing else: genesis stays, and so do all blocks before.
#[test]
fn a_version_allows_what_its_table_says() {
    let plain = Network::new(parameters(), vec![]);
    let schedule = Schedule::new(vec![ScheduledVersion { height: 3, version: TEST_VERSION }]).unwrap();
    let mut chain = Chain::of(Network { schedule, ..plain.clone() });
    assert_eq!(chain.genesis, plain.genesis_hash());
    let upload = |chain: &Chain| vec![(begin(chain, 1, 0, EARLY, 5), None)];
    chain.extend(vec![]);
    chain.extend(upload(&chain));
    let mut without = Chain::new(parameters());
    without.extend(vec![]);
    without.extend(upload(&without));
    assert_eq!(chain.headers, without.headers);

    let refused = TransactionError::UnknownAction { tag: 3, version: TEST_VERSION };
    assert_eq!(chain.verdict(&chain.candidate(upload(&chain))), Err(refused.at(0)));
    chain.extend(vec![(chain.classify(2, 0, &PIXELS, 5), Some(PIXELS.to_vec()))]);
    assert_eq!(chain.tip().version, TEST_VERSION);
    let mut candidate = without.candidate(vec![]);
    candidate.header = chain.tip().clone();
    let found = without.verdict(&candidate);
    assert_eq!(found, Err(RuleError::Version { found: TEST_VERSION, expected: 1, height: 3 }));
}

/// What is still valid at each bound.
#[test]
fn bounds_are_inclusive() {
    let chain = simple();
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
    assert_eq!(account_in(&delta, address(1)).1, Some(Account { nonce: 2, balance: Amount(0) }));
    check("nothing, to an account that there is", vec![chain.transfer(1, 1, address(2), 0, 0)]);
    let delta = check("the minimum balance", vec![chain.transfer(1, 1, to, 100, 0)]);
    assert_eq!(account_in(&delta, to), (None, Some(Account { nonce: 0, balance: Amount(100) })));
    check(
        "less to an account created just before",
        vec![chain.transfer(1, 1, to, 100, 0), chain.transfer(1, 2, to, 1, 0)],
    );
    let delta = check(
        "created and emptied in one block",
        vec![chain.transfer(1, 1, to, 100, 0), chain.transfer(9, 0, address(1), 90, 10)],
    );
    assert_eq!(account_in(&delta, to).1, Some(Account { nonce: 1, balance: Amount(0) }), "and kept");
    let delta = check("to itself", vec![chain.transfer(1, 1, address(1), 9_000, 90)]);
    assert_eq!(account_in(&delta, address(1)).1, Some(Account { nonce: 2, balance: Amount(9_900) }));
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
    let chain = simple();
    let check = |transactions: Vec<Transaction>| {
        chain.verdict(&chain.candidate(transactions.into_iter().map(|transaction| (transaction, None)).collect()))
    };
    let (first, second) = (chain.transfer(1, 1, address(9), 100, 0), chain.transfer(9, 0, address(1), 100, 0));
    check(vec![first.clone(), second.clone()]).unwrap();
    let nothing = TransactionError::Balance { balance: Amount(0), needed: Amount(100) }.at(0);
    assert_eq!(check(vec![second, first]), Err(nothing));
    let twice = vec![chain.transfer(1, 1, address(2), 9_990, 0), chain.transfer(1, 2, address(3), 1, 0)];
    let nothing = TransactionError::Balance { balance: Amount(0), needed: Amount(1) }.at(1);
    assert_eq!(check(twice), Err(nothing));
    // The miner is paid after all transactions.
    let balance = chain.ledger.account(&address(7)).unwrap().balance;
    let early = TransactionError::Balance { balance, needed: Amount(120) }.at(0);
    assert_eq!(check(vec![chain.transfer(7, 0, address(1), 120, 0)]), Err(early));
}

#[test]
fn the_miner_gets_reward_and_fees() {
    let mut chain = Chain::new(parameters());
    let mut pay = Vec::new();
    for nonce in 0..7 {
        let balance = |chain: &Chain| chain.ledger.account(&address(7)).map_or(0, |account| account.balance.0);
        let before = balance(&chain);
        chain.extend(vec![(chain.transfer(1, nonce, address(2), 1, nonce), None)]);
        pay.push(balance(&chain) - before);
    }
    // 50 at heights 1 to 3, 25 at 4 to 6, 12 from 7 on, and fees of 0 to 6.
    assert_eq!(pay, [50, 51, 52, 28, 29, 30, 18]);

    // Pay of nothing creates no account.
    let mut poor = Chain::new(Parameters { reward: Amount(0), ..parameters() });
    poor.extend(vec![]);
    assert_eq!(poor.ledger.account(&address(7)), None);
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
    let overflow = |index, sum| Err(TransactionError::AmountOverflow { sum }.at(index));
    let (first, second) = (chain.transfer(1, 0, address(3), 0, half), chain.transfer(2, 0, address(3), 0, half));
    assert_eq!(check(vec![first, second]), overflow(1, Sum::Fees), "the fees");
    assert_eq!(
        check(vec![chain.transfer(3, 0, address(1), 1, 0)]),
        overflow(0, Sum::Credited),
        "the recipient's balance"
    );
    assert_eq!(check(vec![chain.transfer(3, 0, address(2), 0, 1)]), overflow(1, Sum::Pay), "the miner's balance");
    assert_eq!(check(vec![chain.transfer(1, 0, address(3), 0, u64::MAX)]), overflow(1, Sum::Pay), "reward and fees");
    check(vec![chain.transfer(1, 0, address(1), u64::MAX, 0)]).expect("to itself: the debit comes first");

    let mut sent = chain.clone();
    sent.ledger.put(ObjectId::Account(address(3)), Account { nonce: u64::MAX, balance: Amount(1) });
    let last = sent.transfer(3, u64::MAX, address(1), 0, 0);
    assert_eq!(sent.verdict(&sent.candidate(vec![(last, None)])), overflow(0, Sum::Nonce), "the nonce");

    // The fees come before what an action may break: of both faults it is the fees'.
    let small = chain.transfer(2, 0, address(9), 1, half);
    assert_eq!(check(vec![chain.transfer(1, 0, address(3), 0, half), small]), overflow(1, Sum::Fees));

    // An author's balance.
    let mut rich = chain.clone();
    let record = ModelRecord { author: address(1), royalty: Amount(1), first: 0, facts: PUBLISHED_FACTS };
    give(&mut rich, ObjectId::Model(PUBLISHED), record);
    let task = rich.act(3, 0, jpeg_for(PUBLISHED, 1));
    let found = rich.verdict(&rich.candidate(vec![(task, Some(JPEG.to_vec()))]));
    assert_eq!(found, overflow(0, Sum::Credited), "the author's balance");
}

#[test]
fn attachments_are_the_transactions_or_the_senders_fault() {
    let chain = simple();
    let transfer = chain.transfer(1, 1, address(2), 1, 0);
    let task = chain.classify(1, 1, &PIXELS, 0);
    let part = chain.act(1, 0, part_of(0, &PIXELS));
    assert_eq!(check_attachment(&transfer, None), Ok(()));
    let unexpected = AttachmentError::Presence { expected: false };
    assert_eq!(check_attachment(&transfer, Some(&PIXELS)), Err(unexpected));
    for named in [task, part] {
        let check = |attachment: Option<&[u8]>| check_attachment(&named, attachment);
        assert_eq!(check(Some(&PIXELS)), Ok(()));
        assert_eq!(check(None), Err(AttachmentError::Presence { expected: true }));
        for other in [&[9, 8, 7, 5][..], &PIXELS[..3], &[]] {
            let (found, expected) = (AttachmentHash::of(other), AttachmentHash::of(&PIXELS));
            assert_eq!(check(Some(other)), Err(AttachmentError::Hash { found, expected }));
        }
    }
    let longer = Action::Part { number: 0, bytes: 5, data: AttachmentHash::of(&PIXELS) };
    let length = TransactionError::AttachmentLength { found: 4, expected: 5 };
    assert_eq!(check_attachment(&chain.act(1, 0, longer), Some(&PIXELS)), Err(AttachmentError::Length(length)));
}

/// Signatures are looked at last: an attachment of the wrong length anywhere comes before a bad one.
#[test]
fn an_attachments_length_comes_before_any_signature() {
    let chain = chain();
    let mut candidate = valid(&chain);
    candidate.attachments[JPEG_TASK] = Some(JPEG[1..].to_vec());
    act(&chain, &mut candidate, JPEG_TASK, |action| match action {
        Action::Classify { picture, .. } => *picture = AttachmentHash::of(&JPEG[1..]),
        other => panic!("{other:?}"),
    });
    candidate.body.transactions[TRANSFER].0.signature[0] ^= 1;
    chain.seal(&mut candidate);
    let length = TransactionError::AttachmentLength { found: 99, expected: 100 };
    assert_eq!(chain.verdict(&candidate), Err(length.at(JPEG_TASK)));
}

/// In relay the signature comes first, for it says who pays for the rest.
#[test]
fn a_transaction_is_checked_by_itself_in_the_order_of_relay() {
    let chain = simple();
    let task = chain.classify(1, 1, &PIXELS, 0);
    let mut forged = task.clone();
    forged.signature[40] ^= 1;
    let check = |transaction: &Transaction, attachment: Option<&[u8]>| {
        CheckedTransaction::check(transaction.clone(), attachment.map(Into::into), chain.genesis)
    };
    let checked = check(&task, Some(&PIXELS)).unwrap();
    assert_eq!((checked.txid(), checked.wtxid(), checked.sender()), (task.txid(), task.wtxid(), address(1)));
    assert_eq!(checked.attachment().unwrap()[..], PIXELS);
    let missing = AttachmentError::Presence { expected: true };
    assert_eq!(check(&forged, None), Err(checked::CheckError::Attachment(missing)));
    let signature = checked::CheckError::Rule(TransactionError::Signature(SignatureError::Mismatch));
    assert_eq!(check(&forged, Some(&[1])), Err(signature));
    let hash = AttachmentError::Hash { found: AttachmentHash::of(&[1]), expected: AttachmentHash::of(&PIXELS) };
    assert_eq!(check(&task, Some(&[1])), Err(checked::CheckError::Attachment(hash)));
    let longer = chain.act(1, 0, Action::Part { number: 0, bytes: 5, data: AttachmentHash::of(&PIXELS) });
    let length = TransactionError::AttachmentLength { found: 4, expected: 5 };
    assert_eq!(check(&longer, Some(&PIXELS)), Err(checked::CheckError::Rule(length)));
    assert_eq!(CheckedTransaction::from_connected(task.clone(), None), None);
    assert_eq!(CheckedTransaction::from_connected(task, Some(PIXELS.as_slice().into())), Some(checked));
}

#[test]
fn answers_are_compared() {
    let right = Classes::of(&[1, -2, 3, 0, 9, -7]);
    assert_eq!(check_answer(&right, &right), Ok(()));
    let fails = |found: &Classes, difference| {
        assert_eq!(check_answer(found, &right), Err(TransactionError::Answer(difference)));
    };
    fails(&Classes::of(&[1, -2, 4, 0, 9, -7]), AnswerDifference::Class { found: (2, 4), expected: (2, 3) });
    let mut shorter = right.clone();
    shorter.best.pop();
    fails(&shorter, AnswerDifference::Length { found: 4, expected: 5 });
    let other = Classes::of(&[1, -2, 3, 0, 9, -8]);
    fails(&other, AnswerDifference::Digest { found: other.digest, expected: right.digest });
}

/// What the file of a `Publish` shows: its id, that it was uploaded, and what it declares.
#[test]
fn a_file_is_the_one_that_was_uploaded_and_declared() {
    let file = vec![7; 300_000];
    let facts = ModelFacts { size: 300_000, ..PUBLISHED_FACTS };
    let parts = [&file[..262_144], &file[262_144..]].map(AttachmentHash::of);
    let uploaded = PartsHash::default().with(parts[0]).with(parts[1]);
    assert_eq!(uploaded, PartsHash::of_file(&file));
    let check = |model, parts, found: Result<ModelFacts, &str>| {
        let read = |_: &[u8]| found.map_err(String::from);
        match check_file((model, &facts), parts, &file, read) {
            Ok(()) => String::new(),
            Err(TransactionError::File { reason }) => reason,
            Err(other) => panic!("{other}"),
        }
    };
    let model = ModelId::of(&file);
    assert_eq!(check(model, uploaded, Ok(facts)), "");
    assert!(check(MODEL, uploaded, Ok(facts)).contains(&format!("model {model}, expected {MODEL}")));
    assert!(check(model, PartsHash::default().with(parts[0]), Ok(facts)).contains("not what was uploaded"));
    assert_eq!(check(model, uploaded, Err("a bad header")), "a bad header");
    for changed in [
        ModelFacts { size: 1, ..facts },
        ModelFacts { channels: 1, ..facts },
        ModelFacts { height: 1, ..facts },
        ModelFacts { width: 1, ..facts },
        ModelFacts { classes: 1, ..facts },
        ModelFacts { cost: 1, ..facts },
    ] {
        assert_eq!(check(model, uploaded, Ok(changed)), format!("it has {changed}, declared were {facts}"));
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
        let easiest = chain.parameters().easiest_target;
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
