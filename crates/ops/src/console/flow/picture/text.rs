//! Width of text, estimated without a browser.

/// Size of the text beside a step, in pixels.
pub(super) const SIZE: f64 = 11.5;
/// Maximum number of characters beside a step; its details contain all.
const LONGEST: usize = 52;

/// Returns the approximate width of a text, rather too large, because fonts differ.
pub(super) fn width(text: &str) -> f64 {
    text.chars().map(|c| of(c) * SIZE).sum()
}

fn of(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')' => 0.33,
        ' ' | 'f' | 't' | 'r' | '-' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '@' => 0.95,
        'A'..='Z' | '_' => 0.72,
        c if c.is_ascii() => 0.6,
        _ => 1.05,
    }
}

/// Shortens a text to fit beside a step.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let head: String = text.chars().take(LONGEST - 1).collect();
    format!("{}…", head.trim_end())
}
