//! `/dead-letters` on the admin port: messages that subscriptions could not process. Listing
//! requires no token. Payloads and reasons may contain customers' data, so they require an
//! operator's token, as does every change.

use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Json as Body, Router};
use consumer::{
    GroupStatus, Letter, LetterFilter, LetterGroup, LetterStatus, LetterSummary, Letters,
    LettersError, Page, Selection,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Admin;
use super::acts::NewAct;
use super::concealed::conceal;
use super::operator::{Operator, unauthorized};
use super::request;
use super::request::{MAX_LETTERS_BODY, Text, checked_why, default_limit, describe, selection};
use super::subscriptions::unknown_subscription;
use crate::http::{Json, JsonObject, Path, Problem, Query};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/groups", get(list_groups))
        .route("/dead-letters/groups/{fingerprint}", put(set_group))
        .route("/dead-letters/discard", post(discard))
        .route("/dead-letters/restore", post(restore))
        .route("/dead-letters/{id}", get(find))
        .route("/dead-letters/{id}/payload", put(edit))
}

impl From<LettersError> for Problem {
    fn from(error: LettersError) -> Self {
        match error {
            LettersError::Database(error) => error.into(),
            LettersError::NotFound(detail) => Self::not_found(detail),
            LettersError::Conflict(detail) => Self::conflict(detail),
            LettersError::Unprocessable(detail) => Self::unprocessable(detail),
            other => Self::internal(other),
        }
    }
}

/// Returns the problem of a request whose values are in the query: a malformed one is a 400 instead
/// of a 422.
pub(super) fn query_problem(error: LettersError) -> Problem {
    match error {
        LettersError::Unprocessable(detail) => Problem::bad_request(detail),
        other => other.into(),
    }
}

/// Returns the letters of a subscription of this service. Fails with 409 if the service consumes
/// nothing, and with 404 if it has no such subscription; the response names those that it has.
pub(super) fn letters_of<'a>(admin: &'a Admin, group: &str) -> Result<&'a Letters, Problem> {
    let letters = admin.letters.iter().find(|letters| letters.group() == group);
    letters.ok_or_else(|| {
        if admin.subscriptions.iter().any(|it| it.group == group) {
            return Problem::conflict(format!(
                "{group} consumes nothing here (SUBSCRIBE=off), so its letters can't be replayed \
                 or edited"
            ));
        }
        unknown_subscription(group, admin.subscriptions.iter().map(|it| &*it.group))
    })
}

/// Fails with 404 if a group is neither subscribed nor has letters. A replaced generation may still
/// have letters.
async fn require_known(admin: &Admin, group: &str) -> Result<(), Problem> {
    if admin.subscriptions.iter().any(|it| it.group == group) {
        return Ok(());
    }
    let all = LetterFilter::default();
    let letters = consumer::letters(&admin.pool, Some(group), &all, 1, None).await?;
    if letters.items.is_empty() {
        let known = admin.subscriptions.iter().map(|it| &*it.group);
        return Err(unknown_subscription(group, known));
    }
    Ok(())
}

/// Fields of [`LetterFilter`] and of a page, repeated here because serde can't refuse unknown
/// fields of a flattened struct.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LettersQuery {
    group: Option<Text>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<String>,
    status: Option<LetterStatus>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    reason: Option<String>,
    fingerprint: Option<String>,
    tenant: Option<String>,
    subject: Option<String>,
    correlation_id: Option<String>,
    event_id: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    to: Option<OffsetDateTime>,
}

impl LettersQuery {
    fn filter(&self) -> LetterFilter {
        LetterFilter {
            status: self.status,
            event_type: self.event_type.clone(),
            reason: self.reason.clone(),
            fingerprint: self.fingerprint.clone(),
            tenant: self.tenant.clone(),
            subject: self.subject.clone(),
            correlation_id: self.correlation_id.clone(),
            event_id: self.event_id.clone(),
            from: self.from,
            to: self.to,
        }
    }
}

#[derive(Serialize)]
struct LettersPage {
    dead_letters: Vec<LetterSummary>,
    next_cursor: Option<String>,
}

async fn list(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Query(query): Query<LettersQuery>,
) -> Result<Body<LettersPage>, Problem> {
    // The result of a search would reveal the content of concealed reasons.
    if query.reason.is_some() && operator.is_none() {
        return Err(unauthorized(
            "the filter reason requires an operator's token; send it as \
             Authorization: Bearer <token>, or leave reason out",
        ));
    }
    let (group, cursor) = (query.group.as_ref().map(Text::as_str), query.cursor.as_deref());
    let page = consumer::letters(&admin.pool, group, &query.filter(), query.limit, cursor).await;
    let Page { items: mut dead_letters, next_cursor } = page.map_err(query_problem)?;
    if operator.is_none() {
        conceal(dead_letters.iter_mut().map(|letter| &mut letter.reason));
    }
    Ok(Body(LettersPage { dead_letters, next_cursor }))
}

async fn find(
    State(admin): State<Admin>,
    _: Operator,
    Path(id): Path<Uuid>,
) -> Result<Body<Letter>, Problem> {
    Ok(Body(consumer::letter(&admin.pool, id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPayload {
    value: Box<RawValue>,
    why: String,
}

async fn edit(
    State(admin): State<Admin>,
    operator: Operator,
    Path(id): Path<Uuid>,
    Json(new): Json<NewPayload, MAX_LETTERS_BODY>,
) -> Result<Body<Letter>, Problem> {
    let why = checked_why("why", &new.why)?;
    let group = consumer::letter(&admin.pool, id).await?.summary.group;
    let letters = letters_of(&admin, &group)?;
    let act = NewAct { act: "dead-letters.edit", target: format!("{group}: {id}"), why: Some(why) };
    let editing = async {
        let letter = letters.edit(id, &new.value, &operator.name, why).await?;
        Ok((Body(letter), "edited".to_owned()))
    };
    admin.acts.record(&operator, act, editing).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupsQuery {
    group: Option<Text>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct GroupsPage {
    groups: Vec<LetterGroup>,
    next_cursor: Option<String>,
}

async fn list_groups(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Query(query): Query<GroupsQuery>,
) -> Result<Body<GroupsPage>, Problem> {
    let (group, cursor) = (query.group.as_ref().map(Text::as_str), query.cursor.as_deref());
    let page = consumer::letter_groups(&admin.pool, group, query.limit, cursor).await;
    let Page { items: mut groups, next_cursor } = page.map_err(query_problem)?;
    if operator.is_none() {
        conceal(groups.iter_mut().map(|group| &mut group.reason));
    }
    Ok(Body(GroupsPage { groups, next_cursor }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetGroup {
    status: GroupStatus,
    note: Option<String>,
}

async fn set_group(
    State(admin): State<Admin>,
    operator: Operator,
    Path(fingerprint): Path<Text>,
    Json(set): Json<SetGroup>,
) -> Result<Body<LetterGroup>, Problem> {
    let note = set.note.as_deref().map(|note| checked_why("note", note)).transpose()?;
    let target = fingerprint.as_str().to_owned();
    let act = NewAct { act: "dead-letters.group", target, why: note };
    let setting = async {
        let (fingerprint, by) = (fingerprint.as_str(), &operator.name);
        let group = consumer::set_letter_group(&admin.pool, fingerprint, set.status, note, by);
        let group = group.await?;
        let outcome = group.status.clone();
        Ok((Body(group), outcome))
    };
    admin.acts.record(&operator, act, setting).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    group: Text,
    ids: Option<Vec<Uuid>>,
    filter: Option<JsonObject<LetterFilter>>,
    why: String,
}

/// Letters of a group to discard or restore, and the reason.
struct LettersRequest {
    group: String,
    selection: Selection,
    why: String,
}

impl LettersRequest {
    async fn checked(admin: &Admin, chosen: Chosen) -> Result<Self, Problem> {
        let why = checked_why("why", &chosen.why)?.to_owned();
        let selection = selection(chosen.ids, chosen.filter)?;
        let group = chosen.group.as_str().to_owned();
        require_known(admin, &group).await?;
        Ok(Self { group, selection, why })
    }

    fn act(&self, act: &'static str) -> NewAct<'_> {
        let target = describe(&self.group, &self.selection);
        NewAct { act, target, why: Some(&self.why) }
    }
}

/// Number of changed letters.
#[derive(Serialize)]
pub(super) struct Changed {
    pub(super) letters: u64,
}

async fn discard(
    State(admin): State<Admin>,
    operator: Operator,
    Json(chosen): Json<Chosen, MAX_LETTERS_BODY>,
) -> Result<Body<Changed>, Problem> {
    let change = LettersRequest::checked(&admin, chosen).await?;
    let discarding = async {
        let LettersRequest { group, selection, .. } = &change;
        let letters = consumer::discard_letters(&admin.pool, group, selection).await?;
        Ok((Body(Changed { letters }), request::letters(letters)))
    };
    admin.acts.record(&operator, change.act("dead-letters.discard"), discarding).await
}

async fn restore(
    State(admin): State<Admin>,
    operator: Operator,
    Json(chosen): Json<Chosen, MAX_LETTERS_BODY>,
) -> Result<Body<Changed>, Problem> {
    let change = LettersRequest::checked(&admin, chosen).await?;
    let restoring = async {
        let LettersRequest { group, selection, .. } = &change;
        let letters = consumer::restore_letters(&admin.pool, group, selection).await?;
        Ok((Body(Changed { letters }), request::letters(letters)))
    };
    admin.acts.record(&operator, change.act("dead-letters.restore"), restoring).await
}
