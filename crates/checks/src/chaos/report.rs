//! The report: a table on the terminal, and `target/chaos.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Error;

/// Maximum number of violations that are shown for an invariant.
const SHOWN: usize = 3;

/// Result of one fault.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) orders: usize,
    /// Events that were published or delivered again without a second effect.
    pub(crate) duplicates: usize,
    /// E-mails and webhooks that arrived again under the same id.
    pub(crate) resent: usize,
    pub(crate) invariants: BTreeMap<&'static str, bool>,
    /// `None` if the lag did not disappear.
    pub(crate) heal_seconds: Option<f64>,
    /// Violations of the invariants, and the folder of the logs.
    #[serde(skip)]
    pub(crate) notes: Vec<String>,
    /// Summary of the fault, such as which broker died.
    pub(crate) struck: String,
    pub(crate) took_seconds: u64,
}

impl Row {
    /// Enters an invariant with its violations.
    pub(crate) fn enter(&mut self, name: &'static str, objections: &[String]) {
        self.invariants.insert(name, objections.is_empty());
        let shown = objections.iter().take(SHOWN);
        self.notes.extend(shown.map(|objection| format!("{name}: {objection}")));
        if objections.len() > SHOWN {
            self.notes.push(format!("{name}: and {} more", objections.len() - SHOWN));
        }
    }

    pub(crate) fn is_green(&self) -> bool {
        !self.invariants.is_empty() && self.invariants.values().all(|holds| *holds)
    }

    /// Returns one line, with the violations below.
    pub(crate) fn line(&self) -> String {
        let verdict = if self.is_green() { "green" } else { "RED" };
        let mut text =
            format!("{verdict:<5} {:<32} {:>3} s  {}", self.fault, self.took_seconds, self.struck);
        for note in &self.notes {
            let _ = write!(text, "\n        {note}");
        }
        text
    }

    fn heal(&self) -> String {
        self.heal_seconds.map_or_else(|| "never".into(), |seconds| format!("{seconds:.1}"))
    }

    fn verdict(&self) -> String {
        let red = self.invariants.iter().filter(|(_, holds)| !**holds).map(|(name, _)| *name);
        let red: Vec<_> = red.collect();
        if red.is_empty() {
            format!("all {} hold", self.invariants.len())
        } else {
            format!("RED: {}", red.join(", "))
        }
    }
}

/// Results of all faults.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<32} | {:>6} | {:>10} | {:>6} | {:>6} | invariants\n",
            "fault", "orders", "duplicates", "resent", "heal s"
        );
        let _ = writeln!(text, "{}", "-".repeat(93));
        for row in &self.rows {
            let (heal, verdict) = (row.heal(), row.verdict());
            let Row { fault, orders, duplicates, resent, .. } = row;
            let _ = writeln!(
                text,
                "{fault:<32} | {orders:>6} | {duplicates:>10} | {resent:>6} | {heal:>6} | {verdict}"
            );
        }
        text
    }

    pub(crate) fn write(&self, to: &Path) -> Result<(), Error> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(to, serde_json::to_string_pretty(&self.rows)? + "\n")?)
    }
}
