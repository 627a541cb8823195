use std::{
    io,
    process::{Command, ExitStatus},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    process::signal_each,
    process_table::{Identity, descendants},
};

/// Runs a command that shares this process's terminal, input and output, until it or `stop` ends.
/// If `stop` ends first, the command and all its descendants get 300 ms, then SIGTERM, and SIGKILL
/// 5 s later. (Ctrl-C on the terminal reaches them anyway, hence the delay.)
///
/// # Errors
/// If the command can't be started.
pub async fn run_in_foreground(
    command: Command,
    stop: impl Future<Output = ()>,
) -> io::Result<ExitStatus> {
    let mut child = tokio::process::Command::from(command).spawn()?;
    tokio::select! {
        status = child.wait() => return status,
        () = stop => {}
    }
    // Listed now, since the children of a process that ends are no longer known as such.
    let mut family: Vec<Identity> = child.id().map(descendants).unwrap_or_default();
    family.extend(child.id().and_then(Identity::of));
    for (signal, limit) in
        [(None, 300), (Some(Signal::SIGTERM), 5_000), (Some(Signal::SIGKILL), 2_000)]
    {
        if let Some(signal) = signal {
            signal_each(&family, signal);
        }
        let ended = async {
            while family.iter().any(Identity::is_alive) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(limit), ended).await.is_ok() {
            break;
        }
    }
    child.wait().await
}
