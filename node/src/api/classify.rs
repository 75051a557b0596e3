//! `/v1/classify`: send a picture, get names back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use ocelli_model::{Attachment, Model};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{MAX_BODY_BYTES, Unread};
use super::orders::TaskInfo;
use super::params::{Params, flag};
use super::pictures::File;
use super::places::Caller;
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::inference::Task;
use crate::json::Picture;

/// The most pictures of one request.
const MAX_PICTURES: usize = 64;
/// How many classes are named unless the request says it.
const TOP: usize = 5;

/// What a request may say.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// The model's name, id, or the first digits of it; where none is named, the network's first.
    model: Option<String>,
    /// How many classes are named, the likeliest first; 5 unless it is said.
    #[param(minimum = 1)]
    top: Option<u16>,
    /// Whether the logits are shown too: `1` or `0`.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    logits: bool,
    /// Whether the node pays for a task, so that the whole network stands for the answer: `1` or `0`. Takes one picture, and the
    /// token.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1)]
    confirm: bool,
    /// How many confirmations of the task are waited for; none unless it is said.
    wait: Option<u64>,
    /// For how many seconds, at most; 60 unless it is said.
    #[param(maximum = 600)]
    timeout: Option<u64>,
}

/// What the node says of one picture: its own run. Where there is a task, the chain has the same answer once it is confirmed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// The file's name, if the request says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cat.jpg")]
    file: Option<String>,
    /// The name of the likeliest class.
    #[schema(example = "cat")]
    label: String,
    /// Of the label, 0 to 1, rounded to 6 decimals: for display.
    #[schema(example = 0.826)]
    probability: f64,
    /// The likeliest classes, the first of which is the label.
    top: Vec<Class>,
    model: ModelName,
    /// What became of the file before the model saw it; a paid task would carry the same.
    picture: Picture,
    /// What the model answers, exactly, where the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<i32>>,
    /// What was paid for, where the request asks for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskInfo>,
}

/// A class of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Class {
    #[schema(example = "cat")]
    label: String,
    /// 0 to 1, rounded to 6 decimals: for display.
    probability: f64,
    /// Its place among the classes, from 0.
    index: usize,
}

/// Which model answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelName {
    #[schema(example = "cifar10-cnn")]
    name: String,
    /// The hash of its file, in hexadecimal.
    id: String,
}

/// To one picture an answer, to a form a list of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Reply {
    One(Box<Answer>),
    Several(Answers),
}

/// What the node says of several pictures.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answers {
    /// One for each picture, in their order.
    answers: Vec<Answer>,
}

/// Says what is in a picture, or in several
///
/// The body is a picture's file (JPEG, PNG, WebP, GIF or BMP, told by its content), or `multipart/form-data` with at most 64 of
/// them, which are answered in one list.
///
/// With `confirm=1` the node's wallet pays for a task of one picture. A request that is repeated with the same `Idempotency-Key` is
/// paid for once: it gets the same task again.
#[utoipa::path(
    post, path = "/v1/classify", tag = "pictures", security((), ("token" = [])),
    params(
        Query,
        ("idempotency-key" = Option<String>, Header, description = "With `confirm`: names the order, 1 to 128 letters, digits or signs"),
    ),
    request_body(content(
        (Vec<u8> = "application/octet-stream"), (Vec<u8> = "image/*"), (Vec<Vec<u8>> = "multipart/form-data")
    )),
    responses(
        (status = OK, description = "What is in it", body = Reply),
        (status = "4XX", description = "Nothing was run"),
    )
)]
pub(super) async fn classify(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params(query): Params<Query>,
    headers: HeaderMap,
    unread: Unread,
) -> Result<Json<Reply>, Problem> {
    if query.confirm {
        api.check_may_pay(&headers)?;
    }
    // Whoever sends slowly has no place, and nothing else that others may need.
    let held = api.bodies.read(unread, MAX_BODY_BYTES).await?;
    // Before anything is paid for: who cannot wait is told so while nothing is lost.
    let wait = api.orders.wait(caller, query.wait.filter(|_| query.confirm), query.timeout)?;
    let place = api.pictures.place()?;
    let model = &api.model(query.model.as_deref()).await?;
    let (files, is_one) = match boundary(&headers)? {
        Some(boundary) => (files_of(boundary, held.bytes.clone()).await?, false),
        None => (vec![File { name: None, bytes: held.bytes.clone() }], true),
    };
    if query.confirm && files.len() != 1 {
        let detail = format!("found {} pictures, expected one where the answer is paid for", files.len());
        return Err(
            Problem::new(Kind::Request, detail).with_hint("send each on its own, with an Idempotency-Key of its own")
        );
    }
    let mut attachments = api.pictures.attach(&files, model).await?;
    let tasks = attachments.iter_mut().map(|attachment| Task::of_attachment(model, attachment)).collect();
    let logits = api.run(model, tasks).await?;
    let paid = match attachments.first().filter(|_| query.confirm) {
        Some(attachment) => {
            let name = files.first().and_then(|file| file.name.as_deref());
            Some(api.pay(&headers, model, attachment, name, place).await?)
        }
        None => None,
    };
    let mut answers: Vec<Answer> = (files.into_iter().zip(&attachments).zip(logits))
        .map(|((file, attachment), logits)| Answer::new(file, attachment, model, &logits, &query))
        .collect();
    if let (Some(transaction), Some(answer)) = (paid, answers.first_mut()) {
        // Who waits for the chain keeps nobody else waiting.
        drop((held, attachments));
        answer.task = Some(api.task_info(&transaction, &wait).await?);
    }
    let one = if is_one { answers.pop() } else { None };
    Ok(Json(one.map_or(Reply::Several(Answers { answers }), |answer| Reply::One(answer.into()))))
}

/// What stands between the parts of a form, if the body is one.
fn boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Ok(None);
    }
    multer::parse_boundary(kind).map(Some).map_err(|error| no_form(&error.to_string()))
}

/// The parts of a form, each a file, whatever its field is called.
async fn files_of(boundary: String, body: Bytes) -> Result<Vec<File>, Problem> {
    let body = futures::stream::once(std::future::ready(Ok::<_, Infallible>(body)));
    let mut form = multer::Multipart::new(body, boundary);
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| no_form(&error.to_string()))? {
        if files.len() == MAX_PICTURES {
            return Err(Problem::new(
                Kind::TooLarge,
                format!("found more than {MAX_PICTURES} pictures in one request"),
            )
            .with_hint("send them in several requests"));
        }
        let name = field.file_name().map(|name| name.chars().take(255).collect());
        let bytes = field.bytes().await.map_err(|error| no_form(&error.to_string()))?;
        files.push(File { name, bytes });
    }
    if files.is_empty() { Err(no_form("it holds no file")) } else { Ok(files) }
}

fn no_form(why: &str) -> Problem {
    Problem::new(Kind::Request, format!("the form cannot be read: {why}"))
        .with_hint("send it with `curl -F file=@cat.jpg`, or the file alone with `curl --data-binary @cat.jpg`")
}

impl Answer {
    fn new(file: File, attachment: &Attachment, model: &Model, logits: &[i32], query: &Query) -> Self {
        let input = model.input();
        let probabilities = model.probabilities(logits);
        let class = |index: usize| Class {
            label: model.classes().get(index).cloned().unwrap_or_default(),
            probability: (probabilities.get(index).copied().unwrap_or_default() * 1e6).round() / 1e6,
            index,
        };
        let top = model.best(logits, query.top.map_or(TOP, usize::from).max(1)).into_iter().map(class);
        let Class { label, probability, .. } = class(model.label(logits));
        Self {
            file: file.name,
            label,
            probability,
            top: top.collect(),
            model: ModelName { name: model.name().to_owned(), id: model.id().to_string() },
            picture: Picture::new(file.bytes.len(), attachment, (input.width, input.height)),
            logits: query.logits.then(|| logits.to_vec()),
            task: None,
        }
    }
}
