//! The memory limit of the process, and whether its use is near the limit.

use std::fs;
use std::sync::LazyLock;

/// The limit of the container in bytes, if it has one: of cgroup v2, or else v1.
static LIMIT: LazyLock<Option<u64>> = LazyLock::new(|| {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // Without a limit v2 says `max`, and v1 a number that no machine has.
    files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
});

/// Percentage of the limit from which the use counts as near.
const NEAR: u64 = 80;

/// Returns the memory limit of this process's container in bytes, or `None` without one.
pub fn bytes() -> Option<usize> {
    LIMIT.and_then(|limit| usize::try_from(limit).ok())
}

/// Returns whether the process is near its container's memory limit, so that its end is not blamed
/// on a message. Returns `false` if the limit is unknown.
pub(crate) fn is_near() -> bool {
    // Called twice a second; without a limit nothing is read.
    LIMIT.is_some_and(|limit| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        anonymous(&status).is_some_and(|used| used > limit / 100 * NEAR)
    })
}

/// Returns the anonymous memory of a process in bytes: `RssAnon` of proc(5), which is in kB.
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
