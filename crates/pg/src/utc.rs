use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// The first moment of the year 0. RFC 3339 can't express earlier ones.
const EARLIEST: OffsetDateTime = match Date::from_calendar_date(0, Month::January, 1) {
    Ok(day) => PrimitiveDateTime::new(day, Time::MIDNIGHT).assume_utc(),
    Err(_) => PrimitiveDateTime::MIN.assume_utc(),
};

/// Returns a time in UTC, moved into the years 0 to 9999 if its offset leads out of them. Bind a
/// time from outside only this way: sqlx panics if UTC can't express it, and one before the year 0
/// can be stored but not be written as RFC 3339.
///
/// ```
/// # use time::{OffsetDateTime, format_description::well_known::Rfc3339};
/// let late = OffsetDateTime::parse("9999-12-31T23:59:59-01:00", &Rfc3339)?;
/// assert_eq!(pg::in_utc(late).year(), 9999);
/// # Ok::<(), time::error::Parse>(())
/// ```
pub fn in_utc(time: OffsetDateTime) -> OffsetDateTime {
    match time.checked_to_offset(UtcOffset::UTC) {
        Some(time) => time.max(EARLIEST),
        None if time.year() > 0 => PrimitiveDateTime::MAX.assume_utc(),
        None => EARLIEST,
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn a_time_stays_what_it_is_unless_it_can_not_be_written() {
        let in_utc = |text: &str| {
            let time = OffsetDateTime::parse(text, &Rfc3339).expect("a time");
            super::in_utc(time).format(&Rfc3339).expect("a time that can be written")
        };
        assert_eq!(in_utc("2026-11-25T10:00:00+01:00"), "2026-11-25T09:00:00Z");
        assert_eq!(in_utc("0000-01-01T00:30:00+01:00"), "0000-01-01T00:00:00Z");
        assert!(in_utc("9999-12-31T23:30:00-01:00").starts_with("9999-12-31T23:59:59.9"));
    }
}
