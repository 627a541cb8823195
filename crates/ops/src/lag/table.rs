//! Lag as an operator reads it, at 80 columns.

use std::io::{self, Write};
use std::time::Duration;

use super::group_lag::{CatchUp, GroupLag, Lag};
use crate::plain::{count, plain};

/// How long a name may be for the row to fit.
const NAME: usize = 24;

/// Writes a row for each group, and what is wrong with it below.
pub(super) fn write(out: &mut impl Write, lag: &Lag, threshold: u64) -> io::Result<()> {
    if lag.groups.is_empty() {
        return writeln!(out, "There are no consumer groups.");
    }
    writeln!(
        out,
        "{:NAME$} {:>9} {:>9} {:>9} {:>9}  STATE",
        "GROUP", "BEHIND", "OLDEST", "RATE", "CAUGHT UP"
    )?;
    for group in &lag.groups {
        write_group(out, group, threshold)?;
    }
    Ok(())
}

fn write_group(out: &mut impl Write, group: &GroupLag, threshold: u64) -> io::Result<()> {
    let name = plain(&group.group);
    let name = if name.chars().count() > NAME {
        writeln!(out, "{name}")?;
        String::new()
    } else {
        name
    };
    let behind = group.messages().map_or_else(|| "?".to_owned(), grouped);
    let oldest = match (group.messages(), group.age()) {
        (Some(0), _) => "-".to_owned(),
        (_, age) => age.map_or_else(|| "?".to_owned(), duration),
    };
    let rate = group.rates.map_or_else(|| "-".to_owned(), |it| rate(it.consumed));
    let caught_up = match group.catch_up() {
        Some(CatchUp::In(after)) => format!("in {}", duration(after)),
        Some(CatchUp::Never) => "never".to_owned(),
        Some(CatchUp::Now) | None => "-".to_owned(),
    };
    let state = group.state(threshold);
    writeln!(out, "{name:NAME$} {behind:>9} {oldest:>9} {rate:>9} {caught_up:>9}  {state}")?;
    for line in details(group) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}

/// Returns what the state leaves open.
fn details(group: &GroupLag) -> Vec<String> {
    let mut details = Vec::new();
    for topic in &group.missing_topics {
        details.push(format!("the topic {} does not exist", plain(topic)));
    }
    if let Some(why) = &group.unknown {
        details.push(plain(why));
    }
    let behind = group.partitions.iter().any(|it| it.messages > 0);
    if group.members == 0 && behind {
        details.push("no consumer has joined it: is its service running?".to_owned());
    }
    if group.lost() > 0 {
        let lost = count(group.lost(), "message was", "messages were");
        details.push(format!("{lost} deleted by retention before it consumed them"));
    }
    if let Some(share) = group.share_of_retention().filter(|share| *share >= 0.5) {
        details
            .push(format!("the oldest has used {:.0} % of its topic's retention", share * 100.0));
    }
    details
}

/// Returns a number with separators: 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rate(messages: f64) -> String {
    if messages < 100.0 { format!("{messages:.1}/s") } else { format!("{messages:.0}/s") }
}

/// Returns the two largest units: 3m 2s.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}s", seconds.max(1)),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::group_lag::tests::behind;
    use super::*;

    fn text(groups: Vec<GroupLag>) -> String {
        let mut text = Vec::new();
        write(&mut text, &Lag { at: UNIX_EPOCH, groups }, 10_000).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_row_fits_in_80_columns_and_says_what_is_wrong() {
        let mut dead = behind(1_234_567, 90_000);
        dead.members = 0;
        dead.partitions[0].lost = 3;
        let mut unknown = behind(0, 0);
        unknown.group = "analytics.with.a.name.that.is.\u{1b}long".into();
        unknown.missing_topics = vec!["order.created".into()];
        let text = text(vec![behind(0, 0), dead, unknown]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for part in [
            "1,234,567     1d 1h",
            "stalled",
            "3 messages were deleted",
            "no consumer has joined",
            "order.created does not exist",
            "\\x1blong\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().any(|it| it.starts_with("billing") && it.ends_with("  ok")), "{text}");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "1s"), (59, "59s"), (182, "3m 2s"), (7_260, "2h 1m"), (180_000, "2d 2h")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
