use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A piece of work, as it is stored. During a deployment old and new instances read each other's rows, so fields are added
/// with a default, and never renamed.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the database: never change it while rows wait.
    const KIND: &'static str;

    /// The wait before each retry, with a jitter of a fifth; as many retries as there are waits.
    const BACKOFF: &'static [Duration] =
        &[Duration::from_secs(10), Duration::from_mins(1), Duration::from_mins(10)];

    /// How long an attempt may take.
    const TIME_LIMIT: Duration = Duration::from_secs(30);
}
