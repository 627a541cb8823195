use std::fmt;

/// Meaning of a state. It is shown as a colour beside words, never alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
}

/// Writes its class in the style sheet.
impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        })
    }
}

impl askama::filters::HtmlSafe for Tone {}

impl Tone {
    /// Returns the tone of a subscription's or an instance's state.
    pub(crate) fn of_state(state: &str) -> Self {
        if state == "running" {
            Self::Good
        } else if ["paused", "gone", "off"].iter().any(|it| state.starts_with(it)) {
            Self::Warn
        } else {
            Self::Bad
        }
    }
}
