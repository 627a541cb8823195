use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Formats a time in RFC 3339 and UTC, always with six digits of microseconds, so that texts sort
/// as times do.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let seconds = time.replace_nanosecond(0).unwrap_or(time);
    // A year after 9999 can't be formatted in RFC 3339.
    let seconds = seconds.format(&Rfc3339).unwrap_or_default();
    format!("{}.{:06}Z", seconds.trim_end_matches('Z'), time.microsecond())
}

/// Formats microseconds since 1970 like [`rfc3339`]. Returns `None` if they are out of range.
pub(super) fn rfc3339_of_micros(micros: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok().map(rfc3339)
}
