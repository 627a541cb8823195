//! `--follow`: prints what is new, line by line, and rewrites nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::{During, Failure, complain};
use crate::flow::{Finding, Flow, Node, State};
use crate::plain::plain;

use super::headline::{Place, headline, shape};
use super::{Context, exit_status, head, lines, sentences};

/// How often the services are asked, and the most that it backs off to while nothing happens.
const INTERVAL: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How long an id may take to become known: steps are written with a delay.
const FIRST: Duration = Duration::from_secs(5);

/// Prints the flow, and then what happens in it, until nothing is open and everything expected has come.
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

/// What was printed so far.
#[derive(Default)]
struct Followed {
    /// The last line of each node.
    told: BTreeMap<String, String>,
    /// Services that could not be reached when last asked.
    unreachable: Vec<String>,
    has_head: bool,
    /// Whether everything was done when last looked at.
    was_over: bool,
    status: u8,
}

impl Followed {
    /// Prints what is new. Returns `false` if nothing is.
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

    /// Returns `true` if a node has a line that was not printed, and notes it. How many messages come first changes all the
    /// time and is no news.
    fn is_new(&mut self, node: &Node) -> bool {
        let mut line = headline(node, Place::Alone);
        if matches!(node.finding(), Some(Finding::Expected { .. })) {
            line = shape(&line);
        }
        self.told.insert(node.key(), line.clone()).is_none_or(|told| told != line)
    }

    /// Says once that a service can't be reached, and that it can again. The head has said it of the first look.
    fn name_unreachable(&mut self, flow: &Flow, is_told: bool) {
        let gone = flow.services.iter().filter(|it| it.unreachable.is_some());
        let gone: Vec<_> = gone.map(|it| it.name.clone()).collect();
        for name in gone.iter().filter(|it| !is_told && !self.unreachable.contains(it)) {
            complain(&format!("{} can't be reached; asking again ..", plain(name)));
        }
        for name in self.unreachable.iter().filter(|it| !gone.contains(it)) {
            complain(&format!("{} answers again.", plain(name)));
        }
        self.unreachable = gone;
    }

    /// Returns `true` if nothing more can come, for the second time in a row: steps are written with a delay.
    fn is_over(&mut self, flow: &Flow) -> bool {
        let is_over = flow.state() != State::Unknown
            && !flow.is_empty()
            && flow.findings().iter().all(Finding::is_final);
        std::mem::replace(&mut self.was_over, is_over) && is_over
    }
}
