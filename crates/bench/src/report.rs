//! Reports progress, and prints and writes the results to `target/bench.json`.

use std::fs;
use std::process::ExitCode;

use sandbox::Console;
use serde::Serialize;

use crate::Fallible;

const FILE: &str = "target/bench.json";
/// Target of a row that only gives context.
pub(crate) const NO_TARGET: Target = Target { must: None, ambitious: None };

/// The lowest ratio that a row has to reach, and a higher one that it aims at.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Target {
    must: Option<f64>,
    ambitious: Option<f64>,
}

impl From<f64> for Target {
    fn from(must: f64) -> Self {
        Self { must: Some(must), ambitious: None }
    }
}

impl Target {
    /// Returns the columns of the target, and whether this ratio misses it.
    fn columns(self, ratio: f64) -> String {
        let column = |of: Option<f64>| of.map_or_else(String::new, |it| format!("{it:.2}"));
        // NaN misses every target.
        let missed = !self.must.is_none_or(|must| ratio >= must);
        let missed = if missed { "  missed" } else { "" };
        format!("{:>6} {:>9}{missed}", column(self.must), column(self.ambitious))
    }
}

/// Creates the target of a row whose ratio must be at least the first value, and aims at the second
/// one.
pub(crate) fn aiming_at(must: f64, ambitious: f64) -> Target {
    Target { must: Some(must), ambitious: Some(ambitious) }
}

/// Results of both sides in one round.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Round {
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
}

/// Result of a row: the medians of both sides, and the median of the ratios of the rounds, in which
/// both sides follow each other. The ratio of the medians would compare rounds of different times,
/// and a shared machine changes its speed meanwhile. A higher ratio is always better.
#[derive(Serialize)]
pub(crate) struct Row {
    name: &'static str,
    ours: f64,
    theirs: f64,
    unit: &'static str,
    ratio: f64,
    /// The lowest and the highest ratio of a round.
    spread: (f64, f64),
    #[serde(flatten)]
    target: Target,
    rounds: Vec<Round>,
}

impl Row {
    /// Creates a row of which a higher value is better.
    pub(crate) fn rate(
        name: &'static str,
        unit: &'static str,
        target: impl Into<Target>,
        rounds: Vec<Round>,
    ) -> Self {
        Self::compared(name, unit, target, rounds, |round| round.ours / round.theirs)
    }

    /// Creates a row of which a lower value is better.
    pub(crate) fn less(
        name: &'static str,
        unit: &'static str,
        target: impl Into<Target>,
        rounds: Vec<Round>,
    ) -> Self {
        Self::compared(name, unit, target, rounds, |round| round.theirs / round.ours)
    }

    fn compared(
        name: &'static str,
        unit: &'static str,
        target: impl Into<Target>,
        rounds: Vec<Round>,
        ratio: fn(&Round) -> f64,
    ) -> Self {
        let median = |of: fn(&Round) -> f64| quantile(rounds.iter().map(of).collect(), 0.5);
        let (ours, theirs) = (median(|round| round.ours), median(|round| round.theirs));
        let ratios = || rounds.iter().map(ratio);
        let spread = (ratios().fold(f64::MAX, f64::min), ratios().fold(f64::MIN, f64::max));
        let (ratio, target) = (median(ratio), target.into());
        Self { name, ours, theirs, unit, ratio, spread, target, rounds }
    }
}

/// Returns the smallest value that at least this part of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (count(values.len()) * part).ceil();
    // The rank is positive and small.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = rank as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Converts a count to a float.
pub(crate) fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

/// Collects the rows.
pub(crate) struct Report {
    console: Console,
    rows: Vec<Row>,
    errors: Vec<String>,
}

impl Report {
    pub(crate) fn new(console: Console) -> Self {
        Self { console, rows: Vec::new(), errors: Vec::new() }
    }

    /// Prints the result of a round.
    pub(crate) fn round(&self, row: &str, number: u32, of: u32, summary: &str) {
        self.console.line(&format!("  {row} {number}/{of}: {summary}"));
    }

    pub(crate) fn add(&mut self, name: &str, measured: Fallible<Vec<Row>>) {
        match measured {
            Ok(rows) => self.rows.extend(rows),
            Err(error) => {
                let line = format!("{name}: {error}");
                self.console.line(&format!("  failed: {line}"));
                self.errors.push(line);
            }
        }
    }

    /// Prints the table and writes the file. Returns a failure if a row was not measured. A missed
    /// target does not change the exit status.
    pub(crate) fn finish(self) -> Fallible<ExitCode> {
        println!(
            "\n{:<44} {:>9} {:>9}  {:<8} {:>6} {:>15} {:>6} {:>9}",
            "", "ours", "theirs", "unit", "ratio", "by round", "must", "ambitious"
        );
        for Row { name, ours, theirs, unit, ratio, spread, target, .. } in &self.rows {
            let target = target.columns(*ratio);
            let digits = usize::from(*unit == "ms");
            let spread = format!("{:.2} to {:.2}", spread.0, spread.1);
            let line = format!(
                "{name:<44} {ours:>9.digits$} {theirs:>9.digits$}  {unit:<8} {ratio:>6.2} {spread:>15} {target}"
            );
            println!("{}", line.trim_end());
        }
        for error in &self.errors {
            println!("error in {error}");
        }
        fs::create_dir_all("target")?;
        fs::write(FILE, serde_json::to_vec_pretty(&self.rows)?)?;
        println!("\n{FILE} has the rounds.");
        Ok(if self.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
