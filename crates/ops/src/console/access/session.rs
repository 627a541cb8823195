use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::client::Token;
use crate::console::Notice;

/// The operator of a request. The services check the token at every change.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    token: Token,
    name: Option<String>,
    is_signed_in: bool,
    /// Result of the last action.
    notice: Option<Notice>,
}

impl Session {
    pub(super) fn signed_in(token: Token, name: Option<String>) -> Self {
        Self { token, name, is_signed_in: true, notice: None }
    }

    /// Returns the session of a program that sent a token.
    pub(super) fn of_bearer(token: &str) -> Self {
        Self { token: Token(token.to_owned()), name: None, is_signed_in: false, notice: None }
    }

    /// Returns the session without sign-in, which has the server's own token.
    pub(super) fn of_server(token: Token) -> Self {
        Self { token, name: None, is_signed_in: false, notice: None }
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Returns the operator's name, if the services returned it at sign-in.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn with_notice(self, notice: Option<Notice>) -> Self {
        Self { notice, ..self }
    }

    pub(crate) fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    pub(crate) fn is_signed_in(&self) -> bool {
        self.is_signed_in
    }
}

/// Parses the token of an `Authorization` header. The scheme is case-insensitive (RFC 9110, section
/// 11.1).
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // `require_session` has inserted it.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}
