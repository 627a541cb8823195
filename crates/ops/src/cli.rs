//! The command line.

use std::process::ExitCode;

use clap::Parser;

use crate::{dlq, error::Failure, lag, serve, show_flow, subscriptions};

/// Operate a system of Orderflow services.
#[derive(Parser)]
#[command(name = "orderflow")]
enum Command {
    /// Dead letters: list, show, rehearse, replay, edit, discard and restore them
    Dlq(Box<dlq::Arguments>),
    /// Show what became of one order, across services, and what it waits for
    Flow(Box<show_flow::Arguments>),
    /// How far each consumer group is behind, measured from Kafka, also of services that are down
    Lag(Box<lag::Arguments>),
    /// Poll services and Kafka, export lag and the rest on /metrics, send alerts
    Serve(Box<serve::Arguments>),
    /// Subscriptions: list them, pause one on all its instances, resume it, drop what one left behind
    Subscriptions(subscriptions::Arguments),
}

/// Runs the command that the process's arguments name.
///
/// The exit status is 0 if all is well, 1 if something is not, and 2 if the arguments are wrong.
pub fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Failure::new("start", error).print();
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match command {
            Command::Dlq(arguments) => dlq::run(*arguments).await,
            Command::Flow(arguments) => show_flow::run(*arguments).await,
            Command::Lag(arguments) => lag::run(*arguments).await,
            Command::Serve(arguments) => serve::run(*arguments).await,
            Command::Subscriptions(arguments) => subscriptions::run(arguments).await,
        }
    });
    // Kafka's client may still wait for an answer that is not needed any more.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_status())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_of_all_commands_fit_together() {
        Command::command().debug_assert();
    }
}
