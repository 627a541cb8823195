use std::io;
use std::path::PathBuf;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command is not as its usage says.
    #[error("{0}")]
    Usage(String),
    /// A value that can't be used; the text names it and says what to change.
    #[error("{0}")]
    Refused(String),
    /// A file is not as the generator expects it.
    #[error("{path} has no line {line}, before or after which to write")]
    NoPlace {
        /// The file.
        path: String,
        /// Beginning of the line that is missing.
        line: String,
    },
    /// A file can't be read or written.
    #[error("{} could not be {doing}", path.display())]
    Io {
        /// What was done with it: `read` or `written`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}
