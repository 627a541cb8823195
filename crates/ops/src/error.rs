use std::{io, path::PathBuf, time::Duration};

use kafka::rdkafka::error::KafkaError;

/// What can go wrong, said so that its reader knows what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("there is no program {name} in {}", .folder.display())]
    NoProgram { name: &'static str, folder: PathBuf },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    PortsTaken(Vec<sandbox::Error>),
    #[error("{name} hears nothing; its log ends with:\n{tail}")]
    Deaf { name: &'static str, tail: String, source: Box<Error> },
    #[error("another `orderflow local` is at work in {}", .0.display())]
    Busy(PathBuf),
    #[error("{0} still runs, though it was killed")]
    StillRuns(String),
    #[error("{request} to {service}")]
    Http { service: &'static str, request: String, source: reqwest::Error },
    #[error("{service} answered {request} with {answer}")]
    Answer { service: &'static str, request: String, answer: String },
    #[error("{doing}")]
    Kafka { doing: String, source: KafkaError },
    #[error("waited {limit:?} in vain: {until}")]
    TooLate { until: String, limit: Duration },
    #[error("{0}")]
    Untrue(String),
    /// The question, or its answer, makes no sense; the text says what does.
    #[error("{0}")]
    Refused(String),
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        |source| Self::Kafka { doing, source }
    }

    /// What helps.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        use sandbox::Error as Sandbox;
        Some(match self {
            Self::NoProgram { .. } => {
                "`make demo` and `make local` build it first; by hand: cargo build --workspace --bins"
            }
            Self::PortsTaken(_) | Self::Sandbox(Sandbox::PortTaken { .. }) => {
                "end what holds it, then do this again. Nothing was left running."
            }
            Self::Busy(_) => "wait until it has ended, then do this again",
            // These say it themselves.
            Self::Refused(_)
            | Self::Sandbox(
                Sandbox::MissingTools(_) | Sandbox::Fetch { .. } | Sandbox::NoPostgresUser,
            ) => return None,
            Self::StillRuns(_) => "end it by hand (another user's? see `ps`), then do this again",
            Self::Kafka { .. } => "see that Kafka is there and answers, then do this again",
            Self::Http { .. } | Self::Answer { .. } => {
                "see that the service is ready (its /readyz and its log say), then do this again"
            }
            Self::Io { .. } => "see that this user may do that, then do this again",
            _ => {
                "do this again with RUST_LOG=debug for more lines of log; nothing was left running"
            }
        })
    }
}

/// An error, with the step in which it came up and what the services had logged by then.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) error: Box<Error>,
    /// Name of a service, last lines of its log.
    pub(crate) logs: Vec<(String, String)>,
}

/// Says in which step an error came up.
pub(crate) trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step: step.into(),
            error: Box::new(error.into()),
            logs: Vec::new(),
        })
    }
}
