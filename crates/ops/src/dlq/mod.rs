//! `orderflow dlq`: dead letters, and their replays and rehearsals. The services do the work.

mod arguments;
mod change;
mod chosen;
mod curl;
mod edit;
mod groups;
mod json;
mod kcat;
mod list;
mod question;
mod replay;
mod replays;
mod report;
mod show;
mod topic;
mod watch;
pub(crate) mod words;

use clap::{Args, Subcommand};

use crate::error::{During, Failure};
use crate::output::Output;
use crate::services::{Services, Target};

/// The arguments of `orderflow dlq`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The consumer group
    #[arg(long, global = true)]
    group: Option<String>,
    /// Print JSON, as the admin API has it
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the groups of dead letters that failed for the same reason
    Groups(groups::Arguments),
    /// List dead letters, the newest first: those that are open, unless --status says otherwise
    List(list::Arguments),
    /// Show a dead letter with its attempts, headers, key and payload, or a command that sends it
    Show(show::Arguments),
    /// Run the handlers on dead letters and roll back: say what a replay would do
    Rehearse(replay::RehearseArguments),
    /// Let their group process dead letters again, and watch the outcomes; Ctrl-C stops watching only
    Replay(replay::ReplayArguments),
    /// List replays and rehearsals; show, watch, pause, resume or cancel one
    Replays(replays::Arguments),
    /// Give up dead letters, until they are restored or pruned
    Discard(change::Arguments),
    /// Take back a discard
    Restore(change::Arguments),
    /// Replace the payload of a dead letter; its schema is checked and the old payload is kept
    Edit(edit::Arguments),
}

/// What every command needs.
struct Context {
    services: Services,
    group: Option<String>,
    json: bool,
    out: Output<std::io::StdoutLock<'static>>,
}

/// Returns the exit status: 1 if a service did not answer, or an outcome is not good.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { target, group, json, command } = arguments;
    let services = Services::new(&target).during("find the services")?;
    let mut context = Context { services, group, json, out: Output::stdout() };
    match command {
        Command::Groups(arguments) => groups::run(&mut context, &arguments).await,
        Command::List(arguments) => list::run(&mut context, &arguments).await,
        Command::Show(arguments) => show::run(&mut context, &arguments).await,
        Command::Rehearse(arguments) => replay::rehearse(&mut context, arguments).await,
        Command::Replay(arguments) => replay::replay(&mut context, arguments).await,
        Command::Replays(arguments) => replays::run(&mut context, arguments).await,
        Command::Discard(arguments) => change::run(&mut context, arguments, &change::DISCARD).await,
        Command::Restore(arguments) => change::run(&mut context, arguments, &change::RESTORE).await,
        Command::Edit(arguments) => edit::run(&mut context, arguments).await,
    }
}
