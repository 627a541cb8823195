use std::{io, path::PathBuf, time::Duration};

use kafka::rdkafka::error::KafkaError;

/// The system could not be started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server or a service failed to start, or ended.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A program has not been built.
    #[error("there is no program {name} in {}; build it first", .folder.display())]
    NoProgram {
        /// The program's name.
        name: String,
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// Other processes listen on fixed ports.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    PortsTaken(Vec<sandbox::Error>),
    /// A service is running, but its consumer group got no partitions.
    #[error("{name} consumes nothing; its log ends with:\n{tail}")]
    ConsumesNothing {
        /// The service's name.
        name: String,
        /// The last lines of its log.
        tail: String,
        /// The condition that did not become true.
        source: Box<Error>,
    },
    /// Another process is starting or stopping the local system.
    #[error("another `playground local` is running in {}", .0.display())]
    Busy(PathBuf),
    /// A killed process did not end.
    #[error("{0} is still running, although it was killed")]
    StillRuns(String),
    /// The local system is not running.
    #[error("nothing answers on {0}")]
    NotRunning(String),
    /// A request to a service failed.
    #[error("{request} to {service}")]
    Http {
        /// The service's name.
        service: String,
        /// Method and path.
        request: String,
        /// The client's error.
        source: reqwest::Error,
    },
    /// A service returned an unexpected response.
    #[error("{service} answered {request} with {answer}")]
    Answer {
        /// The service's name.
        service: String,
        /// Method and path.
        request: String,
        /// Status and body.
        answer: String,
    },
    /// Kafka refused a request or did not answer.
    #[error("{doing}")]
    Kafka {
        /// The operation.
        doing: String,
        /// The client's error.
        source: KafkaError,
    },
    /// A condition did not become true in time.
    #[error("timed out after {limit:?}: {until}")]
    TooLate {
        /// The condition.
        until: String,
        /// The time limit.
        limit: Duration,
    },
    /// The system violated an expectation.
    #[error("{0}")]
    Untrue(String),
    /// The operating system returned an error.
    #[error("{doing}")]
    Io {
        /// The operation.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
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

    /// Returns whether a process ended because another one listens on its port.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Sandbox(sandbox::Error::Ended { tail, .. }) if tail.contains("in use"))
    }

    /// Returns what to do next, unless the error contains it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        use sandbox::Error as Sandbox;
        Some(match self {
            Self::NoProgram { .. } => {
                "`make demo` and `make local` build it; by hand: cargo build --workspace --bins"
            }
            Self::PortsTaken(_) | Self::Sandbox(Sandbox::PortTaken { .. }) => {
                "end the process that uses it, then try again. Nothing was left running."
            }
            Self::Busy(_) => "wait until it has ended, then try again",
            Self::NotRunning(_) => "start the system first: make local",
            // Their messages contain it.
            Self::Sandbox(
                Sandbox::MissingTools(_) | Sandbox::Fetch { .. } | Sandbox::NoPostgresUser,
            ) => return None,
            Self::StillRuns(_) => "end it by hand (another user's? see `ps`), then try again",
            Self::Kafka { .. } => "check that Kafka is running and answers, then try again",
            Self::Http { .. } | Self::Answer { .. } => {
                "check that the service is ready (see its /readyz and its log), then try again"
            }
            Self::Io { .. } => "check this user's permissions, then try again",
            _ => "try again with RUST_LOG=debug for a more detailed log; nothing was left running",
        })
    }
}
