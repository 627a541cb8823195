//! Runs the blocks of the page.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::{Console, step};
use tokio::time::sleep;

use super::Error;
use super::compare::{Difference, Ids, compare};
use super::page::{Block, Mark};
use super::shell::{Printed, Shell};
use super::work_folder::Variant;

/// How long a command that only reads is repeated until it prints what the page shows: on a busy
/// machine, the effects of an order take longer than the page waits.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// A command whose output differs from the page.
pub(crate) struct Finding {
    /// Line of its block on the page.
    line: usize,
    title: String,
    kind: FindingKind,
    /// Last lines of its standard error.
    errors: String,
}

enum FindingKind {
    /// The command printed something else.
    Differs(Difference),
    /// The command ended with an exit status other than 0.
    Failed(i32),
    TooLate(Duration),
}

impl FindingKind {
    /// Returns `true` if the blocks after it can't be run.
    fn ends_the_tour(&self, mark: Mark) -> bool {
        // Blocks for one variant start and stop the system.
        matches!(self, Self::TooLate(_)) || mark != Mark::Every
    }
}

/// Results so far.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) run: usize,
    pub(crate) compared: usize,
    pub(crate) findings: Vec<Finding>,
    /// Lines of blocks that take minutes or need another program.
    pub(crate) left_out: Vec<usize>,
}

/// Selects the blocks to run.
pub(crate) struct Choice {
    pub(crate) variant: Variant,
    /// Extra blocks that contain this text are run, too.
    pub(crate) extra: Option<String>,
}

impl Choice {
    fn has(&self, block: &Block) -> bool {
        let asked = |extra: &String| block.mark == Mark::Extra && block.code.contains(extra);
        self.variant.has(block.mark) || self.extra.as_ref().is_some_and(asked)
    }
}

/// Runs the blocks in their order, and shows the progress on the console.
pub(crate) async fn walk(
    blocks: &[Block],
    choice: &Choice,
    shell: &mut Shell,
    console: &Console,
    report: &mut Report,
) -> Result<(), Error> {
    let mut ids = Ids::new();
    for block in blocks {
        if !choice.has(block) {
            report.left_out.extend((block.mark == Mark::Extra).then_some(block.line));
            continue;
        }
        let name = format!("{:>4}  {}", block.line, block.title());
        let limit = choice.variant.limit(block.mark);
        let outcome = |ended: &Option<Finding>| match ended {
            None => format!("{name}  ok"),
            Some(_) => format!("{name}  DIFFERS"),
        };
        let found = step(console, &name, attempts(block, limit, shell, &mut ids), outcome).await?;
        report.run += 1;
        report.compared += usize::from(block.shown.is_some());
        if let Some(finding) = found {
            console.line(&finding.to_string());
            let ends = finding.kind.ends_the_tour(block.mark);
            report.findings.push(finding);
            if ends {
                break;
            }
        }
    }
    Ok(())
}

/// Runs a block, repeatedly if it only reads, until its output matches the page. Returns the last
/// difference.
async fn attempts(
    block: &Block,
    limit: Duration,
    shell: &mut Shell,
    ids: &mut Ids,
) -> Result<Option<Finding>, Error> {
    let start = Instant::now();
    loop {
        let run = shell.run(block.line, &block.code, limit).await;
        let printed = run.map_err(Error::io(format!("run the block at line {}", block.line)))?;
        let Some(kind) = judge(block, &printed, limit, ids) else { return Ok(None) };
        let is_over = start.elapsed() >= PATIENCE || matches!(kind, FindingKind::TooLate(_));
        if is_over || !block.only_reads() {
            let errors = last_lines(&printed.errors);
            return Ok(Some(Finding { line: block.line, title: block.title(), kind, errors }));
        }
        sleep(PAUSE).await;
    }
}

fn judge(block: &Block, printed: &Printed, limit: Duration, ids: &mut Ids) -> Option<FindingKind> {
    match printed.status {
        None => Some(FindingKind::TooLate(limit)),
        Some(0) => {
            let compared = block.shown.as_ref().map(|shown| compare(shown, &printed.output, ids));
            compared?.err().map(FindingKind::Differs)
        }
        Some(status) => Some(FindingKind::Failed(status)),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  line {}: {}", self.line, self.title)?;
        match &self.kind {
            FindingKind::Differs(Difference { line, expected, seen }) => {
                write!(f, "\n    expected (line {line})  {expected}")?;
                write!(
                    f,
                    "\n    seen                {}",
                    seen.replace('\n', "\n                        ")
                )?;
            }
            FindingKind::Failed(status) => write!(f, "\n    ended with the exit status {status}")?,
            FindingKind::TooLate(limit) => write!(f, "\n    did not end within {limit:?}")?,
        }
        if !self.errors.is_empty() {
            write!(
                f,
                "\n    it also wrote       {}",
                self.errors.replace('\n', "\n                        ")
            )?;
        }
        writeln!(f)
    }
}

impl Report {
    /// Returns the closing lines.
    pub(crate) fn summary(&self, took: Duration, printed: &Path) -> String {
        let Self { run, compared, left_out, findings } = self;
        let mut lines = vec![format!(
            "\n{run} commands run, the output of {compared} compared with the page, in {:.0} s.",
            took.as_secs_f64()
        )];
        if !left_out.is_empty() {
            let numbers: Vec<_> = left_out.iter().map(ToString::to_string).collect();
            lines.push(format!(
                "Not run, since they take minutes or need another program: lines {}.\n\
                 `make tour EXTRA='make compare'` also runs those with that text.",
                numbers.join(", ")
            ));
        }
        lines.push(match findings.len() {
            0 => "The page matches.".to_owned(),
            count => format!(
                "{count} differed from the page. Look at the first one first: others may follow from \
                 it.\nThe output of each is in {}.\n\
                 Next: fix the program, or write its new output into the page; then `make tour` again.",
                printed.display()
            ),
        });
        lines.join("\n")
    }
}
