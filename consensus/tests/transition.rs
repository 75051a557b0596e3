//! What blocks do to the state: golden values, and a naive ledger that must agree.

mod chain;

use std::collections::BTreeMap;

use chain::*;
use ocelli_consensus::state;
use ocelli_consensus::transition::{self, Account, TransactionError};
use ocelli_consensus::*;
use proptest::prelude::*;

// import hashlib; from struct import pack; from nacl.signing import SigningKey
// S = lambda b: hashlib.sha256(b).digest()
// H = lambda t, d: S(S(t.encode()) * 2 + d)
// key = lambda s: SigningKey(bytes([s]) * 32)
// pub = lambda s: bytes(key(s).verify_key)
// addr = lambda s: H("ocelli/address", pub(s))[:20]
// text = lambda s: pack('<Q', len(s)) + s.encode()
// model, image = H("ocelli/model", b"not a real model"), H("ocelli/image", bytes([0, 85, 170, 255]))
// params = (text("example") + text("toc") + pack('<QQQIQQQQQ', 1800000000, 10, 3600, 0x2000ffff, 10**9, 2000000,
//     10000, 100000, 100) + pack('<Q', 1) + addr(1) + pack('<Q', 10**10) + pack('<Q', 1) + model
//     + pack('<IIQ', 4, 2, 8192) + pack('<Q', 1) + pack('<QIQ', 1000, 2, 0))
// def root(leaves, depth=0):
//     if len(leaves) < 2: return leaves[0][1] if leaves else bytes(32)
//     half = [[l for l in leaves if l[0][depth // 8] >> (7 - depth % 8) & 1 == b] for b in (0, 1)]
//     return H("ocelli/state/node", root(half[0], depth + 1) + root(half[1], depth + 1))
// def state(accounts):
//     keys = [(H("ocelli/state/key", b"\0" + a), pack('<QQ', *v)) for a, v in accounts.items()]
//     return root([(k, H("ocelli/state/leaf", k + v)) for k, v in keys])
// work = 2**256 // ((0xffff << 232) + 1)
// leaf = lambda h, t: h + work.to_bytes(32, 'little') + pack('<QQII', t, t, 0x2000ffff, 0x2000ffff)
// def parent(l, r):
//     sum = int.from_bytes(l[32:64], 'little') + int.from_bytes(r[32:64], 'little')
//     return H("ocelli/history", l + r) + sum.to_bytes(32, 'little') + l[64:72] + r[72:80] + l[80:84] + r[84:88]
// def history(leaves):
//     peaks, rest = [], list(leaves)
//     while rest:
//         level, rest = rest[:1 << (len(rest).bit_length() - 1)], rest[1 << (len(rest).bit_length() - 1):]
//         while len(level) > 1: level = [parent(*level[i:i + 2]) for i in range(0, len(level), 2)]
//         peaks += level
//     bag = peaks.pop()
//     while peaks: bag = parent(peaks.pop(), bag)
//     return H("ocelli/history/root", pack('<Q', len(leaves)) + bag)
// def tx(seed, nonce, fee, action):
//     body = pack('<QQQ', nonce, fee, 100) + action + pub(seed)
//     sig = key(seed).sign(H("ocelli/sign", genesis + body)).signature
//     return H("ocelli/wtx", H("ocelli/tx", body) + sig)
// def body(items):
//     level = [S(b"\0" + i) for i in items]
//     while len(level) > 1:
//         pairs = [level[i:i + 2] for i in range(0, len(level), 2)]
//         level = [S(b"\1" + b"".join(p)) if len(p) == 2 else p[0] for p in pairs]
//     return H("ocelli/body", pack('<I', len(items)) + (level[0] if items else S(b"")))
// send = lambda to, n: pack('<I', 1) + addr(to) + pack('<Q', n)
// ask = pack('<I', 2) + model + image
// out = pack('<Qii', 2, 510, -510)
// header = lambda parent, hist, st, bo, miner, h: (pack('<I', 1) + parent + hist + st + bo + miner
//     + pack('<QQI', h, 1800000000 + 10 * h, 0x2000ffff))
// accounts = {addr(1): (0, 10**10)}
// bare = header(H("ocelli/params", params), bytes(32), state(accounts), body([]), bytes(20), 0) + bytes(8)
// genesis = tip = S(S(bare)); leaves = [leaf(tip, 1800000000)]; print(genesis.hex())
// blocks = [([tx(1, 0, 1000, send(2, 250000000)), tx(1, 1, 2000, ask) + out],
//            {addr(1): (2, 9749997000), addr(2): (0, 250000000), addr(3): (0, 1000003000)}),
//           ([tx(2, 0, 7, ask) + out, tx(2, 1, 3, send(4, 100000))],
//            {addr(1): (2, 9749997000), addr(2): (2, 249899990), addr(3): (0, 2000003010), addr(4): (0, 100000)}),
//           ([], {addr(1): (2, 9749997000), addr(2): (2, 249899990), addr(3): (0, 3000003010), addr(4): (0, 100000)})]
// for h, (items, accounts) in enumerate(blocks, 1):
//     bare, nonce = header(tip, history(leaves), state(accounts), body(items), addr(3), h), 0
//     while int.from_bytes(S(S(bare + pack('<Q', nonce))), 'little') > 0xffff << 232: nonce += 1
//     tip = S(S(bare + pack('<Q', nonce))); leaves.append(leaf(tip, 1800000000 + 10 * h))
//     print(bare[36:68].hex(), bare[68:100].hex(), bare[100:132].hex(), nonce, tip.hex())
#[test]
fn golden_chain() {
    let mut chain = Chain::new(example_parameters());
    assert_eq!(chain.genesis.to_string(), "4261bbc4c9bcfc22609c8e994ed5f1504c74ee6e204353f89ddf4015154d367a");
    let task = |seed, nonce, fee| {
        let action = Action::Classify { model: example_model(), image: ImageHash::of(&EXAMPLE_PIXELS) };
        (Unsigned { nonce, fee: Amount(fee), expires: 100, action }, seed)
    };
    let first = example_block(&chain);
    let expected = [
        [
            "d07c59ae7b006afd52a841041bda262195c73fb54541f5287f2322b4d58636f9",
            "cb9c898ee209515bfc3bccb95c43c288430a26bf4aea2db3c6e22785c4b6798f",
            "264669de963670e78dcf7480ee0da0a2162a2f5894a46b22a3148f27625c1b2c",
            "253",
            "df5da7d54978ff9af15900be2d19448244b43002c90339415b1d0eb110d06600",
        ],
        [
            "e21a75d1ac958486c78b89f47b12ac9e540f3274bd007c7578f5630944dd58e1",
            "ca7b939d82109cafe3f24771cb05f290185e331cb6df8d2e19ffd522a5583c0b",
            "8f6d10b6c1398fac4f5249f7ec8c94a8db42350dd4079c2ffc4f71751ecdc364",
            "234",
            "07b05f1b33cd2404cc63003401ea57e2fbc0e15698616f40f2dd65264a858e00",
        ],
        [
            "f45ea5834ec9c095835df94e216a2ae022b2b65854bdb297ea5b04e0bf0e1322",
            "b0655ed3a4085003b43f569e3a4ba5c3a3b108a45e738f7b393828a0e2a45d3f",
            "a9ae957b88230948bbfb5c9e734de4622960e1e874e0249a7a261f5dc0ce261f",
            "133",
            "1ac5ebab73ca60dc5657e8a89a310dc488b43976a76d970c5de6b551a0336f00",
        ],
    ];
    for (number, values) in expected.into_iter().enumerate() {
        let candidate = match number {
            0 => first.clone(),
            1 => {
                let (ask, seed) = task(2, 0, 7);
                let send = Action::Transfer { to: address(4), amount: Amount(100_000) };
                let send = Unsigned { nonce: 1, fee: Amount(3), expires: 100, action: send };
                let pixels = Some(EXAMPLE_PIXELS.to_vec());
                let mut candidate = chain.candidate(vec![(chain.sign(seed, ask), pixels), (chain.sign(2, send), None)]);
                candidate.header.miner = address(3);
                chain.seal(&mut candidate);
                candidate
            }
            _ => {
                let mut candidate = chain.candidate(vec![]);
                candidate.header.miner = address(3);
                chain.seal(&mut candidate);
                candidate
            }
        };
        chain.connect(&candidate);
        let Header { history, state, body, nonce, .. } = candidate.header;
        let found = [&history.to_string(), &state.to_string(), &body.to_string(), &nonce.to_string()];
        assert_eq!(found, values[..4], "block {}", number + 1);
        assert_eq!(candidate.header.hash().to_string(), values[4]);
    }
}

/// Accounts in the plainest way: nothing to undo, nothing shared with the code under test.
type Naive = BTreeMap<Address, (u64, u128)>;

/// One transaction of a generated block: sender and recipient by seed, what is added to the right nonce, amount, fee.
#[derive(Debug, Clone)]
struct Move {
    from: u8,
    to: u8,
    nonce: u64,
    amount: u64,
    fee: u64,
    task: bool,
}

fn moves() -> impl Strategy<Value = Move> {
    let amounts = || prop_oneof![Just(0u64), 1u64..99, Just(99), Just(100), 100u64..12_000];
    let nonces = prop_oneof![9 => Just(0u64), 1 => 1u64..3];
    // 1 to 3 begin with something, 7 mines, the others begin with nothing.
    (1u8..9, 1u8..9, nonces, amounts(), prop_oneof![0u64..30, amounts()], any::<bool>())
        .prop_map(|(from, to, nonce, amount, fee, task)| Move { from, to, nonce, amount, fee, task })
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Move>>> {
    prop::collection::vec(prop::collection::vec(moves(), 0..8), 1..6)
}

/// Applies a transaction as docs/protocol.md says it, or says that it cannot be.
fn apply(naive: &Naive, it: &Move) -> Option<Naive> {
    let mut after = naive.clone();
    let (nonce, balance) = after.get(&address(it.from)).copied().unwrap_or_default();
    let amount = if it.task { 0 } else { u128::from(it.amount) };
    let rest = balance.checked_sub(amount + u128::from(it.fee))?;
    if it.nonce != 0 {
        return None;
    }
    after.insert(address(it.from), (nonce + 1, rest));
    if !it.task {
        if !after.contains_key(&address(it.to)) && amount < 100 {
            return None;
        }
        after.entry(address(it.to)).or_default().1 += amount;
    }
    Some(after)
}

/// The state root by its definition, over all accounts.
fn naive_root(naive: &Naive) -> [u8; 32] {
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
    let leaves: Vec<_> = naive
        .iter()
        .map(|(address, &(nonce, balance))| {
            let key = hash::tagged("ocelli/state/key", &[&[0], &address.0]);
            let balance = u64::try_from(balance).unwrap();
            (key, hash::tagged("ocelli/state/leaf", &[&key, &nonce.to_le_bytes(), &balance.to_le_bytes()]))
        })
        .collect();
    tree(0, &leaves)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_naive_ledger_agrees_and_undo_goes_back(blocks in blocks()) {
        let mut chain = Chain::new(parameters());
        let mut naive: Naive = (1..=3).map(|seed| (address(seed), (0, 10_000))).collect();
        prop_assert_eq!(chain.tip().state.0, naive_root(&naive));
        let mut stages = vec![];
        for moves in &blocks {
            stages.push((chain.ledger.clone(), chain.state, naive_root(&naive)));
            let (mut transactions, mut fees) = (vec![], 0);
            for it in moves {
                let nonce = naive.get(&address(it.from)).map_or(0, |account| account.0) + it.nonce;
                let transaction = if it.task {
                    (chain.classify(it.from, nonce, &[it.from; 4], it.fee), Some(vec![it.from; 4]))
                } else {
                    (chain.transfer(it.from, nonce, address(it.to), it.amount, it.fee), None)
                };
                match apply(&naive, it) {
                    Some(after) => {
                        naive = after;
                        fees += u128::from(it.fee);
                        transactions.push(transaction);
                    }
                    None => {
                        let with = [transactions.clone(), vec![transaction]].concat();
                        let index = with.len() - 1;
                        let found = chain.verdict(&chain.candidate(with)).unwrap_err();
                        let last = match found {
                            RuleError::Nonce { index, .. }
                            | RuleError::Balance { index, .. }
                            | RuleError::MinimumBalance { index, .. } => index,
                            _ => usize::MAX,
                        };
                        prop_assert_eq!(last, index, "{}", found);
                    }
                }
            }
            let reward = u128::from(chain.parameters.reward_at(chain.tip().height + 1).0);
            naive.entry(address(7)).or_default().1 += reward + fees;
            let candidate = chain.candidate(transactions);
            let connection = chain.check(&candidate).unwrap();
            let unchanged = connection.delta.accounts.values().any(|change| change.before == Some(change.after));
            prop_assert!(!unchanged, "a delta holds only what differs");
            let undo = connection.delta.undo();
            prop_assert_eq!(codec::decode::<transition::Undo>(&codec::encode(&undo), 1 << 20), Ok(undo));
            chain.connect(&candidate);
            let ledger: Naive = (chain.ledger.accounts.iter())
                .map(|(address, Account { nonce, balance })| (*address, (*nonce, u128::from(balance.0)))).collect();
            prop_assert_eq!(&ledger, &naive);
            prop_assert_eq!(candidate.header.state.0, naive_root(&naive));
            let reward = |height| u128::from(chain.parameters.reward_at(height).0);
            let rewards: u128 = (1..=chain.tip().height).map(reward).sum();
            prop_assert_eq!(naive.values().map(|account| account.1).sum::<u128>(), 30_000 + rewards, "nothing is lost");
        }
        for (ledger, state, root) in stages.into_iter().rev() {
            prop_assert_eq!(chain.disconnect(), state);
            prop_assert_eq!(chain.state, state);
            prop_assert_eq!(chain.state.hash(), root);
            prop_assert_eq!(&chain.ledger, &ledger);
        }
    }
}

#[test]
fn accounts_are_found_where_the_state_key_says() {
    let account = Account { nonce: 1, balance: Amount(2) };
    let (key, leaf) = account.leaf(&address(1));
    assert_eq!(key, state::key(transition::KIND_ACCOUNT, &address(1).0));
    assert_eq!(leaf, state::leaf_hash(&key, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]));
}

/// A store that lost a branch is not a block's fault.
#[test]
fn a_damaged_store_condemns_no_block() {
    let mut chain = Chain::new(parameters());
    let candidate = chain.candidate(vec![(chain.transfer(1, 0, address(2), 1, 0), None)]);
    chain.ledger.branches.clear();
    let found = transition::connect(&chain.parameters, &chain.base(), &candidate.header, &candidate.body);
    assert!(matches!(found, Err(transition::ConnectError::Tree(_))), "{found:?}");
}

/// Each row: a transaction, and why it cannot follow on the one before it. Nothing has changed then.
#[test]
fn what_cannot_follow_changes_nothing() {
    let chain = Chain::new(parameters());
    let mut overlay = transition::Overlay::default();
    let mut transact = |transaction: Transaction| {
        let before = overlay.clone();
        let Ok(result) = overlay.transact(&chain.parameters, &transaction, &chain.ledger);
        assert_eq!(overlay == before, result.is_err());
        result
    };
    let balance = |balance, needed| TransactionError::Balance { balance: Amount(balance), needed: Amount(needed) };
    let small = TransactionError::MinimumBalance { amount: Amount(99), minimum: Amount(100) };
    let rows = [
        (chain.transfer(1, 1, address(2), 1, 1), Err(TransactionError::Nonce { found: 1, expected: 0 })),
        (chain.transfer(1, 0, address(2), 9_999, 2), Err(balance(10_000, 10_001))),
        (chain.transfer(1, 0, address(9), 99, 1), Err(small)),
        (chain.transfer(1, 0, address(9), u64::MAX, 1), Err(TransactionError::AmountOverflow)),
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
            let expected = RuleError::MinimumBalance { index: 0, amount: Amount(0), minimum: minimum_balance };
            assert_eq!(chain.verdict(&candidate), Err(expected));
            continue;
        }
        chain.connect(&candidate);
        assert_eq!(chain.ledger.accounts.get(&address(9)), Some(&Account { nonce: 0, balance: Amount(0) }));
        assert_eq!(chain.ledger.accounts.get(&candidate.header.miner), None);
        let naive = |(address, account): (&Address, &Account)| (*address, (account.nonce, account.balance.0.into()));
        assert_eq!(chain.tip().state.0, naive_root(&chain.ledger.accounts.iter().map(naive).collect()));
        // Again, it is there: another minimum is no matter to it.
        chain.extend(vec![(chain.transfer(1, 1, address(9), 0, 0), None)]);
    }
}
