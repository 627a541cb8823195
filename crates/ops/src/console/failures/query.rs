//! The query of `/failures`: a view, a filter with the names of the API, and a page.

use time::OffsetDateTime;

use crate::client::{Filter, Status};
use crate::console::Fields;
use crate::console::address::address;
use crate::error::Error;
use crate::moment;

/// The query of `/failures`. An empty member counts as missing, because a form sends all of its
/// fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) view: String,
    pub(crate) group: String,
    pub(crate) status: String,
    pub(crate) event_type: String,
    pub(crate) reason: String,
    pub(crate) fingerprint: String,
    pub(crate) tenant: String,
    pub(crate) subject: String,
    pub(crate) correlation_id: String,
    pub(crate) event_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The status of groups.
    pub(crate) state: String,
    pub(crate) cursor: String,
}

/// Names of the letters' statuses: open ones, each status, and any.
pub(crate) const STATUSES: [(&str, &str); 7] = [
    ("", "open"),
    ("dead", "dead"),
    ("replaying", "being replayed"),
    ("parked", "parked"),
    ("resolved", "resolved"),
    ("discarded", "discarded"),
    ("any", "any"),
];

/// Names of the groups' statuses: those that need work, each status, and any.
pub(crate) const STATES: [(&str, &str); 7] = [
    ("", "need attention"),
    ("open", "open"),
    ("acknowledged", "acknowledged"),
    ("regressed", "regressed"),
    ("ignored", "ignored"),
    ("resolved", "resolved"),
    ("any", "any"),
];

impl Query {
    /// Reads the members from an address or a form.
    pub(crate) fn read(fields: &Fields) -> Self {
        let one = |name| fields.one(name).unwrap_or_default().to_owned();
        Self {
            view: one("view"),
            group: one("group"),
            status: one("status"),
            event_type: one("type"),
            reason: one("reason"),
            fingerprint: one("fingerprint"),
            tenant: one("tenant"),
            subject: one("subject"),
            correlation_id: one("correlation_id"),
            event_id: one("event_id"),
            from: one("from"),
            to: one("to"),
            state: one("state"),
            cursor: one("cursor"),
        }
    }

    pub(crate) fn is_letters(&self) -> bool {
        self.view == "letters"
    }

    /// Returns the group, if one is given.
    pub(crate) fn group(&self) -> Option<&str> {
        Some(&*self.group).filter(|group| !group.is_empty())
    }

    /// Returns the filter. Fails with the name of a member that can't be used.
    pub(crate) fn filter(&self) -> Result<Filter, Error> {
        self.filter_at(OffsetDateTime::now_utc())
    }

    /// Returns the query with absolute times, because `1h` changes its meaning with time.
    pub(crate) fn fixed(&self) -> Result<Self, Error> {
        self.shown(None)
    }

    /// Returns the query with absolute times, and without letters that die after the newest of
    /// those that were shown.
    pub(crate) fn shown(&self, newest: Option<OffsetDateTime>) -> Result<Self, Error> {
        let Filter { from, to, .. } = self.filter()?.shown(newest);
        Ok(Self { from: from.unwrap_or_default(), to: to.unwrap_or_default(), ..self.clone() })
    }

    fn filter_at(&self, now: OffsetDateTime) -> Result<Filter, Error> {
        let given = |text: &String| Some(text.clone()).filter(|it| !it.is_empty());
        let time =
            |name, text: &String| given(text).map(|text| time_of(name, &text, now)).transpose();
        Ok(Filter {
            status: self.one_status()?,
            event_type: given(&self.event_type),
            reason: given(&self.reason),
            fingerprint: given(&self.fingerprint),
            tenant: given(&self.tenant),
            subject: given(&self.subject),
            correlation_id: given(&self.correlation_id),
            event_id: given(&self.event_id),
            from: time("from", &self.from)?,
            to: time("to", &self.to)?,
        })
    }

    /// Returns the status to request from the API. Returns `None` for several or all statuses.
    fn one_status(&self) -> Result<Option<Status>, Error> {
        let all =
            [Status::Dead, Status::Replaying, Status::Parked, Status::Resolved, Status::Discarded];
        match &*self.status {
            "" | "any" => Ok(None),
            name => all.into_iter().find(|it| it.as_str() == name).map(Some).ok_or_else(|| {
                Error::Refused(
                    "status: open, dead, replaying, parked, resolved, discarded or any".into(),
                )
            }),
        }
    }

    /// Returns the filters of the lists that make up the page. A service lists letters of one
    /// status or of all.
    pub(crate) fn filters(&self) -> Result<Vec<Filter>, Error> {
        let filter = self.filter()?;
        if !self.status.is_empty() {
            return Ok(vec![filter]);
        }
        let open = [Status::Dead, Status::Replaying, Status::Parked];
        Ok(open.map(|status| Filter { status: Some(status), ..filter.clone() }).into())
    }

    /// Returns `true` if letters are filtered by more than their status.
    pub(crate) fn is_filtered(&self) -> bool {
        self.pairs().iter().any(|(name, _)| !matches!(*name, "view" | "state" | "status"))
    }

    /// Returns the members that are set, except the page.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("view", &self.view),
            ("group", &self.group),
            ("status", &self.status),
            ("type", &self.event_type),
            ("reason", &self.reason),
            ("fingerprint", &self.fingerprint),
            ("tenant", &self.tenant),
            ("subject", &self.subject),
            ("correlation_id", &self.correlation_id),
            ("event_id", &self.event_id),
            ("from", &self.from),
            ("to", &self.to),
            ("state", &self.state),
        ];
        all.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(it, value)| (it, &**value))
            .collect()
    }

    /// Returns the members of the letters' filter, with the group.
    pub(crate) fn filter_pairs(&self) -> Vec<(&'static str, &str)> {
        self.pairs().into_iter().filter(|(name, _)| !matches!(*name, "view" | "state")).collect()
    }

    /// Returns the address of the page.
    pub(crate) fn address(&self) -> String {
        let mut pairs = self.pairs();
        if !self.cursor.is_empty() {
            pairs.push(("cursor", &self.cursor));
        }
        address("/failures", &pairs)
    }

    /// Returns the address of another page of the same list.
    pub(crate) fn at(&self, cursor: &str) -> String {
        Self { cursor: cursor.to_owned(), ..self.clone() }.address()
    }

    /// Returns the address of the letters of a group.
    pub(crate) fn of_group(group: &str, fingerprint: &str) -> Self {
        Self {
            view: "letters".into(),
            group: group.into(),
            fingerprint: fingerprint.into(),
            ..Self::default()
        }
    }
}

/// Parses a time (RFC 3339), the value of a field of type `datetime-local` (UTC), or a duration
/// before now such as `1h`.
fn time_of(name: &str, text: &str, now: OffsetDateTime) -> Result<String, Error> {
    let written = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
    if let Some(text) = written.into_iter().find(|text| moment::parse(text).is_some()) {
        return Ok(text);
    }
    let refused = || {
        Error::Refused(format!(
            "{name}: a time such as 2026-11-25T10:00:00Z, or a duration before now such as 1h"
        ))
    };
    let at = moment::since(text, now).map_err(|_| refused())?;
    at.format(&time::format_description::well_known::Rfc3339).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Query {
        Query {
            view: "letters".into(),
            group: "billing".into(),
            status: "parked".into(),
            event_type: "t".into(),
            reason: "a b&c=<>".into(),
            from: "2026-11-25T10:00".into(),
            ..Query::default()
        }
    }

    #[test]
    fn the_address_is_the_query_again() {
        let all = "view=letters&group=billing&status=parked&type=t&reason=a%20b%26c%3D%3C%3E&from=2026-11-25T10%3A00";
        assert_eq!(query().address(), format!("/failures?{all}"));
        assert_eq!(query().at("7"), format!("/failures?{all}&cursor=7"));
        assert_eq!(Query::default().address(), "/failures");
        assert!(query().is_filtered());
        assert!(!Query { status: "dead".into(), ..Query::default() }.is_filtered());
    }

    #[test]
    fn times_are_those_of_the_api_of_a_field_or_before_now() {
        let now = moment::parse("2026-11-26T01:30:00Z").unwrap();
        for (text, at) in [
            ("2026-11-25T10:00:00+01:00", "2026-11-25T10:00:00+01:00"),
            ("2026-11-25T10:00", "2026-11-25T10:00:00Z"),
            ("2026-11-25T10:00:05", "2026-11-25T10:00:05Z"),
            ("1h", "2026-11-26T00:30:00Z"),
        ] {
            let filter = Query { from: text.into(), ..Query::default() }.filter_at(now).unwrap();
            assert_eq!(filter.from.as_deref(), Some(at), "{text}");
        }
        let error = Query { to: "soon".into(), ..Query::default() }.filter_at(now).unwrap_err();
        assert!(error.to_string().starts_with("to: "), "{error}");
    }

    #[test]
    fn open_letters_are_three_lists_and_others_are_one() {
        let of = |status: &str| Query { status: status.into(), ..Query::default() }.filters();
        let statuses = |status| {
            let filters = of(status).unwrap().into_iter();
            filters.map(|it| it.status.map(Status::as_str)).collect::<Vec<_>>()
        };
        assert_eq!(statuses(""), [Some("dead"), Some("replaying"), Some("parked")]);
        assert_eq!(statuses("any"), [None]);
        assert_eq!(statuses("discarded"), [Some("discarded")]);
        assert!(of("dread").is_err());
    }
}
