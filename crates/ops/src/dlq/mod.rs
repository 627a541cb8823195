//! `orderflow dlq`: dead letters, their replays and rehearsals. The services do the work.

mod arguments;
mod change;
mod chosen;
mod curl;
mod edit;
mod group_status;
mod groups;
mod kcat;
mod letter_change;
mod list;
mod replay;
mod replays;
pub(crate) mod report;
mod show;
mod topic;
mod watch;
pub(crate) mod words;

pub(crate) use letter_change::{DISCARD, LetterChange, RESTORE};

use clap::{Args, Subcommand};

use crate::error::{Failure, StepContext};
use crate::output::Output;
use crate::services::{Services, Target};

/// The arguments of `orderflow dlq`.
#[derive(Args)]
#[command(after_help = "Examples:
  orderflow dlq groups
  orderflow dlq rehearse --group billing --reason 'no rate'
  orderflow dlq replay --group billing --reason 'no rate' --why 'it is there'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The consumer group
    #[arg(long, global = true)]
    group: Option<String>,
    /// Print JSON, as in the admin API
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the groups of dead letters that failed for the same reason
    #[command(after_help = "Example:\n  orderflow dlq groups --group billing")]
    Groups(groups::Arguments),
    /// Mark a group of dead letters as acknowledged: an operator works on it
    #[command(
        after_help = "Example:\n  orderflow dlq acknowledge 3f2a9c1d --note 'the rates come back at noon'"
    )]
    Acknowledge(group_status::Arguments),
    /// Mark a group of dead letters as ignored: it needs no work
    #[command(after_help = "Example:\n  orderflow dlq ignore 3f2a9c1d --note 'test orders'")]
    Ignore(group_status::Arguments),
    /// Mark a group of dead letters as open again
    #[command(after_help = "Example:\n  orderflow dlq reopen 3f2a9c1d")]
    Reopen(group_status::Arguments),
    /// List dead letters, newest first; by default those that are open
    #[command(after_help = "Example:\n  orderflow dlq list --group billing --type order.completed")]
    List(list::Arguments),
    /// Show a dead letter with its attempts, headers, key and payload, or a command that sends it
    #[command(
        after_help = "Example:\n  orderflow dlq show 01a20a9a-7779-774a-8232-46ea7c2ec2ec --as kcat"
    )]
    Show(show::Arguments),
    /// Run the handlers on dead letters and roll back, to show what a replay would do
    #[command(after_help = "Example:\n  orderflow dlq rehearse --group billing --reason 'no rate'")]
    Rehearse(replay::RehearseArguments),
    /// Process dead letters again in their group, and watch the outcomes; Ctrl-C stops only the
    /// watching
    #[command(
        after_help = "Example:\n  orderflow dlq replay --group billing --reason 'no rate' --why 'it is there'"
    )]
    Replay(replay::ReplayArguments),
    /// List replays and rehearsals; show, watch, pause, resume or cancel one
    #[command(after_help = "Example:\n  orderflow dlq replays --group billing")]
    Replays(replays::Arguments),
    /// Discard dead letters; they can be restored until they are pruned
    #[command(
        after_help = "Example:\n  orderflow dlq discard --group billing --tenant acme --why 'test orders'"
    )]
    Discard(change::Arguments),
    /// Restore discarded dead letters
    #[command(
        after_help = "Example:\n  orderflow dlq restore --group billing --all --why 'discarded by mistake'"
    )]
    Restore(change::Arguments),
    /// Replace the payload of a dead letter; it must match the schema, and the old payload is kept
    #[command(
        after_help = "Example:\n  orderflow dlq edit 01a20a9a-7779-774a-8232-46ea7c2ec2ec --file payload.json"
    )]
    Edit(edit::Arguments),
}

/// State that all commands share.
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
        Command::Acknowledge(arguments) => {
            group_status::run(&mut context, &arguments, "acknowledged").await
        }
        Command::Ignore(arguments) => group_status::run(&mut context, &arguments, "ignored").await,
        Command::Reopen(arguments) => group_status::run(&mut context, &arguments, "open").await,
        Command::List(arguments) => list::run(&mut context, &arguments).await,
        Command::Show(arguments) => show::run(&mut context, &arguments).await,
        Command::Rehearse(arguments) => replay::rehearse(&mut context, arguments).await,
        Command::Replay(arguments) => replay::replay(&mut context, arguments).await,
        Command::Replays(arguments) => replays::run(&mut context, arguments).await,
        Command::Discard(arguments) => change::run(&mut context, arguments, &DISCARD).await,
        Command::Restore(arguments) => change::run(&mut context, arguments, &RESTORE).await,
        Command::Edit(arguments) => edit::run(&mut context, arguments).await,
    }
}
