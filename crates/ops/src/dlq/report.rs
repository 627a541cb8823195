//! The result of a replay.

use std::io::{self, Write};

use super::words;
use crate::client::{Client, Merged, Order, Replay, ReplayDetails, ReplayedLetter};
use crate::error::Error;
use crate::plain::{count, plain};

/// Maximum number of letters to list one by one.
const FEW: u64 = 20;

/// Writes the outcomes and the reasons of failures. Returns the exit status: 1 unless all ended
/// well.
pub(super) async fn write(
    out: &mut impl Write,
    client: &Client,
    details: &ReplayDetails,
) -> Result<u8, Error> {
    let ReplayDetails { replay, failures } = details;
    if replay.selected <= FEW {
        letters(out, client, replay).await?;
    }
    writeln!(out, "{}", summary(replay))?;
    // Up to that number, the reasons were written with their letters.
    if replay.selected > FEW && !failures.is_empty() {
        writeln!(out, "\nReasons, the most frequent first:")?;
        let width = failures.iter().map(|it| it.letters.to_string().len()).max().unwrap_or(0);
        for failure in failures {
            writeln!(out, "   {:>width$}   {}", failure.letters, plain(&failure.reason))?;
        }
    }
    if replay.selected > FEW && replay.rehearsal && !failures.is_empty() {
        writeln!(
            out,
            "\nTo list them: orderflow dlq replays letters {} --outcome failed",
            replay.id
        )?;
    }
    if let Some(next) = next(replay) {
        writeln!(out, "\n{next}")?;
    }
    Ok(u8::from(!replay.ended_well()))
}

/// Writes the outcome of each letter.
async fn letters(out: &mut impl Write, client: &Client, replay: &Replay) -> Result<(), Error> {
    let listing = client.replayed_letters(replay.id, None);
    let mut letters = Merged::new(vec![listing], usize::MAX, Order::AsListed);
    writeln!(out)?;
    while let Some(letter) = letters.next().await? {
        write_letter(out, &letter, replay.rehearsal)?;
    }
    if let Some((_, error)) = letters.unavailable.pop() {
        return Err(error);
    }
    writeln!(out)?;
    Ok(())
}

/// Writes the outcome of a letter.
pub(super) fn write_letter(
    out: &mut impl Write,
    letter: &ReplayedLetter,
    rehearsal: bool,
) -> io::Result<()> {
    let ReplayedLetter { id, outcome, reason, .. } = letter;
    let outcome = words::outcome(outcome.as_deref(), reason.as_deref(), rehearsal);
    writeln!(out, "  {id}   {outcome}")
}

/// Returns the result of a replay in a sentence.
pub(crate) fn summary(replay: &Replay) -> String {
    let Replay { selected, outcomes, rehearsal, status, note, .. } = replay;
    let outcomes_text = words::outcomes(outcomes, *rehearsal);
    let note = note.as_deref().map(|note| format!(" ({})", plain(note))).unwrap_or_default();
    let settled = outcomes.settled();
    match &**status {
        "done" if *rehearsal => {
            format!("Of {selected}: {outcomes_text}{note}. Nothing was changed.")
        }
        "done" if replay.ended_well() && *selected == 1 => format!("It ended well{note}."),
        "done" if replay.ended_well() => {
            format!("All {selected} ended well: {outcomes_text}{note}.")
        }
        "done" => {
            let well = settled - outcomes.failed - outcomes.held;
            format!("{well} of {selected} ended well: {outcomes_text}{note}.")
        }
        status => {
            let colon = if outcomes_text.is_empty() { "" } else { ": " };
            let what = if *rehearsal { "Rehearsal" } else { "Replay" };
            let status = plain(status);
            format!(
                "{what} {status}{note}. {settled} of {selected} were settled{colon}{outcomes_text}."
            )
        }
    }
}

fn next(replay: &Replay) -> Option<String> {
    let Replay { id, group, status, outcomes, rehearsal, .. } = replay;
    if status == "paused" {
        return Some(format!(
            "To continue: orderflow dlq replays resume {id} --why ..\n\
             To end it: orderflow dlq replays cancel {id} --why .."
        ));
    }
    let not_well = outcomes.failed + outcomes.held;
    (not_well > 0 && !rehearsal).then(|| {
        let are = count(not_well, "letter is", "letters are");
        format!("{are} dead again: orderflow dlq groups --group {}", plain(group))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replay(status: &str, rehearsal: bool, failed: u64) -> Replay {
        let replay = json!({
            "id": "01a20a9a-7779-774a-8232-46ea7c2ec2ec", "group": "billing", "rehearsal": rehearsal, "status": status,
            "selected": 500, "outcomes": { "processed": 480, "duplicate": 12, "failed": failed }, "rate": null,
            "ramp": false, "stop_after": null, "force": false, "by": "ada", "why": null,
            "note": if status == "paused" { json!("3 failures") } else { json!(null) },
            "requested_at": "t", "started_at": null, "ended_at": null,
        });
        serde_json::from_value(replay).unwrap()
    }

    #[test]
    fn a_replay_is_summed_up_in_a_sentence() {
        let of = |status, rehearsal, failed| summary(&replay(status, rehearsal, failed));
        assert_eq!(of("done", false, 0), "All 500 ended well: 480 processed, 12 duplicates.");
        assert_eq!(
            of("done", false, 8),
            "492 of 500 ended well: 480 processed, 12 duplicates, 8 failed."
        );
        assert_eq!(
            of("done", true, 8),
            "Of 500: 480 would be processed, 12 duplicates, 8 would fail. Nothing was changed."
        );
        assert_eq!(
            of("paused", false, 3),
            "Replay paused (3 failures). 495 of 500 were settled: 480 processed, 12 duplicates, 3 failed."
        );
    }

    #[test]
    fn what_to_do_next_depends_on_how_it_ended() {
        assert_eq!(next(&replay("done", false, 0)), None);
        assert_eq!(next(&replay("done", true, 8)), None);
        let dead_again = "1 letter is dead again: orderflow dlq groups --group billing";
        assert_eq!(next(&replay("done", false, 1)).as_deref(), Some(dead_again));
        assert!(next(&replay("paused", false, 1)).unwrap().contains("replays resume 01a20a9a"));
    }
}
