//! `/replays` on the admin port: replays and rehearsals of dead letters. An instance of the
//! subscription executes a replay; these routes request, control and show it. Reasons of failures
//! require an operator's token.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use consumer::{LetterFilter, NewReplay, Page, Replay, ReplayDetails, ReplayedLetter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Admin;
use super::acts::NewAct;
use super::concealed::conceal;
use super::letters::{letters_of, query_problem};
use super::operator::Operator;
use super::request::{
    MAX_LETTERS_BODY, ReasonBody, Text, checked_why, default_limit, describe, letters as counted,
    selection,
};
use crate::http::{Json, JsonObject, Path, Problem, Query};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/replays", get(list).post(request))
        .route("/replays/{id}", get(find))
        .route("/replays/{id}/letters", get(list_letters))
        .route("/replays/{id}/pause", post(pause))
        .route("/replays/{id}/resume", post(resume))
        .route("/replays/{id}/cancel", post(cancel))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaysQuery {
    group: Option<Text>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct ReplaysPage {
    replays: Vec<Replay>,
    next_cursor: Option<String>,
}

async fn list(
    State(admin): State<Admin>,
    Query(query): Query<ReplaysQuery>,
) -> Result<Body<ReplaysPage>, Problem> {
    let (group, cursor) = (query.group.as_ref().map(Text::as_str), query.cursor.as_deref());
    let page = consumer::replays(&admin.pool, group, query.limit, cursor).await;
    let Page { items: replays, next_cursor } = page.map_err(query_problem)?;
    Ok(Body(ReplaysPage { replays, next_cursor }))
}

async fn find(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Path(id): Path<Uuid>,
) -> Result<Body<ReplayDetails>, Problem> {
    let mut details = consumer::replay(&admin.pool, id).await?;
    if operator.is_none() {
        conceal(details.failures.iter_mut().map(|it| &mut it.reason));
    }
    Ok(Body(details))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayedQuery {
    outcome: Option<String>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct ReplayedPage {
    letters: Vec<ReplayedLetter>,
    next_cursor: Option<String>,
}

async fn list_letters(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Path(id): Path<Uuid>,
    Query(query): Query<ReplayedQuery>,
) -> Result<Body<ReplayedPage>, Problem> {
    let (outcome, cursor) = (query.outcome.as_deref(), query.cursor.as_deref());
    let page = consumer::replayed_letters(&admin.pool, id, outcome, query.limit, cursor).await;
    let Page { items: mut letters, next_cursor } = page.map_err(query_problem)?;
    if operator.is_none() {
        conceal(letters.iter_mut().filter_map(|letter| letter.reason.as_mut()));
    }
    Ok(Body(ReplayedPage { letters, next_cursor }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedReplay {
    group: Text,
    ids: Option<Vec<Uuid>>,
    filter: Option<JsonObject<LetterFilter>>,
    #[serde(default)]
    rehearse: bool,
    rate: Option<f64>,
    #[serde(default)]
    ramp: bool,
    stop_after: Option<u32>,
    #[serde(default)]
    force: bool,
    why: Option<String>,
}

impl RequestedReplay {
    fn checked(self, operator: &Operator) -> Result<NewReplay, Problem> {
        let why = match self.why.as_deref() {
            None if self.rehearse => None,
            why => Some(checked_why("why", why.unwrap_or_default())?.to_owned()),
        };
        let Self { ids, filter, rehearse, rate, ramp, stop_after, force, .. } = self;
        let (selection, by) = (selection(ids, filter)?, operator.name.clone());
        Ok(NewReplay { selection, rehearse, rate, ramp, stop_after, force, by, why })
    }
}

/// Response to a request for a replay: the replay and its location.
type Created = (StatusCode, [(HeaderName, String); 1], Body<Replay>);

async fn request(
    State(admin): State<Admin>,
    operator: Operator,
    Json(requested): Json<RequestedReplay, MAX_LETTERS_BODY>,
) -> Result<Created, Problem> {
    let letters = letters_of(&admin, requested.group.as_str())?;
    let new = requested.checked(&operator)?;
    let act = if new.rehearse { "replay.rehearse" } else { "replay.start" };
    let (target, why) = (describe(&letters.group(), &new.selection), new.why.clone());
    let act = NewAct { act, target, why: why.as_deref() };
    let requesting = async {
        let replay = letters.request(new).await?;
        let outcome =
            format!("replay {} of {}", replay.id, counted(replay.selected.unsigned_abs()));
        let location = [(header::LOCATION, format!("/replays/{}", replay.id))];
        Ok(((StatusCode::CREATED, location, Body(replay)), outcome))
    };
    admin.acts.record(&operator, act, requesting).await
}

async fn pause(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Replay>, Problem> {
    let act = act("replay.pause", id, &given)?;
    let pausing = async {
        let replay = consumer::pause_replay(&admin.pool, id, &operator.name).await?;
        Ok((Body(replay), "paused".to_owned()))
    };
    admin.acts.record(&operator, act, pausing).await
}

async fn resume(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Replay>, Problem> {
    let act = act("replay.resume", id, &given)?;
    let resuming = async {
        let replay = consumer::resume_replay(&admin.pool, id).await?;
        Ok((Body(replay), "resumed".to_owned()))
    };
    admin.acts.record(&operator, act, resuming).await
}

async fn cancel(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Json(given): Json<ReasonBody>,
) -> Result<Body<Replay>, Problem> {
    let act = act("replay.cancel", id, &given)?;
    let cancelling = async {
        let replay = consumer::cancel_replay(&admin.pool, id, &operator.name).await?;
        Ok((Body(replay), "cancelled".to_owned()))
    };
    admin.acts.record(&operator, act, cancelling).await
}

fn act<'a>(act: &'static str, id: Uuid, given: &'a ReasonBody) -> Result<NewAct<'a>, Problem> {
    Ok(NewAct { act, target: id.to_string(), why: Some(given.checked()?) })
}
