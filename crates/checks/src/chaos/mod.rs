//! The fault suite: sends orders through the real system while one fault is applied, then checks
//! the books.

mod books;
mod bugs;
mod cluster;
mod copied_tree;
mod deleted_topic;
mod faults;
mod instance;
mod invariants;
mod letters;
mod load;
mod mail;
mod patched_tree;
mod proxy;
mod receivers;
mod releases;
mod report;
mod scene;
mod sends;
mod settle;
mod small_disk;
mod system;
mod topics;
mod trial;
mod waits;
mod written;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use self::bugs::BUGS;
use self::faults::{FAULTS, Fault};
use self::patched_tree::PatchedTree;
use self::report::{Report, Row};
use self::trial::Trial;

/// An error of the suite itself. It is only displayed.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Applies one fault after the other to the real system, and checks the books after each
#[derive(Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Apply only the fault of this name
    #[arg(long)]
    only: Option<String>,
    /// Apply only a few quick faults, which do not need services with failure points
    #[arg(long)]
    short: bool,
    /// Patch a bug into a copy of the tree (`all`: each in turn), build it, and check that a fault
    /// or a test finds it
    #[arg(long)]
    bug: Option<String>,
    /// List the faults and the bugs
    #[arg(long)]
    list: bool,
    /// The folder of the services' programs, built with `sabotage/on` (except for `--short`);
    /// `--bug` reuses the dependencies built there
    #[arg(long, default_value = "target/chaos/debug")]
    programs: PathBuf,
    /// The folder of the copy of the tree that `--bug` patches, and of its builds
    #[arg(long, default_value = "target/chaos-bugs")]
    patched: PathBuf,
    /// The folder of an earlier release and of its builds, for the fault that runs it together with
    /// this tree
    #[arg(long, default_value = "target/chaos-baseline")]
    baseline: PathBuf,
    /// The file of the report
    #[arg(long, default_value = "target/chaos.json")]
    report: PathBuf,
}

/// Runs the program. Fails if an invariant does not hold, or if a seeded bug was not found.
pub async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    let ended = match &arguments.bug {
        Some(bug) => Box::pin(check_bugs(&arguments, bug)).await,
        None => Box::pin(run(&arguments)).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the faults and the bugs. Ignores an output that was closed, as `head` does.
fn list() {
    let print = || {
        let mut out = io::stdout().lock();
        writeln!(out, "Faults, for --only:")?;
        for fault in FAULTS {
            let short = if fault.short { " (--short)" } else { "" };
            writeln!(out, "  {:<32} {}{short}", fault.name, fault.what)?;
        }
        writeln!(out, "\nBugs, for --bug, and what finds them:")?;
        for bug in BUGS {
            writeln!(out, "  {:<32} {}", bug.name, bug.proof)?;
        }
        out.flush()
    };
    let _: io::Result<()> = print();
}

/// Returns `true` if each bug of this name was found.
async fn check_bugs(arguments: &Arguments, bug: &str) -> Result<bool, Error> {
    let tree = PatchedTree::new(Path::new("."), &arguments.patched)?;
    tree.reuse_dependencies(&arguments.programs)?;
    bugs::check_all(&tree, bug, &arguments.baseline).await
}

/// Returns `true` if every invariant held.
async fn run(arguments: &Arguments) -> Result<bool, Error> {
    let chosen = |fault: &&Fault| match &arguments.only {
        Some(only) => fault.name == *only,
        None => fault.short || !arguments.short,
    };
    let faults: Vec<_> = FAULTS.iter().filter(chosen).collect();
    if faults.is_empty() {
        return Err("there is no such fault; --list shows them".into());
    }
    let mut report = Report::default();
    for fault in faults {
        let (programs, baseline) = (&*arguments.programs, &*arguments.baseline);
        let row = Trial { fault, programs, baseline }.run().await;
        println!("{}", row.line());
        report.rows.push(row);
        // Written after each fault, so that an interrupted suite leaves its results.
        report.write(&arguments.report)?;
    }
    println!("\n{}", report.table());
    Ok(report.rows.iter().all(Row::is_green))
}
