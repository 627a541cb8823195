//! `--follow`: prints new lines, and rewrites none.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{Failure, StepContext, complain};
use crate::flow::{Finding, Flow, Node, State};
use crate::plain::plain;

use super::headline::{Layout, headline, shape};
use super::{Context, exit_status, head, lines, sentences};

/// Interval of the queries, and the maximum to which it grows while nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How long an id may take to become known: steps are written with a delay.
const FIRST: Duration = Duration::from_secs(5);

/// Prints the flow and then its changes, until nothing is open and nothing more is expected.
pub(super) async fn follow(out: &mut impl Write, context: &Context) -> Result<u8, Failure> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut followed = Followed::default();
    let (began, mut pause) = (Instant::now(), INTERVAL);
    loop {
        let flow = tokio::select! {
            flow = context.collect() => flow?,
            _ = &mut interrupted => return Ok(followed.status),
        };
        if flow.is_empty() && began.elapsed() > FIRST {
            head::print_unknown(&flow);
            return Ok(exit_status(&flow));
        }
        if followed.show(out, context, &flow).during("print the flow")? {
            pause = INTERVAL;
        } else {
            pause = (pause * 3 / 2).min(LONGEST);
        }
        if followed.is_over(&flow) {
            sentences::write(out, &flow, context.colors).during("print the flow")?;
            return Ok(followed.status);
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut interrupted => return Ok(followed.status),
        }
    }
}

/// The state of the output.
#[derive(Default)]
struct Followed {
    /// The last line that was printed for each node.
    printed: BTreeMap<String, String>,
    /// Services that were unreachable in the last query.
    unreachable: Vec<String>,
    has_head: bool,
    /// Whether the flow was finished in the last query.
    was_over: bool,
    status: u8,
}

impl Followed {
    /// Prints changes. Returns `false` if there are none.
    fn show(&mut self, out: &mut impl Write, context: &Context, flow: &Flow) -> io::Result<bool> {
        self.status = exit_status(flow);
        if flow.is_empty() {
            return Ok(false);
        }
        let nodes = flow.nodes();
        let new: Vec<_> = nodes.into_iter().filter(|node| self.is_new(node)).collect();
        let is_first = !std::mem::replace(&mut self.has_head, true);
        if is_first {
            head::write(out, context, flow)?;
            writeln!(out)?;
            lines::write(out, flow, &lines::of(flow, context.collapses), context.colors)?;
        } else {
            let new: Vec<_> = new.iter().map(|node| lines::alone(flow, node)).collect();
            lines::write(out, flow, &new, context.colors)?;
        }
        out.flush()?;
        self.name_unreachable(flow, is_first);
        Ok(!new.is_empty())
    }

    /// Returns `true` if the line of a node has changed, and records it. The number of messages
    /// ahead changes all the time and does not count as a change.
    fn is_new(&mut self, node: &Node) -> bool {
        let mut line = headline(node, Layout::Alone);
        if matches!(node.finding(), Some(Finding::Expected { .. })) {
            line = shape(&line);
        }
        self.printed.insert(node.key(), line.clone()).is_none_or(|printed| printed != line)
    }

    /// Prints once that a service can't be reached, and later that it answers again. Services that
    /// were unreachable in the first query are in the head.
    fn name_unreachable(&mut self, flow: &Flow, is_first: bool) {
        let unreachable = flow.services.iter().filter(|it| it.unreachable.is_some());
        let unreachable: Vec<_> = unreachable.map(|it| it.name.clone()).collect();
        for name in unreachable.iter().filter(|it| !is_first && !self.unreachable.contains(it)) {
            complain(&format!("{} can't be reached; retrying ..", plain(name)));
        }
        for name in self.unreachable.iter().filter(|it| !unreachable.contains(it)) {
            complain(&format!("{} answers again.", plain(name)));
        }
        self.unreachable = unreachable;
    }

    /// Returns `true` if the flow was finished in two queries in a row, since steps are written
    /// with a delay.
    fn is_over(&mut self, flow: &Flow) -> bool {
        let is_over = flow.state() != State::Unknown
            && !flow.is_empty()
            && flow.findings().iter().all(Finding::is_final);
        std::mem::replace(&mut self.was_over, is_over) && is_over
    }
}
