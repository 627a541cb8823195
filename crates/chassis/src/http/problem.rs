use std::error::Error;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pg::ErrorClass;
use serde_json::json;

/// Maximum length of a detail, in bytes. Errors may quote what they refuse, and a request has
/// reserved memory for a small response (`request::RESERVED`): JSON takes up to 6 bytes for one.
const MAX_DETAIL: usize = 2_048;

/// An error as the caller sees it (RFC 9457). Its cause is logged and never returned.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), chassis::Problem> {
/// use chassis::Problem;
///
/// // `?` on an error of sqlx is a 503 if the database is unavailable, and else a 500.
/// let shipped: bool = sqlx::query_scalar("select shipped from parcels").fetch_one(&pool).await?;
/// if shipped {
///     return Err(Problem::conflict("a parcel that was shipped can't be cancelled")); // a 409
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

macro_rules! shorthands {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $title:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(detail: impl Into<String>) -> Self {
            Self::new(StatusCode::$status, $title, detail)
        })*
    };
}

impl Problem {
    /// Creates a problem. `detail` tells the caller how to avoid it; if it is longer than 2,048
    /// bytes, its middle is left out.
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: shortened(detail.into()), header: None }
    }

    shorthands! {
        /// Creates a 400: the request is malformed.
        bad_request = BAD_REQUEST, "Bad request";
        /// Creates a 401: the key is missing or unknown.
        unauthorized = UNAUTHORIZED, "Unauthorized";
        /// Creates a 404: the resource does not exist for this tenant.
        not_found = NOT_FOUND, "Not found";
        /// Creates a 409: the request conflicts with the state of the resource.
        conflict = CONFLICT, "Conflict";
        /// Creates a 412: the resource was changed since it was read.
        precondition_failed = PRECONDITION_FAILED, "Precondition failed";
        /// Creates a 413: the body is too large.
        too_large = PAYLOAD_TOO_LARGE, "Content too large";
        /// Creates a 422: the request is well-formed and breaks a rule.
        unprocessable = UNPROCESSABLE_ENTITY, "Invalid request";
        /// Creates a 428: the request must name the version that it changes.
        precondition_required = PRECONDITION_REQUIRED, "Precondition required";
    }

    /// Creates a 500 and logs the error with all its causes.
    pub fn internal(error: impl Error + 'static) -> Self {
        Self::internal_because(&error)
    }

    fn internal_because(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal server error",
            "the service failed; report this correlation_id, which identifies the request in its logs",
        )
    }

    /// Creates a 405. The router adds the `Allow` header.
    pub(crate) fn method_not_allowed() -> Self {
        let title = "Method not allowed";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            title,
            "this path does not support the method; the Allow header lists those it supports",
        )
    }

    /// Returns the problem for an error response without a JSON body, and `None` for every other
    /// response.
    pub(super) fn of_bare_error(response: &Response) -> Option<Self> {
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let is_json = content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/"));
        if is_json || !(status.is_client_error() || status.is_server_error()) {
            return None;
        }
        let title = status.canonical_reason().unwrap_or("Error");
        Some(Self::new(
            status,
            title,
            "the request failed; its correlation_id identifies it in the logs of the service",
        ))
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Sets the additional header. There is one at most, so it replaces an earlier one.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// Sets `Retry-After`, in seconds, as the additional header.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.header = Some((header::RETRY_AFTER, seconds.into()));
        self
    }

    /// Returns the body of the response.
    pub(super) fn body(&self, correlation_id: &str) -> String {
        let body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "correlation_id": correlation_id,
        });
        body.to_string()
    }

    /// Renders the response. Called by the outermost layer, which knows the correlation id.
    pub(crate) fn render(&self, correlation_id: &str) -> Response {
        let content_type = (header::CONTENT_TYPE, "application/problem+json");
        let body = self.body(correlation_id);
        let mut response = (self.status, [content_type], body).into_response();
        if let Some((name, value)) = &self.header {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Leaves out the middle of a detail that is too long: its end tells what was expected.
fn shortened(detail: String) -> String {
    const GAP: &str = " … ";
    if detail.len() <= MAX_DETAIL {
        return detail;
    }
    let head = detail.floor_char_boundary(MAX_DETAIL / 2);
    let tail = detail.ceil_char_boundary(detail.len() - (MAX_DETAIL / 2 - GAP.len()));
    format!("{}{GAP}{}", &detail[..head], &detail[tail..])
}

/// Passes the problem on to the layer that renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

/// Converts an error that several requests share.
impl From<&sqlx::Error> for Problem {
    fn from(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.as_deref() == Some("55P03") {
            return Self::conflict(
                "another request that changes the same resource or has the same Idempotency-Key is in \
                 flight; try again",
            )
            .with_header(header::RETRY_AFTER, "1");
        }
        let why = match pg::classify(error) {
            ErrorClass::Unavailable => {
                tracing::error!(error = error as &dyn Error, "database unavailable");
                "the database is temporarily unavailable"
            }
            // An operator has to grant the missing privilege; callers can only try again.
            ErrorClass::Denied => {
                tracing::error!(error = error as &dyn Error, "database denied a statement");
                "the database is temporarily unavailable"
            }
            ErrorClass::Conflict => {
                tracing::warn!(error = error as &dyn Error, "statement timed out or conflicted");
                "the request timed out or conflicted with another one"
            }
            ErrorClass::Data | ErrorClass::Other => return Self::internal_because(error),
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            format!("{why}; try again, with the same Idempotency-Key if you sent one"),
        )
        .with_header(header::RETRY_AFTER, "1")
    }
}

#[cfg(test)]
mod tests {
    use super::super::shares::SMALL;
    use super::*;

    #[test]
    fn a_problem_fits_into_what_every_request_has_reserved() {
        for filler in ["x", "\u{1}", "\\", "\"", "ä", "🦀"] {
            let detail = format!("items: {}, expected an array", filler.repeat(262_000));
            let problem = Problem::unprocessable(detail);
            assert!(problem.detail().len() <= MAX_DETAIL, "{}", problem.detail().len());
            let body = problem.body(&"c".repeat(128));
            assert!(body.len() + 1_024 < SMALL, "{} bytes of {filler:?}", body.len());
            assert!(body.contains("items: ") && body.contains("expected an array"), "{body}");
        }
        assert_eq!(Problem::unprocessable("a b").detail(), "a b");
    }
}
