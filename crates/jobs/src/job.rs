use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A job's payload, as stored. During a deployment old and new instances read each other's rows, so
/// add fields with a default, and never rename them.
///
/// ```
/// use std::time::Duration;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendReceipt {
///     invoice: u64,
///     #[serde(default)] // absent in rows of the former release
///     copy_to: Option<String>,
/// }
///
/// impl jobs::Job for SendReceipt {
///     const KIND: &'static str = "send-receipt";
///     const BACKOFF: &'static [Duration] = &[Duration::from_secs(5), Duration::from_mins(5)];
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Name of the kind in the database: never change it while rows wait.
    const KIND: &'static str;

    /// The wait before each retry, with a jitter of a fifth. The number of waits is the number of
    /// retries. Default 10 s, 1 min and 10 min.
    const BACKOFF: &'static [Duration] =
        &[Duration::from_secs(10), Duration::from_mins(1), Duration::from_mins(10)];

    /// Time limit of an attempt. Default 30 s.
    const TIME_LIMIT: Duration = Duration::from_secs(30);
}
