//! What everybody may know of the chain: read from the view, as peers read it.

use std::sync::Arc;

use axum::extract::State;
use ocelli_consensus::{Address, TxId};
use ocelli_program::output::Whole;
use ocelli_protocol::message::{Response, TransactionStatus};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::params::{InPath, Params, flag};
use super::places::Caller;
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::block_name::{BlockName, BlockNameError};
use crate::full_message::full_message;
use crate::json::status::StatusFields;
use crate::json::{BlockFields, FeeFields, FoundTransaction, UploadFields};
use crate::store::StoreError;
use crate::view::View;

/// The most headers of one answer.
const MAX_HEADERS: u64 = 100;
/// How many there are unless the request says it.
const HEADERS: u64 = 20;

/// Blocks of the best chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Blocks {
    /// The highest first.
    blocks: Vec<BlockSummary>,
}

/// A block of the best chain.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BlockSummary {
    height: u64,
    /// In hexadecimal, as all hashes.
    hash: String,
    /// Seconds since 1970, by its miner's word.
    time: u64,
    miner: String,
}

/// Which blocks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// How many at most; 20 unless it is said, and never more than 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// Only blocks below this height.
    #[param(format = "uint64")]
    below: Option<u64>,
}

/// What an address has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountInfo {
    address: String,
    /// In grains: 100,000,000 are a credit.
    #[schema(value_type = String, example = "1000000000")]
    balance: Whole,
    /// Transactions that it has sent and that are confirmed.
    #[schema(value_type = String, example = "3")]
    nonce: Whole,
    /// The nonce of the next one, after those that are pending.
    #[schema(value_type = String, example = "4")]
    next_nonce: Whole,
    /// Of the tip at which this holds.
    height: u64,
    /// Of a model, if one is under way.
    upload: Option<UploadFields>,
}

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Raw {
    /// Whether the bytes are told too, attachments among them: `1` or `0`.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    raw: bool,
}

/// How much is told of a transaction, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Look {
    /// Whether the bytes are told too, an attachment among them: `1` or `0`.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    raw: bool,
    /// How many confirmations are waited for; none unless it is said.
    wait: Option<u64>,
    /// For how many seconds, at most; 60 unless it is said.
    #[param(maximum = 600)]
    timeout: Option<u64>,
}

/// What is pending; the event `mempool` when that has changed.
#[derive(Debug, Serialize, PartialEq, Eq, ToSchema)]
pub(super) struct MempoolInfo {
    pub(super) transactions: usize,
    /// Attachments included.
    pub(super) bytes: u64,
}

impl MempoolInfo {
    pub(super) fn of(view: &View) -> Self {
        Self { transactions: view.pool.pending.len(), bytes: view.pool.bytes }
    }
}

/// How soon.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Soon {
    /// Within how many blocks; 2 unless it is said.
    #[param(minimum = 1, maximum = 1000)]
    blocks: Option<u32>,
}

/// Those who are connected.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Peers {
    peers: Vec<PeerInfo>,
}

/// A peer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PeerInfo {
    peer_id: String,
    /// The multiaddress at the other end.
    address: String,
    /// Whether it dialled this node.
    inbound: bool,
    /// Whether it only asks.
    light: bool,
    /// Its program, by its own word.
    agent: String,
    /// Of its tip, by its own word.
    height: Option<u64>,
    connected_seconds: u64,
    round_trip_seconds: Option<f64>,
}

impl Api {
    /// Reads where the disk may be waited for.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let api = Arc::clone(self);
        match tokio::task::spawn_blocking(move || read(&api)).await {
            Ok(result) => result.map_err(|error| {
                tracing::error!(reason = full_message(&error), "a question of the API failed");
                Problem::new(Kind::Node, format!("the node cannot read its store: {}", full_message(&error)))
            }),
            Err(_) => Err(Problem::new(Kind::Node, "the question was not answered: the node is about to stop")),
        }
    }

    pub(super) fn address(&self, address: &Address) -> String {
        address.to_text(&self.views.parameters().address_prefix)
    }

    /// The address that a text of a request names.
    pub(super) fn address_of(&self, text: &str) -> Result<Address, Problem> {
        let shortened: String = text.chars().take(100).collect();
        Address::from_text(&shortened, &self.views.parameters().address_prefix)
            .map_err(|error| Problem::of(Kind::Request, &error))
    }
}

/// Shows how the node is: tip, sync, peers, device, and what it waits for
///
/// The same as `ocelli status --json`.
#[utoipa::path(get, path = "/v1/status", tag = "chain", responses((status = OK, body = StatusFields)))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Result<Json<StatusFields>, Problem> {
    let status = api.read(|api| api.figures.node_status(&api.views)).await?;
    Ok(Json(StatusFields::of(&status, &api.views.network)))
}

/// Lists the latest blocks of the best chain
#[utoipa::path(
    get, path = "/v1/blocks", tag = "chain", params(Range),
    responses((status = OK, body = Blocks))
)]
pub(super) async fn blocks(State(api): State<Arc<Api>>, Params(range): Params<Range>) -> Result<Json<Blocks>, Problem> {
    let limit = range.limit.unwrap_or(HEADERS);
    if !(1..=MAX_HEADERS).contains(&limit) {
        return Err(Problem::new(
            Kind::Request,
            format!("found a limit of {limit} blocks, expected 1 to {MAX_HEADERS}"),
        ));
    }
    let headers = api.read(move |api| {
        let chain = api.views.newest();
        let end = chain.tip.height.saturating_add(1).min(range.below.unwrap_or(u64::MAX));
        let from = end.saturating_sub(limit);
        // At most MAX_HEADERS.
        chain.rows.headers_from(from, (end - from) as usize)
    });
    let summary = |header: &ocelli_consensus::Header| BlockSummary {
        height: header.height,
        hash: header.hash().to_string(),
        time: header.time,
        miner: api.address(&header.miner),
    };
    Ok(Json(Blocks { blocks: headers.await?.iter().rev().map(summary).collect() }))
}

/// Shows a block: its header, transactions and answers
///
/// The fields are those of `ocelli chain block --json`, but for what speaks for the block to who does not check the chain.
#[utoipa::path(
    get, path = "/v1/blocks/{block}", tag = "chain",
    params(("block" = String, Path, description = "Its height on the best chain, or its hash"), Raw),
    responses((status = OK, body = BlockFields))
)]
pub(super) async fn block(
    State(api): State<Arc<Api>>,
    InPath(name): InPath<String>,
    Params(raw): Params<Raw>,
) -> Result<Json<BlockFields>, Problem> {
    let name: BlockName = name.parse().map_err(|error: BlockNameError| Problem::of(Kind::Request, &error))?;
    let found = api.read(move |api| {
        let chain = api.views.newest();
        let Some(found) = chain.block(name.0)? else { return Ok((None, chain.tip.height, chain.rows.store().kept()?)) };
        let is_on_chain = chain.rows.hash_at(found.header.height)? == Some(found.header.hash());
        Ok((Some((found, is_on_chain)), chain.tip.height, chain.rows.store().kept()?))
    });
    let (found, tip, kept) = found.await?;
    let Some((found, is_on_chain)) = found else {
        let pruned = match kept.bodies_from {
            0 | 1 => String::new(),
            from => format!(", and it has pruned bodies below block {from}"),
        };
        return Err(Problem::new(
            Kind::NotFound,
            format!("the node has no {name}; its tip is at height {tip}{pruned}"),
        )
        .with_hint("give a height from 0 to the tip's, or the hash of a block whose body the node keeps"));
    };
    let confirmations = is_on_chain.then(|| tip.saturating_sub(found.header.height) + 1);
    let told = BlockFields::of(&found, confirmations, &api.views.network);
    Ok(Json(if raw.raw { told.with_raw(&found) } else { told }))
}

/// Shows a transaction: what it asks for, the answer, and how deep it is confirmed
///
/// The fields are those of `ocelli chain tx --json`, but for what speaks for the block to who does not check the chain. `state` is `pending`, `confirmed` or `dropped`.
#[utoipa::path(
    get, path = "/v1/transactions/{txid}", tag = "chain",
    params(("txid" = String, Path, description = "Its id"), Look),
    responses((status = OK, body = FoundTransaction))
)]
pub(super) async fn transaction(
    State(api): State<Arc<Api>>,
    caller: Caller,
    InPath(txid): InPath<String>,
    Params(look): Params<Look>,
) -> Result<Json<FoundTransaction>, Problem> {
    let txid: TxId = txid.parse().map_err(|error| Problem::of(Kind::Request, &error))?;
    let (status, confirmations) = api.wait_for(txid, &api.orders.wait(caller, look.wait, look.timeout)?).await?;
    let found = match status {
        Response::Transaction(status) => status,
        // It is in a block whose body is pruned.
        Response::Failed { reason } => return Err(Problem::new(Kind::NotFound, reason)),
        _ => return Err(Problem::new(Kind::Node, "the node answers something else")),
    };
    match found {
        TransactionStatus::Unknown => {
            Err(Problem::new(Kind::NotFound, format!("the node knows no transaction {txid}")).with_hint(
                "check the id and the network; a transaction that was lost before a block took it has to be sent again",
            ))
        }
        TransactionStatus::Pending(_) => Ok(Json(FoundTransaction::pending(&txid))),
        TransactionStatus::Dropped { reason } => Ok(Json(FoundTransaction::dropped(&txid, reason))),
        TransactionStatus::Confirmed(confirmed) => {
            let told = FoundTransaction::confirmed(&confirmed, confirmations, &api.views.network);
            Ok(Json(if look.raw { told.with_raw(&confirmed) } else { told }))
        }
    }
}

/// Shows an account
#[utoipa::path(
    get, path = "/v1/accounts/{address}", tag = "chain",
    params(("address" = String, Path, description = "Its address, as `ocelli wallet address` prints it")),
    responses((status = OK, body = AccountInfo))
)]
pub(super) async fn account(
    State(api): State<Arc<Api>>,
    InPath(address): InPath<String>,
) -> Result<Json<AccountInfo>, Problem> {
    let address = api.address_of(&address)?;
    let read = api.read(move |api| {
        let view = api.views.view();
        Ok((view.account(address)?, view.chain.upload(&address)?))
    });
    let (account, upload) = read.await?;
    Ok(Json(AccountInfo {
        address: api.address(&address),
        balance: Whole(account.balance.0),
        nonce: Whole(account.nonce),
        next_nonce: Whole(account.next_nonce),
        height: account.header.height,
        upload: upload.as_ref().map(UploadFields::of),
    }))
}

/// Tells what is pending
#[utoipa::path(get, path = "/v1/mempool", tag = "chain", responses((status = OK, body = MempoolInfo)))]
pub(super) async fn mempool(State(api): State<Arc<Api>>) -> Json<MempoolInfo> {
    Json(MempoolInfo::of(&api.views.view()))
}

/// Suggests a fee by what is pending
#[utoipa::path(
    get, path = "/v1/fees", tag = "chain", params(Soon),
    responses((status = OK, body = FeeFields))
)]
pub(super) async fn fees(State(api): State<Arc<Api>>, Params(soon): Params<Soon>) -> Result<Json<FeeFields>, Problem> {
    let blocks = soon.blocks.unwrap_or(2);
    if !(1..=1000).contains(&blocks) {
        return Err(Problem::new(Kind::Request, format!("found {blocks} blocks, expected 1 to 1000")));
    }
    Ok(Json(FeeFields::of(&api.views.fee(blocks), blocks, &api.views.network)))
}

/// Lists those who are connected to the node
#[utoipa::path(
    get, path = "/v1/peers", tag = "node", security((), ("token" = [])),
    responses(
        (status = OK, body = Peers),
        (status = UNAUTHORIZED, description = "Beyond its own machine the node wants its token"),
    )
)]
pub(super) async fn peers(State(api): State<Arc<Api>>) -> Json<Peers> {
    let (status, core) = (api.figures.network.status(), api.views.core());
    let peer = |peer: crate::network::PeerStatus| PeerInfo {
        peer_id: peer.peer.to_string(),
        height: core.peers.get(&peer.peer).copied().flatten(),
        address: peer.address,
        inbound: peer.inbound,
        light: peer.light,
        agent: peer.agent,
        connected_seconds: peer.connected.as_secs(),
        round_trip_seconds: peer.round_trip.map(|time| time.as_secs_f64()),
    };
    Json(Peers { peers: status.peers.into_iter().map(peer).collect() })
}
