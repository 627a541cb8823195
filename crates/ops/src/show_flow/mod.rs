//! `orderflow flow`: a flow as a tree, as JSON, or line by line as it goes on.

mod collapse;
mod color;
mod details;
mod follow;
mod head;
mod headline;
mod lines;
mod sentences;
mod units;
mod wrap;

pub(crate) use collapse::{Shown, collapse, summary};
pub(crate) use color::Tone;
pub(crate) use head::{notes, state};
pub(crate) use headline::{Place, headline};
pub(crate) use lines::{Row, tone};
pub(crate) use units::{duration, number, time};

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use kafka::Settings;

use self::color::Colors;
use crate::client::Client;
use crate::error::{During, Failure};
use crate::flow::{Flow, State};
use crate::lag::KafkaArguments;
use crate::output::Output;
use crate::services::{Services, Target};

/// What `--help` ends with.
const AFTER: &str = "\
Times are relative to the start of the flow, in the order of causes. What
repeats is counted; `--steps all` shows it.

Exit status:
  0  the flow is complete and well
  1  something failed, is open or expected, or a service does not answer
  2  nothing is known of the id, or the arguments are wrong

Example: what became of an order, and what it waits for
  orderflow flow 9f3c1a52-0b7e-4d0e-9a43-6c1f7f1f2a11
  orderflow flow 9f3c1a52-0b7e-4d0e-9a43-6c1f7f1f2a11 --follow";

/// The arguments of `orderflow flow`.
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Arguments {
    /// A correlation id, an order id (the subject of events) or an event id
    id: String,
    /// Print the flow as one JSON document
    #[arg(long)]
    json: bool,
    /// Go on printing what happens, until nothing is open and everything expected has come; Ctrl-C ends it
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Whether what repeats is counted, or each step is shown with its ids
    #[arg(long, value_enum, default_value_t = Steps::Main)]
    steps: Steps,
    /// The page of traces, for the link
    #[arg(long, env = "JAEGER_URL", default_value = "http://localhost:16686")]
    jaeger: String,
    // Tells how far a group is that an event is expected at.
    #[command(flatten)]
    cluster: KafkaArguments,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Steps {
    Main,
    All,
}

/// What every way to show a flow needs.
struct Context {
    clients: Vec<Client>,
    kafka: Settings,
    id: String,
    /// Whether what repeats is counted.
    collapses: bool,
    jaeger: String,
    colors: Colors,
}

impl Context {
    async fn collect(&self) -> Result<Flow, Failure> {
        Flow::collect(&self.clients, &self.kafka, &self.id).await.during("find the flow")
    }
}

/// Returns the exit status: 1 if the flow is not complete and well, 2 if nothing is known of the id.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { id, json, follow, steps, jaeger, cluster, target } = arguments;
    let context = Context {
        clients: Services::new(&target).during("find the services")?.all(),
        kafka: cluster.settings().during("find Kafka")?,
        id,
        collapses: steps == Steps::Main,
        jaeger,
        colors: Colors::of_stdout(),
    };
    let mut out = Output::stdout();
    if follow {
        return follow::follow(&mut out, &context).await;
    }
    let flow = context.collect().await?;
    if json {
        print_json(&mut out, &flow).during("print the flow")?;
    } else {
        print(&mut out, &context, &flow).during("print the flow")?;
    }
    Ok(exit_status(&flow))
}

/// Returns the tree as rows of a screen.
pub(crate) fn rows(flow: &Flow, collapses: bool) -> Vec<Row> {
    lines::rows(flow, &lines::of(flow, collapses))
}

fn exit_status(flow: &Flow) -> u8 {
    match flow.state() {
        State::Complete => 0,
        State::Waiting | State::Failed => 1,
        State::Unknown => 2,
    }
}

fn print_json(out: &mut impl Write, flow: &Flow) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &flow.to_json())?;
    writeln!(out)?;
    out.flush()
}

fn print(out: &mut impl Write, context: &Context, flow: &Flow) -> io::Result<()> {
    if flow.is_empty() {
        head::print_unknown(flow);
        return Ok(());
    }
    head::write(out, context, flow)?;
    writeln!(out)?;
    lines::write(out, flow, &lines::of(flow, context.collapses), context.colors)?;
    sentences::write(out, flow, context.colors)?;
    out.flush()
}
