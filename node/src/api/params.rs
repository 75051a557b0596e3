//! What handlers take from addresses.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::problem::{Kind, Problem};

/// What stands behind the `?` of an address.
pub(super) struct Params<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| {
            Problem::new(Kind::Request, format!("what stands behind the ? is wrong: {}", reason(&error.body_text())))
        })?;
        Ok(Self(params))
    }
}

/// Without what axum says of itself.
fn reason(text: &str) -> &str {
    text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text)
}

/// What of an address is a name.
pub(super) struct InPath<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(names) = path.map_err(|error| Problem::new(Kind::Request, error.body_text()))?;
        Ok(Self(names))
    }
}

/// A parameter that is a text with a meaning.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// A parameter that is on or off: `1` or `0`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "1" => Ok(true),
        "0" => Ok(false),
        other => Err(D::Error::custom(format!("found {other:?}, expected 1 or 0"))),
    }
}
