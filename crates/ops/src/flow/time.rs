//! Points in time, in microseconds. Extreme times and durations saturate.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    pub(crate) fn now() -> Self {
        Self::of(OffsetDateTime::now_utc())
    }

    /// Parses a time (RFC 3339). Returns `None` if it is invalid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        OffsetDateTime::parse(text, &Rfc3339).ok().map(Self::of)
    }

    fn of(time: OffsetDateTime) -> Self {
        Self(i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or_default())
    }

    /// Returns the time after these microseconds.
    pub(crate) fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns the microseconds since an earlier time; negative if that is later.
    pub(crate) fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the middle of two times.
    pub(crate) fn between(one: Self, other: Self) -> Self {
        one.plus(other.since(one) / 2)
    }

    /// Formats the time (RFC 3339) with microseconds. Returns an empty text if the year has more
    /// than four digits.
    pub(crate) fn to_rfc3339(self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_saturate() {
        let at = Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(at.plus(i64::MAX).since(Timestamp(i64::MIN)), i64::MAX);
        assert_eq!(at.plus(i64::MAX).to_rfc3339(), "");
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn zones_are_one_clock() {
        let (utc, west) = ("2026-11-26T01:30:00.000001Z", "2026-11-25T20:30:00-05:00");
        assert_eq!(Timestamp::parse(utc).unwrap().since(Timestamp::parse(west).unwrap()), 1);
        assert_eq!(Timestamp::parse(west).unwrap().to_rfc3339(), "2026-11-26T01:30:00Z");
    }
}
