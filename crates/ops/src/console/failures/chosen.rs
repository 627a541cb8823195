//! The letters of an act: selected ones, or all that match a filter.

use uuid::Uuid;

use super::query::Query;
use crate::client::{Client, Filter, Selection};
use crate::console::Fields;
use crate::error::Error;
use crate::services::Services;

/// Letters of one subscription.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) selection: Selection,
}

/// Returns whether a form applies to all letters that match its filter.
pub(super) fn is_all(fields: &Fields) -> bool {
    fields.one("scope") == Some("all")
}

/// Returns the letters of a form, by subscription: all that match its filter in one subscription,
/// or those whose rows are checked.
pub(super) fn chosen(services: &Services, fields: &Fields) -> Result<Vec<Chosen>, Error> {
    if is_all(fields) {
        return Ok(vec![matching(services, &Query::read(fields))?]);
    }
    let mut all: Vec<Chosen> = Vec::new();
    for text in fields.all("letter") {
        let Checked { service, ids, group } = Checked::read(text)?;
        let known = all.iter_mut().find(|it| it.client.service == service && it.group == group);
        if let Some(Chosen { selection: Selection::Ids(known), .. }) = known {
            known.extend(ids);
            continue;
        }
        let (client, group) = (one_service(services, service)?, group.to_owned());
        all.push(Chosen { client, group, selection: Selection::Ids(ids) });
    }
    if all.is_empty() {
        return Err(Error::Refused(
            "Nothing is selected. Check the rows to change, then try again.".into(),
        ));
    }
    Ok(all)
}

fn matching(services: &Services, query: &Query) -> Result<Chosen, Error> {
    let group = query.group().ok_or_else(|| {
        Error::Refused(
            "Choose a subscription: a request applies to the letters of one subscription.".into(),
        )
    })?;
    let client = services.of_group(group)?;
    Ok(Chosen { client, group: group.to_owned(), selection: Selection::Filter(query.filter()?) })
}

/// Returns the service of that name.
pub(crate) fn one_service(services: &Services, name: &str) -> Result<Client, Error> {
    let mut clients = services.named(Some(name))?;
    clients.pop().ok_or_else(|| Error::Refused(format!("no service is called {name}")))
}

/// The value of a row's checkbox: `service/id/group`. For several letters of one subscription, the
/// ids are separated by commas.
struct Checked<'a> {
    service: &'a str,
    ids: Vec<Uuid>,
    group: &'a str,
}

impl<'a> Checked<'a> {
    fn read(text: &'a str) -> Result<Self, Error> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let mut read = || {
            let (service, ids, group) = (next()?, next()?, next()?);
            let ids = ids.split(',').map(|id| id.parse().ok()).collect::<Option<_>>()?;
            Some(Self { service, ids, group })
        };
        read().ok_or_else(|| {
            Error::Refused("A selected row has no letter. Load the page again.".into())
        })
    }
}

impl Chosen {
    /// Returns the filter. Returns `None` if letters were selected one by one.
    pub(super) fn filter(&self) -> Option<&Filter> {
        match &self.selection {
            Selection::Filter(filter) => Some(filter),
            Selection::Ids(_) => None,
        }
    }

    /// Returns the value of a checkbox for its letters. Returns `None` unless they were selected
    /// one by one.
    pub(super) fn checked(&self) -> Option<String> {
        let Selection::Ids(ids) = &self.selection else { return None };
        let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
        Some(format!("{}/{}/{}", self.client.service, ids.join(","), self.group))
    }
}
