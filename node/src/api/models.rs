//! `/v1/models`: what the network has, and what the node can run of it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use ocelli_consensus::{BlockHash, ModelId};
use ocelli_model::Model;
use ocelli_protocol::message::NetworkModel;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::params::InPath;
use super::problem::{Kind, Problem};
use super::reply::Json;
use crate::chain::AtTip;
use crate::full_message::full_message;
use crate::inference::{self, ModelFault, model_id};
use crate::json::ModelFields;
use crate::store::{Store, StoreError};

/// Bounds the models that are listed.
const MAX_LISTED: usize = 65_536;

/// The models that the node can run.
pub(super) struct Models {
    /// Those of the network's beginning, the one that is meant where none is named first.
    built_in: Vec<Model>,
    /// Published ones. They are loaded one after the other, and few stay so: their files are large, and whose they are anybody's
    /// choice.
    loaded: Arc<tokio::sync::Mutex<inference::Models>>,
    /// What the network has at a tip.
    known: Mutex<Option<Known>>,
}

/// The models of the state at a tip, ordered by id.
type Known = (BlockHash, Arc<[NetworkModel]>);

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelInfo {
    #[serde(flatten)]
    model: ModelFields,
    /// The name of each class, in the order of the logits.
    labels: Vec<String>,
    /// What a logit is multiplied by before the softmax.
    scale: f64,
    /// Weights and biases.
    parameters: usize,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// The first is meant where none is named.
    models: Vec<ModelFields>,
}

impl Models {
    pub(super) fn new(built_in: Vec<Model>, store: &Arc<Store>) -> Self {
        let loaded = inference::Models::new(built_in.clone(), store.model_files());
        let loaded = Arc::new(tokio::sync::Mutex::new(loaded));
        Self { built_in, loaded, known: Mutex::default() }
    }

    /// Those that are there from the beginning, and so always loaded.
    pub(super) fn built_in(&self) -> &[Model] {
        &self.built_in
    }

    /// The models of the state, read once for each tip.
    fn at(&self, chain: &AtTip) -> Result<Arc<[NetworkModel]>, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, models)) = known.filter(|(tip, _)| *tip == chain.tip.hash) {
            return Ok(models);
        }
        let models: Result<Vec<_>, _> = chain.models_from(&ModelId([0; 32])).take(MAX_LISTED).collect();
        let models: Arc<[NetworkModel]> = models?.into();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain.tip.hash, Arc::clone(&models)));
        Ok(models)
    }
}

impl Api {
    /// The models of the network's state.
    async fn known_models(self: &Arc<Self>) -> Result<Arc<[NetworkModel]>, Problem> {
        self.read(|api| api.models.at(&api.views.newest())).await
    }

    /// What the network knows of the model of that id, first digits of an id, or name; where none is named, of its first.
    async fn known_model(self: &Arc<Self>, name: Option<&str>) -> Result<NetworkModel, Problem> {
        let known = self.known_models().await?;
        let is_meant: &dyn Fn(&NetworkModel) -> bool = match name {
            None => &|model| self.models.built_in.first().is_some_and(|first| model_id(first) == model.id),
            Some(name) => &|model| inference::is_meant(name, &model.id, &model.name),
        };
        let mut found = known.iter().filter(|model| is_meant(model));
        match (found.next(), found.next()) {
            (Some(model), None) => Ok(model.clone()),
            (Some(one), Some(other)) => {
                let causes = [one, other].into_iter().chain(found).take(20).map(|model| model.id.to_string());
                let name = shortened(name.unwrap_or_default());
                Err(Problem::new(Kind::Request, format!("several models are called `{name}`"))
                    .with_causes(causes.collect())
                    .with_hint(
                        "names are their authors' and not unique: give the first digits of the id that you mean",
                    ))
            }
            (None, _) => Err(self.no_model(name)),
        }
    }

    /// A model that can be run: as [`Api::known_model`].
    pub(super) async fn model(self: &Arc<Self>, name: Option<&str>) -> Result<Model, Problem> {
        // Without reading anything, where it is plain which is meant.
        let built_in = self.models.built_in();
        let here = match name {
            None => built_in.first(),
            Some(name) => built_in.iter().find(|model| model.name() == name || model.id().to_string() == name),
        };
        match here {
            Some(model) => Ok(model.clone()),
            None if name.is_none() => Err(self.no_model(name)),
            None => self.load(self.known_model(name).await?.id).await,
        }
    }

    /// A model of the network, its file read if it is not loaded.
    async fn load(self: &Arc<Self>, id: ModelId) -> Result<Model, Problem> {
        let mut models = Arc::clone(&self.models.loaded).lock_owned().await;
        match tokio::task::spawn_blocking(move || models.get(id)).await {
            Ok(Ok(model)) => Ok(model),
            Ok(Err(ModelFault::Missing)) => Err(no_file(id)),
            Ok(Err(fault)) => {
                tracing::error!(model = %id, reason = full_message(&fault), "the API cannot run a model");
                Err(Problem::new(Kind::Node, format!("model {id} cannot be run: {}", full_message(&fault))))
            }
            Err(_) => Err(Problem::new(Kind::Node, "the model was not loaded: the node is about to stop")),
        }
    }

    fn no_model(&self, name: Option<&str>) -> Problem {
        let Some(name) = name else {
            return Problem::new(Kind::NotFound, "the network has no model from its beginning")
                .with_hint("name one: /v1/models lists those that it has");
        };
        let names: Vec<_> = self.models.built_in().iter().map(Model::name).collect();
        let names = match names.as_slice() {
            [] => "the name or id of one".into(),
            names => format!("{}, or the name or id of another", names.join(", ")),
        };
        Problem::new(Kind::NotFound, format!("found no model `{}`, expected {names}", shortened(name)))
            .with_hint("/v1/models lists the models that the network has")
    }
}

fn no_file(id: ModelId) -> Problem {
    Problem::busy(format!("the node has not got the file of model {id} yet"))
}

/// As much of a name as is said again.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

/// Lists the models of the network
///
/// As `ocelli model list --network`, the one first that is meant where none is named.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses((status = OK, body = ModelList)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<ModelList>, Problem> {
    let known = api.known_models().await?;
    let first = api.models.built_in().first().map(model_id);
    let (mut models, others): (Vec<_>, Vec<_>) = known.iter().partition(|model| Some(model.id) == first);
    models.extend(others);
    let network = &api.views.network;
    Ok(Json(ModelList { models: models.into_iter().map(|model| ModelFields::of(model, network)).collect() }))
}

/// Shows one model
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name, its id, or the first digits of it")),
    responses(
        (status = OK, body = ModelInfo),
        (status = BAD_REQUEST, description = "Several have that name"),
        (status = SERVICE_UNAVAILABLE, description = "Its file is not here yet"),
    )
)]
pub(super) async fn one(State(api): State<Arc<Api>>, InPath(name): InPath<String>) -> Result<Json<ModelInfo>, Problem> {
    let known = api.known_model(Some(&name)).await?;
    let model = api.load(known.id).await?;
    Ok(Json(ModelInfo {
        model: ModelFields::of(&known, &api.views.network),
        labels: model.classes().to_vec(),
        scale: model.display().scale,
        parameters: model.parameter_count(),
    }))
}

/// Gives a model's file
///
/// With it anybody repeats an answer: `ocelli model run --model FILE`.
#[utoipa::path(
    get, path = "/v1/models/{model}/file", tag = "models",
    params(("model" = String, Path, description = "Its name, its id, or the first digits of it")),
    responses(
        (status = OK, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = BAD_REQUEST, description = "Several have that name"),
        (status = SERVICE_UNAVAILABLE, description = "It is not here yet"),
    )
)]
pub(super) async fn file(State(api): State<Arc<Api>>, InPath(name): InPath<String>) -> Result<Response, Problem> {
    let NetworkModel { id, record, .. } = api.known_model(Some(&name)).await?;
    if let Some(model) = api.models.built_in().iter().find(|model| model.id().0 == id.0) {
        return Ok(Bytes::from_owner(File(model.clone())).into_response());
    }
    let chunks = api
        .read(move |api| {
            let store = Arc::clone(api.views.newest().rows.store());
            Ok(store.chunk(&id, 0)?.map(|first| Chunks { store, id, next: 1, ahead: Some(first) }))
        })
        .await?;
    let body = Body::from_stream(futures::stream::try_unfold(chunks.ok_or_else(|| no_file(id))?, Chunks::next));
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, record.facts.size.into())], body).into_response())
}

/// A model's bytes, without a copy.
struct File(Model);

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A file that is sent as it is read: slow clients hold no more than a chunk of it in memory.
struct Chunks {
    store: Arc<Store>,
    id: ModelId,
    next: u16,
    ahead: Option<Vec<u8>>,
}

impl Chunks {
    async fn next(mut self) -> Result<Option<(Vec<u8>, Self)>, StoreError> {
        let chunk = match self.ahead.take() {
            Some(chunk) => Some(chunk),
            None => {
                let (store, id, number) = (Arc::clone(&self.store), self.id, self.next);
                self.next += 1;
                let read = tokio::task::spawn_blocking(move || store.chunk(&id, number));
                // The node is about to stop.
                read.await.unwrap_or(Ok(None))?
            }
        };
        Ok(chunk.map(|chunk| (chunk, self)))
    }
}
