//! `orderflow flow`: shows a flow as a tree, as JSON, or line by line as it continues.

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
pub(crate) use headline::{Layout, headline};
pub(crate) use lines::{Row, tone};
pub(crate) use units::{duration, number, time};

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use kafka::Settings;

use self::color::Colors;
use crate::client::Client;
use crate::error::{Failure, StepContext};
use crate::flow::{Flow, State};
use crate::lag::KafkaArguments;
use crate::output::Output;
use crate::services::{Services, Target};

/// Text at the end of `--help`.
const AFTER: &str = "\
Times are relative to the start of the flow; effects follow their causes.
Repeated steps are counted; `--steps all` shows them.

Exit status:
  0  the flow is complete and well
  1  a step failed, is open or expected, or a service does not answer
  2  the id is unknown, or the arguments are wrong

Example: the steps of an order, and what it waits for
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
    /// Print new steps until nothing is open and nothing more is expected; Ctrl-C ends it
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Whether repeated steps are counted, or each step is shown with its ids
    #[arg(long, value_enum, default_value_t = Steps::Main)]
    steps: Steps,
    /// Address of the trace viewer, for the link; `off` if there is none
    #[arg(long, env = "JAEGER_URL", default_value = "http://localhost:16686")]
    jaeger: String,
    // Kafka is queried for the lag of groups at which an event is expected.
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

/// State that all forms of output share.
struct Context {
    clients: Vec<Client>,
    kafka: Settings,
    id: String,
    /// Whether repeated steps are counted.
    collapses: bool,
    jaeger: String,
    colors: Colors,
}

impl Context {
    async fn collect(&self) -> Result<Flow, Failure> {
        Flow::collect(&self.clients, &self.kafka, &self.id).await.during("find the flow")
    }
}

/// Returns the exit status: 1 if the flow is not complete and well, 2 if the id is unknown.
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
