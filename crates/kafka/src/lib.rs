#![doc = include_str!("../README.md")]

mod admin;
mod binding;
mod configs;
mod dead_letter;
mod headers;
mod options;
mod partitioner;
mod protocol;
mod reading;
mod record;
mod record_limit;
mod retention;
mod settings;
mod topics;

pub use binding::{DecodeError, content_headers, decode, is_structured};
pub use dead_letter::{
    Coordinates, DeadLetter, LETTER_ID, Reason, dead_letter_topic, is_dead_letter_header,
};
pub use envelope::TopicSpec;
pub use headers::{Headers, client_headers};
pub use options::{ClientOptions, OptionsError};
pub use partitioner::partition_of;
pub use reading::{Part, ReadError, read_part, read_to_end};
pub use record::Record;
pub use record_limit::record_limits;
pub use retention::{RetentionError, longest_kept, retention_of};
pub use settings::{Fetch, Settings, SettingsError};
pub use topics::{TopicPolicy, TopicProblem, TopicProblemKind, Topics, TopicsError, ensure};

/// The client that the crates above build on; one version for all.
pub use rdkafka;
