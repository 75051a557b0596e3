//! `/v2`: the Open Inference Protocol, version 2, with Triton's extensions for binary tensors and for classification, so that
//! clients made for KServe or Triton work unchanged.
//!
//! Protocol: <https://github.com/kserve/open-inference-protocol>, `specification/protocol/inference_rest.md`. Extensions:
//! <https://github.com/triton-inference-server/server>, `docs/protocol/extension_binary_data.md` and
//! `extension_classification.md`.

mod tensor;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use ocelli_model::{Model, Shape};
use ocelli_program::output::to_json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{MAX_BODY_BYTES, Unread};
use super::models::shortened;
use super::params::InPath;
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::inference::Task;
use tensor::{Flat, Output, Wish};

/// The only version of any model: another model has another id.
const VERSION: &str = "1";
/// The model's input.
const PIXELS: &str = "pixels";
/// The most pictures of one request.
const MAX_BATCH: usize = 256;
/// How long the JSON is that stands before binary tensors.
pub(super) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Server {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 4],
}

/// Whether the node lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    live: bool,
}

/// Whether models are run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
}

/// What a model takes and gives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelMetadata {
    #[schema(example = "cifar10-cnn")]
    name: String,
    versions: [&'static str; 1],
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// A tensor: -1 is the number of pictures.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TensorMetadata {
    name: &'static str,
    datatype: &'static str,
    #[schema(example = json!([-1, 3, 32, 32]))]
    shape: Vec<i64>,
}

/// The configuration of a model, as Triton tells it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelConfig {
    name: String,
    platform: &'static str,
    backend: &'static str,
    max_batch_size: usize,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
}

/// A tensor without its first dimension.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TensorConfig {
    name: &'static str,
    data_type: String,
    dims: Vec<i64>,
}

/// A model of the repository.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryModel {
    name: String,
    version: &'static str,
    state: &'static str,
    reason: &'static str,
}

/// Pictures for a model.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct InferRequest {
    /// Comes back with the answer.
    id: Option<String>,
    #[serde(default)]
    parameters: RequestParameters,
    inputs: Vec<InputTensor>,
    /// All, unless some are named.
    outputs: Option<Vec<RequestedOutput>>,
}

/// Others are left unread.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct RequestParameters {
    /// Whether outputs are binary that do not say it themselves.
    #[serde(default)]
    binary_data_output: bool,
}

/// The pictures.
#[derive(Debug, Deserialize, ToSchema)]
struct InputTensor {
    /// `pixels`.
    #[schema(example = "pixels")]
    name: String,
    /// Pictures, channels, rows, columns.
    #[schema(example = json!([1, 3, 32, 32]))]
    shape: Vec<usize>,
    /// `UINT8`.
    #[schema(example = "UINT8")]
    datatype: String,
    #[serde(default)]
    parameters: InputParameters,
    /// Numbers from 0 to 255, in one list or in lists of lists; none if they follow the JSON as bytes.
    #[schema(value_type = Option<Vec<u8>>)]
    data: Option<Flat>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct InputParameters {
    /// Bytes of this tensor behind the JSON.
    binary_data_size: Option<usize>,
}

/// What is to be answered.
#[derive(Debug, Deserialize, ToSchema)]
struct RequestedOutput {
    /// `logits` or `probabilities`.
    #[schema(example = "probabilities")]
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct OutputParameters {
    /// Whether it follows the JSON as bytes.
    binary_data: Option<bool>,
    /// The best so many classes instead of the tensor, each a text `value:index:label`.
    #[serde(default)]
    classification: usize,
}

/// What the model answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InferResponse {
    model_name: String,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<Output>,
}

/// Says what the server is and can
#[utoipa::path(get, path = "/v2", tag = "inference", responses((status = OK, body = Server)))]
pub(super) async fn server() -> Json<Server> {
    Json(Server {
        name: "ocelli",
        version: env!("CARGO_PKG_VERSION"),
        extensions: ["classification", "binary_tensor_data", "model_configuration", "model_repository"],
    })
}

/// Says that the server lives
#[utoipa::path(get, path = "/v2/health/live", tag = "inference", responses((status = OK, body = Live)))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Says whether the device has been checked, so that models are run
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "inference",
    responses((status = OK, body = Ready))
)]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Json<Ready>, Problem> {
    check_ready(&api).map_err(Problem::with_error)
}

/// Says whether a model is run
#[utoipa::path(
    get, path = "/v2/models/{model}/ready", tag = "inference",
    params(Place),
    responses((status = OK, body = Ready))
)]
pub(super) async fn model_ready(
    State(api): State<Arc<Api>>,
    InPath(place): InPath<Place>,
) -> Result<Json<Ready>, Problem> {
    let found = place.find(&api).await;
    found.and_then(|_| check_ready(&api)).map_err(Problem::with_error)
}

/// Says what a model takes and gives
#[utoipa::path(
    get, path = "/v2/models/{model}", tag = "inference",
    params(Place),
    responses((status = OK, body = ModelMetadata))
)]
pub(super) async fn metadata(
    State(api): State<Arc<Api>>,
    InPath(place): InPath<Place>,
) -> Result<Json<ModelMetadata>, Problem> {
    let model = &place.find(&api).await.map_err(Problem::with_error)?;
    let tensor = |(name, datatype, dims): (&'static str, &'static str, Vec<usize>)| TensorMetadata {
        name,
        datatype,
        shape: std::iter::once(-1).chain(dims.into_iter().map(|side| side as i64)).collect(),
    };
    Ok(Json(ModelMetadata {
        name: name_of(model),
        versions: [VERSION],
        platform: "ocelli",
        inputs: vec![tensor(input_of(model))],
        outputs: outputs_of(model).map(tensor).into(),
    }))
}

/// Tells a model's configuration as Triton does
#[utoipa::path(
    get, path = "/v2/models/{model}/config", tag = "inference",
    params(Place),
    responses((status = OK, body = ModelConfig))
)]
pub(super) async fn config(
    State(api): State<Arc<Api>>,
    InPath(place): InPath<Place>,
) -> Result<Json<ModelConfig>, Problem> {
    let model = &place.find(&api).await.map_err(Problem::with_error)?;
    let tensor = |(name, datatype, dims): (&'static str, &'static str, Vec<usize>)| TensorConfig {
        name,
        data_type: format!("TYPE_{datatype}"),
        dims: dims.into_iter().map(|side| side as i64).collect(),
    };
    Ok(Json(ModelConfig {
        name: name_of(model),
        platform: "ocelli",
        backend: "ocelli",
        max_batch_size: MAX_BATCH,
        input: vec![tensor(input_of(model))],
        output: outputs_of(model).map(tensor).into(),
    }))
}

/// Lists the models that are always loaded
///
/// Published ones, which `/v1/models` lists, are loaded when they are asked for by their names or ids.
#[utoipa::path(post, path = "/v2/repository/index", tag = "inference", responses((status = OK, body = Vec<RepositoryModel>)))]
pub(super) async fn repository(State(api): State<Arc<Api>>) -> Json<Vec<RepositoryModel>> {
    let (state, reason) = match check_ready(&api) {
        Ok(_) => ("READY", ""),
        Err(_) => ("LOADING", "the device is being checked"),
    };
    let model = |model: &Model| RepositoryModel { name: name_of(model), version: VERSION, state, reason };
    Json(api.models.built_in().iter().map(model).collect())
}

/// Runs a model on pictures of its own size
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "inference", security((), ("token" = [])),
    params(
        Place,
        ("inference-header-content-length" = Option<u64>, Header, description = "Bytes of the JSON, where binary tensors follow it"),
    ),
    request_body = InferRequest,
    responses(
        (status = OK, description = "JSON, with binary tensors behind it if the request asks for them",
            content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = "4XX", description = "Nothing was run"),
    )
)]
pub(super) async fn infer(
    State(api): State<Arc<Api>>,
    InPath(place): InPath<Place>,
    headers: HeaderMap,
    unread: Unread,
) -> Result<Response, Problem> {
    run(&api, &place, &headers, unread).await.map_err(Problem::with_error)
}

async fn run(api: &Arc<Api>, place: &Place, headers: &HeaderMap, unread: Unread) -> Result<Response, Problem> {
    // Whoever sends slowly has no place, and nothing else that others may need.
    let held = api.bodies.read(unread, MAX_BODY_BYTES).await?;
    let _place = api.pictures.place()?;
    let model = &place.find(api).await?;
    let (json, binary) = split(headers, &held.bytes)?;
    let request: InferRequest = serde_json::from_slice(&json)
        .map_err(|error| wrong(format!("the request is not the JSON that was expected: {error}")))?;
    let wishes = wishes(&request)?;
    let pictures = pictures(request.inputs, binary, model)?;
    let tasks = pictures.into_iter().map(|pixels| Task::of_pixels(model, pixels)).collect();
    let logits = api.run(model, tasks).await?;
    let (outputs, tail): (Vec<_>, Vec<_>) = wishes.iter().map(|wish| wish.output(model, &logits)).unzip();
    let answer = InferResponse { model_name: name_of(model), model_version: VERSION, id: request.id, outputs };
    if !wishes.iter().any(|wish| wish.is_binary) {
        return Ok(Json(answer).into_response());
    }
    let mut bytes = to_json(&answer).map_err(|error| Problem::of(Kind::Node, &error))?;
    let length = bytes.len();
    bytes.extend(tail.into_iter().flatten());
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind), (JSON_LENGTH, length.into())], bytes).into_response())
}

/// What of an address names a model.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Place {
    /// Its name, its id, or the first digits of it.
    model: String,
    #[param(ignore)]
    version: Option<String>,
}

impl Place {
    async fn find(&self, api: &Arc<Api>) -> Result<Model, Problem> {
        let model = api.model(Some(&self.model)).await?;
        match self.version.as_deref() {
            None | Some(VERSION) => Ok(model),
            Some(other) => {
                let other = shortened(other);
                let detail = format!("model {} has no version {other:?}, expected {VERSION}", name_of(&model));
                Err(Problem::new(Kind::NotFound, detail))
            }
        }
    }
}

fn wrong(detail: String) -> Problem {
    Problem::new(Kind::Request, detail)
}

fn check_ready(api: &Api) -> Result<Json<Ready>, Problem> {
    if api.figures.inference.status().is_checked {
        return Ok(Json(Ready { ready: true }));
    }
    Err(Problem::busy("the device is being checked, which comes before any answer"))
}

/// A model without a name goes by its id.
fn name_of(model: &Model) -> String {
    if model.name().is_empty() { model.id().to_string() } else { model.name().to_owned() }
}

fn input_of(model: &Model) -> (&'static str, &'static str, Vec<usize>) {
    let shape = model.input();
    (PIXELS, "UINT8", vec![shape.channels, shape.height, shape.width])
}

fn outputs_of(model: &Model) -> [(&'static str, &'static str, Vec<usize>); 2] {
    tensor::Kind::ALL.map(|kind| (kind.name(), kind.datatype(), vec![model.logits()]))
}

/// The JSON, and the binary tensors behind it.
fn split(headers: &HeaderMap, body: &Bytes) -> Result<(Bytes, Bytes), Problem> {
    let Some(length) = headers.get(&JSON_LENGTH) else { return Ok((body.clone(), Bytes::new())) };
    let length = length.to_str().ok().and_then(|length| length.parse::<usize>().ok()).filter(|at| *at <= body.len());
    let Some(length) = length else {
        return Err(wrong(format!(
            "Inference-Header-Content-Length is to be a number up to the body's {} bytes",
            body.len()
        )));
    };
    Ok((body.slice(..length), body.slice(length..)))
}

/// What is to be answered, and how.
fn wishes(request: &InferRequest) -> Result<Vec<Wish>, Problem> {
    let binary = request.parameters.binary_data_output;
    let Some(outputs) = &request.outputs else {
        return Ok(tensor::Kind::ALL.map(|kind| Wish { kind, is_binary: binary, classes: 0 }).into());
    };
    if outputs.len() > tensor::Kind::ALL.len() {
        return Err(wrong(format!("found {} outputs, expected at most {}", outputs.len(), tensor::Kind::ALL.len())));
    }
    let wish = |output: &RequestedOutput| {
        let kind = tensor::Kind::ALL.into_iter().find(|kind| kind.name() == output.name);
        let OutputParameters { binary_data, classification: classes } = output.parameters;
        let wish = kind.map(|kind| Wish { kind, is_binary: binary_data.unwrap_or(binary), classes });
        wish.ok_or_else(|| {
            let name = shortened(&output.name);
            wrong(format!("found the output {name:?}, expected logits or probabilities"))
        })
    };
    outputs.iter().map(wish).collect()
}

/// The pixels of each picture.
fn pictures(inputs: Vec<InputTensor>, binary: Bytes, model: &Model) -> Result<Vec<Bytes>, Problem> {
    let count = inputs.len();
    let Ok([input]) = <[InputTensor; 1]>::try_from(inputs) else {
        return Err(wrong(format!("found {count} inputs, expected one, `{PIXELS}`")));
    };
    let InputTensor { name, shape, datatype, parameters, data } = input;
    let (_, expected, sides) = input_of(model);
    if name != PIXELS || datatype != expected {
        let [name, datatype]: [String; 2] = [name, datatype].map(|text| shortened(&text));
        return Err(wrong(format!("found the input {name:?} of {datatype:?}, expected {PIXELS:?} of {expected:?}")));
    }
    let batch = match shape.split_first() {
        Some((&batch, rest)) if rest == sides && (1..=MAX_BATCH).contains(&batch) => batch,
        _ => {
            let shape = &shape[..shape.len().min(8)];
            let Shape { channels, height, width } = model.input();
            return Err(wrong(format!(
                "found the shape {shape:?}, expected [N, {channels}, {height}, {width}] with N from 1 to {MAX_BATCH}"
            )));
        }
    };
    let bytes = match (data, parameters.binary_data_size) {
        (Some(Flat(data)), None) if binary.is_empty() => Bytes::from(data),
        (None, Some(size)) if size == binary.len() => binary,
        (None, Some(size)) => {
            return Err(wrong(format!("binary_data_size is {size}, and {} bytes follow the JSON", binary.len())));
        }
        _ => return Err(wrong("expected either `data` or `binary_data_size` with bytes behind the JSON".into())),
    };
    if bytes.len() != batch * model.pixels() {
        return Err(wrong(format!("found {} bytes of data, the shape has {}", bytes.len(), batch * model.pixels())));
    }
    Ok((0..batch).map(|index| bytes.slice(index * model.pixels()..(index + 1) * model.pixels())).collect())
}
