//! The chains that nodes show: their headers, each checked, and the one with the most work.
//!
//! A chain of up to [`MAX_WHOLE`] blocks is checked from genesis on, of every node that is asked, so that what one makes up
//! shows beside any other. Of a longer one only the headers from the block in question on are, and its ancestors have to be
//! believed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli_consensus::{BlockHash, Header, Work};
use ocelli_protocol::message::{ChainStatus, MAX_HEADERS, NodeStatus, Request, Response};

use super::header_chain::{HeaderChain, Link};
use super::lie::Lie;
use super::{Client, ClientError, Connection};
use crate::network::Peer;

/// Nodes that are asked, and compared.
pub const MAX_ASKED: usize = 8;
/// Headers of one node that are checked: 9 MB, which are six days of the testnet.
const MAX_WHOLE: u64 = 50_000;
/// Responses that take so many headers, and some more for a tip that moves meanwhile.
const MAX_RESPONSES: u64 = MAX_WHOLE / MAX_HEADERS as u64 + 3;
/// How long a node may take to show all of them.
const FOLLOW_TIME: Duration = Duration::from_secs(60);
/// Blocks by which honest nodes may be on different branches for a while.
const MAX_FORK: u64 = 6;

/// What is known of the nodes' chains.
#[derive(Debug, Default)]
pub struct Chains {
    /// By node.
    shown: BTreeMap<Peer, Shown>,
    /// Whether the chain is longer than what is checked from genesis on.
    is_long: bool,
    /// Of a long chain what stands on the lowest block in question, and who shows it.
    rooted: Option<(Peer, HeaderChain)>,
    /// The heights that nodes have told of last.
    claimed: BTreeMap<Peer, u64>,
}

/// What a node shows of its chain.
#[derive(Debug, Clone)]
struct Shown {
    /// It may go on above the node's tip: nodes on the same chain share it.
    branch: Arc<HeaderChain>,
    /// Height of the node's tip, or of the last header that was fetched.
    tip: u64,
    /// Whether the tip was reached.
    is_complete: bool,
}

/// What speaks for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Blocks from it to the tip, itself counted; the header of each was checked.
    pub confirmations: u64,
    pub work: Work,
    /// The lowest height from which on headers were checked: 0 if all were.
    pub checked_from: u64,
    /// Nodes whose chains hold the block.
    pub nodes: usize,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { confirmations, work, checked_from, nodes } = self;
        let (plural, node) = (if *confirmations == 1 { "" } else { "s" }, if *nodes == 1 { "node" } else { "nodes" });
        write!(f, "{confirmations} confirmation{plural} worth {work} hashes, shown by {nodes} {node}; ")?;
        f.write_str(match checked_from {
            0 => "headers checked from genesis on",
            _ => "the chain before the block was not checked",
        })
    }
}

impl Shown {
    fn holds(&self, height: u64, hash: &BlockHash) -> bool {
        height <= self.tip && self.branch.holds(height, hash)
    }

    /// Of its headers.
    fn work(&self) -> Work {
        self.branch.at(self.tip).map_or(Work::ZERO, |link| link.work)
    }
}

impl Chains {
    /// Forgets a node.
    pub(super) fn remove(&mut self, peer: Peer) {
        self.shown.remove(&peer);
        self.claimed.remove(&peer);
        if self.rooted.as_ref().is_some_and(|(shower, _)| *shower == peer) {
            self.rooted = None;
        }
    }

    /// The chain with the most work.
    fn best(&self) -> Option<&HeaderChain> {
        if self.is_long {
            return self.rooted.as_ref().map(|(_, branch)| branch);
        }
        self.shown.values().max_by_key(|shown| shown.work()).map(|shown| shown.branch.as_ref())
    }

    /// What speaks for a block, if it is on the chain with the most work.
    fn evidence(&self, height: u64, hash: &BlockHash) -> Option<Evidence> {
        let best = self.best().filter(|best| best.holds(height, hash))?;
        let nodes = self.shown.values().filter(|shown| shown.holds(height, hash)).count();
        Some(Evidence {
            confirmations: (best.tip().header.height - height).saturating_add(1),
            work: best.work_from(height),
            checked_from: best.root().header.height,
            nodes: if self.is_long { 1 } else { nodes },
        })
    }
}

impl Client {
    /// Whether the chain is too long to be checked from its genesis on.
    pub fn is_long(&self) -> bool {
        self.chains.is_long
    }

    /// Asks the nodes for what is new of their chains, and checks it. Nodes that break a rule, or are on a chain with less
    /// work than another's, are left.
    ///
    /// # Errors
    /// If no node is left, or none answers.
    pub fn follow(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let nodes = self.asked();
        let (mut statuses, mut failure) = (Vec::new(), None);
        for (node, result) in self.ask_each(&nodes, &Request::Status, deadline)? {
            match result.and_then(|response| self.status(&node, response)) {
                Ok(status) => statuses.push((node, status)),
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        self.chains.claimed.extend(statuses.iter().map(|(node, status)| (node.peer, status.height)));
        if !statuses.is_empty() && statuses.iter().all(|(_, status)| status.height > MAX_WHOLE) {
            (self.chains.is_long, self.chains.shown) = (true, BTreeMap::new());
        }
        if !self.chains.is_long {
            for (node, status) in &statuses {
                if let Err(error) = self.follow_one(node, status.clone()) {
                    failure = self.judge(node, error).or(failure);
                }
            }
            self.disconnect_the_weaker(&nodes);
            let best = self.chains.shown.values().max_by_key(|shown| shown.work());
            if best.is_some_and(|best| !best.is_complete) {
                (self.chains.is_long, self.chains.shown) = (true, BTreeMap::new());
            }
        }
        if self.chains.is_long
            && let Some((peer, branch)) = self.chains.rooted.take()
            && let Some((node, status)) = statuses.into_iter().find(|(node, _)| node.peer == peer)
        {
            match self.extend(&node, branch, status) {
                Ok(branch) => self.chains.rooted = Some((peer, branch)),
                // Its chain no longer holds the root: whoever asks for that block will see.
                Err(ClientError::Lie { source, .. }) if matches!(*source, Lie::Unlinked { .. }) => {}
                Err(error) => failure = self.judge(&node, error).or(failure),
            }
        }
        if self.connections.is_empty() {
            return Err(self.nobody());
        }
        // Those that are silent now may answer the next time; if all are, there is nothing to go by.
        let is_told = self.chains.is_long || !self.chains.shown.is_empty();
        failure.filter(|_| !is_told).map_or(Ok(()), Err)
    }

    /// What speaks for a block of the chain with the most work; `None` if it is not on that.
    ///
    /// # Errors
    /// If the chain is long, and other nodes say that it has another block there: which of them lie cannot be told.
    pub fn evidence(&mut self, header: &Header) -> Result<Option<Evidence>, ClientError> {
        let Some(mut evidence) = self.chains.evidence(header.height, &header.hash()) else { return Ok(None) };
        let Some((shower, _)) = self.chains.rooted.as_ref().filter(|_| self.chains.is_long && header.height > 0) else {
            return Ok(Some(evidence));
        };
        let mut others = self.asked();
        // One that has not come that far says nothing of the block.
        let claimed = |node: &Connection| self.chains.claimed.get(&node.peer).copied().unwrap_or(0);
        others.retain(|node| node.peer != *shower && claimed(node) >= header.height);
        let request = Request::Headers { locator: vec![header.parent], limit: 1 };
        for (node, result) in self.ask_each(&others, &request, Instant::now() + super::ANSWER_TIMEOUT)? {
            match result {
                Ok(Response::Headers(headers)) if headers.first() == Some(header) => evidence.nodes += 1,
                Ok(Response::Headers(_)) => {
                    let (height, block) = (header.height, header.hash());
                    return Err(ClientError::OtherChain { address: node.address, height, block });
                }
                Ok(other) => drop(self.judge(&node, unexpected(&node, "Headers", &other))),
                Err(error) => drop(self.judge(&node, error)),
            }
        }
        Ok(Some(evidence))
    }

    /// How many hashes the last block of the chain with the most work took on average; 0 where no chain was shown, and at most what
    /// 64 bits hold.
    pub fn hashes_a_block(&self) -> u64 {
        let target = self.chains.best().and_then(|best| best.tip().header.target.to_target().ok());
        target.map_or(0, |target| u64::try_from(target.work().0).unwrap_or(u64::MAX))
    }

    /// The confirmations of a block by what is known already; 0 if it is not on the chain with the most work.
    pub(super) fn depth(&self, height: u64, hash: &BlockHash) -> u64 {
        self.chains.evidence(height, hash).map_or(0, |evidence| evidence.confirmations)
    }

    /// Sees that a node's own chain holds a block of which it tells.
    ///
    /// # Errors
    /// If the headers that it shows do not hold the block, or break a rule.
    pub(super) fn see(&mut self, node: &Connection, header: &Header) -> Result<(), ClientError> {
        let (height, hash) = (header.height, header.hash());
        let is_seen = |chains: &Chains| match &chains.rooted {
            Some((shower, branch)) if chains.is_long => *shower == node.peer && branch.holds(height, &hash),
            _ => chains.shown.get(&node.peer).is_some_and(|shown| shown.holds(height, &hash)),
        };
        if is_seen(&self.chains) {
            return Ok(());
        }
        let deadline = Instant::now() + super::ANSWER_TIMEOUT;
        let response = self.ask_until(node, &Request::Status, deadline)?;
        let status = self.status(node, response)?;
        if self.chains.is_long {
            let genesis = self.network.genesis_hash();
            let request = Request::Headers { locator: vec![genesis], limit: 1 };
            let first = headers(node, self.ask_until(node, &request, deadline)?)?.into_iter().next();
            let network = &self.network;
            let mut branch = HeaderChain::genesis(&self.network.genesis);
            let block_one = first.ok_or(Lie::Tip { claimed: status.height, shown: 0 });
            let rooted = match block_one {
                Ok(_) if hash == genesis => Ok(branch),
                block_one => block_one.and_then(|first| {
                    branch.push(network, first.clone())?;
                    HeaderChain::rooted(network, &first, header.clone())
                }),
            };
            let branch = self.extend(node, rooted.map_err(|lie| lie.told_by(node))?, status)?;
            self.chains.rooted = Some((node.peer, branch));
        } else {
            // A block may have come since its chain was looked at.
            self.follow_one(node, status)?;
        }
        if is_seen(&self.chains) { Ok(()) } else { Err(Lie::Block { block: hash, height }.told_by(node)) }
    }

    /// Checks what a node says of its tip against its headers.
    pub(super) fn check_tip(&mut self, node: &Connection, status: &NodeStatus) -> Result<(), ClientError> {
        let held = |chains: &Chains| {
            let shown =
                chains.shown.get(&node.peer).filter(|shown| shown.holds(status.tip.height, &status.tip.hash))?;
            shown.branch.at(status.tip.height).cloned()
        };
        let link = match held(&self.chains) {
            Some(link) => Some(link),
            None => {
                // A block may have come since its chain was looked at.
                let response = self.ask_until(node, &Request::Status, Instant::now() + super::ANSWER_TIMEOUT)?;
                let status = self.status(node, response)?;
                self.follow_one(node, status)?;
                held(&self.chains)
            }
        };
        let Link { header, work, .. } = link.ok_or_else(|| {
            let shown = self.chains.shown.get(&node.peer).map_or(0, |shown| shown.tip);
            Lie::Tip { claimed: status.tip.height, shown }.told_by(node)
        })?;
        if work != Work(status.tip.work) {
            return Err(Lie::Work { claimed: Work(status.tip.work), shown: work }.told_by(node));
        }
        if (header.state, header.time) != (status.tip.state_root, status.tip.time) {
            return Err(Lie::TipFields { height: header.height }.told_by(node));
        }
        Ok(())
    }

    /// Fetches what is missing of a node's chain up to the tip of which it tells.
    fn follow_one(&mut self, node: &Connection, mut status: ChainStatus) -> Result<(), ClientError> {
        let known = |status: &ChainStatus, shown: &Shown| shown.branch.holds(status.height, &status.tip);
        let branch = match self.chains.shown.values().find(|shown| known(&status, shown)) {
            Some(shown) => Arc::clone(&shown.branch),
            None => {
                // Most of it is like what this node has shown before, or another one.
                let own = self.chains.shown.get(&node.peer).map(|shown| shown.branch.as_ref());
                let start = own.or_else(|| self.chains.best()).cloned();
                let start = start.unwrap_or_else(|| HeaderChain::genesis(&self.network.genesis));
                let mut branch = self.fetch(node, start, &status)?;
                if !branch.holds(status.height, &status.tip) && branch.tip().header.height < MAX_WHOLE {
                    // Its tip may have moved meanwhile.
                    let deadline = Instant::now() + super::ANSWER_TIMEOUT;
                    let response = self.ask_until(node, &Request::Status, deadline)?;
                    status = self.status(node, response)?;
                    branch = self.fetch(node, branch, &status)?;
                }
                Arc::new(branch)
            }
        };
        let last = branch.tip().header.height;
        let is_complete = branch.holds(status.height, &status.tip);
        let lie = match branch.at(status.height).filter(|_| is_complete).map(|link| link.work) {
            None if last < MAX_WHOLE => Some(Lie::Tip { claimed: status.height, shown: last }),
            Some(shown) if shown != Work(status.work) => Some(Lie::Work { claimed: Work(status.work), shown }),
            Some(found) if found < self.network.minimum_work => {
                Some(Lie::MinimumWork { found, expected: self.network.minimum_work })
            }
            _ => None,
        };
        if let Some(lie) = lie {
            return Err(lie.told_by(node));
        }
        let tip = if is_complete { status.height } else { last };
        self.chains.shown.insert(node.peer, Shown { branch, tip, is_complete });
        Ok(())
    }

    /// Fetches what a node shows on a branch that does not begin with the genesis.
    fn extend(
        &mut self,
        node: &Connection,
        branch: HeaderChain,
        status: ChainStatus,
    ) -> Result<HeaderChain, ClientError> {
        let branch = self.fetch(node, branch, &status)?;
        let (root, shown) = (branch.root().header.height, branch.tip().header.height);
        if !branch.holds(status.height, &status.tip) && shown < root.saturating_add(MAX_WHOLE) {
            return Err(Lie::Tip { claimed: status.height, shown }.told_by(node));
        }
        Ok(branch)
    }

    /// Adds the headers that a node shows, up to a tip or to [`MAX_WHOLE`]. Takes back those that are not on its chain.
    fn fetch(
        &mut self,
        node: &Connection,
        mut branch: HeaderChain,
        status: &ChainStatus,
    ) -> Result<HeaderChain, ClientError> {
        let deadline = Instant::now() + FOLLOW_TIME;
        let last = branch.root().header.height.saturating_add(MAX_WHOLE);
        for _ in 0..MAX_RESPONSES {
            let tip = branch.tip().header.height;
            if branch.holds(status.height, &status.tip) || tip >= last {
                break;
            }
            let request = Request::Headers { locator: branch.locator(tip), limit: MAX_HEADERS as u32 };
            let headers = headers(node, self.ask_until(node, &request, deadline)?)?;
            let Some(first) = headers.first() else { break };
            if let Some(fork) = branch.height_of(&first.parent) {
                branch.cut(fork);
            }
            for header in headers {
                branch.push(&self.network, header).map_err(|lie| lie.told_by(node))?;
            }
        }
        Ok(branch)
    }

    fn status(&self, node: &Connection, response: Response) -> Result<ChainStatus, ClientError> {
        let expected = self.network.genesis_hash();
        match response {
            Response::Status(status) if status.genesis == expected => Ok(status),
            Response::Status(status) => Err(Lie::Genesis { found: status.genesis, expected }.told_by(node)),
            other => Err(unexpected(node, "Status", &other)),
        }
    }

    /// Leaves the nodes whose chains have branched off that with the most work too long ago.
    fn disconnect_the_weaker(&mut self, nodes: &[Connection]) {
        let by_work = self.chains.shown.iter().max_by_key(|(_, shown)| shown.work());
        let Some((best, Shown { branch, tip, .. })) = by_work.map(|(peer, shown)| (*peer, shown.clone())) else {
            return;
        };
        let expected = branch.tip().work;
        for node in nodes {
            let Some(shown) = self.chains.shown.get(&node.peer) else { continue };
            if Arc::ptr_eq(&shown.branch, &branch) {
                continue;
            }
            let fork = branch.fork_point(&shown.branch).unwrap_or(0);
            if shown.tip > fork && tip.saturating_sub(fork) > MAX_FORK {
                let (better, found) = (self.address_of(best), shown.work());
                self.disconnect(node, &Lie::LessWork { better, fork, found, expected }.told_by(node));
            }
        }
    }
}

fn headers(node: &Connection, response: Response) -> Result<Vec<Header>, ClientError> {
    match response {
        Response::Headers(headers) => Ok(headers),
        other => Err(unexpected(node, "Headers", &other)),
    }
}

/// Another response than the one to the question.
pub(super) fn unexpected(node: &Connection, question: &'static str, found: &Response) -> ClientError {
    let text = format!("{found:?}");
    let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
    ClientError::Unexpected { address: node.address.clone(), question, kind }
}
