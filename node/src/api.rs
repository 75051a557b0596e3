//! HTTP, for programs and people that are no peers: an adapter over the [`view`](crate::view), the [`pool`] and
//! [`inference`](crate::inference), and no second implementation of anything. What each route does is in `docs/api.md`.
//!
//! It runs on threads of its own. Whatever clients do, it costs them their answers and the node nothing but these bounds: so many
//! connections, so many bytes of bodies, so much memory for decoding pictures, and so many pictures that wait.

mod body;
mod chain;
mod classify;
mod connections;
mod events;
mod guard;
mod history;
mod metrics;
mod models;
mod openapi;
mod orders;
mod params;
mod pictures;
mod places;
mod problem;
mod reply;
mod run;
mod server;
mod submit;
mod timeouts;
mod token;
mod v2;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use ocelli_model::Model;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use connections::MAX_CONNECTIONS;
pub use events::Events;
pub use metrics::Moves;
pub use orders::Payer;
pub use server::{Server, parse_origin};
pub use timeouts::Timeouts;
pub use token::TOKEN_FILE;

use crate::error::NodeError;
use crate::inbox::Sender;
use crate::pool;
use crate::sent::SENT_FOLDER;
use crate::view::{Figures, Views};
use body::Bodies;
use guard::{Access, Guard};
use metrics::Metrics;
use models::Models;
use orders::Orders;
use pictures::Pictures;
use problem::{Kind, Problem};

/// The address where the API listens unless it is told another: 127.0.0.1, at the port after the one for peers.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:3298";

/// Where the API describes itself: open, as what it tells is the same for all nodes.
const OPENAPI: &str = "/openapi.json";

/// How the API is to be run.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names by which clients call this machine, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Pages of these origins, such as `https://example.org`, may ask from within browsers.
    pub origins: Vec<String>,
    /// Who pays for answers that are to be confirmed, if anybody does.
    pub payer: Option<Payer>,
    /// How long clients may take.
    pub timeouts: Timeouts,
}

impl Config {
    /// What listens there, for programs and pages of this machine, and pays for nothing.
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, hosts: Vec::new(), origins: Vec::new(), payer: None, timeouts: Timeouts::default() }
    }

    /// Whether all who can connect run on this machine, as far as addresses tell.
    fn is_local(&self) -> bool {
        // Who names the machine by another name has something in front of it that lets others in.
        self.listen.ip().is_loopback() && self.hosts.is_empty()
    }
}

/// What the handlers share.
struct Api {
    models: Models,
    views: Arc<Views>,
    figures: Figures,
    events: Arc<Events>,
    pool: Sender<pool::Input>,
    metrics: Metrics,
    guard: Guard,
    bodies: Bodies,
    pictures: Pictures,
    orders: Orders,
}

/// What the API has of the rest of the node.
pub struct Others {
    /// Every model that the network has from its beginning, the one that is meant where none is named first.
    pub models: Vec<Model>,
    /// The node at this moment.
    pub views: Arc<Views>,
    /// What counts and measures, and runs tasks.
    pub figures: Figures,
    /// What happens.
    pub events: Arc<Events>,
    /// Takes transactions.
    pub pool: Sender<pool::Input>,
    /// Moves of the tip, counted.
    pub moves: Moves,
}

impl Api {
    fn new(config: &Config, others: Others, token: &str, data: &Path) -> Result<Self, NodeError> {
        let Others { models, views, figures, events, pool, moves } = others;
        let newest = views.newest();
        Ok(Self {
            orders: Orders::open(config.payer.clone(), &newest, figures.clock.clone(), data.join(SENT_FOLDER))?,
            models: Models::new(models, newest.rows.store()),
            metrics: Metrics::new(Arc::clone(&views), figures.clone(), moves),
            views,
            figures,
            events,
            pool,
            guard: Guard::new(config, token),
            bodies: Bodies::new(config.timeouts),
            pictures: Pictures::default(),
        })
    }

    fn router(self: &Arc<Self>) -> Router {
        let api = Arc::clone(self);
        let group = |routes: OpenApiRouter<Arc<Self>>, access| {
            routes.route_layer(from_fn_with_state((Arc::clone(&api), access), guard::admit))
        };
        let open = OpenApiRouter::new()
            .routes(routes!(models::list))
            .routes(routes!(models::one))
            .routes(routes!(models::file))
            .routes(routes!(chain::status))
            .routes(routes!(chain::blocks))
            .routes(routes!(chain::block))
            .routes(routes!(chain::transaction))
            .routes(routes!(chain::account))
            .routes(routes!(history::history))
            .routes(routes!(chain::mempool))
            .routes(routes!(chain::fees))
            .routes(routes!(events::events))
            .routes(routes!(v2::server))
            .routes(routes!(v2::live))
            .routes(routes!(v2::ready))
            .routes(routes!(v2::model_ready))
            .routes(routes!(v2::metadata))
            .routes(routes!(v2::config))
            .routes(routes!(v2::repository))
            // The same with a version, which clients may name.
            .route("/v2/models/{model}/versions/{version}", get(v2::metadata))
            .route("/v2/models/{model}/versions/{version}/ready", get(v2::model_ready))
            .route("/v2/models/{model}/versions/{version}/config", get(v2::config));
        let local = OpenApiRouter::new()
            .routes(routes!(chain::peers))
            .routes(routes!(orders::wallet))
            .routes(routes!(metrics::metrics))
            .routes(routes!(submit::submit))
            .routes(routes!(classify::classify))
            .routes(routes!(v2::infer))
            .route("/v2/models/{model}/versions/{version}/infer", post(v2::infer));
        let (router, openapi) = OpenApiRouter::with_openapi(openapi::begin())
            .merge(group(open, Access::Open))
            .merge(group(local, Access::Local))
            .split_for_parts();
        let openapi = openapi::answer(openapi);
        let router = router
            .route(
                OPENAPI,
                get(|| async { openapi })
                    .route_layer(from_fn_with_state((Arc::clone(self), Access::Open), guard::admit)),
            )
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .layer(CatchPanicLayer::custom(problem::of_panic))
            .layer(from_fn_with_state(Arc::clone(&api), guard::check))
            .layer(from_fn_with_state(Arc::clone(&api), metrics::count));
        // Without pages that are let in, browsers are told nothing.
        let router = match api.guard.cors() {
            Some(cors) => router.layer(cors),
            None => router,
        };
        router.with_state(api)
    }
}

async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("found no {}", uri.path())).with_hint("/openapi.json lists what there is")
}

async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::new(Kind::Method, format!("{} does not take {method}", uri.path()))
        .with_hint("/openapi.json lists what there is")
}
