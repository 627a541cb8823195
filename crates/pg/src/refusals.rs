//! Records the time of the server's last refusal, so that pools replace older sessions.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Origin of times: the first use in this process.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The last refusal, in milliseconds since [`BEGINNING`], plus one; 0 if there was none.
static LAST: AtomicU64 = AtomicU64::new(0);

fn since_beginning() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Records that the server has refused a session now.
pub(crate) fn note() {
    LAST.fetch_max(since_beginning().saturating_add(1), Ordering::Relaxed);
}

/// Returns `true` if the server refused a session within the last `age`, so that a connection of
/// that age is older.
pub(crate) fn was_within(age: Duration) -> bool {
    let last = LAST.load(Ordering::Relaxed);
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    last > 0 && since_beginning().saturating_sub(age) < last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_suspect_if_it_was_there_at_the_refusal() {
        let connected = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        note();
        assert!(was_within(connected.elapsed()));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!was_within(Duration::from_millis(1)));
    }
}
