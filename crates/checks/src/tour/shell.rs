//! One shell runs the whole page, so that a block can use the variables and functions of earlier
//! blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// Maximum time for commands to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(20);

/// Variables that would change what the page's commands do.
const NOT_INHERITED: [&str; 9] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "BASH_ENV",
    "OPERATOR_TOKEN",
    "ORDERFLOW_SERVICES",
    "KAFKA_BROKERS",
    "COMPOSE_FILE",
    "DEMO_KEY",
];

pub(crate) struct Shell {
    bash: Child,
    commands: ChildStdin,
    /// The exit status of each block, one per line.
    statuses: Lines<BufReader<ChildStdout>>,
    /// Folder of the blocks and their output.
    folder: PathBuf,
}

/// Output of a block.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    pub(crate) output: String,
    pub(crate) errors: String,
    /// `None` if it did not end in time.
    pub(crate) status: Option<i32>,
}

impl Shell {
    /// Starts the shell in `root`, in a separate process group.
    pub(crate) fn start(
        root: &Path,
        folder: &Path,
        environment: &[(&'static str, String)],
    ) -> io::Result<Self> {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(root);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("TERM", "dumb");
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut bash = command.spawn()?;
        let none = || io::Error::other("the shell has no pipe");
        let commands = bash.stdin.take().ok_or_else(none)?;
        let statuses = BufReader::new(bash.stdout.take().ok_or_else(none)?).lines();
        Ok(Self { bash, commands, statuses, folder: folder.to_owned() })
    }

    /// Runs a block. After a block that did not end in time the shell is unusable.
    pub(crate) async fn run(
        &mut self,
        line: usize,
        code: &str,
        limit: Duration,
    ) -> io::Result<Printed> {
        let path = |ending: &str| self.folder.join(format!("line-{line}.{ending}"));
        let (block, output, errors) = (path("sh"), path("out"), path("err"));
        fs::write(&block, code)?;
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let command = format!(
            ". {} </dev/null >{} 2>{}; echo $?\n",
            quoted(&block),
            quoted(&output),
            quoted(&errors)
        );
        self.commands.write_all(command.as_bytes()).await?;
        self.commands.flush().await?;
        let status = match timeout(limit, self.statuses.next_line()).await {
            Ok(Ok(Some(status))) => status.parse().ok(),
            Ok(Ok(None)) => return Err(io::Error::other("the shell has ended")),
            Ok(Err(error)) => return Err(error),
            Err(_) => None,
        };
        let read = |path: &Path| {
            fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""))
        };
        Ok(Printed { output: read(&output)?, errors: read(&errors)?, status })
    }

    /// Ends the shell and its children, and waits for them. The processes of `make local` keep
    /// running.
    pub(crate) async fn end(mut self) {
        let Some(group) = self.bash.id().and_then(|it| i32::try_from(it).ok()).map(Pid::from_raw)
        else {
            return;
        };
        // The shell ends first; after that only the group shows whether its commands have ended.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let since = Instant::now();
            while killpg(group, signal_at(signal, since)).is_ok() && since.elapsed() < GRACE {
                let _ = timeout(Duration::ZERO, self.bash.wait()).await;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Returns the signal at first, and then none, which only checks whether the group exists.
fn signal_at(signal: Signal, since: Instant) -> Option<Signal> {
    (since.elapsed() < Duration::from_millis(10)).then_some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_block_knows_those_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let environment = [("PLACE", "here".to_owned())];
        let mut shell = Shell::start(folder.path(), folder.path(), &environment).unwrap();
        let first = "said() { echo \"$PLACE $1\"; }\nWHAT=this";
        assert_eq!(shell.run(1, first, LIMIT).await.unwrap().status, Some(0));
        let second = shell.run(2, "said $WHAT; cat; echo wrong >&2; false\n", LIMIT).await.unwrap();
        assert_eq!((&*second.output, &*second.errors), ("here this\n", "wrong\n"));
        assert_eq!(second.status, Some(1));
        shell.end().await;
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Shell::start(folder.path(), folder.path(), &[]).unwrap();
        let slow = "sh -c 'echo $$ >pid; sleep 600; true'\n";
        let printed = shell.run(1, slow, Duration::from_millis(300)).await.unwrap();
        assert_eq!(printed.status, None);
        let pid: i32 =
            fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        shell.end().await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!command.contains("sleep 600"), "{command}");
    }
}
