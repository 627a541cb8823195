//! Colour output for terminals.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};

/// The meaning of a text, shown as its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// All is well.
    Well,
    /// Slowed down, or stopped on purpose.
    Caution,
    /// It needs an operator.
    Bad,
}

/// Whether standard output is coloured. Unset means no.
static IS_COLOURED: OnceLock<bool> = OnceLock::new();

/// Detects whether standard output is coloured: it is a terminal, and neither `NO_COLOR`
/// (no-color.org) nor `TERM=dumb` is set. Other variables, such as `CI`, have no effect.
pub(crate) fn detect() {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    IS_COLOURED.get_or_init(|| {
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        io::stdout().is_terminal() && set("NO_COLOR").is_none() && !is_dumb
    });
}

/// Returns whether standard output is coloured, as detected by [`detect`].
pub(crate) fn is_coloured() -> bool {
    IS_COLOURED.get().copied().unwrap_or_default()
}

/// Returns the text in the colour of its tone, if standard output is coloured.
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
