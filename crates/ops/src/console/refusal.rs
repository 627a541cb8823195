//! An act that failed leads back to its page, which says why: its filters and the rest of it stay.

use axum::response::Response;

use crate::console::{Fields, Said};
use crate::error::{Error, with_cause};

/// Leads back, and says why nothing was done and what to do. A detail may have a line for each violation.
pub(crate) fn refused(error: &Error, fields: &Fields, otherwise: &str) -> Response {
    let mut text = match error {
        Error::Problem { detail, .. } => detail.clone(),
        error => with_cause(error),
    };
    if let Error::Problem { status: 401, service, .. } = error {
        text =
            format!("{service} does not know your token. Sign in with one of its OPERATOR_TOKENS.");
    } else if let Some(advice) = error.advice() {
        text = format!("{text}\n{advice}");
    }
    Said::bad(text).back(fields, otherwise)
}

/// Does the same for a request to start a replay. Without an answer it may have started.
pub(crate) fn not_started(error: &Error, fields: &Fields, otherwise: &str) -> Response {
    if !matches!(error, Error::Unreachable { .. }) {
        return refused(error, fields, otherwise);
    }
    let text = "Whether it was started is unknown: look at the replays before you try again.";
    Said::bad(format!("{}\n{text}", with_cause(error))).back(fields, otherwise)
}

/// Returns the reason that an operator gave. Services refuse a change without one.
pub(crate) fn why(fields: &Fields) -> Result<&str, Error> {
    fields.one("why").ok_or_else(|| Error::Refused("Say why: it is kept with your name.".into()))
}
