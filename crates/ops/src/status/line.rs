use std::io::{self, Write};

use crate::style::{Tone, paint};

/// Width of the screen, in characters.
const COLUMNS: usize = 80;
/// Column at which the text begins, after the mark and the area.
const INDENT: usize = 19;

/// Status line of one area, such as the outbox.
pub(super) struct StatusLine {
    /// `None` for a line that only informs.
    tone: Option<Tone>,
    pub(super) area: &'static str,
    pub(super) text: String,
    /// Further lines below the text.
    pub(super) details: Vec<String>,
    /// The next step for an operator.
    pub(super) next: Option<String>,
}

impl StatusLine {
    pub(super) fn well(area: &'static str, text: impl Into<String>) -> Self {
        Self::new(Some(Tone::Well), area, text)
    }

    pub(super) fn bad(area: &'static str, text: impl Into<String>) -> Self {
        Self::new(Some(Tone::Bad), area, text)
    }

    /// Creates a line that only informs.
    pub(super) fn note(area: &'static str, text: impl Into<String>) -> Self {
        Self::new(None, area, text)
    }

    fn new(tone: Option<Tone>, area: &'static str, text: impl Into<String>) -> Self {
        Self { tone, area, text: text.into(), details: Vec::new(), next: None }
    }

    pub(super) fn details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    /// Adds to the text how the data was obtained.
    pub(super) fn source(mut self, how: &str) -> Self {
        self.text = format!("{}, {how}", self.text);
        self
    }

    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// Adds the services whose data is missing. A service that has answered other requests makes
    /// the line a bad one. A service that has answered none has a bad line of its own.
    pub(super) fn without(mut self, unknown: &[(&str, &str)], unreachable: &[&str]) -> Self {
        for (service, why) in unknown {
            self.tone = Some(Tone::Bad);
            self.details.push(format!("unknown in {service}: {why}"));
        }
        if !unreachable.is_empty() {
            if self.tone == Some(Tone::Well) {
                self.tone = Some(Tone::Caution);
            }
            self.text = format!("{} (unknown in {})", self.text, unreachable.join(", "));
        }
        self
    }

    pub(super) fn is_well(&self) -> bool {
        self.tone != Some(Tone::Bad)
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mark = match self.tone {
            None => "    ".to_owned(),
            Some(Tone::Bad) => paint(Tone::Bad, "!!  "),
            Some(Tone::Caution) => paint(Tone::Caution, "?   "),
            Some(Tone::Well) => paint(Tone::Well, "ok  "),
        };
        writeln!(out, "{mark}{:<15}{}", self.area, clipped(&self.text))?;
        for detail in &self.details {
            writeln!(out, "{:INDENT$}{}", "", clipped(detail))?;
        }
        if let Some(next) = &self.next {
            writeln!(out, "{:INDENT$}next: {next}", "")?;
        }
        Ok(())
    }
}

/// Shortens a text to the width of the line; `--json` has the whole text.
fn clipped(text: &str) -> String {
    const ROOM: usize = COLUMNS - INDENT;
    if text.chars().count() <= ROOM {
        return text.to_owned();
    }
    let shown: String = text.chars().take(ROOM - 1).collect();
    format!("{shown}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_on_the_screen_and_what_to_do_next_is_whole() {
        let next = format!("orderflow {}", "x".repeat(90));
        let line = StatusLine::bad("dead letters", "é".repeat(200)).details(vec!["d".repeat(61)]);
        let line = line.next(next.clone()).without(&[("billing", "HTTP 503")], &[]);
        let mut text = Vec::new();
        line.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("!!  dead letters   {}…", "é".repeat(60)));
        assert_eq!(lines[1].trim(), "d".repeat(61));
        assert_eq!(lines[2].trim(), "unknown in billing: HTTP 503");
        assert_eq!(lines[3].trim(), format!("next: {next}"));
    }

    #[test]
    fn what_is_unknown_of_a_service_that_is_gone_is_neither_well_nor_a_second_failure() {
        let line = StatusLine::well("jobs", "none failed").without(&[], &["order", "billing"]);
        let mut text = Vec::new();
        line.write(&mut text).unwrap();
        let shown = "?   jobs           none failed (unknown in order, billing)\n";
        assert_eq!(String::from_utf8(text).unwrap(), shown);
        assert!(line.is_well());
    }
}
