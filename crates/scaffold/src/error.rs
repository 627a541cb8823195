use std::io;
use std::path::PathBuf;

/// The request was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arguments do not match the usage.
    #[error("{0}")]
    Usage(String),
    /// Values are invalid. The text has a line for each, which names it and says what to change.
    #[error("{0}")]
    Refused(String),
    /// A file is not as the generator expects.
    #[error("{path} has no line {line}, before or after which to write")]
    NoPlace {
        /// The file.
        path: String,
        /// Prefix of the missing line.
        line: String,
    },
    /// A file can't be read or written.
    #[error("{} could not be {doing}", path.display())]
    Io {
        /// The operation: `read` or `written`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
