//! Responses to failed acts: they lead back to the page, which keeps its filters and shows the
//! error.

use axum::response::Response;

use crate::console::{Fields, Notice};
use crate::error::{Error, with_cause};

/// Leads back with the error and what to do.
pub(crate) fn refused(error: &Error, fields: &Fields, otherwise: &str) -> Response {
    Notice::bad(explained(error)).back(fields, otherwise)
}

/// Returns the text of an error, and what to do. A detail may have one line per violation.
pub(crate) fn explained(error: &Error) -> String {
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
    text
}

/// Does the same as [`refused`] for a request to start a replay. Without a response the replay may
/// have started.
pub(crate) fn not_started(error: &Error, fields: &Fields, otherwise: &str) -> Response {
    Notice::bad(may_have_started(error)).back(fields, otherwise)
}

/// Returns the text of the error of such a request, and what to do.
pub(crate) fn may_have_started(error: &Error) -> String {
    if !matches!(error, Error::Unreachable { .. }) {
        return explained(error);
    }
    let text = "It is unknown whether it was started: look at the replays before you try again.";
    format!("{}\n{text}", with_cause(error))
}

/// Returns the operator's reason. Services refuse a change without one.
pub(crate) fn why(fields: &Fields) -> Result<&str, Error> {
    fields
        .one("why")
        .ok_or_else(|| Error::Refused("Give a reason: it is recorded with your name.".into()))
}
