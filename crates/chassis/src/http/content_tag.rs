//! Weak entity tags, derived from the content, for responses whose handler sets none.

use std::fmt::Write;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// Maximum size of a response with a tag: hashing larger ones takes too long.
const MAX_BYTES: usize = 256 * 1024;
/// Number of bytes of the hash in a tag.
const SHOWN: usize = 16;

/// Adds the tag to the JSON response of a read, if its size is known and at most [`MAX_BYTES`].
pub(super) async fn tag(response: Response) -> Response {
    if !takes_tag(&response) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match to_bytes(body, MAX_BYTES).await {
        Ok(body) => body,
        Err(error) => return Problem::internal(error).into_response(),
    };
    if let Ok(tag) = HeaderValue::try_from(weak_tag(&body)) {
        head.headers.insert(ETAG, tag);
    }
    Response::from_parts(head, Body::from(body))
}

fn takes_tag(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    response.status() == StatusCode::OK
        && !response.headers().contains_key(ETAG)
        && content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/json"))
        // The content of a response to HEAD is unknown.
        && size.is_some_and(|size| (1..=MAX_BYTES).contains(&size))
}

/// Returns a weak tag, since proxies may compress the content.
fn weak_tag(content: &[u8]) -> String {
    let mut tag = String::from("W/\"");
    for byte in Sha256::digest(content).iter().take(SHOWN) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tag_of(content_type: &str, status: u16, body: Body) -> Option<String> {
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        let tagged = tag(response.body(body).expect("a response")).await;
        tagged.headers().get(ETAG).map(|tag| tag.to_str().expect("text").to_owned())
    }

    #[tokio::test]
    async fn what_is_read_as_json_has_a_tag_of_its_content() {
        let json = "application/json";
        let tag = tag_of(json, 200, "{}".into()).await.expect("a tag");
        assert!(tag.starts_with("W/\"") && tag.len() == 2 + 2 + 2 * SHOWN, "{tag}");
        assert_eq!(tag_of(json, 200, "{}".into()).await, Some(tag.clone()));
        assert_ne!(tag_of(json, 200, "[]".into()).await, Some(tag));
        assert_eq!(tag_of(json, 201, "{}".into()).await, None);
        assert_eq!(tag_of("text/plain", 200, "{}".into()).await, None);
        assert_eq!(tag_of(json, 200, vec![b' '; MAX_BYTES + 1].into()).await, None);
        let stream = Body::new(http_body_util::StreamBody::new(futures::stream::iter([Ok::<
            _,
            std::convert::Infallible,
        >(
            hyper::body::Frame::data("{}".into()),
        )])));
        assert_eq!(tag_of(json, 200, stream).await, None);
    }
}
