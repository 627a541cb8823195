#![doc = include_str!("../README.md")]

mod attempt;
mod breaker;
mod chain;
mod consumer;
mod database;
mod dropping;
mod failure;
mod faults;
mod feed;
mod fingerprint;
mod flow;
mod handler;
mod history;
mod inbox;
mod instruments;
mod intake;
mod keeper;
mod lane;
mod letters;
mod memory;
mod memory_limit;
mod message;
mod options;
mod outcome;
mod partitions;
mod pipeline;
mod place;
mod probe;
mod reader;
mod retention;
mod run;
mod scan;
mod spans;
mod standing;
mod status;
mod subscription;
mod suspects;
mod topics;
mod verdict;
mod versions;

pub use consumer::Consumer;
pub use dropping::{Dropped, drop_group};
pub use failure::{Class, Failure};
pub use faults::{Fault, FaultKind, Faults};
pub use feed::Feed;
pub use flow::{
    FlowLetter, FlowReplay, InboxEntry, ParkedMessage, flow_letters, flow_parked, flow_replays,
    inbox_entries,
};
pub use handler::{Handler, Received};
pub use letters::{
    Bytes, Edit, GroupStatus, Header, Letter, LetterFilter, LetterGroup, LetterStatus,
    LetterSummary, Letters, LettersError, NewReplay, Page, Replay, ReplayDetails, ReplayFailures,
    ReplayOutcomes, ReplayedLetter, Selection, cancel_replay, discard_letters, erase_letters,
    letter, letter_groups, letters, pause_replay, replay, replayed_letters, replays,
    restore_letters, resume_replay, set_letter_group,
};
pub use memory::MemoryBudget;
pub use memory_limit::bytes as container_limit;
pub use options::{Options, OptionsError};
pub use outcome::Outcome;
pub use standing::{Breaker, Instance, Pause, Standing, pause, resume, standing};
pub use status::{State, Status};
pub use subscription::Subscription;
pub use suspects::Suspects;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;

/// Creates or updates the inbox in the service's own database. If the future is dropped, complete
/// migrations stay applied, and it may be called again.
///
/// # Errors
/// Fails if the database is unavailable or an applied migration was edited.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    pg::Migrations::new(sqlx::migrate!("./migrations"), "_consumer_migrations").run(pool).await
}
