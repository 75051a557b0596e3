//! `POST /v1/transactions`: what somebody has signed elsewhere goes to the pool, as a peer's would.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use ocelli_protocol::message::{MAX_SUBMISSION_BYTES, Request, Response, Submission, SubmitReply};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Api;
use super::body::Unread;
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::json::AnswerFields;
use crate::pool;
use crate::reply::ReplyTo;

/// How long the node's preliminary answer to a task is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transaction that the node has taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Submitted {
    /// By which one asks for it.
    txid: String,
    /// What the model of a task says, by this node: preliminary, until a block holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerFields>,
}

impl Api {
    /// Hands a submission to the pool, as a peer's would be; what the pool says comes by the channel.
    pub(super) fn hand_in(&self, submission: Submission) -> Result<oneshot::Receiver<Response>, Problem> {
        let (sender, reply) = oneshot::channel();
        let asked = pool::Input::Ask(Box::new(Request::Submit(submission)), ReplyTo::Client(sender));
        self.pool.offer(asked).map_err(|_| Problem::too_much_waits())?;
        Ok(reply)
    }
}

/// Hands in a signed transaction with what it carries
///
/// The body is a submission as docs/protocol.md encodes it: a task, a transfer, or a step of publishing a model. Handed in again, it
/// is the same transaction, and pays once.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "chain", security((), ("token" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = OK, description = "It is pending, and forwarded", body = Submitted),
        (status = "4XX", description = "It is not taken"),
    )
)]
pub(super) async fn submit(State(api): State<Arc<Api>>, unread: Unread) -> Result<Json<Submitted>, Problem> {
    let held = api.bodies.read(unread, MAX_SUBMISSION_BYTES).await?;
    let submission = Submission::from_bytes(&held.bytes).map_err(|error| {
        Problem::new(Kind::Request, format!("not a submission: {error}"))
            .with_hint("docs/protocol.md says how one is encoded")
    })?;
    let txid = submission.transaction.txid();
    match timeout(PATIENCE, api.hand_in(submission)?).await {
        Ok(Ok(Response::Submitted(SubmitReply::Accepted { answer }))) => {
            let answer = answer.map(|signed| AnswerFields::of(&signed.answer));
            Ok(Json(Submitted { txid: txid.to_string(), answer }))
        }
        Ok(Ok(Response::Submitted(SubmitReply::Refused { code: SubmitReply::BUSY, reason }))) => {
            Err(Problem::busy(reason))
        }
        Ok(Ok(Response::Submitted(SubmitReply::Refused { reason, .. }))) => Err(Problem::new(Kind::Content, reason)
            .with_hint(
                "sign it again with what the node expects; /v1/accounts tells the next nonce, /v1/fees the fee",
            )),
        Ok(Ok(Response::Failed { reason })) => Err(Problem::new(Kind::Node, reason)),
        // It is taken, and its answer comes later.
        Err(_) => Ok(Json(Submitted { txid: txid.to_string(), answer: None })),
        Ok(_) => Err(Problem::too_much_waits()),
    }
}
