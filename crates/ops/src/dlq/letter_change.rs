//! Changes of letters other than replays.

use crate::client::Status;

/// A change of letters.
pub(crate) struct LetterChange {
    /// Name in the API.
    pub(crate) act: &'static str,
    pub(crate) question: &'static str,
    pub(crate) done: &'static str,
    /// The act that undoes it.
    pub(crate) undo: &'static str,
    /// Statuses of the letters that it may change.
    pub(crate) from: &'static [Status],
    /// Statuses of the changed letters.
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
