//! Golden bytes of every message, round trips, and limits.

use bincode::Encode;
use ocelli_consensus::block::Output;
use ocelli_consensus::codec::{DecodeError, encode};
use ocelli_consensus::hash::tagged;
use ocelli_consensus::signature::SignatureError;
use ocelli_consensus::{
    Action, Address, Amount, BlockHash, Body, CompactTarget, Header, ImageHash, ModelId, Root, Transaction, TxId, U256,
    Unsigned, WtxId,
};
use proptest::prelude::*;

use super::*;

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
    transaction.unsigned.action = Action::Classify { model: ModelId([8; 32]), image: ImageHash([9; 32]) };
    transaction
}

fn submission() -> Submission {
    Submission { transaction: classify(), pixels: Some(vec![0x0a, 0x0b]) }
}

fn block_data() -> BlockData {
    BlockData {
        body: Body { transactions: vec![(transfer(), None), (classify(), Some(vec![1, -1]))] },
        pixels: vec![None, Some(vec![0x0a])],
    }
}

fn answer() -> SignedAnswer {
    SignedAnswer { logits: vec![-2], public_key: [0x11; 32], signature: [0x12; 64] }
}

fn node_status() -> NodeStatus {
    NodeStatus {
        agent: "a".into(),
        network: "n".into(),
        genesis: BlockHash([1; 32]),
        peer_id: "p".into(),
        addresses: vec!["m".into()],
        height: 2,
        tip: BlockHash([3; 32]),
        tip_time: 4,
        header_height: 5,
        work: U256::from(6),
        peers: PeerCounts { dialled: 7, inbound: 71 },
        mempool_transactions: 8,
        mempool_bytes: 9,
        device: "d".into(),
        millitasks_per_second: 10,
        hash_rate: 11,
        mining: Some(Address([12; 20])),
        uptime_seconds: 13,
        sync: "s".into(),
        waiting_for: vec!["w".into()],
        disabled_device: true,
        state_root: Root([14; 32]),
        invalid: vec![InvalidBlock { hash: BlockHash([15; 32]), height: 16, reason: "x".into() }],
        storage: StorageStatus { disk_bytes: 17, pixels_from: 18, bodies_from: 19, answers_from: 20 },
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
            relayed_pixels: 40,
        },
    }
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
    let entries =
        vec![(WtxId([1; 32]), None), (WtxId([2; 32]), Some(vec![3, -1, 12_345])), (WtxId([3; 32]), Some(vec![]))];
    assert_golden(
        &Announcement { header: header(), entries },
        &[
            hex(&header().to_bytes()),
            n(3),
            all(1, 32),
            "00".into(),
            all(2, 32),
            "04".into(),
            "06".into(),
            "01".into(),
            "f2c001".into(),
            all(3, 32),
            "01".into(),
        ],
    );
    assert_golden(&submission(), &[hex(&encode(&classify())), "01".into(), n(2), "0a0b".into()]);
    let without = Submission { transaction: transfer(), pixels: None };
    assert_golden(&without, &[hex(&encode(&transfer())), "00".into()]);
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
        (Request::Announce { ids: vec![ShortId([1; 8]), ShortId([2; 8])] }, vec![tag(15), n(2), all(1, 8), all(2, 8)]),
        (Request::Pending { ids: vec![ShortId([3; 8])] }, vec![tag(16), n(1), all(3, 8)]),
        (Request::Pixels { ids: vec![ShortId([4; 8])] }, vec![tag(17), n(1), all(4, 8)]),
        (
            Request::NewTip(ChainStatus { genesis: a, height: 5, tip: b, work: U256::from(6) }),
            vec![tag(18), all(0xaa, 32), n(5), all(0xbb, 32), "06".into(), all(0, 31)],
        ),
    ];
    for (request, expected) in cases {
        assert_golden(&request, &expected);
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
    }
}

#[test]
fn golden_responses() {
    let data = [
        n(2),
        hex(&encode(&transfer())),
        "00".into(),
        hex(&encode(&classify())),
        "01".into(),
        n(2),
        "01000000".into(),
        "ffffffff".into(),
        n(2),
        "00".into(),
        "01".into(),
        n(1),
        "0a".into(),
    ]
    .concat();
    let head = hex(&header().to_bytes());
    let submitted = hex(&submission().to_bytes());
    let signed = [n(1), "feffffff".into(), all(0x11, 32), all(0x12, 64)].concat();
    let status =
        ChainStatus { genesis: BlockHash([1; 32]), height: 2, tip: BlockHash([3; 32]), work: U256::from(0x0405) };
    let confirmation = Confirmation {
        header: header(),
        index: 1,
        count: 2,
        path: vec![[4; 32]],
        submission: submission(),
        output: Some(vec![3]),
    };
    let found = FoundBlock { header: header(), data: block_data() };
    let account = |path| AccountStatus { nonce: 1, balance: Amount(2), next_nonce: 3, header: header(), path };
    let unknown = Response::Transaction(TransactionStatus::Unknown);
    let cases = [
        (Response::Status(status), vec![tag(1), all(1, 32), n(2), all(3, 32), "0504".into(), all(0, 30)]),
        (Response::Headers(vec![header()]), vec![tag(2), n(1), head.clone()]),
        (Response::Blocks(vec![None, Some(block_data())]), vec![tag(3), n(2), "00".into(), "01".into(), data.clone()]),
        (Response::Transactions(vec![submission()]), vec![tag(4), n(1), submitted.clone()]),
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
                n(1),
                all(4, 32),
                submitted,
                "01".into(),
                n(1),
                "03000000".into(),
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
        (Response::Faucet(FaucetReply::Paid(transfer())), vec![tag(14), tag(2), hex(&encode(&transfer()))]),
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
            Response::Pixels(vec![Some(vec![7, 8]), None]),
            vec![tag(17), n(2), "01".into(), n(2), "0708".into(), "00".into()],
        ),
        (Response::NewTip, vec![tag(18)]),
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
    assert_eq!(Announcement::of(header(), &body).body_root(), body.root());
}

#[test]
fn signed_answer_binds_network_transaction_and_logits() {
    let (genesis, txid, model, image) = (BlockHash([1; 32]), TxId([2; 32]), ModelId([3; 32]), ImageHash([4; 32]));
    let logits = [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255];
    let expected = tagged("ocelli/answer", &[&[1; 32], &[2; 32], &[3; 32], &[4; 32], &logits]);
    assert_eq!(SignedAnswer::signing_hash(genesis, txid, model, image, &[1, -1]), expected);
    // A key that is no point: verify goes through the strict rules.
    let mut nowhere = answer();
    nowhere.public_key = [0; 32];
    nowhere.public_key[0] = 2;
    assert_eq!(nowhere.verify(genesis, txid, model, image), Err(SignatureError::PublicKeyNotAPoint));
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
        (17, MAX_IDS, "images"),
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
        (&|status| status.agent.clone_from(&long), "501 bytes of text"),
        (&|status| status.addresses = vec![String::new(); MAX_ADDRESSES + 1], "33 addresses"),
        (&|status| status.waiting_for = vec![String::new(); MAX_WAITING + 1], "17 things waited for"),
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
    data.pixels.pop();
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "1 images, 2 expected");
    let mut data = block_data();
    data.body.transactions[1].1 = Some(vec![0; MAX_LOGITS + 1]);
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "32769 logits");
    let mut data = block_data();
    data.pixels[1] = Some(vec![0; MAX_PIXELS + 1]);
    refused(Response::from_bytes(&Response::Blocks(vec![Some(data)]).to_bytes()), "1048577 pixels");
    let long = Response::Failed { reason: long };
    refused(Response::from_bytes(&long.to_bytes()), "501 bytes of text");
}

#[test]
fn whole_messages_are_limited_and_consumed() {
    let mut largest = submission();
    largest.pixels = Some(vec![1; MAX_PIXELS]);
    let bytes = largest.to_bytes();
    assert_eq!(bytes.len(), MAX_SUBMISSION_BYTES);
    assert_eq!(Submission::from_bytes(&bytes).as_ref(), Ok(&largest));
    let request = Request::Submit(largest);
    assert_eq!(request.to_bytes().len(), MAX_REQUEST_BYTES);
    assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
    let found = MAX_ANNOUNCEMENT_BYTES + 1;
    let too_long = Err(DecodeError::TooLong { found, limit: MAX_ANNOUNCEMENT_BYTES });
    assert_eq!(Announcement::from_bytes(&vec![0; found]), too_long);
    let announced = |entry: &[u8]| [header().to_bytes().as_slice(), &1u64.to_le_bytes(), &[1; 32], entry].concat();
    // A number of logits above the limit, and numbers in more bytes than they need.
    for (entry, reason) in [
        ([0x82, 0x80, 0x02].as_slice(), "32769 logits, at most 32768 expected"),
        (&[0x80, 0x00], "a number of more bytes than it needs, or above 32 bits"),
        (&[0x02, 0x83, 0x00], "a number of more bytes than it needs, or above 32 bits"),
    ] {
        let refused = Announcement::from_bytes(&announced(entry)).expect_err(reason).to_string();
        assert!(refused.contains(reason), "{refused}");
    }

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
    for _ in 0..2 {
        large.body.transactions.push((classify(), None));
        large.pixels.push(Some(vec![0; 1 << 20]));
    }
    let blocks = || vec![None, Some(large.clone()), Some(large.clone()), Some(large.clone())];
    assert_eq!(take_blocks(blocks()).len(), 3);
    assert_eq!(take_blocks(std::iter::repeat_n(None, 40)).len(), MAX_BLOCKS);
    assert_eq!(take_blocks([]), vec![]);
    let mut huge = large.clone();
    huge.body.transactions.extend_from_within(..);
    huge.pixels.extend_from_within(..);
    assert_eq!(take_blocks([Some(huge.clone()), Some(huge)]).len(), 1);
}

#[test]
fn relayed_transactions_for_a_response_stop_when_large() {
    let large = Submission { transaction: classify(), pixels: Some(vec![0; RELAY_BYTES / 2]) };
    let found = || std::iter::repeat_n(Some(large.clone()), 5);
    assert_eq!(take_pending(found()).len(), 2);
    assert_eq!(take_pending(std::iter::repeat_n(None, MAX_IDS)).len(), MAX_IDS);
    assert_eq!(take_pixels(found().map(|one| one.and_then(|one| one.pixels))).len(), 2);
    assert_eq!(take_pixels([Some(vec![0; MAX_PIXELS]), None]).len(), 1);
}

#[test]
fn short_ids_are_the_first_bytes() {
    let wtxid = WtxId(std::array::from_fn(|at| at as u8));
    assert_eq!(ShortId::of(&wtxid), ShortId([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(ShortId::of(&wtxid).to_string(), wtxid.to_string()[..16]);
    assert_eq!(ShortId::of(&ShortId([9; 8]).first()), ShortId([9; 8]));
}

fn arb_output() -> impl Strategy<Value = Output> {
    proptest::option::of(proptest::collection::vec(any::<i32>(), 0..12))
}

fn arb_transaction() -> impl Strategy<Value = Transaction> {
    let action = prop_oneof![
        any::<([u8; 20], u64)>().prop_map(|(to, amount)| Action::Transfer { to: Address(to), amount: Amount(amount) }),
        any::<([u8; 32], [u8; 32])>()
            .prop_map(|(model, image)| Action::Classify { model: ModelId(model), image: ImageHash(image) }),
    ];
    let signature = proptest::collection::vec(any::<u8>(), 64);
    (any::<(u64, u64, u64, [u8; 32])>(), action, signature).prop_map(
        |((nonce, fee, expires, public_key), action, signature)| Transaction {
            unsigned: Unsigned { nonce, fee: Amount(fee), expires, action },
            public_key,
            signature: signature.try_into().expect("64 bytes are generated"),
        },
    )
}

fn arb_submission() -> impl Strategy<Value = Submission> {
    (arb_transaction(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)))
        .prop_map(|(transaction, pixels)| Submission { transaction, pixels })
}

fn arb_data() -> impl Strategy<Value = BlockData> {
    proptest::collection::vec((arb_submission(), arb_output()), 0..5).prop_map(|entries| {
        let mut data = BlockData::default();
        for (submission, output) in entries {
            data.body.transactions.push((submission.transaction, output));
            data.pixels.push(submission.pixels);
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
        entries in proptest::collection::vec((any::<[u8; 32]>(), arb_output()), 0..6),
        nonce: u64,
    ) {
        for block in data.iter().flatten() {
            prop_assert_eq!(block.encoded_len(), encode(block).len());
        }
        let response = Response::Blocks(data);
        prop_assert_eq!(Response::from_bytes(&response.to_bytes()), Ok(response));
        prop_assert_eq!(Submission::from_bytes(&submission.to_bytes()), Ok(submission));
        let entries = entries.into_iter().map(|(wtxid, output)| (WtxId(wtxid), output)).collect();
        let announcement = Announcement { header: Header { nonce, ..header() }, entries };
        prop_assert_eq!(Announcement::from_bytes(&announcement.to_bytes()), Ok(announcement));
    }

    /// What decodes is the only encoding of its value, and nothing panics.
    #[test]
    fn any_bytes_decode_to_one_value_or_none(tag in 0u32..20, bytes in proptest::collection::vec(0u8..3, 0..120)) {
        let bytes = [tag.to_le_bytes().as_slice(), &bytes].concat();
        if let Ok(request) = Request::from_bytes(&bytes) {
            prop_assert_eq!(request.to_bytes(), bytes.clone());
        }
        if let Ok(response) = Response::from_bytes(&bytes) {
            prop_assert_eq!(response.to_bytes(), bytes);
        }
    }
}
