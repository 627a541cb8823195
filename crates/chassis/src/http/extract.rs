//! Extractors that reject a request with a problem.

use std::error::Error;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::decode::{decode, query_violation};
use super::idempotency::IdempotencyKey;
use super::memory::NoRoom;
use super::metered;
use super::problem::Problem;

/// Maximum size of a request's body.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Maximum time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body of at most `MAX_BYTES` bytes, 256 KiB by default. Answers 400 if it is not JSON, and
/// 422 that names the field if a field is unknown, missing or malformed.
#[derive(Clone, Copy, Debug)]
pub struct Json<T, const MAX_BYTES: usize = MAX_BODY_BYTES>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const MAX_BYTES: usize> FromRequest<S>
    for Json<T, MAX_BYTES>
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        Ok(Self(decode(&read(body, MAX_BYTES).await?)?))
    }
}

/// A JSON body with the request's `Idempotency-Key`. `Submission<()>` accepts no body, or `{}`.
#[derive(Clone, Debug)]
pub struct Submission<T> {
    /// The body.
    pub body: T,
    /// The key, if the caller gave one.
    pub key: Option<IdempotencyKey>,
}

/// The body of a `Submission<()>`: empty, or an object without members.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Submission<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, MAX_BODY_BYTES).await?;
        let key = IdempotencyKey::of(&parts, &bytes)?;
        let members = bytes.trim_ascii().strip_prefix(b"{").and_then(|it| it.strip_suffix(b"}"));
        let nothing = bytes.is_empty() || members.is_some_and(|it| it.trim_ascii().is_empty());
        let unit = if nothing { serde_json::from_str("null").ok() } else { None };
        let body = if let Some(unit) = unit {
            unit
        } else {
            require_json(&parts.headers)?;
            decode(&bytes)?
        };
        Ok(Self { body, key })
    }
}

/// Reads a body within a limit of bytes and of time.
pub(crate) async fn read(body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    let copied = tokio::time::timeout(BODY_TIMEOUT, copy(Limited::new(body, max_bytes))).await;
    match copied {
        Ok(Ok(body)) => Ok(body.into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::too_large(format!("the body may have at most {max_bytes} bytes")))
        }
        Ok(Err(error)) if metered::is_for_lack_of_room(&error) => Err(NoRoom.into()),
        Ok(Err(_)) => Err(Problem::bad_request("the body is incomplete; send all of it")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "Request timeout",
            format!("the body must arrive within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// Copies a body into one buffer, which grows as bytes arrive. A frame is a view into a read buffer
/// of hyper, of 8 KiB and more, and keeps it allocated even for a single byte. So stored frames
/// could take thousands of times the memory that is counted.
async fn copy(mut body: Limited<Body>) -> Result<Vec<u8>, BoxError> {
    let mut copied = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            copied.extend_from_slice(&data);
        }
    }
    Ok(copied)
}

/// Returns the media type of the body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if media_type(headers).eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
        "send JSON, with content-type: application/json",
    ))
}

/// Query string. A malformed one answers 400 that names the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|rejection| {
            // The cause names the parameter.
            let cause =
                rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
            Problem::bad_request(query_violation(&cause))
        })
    }
}

/// Path parameters. A malformed id answers 404, like an unknown one.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection| match rejection {
            PathRejection::FailedToDeserializePathParams(error)
                if !matches!(error.kind(), ErrorKind::UnsupportedType { .. }) =>
            {
                Problem::not_found("there is no such id; ids are UUIDs")
            }
            other => Problem::internal(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures::stream;

    use super::*;

    /// A read buffer of a connection. Holds a clone of `allocated` until it is freed.
    struct ReadBuffer {
        bytes: [u8; 8192],
        _allocated: Arc<()>,
    }

    impl AsRef<[u8]> for ReadBuffer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[tokio::test]
    async fn a_body_sent_byte_by_byte_keeps_no_read_buffer() {
        let allocated = Arc::new(());
        let frames = (0..1_000).map(move |_| {
            assert_eq!(Arc::strong_count(&allocated), 1, "the previous buffer is freed");
            let buffer = ReadBuffer { bytes: [b' '; 8192], _allocated: Arc::clone(&allocated) };
            Ok::<_, Infallible>(Bytes::from_owner(buffer).slice(..1))
        });
        let body = read(Body::from_stream(stream::iter(frames)), 1_000).await.expect("a body");
        assert_eq!(body, " ".repeat(1_000));
    }
}
