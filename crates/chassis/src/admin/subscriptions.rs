//! `/subscriptions` on the admin port: what is consumed, by which instances, and what holds it up.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use consumer::{Standing, Status};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::operator::Operator;
use crate::http::{Json, Path, Problem};

/// How long a reason may be, in bytes.
const MAX_WHY: usize = 500;

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
    /// `None` where `SUBSCRIBE=off`: nothing is consumed from Kafka.
    pub(crate) status: Option<Status>,
}

#[derive(Serialize)]
struct Subscription {
    group: String,
    /// Of the instance that answers.
    state: String,
    event_types: Vec<&'static str>,
    topics: Vec<&'static str>,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Serialize)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
    /// There are never more than fit on a page.
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    why: String,
}

impl Why {
    /// Returns the reason, or a problem that says how one has to be.
    fn checked(&self) -> Result<&str, Problem> {
        let why = self.why.trim();
        if why.is_empty() || why.len() > MAX_WHY || why.contains('\0') {
            let rule = format!("why: say it in 1 to {MAX_WHY} bytes of text");
            return Err(Problem::unprocessable(rule));
        }
        Ok(why)
    }
}

async fn list(State(admin): State<Admin>) -> Result<Body<Subscriptions>, Problem> {
    let mut subscriptions = Vec::new();
    for subscribed in &*admin.subscriptions {
        subscriptions.push(describe(&admin, subscribed).await?);
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
    Json(given): Json<Why>,
) -> Result<Body<Subscription>, Problem> {
    let (subscribed, why) = (find(&admin, &group)?, given.checked()?);
    consumer::pause(&admin.pool, &group, &operator.name, why).await?;
    tracing::warn!(group, operator = operator.name, why, "subscription paused by an operator");
    describe(&admin, subscribed).await.map(Body)
}

async fn resume(
    State(admin): State<Admin>,
    operator: Operator,
    Path(group): Path<String>,
    Json(given): Json<Why>,
) -> Result<Body<Subscription>, Problem> {
    let (subscribed, why) = (find(&admin, &group)?, given.checked()?);
    if consumer::resume(&admin.pool, &group).await? {
        tracing::warn!(group, operator = operator.name, why, "subscription resumed by an operator");
    }
    describe(&admin, subscribed).await.map(Body)
}

/// The number of rows of a group that were dropped.
#[derive(Serialize)]
struct Dropped {
    group: String,
    rows: u64,
}

/// Drops the rows of a group that nobody runs any more: of a generation that was replaced, for instance.
async fn drop_group(
    State(admin): State<Admin>,
    operator: Operator,
    Path(group): Path<String>,
    Json(given): Json<Why>,
) -> Result<Body<Dropped>, Problem> {
    let why = given.checked()?;
    if admin.subscriptions.iter().any(|it| it.group == group) {
        return Err(Problem::conflict(format!(
            "this service consumes as {group}; start it without that subscription first"
        )));
    }
    // It goes on if the caller hangs up.
    let (pool, dropped) = (admin.pool.clone(), group.clone());
    let dropping = tokio::spawn(async move { consumer::drop_group(&pool, &dropped).await });
    match dropping.await.map_err(Problem::internal)?? {
        consumer::Dropped::Running => Err(Problem::conflict(format!(
            "an instance consumes as {group}, or did a moment ago; end it, wait a minute, and try again"
        ))),
        consumer::Dropped::Rows(0) => Err(unknown(&admin, &group)),
        consumer::Dropped::Rows(rows) => {
            tracing::warn!(
                group,
                rows,
                operator = operator.name,
                why,
                "group dropped by an operator"
            );
            Ok(Body(Dropped { group, rows }))
        }
    }
}

fn find<'a>(admin: &'a Admin, group: &str) -> Result<&'a Subscribed, Problem> {
    let found = admin.subscriptions.iter().find(|it| it.group == group);
    found.ok_or_else(|| unknown(admin, group))
}

fn unknown(admin: &Admin, group: &str) -> Problem {
    unknown_subscription(group, admin.subscriptions.iter().map(|it| &*it.group))
}

/// Returns the problem of a name that no subscription has, with the names that there are.
pub(super) fn unknown_subscription<'a>(
    group: &str,
    known: impl Iterator<Item = &'a str>,
) -> Problem {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none here".into() } else { known.join(", ") };
    Problem::not_found(format!("there is no subscription {group}; there are: {known}"))
}
