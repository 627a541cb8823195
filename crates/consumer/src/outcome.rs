/// Outcome of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The handler applied the message.
    Processed,
    /// The message had been processed before.
    Duplicate,
    /// A newer version had been applied before.
    Superseded,
    /// The type has no handler, and the subscription ignores such types.
    Ignored,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] =
        [Self::Processed, Self::Duplicate, Self::Superseded, Self::Ignored];

    /// Returns its name in the inbox, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Ignored => "ignored",
        }
    }
}
