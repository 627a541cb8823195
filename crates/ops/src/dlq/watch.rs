//! Watches a replay, which runs in its service.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::words;
use crate::client::{Answer, Client, Replay, ReplayDetails};
use crate::error::{Error, complain};

/// Interval of the requests. The first ones follow each other more quickly.
const INTERVAL: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(50);
/// Interval of the lines if the output is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Why watching ended.
pub(super) enum Watched {
    /// The replay is done, cancelled or paused.
    AtRest(Box<Answer<ReplayDetails>>),
    /// The operator stopped watching. The replay continues.
    Detached,
}

/// Shows the progress of a replay until it rests, or until the operator interrupts.
///
/// A service that becomes unavailable is named once, and requests are repeated.
pub(super) async fn watch<W: Write>(
    out: &mut W,
    client: &Client,
    id: Uuid,
    is_silent: bool,
) -> Result<Watched, Error> {
    let mut progress = Progress::new(out, is_silent);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut is_unavailable = false;
    let mut pause = FIRST;
    loop {
        let asked = tokio::select! {
            asked = client.replay(id) => asked,
            _ = &mut interrupted => return detached(&mut progress, id),
        };
        match asked {
            Ok(details) => {
                if is_unavailable {
                    progress.interrupt()?;
                    complain(&format!("{} answers again.", client.service));
                    is_unavailable = false;
                }
                if details.replay.is_at_rest() {
                    progress.end(&details.replay)?;
                    return Ok(Watched::AtRest(Box::new(details)));
                }
                progress.show(&details.replay)?;
            }
            Err(error) if error.is_unavailable() => {
                if !is_unavailable {
                    progress.interrupt()?;
                    complain(&format!(
                        "{} does not answer; the replay is stored there and continues when it is back. Retrying ..",
                        client.service
                    ));
                    is_unavailable = true;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(INTERVAL),
            _ = &mut interrupted => return detached(&mut progress, id),
        }
    }
}

fn detached<W: Write>(progress: &mut Progress<'_, W>, id: Uuid) -> Result<Watched, Error> {
    progress.interrupt()?;
    complain(&format!(
        "Stopped watching; the replay continues. To watch it again: orderflow dlq replays watch {id}\n\
         To end it: orderflow dlq replays cancel {id} --why .."
    ));
    Ok(Watched::Detached)
}

/// Writes the line with the progress of a replay.
struct Progress<'a, W> {
    out: &'a mut W,
    style: Style,
    /// When the last line was written.
    written: Option<Instant>,
    /// Whether the current line will be rewritten.
    is_open: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Silent,
    /// One line that is rewritten.
    Line,
    /// A new line from time to time.
    Lines,
}

impl<'a, W: Write> Progress<'a, W> {
    fn new(out: &'a mut W, is_silent: bool) -> Self {
        let style = match is_silent {
            true => Style::Silent,
            false if io::stdout().is_terminal() => Style::Line,
            false => Style::Lines,
        };
        // The start of the replay has just been printed.
        Self { out, style, written: Some(Instant::now()), is_open: false }
    }

    fn show(&mut self, replay: &Replay) -> io::Result<()> {
        match self.style {
            Style::Silent => return Ok(()),
            // Line wrapping is off, because a second line could not be rewritten.
            Style::Line => {
                write!(self.out, "\r\x1b[K\x1b[?7l{}\x1b[?7h", text(replay))?;
                self.is_open = true;
            }
            Style::Lines => {
                if self.written.is_some_and(|written| written.elapsed() < LINE) {
                    return Ok(());
                }
                writeln!(self.out, "{}", text(replay))?;
                self.written = Some(Instant::now());
            }
        }
        self.out.flush()
    }

    /// Shows the last state in the line that is rewritten, if there is one.
    fn end(&mut self, replay: &Replay) -> io::Result<()> {
        if self.is_open {
            self.show(replay)?;
        }
        self.interrupt()
    }

    /// Ends the line before other output.
    fn interrupt(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) {
            writeln!(self.out)?;
        }
        Ok(())
    }
}

/// Returns the progress of a replay: "340 of 500: 320 processed, 20 duplicates".
pub(super) fn text(replay: &Replay) -> String {
    let Replay { selected, outcomes, rehearsal, status, group, .. } = replay;
    if status == "queued" {
        return format!("queued: {}", words::queued(group));
    }
    let outcomes_so_far = words::outcomes(outcomes, *rehearsal);
    let colon = if outcomes_so_far.is_empty() { "" } else { ": " };
    format!("{} of {selected}{colon}{outcomes_so_far}", outcomes.settled())
}
