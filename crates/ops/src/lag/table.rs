//! Table of lag for terminals, at 80 columns.

use std::io::{self, Write};

use super::group_lag::{CatchUp, GroupLag, Lag};
use super::words::{details, duration, grouped, rate};
use crate::plain::plain;

/// Maximum length of a name for the row to fit.
const NAME: usize = 24;

/// Writes a row for each group, with its problems below.
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
