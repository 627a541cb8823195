//! Colours: only on a terminal, and not with `NO_COLOR` (no-color.org).

use std::io::{IsTerminal, stdout};

use anstyle::{AnsiColor, Style};

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tone {
    Plain,
    /// Waits, or is expected.
    Waiting,
    Failed,
}

/// Whether text is coloured.
#[derive(Clone, Copy)]
pub(super) struct Colors(bool);

impl Colors {
    pub(super) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self(stdout().is_terminal() && set("NO_COLOR").is_none() && !is_dumb)
    }

    /// Returns text in the colour of a tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Waiting => self.paint(AnsiColor::Yellow.on_default(), text),
            Tone::Failed => self.paint(AnsiColor::Red.on_default(), text),
        }
    }

    /// Returns text that stands back.
    pub(super) fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.0 && !text.trim().is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        assert_eq!(Colors(true).tone(Tone::Failed, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Colors(false).tone(Tone::Failed, "x") + &Colors(false).dim("y"), "xy");
    }
}
