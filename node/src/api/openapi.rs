//! `/openapi.json`: the routes as OpenAPI 3.1, from the annotations of the handlers.
//!
//! By utoipa, because its document is made by the same macro that gives a handler its path: a route that is not described does
//! not exist. Problems are described here, as they are the same everywhere: a handler says only what one means there.

use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use utoipa::ToSchema as _;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, Header, Info, Object, OpenApi, OpenApiBuilder, Ref, RefOr, Response, Type,
};

use super::problem::{CONTENT_TYPE, Document};

/// What any request may come to.
const PROBLEMS: [(&str, &str); 2] = [("4XX", "The request cannot be answered"), ("503", "Too much waits: ask again")];

/// What the document says beside its routes.
pub(super) fn begin() -> OpenApi {
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let mut info = Info::new("Ocelli", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("A node of Ocelli over HTTP. Problems are RFC 9457 documents; docs/api.md tells the rest.".into());
    let components = ComponentsBuilder::new().security_scheme("token", token).schema_from::<Document>();
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// The document, for whoever asks.
pub(super) fn answer(mut openapi: OpenApi) -> impl IntoResponse + Clone + use<> {
    describe_problems(&mut openapi);
    let text = openapi.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the API cannot be described");
        "{}".into()
    });
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text)
}

fn describe_problems(openapi: &mut OpenApi) {
    let document = Content::new(Some(Ref::from_schema_name(Document::name())));
    let mut seconds = Header::new(Object::with_type(Type::Integer));
    seconds.description = Some("Seconds".into());
    let paths = openapi.paths.paths.values_mut();
    for operation in paths.flat_map(|path| [&mut path.get, &mut path.post]).flatten() {
        let responses = &mut operation.responses.responses;
        for (status, what) in PROBLEMS {
            responses.entry(status.into()).or_insert_with(|| RefOr::T(Response::new(what)));
        }
        for (status, response) in responses {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
            {
                response.content.insert(CONTENT_TYPE.into(), RefOr::T(document.clone()));
                if ["429", "503"].contains(&status.as_str()) {
                    response.headers.insert("retry-after".into(), RefOr::T(seconds.clone()));
                }
            }
        }
    }
}
