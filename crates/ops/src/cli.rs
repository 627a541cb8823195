//! The command line.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::error::Failure;
use crate::{acts, completions, dlq, jobs, lag, serve, show_flow, status, style, subscriptions};

const AFTER_HELP: &str = "Exit status:
  0  all is well
  1  something is not: a service does not answer, an outcome failed, ..
  2  the arguments are wrong, or name something unknown

Examples:
  orderflow status
  orderflow dlq groups --group billing
  orderflow jobs retry --kind deliver-webhook --why 'it is back'

ORDERFLOW_SERVICES=order=http://..,billing=http://.. names admin ports.
OPERATOR_TOKEN is your token, or OPERATOR_TOKEN_FILE a file that holds it.
NO_COLOR=1 turns colour off.";

/// Operate a system of Orderflow services.
#[derive(Parser)]
#[command(name = "orderflow", max_term_width = 80, after_help = AFTER_HELP)]
enum Command {
    /// Show the health of all services on one screen, with what to do next
    Status(status::Arguments),
    /// Dead letters: list, show, rehearse, replay, edit, discard and restore them
    Dlq(Box<dlq::Arguments>),
    /// Show the flow of one order across services, and what it waits for
    Flow(Box<show_flow::Arguments>),
    /// Show the lag of each consumer group, measured from Kafka, also of services that are down
    Lag(Box<lag::Arguments>),
    /// Poll services and Kafka, serve the console and /metrics, send alerts
    Serve(Box<serve::Arguments>),
    /// Jobs: list and show them, retry failed ones, discard failed and waiting ones
    Jobs(jobs::Arguments),
    /// Subscriptions: list them, pause one on all its instances, resume it, drop the rows of an
    /// abandoned one
    Subscriptions(subscriptions::Arguments),
    /// List the acts of operators in all services, newest first
    Acts(acts::Arguments),
    /// Print a shell completion script
    Completions(completions::Arguments),
}

/// Returns the definition of the command line, from which documentation is generated.
pub fn command_line() -> clap::Command {
    Command::command()
}

/// Runs the command of the process's arguments.
///
/// The exit status is 0 if all is well, 1 if there is a problem, and 2 if the arguments are wrong.
pub fn main() -> ExitCode {
    style::detect();
    let command = settings::parse::<Command>(&[]);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Failure::new("start", error).print();
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(command));
    // Kafka's client may still wait for a response that is not needed any more.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_status())
        }
    }
}

async fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Status(arguments) => status::run(&arguments).await,
        Command::Dlq(arguments) => dlq::run(*arguments).await,
        Command::Flow(arguments) => show_flow::run(*arguments).await,
        Command::Lag(arguments) => lag::run(*arguments).await,
        Command::Serve(arguments) => serve::run(*arguments).await,
        Command::Jobs(arguments) => jobs::run(arguments).await,
        Command::Subscriptions(arguments) => subscriptions::run(arguments).await,
        Command::Acts(arguments) => acts::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments, Command::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        Command::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for command in command.get_subcommands().filter(|it| it.get_name() != "help") {
                let path = format!("{path} {}", command.get_name());
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let name = command.get_name();
                assert!(help.contains("Example") && help.contains(name), "{path}: {help}");
                // A command that is wrapped can't be copied.
                assert!(help.lines().all(|line| line.chars().count() <= 80), "{path}: {help}");
                check(command, &path);
            }
        }
        let command = Command::command();
        assert!(command.get_after_help().is_some_and(|it| it.to_string().contains("Exit status")));
        check(&command, "orderflow");
    }
}
