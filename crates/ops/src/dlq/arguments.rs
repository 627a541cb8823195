//! Arguments that several commands share.

use clap::Args;
use uuid::Uuid;

use super::Context;
use crate::client::{Filter, Merged, Status, Summary};
use crate::error::{Error, complain};

/// How many items a list shows.
#[derive(Args)]
pub(super) struct Amount {
    /// Show at most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Amount {
    pub(super) fn limit(&self) -> usize {
        if self.all { usize::MAX } else { self.limit as usize }
    }
}

/// The letters that a command is about: by id, or by a filter.
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
        Err(Error::Refused("--id names letters one by one; leave out the filter".into()))
    }
}

impl Context {
    /// Fails if the group that was given is no subscription of its service. For a list that is empty.
    pub(super) async fn check_group(&self) -> Result<(), Error> {
        let Some(group) = &self.group else { return Ok(()) };
        let client = self.services.of_group(group)?;
        // Without an answer nothing is known, and that the list is empty is true.
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

/// Names the services that did not answer on standard error. Returns the exit status: 1 if there are any.
pub(super) fn unavailable<T>(list: &Merged<T>) -> u8 {
    for (_, error) in &list.unavailable {
        let cause = crate::error::root_cause(error).map(|cause| format!(" ({cause})"));
        let cause = cause.unwrap_or_default();
        complain(&format!("{error}{cause}; what it has is missing here"));
    }
    u8::from(!list.unavailable.is_empty())
}
