//! Reads the parents and start times of running processes.

use std::collections::HashMap;

/// Identity of a process, which differs from that of a later process with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    pub(crate) started: String,
}

impl Identity {
    /// Returns `None` if the process does not exist or is a zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)? })
    }

    pub(crate) fn is_alive(&self) -> bool {
        started(self.pid).as_ref() == Some(&self.started)
    }
}

/// Returns all living descendants of a process.
pub(crate) fn descendants(root: u32) -> Vec<Identity> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, parent) in parents() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut to_visit = vec![root];
    while let Some(pid) = to_visit.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.extend(Identity::of(child));
            to_visit.push(child);
        }
    }
    found
}

#[cfg(target_os = "linux")]
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?.nth(1)?.parse().ok()?))
        })
        .collect()
}

#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<String> {
    let mut fields = stat(pid)?;
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18))?
}

/// Returns the fields of `/proc/<pid>/stat` after the name, which may contain spaces: state,
/// parent, ..
#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<impl Iterator<Item = String>> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<String> = line.rsplit_once(')')?.1.split_whitespace().map(Into::into).collect();
    Some(fields.into_iter())
}

#[cfg(not(target_os = "linux"))]
fn parents() -> Vec<(u32, u32)> {
    ps(&["-A", "-o", "pid=,ppid="])
        .lines()
        .filter_map(|line| {
            let (pid, parent) = line.trim().split_once(' ')?;
            Some((pid.parse().ok()?, parent.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<String> {
    let line = ps(&["-o", "stat=,lstart=", "-p", &pid.to_string()]);
    let (state, started) = line.trim().split_once(' ')?;
    (!state.starts_with('Z')).then(|| started.trim().into())
}

#[cfg(not(target_os = "linux"))]
fn ps(arguments: &[&str]) -> String {
    let output = std::process::Command::new("ps").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
