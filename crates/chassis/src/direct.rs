//! `POST /events`: the direct feed. Events by HTTP go through the same inbox to the same handlers as those by Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use consumer::{Class, Failure, Feed};
use serde::Serialize;

use crate::cloud_event::CloudEvent;
use crate::flow::{bearer, unknown_key};
use crate::keys::{Keys, Meaning};
use crate::problem::Problem;

/// What a sender of events may say: `/source:type+type`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    source: String,
    event_types: BTreeSet<String>,
}

/// A text that grants nothing.
#[derive(Debug, thiserror::Error)]
#[error("a source, a colon and event types with a + between them are wanted")]
pub(crate) struct NoGrant;

impl TryFrom<String> for Grant {
    type Error = NoGrant;

    fn try_from(text: String) -> Result<Self, NoGrant> {
        let (source, event_types) = text.rsplit_once(':').ok_or(NoGrant)?;
        let event_types: BTreeSet<_> = event_types.split('+').map(str::to_owned).collect();
        if source.is_empty() || event_types.iter().any(String::is_empty) {
            return Err(NoGrant);
        }
        Ok(Self { source: source.to_owned(), event_types })
    }
}

impl Meaning for Grant {
    const FORM: &'static str = "/source:type+type";
}

/// Which services may send which events.
pub(crate) type Senders = Keys<Grant>;

#[derive(Clone)]
struct Direct {
    feeds: Arc<[Feed]>,
    senders: Senders,
}

pub(crate) fn routes(feeds: Vec<Feed>, senders: Senders) -> Router {
    Router::new()
        .route("/events", post(take))
        .layer(DefaultBodyLimit::disable()) // the extractor has one of its own
        .with_state(Direct { feeds: feeds.into(), senders })
}

/// What became of an event, by subscription.
#[derive(Serialize)]
struct Taken {
    outcomes: BTreeMap<String, &'static str>,
}

/// Every subscription that hears the type takes it, also when another one fails: the sender sends it again, and those
/// that have it know it.
async fn take(
    State(direct): State<Direct>,
    Sender(grant): Sender,
    event: CloudEvent,
) -> Result<Json<Taken>, Problem> {
    let (source, event_type) = (&event.envelope.source, &event.envelope.event_type);
    if *source != grant.source || !grant.event_types.contains(event_type) {
        let detail = format!("this credential may not say {event_type} as {source}");
        return Err(Problem::new(StatusCode::FORBIDDEN, "Not allowed", detail));
    }
    let feeds: Vec<_> = direct.feeds.iter().filter(|feed| feed.hears(event_type)).collect();
    if feeds.is_empty() {
        return Err(Problem::unprocessable(format!("nobody here hears {event_type}")));
    }
    let mut outcomes = BTreeMap::new();
    let mut failed = None;
    for feed in feeds {
        match feed.take(event.envelope.clone(), &event.data).await {
            Ok(outcome) => {
                outcomes.insert(feed.group().to_owned(), outcome.as_str());
            }
            Err(failure) => failed = Some(refused(feed.group(), &failure)),
        }
    }
    failed.map_or(Ok(Json(Taken { outcomes })), Err)
}

fn refused(group: &str, failure: &Failure) -> Problem {
    let error = failure as &dyn std::error::Error;
    tracing::warn!(error, class = ?failure.class(), subscription = group, "an event was not taken");
    match failure.class() {
        Class::Permanent => Problem::unprocessable(format!("{group} can't take it: {failure}")),
        Class::Transient | Class::Unavailable => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not now",
            format!("{group} could not take it now; send it again, it is taken once"),
        )
        .with_header(header::RETRY_AFTER, "1"),
    }
}

/// A service that may send events. An extractor: 401 for everybody else, tenants included.
struct Sender(Grant);

impl FromRequestParts<Direct> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, direct: &Direct) -> Result<Self, Problem> {
        let wanted = "send the credential of a sender of events";
        let key = bearer(&parts.headers).ok_or_else(|| unknown_key("there is no key", wanted))?;
        let grant = direct.senders.of_key(key);
        Ok(Self(grant.ok_or_else(|| unknown_key("nobody has this key", wanted))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_a_source_and_types() {
        let senders = Senders::read("k=/order:order.created+order.completed").expect("a list");
        let grant = senders.of_key("k").expect("a grant");
        assert_eq!(grant.source, "/order");
        assert!(grant.event_types.contains("order.completed"));
        for wrong in ["k=/order", "k=:order.created", "k=/order:", "k=/order:a++b"] {
            let error = Senders::read(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with("entry 1 is not of the form key=/source:type+type"),
                "{error}"
            );
        }
    }
}
