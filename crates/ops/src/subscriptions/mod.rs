//! `orderflow subscriptions`: subscriptions, their instances, and what stops them.

mod change;
mod list;

use clap::{Args, Subcommand};

use crate::error::{Failure, StepContext};
use crate::output::Output;
use crate::services::{Services, Target};

const EXAMPLES: &str = "Examples:
  orderflow subscriptions
  orderflow subscriptions pause --group billing --why 'wrong rates'
  orderflow subscriptions resume --group billing --why 'right again'";

/// The arguments of `orderflow subscriptions`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print JSON, as in the admin API
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the subscriptions of all services with their instances (the default)
    #[command(after_help = "Example:\n  orderflow subscriptions list --json")]
    List,
    /// Stop a subscription on all its instances within a second
    #[command(
        after_help = "Example:\n  orderflow subscriptions pause --group billing --why 'a migration runs'"
    )]
    Pause(change::Arguments),
    /// Resume a subscription that is paused, or whose circuit breaker is open
    #[command(
        after_help = "Example:\n  orderflow subscriptions resume --group billing --why 'it is done'"
    )]
    Resume(change::Arguments),
    /// Drop the rows of a group that is not used any more, such as a replaced generation; its
    /// offsets and topics in Kafka are kept
    #[command(
        after_help = "Example:\n  orderflow subscriptions drop --group analytics.basket --why 'replaced'"
    )]
    Drop(change::Arguments),
}

/// State that all commands share.
struct Context {
    services: Services,
    json: bool,
    out: Output<std::io::StdoutLock<'static>>,
}

/// Returns the exit status: 1 if a subscription is not running, or a service does not answer.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { target, json, command } = arguments;
    let services = Services::new(&target).during("find the services")?;
    let mut context = Context { services, json, out: Output::stdout() };
    match command {
        None | Some(Command::List) => list::run(&mut context).await.during("list subscriptions"),
        Some(Command::Pause(arguments)) => change::run(&mut context, arguments, "pause").await,
        Some(Command::Resume(arguments)) => change::run(&mut context, arguments, "resume").await,
        Some(Command::Drop(arguments)) => change::run(&mut context, arguments, "drop").await,
    }
}
