//! How much memory the process may take, and whether it is about to be killed for more.

use std::fs;
use std::sync::LazyLock;

/// The limit of the container in bytes, if it has one: of cgroup v2, or else v1.
static LIMIT: LazyLock<Option<u64>> = LazyLock::new(|| {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // Without a limit v2 says `max`, and v1 a number that no machine has.
    files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
});

/// The share of the limit, in percent, from which on it is near.
const NEAR: u64 = 80;

/// Returns how many bytes the container of this process may take, if that is limited.
pub fn bytes() -> Option<usize> {
    LIMIT.and_then(|limit| usize::try_from(limit).ok())
}

/// Returns whether the process takes most of what its container may, so that its end is not put down to a message. Where that is not known, it does not.
pub(crate) fn is_near() -> bool {
    // Asked twice a second: without a limit nothing is read.
    LIMIT.is_some_and(|limit| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        anonymous(&status).is_some_and(|used| used > limit / 100 * NEAR)
    })
}

/// Returns the bytes of a process that can't be given back: of `RssAnon`, in kB, of proc(5).
fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_takes_is_read() {
        let status = "Name:\tbilling\nVmRSS:\t   20480 kB\nRssAnon:\t   10240 kB\n";
        assert_eq!(anonymous(status), Some(10 * 1024 * 1024));
        assert_eq!(anonymous("Name:\tbilling\n"), None);
    }
}
