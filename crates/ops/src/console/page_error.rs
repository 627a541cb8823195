//! Errors as pages: which service did not answer, and what to do.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use super::filters;
use super::layout::Page;
use crate::error::{Error, with_cause};

/// A page can't be shown, or a change was not made.
#[derive(Debug)]
pub(crate) struct PageError {
    status: StatusCode,
    /// The error in a sentence.
    pub(crate) message: String,
    /// The next step for the operator.
    pub(crate) advice: Option<String>,
    /// Whether a service rejected the token.
    wants_sign_in: bool,
}

impl PageError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), advice: None, wants_sign_in: false }
    }

    /// Creates a 400: the request is malformed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// Returns the error in the layout of the given page.
    pub(crate) fn response(self, page: Page) -> Response {
        let status = self.status;
        let template = ErrorPage { page, error: self };
        match template.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "page not rendered");
                (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be rendered.\n")
                    .into_response()
            }
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    page: Page,
    error: PageError,
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Problem { status: 401, .. } => StatusCode::FORBIDDEN,
            Error::Problem { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            Error::Refused(_) => StatusCode::BAD_REQUEST,
            error if error.is_not_found() => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        };
        let advice = match &error {
            Error::Problem { status: 401, service, .. } => Some(format!(
                "Sign in with a token of {service}'s OPERATOR_TOKENS, or give one to this server as OPERATOR_TOKEN."
            )),
            error => error.advice(),
        };
        let wants_sign_in = error.is_unauthorized();
        Self { advice, wants_sign_in, ..Self::new(status, with_cause(&error)) }
    }
}

impl From<askama::Error> for PageError {
    fn from(error: askama::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "page not rendered");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be rendered.")
    }
}

/// For handlers without a page. The layout links to the overview.
impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.response(Page::bare("Something went wrong"))
    }
}
