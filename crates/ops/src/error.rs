use std::{
    io::{self, Write, stderr},
    time::Duration,
};

use kafka::rdkafka::error::KafkaError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{request} to the admin port")]
    Http { request: String, source: reqwest::Error },
    #[error("the admin port answered {request} with {status}: {answer}")]
    Answer { request: String, status: u16, answer: String },
    #[error("{doing}")]
    Kafka { doing: String, source: KafkaError },
    #[error(transparent)]
    Read(#[from] kafka::ReadError),
    #[error("waited {limit:?} in vain: {until}")]
    TooLate { until: String, limit: Duration },
    /// The arguments can't be used; the text says what to change.
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

    /// Returns what to do next, unless the error says it.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_) | Self::Io(_) => None,
            Self::Kafka { .. } | Self::Read(_) | Self::TooLate { .. } => {
                Some("check that Kafka is there and answers, then do this again")
            }
            Self::Http { .. } | Self::Answer { .. } => Some(
                "check that the service is ready (its /readyz and its log say), then do this again",
            ),
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

    /// Returns the exit status: 2 if the arguments are wrong or name what is not there, else 1.
    pub(crate) fn exit_status(&self) -> u8 {
        match &*self.error {
            Error::Refused(_) | Error::Answer { status: 404, .. } => 2,
            _ => 1,
        }
    }

    /// Prints the step, the chain of causes and the advice to standard error.
    pub(crate) fn print(&self) {
        let mut lines = vec![format!("orderflow: could not {}", self.step)];
        lines.push(format!("  {}", self.error));
        let mut cause = std::error::Error::source(&*self.error);
        while let Some(error) = cause {
            lines.push(format!("  because: {error}"));
            cause = error.source();
        }
        if let Some(advice) = self.error.advice() {
            lines.push(format!("\nNext: {advice}"));
        }
        complain(&lines.join("\n"));
    }
}

/// Prints a line to standard error. A closed one is ignored, where `eprintln!` panics.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Names the step in which an error occurred.
pub(crate) trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}
