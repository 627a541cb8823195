//! Times: as the API writes them (RFC 3339), as people read them, and as the command line accepts
//! them.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::error::Error;
use crate::plain::plain;

/// Parses a time of the API. Returns `None` if it is invalid.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Formats a time of the API for people: `2026-11-26 01:30:12 UTC`. An invalid time is returned
/// unchanged, with escapes.
pub(crate) fn when(text: &str) -> String {
    parse(text).map_or_else(|| plain(text), compact)
}

/// Formats a time for people.
pub(crate) fn compact(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (date, hour, minute, second) = (at.date(), at.hour(), at.minute(), at.second());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns the time since a time of the API: `2 s ago`. Returns `just now` if it is in the future,
/// by a clock that is ahead.
pub(crate) fn ago(text: &str, now: OffsetDateTime) -> String {
    let Some(at) = parse(text) else { return plain(text) };
    match Duration::try_from(now - at) {
        Ok(age) if age >= Duration::from_secs(1) => format!("{} ago", rough(age)),
        _ => "just now".to_owned(),
    }
}

/// Returns a duration in its largest unit: `2 s`, `3 min`, `5 h`, `4 d`.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Parses `--since`: a duration before now such as `1h`, or a time (RFC 3339). Fails if it is
/// neither.
pub(crate) fn since(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Error> {
    let duration = || humantime::parse_duration(text).ok();
    let before = || now.checked_sub(duration()?.try_into().ok()?);
    parse(text).or_else(before).ok_or_else(|| {
        let why = "is neither a duration such as 1h or 30m nor a time such as 2026-11-26T01:30:00Z";
        Error::Refused(format!("--since {text} {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compact_and_what_is_none_is_escaped() {
        assert_eq!(when("2026-11-26T01:30:12.987654Z"), "2026-11-26 01:30:12 UTC");
        assert_eq!(when("2026-11-26T01:30:12+02:00"), "2026-11-25 23:30:12 UTC");
        assert_eq!(when("soon\u{1b}[2J"), "soon\\x1b[2J");
    }

    #[test]
    fn an_age_is_rough_and_never_negative() {
        let now = parse("2026-11-26T01:30:00Z").unwrap();
        for (at, expected) in [
            ("2026-11-26T01:29:58Z", "2 s ago"),
            ("2026-11-26T01:27:01Z", "2 min ago"),
            ("2026-11-25T20:29:00Z", "5 h ago"),
            ("2026-11-20T01:29:00Z", "6 d ago"),
            ("2026-11-26T01:30:05Z", "just now"),
            ("\u{7}", "\\x07"),
        ] {
            assert_eq!(ago(at, now), expected);
        }
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        let now = parse("2026-11-26T01:30:00Z").unwrap();
        assert_eq!(compact(since("1h 30m", now).unwrap()), "2026-11-26 00:00:00 UTC");
        assert_eq!(compact(since("2026-11-25T10:00:00Z", now).unwrap()), "2026-11-25 10:00:00 UTC");
        for text in ["yesterday", "", "-1h", "2026-11-25", "99999999999y"] {
            assert!(since(text, now).unwrap_err().to_string().contains("1h"), "{text}");
        }
    }
}
