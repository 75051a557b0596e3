//! What goes wrong, as RFC 9457 has it, in the command line's words.

use std::any::Any;
use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::reply::Json;
use crate::full_message::full_message;

/// Of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// The kinds of problems: each is an HTTP status, a name and a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request makes no sense.
    Request,
    /// Only who has the token may ask this.
    Token,
    /// The wallet that pays has too little.
    Funds,
    /// The node pays for nothing.
    NoWallet,
    /// So much may not be spent.
    SpendingLimit,
    /// The request comes from a page or by a name that is not let in.
    Origin,
    /// There is nothing of that name.
    NotFound,
    /// The address takes other methods.
    Method,
    /// The request came too slowly.
    Slow,
    /// The request is too large.
    TooLarge,
    /// The body is of a kind that is not read.
    Format,
    /// The pictures or tensors cannot be used.
    Content,
    /// The node keeps nothing of what has happened to accounts, or nothing from so early on.
    NoLedger,
    /// This client asks too much.
    TooMuch,
    /// The node is at fault.
    Node,
    /// The node has too much to do.
    Busy,
    /// The node still adds to the ledger what is asked for.
    Indexing,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Request => (StatusCode::BAD_REQUEST, "request", "The request makes no sense"),
            Self::Token => (StatusCode::UNAUTHORIZED, "token", "This needs the API's token"),
            Self::Funds => (StatusCode::PAYMENT_REQUIRED, "funds", "The node's wallet has too little"),
            Self::NoWallet => (StatusCode::FORBIDDEN, "no-wallet", "This node pays for nothing"),
            Self::SpendingLimit => {
                (StatusCode::TOO_MANY_REQUESTS, "spending-limit", "So much may not be spent in a day")
            }
            Self::Origin => (StatusCode::FORBIDDEN, "origin", "Requests from there are not answered"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "This address takes other methods"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow", "The request came too slowly"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::Format => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "format", "The body is of a kind that is not read"),
            Self::Content => (StatusCode::UNPROCESSABLE_ENTITY, "content", "What was sent cannot be used"),
            Self::NoLedger => (StatusCode::CONFLICT, "no-ledger", "This node does not keep that of accounts"),
            Self::TooMuch => (StatusCode::TOO_MANY_REQUESTS, "too-much", "This client asks too much"),
            Self::Node => (StatusCode::INTERNAL_SERVER_ERROR, "node", "The node failed"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The node has too much to do"),
            Self::Indexing => {
                (StatusCode::SERVICE_UNAVAILABLE, "indexing", "The node still makes its ledger of accounts")
            }
        }
    }
}

/// A problem: what went wrong, and what to try.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Seconds.
    retry_after: Option<u64>,
    /// Whether the client looks for the detail where the Open Inference Protocol has it.
    is_of_inference: bool,
}

/// A problem as clients read it (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document {
    /// Names the kind of problem: `urn:ocelli:problem:` and a word.
    #[serde(rename = "type")]
    #[schema(example = "urn:ocelli:problem:request")]
    name: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong this time: what was found, and what was expected.
    detail: String,
    /// Each part that cannot be used, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    causes: Vec<String>,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The detail once more, where clients of the Open Inference Protocol look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (causes, hint, retry_after) = (Vec::new(), None, None);
        Self { kind, detail: detail.into(), causes, hint, retry_after, is_of_inference: false }
    }

    /// An error with all its causes.
    pub(super) fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, full_message(error))
    }

    /// The pool's inbox is full.
    pub(super) fn too_much_waits() -> Self {
        Self::busy("too much waits: ask again later")
    }

    /// The node has too much to do: the client is to ask again in a second.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::new(Kind::Busy, detail).with_hint("ask again later, and with less at a time").with_retry_after(1)
    }

    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(super) fn with_causes(mut self, causes: Vec<String>) -> Self {
        self.causes = causes;
        self
    }

    /// Seconds.
    #[must_use]
    pub(super) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Says the detail where clients of the Open Inference Protocol look for it.
    #[must_use]
    pub(super) fn with_error(mut self) -> Self {
        self.is_of_inference = true;
        self
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { kind, detail, causes, hint, retry_after, is_of_inference } = self;
        let (status, name, title) = kind.parts();
        let (name, error) = (format!("urn:ocelli:problem:{name}"), is_of_inference.then(|| detail.clone()));
        let document = Document { name, title, status: status.as_u16(), detail, causes, hint, error };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if kind == Kind::Token {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A defect of ours ends one request, and nothing else.
pub(super) fn of_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request to the API ended in a panic; the log above says where");
    Problem::new(Kind::Node, "a defect in the node ended this request")
        .with_hint("please report it with the node's log")
        .into_response()
}
