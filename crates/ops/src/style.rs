//! Colour, on a terminal only.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};

/// What a text says of the thing that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// It is well.
    Well,
    /// It is slowed down, or held up on purpose.
    Caution,
    /// It needs an operator.
    Bad,
}

/// Whether standard output takes colour. Not set: no.
static IS_COLOURED: OnceLock<bool> = OnceLock::new();

/// Finds out whether standard output takes colour: it is a terminal, and neither `NO_COLOR` (no-color.org) nor
/// `TERM=dumb` is set. What else is set, such as `CI`, makes no difference.
pub(crate) fn detect() {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    IS_COLOURED.get_or_init(|| {
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        io::stdout().is_terminal() && set("NO_COLOR").is_none() && !is_dumb
    });
}

/// Returns whether standard output takes colour, as `detect` found it.
pub(crate) fn is_coloured() -> bool {
    IS_COLOURED.get().copied().unwrap_or_default()
}

/// Returns the text in the colour of its tone, where standard output takes colour.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    if !is_coloured() {
        return text.to_owned();
    }
    let colour = match tone {
        Tone::Well => AnsiColor::Green,
        Tone::Caution => AnsiColor::Yellow,
        Tone::Bad => AnsiColor::Red,
    };
    let style = Style::new().fg_color(Some(colour.into()));
    format!("{style}{text}{style:#}")
}
