//! `/openapi.json`: the routes as OpenAPI 3.1, from the annotations of the handlers.
//!
//! By utoipa, because its document is made by the same macro that gives a handler its path: a route that is not described does
//! not exist.

use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder};

/// What the document says beside its routes.
pub(super) fn begin() -> OpenApi {
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let mut info = Info::new("Ocelli", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("A node of Ocelli over HTTP. Problems are RFC 9457 documents; docs/api.md tells the rest.".into());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(ComponentsBuilder::new().security_scheme("token", token).build()))
        .build()
}

/// The document, for whoever asks.
pub(super) fn answer(openapi: &OpenApi) -> impl IntoResponse + Clone + use<> {
    let text = openapi.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the API cannot be described");
        "{}".into()
    });
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text)
}
