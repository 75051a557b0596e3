//! Following a node's main chain, block by block.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ocelli_consensus::block::Answer;
use ocelli_consensus::network::Network;
use ocelli_consensus::{Action, Address, BlockHash, TxId};
use ocelli_node::client::{Client, Reply};
use ocelli_node::network::RequestId;
use ocelli_protocol::message::{BlockId, FoundBlock, Request, Response};

/// Between two looks at the tip: what a confirmation's time is known to.
const POLL: Duration = Duration::from_millis(100);
/// How long a node may take to answer before another is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the followed chain did.
#[derive(Debug)]
pub enum Change<'a> {
    /// A transaction is in a block now.
    Connected(TxId, &'a Answer),
    /// Its block was taken back.
    Disconnected(TxId),
}

/// How often transactions are on the chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that are there once.
    pub once: usize,
    /// Those that are there more often.
    pub repeated: usize,
}

/// The main chain of one node at a time; of another one when that does not answer.
#[derive(Debug)]
pub struct Follower {
    /// Which of the connected nodes is asked.
    turn: usize,
    asked: Option<(RequestId, Instant)>,
    next_poll: Instant,
    /// From genesis on, by height.
    chain: Vec<Seen>,
    /// What is fetched of another branch, its tip first.
    branch: Vec<Fetched>,
    /// The next block of it.
    wanted: Option<BlockHash>,
    addresses: BTreeSet<Address>,
    disconnected: usize,
}

/// A block of the chain.
#[derive(Debug)]
struct Seen {
    hash: BlockHash,
    txids: Vec<TxId>,
}

/// A block that is not on the chain yet.
#[derive(Debug)]
struct Fetched {
    hash: BlockHash,
    transactions: Vec<(TxId, Answer)>,
}

impl Follower {
    /// At genesis.
    pub fn new(network: &Network) -> Self {
        Self {
            turn: 0,
            asked: None,
            next_poll: Instant::now(),
            chain: vec![Seen { hash: network.genesis_hash(), txids: Vec::new() }],
            branch: Vec::new(),
            wanted: None,
            addresses: network.parameters.accounts.iter().map(|account| account.address).collect(),
            disconnected: 0,
        }
    }

    /// The height of the block that was connected last.
    pub fn height(&self) -> u64 {
        self.chain.len() as u64 - 1
    }

    /// The block that was connected last.
    pub fn tip(&self) -> BlockHash {
        self.chain.last().map(|seen| seen.hash).unwrap_or_default()
    }

    /// Blocks that were taken back so far.
    pub fn disconnected(&self) -> usize {
        self.disconnected
    }

    /// All addresses that the blocks seen name, those of branches taken back included, and the starting accounts.
    pub fn addresses(&self) -> &BTreeSet<Address> {
        &self.addresses
    }

    /// How often each of these is on the chain.
    pub fn count(&self, txids: impl Iterator<Item = TxId>) -> Count {
        let mut times: HashMap<TxId, usize> = txids.map(|txid| (txid, 0)).collect();
        for txid in self.chain.iter().flat_map(|seen| &seen.txids) {
            times.entry(*txid).and_modify(|times| *times += 1);
        }
        let (once, repeated) = times.values().fold((0, 0), |(once, repeated), times| match times {
            0 => (once, repeated),
            1 => (once + 1, repeated),
            _ => (once, repeated + 1),
        });
        Count { once, repeated }
    }

    /// Asks for what is next, if nothing is under way.
    pub fn poll(&mut self, client: &mut Client, now: Instant) {
        match self.asked {
            Some((_, since)) if now - since < PATIENCE => return,
            Some(_) => self.give_up(),
            None => {}
        }
        let request = match self.wanted {
            Some(hash) => Request::Block { by: BlockId::Hash(hash) },
            None if now < self.next_poll => return,
            None => Request::Status,
        };
        let nodes = client.connections();
        if nodes.is_empty() {
            return;
        }
        let peer = nodes[self.turn % nodes.len()].peer;
        self.next_poll = now + POLL;
        self.asked = Some((client.send(peer, &request), now));
    }

    /// Takes a reply; `told` hears of what changes. Replies to others are left alone.
    pub fn on_reply(&mut self, reply: Reply, mut told: impl FnMut(Change<'_>)) {
        if self.asked.is_none_or(|(id, _)| id != reply.id) {
            return;
        }
        self.asked = None;
        match reply.result {
            Ok(Response::Status(status)) => self.wanted = (status.tip != self.tip()).then_some(status.tip),
            Ok(Response::Block(Some(block))) if self.wanted == Some(block.header.hash()) => {
                self.on_block(*block, &mut told);
            }
            // The node is gone, or has no such block any more.
            Ok(_) | Err(_) => self.give_up(),
        }
    }

    /// Goes on to the parent, or, where that is on the chain already, changes to the branch.
    fn on_block(&mut self, block: FoundBlock, told: &mut impl FnMut(Change<'_>)) {
        let FoundBlock { header, data } = block;
        self.addresses.insert(header.miner);
        for (transaction, _) in &data.body.transactions {
            self.addresses.insert(transaction.sender());
            if let Action::Transfer { to, .. } = transaction.unsigned.action {
                self.addresses.insert(to);
            }
        }
        let transactions = data.body.transactions.into_iter().map(|(transaction, output)| (transaction.txid(), output));
        self.branch.push(Fetched { hash: header.hash(), transactions: transactions.collect() });
        let parent = usize::try_from(header.height).ok().and_then(|height| height.checked_sub(1));
        let Some(parent) =
            parent.filter(|parent| self.chain.get(*parent).is_some_and(|seen| seen.hash == header.parent))
        else {
            self.wanted = Some(header.parent);
            return;
        };
        self.wanted = None;
        for seen in self.chain.drain(parent + 1..).rev() {
            self.disconnected += 1;
            seen.txids.into_iter().for_each(|txid| told(Change::Disconnected(txid)));
        }
        for Fetched { hash, transactions } in self.branch.drain(..).rev() {
            transactions.iter().for_each(|(txid, output)| told(Change::Connected(*txid, output)));
            self.chain.push(Seen { hash, txids: transactions.into_iter().map(|(txid, _)| txid).collect() });
        }
    }

    fn give_up(&mut self) {
        self.turn += 1;
        self.asked = None;
        self.wanted = None;
        self.branch.clear();
    }
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{Amount, Body, Header, Transaction, Unsigned};
    use ocelli_protocol::message::BlockData;

    use super::*;

    /// Blocks on a parent; `salt` makes them others. Each holds one transfer, whose nonce is `nonce`.
    fn extend(parent: &Header, nonces: &[u64], salt: u8) -> Vec<FoundBlock> {
        let mut parent = parent.clone();
        let mut blocks = Vec::new();
        for &nonce in nonces {
            let action = Action::Transfer { to: Address([nonce as u8; 20]), amount: Amount(1) };
            let unsigned = Unsigned { nonce, fee: Amount(1), expires: 9, action };
            let transaction = Transaction { unsigned, public_key: [0; 32], signature: [0; 64] };
            let (hash, height) = (parent.hash(), parent.height + 1);
            let header = Header { parent: hash, height, miner: Address([salt; 20]), ..parent };
            let body = Body { transactions: vec![(transaction, Answer::None)] };
            let data = BlockData { body, attachments: vec![None] };
            parent = header.clone();
            blocks.push(FoundBlock { header, data });
        }
        blocks
    }

    fn txid(block: &FoundBlock) -> TxId {
        block.data.body.transactions[0].0.txid()
    }

    /// Gives the blocks as a node would that is asked for one after the other; returns what changed.
    fn follow(follower: &mut Follower, blocks: &[&FoundBlock]) -> Vec<(bool, TxId)> {
        let mut changes = Vec::new();
        for block in blocks.iter().rev() {
            follower.on_block((*block).clone(), &mut |change| {
                changes.push(match change {
                    Change::Connected(txid, _) => (true, txid),
                    Change::Disconnected(txid) => (false, txid),
                });
            });
        }
        changes
    }

    #[test]
    fn branches_are_changed_and_transactions_counted() {
        let network = Network::builtin("local").expect("built in");
        let mut follower = Follower::new(&network);
        let first = extend(&network.genesis, &[1, 2, 3], 1);
        let [a, b, c] = [&first[0], &first[1], &first[2]];
        let changes = follow(&mut follower, &[a, b, c]);
        assert_eq!(changes, [a, b, c].map(|block| (true, txid(block))));
        assert_eq!((follower.height(), follower.tip(), follower.wanted), (3, c.header.hash(), None));

        // A longer branch after the first block, in which a transaction is missing and another comes twice.
        let other = extend(&a.header, &[2, 1, 4], 2);
        let [d, e, f] = [&other[0], &other[1], &other[2]];
        assert!(follow(&mut follower, &[f]).is_empty());
        assert_eq!(follower.wanted, Some(e.header.hash()));
        let changes = follow(&mut follower, &[d, e]);
        let expected = [(false, c), (false, b), (true, d), (true, e), (true, f)];
        assert_eq!(changes, expected.map(|(connected, block)| (connected, txid(block))));
        assert_eq!((follower.height(), follower.disconnected()), (4, 2));
        let count = follower.count([a, b, c, f].into_iter().map(txid));
        assert_eq!(count, Count { once: 2, repeated: 1 });
        for address in [1, 2, 3, 4] {
            assert!(follower.addresses().contains(&Address([address; 20])), "{address}");
        }
    }
}
