//! Subscriptions: what is consumed, by which instances, and what holds it up.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::Subscription;
use crate::error::{During, Error, Failure, complain};
use crate::output::Output;
use crate::services::{Services, Target};

/// The state of a subscription that is well.
const RUNNING: &str = "running";

/// The arguments of `orderflow subscriptions`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the subscriptions of all services with their instances (the default)
    List,
    /// Stop a subscription on all its instances within a second
    Pause(Act),
    /// Let a subscription go on that is paused, or whose circuit breaker is open
    Resume(Act),
    /// Drop the rows of a group that nobody runs any more, as of a generation that was replaced; what it has on Kafka stays
    Drop(Act),
}

#[derive(Args)]
struct Act {
    /// The consumer group
    #[arg(long)]
    group: String,
    /// The reason, which is shown to everybody
    #[arg(long)]
    why: String,
}

/// Returns the exit status: 1 if a subscription does not run, or a service does not answer.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { target, command } = arguments;
    let services = Services::new(&target).during("find the services")?;
    let (act, name) = match command {
        None | Some(Command::List) => return list(&services).await,
        Some(Command::Pause(act)) => (act, "pause"),
        Some(Command::Resume(act)) => (act, "resume"),
        Some(Command::Drop(act)) => (act, "drop"),
    };
    let Act { group, why } = act;
    let step = format!("{name} {group}");
    let client = services.of_group(&group).during(&*step)?;
    let answer = client.change_subscription(&group, name, &why).await.during(&*step)?;
    writeln!(Output::stdout(), "{}", done(name, &group, &answer)).during(step)?;
    Ok(0)
}

fn done(act: &str, group: &str, answer: &Value) -> String {
    match act {
        "pause" => format!("{group} is paused; its instances obey within a second"),
        "resume" => format!("{group} goes on; its instances obey within a second"),
        _ => format!("{} rows of {group} were dropped", answer["rows"]),
    }
}

async fn list(services: &Services) -> Result<u8, Failure> {
    let mut out = Output::stdout();
    let mut is_well = true;
    for client in services.all() {
        match client.subscriptions().await {
            Ok(subscriptions) => {
                for subscription in subscriptions {
                    let states = subscription.instances.iter().map(|it| &it.state);
                    is_well &= states.chain([&subscription.state]).all(|it| it == RUNNING);
                    show(&mut out, &subscription).during("list them")?;
                }
            }
            Err(error) => {
                is_well = false;
                complain(&format!("{error}; its subscriptions are missing here"));
            }
        }
    }
    Ok(u8::from(!is_well))
}

fn show(out: &mut impl Write, subscription: &Subscription) -> Result<(), Error> {
    let Subscription { group, state, instances, .. } = subscription;
    writeln!(out, "{group}: {state}")?;
    for instance in instances {
        let id = instance.id.get(..8).unwrap_or(&instance.id);
        writeln!(out, "  {id}  seen {}  {}", instance.seen_at, instance.state)?;
    }
    Ok(())
}
