use std::collections::BTreeSet;
use std::time::Duration;

use kafka::Settings;

use crate::client::{Answer, Client};

/// Time limit for a service to list its subscriptions.
const ANSWER: Duration = Duration::from_secs(3);

/// A subscription as listed by its service. Names are without the prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Subscribed {
    pub(crate) service: String,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
}

/// The groups to measure, in addition to those that the cluster lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wanted {
    /// The subscriptions that services have listed.
    pub(crate) subscribed: Vec<Subscribed>,
    /// Names of the services. Group names begin with the service's name: `analytics`,
    /// `analytics.2`. So the groups of an unavailable service are known too.
    pub(crate) services: BTreeSet<String>,
    /// Those of them that have listed their subscriptions. Their other groups without members have
    /// been replaced, as by another generation, and nobody waits for them.
    pub(crate) listed: BTreeSet<String>,
    /// Restricts the measurement to this group, named without the prefix.
    pub(crate) only: Option<String>,
}

impl Wanted {
    /// Returns the values that are known without queries.
    pub(crate) fn of(services: &[Client]) -> Self {
        let services = services.iter().map(|client| client.service.clone()).collect();
        Self { services, ..Self::default() }
    }

    /// Returns the service that a group on the cluster belongs to. `members` is the number of
    /// consumers in the group.
    pub(super) fn service_of(
        &self,
        settings: &Settings,
        name: &str,
        members: usize,
    ) -> Option<String> {
        let listed = self.subscribed.iter().find(|it| settings.prefixed(&it.group) == name);
        if let Some(listed) = listed {
            return Some(listed.service.clone());
        }
        let first = settings.unprefixed(name).split('.').next()?;
        let is_ours = self.services.contains(first) && name.starts_with(&settings.prefixed(first));
        let is_replaced = self.listed.contains(first) && members == 0;
        (is_ours && !is_replaced).then(|| first.to_owned())
    }
}

/// Queries the subscriptions of all services concurrently. Returns the groups to measure, and the
/// services that did not answer, each with the reason.
pub(crate) async fn ask(services: &[Client]) -> (Wanted, Vec<(String, String)>) {
    let asked: Vec<_> = services
        .iter()
        .cloned()
        .map(|client| {
            tokio::spawn(async move {
                let listed = list(&client).await;
                let service = client.service;
                listed.map(|it| (service.clone(), it)).map_err(|why| (service, why))
            })
        })
        .collect();
    let (mut wanted, mut silent) = (Wanted::of(services), Vec::new());
    for answer in asked {
        match answer.await {
            Ok(Ok((service, subscribed))) => {
                wanted.listed.insert(service);
                wanted.subscribed.extend(subscribed);
            }
            Ok(Err(failed)) => silent.push(failed),
            Err(_) => {}
        }
    }
    (wanted, silent)
}

async fn list(client: &Client) -> Result<Vec<Subscribed>, String> {
    let answer = tokio::time::timeout(ANSWER, client.subscriptions()).await;
    let answer = answer.map_err(|_| format!("no answer within {ANSWER:?}"))?;
    let subscriptions = match answer {
        Ok(subscriptions) => subscriptions,
        // A service that only publishes need not have subscriptions.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error.to_string()),
    };
    let subscribed = subscriptions.into_iter().map(Answer::into_known).map(|it| Subscribed {
        service: client.service.clone(),
        group: it.group,
        topics: it.topics,
    });
    Ok(subscribed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_service_that_lists_it_or_after_which_it_is_named() {
        let subscribed = Subscribed {
            service: "shipping".into(),
            group: "parcels".into(),
            topics: vec!["parcel.sent".into()],
        };
        let services = ["billing".to_owned(), "shipping".to_owned()].into();
        let mut wanted = Wanted { subscribed: vec![subscribed], services, ..Wanted::default() };
        let settings = Settings::new("b", "t.");
        let service_of = |name| wanted.service_of(&settings, name, 0);
        assert_eq!(service_of("t.parcels").as_deref(), Some("shipping"));
        assert_eq!(service_of("t.billing.2").as_deref(), Some("billing"));
        assert_eq!(service_of("billing"), None, "that of another prefix");
        assert_eq!(service_of("t.console-consumer-1"), None);
        wanted.listed = ["billing".to_owned()].into();
        let service_of = |members| wanted.service_of(&settings, "t.billing.2", members);
        assert_eq!(service_of(0), None, "billing answers, and does not list it: it was replaced");
        assert_eq!(service_of(1).as_deref(), Some("billing"), "an instance still consumes");
    }
}
