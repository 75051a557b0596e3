//! `/v1/models`: what the node runs.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use ocelli_model::Model;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::problem::{Document, Kind, Problem};
use super::reply::{InPath, Json};

/// The models that the node has.
pub(super) struct Models(Vec<Model>);

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelInfo {
    /// Its name, for people; may be empty.
    #[schema(example = "cifar10-cnn")]
    name: String,
    /// The hash of its file, in hexadecimal.
    id: String,
    /// What it takes: channels, height, width, of 8 bits each.
    #[schema(example = json!([3, 32, 32]))]
    input: [usize; 3],
    /// The name of each logit's class.
    classes: Vec<String>,
    /// What a logit is multiplied by before the softmax.
    scale: f64,
    /// Integer operations for one picture.
    cost: u64,
    /// Weights and biases.
    parameters: usize,
    /// Bytes of its file.
    bytes: usize,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// The first is meant where none is named.
    models: Vec<ModelInfo>,
}

impl Models {
    pub(super) fn new(models: Vec<Model>) -> Self {
        Self(models)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Model> {
        self.0.iter()
    }

    /// The model of that name or id; where none is named, the first.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Model, Problem> {
        let Some(name) = name else {
            return self.0.first().ok_or_else(|| Problem::new(Kind::NotFound, "the node's network has no model yet"));
        };
        let is_meant = |model: &&Model| model.name() == name || model.id().to_string() == name;
        self.0.iter().find(is_meant).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(Model::name).collect();
            let name: String = name.chars().take(80).collect();
            Problem::new(
                Kind::NotFound,
                format!("found no model `{name}`, expected {} or the id of one", names.join(", ")),
            )
            .with_hint("/v1/models shows the models that the node has")
        })
    }
}

impl ModelInfo {
    fn of(model: &Model) -> Self {
        let shape = model.input();
        Self {
            name: model.name().to_owned(),
            id: model.id().to_string(),
            input: [shape.channels, shape.height, shape.width],
            classes: model.classes().to_vec(),
            scale: model.display().scale,
            cost: model.cost(),
            parameters: model.parameter_count(),
            bytes: model.bytes().len(),
        }
    }
}

/// Lists the models that the node has
#[utoipa::path(get, path = "/v1/models", tag = "models", responses((status = OK, body = ModelList)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<ModelList> {
    Json(ModelList { models: api.models.iter().map(ModelInfo::of).collect() })
}

/// Shows one model
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name or id")),
    responses((status = OK, body = ModelInfo), (status = NOT_FOUND, body = Document, content_type = "application/problem+json"))
)]
pub(super) async fn one(State(api): State<Arc<Api>>, InPath(name): InPath<String>) -> Result<Json<ModelInfo>, Problem> {
    api.models.find(Some(&name)).map(|model| Json(ModelInfo::of(model)))
}

/// Gives a model's file
///
/// With it anybody repeats an answer: `ocelli model run --model FILE`.
#[utoipa::path(
    get, path = "/v1/models/{model}/file", tag = "models",
    params(("model" = String, Path, description = "Its name or id")),
    responses(
        (status = OK, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = NOT_FOUND, body = Document, content_type = "application/problem+json"),
    )
)]
pub(super) async fn file(State(api): State<Arc<Api>>, InPath(name): InPath<String>) -> Result<Bytes, Problem> {
    let model = api.models.find(Some(&name))?;
    Ok(Bytes::from_owner(File(model.clone())))
}

/// A model's bytes, without a copy.
struct File(Model);

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}
