use std::{io, path::PathBuf};

/// Why the tour could not be completed. Output that differs is not an error: see [`super::walk`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the block at line {line} has no end")]
    NoEnd { line: usize },
    #[error(
        "line {line}: the fence `{fence}` has a mark that is unknown; there are local, docker and extra"
    )]
    Mark { line: usize, fence: String },
    #[error("another tour is under way in {}", .0.display())]
    Busy(PathBuf),
    #[error("containers of this folder exist, and the tour begins without data")]
    Containers,
    #[error("`{command}` failed")]
    Command { command: String },
    #[error("could not {doing}")]
    Io { doing: String, source: io::Error },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Returns advice for the user.
    pub(crate) fn next(&self) -> &'static str {
        match self {
            Self::NoEnd { .. } | Self::Mark { .. } => "fix the page",
            Self::Busy(_) => "wait until it has ended",
            Self::Containers => {
                "`make down` and, if their data may go, `make nuke`; or work in another clone"
            }
            Self::Command { .. } | Self::Io { .. } => "see above, and run `make tour` again",
        }
    }
}
