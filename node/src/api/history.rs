//! `GET /v1/accounts/{address}/history`: what has happened to an account, page by page, from the node's ledger.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use ocelli_consensus::Address;
use ocelli_program::output::Whole;
use ocelli_protocol::ledger::{Entry, Place, Side};
use ocelli_protocol::message::{AccountStatus, LedgerBlock, LedgerPage, MAX_ENTRIES, Proofs, ShownEntry};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::params::{InPath, Params, parsed};
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::json::{EntryFields, Unit};
use crate::ledger::{Filter, Kinds, NO_LEDGER, Time};
use crate::store::StoreError;
use crate::view::View;

/// How many entries there are unless the request says it.
const ENTRIES: u32 = 50;
/// Entries after which a request that wants few of them ends with those that it has, so that none costs more than four pages.
const MAX_GONE_THROUGH: usize = 1_024;
/// Seconds after which more is added to a ledger that is being made.
const INDEXING_SECONDS: u64 = 10;

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// How many at most; 50 unless it is said, and never more than 256.
    #[param(minimum = 1, maximum = 256)]
    limit: Option<u32>,
    /// Only what came before: the `next` of the answer before.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, example = "812-3-debit")]
    before: Option<Mark>,
    /// Only from this time on: a day in UTC, or a time with its zone.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, example = "2026-11-30")]
    since: Option<Time>,
    /// Only up to this time; of a day, its end.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, example = "2026-11-30T12:00:00Z")]
    until: Option<Time>,
    /// Only of these kinds, with commas between them: `mined`, `royalty`, `received`, `sent`, `task`, `upload`, `part`, `publish`.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, example = "sent,task")]
    kind: Option<Kinds>,
}

/// What has happened to an account. Amounts are in grains: 100,000,000 are a credit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    address: String,
    /// At the tip. All entries together are the balance, less what the network gave the account to begin with.
    #[schema(value_type = String, example = "1000000000")]
    balance: Whole,
    /// Of the tip at which this holds.
    height: u64,
    /// The hash of that block.
    tip: String,
    /// The first block of which the node has entries: 1 where it has them all.
    from: u64,
    /// The latest first. There may be fewer than asked for, even none, though more follow.
    entries: Vec<EntryFields>,
    /// What to ask for with `before`; null where the node has no more of what is asked for.
    #[schema(example = "812-3-debit")]
    next: Option<String>,
}

/// A place among the entries of an account, as one text: the block's height, the transaction's place in it, and the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(Place);

/// A text that is no place.
#[derive(Debug, thiserror::Error)]
#[error("expected the `next` of an answer, such as 812-3-debit")]
struct MarkError;

/// What is asked for.
struct Asked {
    address: Address,
    before: Option<Place>,
    limit: usize,
    filter: Filter,
}

/// What was found.
struct Found {
    account: AccountStatus,
    from: u64,
    /// With the times of their blocks.
    entries: Vec<(Entry, u64)>,
    next: Option<Place>,
}

/// Tells what has happened to an account, the latest first
///
/// The entries are those of `ocelli wallet history --json`, by the node's word and in grains. It goes on from place to place: `next` is
/// the `before` of the next request.
#[utoipa::path(
    get, path = "/v1/accounts/{address}/history", tag = "chain",
    params(("address" = String, Path, description = "Its address, as `ocelli wallet address` prints it"), Query),
    responses(
        (status = OK, body = History),
        (status = CONFLICT, description = "The node keeps no entries, or none of blocks so early"),
        (status = SERVICE_UNAVAILABLE, description = "The node has still to read blocks so early: ask again"),
    )
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    InPath(address): InPath<String>,
    Params(query): Params<Query>,
) -> Result<Json<History>, Problem> {
    let Query { limit, before, since, until, kind } = query;
    let limit = limit.unwrap_or(ENTRIES) as usize;
    if !(1..=MAX_ENTRIES).contains(&limit) {
        return Err(Problem::new(
            Kind::Request,
            format!("found a limit of {limit} entries, expected 1 to {MAX_ENTRIES}"),
        ));
    }
    let address = api.address_of(&address)?;
    let before = before.map(|Mark(place)| place);
    let filter = Filter::new(since, until, kind.map_or_else(Vec::new, |Kinds(kinds)| kinds));
    let asked = Asked { address, before, limit, filter };
    let read = api.read(move |api| {
        let view = api.views.view();
        Ok((find(&view, &asked)?, view.chain.rows.store().kept()?.bodies_from))
    });
    let (found, bodies_from) = read.await?;
    let Some(Found { account, from, entries, next }) = found else {
        return Err(Problem::new(Kind::NoLedger, NO_LEDGER));
    };
    let height = account.header.height;
    let asked_height = before.map_or(height, |place| place.height);
    if from > 1 && asked_height < from {
        return Err(too_early(asked_height, from, bodies_from));
    }
    let entry = |(entry, time): &(Entry, u64)| EntryFields::of(entry, *time, Unit::Grains, &api.views.network);
    Ok(Json(History {
        address: api.address(&address),
        balance: Whole(account.balance.0),
        height,
        tip: account.header.hash().to_string(),
        from,
        entries: entries.iter().map(entry).collect(),
        next: next.map(|place| Mark(place).to_string()),
    }))
}

/// Goes through an account's entries until there are enough; `None` where the node keeps none.
fn find(view: &View, asked: &Asked) -> Result<Option<Found>, StoreError> {
    let Asked { address, before: mut place, limit, ref filter } = *asked;
    let (mut entries, mut gone_through) = (Vec::new(), 0);
    let (page, next) = loop {
        // Where all are wanted, those of one page are enough.
        let count = if filter.wants_all() { limit } else { MAX_ENTRIES };
        let Some((page, _)) = view.ledger(address, place.as_ref(), count as u32, Proofs::Without)? else {
            return Ok(None);
        };
        let (mut is_early, mut is_full) = (false, false);
        for (entry, time) in page.blocks.iter().flat_map(entries_of) {
            (is_early, is_full) = (time < filter.since, entries.len() == limit);
            if is_early || is_full {
                break;
            }
            place = Some(entry.place);
            gone_through += 1;
            if filter.wants(time, &entry.event) {
                entries.push((entry, time));
            }
        }
        if is_early || !is_full && !page.has_more {
            break (page, None);
        }
        if entries.len() == limit || gone_through >= MAX_GONE_THROUGH {
            break (page, place);
        }
    };
    let LedgerPage { account, from, .. } = page;
    Ok(Some(Found { account, from, entries, next }))
}

/// The entries of a block, each with its time.
fn entries_of(LedgerBlock { header, entries }: &LedgerBlock) -> impl Iterator<Item = (Entry, u64)> {
    entries.iter().map(move |shown: &ShownEntry| (shown.entry(header.height), header.time))
}

/// Of blocks whose entries the node does not have, or not yet.
fn too_early(height: u64, from: u64, bodies_from: u64) -> Problem {
    let detail = format!("the node has entries from block {from} on, and block {height} is before that");
    if from > bodies_from.max(1) {
        return Problem::new(Kind::Indexing, format!("{detail}: it is still adding those of the blocks that it has"))
            .with_hint("ask again later")
            .with_retry_after(INDEXING_SECONDS);
    }
    Problem::new(Kind::NoLedger, format!("{detail}: it had pruned that before it began to keep any"))
        .with_hint("ask another node")
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { height, index, side } = self.0;
        let side = match side {
            Side::Debit => "debit",
            Side::Credit => "credit",
        };
        write!(f, "{height}-{index}-{side}")
    }
}

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(MarkError);
        let height = part()?.parse().map_err(|_| MarkError)?;
        let index = part()?.parse().map_err(|_| MarkError)?;
        let side = match part()? {
            "debit" => Side::Debit,
            "credit" => Side::Credit,
            _ => return Err(MarkError),
        };
        let mark = Self(Place { height, index, side });
        // Each place has one text.
        if mark.to_string() == text { Ok(mark) } else { Err(MarkError) }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_protocol::ledger::REWARD;

    use super::*;

    #[test]
    fn a_place_has_one_text() {
        for (place, text) in [
            (Place { height: 812, index: 3, side: Side::Debit }, "812-3-debit"),
            (Place { height: u64::MAX, index: REWARD, side: Side::Credit }, "18446744073709551615-4294967295-credit"),
        ] {
            assert_eq!(Mark(place).to_string(), text);
            assert_eq!(text.parse::<Mark>().unwrap(), Mark(place));
        }
        for text in [
            "",
            "812",
            "812-3",
            "812-3-",
            "812-3-debit-",
            "+812-3-debit",
            "0812-3-debit",
            "-1-3-debit",
            "1-4294967296-debit",
        ] {
            assert!(text.parse::<Mark>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_not_there_yet() {
        for (from, bodies_from, kind) in [(50, 1, Kind::Indexing), (50, 50, Kind::NoLedger), (50, 60, Kind::NoLedger)] {
            let problem = too_early(7, from, bodies_from);
            assert_eq!(problem.kind(), kind);
            assert!(problem.detail().starts_with("the node has entries from block 50 on, and block 7 is before that"));
        }
    }
}
