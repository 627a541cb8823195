//! `POST /events`, the direct feed: events from HTTP go through the same inbox to the same handlers
//! as those from Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use consumer::{Class, Failure, Feed};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::cloud_event::CloudEvent;
use crate::http::{Peer, Problem};

#[derive(Clone)]
struct Direct {
    feeds: Arc<[Feed]>,
}

pub(crate) fn routes(feeds: Vec<Feed>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(take))
        .layer(DefaultBodyLimit::disable()) // the extractor has one of its own
        .with_state(Direct { feeds: feeds.into() })
}

/// Outcomes of an event, by subscription.
#[derive(Serialize, ToSchema)]
struct Taken {
    outcomes: BTreeMap<String, &'static str>,
}

/// An event in structured mode. It may have further attributes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; `CloudEvent` reads it")]
struct StructuredEvent {
    #[schema(example = "1.0")]
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    subject: Option<String>,
    tenantid: Option<String>,
    #[schema(value_type = Object)]
    data: (),
}

/// Receives an event
///
/// Receives one CloudEvent, in binary mode (its attributes as `ce-` headers, its data as the body)
/// or in structured mode. The event passes through the same inbox and handlers as one from Kafka,
/// so repeating the request has no effect.
#[utoipa::path(
    post,
    path = "/events",
    operation_id = "send_event",
    tag = "events",
    params(
        ("ce-specversion" = Option<String>, Header, description = "`1.0`; required in binary mode"),
        ("ce-id" = Option<String>, Header, description = "Required in binary mode"),
        ("ce-source" = Option<String>, Header, description = "Required in binary mode; one of the sources that the credential permits"),
        ("ce-type" = Option<String>, Header, description = "Required in binary mode"),
        ("ce-subject" = Option<String>, Header),
        ("ce-sequence" = Option<String>, Header, description = "Version of the subject after this change"),
        ("ce-tenantid" = Option<String>, Header),
    ),
    request_body(content(
        (Object = "application/json"),
        (StructuredEvent = "application/cloudevents+json"),
    )),
    responses(
        (status = 200, description = "Every subscription that handles the type has processed the event", body = Taken),
        (status = 403, description = "The credential does not permit this type and source"),
        (status = 422, description = "No subscription handles the type, or a subscription can't process the event"),
    ),
    security(("service" = [])),
)]
async fn take(
    State(direct): State<Direct>,
    peer: Peer,
    event: CloudEvent,
) -> Result<Json<Taken>, Problem> {
    let (source, event_type) = (&event.envelope.source, &event.envelope.event_type);
    if !peer.may_send(event_type, source) {
        let detail = format!(
            "this credential does not grant {event_type} as {source}; EVENT_SENDERS lists its grants"
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden", detail));
    }
    // Calls all of them, even if one fails: the sender repeats the event, and those that have
    // processed it recognise the duplicate.
    let feeds: Vec<_> = direct.feeds.iter().filter(|feed| feed.handles(event_type)).collect();
    if feeds.is_empty() {
        return Err(Problem::unprocessable(format!("no subscription handles {event_type}")));
    }
    let mut outcomes = BTreeMap::new();
    let mut failed: Option<Problem> = None;
    for feed in feeds {
        match feed.take(event.raw()).await {
            Ok(outcome) => {
                outcomes.insert(feed.group().to_owned(), outcome.as_str());
            }
            Err(failure) => {
                let problem = refused(feed.group(), &failure);
                failed = Some(graver(failed, problem));
            }
        }
    }
    failed.map_or(Ok(Json(Taken { outcomes })), Err)
}

/// Returns the problem to report of several: a passing failure, after which the sender repeats the
/// event, before a permanent one.
fn graver(before: Option<Problem>, problem: Problem) -> Problem {
    before.filter(|it| it.status().is_server_error()).unwrap_or(problem)
}

fn refused(group: &str, failure: &Failure) -> Problem {
    let error = failure as &dyn std::error::Error;
    tracing::warn!(error, class = ?failure.class(), subscription = group, "event not processed");
    match failure.class() {
        Class::Permanent => {
            Problem::unprocessable(format!("{group} can't process the event: {failure}"))
        }
        Class::Transient | Class::Conflict | Class::Unavailable => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Service unavailable",
            format!(
                "{group} could not process the event now; send it again, duplicates have no effect"
            ),
        )
        .with_header(header::RETRY_AFTER, "1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_failure_is_reported_before_a_permanent_one() {
        let permanent = || Problem::unprocessable("it has no sequence");
        let passing = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", "x");
        assert_eq!(graver(Some(passing()), permanent()).status(), 503);
        assert_eq!(graver(Some(permanent()), passing()).status(), 503);
        assert_eq!(graver(None, permanent()).status(), 422);
    }
}
