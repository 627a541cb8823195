//! Changes of letters, besides replays.

use crate::client::Status;

/// A change of letters.
pub(crate) struct LetterChange {
    /// The API's word.
    pub(crate) act: &'static str,
    pub(crate) question: &'static str,
    pub(crate) done: &'static str,
    /// The act that takes it back.
    pub(crate) undo: &'static str,
    /// Statuses from which it is possible.
    pub(crate) from: &'static [Status],
    /// Those that it leads to.
    pub(crate) to: &'static [Status],
}

const OPEN: &[Status] = &[Status::Dead, Status::Parked];
const DISCARDED: &[Status] = &[Status::Discarded];

pub(crate) const DISCARD: LetterChange = LetterChange {
    act: "discard",
    question: "Discard",
    done: "discarded",
    undo: "restore",
    from: OPEN,
    to: DISCARDED,
};

pub(crate) const RESTORE: LetterChange = LetterChange {
    act: "restore",
    question: "Restore",
    done: "restored",
    undo: "discard",
    from: DISCARDED,
    to: OPEN,
};
