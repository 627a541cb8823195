//! Arguments that several commands share.

use clap::Args;
use uuid::Uuid;

use super::Context;
use crate::client::{Filter, Merged, Status, Summary};
use crate::error::Error;

/// The letters of a command: by id, or by a filter.
#[derive(Args)]
pub(super) struct Selected {
    /// This letter; may be given more than once
    #[arg(long = "id", value_name = "ID")]
    pub(super) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(super) filter: Filter,
}

impl Selected {
    /// Fails if both ids and a filter are given.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.ids.is_empty() || self.filter.is_empty() {
            return Ok(());
        }
        Err(Error::Refused("--id selects single letters; leave out the filter".into()))
    }
}

impl Context {
    /// Fails if the given group is no subscription of its service. Called if a list is empty.
    pub(super) async fn check_group(&self) -> Result<(), Error> {
        let Some(group) = &self.group else { return Ok(()) };
        let client = self.services.of_group(group)?;
        // Without a response the group can't be checked, so the empty list is shown.
        let Ok(subscriptions) = client.subscriptions().await else { return Ok(()) };
        if subscriptions.is_empty() || subscriptions.iter().any(|it| it.group == *group) {
            return Ok(());
        }
        let known: Vec<_> = subscriptions.iter().map(|it| &*it.group).collect();
        Err(Error::Refused(format!(
            "{} has no subscription {group}, and no dead letters of one; it has {}",
            client.service,
            known.join(", ")
        )))
    }

    /// Lists letters of the group, or of all services, in each of these statuses.
    pub(super) fn letters(
        &self,
        filter: &Filter,
        statuses: &[Status],
        shown: usize,
    ) -> Result<Merged<Summary>, Error> {
        let clients = self.services.chosen(self.group.as_deref())?;
        let listings = clients.iter().flat_map(|client| {
            statuses.iter().map(|status| {
                let filter = Filter { status: Some(*status), ..filter.clone() };
                client.letters(self.group.as_deref(), &filter)
            })
        });
        Ok(Merged::new(listings.collect(), shown, crate::client::Order::Newest))
    }
}
