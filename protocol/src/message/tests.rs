//! Golden bytes of every message, round trips, and limits.

use std::sync::Arc;

use bincode::Encode;
use ocelli_consensus::block::{Answer, BlockShortId, BodyCommitment, BodyProof, Classes};
use ocelli_consensus::codec::{DecodeError, encode};
use ocelli_consensus::hash::{LogitsDigest, PartsHash, UploadHash, tagged};
use ocelli_consensus::object::{ModelFacts, ModelRecord, UploadRecord};
use ocelli_consensus::signature::SignatureError;
use ocelli_consensus::transaction::{Form, Task};
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, BlockHash, Body, CompactTarget, Header, ModelId, Root, Transaction, TxId,
    U256, Unsigned, WtxId,
};
use proptest::prelude::*;

use super::*;
use crate::ledger::{Event, Place, Side};

fn header() -> Header {
    Header {
        version: 1,
        parent: BlockHash([2; 32]),
        history: Root([3; 32]),
        state: Root([4; 32]),
        body: Root([5; 32]),
        miner: Address([6; 20]),
        height: 7,
        time: 8,
        target: CompactTarget(0x1e04_0000),
        nonce: 9,
    }
}

fn transfer() -> Transaction {
    let action = Action::Transfer { to: Address([4; 20]), amount: Amount(5) };
    let unsigned = Unsigned { nonce: 1, fee: Amount(2), expires: 3, action };
    Transaction { unsigned, public_key: [6; 32], signature: [7; 64] }
}

fn classify() -> Transaction {
    let mut transaction = transfer();
    transaction.unsigned.action = Action::Classify {
        model: ModelId([8; 32]),
        picture: AttachmentHash([9; 32]),
        bytes: 2,
        royalty: Amount(10),
        form: Form::Pixels,
    };
    transaction
}

/// A transaction of an action that nobody knows yet, with so many bytes of fields.
fn unknown(fields: usize) -> Transaction {
    let known = transfer().to_bytes();
    let (prefix, suffix) = (&known[..24], &known[known.len() - 96..]);
    let bytes = [prefix, &77u32.to_le_bytes(), &vec![0xaa; fields], suffix].concat();
    Transaction::from_bytes(&bytes).expect("kept whole")
}

fn submission() -> Submission {
    Submission { transaction: classify(), attachment: Some([0x0a, 0x0b].into()) }
}

fn classes() -> Classes {
    Classes { best: vec![(3, -2)], digest: LogitsDigest([0x22; 32]) }
}

fn block_data() -> BlockData {
    BlockData {
        body: Body { transactions: vec![(transfer(), Answer::None), (classify(), Answer::Classes(classes()))] },
        attachments: vec![None, Some([0x0a].into())],
    }
}

fn answer() -> SignedAnswer {
    SignedAnswer { answer: classes(), public_key: [0x11; 32], signature: [0x12; 64] }
}

fn facts() -> ModelFacts {
    ModelFacts { size: 1, channels: 2, height: 3, width: 4, classes: 5, cost: 6 }
}

/// A text of hex: a transaction as bytes.
fn transaction(transaction: &Transaction) -> String {
    n(transaction.encoded_len() as u64) + &hex(&transaction.to_bytes())
}

fn node_status() -> NodeStatus {
    NodeStatus {
        identity: NodeIdentity {
            agent: "a".into(),
            network: "n".into(),
            genesis: BlockHash([1; 32]),
            peer_id: "p".into(),
            addresses: vec!["m".into()],
        },
        tip: TipStatus {
            height: 2,
            hash: BlockHash([3; 32]),
            time: 4,
            work: U256::from(6),
            state_root: Root([14; 32]),
        },
        peers: PeerCounts { dialled: 7, inbound: 71 },
        mempool: MempoolStatus { transactions: 8, bytes: 9 },
        device: DeviceStatus { name: "d".into(), millitasks_per_second: 10, disabled: true },
        mining: MiningStatus { hash_rate: 11, address: Some(Address([12; 20])), found: 44, stale: 45 },
        uptime_seconds: 13,
        sync: SyncStatus { header_height: 5, state: "s".into(), waiting_for: vec!["w".into()] },
        invalid: vec![InvalidBlock { hash: BlockHash([15; 32]), height: 16, reason: "x".into() }],
        storage: StorageStatus { disk_bytes: 17, attachments_from: 18, bodies_from: 19, answers_from: 20 },
        inference: InferenceStatus {
            queued: 21,
            computed: 22,
            cached: 23,
            joined: 24,
            batches: 25,
            queue_microseconds: 26,
            device_microseconds: 27,
        },
        reachability: Reachability::Public(vec!["y".into()]),
        time: 28,
        traffic: TrafficStatus {
            blocks: Traffic { received: 29, sent: 30 },
            announcements: Traffic { received: 31, sent: 32 },
            transactions: Traffic { received: 33, sent: 34 },
            sync: Traffic { received: 35, sent: 36 },
            other: Traffic { received: 37, sent: 38 },
            relayed: 39,
            relayed_attachments: 40,
        },
        rules: RulesStatus { version: 41, next: Some(NextRules { height: 42, version: 43 }), update: Some("u".into()) },
    }
}

/// With so many blocks of one entry each, and so many hashes in each path.
fn ledger_page(blocks: usize, hashes: usize) -> LedgerPage {
    let proof = BodyProof {
        index: 13,
        count: 14,
        ids: [15; 32],
        transaction_path: vec![[16; 32]; hashes],
        answer_path: vec![[17; 32]; hashes],
    };
    let (txid, from) = (TxId([9; 32]), Address([10; 20]));
    let event = Event::Royalty { txid, from, model: ModelId([11; 32]), amount: Amount(12) };
    let (transaction, answer) = (submission().transaction, Answer::Classes(classes()));
    let proof = Some(Box::new(TransactionProof { transaction, answer, proof }));
    let block = LedgerBlock { header: header(), entries: vec![ShownEntry { index: 8, event, proof }] };
    let (nonce, balance, next_nonce) = (3, Amount(4), 5);
    let account = AccountStatus { nonce, balance, next_nonce, header: header(), path: Some(vec![[6; 32]]) };
    LedgerPage { account, from: 7, blocks: vec![block; blocks], has_more: true }
}

fn control(control: Control) -> Request {
    Request::Control { cookie: Cookie([0xcc; 32]), control }
}

fn peer_list() -> PeerList {
    PeerList {
        peers: vec![ConnectedPeer {
            id: "p".into(),
            address: "a".into(),
            inbound: true,
            light: false,
            agent: "g".into(),
            height: Some(6),
            score: -7,
            points: 8,
            seconds: 9,
            round_trip: None,
        }],
        bans: vec![Ban { subject: BanSubject::Peer("q".into()), reason: "why".into(), seconds_left: 10 }],
        known_addresses: 11,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// u64, little-endian.
fn n(number: u64) -> String {
    hex(&number.to_le_bytes())
}

/// Tag: u32, little-endian.
fn tag(number: u32) -> String {
    hex(&number.to_le_bytes())
}

/// The same byte again and again: a hash, key, signature or address.
fn all(byte: u8, length: usize) -> String {
    hex(&vec![byte; length])
}

/// A text: its length, its bytes.
fn text(text: &str) -> String {
    n(text.len() as u64) + &hex(text.as_bytes())
}

fn assert_golden(message: &impl Encode, expected: &[String]) {
    assert_eq!(hex(&encode(message)), expected.concat());
}

#[test]
fn golden_gossip() {
    let ids = vec![BlockShortId(0x0102), BlockShortId(u64::MAX)];
    let commitment = BodyCommitment { ids, transactions: Root([0x31; 32]), answers: Root([0x32; 32]) };
    let announcement = Announcement { header: header(), commitment };
    let roots = [all(0x31, 32), all(0x32, 32)].concat();
    assert_golden(&announcement, &[hex(&header().to_bytes()), roots, n(2), "0201000000000000".into(), all(0xff, 8)]);
    assert_eq!(Announcement::from_bytes(&announcement.to_bytes()), Ok(announcement));
    assert_golden(&submission(), &[transaction(&classify()), n(1), n(2), "0a0b".into()]);
    let without = Submission { transaction: transfer(), attachment: None };
    assert_golden(&without, &[transaction(&transfer()), n(0)]);
}

/// The largest block of the testnet is full of tasks of 32x32.
#[test]
fn a_thousand_tasks_are_announced_in_8252_bytes() {
    let ids = (0..1_000).map(BlockShortId).collect();
    let commitment = BodyCommitment { ids, transactions: Root([1; 32]), answers: Root([2; 32]) };
    assert_eq!(Announcement { header: header(), commitment }.to_bytes().len(), 8_252);
}

/// What a later version sends does not spoil what comes beside it, in blocks and in responses; its attachments are counted, and no more
/// than one can be is taken.
#[test]
fn an_unknown_action_does_not_spoil_its_neighbours() {
    for fields in [0, 100, MAX_UNKNOWN_TRANSACTION_BYTES - 24 - 4 - 96] {
        let stranger = unknown(fields);
        assert!(matches!(stranger.unsigned.action, Action::Unknown(_)));
        let lone = Submission { transaction: stranger.clone(), attachment: None };
        let response = Response::Pending(vec![Some(submission()), Some(lone), Some(submission())]);
        assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
        let mut data = block_data();
        data.body.transactions.insert(1, (stranger.clone(), Answer::None));
        data.attachments.insert(1, None);
        let response = Response::Blocks(vec![Some(data)]);
        assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
        let several = |attachments: &[usize]| {
            let lists = attachments.iter().map(|length| encode(&vec![7u8; *length])).collect::<Vec<_>>().concat();
            [encode(&stranger), (attachments.len() as u64).to_le_bytes().to_vec(), lists].concat()
        };
        let kept = Submission::from_bytes(&several(&[2, 0, 3])).expect("they are few");
        assert_eq!((kept.to_bytes(), kept.encoded_len()), (several(&[2, 0, 3]), several(&[2, 0, 3]).len()));
        assert_eq!(kept.attachment.map(|list| list.len()), Some(8 + 3 * 8 + 5));
        for too_many in [several(&[1; MAX_ATTACHMENTS + 1]), several(&[MAX_ATTACHMENT_BYTES, 1])] {
            assert!(Submission::from_bytes(&too_many).is_err());
        }
    }
    let known = [encode(&classify()), encode(&vec![vec![1u8], vec![2]])].concat();
    assert!(Submission::from_bytes(&known).is_err(), "it has one attachment");
}

#[test]
fn golden_requests() {
    let (a, b) = (BlockHash([0xaa; 32]), BlockHash([0xbb; 32]));
    let submitted = hex(&submission().to_bytes());
    let cases = [
        (Request::Status, vec![tag(1)]),
        (
            Request::Headers { locator: vec![a, b], limit: 5 },
            vec![tag(2), n(2), all(0xaa, 32), all(0xbb, 32), "05000000".into()],
        ),
        (Request::Blocks { hashes: vec![a] }, vec![tag(3), n(1), all(0xaa, 32)]),
        (
            Request::Transactions { block: b, indexes: vec![1, 2] },
            vec![tag(4), all(0xbb, 32), n(2), "01000000".into(), "02000000".into()],
        ),
        (Request::Submit(submission()), vec![tag(5), submitted]),
        (Request::Transaction { txid: TxId([3; 32]) }, vec![tag(6), all(3, 32)]),
        (Request::Block { by: BlockId::Height(4) }, vec![tag(7), tag(1), n(4)]),
        (Request::Block { by: BlockId::Hash(a) }, vec![tag(7), tag(2), all(0xaa, 32)]),
        (Request::Account { address: Address([5; 20]) }, vec![tag(8), all(5, 20)]),
        (Request::NodeStatus, vec![tag(9)]),
        (Request::Fee { blocks: 3 }, vec![tag(11), "03000000".into()]),
        (Request::Faucet(FaucetRequest::Terms), vec![tag(14), tag(1)]),
        (
            Request::Faucet(FaucetRequest::Claim(FaucetClaim {
                address: Address([1; 20]),
                block: BlockHash([2; 32]),
                nonce: 3,
            })),
            vec![tag(14), tag(2), "01".repeat(20), "02".repeat(32), n(3)],
        ),
        (
            control(Control::Ban {
                subject: BanSubject::Address("1.2.3.4".parse().unwrap()),
                seconds: 5,
                reason: "spam".into(),
            }),
            vec![tag(13), all(0xcc, 32), tag(1), tag(2), all(0, 10), "ffff01020304".into(), n(5), text("spam")],
        ),
        (
            control(Control::Unban { subject: BanSubject::Peer("12D3".into()) }),
            vec![tag(13), all(0xcc, 32), tag(2), tag(1), text("12D3")],
        ),
        (
            control(Control::Unban { subject: BanSubject::Address("2001:db8::1".parse().unwrap()) }),
            vec![tag(13), all(0xcc, 32), tag(2), tag(2), "20010db8".into(), all(0, 11), "01".into()],
        ),
        (
            control(Control::Add { address: "/dns4/a/tcp/1".into() }),
            vec![tag(13), all(0xcc, 32), tag(3), text("/dns4/a/tcp/1")],
        ),
        (control(Control::Snapshot { folder: "verify".into() }), vec![tag(13), all(0xcc, 32), tag(4), text("verify")]),
        (control(Control::Peers), vec![tag(13), all(0xcc, 32), tag(5)]),
        (
            control(Control::Forget { attachment: AttachmentHash([6; 32]) }),
            vec![tag(13), all(0xcc, 32), tag(6), all(6, 32)],
        ),
        (Request::Announce { ids: vec![ShortId([1; 8]), ShortId([2; 8])] }, vec![tag(15), n(2), all(1, 8), all(2, 8)]),
        (Request::Pending { ids: vec![ShortId([3; 8])] }, vec![tag(16), n(1), all(3, 8)]),
        (Request::Attachments { ids: vec![ShortId([4; 8])] }, vec![tag(17), n(1), all(4, 8)]),
        (
            Request::NewTip(ChainStatus { genesis: a, height: 5, tip: b, work: U256::from(6), next_rules: None }),
            vec![tag(18), all(0xaa, 32), n(5), all(0xbb, 32), "06".into(), all(0, 31), "00".into()],
        ),
        (Request::TransactionIds { block: a }, vec![tag(19), all(0xaa, 32)]),
        (Request::File { model: ModelId([8; 32]), chunk: 7 }, vec![tag(20), all(8, 32), "07000000".into()]),
        (Request::Models { from: ModelId([9; 32]), limit: 6 }, vec![tag(21), all(9, 32), "06000000".into()]),
        (Request::Upload { sender: Address([5; 20]) }, vec![tag(22), all(5, 20)]),
        (
            Request::Ledger { address: Address([5; 20]), before: None, limit: 6, proofs: Proofs::Without },
            vec![tag(23), all(5, 20), "00".into(), "06000000".into(), "00".into()],
        ),
        (
            Request::Ledger {
                address: Address([5; 20]),
                before: Some(Place { height: 7, index: 8, side: Side::Credit }),
                limit: 6,
                proofs: Proofs::With,
            },
            vec![tag(23), all(5, 20), "01".into(), n(7), "0800000001".into(), "06000000".into(), "01".into()],
        ),
    ];
    for (request, expected) in cases {
        assert_golden(&request, &expected);
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
    }
}

#[test]
fn golden_responses() {
    let answered = ["01".to_owned(), n(1), "0300feffffff".into(), all(0x22, 32)].concat();
    let data = [
        n(2),
        transaction(&transfer()),
        "00".into(),
        transaction(&classify()),
        answered.clone(),
        n(2),
        n(0),
        n(1),
        n(1),
        "0a".into(),
    ]
    .concat();
    let head = hex(&header().to_bytes());
    let submitted = hex(&submission().to_bytes());
    let signed = [n(1), "0300feffffff".into(), all(0x22, 32), all(0x11, 32), all(0x12, 64)].concat();
    let status = ChainStatus {
        genesis: BlockHash([1; 32]),
        height: 2,
        tip: BlockHash([3; 32]),
        work: U256::from(0x0405),
        next_rules: Some(NextRules { height: 6, version: 7 }),
    };
    let proof = BodyProof {
        index: 1,
        count: 2,
        ids: [3; 32],
        transaction_path: vec![[4; 32]],
        answer_path: vec![[5; 32], [6; 32]],
    };
    let confirmation =
        Confirmation { header: header(), proof, submission: submission(), answer: Answer::Classes(classes()) };
    let found = FoundBlock { header: header(), data: block_data() };
    let account = |path| AccountStatus { nonce: 1, balance: Amount(2), next_nonce: 3, header: header(), path };
    let unknown = Response::Transaction(TransactionStatus::Unknown);
    let cases = [
        (
            Response::Status(status),
            vec![tag(1), all(1, 32), n(2), all(3, 32), "0504".into(), all(0, 30), "01".into(), n(6), tag(7)],
        ),
        (Response::Headers(vec![header()]), vec![tag(2), n(1), head.clone()]),
        (Response::Blocks(vec![None, Some(block_data())]), vec![tag(3), n(2), "00".into(), "01".into(), data.clone()]),
        (
            Response::Transactions(vec![None, Some(submission())]),
            vec![tag(4), n(2), "00".into(), "01".into(), submitted.clone()],
        ),
        (Response::Submitted(SubmitReply::Accepted { answer: None }), vec![tag(5), tag(1), "00".into()]),
        (
            Response::Submitted(SubmitReply::Accepted { answer: Some(answer()) }),
            vec![tag(5), tag(1), "01".into(), signed],
        ),
        (Response::Submitted(SubmitReply::refused(6, "no")), vec![tag(5), tag(2), "06000000".into(), text("no")]),
        (unknown, vec![tag(6), tag(1)]),
        (Response::Transaction(TransactionStatus::Pending), vec![tag(6), tag(2)]),
        (Response::Transaction(TransactionStatus::Dropped { reason: "r".into() }), vec![tag(6), tag(4), text("r")]),
        (
            Response::Transaction(TransactionStatus::Confirmed(Box::new(confirmation))),
            vec![
                tag(6),
                tag(3),
                head.clone(),
                "01000000".into(),
                "02000000".into(),
                all(3, 32),
                n(1),
                all(4, 32),
                n(2),
                all(5, 32),
                all(6, 32),
                submitted,
                answered.clone(),
            ],
        ),
        (Response::Block(None), vec![tag(7), "00".into()]),
        (Response::Block(Some(Box::new(found))), vec![tag(7), "01".into(), head.clone(), data]),
        (
            Response::Account(Box::new(account(Some(vec![[5; 32]])))),
            vec![tag(8), n(1), n(2), n(3), head.clone(), "01".into(), n(1), all(5, 32)],
        ),
        (Response::Account(Box::new(account(None))), vec![tag(8), n(1), n(2), n(3), head, "00".into()]),
        (Response::failed("why"), vec![tag(10), text("why")]),
        (Response::Fee(FeeSuggestion { rate: 4, minimum: 5 }), vec![tag(11), n(4), n(5)]),
        (
            Response::Faucet(FaucetReply::Terms(FaucetTerms { amount: Amount(6), bits: 7, block: BlockHash([8; 32]) })),
            vec![tag(14), tag(1), n(6), "07000000".into(), "08".repeat(32)],
        ),
        (Response::Faucet(FaucetReply::Paid(transfer())), vec![tag(14), tag(2), transaction(&transfer())]),
        (
            Response::Peers(Box::new(peer_list())),
            vec![
                tag(12),
                n(1),
                text("p"),
                text("a"),
                "01".into(),
                "00".into(),
                text("g"),
                "01".into(),
                n(6),
                hex(&(-7i64).to_le_bytes()),
                "08000000".into(),
                n(9),
                "00".into(),
                n(1),
                tag(1),
                text("q"),
                text("why"),
                n(10),
                n(11),
            ],
        ),
        (Response::controlled("done"), vec![tag(13), text("done")]),
        (Response::Announce { noted: 6 }, vec![tag(15), "06000000".into()]),
        (
            Response::Pending(vec![None, Some(submission())]),
            vec![tag(16), n(2), "00".into(), "01".into(), hex(&submission().to_bytes())],
        ),
        (
            Response::Attachments(vec![Some([7, 8].into()), None]),
            vec![tag(17), n(2), "01".into(), n(2), "0708".into(), "00".into()],
        ),
        (Response::NewTip, vec![tag(18)]),
        (Response::TransactionIds(None), vec![tag(19), "00".into()]),
        (Response::TransactionIds(Some(vec![WtxId([7; 32])])), vec![tag(19), "01".into(), n(1), all(7, 32)]),
        (Response::File(None), vec![tag(20), "00".into()]),
        (Response::File(Some(vec![7, 8])), vec![tag(20), "01".into(), n(2), "0708".into()]),
        (
            Response::Models(vec![NetworkModel::new(
                ModelId([7; 32]),
                ModelRecord { author: Address([8; 20]), royalty: Amount(9), first: 10, facts: facts() },
                11,
                "m",
            )]),
            vec![
                tag(21),
                n(1),
                all(7, 32),
                all(8, 20),
                n(9),
                n(10),
                "010000000200030004000500".into(),
                "0000".into(),
                n(6),
                n(11),
                text("m"),
            ],
        ),
        (Response::Upload(None), vec![tag(22), "00".into()]),
        (
            Response::Ledger(Box::new(ledger_page(1, 1))),
            vec![
                tag(23),
                n(3),
                n(4),
                n(5),
                hex(&header().to_bytes()),
                "01".into(),
                n(1),
                all(6, 32),
                n(7),
                n(1),
                hex(&header().to_bytes()),
                n(1),
                "08000000".into(),
                "03".into(),
                all(9, 32),
                all(10, 20),
                all(11, 32),
                n(12),
                "01".into(),
                transaction(&submission().transaction),
                answered.clone(),
                "0d0000000e000000".into(),
                all(15, 32),
                n(1),
                all(16, 32),
                n(1),
                all(17, 32),
                "01".into(),
            ],
        ),
        (
            Response::Upload(Some(UploadRecord {
                file: UploadHash([1; 32]),
                parts: PartsHash([2; 32]),
                size: 3,
                next: 4,
                since: 5,
                last: 6,
            })),
            vec![tag(22), "01".into(), all(1, 32), all(2, 32), "030000000400".into(), n(5), n(6)],
        ),
    ];
    for (response, expected) in cases {
        assert_golden(&response, &expected);
        assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
    }
}

#[test]
fn golden_node_status() {
    let response = Response::NodeStatus(Box::new(node_status()));
    assert_golden(
        &response,
        &[
            tag(9),
            text("a"),
            text("n"),
            all(1, 32),
            text("p"),
            n(1),
            text("m"),
            n(2),
            all(3, 32),
            n(4),
            n(5),
            "06".into(),
            all(0, 31),
            tag(7),
            tag(71),
            n(8),
            n(9),
            text("d"),
            n(10),
            n(11),
            "01".into(),
            all(12, 20),
            n(44),
            n(45),
            n(13),
            text("s"),
            n(1),
            text("w"),
            "01".into(),
            all(14, 32),
            n(1),
            all(15, 32),
            n(16),
            text("x"),
            (17..=27).map(n).collect(),
            tag(2),
            n(1),
            text("y"),
            n(28),
            (29..=40).map(n).collect(),
            tag(41),
            "01".into(),
            n(42),
            tag(43),
            "01".into(),
            text("u"),
        ],
    );
    assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
}

#[test]
fn golden_reachability() {
    let cases = [
        (Reachability::Unknown, vec![tag(1)]),
        (Reachability::Public(vec!["a".into()]), vec![tag(2), n(1), text("a")]),
        (Reachability::Relayed(Vec::new()), vec![tag(3), n(0)]),
        (Reachability::Unreachable { advice: "why".into() }, vec![tag(4), text("why")]),
    ];
    for (reachability, expected) in cases {
        assert_golden(&reachability, &expected);
    }
}

#[test]
fn cookies_match_when_every_byte_does() {
    let cookie = Cookie([7; 32]);
    assert!(cookie.matches(&Cookie([7; 32])));
    for at in 0..32 {
        let mut other = [7; 32];
        other[at] ^= 0x80;
        assert!(!cookie.matches(&Cookie(other)), "byte {at}");
    }
    assert_eq!(format!("{cookie:?}"), "Cookie", "it is not for logs");
}

#[test]
fn announcement_repeats_the_body_root() {
    let body = block_data().body;
    let announcement = Announcement::of(header(), &body);
    assert_eq!(announcement.commitment.root(), body.root(&header().parent));
    assert_ne!(announcement.commitment.root(), body.root(&BlockHash([3; 32])), "ids depend on the parent");
}

#[test]
fn signed_answer_binds_network_transaction_task_and_answer() {
    let (genesis, txid) = (BlockHash([1; 32]), TxId([2; 32]));
    let task = Task { model: ModelId([3; 32]), attachment: AttachmentHash([4; 32]), form: Form::Pixels };
    let answered = [[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0xfe, 0xff, 0xff, 0xff].as_slice(), &[0x22; 32]].concat();
    let expected = tagged("ocelli/answer", &[&[1; 32], &[2; 32], &[3; 32], &[4; 32], &answered]);
    assert_eq!(SignedAnswer::signing_hash(genesis, txid, &task, &classes()), expected);
    // A key that is no point: verify goes through the strict rules.
    let mut nowhere = answer();
    nowhere.public_key = [0; 32];
    nowhere.public_key[0] = 2;
    assert_eq!(nowhere.verify(genesis, txid, &task), Err(SignatureError::PublicKeyNotAPoint));
}

/// A message of tag `tag` whose list claims `length` elements, none of which follow.
fn claim(tag: u32, length: u64) -> Vec<u8> {
    [tag.to_le_bytes().as_slice(), &length.to_le_bytes()].concat()
}

#[test]
fn lengths_above_their_limit_do_not_decode() {
    let requests = [
        (2, MAX_LOCATOR, "locator hashes"),
        (3, MAX_BLOCKS, "block hashes"),
        (15, MAX_IDS, "short ids"),
        (16, MAX_IDS, "short ids"),
        (17, MAX_IDS, "short ids"),
    ];
    for (tag, limit, what) in requests {
        let error = Request::from_bytes(&claim(tag, limit as u64 + 1)).unwrap_err();
        assert!(
            matches!(&error, DecodeError::Malformed(text) if text.contains(&format!("{} {what}", limit + 1))),
            "{error}"
        );
        let cut = Request::from_bytes(&claim(tag, limit as u64)).unwrap_err();
        assert!(matches!(&cut, DecodeError::Malformed(text) if text.contains("UnexpectedEnd")), "{cut}");
    }
    let responses = [
        (2, MAX_HEADERS, "headers"),
        (3, MAX_BLOCKS, "blocks"),
        (4, MAX_INDEXES, "transactions"),
        (10, MAX_TEXT_BYTES, "bytes of text"),
        (16, MAX_IDS, "transactions"),
        (17, MAX_IDS, "attachments"),
        (21, MAX_MODELS, "models"),
    ];
    for (tag, limit, what) in responses {
        for length in [limit as u64 + 1, u64::MAX] {
            let error = Response::from_bytes(&claim(tag, length)).unwrap_err();
            assert!(
                matches!(&error, DecodeError::Malformed(text) if text.contains(&format!("{length} {what}"))),
                "{error}"
            );
        }
    }
}

#[test]
fn inner_limits_are_enforced() {
    let refused = |result: Result<Response, DecodeError>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(&error, DecodeError::Malformed(text) if text.contains(what)), "{error}");
    };
    let with = |change: &dyn Fn(&mut NodeStatus)| {
        let mut status = node_status();
        change(&mut status);
        Response::NodeStatus(Box::new(status))
    };
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    type Change<'a> = &'a dyn Fn(&mut NodeStatus);
    let changes: [(Change, &str); 5] = [
        (&|status| status.identity.agent.clone_from(&long), "501 bytes of text"),
        (&|status| status.identity.addresses = vec![String::new(); MAX_ADDRESSES + 1], "33 addresses"),
        (&|status| status.sync.waiting_for = vec![String::new(); MAX_WAITING + 1], "17 things waited for"),
        (&|status| status.invalid = vec![status.invalid[0].clone(); MAX_INVALID + 1], "17 invalid blocks"),
        (&|status| status.invalid[0].reason.clone_from(&long), "501 bytes of text"),
    ];
    for (change, what) in changes {
        let message = with(change);
        refused(Response::from_bytes(&message.to_bytes()), what);
        let Response::NodeStatus(status) = message else { unreachable!() };
        let bounded = Response::NodeStatus(Box::new(status.bounded()));
        assert_eq!(Response::from_bytes(&bounded.to_bytes()), Ok(bounded));
    }
    let with = |change: &dyn Fn(&mut PeerList)| {
        let mut list = peer_list();
        change(&mut list);
        list
    };
    type ListChange<'a> = &'a dyn Fn(&mut PeerList);
    let changes: [(ListChange, &str); 4] = [
        (&|list| list.peers = vec![list.peers[0].clone(); MAX_PEERS + 1], "257 peers"),
        (&|list| list.bans = vec![list.bans[0].clone(); MAX_BANS + 1], "2049 bans"),
        (&|list| list.peers[0].agent.clone_from(&long), "501 bytes of text"),
        (&|list| list.bans[0].reason.clone_from(&long), "501 bytes of text"),
    ];
    for (change, what) in changes {
        let list = with(change);
        refused(Response::from_bytes(&Response::Peers(Box::new(list.clone())).to_bytes()), what);
        let bounded = Response::Peers(Box::new(list.bounded()));
        assert_eq!(Response::from_bytes(&bounded.to_bytes()), Ok(bounded));
    }
    let mut data = block_data();
    data.attachments.pop();
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "1 lists of attachments, 2 expected");
    let mut data = block_data();
    let many = Classes { best: vec![(0, 0); MAX_CLASSES + 1], ..classes() };
    data.body.transactions[1].1 = Answer::Classes(many);
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "32769 classes");
    let mut data = block_data();
    data.attachments[1] = Some(vec![0; MAX_ATTACHMENT_BYTES + 1].into());
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "262145 bytes of an attachment");
    refused(Response::from_bytes(&Response::File(Some(vec![0; FILE_CHUNK_BYTES + 1])).to_bytes()), "bytes of a file");
    let ids = Response::TransactionIds(Some(vec![WtxId([0; 32]); MAX_TRANSACTIONS + 1]));
    refused(Response::from_bytes(&ids.to_bytes()), "32769 transactions");
    let long = Response::Failed { reason: long };
    refused(Response::from_bytes(&long.to_bytes()), "501 bytes of text");
}

#[test]
fn whole_messages_are_limited_and_consumed() {
    let mut largest = submission();
    largest.transaction = unknown(MAX_UNKNOWN_TRANSACTION_BYTES - 24 - 4 - 96);
    let attachments: Vec<Vec<u8>> = vec![vec![1; MAX_ATTACHMENT_BYTES / MAX_ATTACHMENTS]; MAX_ATTACHMENTS];
    largest.attachment = Some(encode(&attachments).into());
    let bytes = largest.to_bytes();
    assert_eq!(bytes.len(), MAX_SUBMISSION_BYTES);
    assert!(Submission::from_bytes(&bytes).as_ref() == Ok(&largest));
    let request = Request::Submit(largest);
    assert!(Request::from_bytes(&request.to_bytes()) == Ok(request));
    let found = MAX_ANNOUNCEMENT_BYTES + 1;
    let too_long = Err(DecodeError::TooLong { found, limit: MAX_ANNOUNCEMENT_BYTES });
    assert_eq!(Announcement::from_bytes(&vec![0; found]), too_long);

    let mut bytes = Request::Status.to_bytes();
    bytes.push(0);
    assert_eq!(Request::from_bytes(&bytes), Err(DecodeError::TrailingBytes(1)));
    for tag in [0u32, 10, 256] {
        assert!(Request::from_bytes(&tag.to_le_bytes()).is_err());
    }
    // A change without a cookie.
    assert!(Request::from_bytes(&13u32.to_le_bytes()).is_err());
    for tag in [0u32, 11, 256] {
        assert!(Response::from_bytes(&tag.to_le_bytes()).is_err());
    }
    // Text that is no UTF-8, and a byte 2 where 0 or 1 is expected.
    assert!(Response::from_bytes(&[claim(10, 1), vec![0xff]].concat()).is_err());
    assert!(Response::from_bytes(&[7, 0, 0, 0, 2]).is_err());
}

#[test]
fn blocks_for_a_response_stop_when_large() {
    let data = block_data();
    assert_eq!(data.encoded_len(), encode(&data).len());
    let mut large = BlockData::default();
    for _ in 0..8 {
        large.body.transactions.push((classify(), Answer::None));
        large.attachments.push(Some(vec![0; MAX_ATTACHMENT_BYTES].into()));
    }
    let blocks = || vec![None, Some(large.clone()), Some(large.clone()), Some(large.clone())];
    assert_eq!(take_blocks(blocks()).len(), 3);
    assert_eq!(take_blocks(std::iter::repeat_n(None, 40)).len(), MAX_BLOCKS);
    assert_eq!(take_blocks([]), vec![]);
    let mut huge = large.clone();
    huge.body.transactions.extend_from_within(..);
    huge.attachments.extend_from_within(..);
    assert_eq!(take_blocks([Some(huge.clone()), Some(huge)]).len(), 1);
}

#[test]
fn transactions_for_a_response_stop_when_large() {
    let large = Submission { transaction: classify(), attachment: Some(vec![0; MAX_ATTACHMENT_BYTES].into()) };
    assert_eq!(large.encoded_len(), large.to_bytes().len());
    let found = || std::iter::repeat_n(Some(large.clone()), 9);
    for taken in [take_pending(found()), take_transactions(found())] {
        assert_eq!(taken.len(), 4);
    }
    assert_eq!(take_transactions(std::iter::repeat_n(None, MAX_INDEXES)).len(), MAX_INDEXES);
    assert_eq!(take_pending(std::iter::repeat_n(None, MAX_IDS)).len(), MAX_IDS);
    assert_eq!(take_attachments(found().map(|one| one.and_then(|one| one.attachment))).len(), 4);
}

/// Each kind has room for the largest that honest nodes make of it, and for hardly more.
#[test]
fn the_largest_responses_fit_their_kind() {
    let largest = Submission {
        transaction: unknown(MAX_UNKNOWN_TRANSACTION_BYTES - 24 - 4 - 96),
        attachment: Some(encode(&vec![vec![0u8; MAX_ATTACHMENT_BYTES]]).into()),
    };
    let all = || std::iter::repeat_n(Some(largest.clone()), MAX_IDS);
    let large: Arc<[u8]> = vec![0; MAX_ATTACHMENT_BYTES].into();
    let model = ModelRecord { author: Address([8; 20]), royalty: Amount(9), first: 10, facts: facts() };
    let model = NetworkModel::new(ModelId([7; 32]), model, 11, "x".repeat(MAX_TEXT_BYTES));
    let rows = [
        (
            Request::Transactions { block: BlockHash([1; 32]), indexes: vec![] },
            Response::Transactions(take_transactions(all())),
        ),
        (Request::Pending { ids: vec![] }, Response::Pending(take_pending(all()))),
        (
            Request::Attachments { ids: vec![] },
            Response::Attachments(take_attachments(std::iter::repeat_n(Some(large), MAX_IDS))),
        ),
        (
            Request::TransactionIds { block: BlockHash([1; 32]) },
            Response::TransactionIds(Some(vec![WtxId([0; 32]); MAX_TRANSACTIONS])),
        ),
        (Request::File { model: ModelId([1; 32]), chunk: 0 }, Response::File(Some(vec![0; FILE_CHUNK_BYTES]))),
        (Request::Models { from: ModelId([0; 32]), limit: 64 }, Response::Models(vec![model; MAX_MODELS])),
        (
            Request::Ledger { address: Address([0; 20]), before: None, limit: 256, proofs: Proofs::With },
            Response::Ledger(Box::new(ledger_page(MAX_ENTRIES, MAX_BODY_PATH))),
        ),
    ];
    for (request, response) in rows {
        let (request, bytes) = (request.to_bytes(), response.to_bytes());
        let limit = Response::max_bytes(&request);
        assert!((bytes.len()..bytes.len() + MAX_SUBMISSION_BYTES + 1_000).contains(&limit), "{limit}: {}", bytes.len());
        assert!(Response::from_bytes(&bytes) == Ok(response), "tag {}", bytes[0]);
    }
}

#[test]
fn short_ids_are_the_first_bytes() {
    let wtxid = WtxId(std::array::from_fn(|at| at as u8));
    assert_eq!(ShortId::of(&wtxid), ShortId([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(ShortId::of(&wtxid).to_string(), wtxid.to_string()[..16]);
    assert_eq!(ShortId::of(&ShortId([9; 8]).first()), ShortId([9; 8]));
}

fn arb_answer() -> impl Strategy<Value = Answer> {
    let best = proptest::collection::vec(any::<(u16, i32)>(), 0..6);
    let classes = (best, any::<[u8; 32]>()).prop_map(|(best, digest)| Classes { best, digest: LogitsDigest(digest) });
    proptest::option::of(classes).prop_map(|classes| classes.map_or(Answer::None, Answer::Classes))
}

fn arb_action() -> impl Strategy<Value = Action> {
    let form = proptest::option::of(any::<(u16, u16)>())
        .prop_map(|sides| sides.map_or(Form::Pixels, |(width, height)| Form::Jpeg { width, height }));
    let facts = any::<(u32, u16, u16, u16, u32, u64)>().prop_map(|(size, channels, height, width, classes, cost)| {
        ModelFacts { size, channels, height, width, classes, cost }
    });
    prop_oneof![
        any::<([u8; 20], u64)>().prop_map(|(to, amount)| Action::Transfer { to: Address(to), amount: Amount(amount) }),
        (any::<([u8; 32], [u8; 32], u32, u64)>(), form).prop_map(|((model, picture, bytes, royalty), form)| {
            let (model, picture) = (ModelId(model), AttachmentHash(picture));
            Action::Classify { model, picture, bytes, royalty: Amount(royalty), form }
        }),
        any::<([u8; 32], u32)>().prop_map(|(file, size)| Action::Upload { file: UploadHash(file), size }),
        any::<(u16, u32, [u8; 32])>().prop_map(|(number, bytes, data)| Action::Part {
            number,
            bytes,
            data: AttachmentHash(data)
        }),
        (any::<([u8; 32], u64)>(), facts).prop_map(|((model, royalty), facts)| Action::Publish {
            model: ModelId(model),
            facts,
            royalty: Amount(royalty)
        }),
        (0usize..300).prop_map(|fields| unknown(fields).unsigned.action),
    ]
}

fn arb_transaction() -> impl Strategy<Value = Transaction> {
    let signature = proptest::collection::vec(any::<u8>(), 64);
    (any::<(u64, u64, u64, [u8; 32])>(), arb_action(), signature).prop_map(
        |((nonce, fee, expires, public_key), action, signature)| Transaction {
            unsigned: Unsigned { nonce, fee: Amount(fee), expires, action },
            public_key,
            signature: signature.try_into().expect("64 bytes are generated"),
        },
    )
}

fn arb_submission() -> impl Strategy<Value = Submission> {
    (arb_transaction(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))).prop_map(
        |(transaction, attachment)| {
            let is_known = !matches!(transaction.unsigned.action, Action::Unknown(_));
            let encoded = attachment.map(|bytes| if is_known { bytes } else { encode(&vec![bytes]) });
            Submission { transaction, attachment: encoded.map(Arc::from) }
        },
    )
}

fn arb_data() -> impl Strategy<Value = BlockData> {
    proptest::collection::vec((arb_submission(), arb_answer()), 0..5).prop_map(|entries| {
        let mut data = BlockData::default();
        for (submission, answer) in entries {
            data.body.transactions.push((submission.transaction, answer));
            data.attachments.push(submission.attachment);
        }
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_round_trip(
        data in proptest::collection::vec(proptest::option::of(arb_data()), 0..4),
        submission in arb_submission(),
        ids in proptest::collection::vec(any::<u64>(), 0..6),
        nonce: u64,
    ) {
        for block in data.iter().flatten() {
            prop_assert_eq!(block.encoded_len(), encode(block).len());
        }
        let response = Response::Blocks(data);
        prop_assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
        prop_assert_eq!(submission.encoded_len(), submission.to_bytes().len());
        prop_assert_eq!(Submission::from_bytes(&submission.to_bytes()), Ok(submission));
        let ids = ids.into_iter().map(BlockShortId).collect();
        let commitment = BodyCommitment { ids, transactions: Root([1; 32]), answers: Root([2; 32]) };
        let announcement = Announcement { header: Header { nonce, ..header() }, commitment };
        prop_assert_eq!(Announcement::from_bytes(&announcement.to_bytes()), Ok(announcement));
    }

    /// What decodes is the only encoding of its value, and nothing panics.
    #[test]
    fn any_bytes_decode_to_one_value_or_none(tag in 0u32..25, bytes in proptest::collection::vec(0u8..3, 0..120)) {
        let bytes = [tag.to_le_bytes().as_slice(), &bytes].concat();
        if let Ok(request) = Request::from_bytes(&bytes) {
            prop_assert_eq!(request.to_bytes(), bytes.clone());
        }
        if let Ok(response) = Response::from_bytes(&bytes) {
            prop_assert_eq!(response.to_bytes(), bytes);
        }
    }
}
