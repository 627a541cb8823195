//! The outcomes of a replay as a bar and as words.

use crate::client::{Outcomes, Replay};

/// Width of the bar, in units of its drawing.
const WIDTH: u64 = 1_000;

/// The letters with one outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutcomeShare {
    /// The name in the API; empty for letters without an outcome.
    pub(super) name: &'static str,
    pub(super) words: &'static str,
    pub(super) letters: u64,
    /// Position of its part of the bar.
    pub(super) x: u64,
    pub(super) width: u64,
}

/// Returns the outcomes that occurred, in the order of the bar, and the letters not settled yet.
pub(super) fn outcomes(replay: &Replay) -> Vec<OutcomeShare> {
    let Outcomes { processed, duplicate, superseded, ignored, failed, held } = replay.outcomes;
    let waiting = replay.selected.saturating_sub(replay.outcomes.settled());
    let words = |real, rehearsed| if replay.rehearsal { rehearsed } else { real };
    let all = [
        ("processed", words("processed", "would be processed"), processed),
        ("duplicate", "processed before", duplicate),
        ("superseded", "superseded by newer ones", superseded),
        ("ignored", "of types that it does not handle", ignored),
        ("failed", words("failed again", "would fail"), failed),
        ("held", "held back by an earlier failure of their key", held),
        ("", "not settled yet", waiting),
    ];
    let total = replay.selected.max(replay.outcomes.settled()).max(1);
    let (mut before, mut parts) = (0, Vec::new());
    for (name, words, letters) in all {
        if letters == 0 {
            continue;
        }
        let x = before * WIDTH / total;
        before += letters;
        parts.push(OutcomeShare { name, words, letters, x, width: before * WIDTH / total - x });
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replay(rehearsal: bool, selected: u64, outcomes: &serde_json::Value) -> Replay {
        serde_json::from_value(json!({
            "id": "01a20a9a-7779-774a-8232-46ea7c2ec2ec", "group": "billing", "rehearsal": rehearsal,
            "status": "running", "selected": selected, "outcomes": outcomes, "rate": null, "stop_after": null,
            "by": "ada", "why": null, "note": null, "requested_at": "t", "started_at": null, "ended_at": null,
        }))
        .unwrap()
    }

    #[test]
    fn the_bar_is_full_and_without_gaps() {
        let parts = outcomes(&replay(false, 7, &json!({ "processed": 3, "failed": 1 })));
        let names: Vec<_> = parts.iter().map(|it| (it.name, it.letters)).collect();
        assert_eq!(names, [("processed", 3), ("failed", 1), ("", 3)]);
        let mut end = 0;
        for part in parts {
            assert_eq!(part.x, end);
            end = part.x + part.width;
        }
        assert_eq!(end, WIDTH);
    }

    #[test]
    fn a_rehearsal_says_what_would_be() {
        let parts = outcomes(&replay(true, 2, &json!({ "processed": 1, "failed": 1 })));
        assert_eq!((parts[0].words, parts[1].words), ("would be processed", "would fail"));
        assert!(outcomes(&replay(true, 0, &json!({}))).is_empty());
    }
}
