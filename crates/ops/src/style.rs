//! Colour, on a terminal only.

use std::io;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
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

/// Finds out whether standard output takes colour: it is a terminal, and neither `NO_COLOR` nor `TERM=dumb` is set.
pub(crate) fn detect() {
    IS_COLOURED.get_or_init(|| AutoStream::choice(&io::stdout()) != ColorChoice::Never);
}

/// Returns the text in the colour of its tone, where standard output takes colour.
pub(crate) fn paint(tone: Tone, text: &str) -> String {
    if !IS_COLOURED.get().copied().unwrap_or_default() {
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
