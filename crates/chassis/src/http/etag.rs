//! Entity tags and the conditions that name them (RFC 9110, sections 8.8.3 and 13.1).

use std::fmt;

use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponseParts, Response, ResponseParts};

use super::problem::Problem;

/// A strong entity tag: two representations with the same tag have the same bytes. As a part of a
/// response it sets `ETag`; a `GET` whose `If-None-Match` names it is answered with 304.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ETag(String);

impl ETag {
    /// Returns the tag of a version of a resource, such as `"3"`.
    pub fn of_version(version: i64) -> Self {
        Self(format!("\"{version}\""))
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ETag> for String {
    fn from(etag: ETag) -> Self {
        etag.0
    }
}

impl IntoResponseParts for ETag {
    type Error = Problem;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Problem> {
        let value = HeaderValue::try_from(self.0).map_err(Problem::internal)?;
        response.headers_mut().insert(ETAG, value);
        Ok(response)
    }
}

/// Versions that a request may change, from `If-Match`. As an extractor it fails with 428 if the
/// header is missing; `Option<IfMatch>` is `None` then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IfMatch {
    /// `*`: every version.
    Any,
    /// One of these. Weak tags are left out, because they never match in a strong comparison.
    OneOf(Vec<ETag>),
}

/// A field value that is neither `*` nor a list of entity tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("If-Match must be * or a list of entity tags in double quotes, as the ETag was: \"1\"")]
struct Malformed;

impl IfMatch {
    /// Checks that the request names the resource's version.
    ///
    /// # Errors
    /// Fails with 412 if it does not.
    pub fn check(&self, current: &ETag) -> Result<(), Problem> {
        let matches = match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(current),
        };
        if matches {
            return Ok(());
        }
        Err(Problem::precondition_failed(format!(
            "the resource has changed and has the ETag {current}; read it again"
        )))
    }

    /// Reads the header. Returns `None` if it is missing.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let Some(list) = field(headers, &IF_MATCH)? else { return Ok(None) };
        let Some(tags) = tags(&list)? else { return Ok(Some(Self::Any)) };
        let strong = tags.into_iter().filter(|tag| !tag.is_weak);
        Ok(Some(Self::OneOf(strong.map(|tag| ETag(tag.quoted.to_owned())).collect())))
    }

    fn of(parts: &Parts) -> Result<Option<Self>, Problem> {
        Self::read(&parts.headers).map_err(|malformed| Problem::bad_request(malformed.to_string()))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(parts)?.ok_or_else(|| {
            Problem::precondition_required(
                "If-Match is missing; send the ETag of the version to change",
            )
        })
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::of(parts)
    }
}

/// Representations that the caller already has, as listed in `If-None-Match`. Empty for methods
/// other than `GET` and `HEAD` and for a malformed field: the caller then gets the full response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum IfNoneMatch {
    Any,
    OneOf(Vec<String>),
}

impl IfNoneMatch {
    pub(super) fn of(request: &Request) -> Self {
        let none = Self::OneOf(Vec::new());
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return none;
        }
        let Ok(Some(list)) = field(request.headers(), &IF_NONE_MATCH) else { return none };
        match tags(&list) {
            Ok(None) => Self::Any,
            Ok(Some(tags)) => Self::OneOf(tags.iter().map(|tag| tag.quoted.to_owned()).collect()),
            Err(Malformed) => none,
        }
    }

    /// Returns a 304 in place of a representation that the caller has, and every other response
    /// unchanged.
    pub(super) fn answer(&self, mut response: Response) -> Response {
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let Some(etag) = etag.filter(|_| response.status() == StatusCode::OK) else {
            return response;
        };
        // The comparison is weak (section 13.1.2).
        let opaque = etag.strip_prefix("W/").unwrap_or(etag);
        let is_known = match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|tag| tag == opaque),
        };
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        response
    }
}

/// Returns the value of a field, or `None` if the request does not have it. Joins several lines to
/// one list.
fn field(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Malformed> {
    let mut lines = Vec::new();
    for line in headers.get_all(name) {
        lines.push(line.to_str().map_err(|_| Malformed)?);
    }
    Ok(if lines.is_empty() { None } else { Some(lines.join(",")) })
}

#[derive(Clone, Copy)]
struct Tag<'a> {
    is_weak: bool,
    /// Value with its quotes.
    quoted: &'a str,
}

/// Returns the tags of a list, or `None` if it is `*`.
fn tags(list: &str) -> Result<Option<Vec<Tag<'_>>>, Malformed> {
    let blank = [' ', '\t'];
    if list.trim_matches(blank) == "*" {
        return Ok(None);
    }
    let mut tags = Vec::new();
    // Empty elements are allowed between commas (section 5.6.1.2).
    let mut rest = list.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
        let inner = quoted.strip_prefix('"').ok_or(Malformed)?;
        let end = inner.find('"').ok_or(Malformed)?;
        // An entity tag must not contain blanks (RFC 9110, 8.8.3).
        if inner[..end].contains(blank) {
            return Err(Malformed);
        }
        tags.push(Tag { is_weak, quoted: &quoted[..end + 2] });
        let after = inner[end + 1..].trim_start_matches(blank);
        if !after.is_empty() && !after.starts_with(',') {
            return Err(Malformed);
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    if tags.is_empty() { Err(Malformed) } else { Ok(Some(tags)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(list: &str) -> Result<IfMatch, Malformed> {
        let mut headers = HeaderMap::new();
        headers.append(IF_MATCH, list.parse().expect("a value"));
        IfMatch::read(&headers).map(|it| it.expect("the header is there"))
    }

    #[test]
    fn a_list_of_tags_is_read() {
        for (list, versions) in [
            ("\"1\"", &[1][..]),
            (" \"1\" ,\t\"3\"", &[1, 3]),
            (",\"2\",,", &[2]),
            ("\"a,b\", \"2\"", &[2]),
            ("W/\"1\"", &[]),
            ("W/\"1\", \"2\"", &[2]),
            ("\"\"", &[]),
            ("*", &[1, 2, 3, 4]),
        ] {
            let condition = if_match(list).expect(list);
            let is_matched = |n: &i64| condition.check(&ETag::of_version(*n)).is_ok();
            assert_eq!((1..5).filter(is_matched).collect::<Vec<i64>>(), versions, "{list}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for list in [
            "",
            " ",
            ",",
            "1",
            "\"1",
            "1\"",
            "\"1\" \"2\"",
            "\"1\"x",
            "w/\"1\"",
            "\"1 2\"",
            "*, \"1\"",
        ] {
            assert_eq!(if_match(list), Err(Malformed), "{list:?}");
        }
    }

    #[test]
    fn field_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(IfMatch::read(&headers), Ok(None));
        headers.append(IF_MATCH, "\"1\"".parse().expect("a value"));
        headers.append(IF_MATCH, "\"4\"".parse().expect("a value"));
        let tags = [1, 4].map(ETag::of_version).to_vec();
        assert_eq!(IfMatch::read(&headers), Ok(Some(IfMatch::OneOf(tags))));
    }

    fn status(method: Method, if_none_match: &str, response: Response) -> StatusCode {
        let request = Request::builder().method(method).header(IF_NONE_MATCH, if_none_match);
        IfNoneMatch::of(&request.body(Body::empty()).expect("a request")).answer(response).status()
    }

    #[test]
    fn a_representation_that_the_caller_has_is_not_sent_again() {
        let response = |status: StatusCode, etag: &'static str| {
            Response::builder().status(status).header(ETAG, etag).body(Body::from("{}"))
        };
        let of = |method, known, status_code, etag| {
            status(method, known, response(status_code, etag).expect("a response"))
        };
        let (ok, not_modified) = (StatusCode::OK, StatusCode::NOT_MODIFIED);
        for known in ["\"1\"", "\"7\", W/\"1\"", "*"] {
            assert_eq!(of(Method::GET, known, ok, "\"1\""), not_modified, "{known}");
            assert_eq!(of(Method::HEAD, known, ok, "W/\"1\""), not_modified, "{known}");
        }
        for known in ["\"2\"", "1", ""] {
            assert_eq!(of(Method::GET, known, ok, "\"1\""), ok, "{known}");
        }
        assert_eq!(of(Method::POST, "*", ok, "\"1\""), ok);
        assert_eq!(of(Method::GET, "*", StatusCode::NOT_FOUND, "\"1\""), StatusCode::NOT_FOUND);
    }
}
