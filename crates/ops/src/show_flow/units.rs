//! Formats times: short, and never negative.

use crate::flow::Timestamp;
use crate::lag::words::grouped;

/// Formats a duration such as "12 ms" or "1.9 s", in at most 8 characters.
pub(crate) fn duration(micros: i64) -> String {
    let (ms, micros) = (micros.max(0) / 1000, micros.max(0));
    let tenths = |unit: i64, name: &str| {
        let tenths = micros / (unit / 10);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match ms {
        0 if micros < 100 => "0 ms".into(),
        0 => tenths(1000, "ms"),
        1..1000 => format!("{ms} ms"),
        1000..60_000 => tenths(1_000_000, "s"),
        60_000..3_600_000 => tenths(60_000_000, "min"),
        3_600_000..86_400_000 => tenths(3_600_000_000, "h"),
        86_400_000..8_640_000_000 => tenths(86_400_000_000, "d"),
        8_640_000_000..864_000_000_000 => format!("{} d", ms / 86_400_000),
        _ => "> 9999 d".into(),
    }
}

/// Formats the time since a start in whole milliseconds; 0 if it is earlier.
pub(crate) fn since(at: Timestamp, start: Timestamp) -> String {
    let micros = at.since(start).max(0);
    if micros < 1000 { "0 ms".into() } else { duration(micros) }
}

/// Formats a time such as "2026-11-26 01:30:00.123 UTC".
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_rfc3339();
    let Some((date, time)) = text.trim_end_matches('Z').split_once('T') else {
        return "at an unknown time".into();
    };
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{date} {seconds}.{:0<3} UTC", &fraction[..fraction.len().min(3)])
}

/// Formats a number with a comma between thousands.
pub(crate) fn number(number: i64) -> String {
    let text = grouped(number.unsigned_abs());
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_fits_its_column_whatever_it_is() {
        for (micros, text) in [
            (-5, "0 ms"),
            (99, "0 ms"),
            (400, "0.4 ms"),
            (12_999, "12 ms"),
            (1_960_000, "1.9 s"),
            (754_000_000, "12.5 min"),
            (86_399_999_999, "23.9 h"),
            (8_639_999_000_000, "99.9 d"),
            (i64::MAX, "> 9999 d"),
        ] {
            assert_eq!(duration(micros), text);
        }
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!((number(0), number(-1000)), ("0".into(), "-1,000".into()));
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let at = |text| time(Timestamp::parse(text).unwrap());
        assert_eq!(at("2026-11-26T02:30:00.1+01:00"), "2026-11-26 01:30:00.100 UTC");
        assert_eq!(at("2026-11-26T01:30:00Z"), "2026-11-26 01:30:00.000 UTC");
        assert_eq!(at("2026-11-26T01:30:00.123456Z"), "2026-11-26 01:30:00.123 UTC");
    }
}
