//! Outcomes in words.

use crate::client::Outcomes;
use crate::plain::plain;

/// Returns the outcome of one letter.
pub(crate) fn outcome(outcome: Option<&str>, reason: Option<&str>, rehearsal: bool) -> String {
    let because = reason.map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    match (outcome, rehearsal) {
        (None, _) => "not settled yet".into(),
        (Some("processed"), false) => "processed".into(),
        (Some("processed"), true) => "would be processed".into(),
        (Some("duplicate"), _) => "duplicate, had been processed before".into(),
        (Some("superseded"), _) => "superseded, a newer version had been processed".into(),
        (Some("ignored"), _) => "ignored, the group does not handle its type".into(),
        (Some("failed"), false) => format!("failed again{because}"),
        (Some("failed"), true) => format!("would fail{because}"),
        (Some("held"), _) => "not attempted, an earlier letter of its key failed".into(),
        (Some(other), _) => format!("{}{because}", plain(other)),
    }
}

/// Returns the outcomes that occurred: "480 processed, 12 duplicates, 3 failed".
pub(crate) fn outcomes(outcomes: &Outcomes, rehearsal: bool) -> String {
    let Outcomes { processed, duplicate, superseded, ignored, failed, held } = *outcomes;
    let (processed_as, failed_as) =
        if rehearsal { ("would be processed", "would fail") } else { ("processed", "failed") };
    let duplicates = if duplicate == 1 { "duplicate" } else { "duplicates" };
    let parts = [
        (processed, processed_as),
        (duplicate, duplicates),
        (superseded, "superseded"),
        (ignored, "ignored"),
        (failed, failed_as),
        (held, "held back"),
    ];
    let parts = parts.into_iter().filter(|(letters, _)| *letters > 0);
    let parts: Vec<_> = parts.map(|(letters, name)| format!("{letters} {name}")).collect();
    parts.join(", ")
}

/// Returns what a queued replay of a group waits for.
pub(crate) fn queued(group: &str) -> String {
    format!("waits for an instance of {}, or for another replay", plain(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_that_nobody_had_are_left_out() {
        let some = Outcomes { processed: 480, duplicate: 12, failed: 3, ..Outcomes::default() };
        assert_eq!(outcomes(&some, false), "480 processed, 12 duplicates, 3 failed");
        assert_eq!(outcomes(&some, true), "480 would be processed, 12 duplicates, 3 would fail");
        assert_eq!(outcomes(&Outcomes::default(), false), "");
    }

    #[test]
    fn a_reason_can_not_control_the_terminal() {
        assert_eq!(outcome(Some("failed"), Some("\u{1b}c"), false), "failed again: \\x1bc");
        assert_eq!(outcome(Some("processed"), None, true), "would be processed");
        assert_eq!(outcome(Some("new\u{7}"), None, false), "new\\x07");
    }
}
