//! Errors, and how the command prints them.

use std::io::{self, Write, stderr};

use kafka::rdkafka::error::KafkaError;

use crate::plain::plain;

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There was no response: the connection was refused or reset, or timed out.
    #[error("{service} does not answer {request}")]
    Unreachable { service: String, request: String, source: reqwest::Error },
    /// A problem (RFC 9457). `detail` is the sentence for the caller.
    #[error("{detail}")]
    Problem { service: String, status: u16, detail: String },
    /// A response that is not one of the admin API.
    #[error(
        "{service} answered {request} with {status}, which is not a response of its admin API: {answer}"
    )]
    Answer { service: String, request: String, status: u16, answer: String },
    #[error("{doing}")]
    Kafka { doing: String, source: KafkaError },
    /// The arguments can't be used. The text says what to change.
    #[error("{0}")]
    Refused(String),
    #[error("read or write")]
    Io(#[from] io::Error),
}

impl Error {
    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        |source| Self::Kafka { doing, source }
    }

    /// Returns `true` if a later request may succeed: the service is unreachable, restarting or
    /// without its database.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem { status, .. } | Self::Answer { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Returns `true` if the service does not know the token.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Problem { status: 401, .. })
    }

    /// Returns `true` if the service knows no such id, group or path.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Problem { status: 404, .. } | Self::Answer { status: 404, .. })
    }

    /// Returns `true` if the arguments are wrong or name something unknown.
    fn is_usage(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Problem { status, .. } => matches!(status, 400 | 404 | 422),
            Self::Answer { status, .. } => *status == 404,
            _ => false,
        }
    }

    /// Returns what to do next, unless the error contains it.
    pub(crate) fn advice(&self) -> Option<String> {
        match self {
            Self::Kafka { .. } => {
                Some("check --brokers (KAFKA_BROKERS), and --topic if it was given, then try again".into())
            }
            Self::Problem { service, status: 401, .. } => Some(format!(
                "set OPERATOR_TOKEN, or give --token, to a token of {service}'s OPERATOR_TOKENS"
            )),
            Self::Problem { status: 404, .. } => Some(
                "`orderflow dlq list`, `dlq groups`, `dlq replays`, `jobs list` and `subscriptions` show what there is"
                    .into(),
            ),
            Self::Answer { service, status: 404, .. } => Some(format!(
                "check ORDERFLOW_SERVICES or --admin: {service}'s URL must be that of its admin port"
            )),
            Self::Problem { service, .. } if self.is_unavailable() => {
                Some(format!("check {service}'s /readyz and its log, then try again"))
            }
            Self::Refused(_) | Self::Io(_) | Self::Problem { .. } => None,
            Self::Unreachable { service, .. } | Self::Answer { service, .. } => Some(format!(
                "check that {service} runs and that ORDERFLOW_SERVICES or --admin has its admin port, then try again"
            )),
        }
    }
}

/// An error and the step in which it occurred.
#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    error: Box<Error>,
}

impl Failure {
    pub(crate) fn new(step: impl Into<String>, error: impl Into<Error>) -> Self {
        Self { step: step.into(), error: Box::new(error.into()) }
    }

    /// Returns the exit status: 2 if the arguments are wrong or name something unknown, else 1.
    pub(crate) fn exit_status(&self) -> u8 {
        if self.error.is_usage() { 2 } else { 1 }
    }

    /// Prints the step, the chain of causes and the advice to standard error.
    pub(crate) fn print(&self) {
        complain(&self.to_text());
    }

    fn to_text(&self) -> String {
        let mut lines = vec![format!("orderflow: could not {}", plain(&self.step))];
        // A detail may quote a payload, and may have one line per violation.
        lines.extend(self.error.to_string().lines().map(|line| format!("  {}", plain(line))));
        if let Some(cause) = root_cause(&self.error) {
            lines.push(format!("  because: {}", plain(&cause)));
        }
        if let Some(advice) = self.error.advice() {
            lines.push(format!("\nNext: {advice}"));
        }
        lines.join("\n")
    }
}

/// Returns the root cause of an error. The causes in between only repeat the URL and name functions
/// of the client.
fn root_cause(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error)?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

/// Prints the services that did not answer to standard error. Returns the exit status: 1 if there
/// are any.
pub(crate) fn name_unavailable(unavailable: &[(String, Error)]) -> u8 {
    for (_, error) in unavailable {
        complain(&format!("{}; its data is missing here", with_cause(error)));
    }
    u8::from(!unavailable.is_empty())
}

/// Returns the error with its root cause in parentheses, on one line.
pub(crate) fn with_cause(error: &Error) -> String {
    let cause = root_cause(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    plain(&format!("{error}{cause}"))
}

/// Prints a line to standard error. Ignores a closed standard error, on which `eprintln!` panics.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Adds the step in which an error occurred.
pub(crate) trait StepContext<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> StepContext<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16) -> Error {
        let detail = "value: \u{1b}[2J is not of type object\nwhy: missing".to_owned();
        Error::Problem { service: "billing".into(), status, detail }
    }

    #[test]
    fn the_exit_status_tells_usage_from_failure() {
        for (status, exit) in [(400, 2), (404, 2), (422, 2), (401, 1), (409, 1), (503, 1)] {
            assert_eq!(Failure::new("replay", problem(status)).exit_status(), exit, "{status}");
        }
        assert_eq!(Failure::new("replay", Error::Refused("give --yes".into())).exit_status(), 2);
    }

    #[test]
    fn a_detail_can_not_control_the_terminal() {
        let text = Failure::new("edit it", problem(422)).to_text();
        assert_eq!(
            text,
            "orderflow: could not edit it\n  value: \\x1b[2J is not of type object\n  why: missing"
        );
    }

    #[test]
    fn a_wrong_token_names_the_setting() {
        let text = Failure::new("show it", problem(401)).to_text();
        assert!(text.contains("OPERATOR_TOKEN") && text.contains("billing"), "{text}");
    }
}
