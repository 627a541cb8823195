//! `POST /events`, the direct feed: events by HTTP go through the same inbox to the same handlers as those by Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use consumer::{Class, Failure, Feed};
use serde::Serialize;

use super::cloud_event::CloudEvent;
use crate::http::{Peer, Problem};

#[derive(Clone)]
struct Direct {
    feeds: Arc<[Feed]>,
}

pub(crate) fn routes(feeds: Vec<Feed>) -> Router {
    Router::new()
        .route("/events", post(take))
        .layer(DefaultBodyLimit::disable()) // the extractor has one of its own
        .with_state(Direct { feeds: feeds.into() })
}

/// Outcomes of an event, by subscription.
#[derive(Serialize)]
struct Taken {
    outcomes: BTreeMap<String, &'static str>,
}

/// Gives the event to every subscription that handles its type, also if one of them fails: the sender sends it again, and
/// the others recognise the duplicate.
async fn take(
    State(direct): State<Direct>,
    peer: Peer,
    event: CloudEvent,
) -> Result<Json<Taken>, Problem> {
    let (source, event_type) = (&event.envelope.source, &event.envelope.event_type);
    if !peer.may_send(event_type, source) {
        let detail = format!("this credential may not send {event_type} as {source}");
        return Err(Problem::new(StatusCode::FORBIDDEN, "Not allowed", detail));
    }
    let feeds: Vec<_> = direct.feeds.iter().filter(|feed| feed.handles(event_type)).collect();
    if feeds.is_empty() {
        return Err(Problem::unprocessable(format!("no subscription handles {event_type}")));
    }
    let mut outcomes = BTreeMap::new();
    let mut failed = None;
    for feed in feeds {
        match feed.take(event.raw()).await {
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
    tracing::warn!(error, class = ?failure.class(), subscription = group, "event not processed");
    match failure.class() {
        Class::Permanent => Problem::unprocessable(format!("{group} can't take it: {failure}")),
        Class::Transient | Class::Conflict | Class::Unavailable => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not now",
            format!("{group} could not take it now; send it again, it is taken once"),
        )
        .with_header(header::RETRY_AFTER, "1"),
    }
}
