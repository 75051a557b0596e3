//! Paid answers: tasks of the node's own wallet, each paid for once whatever becomes of the request.
//!
//! What was signed is on the disk before anybody else gets to see it, under the key that the client has given. Who asks again with
//! that key, because an answer got lost or the node did, gets the same transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use ocelli_consensus::object::StateReader as _;
use ocelli_consensus::{Action, Amount, AttachmentHash, ModelId, Transaction, TxId};
use ocelli_model::{Attachment, Model};
use ocelli_program::output::Whole;
use ocelli_protocol::message::{Response, Submission, TransactionStatus};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use utoipa::ToSchema;

use super::Api;
use super::places::{Caller, Place as WaitingPlace, Places};
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::chain::AtTip;
use crate::clock::Clock;
use crate::full_message::full_message;
use crate::inference::model_id;
use crate::json::{AnswerFields, StateName};
use crate::pool::{self, Order, OrderError, Spender};
use crate::sent::{self, Sent};
use crate::store::{KeptOrder, Store, StoreError};
use crate::task;

/// What the spending limit is for, in milliseconds.
const DAY: u64 = 24 * 3_600 * 1_000;
/// How long keys are remembered if there is room.
const REMEMBERED: u64 = 7 * DAY;
/// Orders that are remembered; the oldest make room, but for those of the last day.
const MAX_ORDERS: usize = 65_536;
/// Orders that make room for one: a few of very many at a time.
const MAX_OUTDATED: usize = 64;
/// The longest key.
const MAX_KEY_BYTES: usize = 128;
/// Confirmations after which nothing more is told of a task by itself.
const SETTLED: u64 = 100;
/// How long a confirmation is waited for unless it is said, and at the longest, in seconds.
const PATIENCE: u64 = 60;
const MAX_PATIENCE: u64 = 600;
/// Requests that wait for confirmations at a time, of those who show the token, as all do who pay, and of all others: with all
/// listeners they leave connections for others.
const WAITING: usize = 256;
/// How long the wallet's turn is waited for, which other programs that send from it take for the time of a few requests; and between
/// two tries.
const TURN: Duration = Duration::from_secs(10);
const TURN_PAUSE: Duration = Duration::from_millis(50);
/// How long the pool may take to look at what is handed in again.
const HANDING_IN: Duration = Duration::from_secs(5);

/// Who pays, and how much.
#[derive(Clone)]
pub struct Payer {
    pub spender: Arc<Spender>,
    /// In any 24 hours, fees and royalties together.
    pub limit: Amount,
}

/// Names an order: the client's key, or what nobody else has chosen.
type Key = Arc<[u8]>;

/// What was paid for.
pub(super) struct Orders {
    payer: Option<Payer>,
    store: Arc<Store>,
    clock: Clock,
    kept: Mutex<Kept>,
    /// One order is carried out after the other, so that of two with one key the second finds what the first has done.
    turn: Turn<()>,
    /// Something has been paid for.
    added: Notify,
    waiting: Arc<Places>,
    /// The folder of what was sent, for as long as orders are remembered.
    sent: PathBuf,
}

/// All orders that are remembered.
#[derive(Default)]
struct Kept {
    by_key: HashMap<Key, KeptOrder>,
    by_time: BTreeSet<(u64, Key)>,
    /// Those that are told of.
    told: BTreeMap<TxId, Told>,
}

/// A task that is told of.
struct Told {
    /// Where it was when it was told last.
    place: Option<Place>,
    /// The last block that may hold it.
    expires: u64,
}

/// Where a task is, as an event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Place {
    state: StateName,
    block: Option<String>,
    height: Option<u64>,
}

/// `task`: something has happened to a task of the node's own wallet.
#[derive(Serialize)]
struct TaskEvent<'a> {
    txid: TxId,
    #[serde(flatten)]
    place: &'a Place,
}

/// What a paid task is, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskInfo {
    txid: String,
    state: StateName,
    /// What the miner gets, in grains.
    #[schema(value_type = String, example = "3532")]
    fee: Whole,
    /// What the model's author gets, in grains.
    #[schema(value_type = String, example = "0")]
    royalty: Whole,
    /// The hash of the block that holds it.
    block: Option<String>,
    height: Option<u64>,
    confirmations: u64,
    /// What the block holds as the model's answer.
    answer: Option<AnswerFields>,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The wallet that pays.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WalletInfo {
    address: String,
    /// In grains, at the tip.
    #[schema(value_type = String, example = "1000000000")]
    balance: Whole,
    /// In grains, for any 24 hours.
    #[schema(value_type = String, example = "100000000")]
    limit: Whole,
    /// In grains, in the last 24 hours.
    #[schema(value_type = String, example = "3532")]
    spent: Whole,
}

/// How deep a transaction is to be, and how long that is waited for.
pub(super) struct Wait {
    depth: u64,
    patience: Duration,
    _place: Option<WaitingPlace>,
}

impl Place {
    /// Where a transaction is on a chain, or beside it.
    fn on(chain: &AtTip, txid: &TxId, is_pending: bool) -> Result<Self, StoreError> {
        if let Some(location) = chain.rows.transaction_location(txid)? {
            let (block, height) = (Some(location.block.to_string()), Some(location.height));
            return Ok(Self { state: StateName::Confirmed, block, height });
        }
        let state = if is_pending { StateName::Pending } else { StateName::Dropped };
        Ok(Self { state, block: None, height: None })
    }

    /// Whether nothing more is to be expected.
    fn is_settled(&self, expires: u64, tip: u64) -> bool {
        match (self.state, self.height) {
            (StateName::Pending, _) => false,
            (_, height) => height.unwrap_or(expires).saturating_add(SETTLED) <= tip,
        }
    }
}

impl Kept {
    fn add(&mut self, key: Key, order: KeptOrder) {
        self.by_time.insert((order.at, Arc::clone(&key)));
        self.by_key.insert(key, order);
    }

    /// Forgets orders. Of each that there was: its transaction, and its attachment where no order that is left has the same.
    fn remove(&mut self, keys: &[Key]) -> Vec<(TxId, Option<AttachmentHash>)> {
        let attachment = |order: &KeptOrder| order.transaction.attachment().map(|named| named.hash);
        let mut removed = Vec::new();
        for (key, order) in keys.iter().filter_map(|key| self.by_key.remove_entry(key)) {
            let txid = order.transaction.txid();
            self.told.remove(&txid);
            self.by_time.remove(&(order.at, key));
            removed.push((txid, attachment(&order)));
        }
        if !removed.is_empty() {
            let left: HashSet<_> = self.by_key.values().filter_map(attachment).collect();
            removed.iter_mut().for_each(|(_, attachment)| *attachment = attachment.filter(|hash| !left.contains(hash)));
        }
        removed
    }

    /// Orders of the last day, and, where the clock was set back, those that seem to come.
    fn of_the_day(&self, now: u64) -> impl Iterator<Item = &KeptOrder> {
        let begin: Key = Arc::from([]);
        self.by_time.range((now.saturating_sub(DAY), begin)..).filter_map(|(_, key)| self.by_key.get(key))
    }

    fn spent(&self, now: u64) -> Amount {
        Amount(self.of_the_day(now).fold(0u64, |sum, order| sum.saturating_add(order.cost.0)))
    }

    /// Those that make room for another: the old ones, and the oldest where there are too many. All of the last day stay.
    fn outdated(&self, now: u64) -> Vec<Key> {
        let mut too_many = (self.by_key.len() + 1).saturating_sub(MAX_ORDERS);
        let outdated = self.by_time.iter().take_while(|(at, _)| {
            let is_outdated = at.saturating_add(REMEMBERED) < now || too_many > 0 && at.saturating_add(DAY) < now;
            too_many = too_many.saturating_sub(1);
            is_outdated
        });
        outdated.map(|(_, key)| Arc::clone(key)).collect()
    }

    /// Seconds until so much more may be spent, if ever.
    fn seconds_until(&self, more: Amount, limit: Amount, now: u64) -> Option<u64> {
        let left = limit.0.checked_sub(more.0)?;
        let mut spent = self.spent(now).0;
        for order in self.of_the_day(now) {
            spent = spent.saturating_sub(order.cost.0);
            if spent <= left {
                return Some(order.at.saturating_add(DAY).saturating_sub(now).div_ceil(1000).max(1));
            }
        }
        None
    }
}

impl Orders {
    /// What earlier runs have paid for counts.
    ///
    /// # Errors
    /// If that cannot be read: a node that does not know it would pay twice.
    pub(super) fn open(payer: Option<Payer>, chain: &AtTip, clock: Clock, sent: PathBuf) -> Result<Self, StoreError> {
        let (mut kept, store) = (Kept::default(), Arc::clone(chain.rows.store()));
        for row in store.orders() {
            let (key, order) = row?;
            let (txid, expires) = (order.transaction.txid(), order.transaction.unsigned.expires);
            // What an earlier run has told is not told anew. What was pending is about to be so again.
            let place = Place::on(chain, &txid, true)?;
            if !place.is_settled(expires, chain.tip.height) {
                kept.told.insert(txid, Told { place: Some(place), expires });
            }
            kept.add(key, order);
        }
        let (turn, added) = (Turn::default(), Notify::new());
        let waiting = Places::new("requests wait for confirmations", WAITING);
        Ok(Self { payer, store, clock, kept: Mutex::new(kept), turn, added, waiting, sent })
    }

    /// What a request wants to wait for: confirmations, and for how many seconds at most.
    pub(super) fn wait(&self, caller: Caller, depth: Option<u64>, seconds: Option<u64>) -> Result<Wait, Problem> {
        let (depth, seconds) = (depth.unwrap_or(0), seconds.unwrap_or(PATIENCE));
        if depth > SETTLED {
            let detail = format!("found a wait for {depth} confirmations, expected at most {SETTLED}");
            return Err(Problem::new(Kind::Request, detail).with_hint("ask later for how many there are"));
        }
        if seconds > MAX_PATIENCE {
            let detail = format!("found a timeout of {seconds} s, expected at most {MAX_PATIENCE}");
            return Err(Problem::new(Kind::Request, detail).with_hint("ask again when that is over"));
        }
        let place = if depth == 0 { None } else { Some(self.waiting.take(caller)?) };
        Ok(Wait { depth, patience: Duration::from_secs(seconds), _place: place })
    }

    /// Writes an order down, in the memory too.
    fn keep(&self, key: &Key, order: KeptOrder, attachment: Arc<[u8]>) -> Result<(), StoreError> {
        // Nobody else adds any meanwhile, and nobody waits for the disk to look.
        let mut outdated = self.kept().outdated(order.at);
        outdated.truncate(MAX_OUTDATED);
        self.store.add_order(key, &order, attachment, outdated.iter().map(|key| &**key))?;
        let mut kept = self.kept();
        kept.add(Arc::clone(key), order);
        let forgotten = kept.remove(&outdated);
        drop(kept);
        forgotten.iter().for_each(|(txid, attachment)| sent::forget(&self.sent, txid, attachment.as_ref()));
        Ok(())
    }

    /// An order came to nothing: nobody has seen its transaction. Where that cannot be written it stays, and so does its cost.
    fn forget(&self, key: &Key) -> Result<(), StoreError> {
        let txid = self.kept().by_key.get(key).map(|order| order.transaction.txid());
        if let Some(txid) = txid {
            self.store.remove_order(key, &txid)?;
            self.kept().remove(std::slice::from_ref(key));
        }
        Ok(())
    }

    /// Locked for a few steps only, each whole in itself.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn payer(&self) -> Result<&Payer, Problem> {
        self.payer.as_ref().ok_or_else(|| {
            Problem::new(Kind::NoWallet, "this node pays for nothing")
                .with_hint("start it with --api-wallet NAME, or leave `confirm` out: a free answer is the same")
        })
    }
}

/// The key that a request gives, or one that no client can give.
fn key_of(headers: &HeaderMap) -> Result<Key, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        let mut random = [0; 17];
        getrandom::fill(&mut random).map_err(|error| Problem::new(Kind::Node, error.to_string()))?;
        random[0] = 0;
        return Ok(Arc::from(random));
    };
    let bytes = key.as_bytes();
    if !(1..=MAX_KEY_BYTES).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::new(
            Kind::Request,
            format!("Idempotency-Key is to have 1 to {MAX_KEY_BYTES} letters, digits or signs"),
        )
        .with_hint("a random UUID will do"));
    }
    Ok(Arc::from(bytes))
}

impl Api {
    /// Whether a request may have the node pay at all; before anything is read.
    pub(super) fn check_may_pay(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.guard.check_token(headers)?;
        self.orders.payer().map(drop)
    }

    /// Has the node pay for a task, or finds what was paid for with the same key. The request's place is taken until that is done.
    pub(super) async fn pay(
        self: &Arc<Self>,
        headers: &HeaderMap,
        model: &Model,
        attachment: &Attachment,
        file: Option<&str>,
        place: OwnedSemaphorePermit,
    ) -> Result<Transaction, Problem> {
        let key = key_of(headers)?;
        let id = model_id(model);
        let asked = Sha256::new().chain_update(id.0).chain_update(attachment.file_hash).finalize().into();
        // Said only where it matters: what was paid for before is found whatever has become of the model.
        let action = self.royalty(id).await.map(|royalty| task::classify(model, royalty, attachment));
        let (bytes, sent): (Arc<[u8]>, _) = (attachment.bytes.as_slice().into(), Sent::of(file, attachment));
        let api = Arc::clone(self);
        // On its own, so that it is carried out as a whole whether or not somebody waits for it.
        let ordered = tokio::spawn(async move {
            let _place = place;
            let turn = api.orders.turn.lock().await;
            let known = api.orders.kept().by_key.get(&key).cloned();
            let Some(KeptOrder { asked: before, transaction, .. }) = known else {
                let transaction = api.order(key, asked, action?, bytes).await?;
                drop(turn);
                api.keep_sent(sent, &transaction).await;
                return Ok(transaction);
            };
            // What is signed may be handed in by several at once.
            drop(turn);
            if before != asked {
                let txid = transaction.txid();
                let detail = format!("this Idempotency-Key has paid for another picture or model, in {txid}");
                return Err(Problem::new(Kind::Content, detail).with_hint("give each picture a key of its own"));
            }
            let transaction = api.hand_in_again(transaction, bytes).await?;
            api.keep_sent(sent, &transaction).await;
            Ok(transaction)
        });
        ordered.await.map_err(|_| cut_off())?
    }

    /// Keeps what was sent as `ocelli submit` does. It is paid for whether or not that succeeds, which the log says.
    async fn keep_sent(self: &Arc<Self>, sent: Sent, transaction: &Transaction) {
        if !sent.is_of(transaction) {
            return;
        }
        let (folder, txid) = (self.orders.sent.clone(), transaction.txid());
        let kept =
            tokio::task::spawn_blocking(
                move || {
                    if sent::is_kept(&folder, &txid) { Ok(()) } else { sent.keep(&folder, &txid) }
                },
            );
        if let Ok(Err(error)) = kept.await {
            let folder = self.orders.sent.display();
            tracing::warn!(%txid, %folder, %error, "what was sent of a picture is not kept");
        }
    }

    /// What the author of a model gets, where the next block may hold a task for it.
    async fn royalty(self: &Arc<Self>, id: ModelId) -> Result<Amount, Problem> {
        let (record, next) = self
            .read(move |api| {
                let chain = api.views.newest();
                Ok((chain.rows.model(&id)?, chain.tip.height.saturating_add(1)))
            })
            .await?;
        match record {
            Some(record) if record.first <= next => Ok(record.royalty),
            Some(record) => Err(Problem::new(
                Kind::Content,
                format!("model {id} may be paid for from block {} on, and the next is block {next}", record.first),
            )
            .with_hint("wait until then: other nodes need the time to fetch its file")),
            None => Err(Problem::new(Kind::Content, format!("the network has no model {id}"))),
        }
    }

    async fn order(
        self: &Arc<Self>,
        key: Key,
        asked: [u8; 32],
        action: Action,
        bytes: Arc<[u8]>,
    ) -> Result<Transaction, Problem> {
        let Payer { spender, limit } = self.orders.payer()?.clone();
        let now = self.orders.clock.unix_millis();
        let spent = {
            let kept = self.orders.kept();
            if kept.by_key.len() - kept.outdated(now).len() >= MAX_ORDERS {
                let detail = format!("{MAX_ORDERS} tasks were paid for within a day, and no more can be remembered");
                return Err(Problem::new(Kind::SpendingLimit, detail));
            }
            kept.spent(now)
        };
        let most = Amount(limit.0.saturating_sub(spent.0));
        let deadline = Instant::now() + TURN;
        let ordered = loop {
            let (reply, answer) = oneshot::channel();
            let (api, kept_key, kept_bytes) = (Arc::clone(self), Arc::clone(&key), Arc::clone(&bytes));
            let keep = Box::new(move |transaction: &Transaction, cost| {
                let order = KeptOrder { asked, at: now, cost, transaction: transaction.clone() };
                api.orders.keep(&kept_key, order, kept_bytes)
            });
            let (spender, action, attachment) = (Arc::clone(&spender), action.clone(), Arc::clone(&bytes));
            let order = Order { spender, action, attachment, most, keep, reply };
            if self.pool.offer(pool::Input::Order(Box::new(order))).is_err() {
                return Err(Problem::too_much_waits());
            }
            match answer.await.map_err(|_| cut_off())? {
                Err(OrderError::NotItsTurn) if Instant::now() < deadline => sleep(TURN_PAUSE).await,
                ordered => break ordered,
            }
        };
        match ordered {
            Ok(transaction) => {
                let told = Told { place: None, expires: transaction.unsigned.expires };
                self.orders.kept().told.insert(transaction.txid(), told);
                self.orders.added.notify_one();
                Ok(transaction)
            }
            Err(error) => {
                // What the pool has not taken was written down before. What cannot be forgotten is said in the log.
                if matches!(error, OrderError::Refused(_)) {
                    drop(self.read(move |api| api.orders.forget(&key)).await);
                }
                Err(self.refused(&error, limit, spent, now))
            }
        }
    }

    fn refused(&self, error: &OrderError, limit: Amount, spent: Amount, now: u64) -> Problem {
        match error {
            OrderError::CatchingUp | OrderError::NotItsTurn | OrderError::TooManyPending(_) => {
                Problem::busy(error.to_string())
            }
            OrderError::Balance { .. } => {
                Problem::of(Kind::Funds, error).with_hint("send the wallet more; /v1/wallet tells its address")
            }
            OrderError::TooDear { cost, .. } => {
                let detail = format!(
                    "the task costs {cost} credits, {spent} were spent in the last 24 hours, and {limit} may be"
                );
                let problem = Problem::new(Kind::SpendingLimit, detail)
                    .with_hint("wait, or start the node with a higher --api-limit");
                match self.orders.kept().seconds_until(*cost, limit, now) {
                    Some(seconds) => problem.with_retry_after(seconds),
                    None => problem,
                }
            }
            OrderError::Refused(reason) => Problem::new(Kind::Content, reason.clone()),
            OrderError::Store(error) => {
                tracing::error!(reason = full_message(error), "a task for a client of the API cannot be written down");
                Problem::of(Kind::Node, error)
            }
        }
    }

    /// Gives what was signed before to the pool once more, if it has been lost meanwhile.
    async fn hand_in_again(
        self: &Arc<Self>,
        transaction: Transaction,
        bytes: Arc<[u8]>,
    ) -> Result<Transaction, Problem> {
        let txid = transaction.txid();
        let status = self.read(move |api| api.views.view().transaction(&txid)).await?;
        let is_lost =
            matches!(status, Response::Transaction(TransactionStatus::Unknown | TransactionStatus::Dropped { .. }));
        let has_attachment = transaction.carries(&AttachmentHash::of(&bytes));
        if is_lost && has_attachment {
            let submission = Submission { transaction: transaction.clone(), attachment: Some(bytes) };
            if let Ok(reply) = self.hand_in(submission) {
                // Whatever it says: the state that is told next shows what became of it.
                drop(timeout(HANDING_IN, reply).await);
            }
        }
        Ok(transaction)
    }

    /// What became of a transaction of this node's own; waits for that as long as is wanted.
    pub(super) async fn task_info(
        self: &Arc<Self>,
        transaction: &Transaction,
        wait: &Wait,
    ) -> Result<TaskInfo, Problem> {
        let txid = transaction.txid();
        let (status, confirmations) = self.wait_for(txid, wait).await?;
        let unsigned = &transaction.unsigned;
        let royalty = match unsigned.action {
            Action::Classify { royalty, .. } => royalty,
            _ => Amount::ZERO,
        };
        let info = TaskInfo {
            txid: txid.to_string(),
            state: StateName::Pending,
            fee: Whole(unsigned.fee.0),
            royalty: Whole(royalty.0),
            block: None,
            height: None,
            confirmations,
            answer: None,
            reason: None,
        };
        Ok(match status {
            Response::Transaction(TransactionStatus::Pending(_)) => info,
            Response::Transaction(TransactionStatus::Confirmed(confirmed)) => TaskInfo {
                state: StateName::Confirmed,
                block: Some(confirmed.header.hash().to_string()),
                height: Some(confirmed.header.height),
                answer: confirmed.answer.classes().map(AnswerFields::of),
                ..info
            },
            Response::Transaction(TransactionStatus::Dropped { reason }) => {
                TaskInfo { state: StateName::Dropped, reason: Some(reason), ..info }
            }
            Response::Failed { reason } => TaskInfo { state: StateName::Confirmed, reason: Some(reason), ..info },
            _ => {
                let reason = "the node knows nothing of it any more".to_owned();
                TaskInfo { state: StateName::Dropped, reason: Some(reason), ..info }
            }
        })
    }

    /// What is known of a transaction when it is deep enough, cannot be, or the time is up; and its confirmations.
    pub(super) async fn wait_for(self: &Arc<Self>, txid: TxId, wait: &Wait) -> Result<(Response, u64), Problem> {
        let (mut happened, deadline) = (self.events.happened(), Instant::now() + wait.patience);
        loop {
            let view = self.views.view();
            let (tip, is_pending) = (view.chain.tip, view.pool.pending.wtxid(&txid).is_some());
            let status = self.read(move |_| view.transaction(&txid)).await?;
            let confirmations = match &status {
                Response::Transaction(TransactionStatus::Confirmed(confirmed)) => {
                    tip.height.saturating_sub(confirmed.header.height) + 1
                }
                _ => 0,
            };
            let may_become = matches!(
                status,
                Response::Transaction(TransactionStatus::Pending(_) | TransactionStatus::Confirmed(_))
            );
            if confirmations >= wait.depth || !may_become {
                return Ok((status, confirmations));
            }
            // The disk is asked only when that may say something else.
            let mut is_same = true;
            while is_same {
                if !matches!(timeout_at(deadline, happened.changed()).await, Ok(Ok(()))) {
                    return Ok((status, confirmations));
                }
                let view = self.views.view();
                is_same = view.chain.tip.hash == tip.hash && view.pool.pending.wtxid(&txid).is_some() == is_pending;
            }
        }
    }

    /// Tells listeners where tasks of the node's own are, if they have not heard.
    async fn tell_of(self: &Arc<Self>, txids: Vec<TxId>) {
        let read = self.read(move |api| {
            let view = api.views.view();
            let place =
                |txid: TxId| Ok((txid, Place::on(&view.chain, &txid, view.pool.pending.wtxid(&txid).is_some())?));
            let places = txids.into_iter().map(place).collect::<Result<Vec<_>, StoreError>>()?;
            Ok((places, view.chain.tip.height))
        });
        // What cannot be read is said in the log, and told later.
        let Ok((places, tip)) = read.await else { return };
        let mut kept = self.orders.kept();
        for (txid, place) in places {
            let Some(told) = kept.told.get_mut(&txid) else { continue };
            let is_settled = place.is_settled(told.expires, tip);
            if told.place.as_ref() != Some(&place) {
                self.events.add_own("task", &TaskEvent { txid, place: &place });
                told.place = Some(place);
            }
            if is_settled {
                kept.told.remove(&txid);
            }
        }
    }
}

/// Whoever waits for an order does not get to know what came of it.
fn cut_off() -> Problem {
    Problem::new(Kind::Node, "the node is about to stop, and may have paid or not")
        .with_hint("ask again with the same Idempotency-Key: that pays once")
}

/// Tells of the node's own tasks, for as long as the API runs.
pub(super) async fn watch(api: Arc<Api>) {
    let (mut happened, mut tip) = (api.events.happened(), None);
    loop {
        tokio::select! {
            result = happened.changed() => if result.is_err() { return },
            () = api.orders.added.notified() => {}
        }
        let newest = Some(api.views.view().chain.tip.hash);
        let has_moved = std::mem::replace(&mut tip, newest) != newest;
        let open: Vec<TxId> = {
            let kept = api.orders.kept();
            let open = kept.told.iter().filter(|(_, told)| has_moved || told.place.is_none());
            open.map(|(txid, _)| *txid).collect()
        };
        if !open.is_empty() {
            api.tell_of(open).await;
        }
    }
}

/// Shows the wallet that pays, what it has, and what it may spend
#[utoipa::path(
    get, path = "/v1/wallet", tag = "pictures", security(("token" = [])),
    responses(
        (status = OK, body = WalletInfo),
        (status = UNAUTHORIZED, description = "Only who has the token may know"),
        (status = FORBIDDEN, description = "This node pays for nothing"),
    )
)]
pub(super) async fn wallet(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Json<WalletInfo>, Problem> {
    api.check_may_pay(&headers)?;
    let Payer { spender, limit } = api.orders.payer()?;
    let address = spender.address();
    let account = api.read(move |api| api.views.view().account(address)).await?;
    let spent = api.orders.kept().spent(api.orders.clock.unix_millis());
    Ok(Json(WalletInfo {
        address: address.to_text(&api.views.parameters().address_prefix),
        balance: Whole(account.balance.0),
        limit: Whole(limit.0),
        spent: Whole(spent.0),
    }))
}

#[cfg(test)]
mod tests {
    use ocelli_consensus::{BlockHash, Unsigned};

    use super::*;
    use crate::wallet::Wallet;

    #[test]
    fn what_other_orders_have_sent_too_stays() {
        let (wallet, mut kept) = (Wallet::from_seed([7; 32]), Kept::default());
        let hash = |picture: u8| AttachmentHash([picture; 32]);
        let order = |nonce, picture| {
            let form = ocelli_consensus::transaction::Form::Pixels;
            let action = Action::Classify {
                model: ModelId([1; 32]),
                picture: hash(picture),
                bytes: 9,
                royalty: Amount::ZERO,
                form,
            };
            let unsigned = Unsigned { nonce, fee: Amount(5), expires: 9, action };
            let (key, genesis) = (wallet.public_key(), BlockHash([2; 32]));
            let transaction = Transaction::sign(unsigned, key, genesis, |hash| wallet.sign(hash));
            KeptOrder { asked: [0; 32], at: nonce, cost: Amount(5), transaction }
        };
        let keys: Vec<Key> = (0..4u8).map(|key| Arc::from([key])).collect();
        let orders = [order(0, 1), order(1, 2), order(2, 1), order(3, 3)];
        let txids = orders.clone().map(|order| order.transaction.txid());
        keys.iter().zip(orders).for_each(|(key, order)| kept.add(Arc::clone(key), order));
        assert_eq!(kept.remove(&keys[..2]), [(txids[0], None), (txids[1], Some(hash(2)))]);
        assert_eq!(kept.remove(&keys), [(txids[2], Some(hash(1))), (txids[3], Some(hash(3)))]);
        assert!(kept.by_time.is_empty() && kept.remove(&keys).is_empty());
    }
}
