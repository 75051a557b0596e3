//! What handlers give.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use ocelli_program::output::to_json;
use serde::Serialize;

/// JSON in which no number exceeds what doubles hold: see [`ocelli_program::output`].
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match to_json(&self.0) {
            Ok(mut text) => {
                text.push(b'\n');
                ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "an answer of the API cannot be written as JSON");
                axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
