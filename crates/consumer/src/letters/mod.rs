//! Dead letters as rows: messages that a subscription could not process, kept until they are
//! replayed or discarded.

mod bulk;
mod burial;
mod copies;
mod edit;
mod erasure;
mod error;
mod filter;
mod groups;
mod import;
mod letter;
mod order;
mod pace;
mod page;
mod plan;
mod pruning;
mod record;
mod replay;
mod replayer;
mod request;
mod run;
mod settling;
mod status;

pub(crate) use burial::{FailedAttempt, Graveyard, LetterReason, dead_from};
pub(crate) use copies::Copies;
pub use erasure::erase_letters;
pub use error::LettersError;
pub use filter::{LetterFilter, LetterStatus, Selection};
pub use groups::{GroupStatus, LetterGroup, letter_groups, set_letter_group};
pub use letter::{Bytes, Edit, Header, Letter, LetterSummary, letter, letters};
pub use page::Page;
pub(crate) use pruning::prune;
pub use replay::{
    Replay, ReplayDetails, ReplayFailures, ReplayOutcomes, ReplayedLetter, cancel_replay,
    pause_replay, replay, replayed_letters, replays, resume_replay,
};
pub(crate) use replayer::Replayer;
pub use request::{Letters, NewReplay};
pub(crate) use settling::{NotRunning, Replaying, settle};
pub use status::{discard_letters, restore_letters};
