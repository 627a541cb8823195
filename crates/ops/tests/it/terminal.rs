//! A pseudo-terminal for one test.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use nix::pty::openpty;

/// Runs a command on a terminal with typed-ahead input. Returns the exit status and the output.
pub(crate) async fn on_a_terminal(
    mut command: Command,
    typed: &'static str,
) -> (Option<i32>, String) {
    let run = move || {
        let terminal = openpty(None, None).unwrap();
        let end = || terminal.slave.try_clone().unwrap();
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop((terminal.slave, command));
        let mut master = File::from(terminal.master);
        master.write_all(typed.as_bytes()).unwrap();
        let mut shown = Vec::new();
        // Linux fails with EIO once the other end is closed.
        let _ = master.read_to_end(&mut shown);
        (child.wait().unwrap().code(), String::from_utf8(shown).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
