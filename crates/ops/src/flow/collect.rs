//! Queries all services concurrently, until no new ids are found.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::clock::Clock;
use super::time::Timestamp;
use crate::client::{Answer, Client, EVENTS, FlowPart, Subscription};
use crate::error::{Error, with_cause};

/// Maximum number of correlation ids of an order to follow.
const IDS: usize = 20;
/// Maximum length of an id in a request, in bytes.
const LONGEST: usize = 512;
/// Maximum number of rounds. A round finds events that the next one looks up in the inboxes.
const ROUNDS: usize = 4;

/// Responses of all services.
pub(crate) struct Collected {
    pub(crate) correlation_ids: Vec<String>,
    pub(crate) services: Vec<Asked>,
}

/// Response of one service.
pub(crate) struct Asked {
    pub(crate) service: String,
    pub(crate) parts: Vec<FlowPart>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// The error that ended the queries to this service.
    pub(crate) error: Option<Error>,
    /// Why its subscriptions are unknown.
    pub(crate) without_subscriptions: Option<String>,
    pub(crate) clock: Clock,
    client: Client,
}

/// Collects the flow of a correlation id, a subject or an event id.
pub(crate) async fn collect(clients: &[Client], id: &str) -> Collected {
    let mut services = join_all(clients.iter().map(|client| Asked::first(client, id))).await;
    let correlation_ids = correlation_ids(&services);
    let mut asked_for: Vec<_> = correlation_ids.iter().filter(|id| can_ask(id)).cloned().collect();
    if asked_for.is_empty() {
        asked_for.push(id.to_owned());
    }
    let (mut known, mut is_first) = (BTreeSet::new(), asked_for != [id]);
    for _ in 1..ROUNDS {
        let new: Vec<_> = event_ids(&services).difference(&known).cloned().collect();
        if new.is_empty() && !is_first {
            break;
        }
        let requests = requests(&asked_for, &new, is_first);
        join_all(services.iter_mut().map(|service| service.again(&requests))).await;
        known.extend(new);
        is_first = false;
    }
    Collected { correlation_ids, services }
}

/// Returns an id and the events to look up for each request: every id once in the first round, and
/// every event once.
fn requests(ids: &[String], events: &[String], every_id: bool) -> Vec<(String, Vec<String>)> {
    let chunks: Vec<_> = events.chunks(EVENTS).collect();
    let requests = chunks.len().max(if every_id { ids.len() } else { 1 });
    let request = |at: usize| {
        let id = ids[at.min(ids.len() - 1)].clone();
        (id, chunks.get(at).map(|chunk| chunk.to_vec()).unwrap_or_default())
    };
    (0..requests).map(request).collect()
}

impl Asked {
    async fn first(client: &Client, id: &str) -> Self {
        let before = Timestamp::now();
        let answered = async { (client.flow(id, &[]).await, Timestamp::now()) };
        let ((part, after), subscriptions) = futures::join!(answered, client.subscriptions());
        let mut asked = Self {
            service: client.service.clone(),
            parts: Vec::new(),
            subscriptions: Vec::new(),
            error: None,
            without_subscriptions: None,
            clock: Clock::default(),
            client: client.clone(),
        };
        match subscriptions {
            Ok(subscriptions) => {
                asked.subscriptions = subscriptions.into_iter().map(Answer::into_known).collect();
            }
            Err(error) => asked.without_subscriptions = Some(with_cause(&error)),
        }
        if let Ok(FlowPart { now, .. }) = &part
            && let Some(theirs) = Timestamp::parse(now)
        {
            asked.clock = Clock::compare(before, theirs, after);
        }
        asked.add(part);
        asked
    }

    /// Sends further requests, unless the service has failed to answer.
    async fn again(&mut self, requests: &[(String, Vec<String>)]) {
        for (id, events) in requests {
            if self.error.is_some() {
                return;
            }
            let part = self.client.flow(id, events).await;
            self.add(part);
        }
    }

    fn add(&mut self, part: Result<FlowPart, Error>) {
        match part {
            Ok(part) => self.parts.push(part),
            Err(error) => self.error = Some(error),
        }
    }
}

#[cfg(test)]
impl Asked {
    /// Creates the state of a service after one response.
    pub(super) fn answered(
        client: Client,
        part: FlowPart,
        subscriptions: Vec<Subscription>,
        clock: Clock,
    ) -> Self {
        Self {
            service: client.service.clone(),
            parts: vec![part],
            subscriptions,
            error: None,
            without_subscriptions: None,
            clock,
            client,
        }
    }
}

fn correlation_ids(services: &[Asked]) -> Vec<String> {
    let parts = services.iter().flat_map(|it| &it.parts);
    let mut ids = Vec::new();
    for id in parts.flat_map(|it| &it.correlation_ids) {
        if ids.len() < IDS && !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    ids
}

/// Returns `true` if services accept the id, which may come from any producer's event.
pub(super) fn can_ask(id: &str) -> bool {
    let is_text = !id.trim().is_empty() && !id.contains(char::is_control);
    // A dot is a relative path segment.
    is_text && id.len() <= LONGEST && !matches!(id, "." | "..")
}

/// Returns the ids of the events found so far that can be sent in a query, whose separator is a
/// comma.
fn event_ids(services: &[Asked]) -> BTreeSet<String> {
    let parts = services.iter().flat_map(|it| &it.parts);
    let of_part = |part: &FlowPart| {
        let steps = part.steps.iter().filter_map(|it| it.event_id.clone());
        let open = part.open.iter().filter_map(|it| it.event_id.clone());
        steps.chain(open).filter(|id| can_ask(id) && !id.contains(',')).collect::<Vec<_>>()
    };
    parts.flat_map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_and_every_event_is_asked_about_once() {
        let texts = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>();
        let asked = requests(&texts(3), &texts(450), true);
        let counts: Vec<_> = asked.iter().map(|(id, events)| (&**id, events.len())).collect();
        assert_eq!(counts, [("0", 200), ("1", 200), ("2", 50)]);
        let asked = requests(&texts(1), &texts(201), false);
        assert_eq!(asked.iter().map(|(_, events)| events.len()).collect::<Vec<_>>(), [200, 1]);
        assert_eq!(requests(&texts(3), &[], true).len(), 3);
        assert_eq!(requests(&texts(3), &texts(1), false).len(), 1);
    }
}
