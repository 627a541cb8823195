//! Runs every command of `docs/tour.md` and compares what it prints with what the page shows.

mod compare;
mod error;
mod page;
mod shell;
mod walk;
mod work_folder;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use sandbox::Console;
use tokio::signal::unix::{SignalKind, signal};

use self::error::Error;
use self::shell::Shell;
use self::walk::{Choice, Report, walk};
use self::work_folder::{Variant, WorkFolder};

/// Runs every command of a page and compares what it prints with what the page shows
#[derive(Parser)]
#[command(name = "tour")]
struct Arguments {
    /// The system to run the commands on; it is created, and removed afterwards
    #[arg(value_enum, default_value = "local")]
    variant: Variant,
    /// The page
    #[arg(long, default_value = "docs/tour.md")]
    page: PathBuf,
    /// Also run the blocks marked `extra` that contain this text
    #[arg(long)]
    extra: Option<String>,
    /// The folder for what the commands print and for the data of the system
    #[arg(long, default_value = "target/tour")]
    folder: PathBuf,
}

/// Runs the program. The exit status is 0 if the output of every command matches the page, 1 if one
/// differs, and 128 + the signal if it was stopped by one.
pub async fn main() -> ExitCode {
    let console = Console::new();
    match run(Arguments::parse(), &console).await {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
            console.line(&format!("\ntour: {error}{}", cause.unwrap_or_default()));
            console.line(&format!("Next: {}", error.next()));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments, console: &Console) -> Result<u8, Error> {
    let Arguments { variant, page, extra, folder } = arguments;
    let start = Instant::now();
    let text = fs::read_to_string(&page).map_err(Error::io(format!("read {}", page.display())))?;
    let blocks = page::parse(&text)?;
    let stop = stop_signal()?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find the folder"));
    let work_folder =
        WorkFolder::prepare(variant, &absolute(Path::new("."))?, &absolute(&folder)?)?;
    let shell = Shell::start(&work_folder.root, &work_folder.printed, &work_folder.environment());
    let mut shell = shell.map_err(Error::io("start bash"))?;

    let (choice, mut report) = (Choice { variant, extra }, Report::default());
    let walked = tokio::select! {
        walked = walk(&blocks, &choice, &mut shell, console, &mut report) => walked.map(|()| None),
        signal = stop => Ok(Some(signal)),
    };
    if matches!(walked, Ok(Some(_))) {
        console.line("\nSignal received, stopping the system");
    }
    shell.end().await;
    work_folder.clear()?;
    if let Some(signal) = walked? {
        console.line("Stopped before the end. Nothing is left running.");
        return Ok(128 + signal);
    }
    console.line(&report.summary(start.elapsed(), &work_folder.printed));
    Ok(u8::from(!report.findings.is_empty()))
}

/// Resolves to the number of the first signal that asks this process to stop. Further signals are
/// ignored.
fn stop_signal() -> Result<impl Future<Output = u8>, Error> {
    let listen = || {
        let hangup = signal(SignalKind::hangup())?;
        Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup))
    };
    let (mut interrupt, mut terminate, mut hangup) =
        listen().map_err(Error::io("listen for signals"))?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        }
    })
}
