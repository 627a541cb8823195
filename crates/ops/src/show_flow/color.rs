//! Colours of a flow in a terminal.

use anstyle::{AnsiColor, Style};

use crate::style;

/// Meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tone {
    Plain,
    /// Waiting or expected.
    Waiting,
    Failed,
}

/// Whether text is coloured.
#[derive(Clone, Copy)]
pub(super) struct Colors(bool);

impl Colors {
    pub(super) fn of_stdout() -> Self {
        Self(style::is_coloured())
    }

    /// Returns text in the colour of a tone.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Waiting => self.paint(AnsiColor::Yellow.on_default(), text),
            Tone::Failed => self.paint(AnsiColor::Red.on_default(), text),
        }
    }

    /// Returns dimmed text.
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
