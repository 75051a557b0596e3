//! What others ask of this node.

use std::time::Duration;

use ocelli_consensus::{Address, BlockHash, TxId};
use ocelli_protocol::mempool::FeeRate;
use ocelli_protocol::message::{
    AccountStatus, BlockId, ChainStatus, Confirmation, FeeSuggestion, FoundBlock, InferenceStatus, InvalidBlock,
    MAX_ADDRESSES, MAX_HEADERS, MAX_INVALID, MAX_PEERS, MAX_RESPONSE_BYTES, NodeStatus, PeerInfo, Reachability,
    Request, Response, StorageStatus, Submission, Traffic, TransactionStatus, take_blocks,
};

use super::NodeError;
use super::input::ReplyTo;
use super::mining::MAX_MINED_AHEAD_SECONDS;
use super::service::{Service, unix_millis, unix_seconds};
use crate::network;
use crate::store::StoreError;

/// How this program names itself to others.
pub(super) const AGENT: &str = concat!("ocelli/", env!("CARGO_PKG_VERSION"));

impl Service {
    /// Answers a request of a peer, or of this process.
    pub(super) fn on_request(&mut self, request: Request, to: ReplyTo) -> Result<(), NodeError> {
        let response = match request {
            Request::Submit(submission) => return self.on_submit(submission, to),
            Request::Faucet(request) => return self.on_faucet(request, to),
            Request::Status => Response::Status(self.chain_status()),
            Request::Headers { locator, limit } => Response::Headers(self.headers_after(&locator, limit as usize)?),
            Request::Blocks { hashes } => self.blocks(&hashes)?,
            Request::Transactions { block, indexes } => Response::Transactions(self.transactions(&block, &indexes)?),
            Request::Transaction { txid } => self.transaction_status(&txid)?,
            Request::Block { by } => Response::Block(self.find_block(by)?.map(Box::new)),
            Request::Account { address } => Response::Account(Box::new(self.account_status(address)?)),
            Request::NodeStatus => Response::NodeStatus(Box::new(self.node_status()?)),
            Request::Fee { blocks } => Response::Fee(self.suggest_fee(blocks)),
            Request::Peers => Response::Peers(Box::new(self.peer_list())),
            Request::Control { cookie, control } => self.control(cookie, control),
            Request::Announce { ids } => {
                self.on_announced(ids, to);
                return Ok(());
            }
            Request::Pending { ids } => self.pending(&ids),
            Request::NewTip(status) => {
                if let Some(peer) = to.peer() {
                    self.on_new_tip(peer, &status)?;
                }
                Response::NewTip
            }
            Request::Pixels { ids } => self.pixels(&ids),
        };
        self.reply(to, &response);
        Ok(())
    }

    pub(super) fn chain_status(&self) -> ChainStatus {
        let tip = self.chain.tip();
        ChainStatus { genesis: self.chain.genesis(), height: tip.header.height, tip: tip.hash, work: tip.work.0 }
    }

    /// Headers of the main chain after the first of the locator that is on it.
    fn headers_after(&self, locator: &[BlockHash], limit: usize) -> Result<Vec<ocelli_consensus::Header>, StoreError> {
        let store = self.chain.store();
        let mut from = 0;
        for hash in locator {
            let Some(node) = self.chain.tree().get(hash) else { continue };
            if store.hash_at(node.header.height)? == Some(*hash) {
                from = node.header.height;
                break;
            }
        }
        let mut headers = Vec::new();
        for height in from + 1..=self.chain.tip().header.height {
            if headers.len() >= limit.min(MAX_HEADERS) {
                break;
            }
            let node = store.hash_at(height)?.and_then(|hash| self.chain.tree().get(&hash));
            headers.push(node.ok_or_else(|| StoreError::missing("heights", &height.to_be_bytes()))?.header.clone());
        }
        Ok(headers)
    }

    /// Blocks in the order of their hashes; those that would make the response too long are left out at the end.
    fn blocks(&self, hashes: &[BlockHash]) -> Result<Response, StoreError> {
        let mut failure = None;
        let blocks = hashes.iter().map_while(|hash| {
            // What breaks a rule is not passed on, not even when asked for.
            let is_bad = self.chain.tree().is_condemned(hash);
            let data = if is_bad { Ok(None) } else { self.chain.kept_data(hash) };
            data.map_err(|error| failure = Some(error)).ok()
        });
        let blocks = take_blocks(blocks);
        failure.map_or(Ok(Response::Blocks(blocks)), Err)
    }

    /// Transactions of a block with their pixels, whether it is connected or only announced here; nothing if one is not
    /// here.
    fn transactions(&self, hash: &BlockHash, indexes: &[u32]) -> Result<Vec<Submission>, StoreError> {
        let data = self.chain.block_data(hash)?;
        let mut length = 0;
        let mut found = Vec::new();
        for &index in indexes {
            let index = index as usize;
            let submission = match &data {
                Some(data) => {
                    (data.body.transactions.get(index).zip(data.pixels.get(index))).map(|((transaction, _), pixels)| {
                        Submission { transaction: transaction.clone(), pixels: pixels.clone() }
                    })
                }
                None => self.partial.get(hash).and_then(|partial| partial.submission(index)),
            };
            let Some(submission) = submission else { return Ok(Vec::new()) };
            length += 256 + submission.pixels.as_ref().map_or(0, Vec::len);
            if length > MAX_RESPONSE_BYTES {
                return Ok(Vec::new());
            }
            found.push(submission);
        }
        Ok(found)
    }

    fn transaction_status(&self, txid: &TxId) -> Result<Response, StoreError> {
        if self.mempool.get(txid).is_some() {
            return Ok(Response::Transaction(TransactionStatus::Pending));
        }
        let Some(location) = self.chain.store().transaction_location(txid)? else {
            return Ok(Response::Transaction(TransactionStatus::Unknown));
        };
        let (Some(node), Some(data)) = (self.chain.tree().get(&location.block), self.chain.kept_data(&location.block)?)
        else {
            let (height, kept) = (location.height, self.chain.store().kept()?);
            return Ok(Response::failed(format!(
                "the transaction is confirmed in block {height}, whose body this node has pruned: it keeps those from block \
                 {} on; ask another node",
                kept.bodies_from
            )));
        };
        let pixels = data.pixels.get(location.index as usize).cloned().flatten();
        let confirmation = Confirmation::of(node.header.clone(), &data.body, location.index, pixels);
        let confirmation = confirmation.ok_or_else(|| StoreError::missing("bodies", &location.block.0))?;
        Ok(Response::Transaction(TransactionStatus::Confirmed(Box::new(confirmation))))
    }

    fn find_block(&self, by: BlockId) -> Result<Option<FoundBlock>, StoreError> {
        let store = self.chain.store();
        let hash = match by {
            BlockId::Hash(hash) => Some(hash),
            BlockId::Height(height) => store.hash_at(height)?,
        };
        let Some(node) = hash.and_then(|hash| self.chain.tree().get(&hash)) else { return Ok(None) };
        let data = if node.header.height == 0 { Some(Default::default()) } else { self.chain.kept_data(&node.hash)? };
        let Some(data) = data else { return Ok(None) };
        Ok(Some(FoundBlock { header: node.header.clone(), data }))
    }

    fn account_status(&self, address: Address) -> Result<AccountStatus, StoreError> {
        let (account, path) =
            self.chain.prove_account(&address)?.map(|(account, proof)| (account, proof.siblings)).unzip();
        let account = account.unwrap_or_default();
        Ok(AccountStatus {
            nonce: account.nonce,
            balance: account.balance,
            next_nonce: self.mempool.next_nonce(address, account.nonce),
            header: self.chain.tip().header.clone(),
            path,
        })
    }

    /// What comes before half of so many blocks: the other half is left to what is still to come.
    fn suggest_fee(&self, blocks: u32) -> FeeSuggestion {
        let height = self.chain.tip().header.height;
        let weight = (self.chain.parameters().weight_limit / 2).saturating_mul(u64::from(blocks.max(1)));
        let rate = |rate: FeeRate| rate.fee(FeeSuggestion::WEIGHT).0;
        let (suggested, minimum) = (self.mempool.rate_within(weight, height), self.mempool.minimum_rate(height));
        FeeSuggestion { rate: rate(suggested), minimum: rate(minimum) }
    }

    fn node_status(&mut self) -> Result<NodeStatus, StoreError> {
        let network = self.network.status();
        let inference = self.inference.status();
        let (tip, best) = (self.chain.tip(), self.chain.tree().best_header());
        let (store, kept) = (self.chain.store(), self.chain.store().kept()?);
        let height_of = |peer| self.peers.get(peer).copied().flatten();
        // Those that only ask come and go, this request's own sender among them.
        let nodes = network.peers.iter().filter(|peer| !peer.light);
        let peers = nodes.take(MAX_PEERS).map(|peer| PeerInfo {
            id: peer.peer.to_string(),
            address: peer.address.clone(),
            inbound: peer.inbound,
            height: height_of(&peer.peer),
        });
        let invalid = self.chain.store().verdicts(MAX_INVALID)?.into_iter();
        let mut waiting_for = Vec::new();
        if self.peers.is_empty() {
            waiting_for.push(self.why_alone(&network));
        }
        let missing = self.chain.tree().missing(1);
        if let Some(node) = missing.first().and_then(|hash| self.chain.tree().get(hash)) {
            waiting_for.push(format!("the data of block {}", node.header.height));
        }
        if let Some(height) = self.validation.lowest() {
            waiting_for.push(format!("the checks of block {height}"));
        }
        let ahead = tip.header.time.saturating_sub(unix_seconds());
        if ahead > MAX_MINED_AHEAD_SECONDS {
            waiting_for.push(format!("the clock of this machine, which is {ahead} s behind the tip's time"));
        }
        let behind = best.header.height.saturating_sub(tip.header.height);
        let status = NodeStatus {
            agent: AGENT.into(),
            network: self.chain.parameters().name.clone(),
            genesis: self.chain.genesis(),
            peer_id: network.peer.to_string(),
            addresses: network.addresses.iter().take(MAX_ADDRESSES).cloned().collect(),
            height: tip.header.height,
            tip: tip.hash,
            tip_time: tip.header.time,
            header_height: best.header.height,
            work: tip.work.0,
            peers: peers.collect(),
            mempool_transactions: self.mempool.len() as u64,
            mempool_bytes: self.mempool.bytes() as u64,
            device: inference.device.clone(),
            millitasks_per_second: (inference.tasks_per_second * 1000.0) as u64,
            hash_rate: self.mine.as_ref().map_or(0, |mine| mine.hash_rate()),
            mining: self.mine.as_ref().map(|mine| mine.address()),
            uptime_seconds: self.started.elapsed().as_secs(),
            sync: if behind == 0 { "synced".into() } else { format!("{behind} blocks behind") },
            waiting_for,
            disabled_device: inference.disabled.is_some(),
            state_root: tip.header.state,
            invalid: invalid
                .map(|verdict| InvalidBlock { hash: verdict.block, height: verdict.height, reason: verdict.reason })
                .collect(),
            storage: StorageStatus {
                disk_bytes: store.recent_disk_bytes()?,
                pixels_from: kept.pixels_from,
                bodies_from: kept.bodies_from,
                answers_from: kept.answers_from,
            },
            inference: InferenceStatus {
                queued: inference.queued as u64,
                computed: inference.computed,
                cached: inference.cached,
                joined: inference.joined,
                batches: inference.batches,
                queue_microseconds: microseconds(inference.queue_time),
                device_microseconds: microseconds(inference.device_time),
            },
            reachability: match network.reachability {
                network::Reachability::Unknown => Reachability::Unknown,
                network::Reachability::Public(addresses) => Reachability::Public(addresses),
                network::Reachability::Relayed(addresses) => Reachability::Relayed(addresses),
                network::Reachability::Unreachable { advice } => Reachability::Unreachable { advice },
            },
            time: unix_millis(),
            traffic: self.traffic.status(Traffic {
                received: network.counters.gossip_bytes_received,
                sent: network.counters.gossip_bytes_published,
            }),
        };
        Ok(status.bounded())
    }
}

/// As far as 64 bits reach, which is half a million years.
fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
