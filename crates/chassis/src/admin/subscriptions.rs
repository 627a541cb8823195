//! `/subscriptions` on the admin port: subscriptions with their instances, state, pause and circuit
//! breakers.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use consumer::{Standing, Status};
use serde::Serialize;

use super::Admin;
use super::acts::NewAct;
use super::concealed::conceal;
use super::operator::Operator;
use super::request::{ReasonBody, Text};
use crate::http::{Json, Path, Problem};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/subscriptions", get(list))
        .route("/subscriptions/{group}/pause", post(pause))
        .route("/subscriptions/{group}/resume", post(resume))
        .route("/subscriptions/{group}/drop", post(drop_group))
}

/// A subscription that the service is built with.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) group: String,
    pub(crate) event_types: Vec<&'static str>,
    pub(crate) topics: Vec<&'static str>,
    /// `None` if `SUBSCRIBE=off`, since nothing is consumed from Kafka then.
    pub(crate) status: Option<Status>,
}

#[derive(Serialize)]
struct Subscription {
    group: String,
    /// State of the answering instance.
    state: String,
    event_types: Vec<&'static str>,
    topics: Vec<&'static str>,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Serialize)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
    /// Always null: subscriptions fit on a page.
    next_cursor: Option<String>,
}

async fn list(
    State(admin): State<Admin>,
    operator: Option<Operator>,
) -> Result<Body<Subscriptions>, Problem> {
    let mut subscriptions = Vec::new();
    for subscribed in &*admin.subscriptions {
        let mut subscription = describe(&admin, subscribed).await?;
        if operator.is_none() {
            conceal(subscription.standing.breakers.iter_mut().map(|breaker| &mut breaker.reason));
        }
        subscriptions.push(subscription);
    }
    Ok(Body(Subscriptions { subscriptions, next_cursor: None }))
}

async fn describe(admin: &Admin, subscribed: &Subscribed) -> Result<Subscription, Problem> {
    let standing = consumer::standing(&admin.pool, &subscribed.group).await?;
    let state = subscribed.status.as_ref().map(|status| status.state().to_string());
    let Subscribed { group, event_types, topics, .. } = subscribed.clone();
    let state = state.unwrap_or_else(|| "off: SUBSCRIBE=off".to_owned());
    Ok(Subscription { group, state, event_types, topics, standing })
}

async fn pause(
    State(admin): State<Admin>,
    operator: Operator,
    Path(group): Path<String>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Subscription>, Problem> {
    let (subscribed, why) = (find(&admin, &group)?, given.checked()?);
    let act = NewAct { act: "subscription.pause", target: group.clone(), why: Some(why) };
    let pausing = async {
        consumer::pause(&admin.pool, &group, &operator.name, why).await?;
        Ok(((), "paused".to_owned()))
    };
    admin.acts.record(&operator, act, pausing).await?;
    describe(&admin, subscribed).await.map(Body)
}

async fn resume(
    State(admin): State<Admin>,
    operator: Operator,
    Path(group): Path<String>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Subscription>, Problem> {
    let (subscribed, why) = (find(&admin, &group)?, given.checked()?);
    let act = NewAct { act: "subscription.resume", target: group.clone(), why: Some(why) };
    let resuming = async {
        let was_stopped = consumer::resume(&admin.pool, &group).await?;
        let outcome = if was_stopped { "resumed" } else { "nothing to resume" };
        Ok(((), outcome.to_owned()))
    };
    admin.acts.record(&operator, act, resuming).await?;
    describe(&admin, subscribed).await.map(Body)
}

/// Number of dropped rows of a group.
#[derive(Serialize)]
struct Dropped {
    group: String,
    rows: u64,
}

/// Drops the rows of an abandoned group, for example of a replaced generation.
async fn drop_group(
    State(admin): State<Admin>,
    operator: Operator,
    Path(group): Path<Text>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Dropped>, Problem> {
    let (group, why) = (group.as_str(), given.checked()?);
    let act = NewAct { act: "subscription.drop", target: group.to_owned(), why: Some(why) };
    let dropping = async {
        if admin.subscriptions.iter().any(|it| it.group == group) {
            return Err(Problem::conflict(format!(
                "{group} is a subscription of this service; start the service without it first"
            )));
        }
        match consumer::drop_group(&admin.pool, group).await? {
            consumer::Dropped::Running => Err(Problem::conflict(format!(
                "an instance of {group} was seen within the last minute; stop it, wait a minute and try again"
            ))),
            consumer::Dropped::Rows(0) => Err(unknown(&admin, group)),
            consumer::Dropped::Rows(rows) => {
                Ok((Body(Dropped { group: group.to_owned(), rows }), format!("{rows} rows")))
            }
        }
    };
    admin.acts.record(&operator, act, dropping).await
}

fn find<'a>(admin: &'a Admin, group: &str) -> Result<&'a Subscribed, Problem> {
    let found = admin.subscriptions.iter().find(|it| it.group == group);
    found.ok_or_else(|| unknown(admin, group))
}

fn unknown(admin: &Admin, group: &str) -> Problem {
    unknown_subscription(group, admin.subscriptions.iter().map(|it| &*it.group))
}

/// Returns the problem of an unknown subscription, with the existing names.
pub(super) fn unknown_subscription<'a>(
    group: &str,
    known: impl Iterator<Item = &'a str>,
) -> Problem {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    Problem::not_found(format!("there is no subscription {group}; there are: {known}"))
}
