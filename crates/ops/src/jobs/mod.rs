//! `orderflow jobs`: waiting, running and failed durable jobs of all services.

mod change;
mod chosen;
mod job_change;
mod list;
mod show;

pub(crate) use chosen::Chosen;
pub(crate) use job_change::JobChange;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::error::{Error, Failure, StepContext};
use crate::output::Output;
use crate::services::{Services, Target};

/// The arguments of `orderflow jobs`.
#[derive(Args)]
#[command(after_help = "Examples:
  orderflow jobs list --state failed
  orderflow jobs retry --kind deliver-webhook --why 'it is back'
  orderflow jobs discard --kind send-email --why 'test orders'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Only jobs of this service
    #[arg(long, global = true)]
    service: Option<String>,
    /// Print JSON, as in the admin API
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List jobs, newest first; completed jobs are not kept
    #[command(after_help = "Example:\n  orderflow jobs list --state failed --kind deliver-webhook")]
    List(list::Arguments),
    /// Show a job with its payload and the errors of its attempts
    #[command(after_help = "Example:\n  orderflow jobs show 01a20d3f-6ea4-7787-8145-34120562872d")]
    Show(show::Arguments),
    /// Retry failed jobs, with all their attempts
    #[command(
        after_help = "Example:\n  orderflow jobs retry --kind deliver-webhook --why 'it is back'"
    )]
    Retry(change::Arguments),
    /// Remove failed and waiting jobs; running ones are skipped
    #[command(
        after_help = "Example:\n  orderflow jobs discard --kind send-email --why 'no address'"
    )]
    Discard(change::Arguments),
}

/// State that all commands share.
struct Context {
    services: Services,
    service: Option<String>,
    json: bool,
    out: Output<std::io::StdoutLock<'static>>,
}

impl Context {
    /// Returns the given service, or all.
    fn clients(&self) -> Result<Vec<Client>, Error> {
        self.services.named(self.service.as_deref())
    }
}

/// Returns the exit status: 1 if a service did not answer, or nothing was changed.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { target, service, json, command } = arguments;
    let services = Services::new(&target).during("find the services")?;
    let mut context = Context { services, service, json, out: Output::stdout() };
    match command {
        Command::List(arguments) => {
            list::run(&mut context, &arguments).await.during("list the jobs")
        }
        Command::Show(arguments) => show::run(&mut context, &arguments).await,
        Command::Retry(arguments) => change::run(&mut context, arguments, &job_change::RETRY).await,
        Command::Discard(arguments) => {
            change::run(&mut context, arguments, &job_change::DISCARD).await
        }
    }
}
