//! `/acts` on the admin port: the acts of operators with time, reason and outcome.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::{Json as Body, Router};
use pg::{AddressIn, address_pattern};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::prelude::FromRow;
use time::OffsetDateTime;

use super::Admin;
use super::concealed::conceal;
use super::operator::Operator;
use super::request::{Text, check_limit, default_limit};
use crate::http::{Problem, Query};

/// Maximum length of a stored text, in bytes. Reasons are shorter.
const MAX_TEXT: usize = 1_000;
const PRUNED_AT_ONCE: u32 = 1_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/acts", get(list))
}

/// Records the acts of operators.
#[derive(Clone, Debug)]
pub(crate) struct Acts(PgPool);

/// An act before its execution.
pub(super) struct NewAct<'a> {
    /// Kind of act, such as `dead-letters.discard`.
    pub(super) act: &'static str,
    /// The object of the act, such as `billing: 3 letters`.
    pub(super) target: String,
    /// The operator's reason, if the act takes one.
    pub(super) why: Option<&'a str>,
}

impl Acts {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// Records an act, executes it with `doing`, and records the outcome. `doing` returns its
    /// result and a description of the outcome; a problem is recorded as an outcome, too. An act
    /// that can't be recorded is not executed. If only the outcome can't be recorded, the act stays
    /// without one.
    pub(super) async fn record<T>(
        &self,
        operator: &Operator,
        new: NewAct<'_>,
        doing: impl Future<Output = Result<(T, String), Problem>>,
    ) -> Result<T, Problem> {
        let NewAct { act, target, why } = new;
        let target = storable(&target);
        let insert = "insert into act (by, act, target, why) values ($1, $2, $3, $4) returning id";
        let insert =
            sqlx::query_scalar(insert).bind(&operator.name).bind(act).bind(&target).bind(why);
        let id: i64 = insert.fetch_one(&self.0).await.map_err(|error| not_recorded(&error))?;

        let (result, outcome) = match doing.await {
            Ok((result, outcome)) => (Ok(result), outcome),
            Err(problem) => {
                let outcome = describe(&problem);
                (Err(problem), outcome)
            }
        };
        let outcome = storable(&outcome);
        tracing::warn!(
            act_id = id,
            act,
            target,
            operator = operator.name,
            why,
            outcome,
            "operator acted"
        );
        let update =
            sqlx::query("update act set outcome = $2 where id = $1").bind(id).bind(outcome);
        if let Err(error) = update.execute(&self.0).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, act_id = id, "outcome of an act not recorded");
        }
        result
    }

    /// Erases an e-mail address, in upper and lower case, from the texts of operators.
    pub(super) async fn erase(&self, address: &str) -> sqlx::Result<()> {
        sqlx::query(
            "update act set target = regexp_replace(target, $1, '(erased)', 'gi'),
                 why = regexp_replace(why, $1, '(erased)', 'gi'),
                 outcome = regexp_replace(outcome, $1, '(erased)', 'gi')
             where concat_ws(' ', target, why, outcome) ~* $1",
        )
        .bind(address_pattern(address, AddressIn::Text))
        .execute(&self.0)
        .await
        .map(drop)
    }
}

fn not_recorded(error: &sqlx::Error) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "act refused, recording failed");
    let detail = "the act could not be recorded, so it was not executed; try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
        .with_header(header::RETRY_AFTER, "1")
}

/// How outcomes of acts that were not executed begin.
const FAILED: &str = "failed: ";
const REFUSED: &str = "refused: ";

fn describe(problem: &Problem) -> String {
    let what = if problem.status().is_server_error() { FAILED } else { REFUSED };
    format!("{what}{}", problem.detail())
}

/// Conceals the filter by which an act has selected its objects.
fn conceal_filter(target: &mut String) {
    if let Some(begin) = target.find('{') {
        let mut filter = target.split_off(begin);
        conceal([&mut filter]);
        target.push_str(&filter);
    }
}

/// Conceals why an act was not executed.
fn conceal_detail(outcome: &mut String) {
    if let Some(what) = [FAILED, REFUSED].into_iter().find(|it| outcome.starts_with(it)) {
        let mut detail = outcome.split_off(what.len());
        conceal([&mut detail]);
        outcome.push_str(&detail);
    }
}

/// Returns the text without NUL, which Postgres can't store, cut to the maximum length.
fn storable(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= MAX_TEXT {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActsQuery {
    by: Option<Text>,
    #[serde(default = "default_limit")]
    limit: u32,
    cursor: Option<i64>,
}

#[derive(Serialize, FromRow)]
struct RecordedAct {
    id: i64,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    by: String,
    act: String,
    target: String,
    why: Option<String>,
    /// `None` while the act is executed, and for good if the service stopped before its end.
    outcome: Option<String>,
}

#[derive(Serialize)]
struct ActsPage {
    acts: Vec<RecordedAct>,
    next_cursor: Option<String>,
}

/// Listing requires no token. A refusal may quote what an operator has sent, such as a payload, and
/// a filter what was searched for, with the number of matches as the outcome. So these require an
/// operator's token.
async fn list(
    State(admin): State<Admin>,
    operator: Option<Operator>,
    Query(query): Query<ActsQuery>,
) -> Result<Body<ActsPage>, Problem> {
    let ActsQuery { by, limit, cursor } = query;
    check_limit(limit)?;
    let select = sqlx::query_as(
        "select id, at, by, act, target, why, outcome from act
         where id < $1 and ($2::text is null or by = $2) order by id desc limit $3",
    );
    let select = select.bind(cursor.unwrap_or(i64::MAX)).bind(by.as_ref().map(Text::as_str));
    // A surplus row shows that there is another page.
    let mut acts: Vec<RecordedAct> =
        select.bind(i64::from(limit) + 1).fetch_all(&admin.pool).await?;
    let fit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = acts.len() <= fit;
    acts.truncate(fit);
    if operator.is_none() {
        for act in &mut acts {
            act.outcome.as_mut().map(conceal_detail);
            conceal_filter(&mut act.target);
        }
    }
    let next_cursor = acts.last().filter(|_| !is_last).map(|act| act.id.to_string());
    Ok(Body(ActsPage { acts, next_cursor }))
}

/// Deletes acts that are older than a year.
pub(crate) async fn prune(pool: PgPool) -> sqlx::Result<()> {
    pg::delete_in_chunks(&pool, PRUNED_AT_ONCE, |limit| {
        sqlx::query(
            "delete from act where id = any(array(
                 select id from act where at < now() - interval '1 year' limit $1))",
        )
        .bind(limit)
    })
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_bounded_and_has_no_nul() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert_eq!(storable(&"x".repeat(MAX_TEXT)), "x".repeat(MAX_TEXT));
        let cut = storable(&"é".repeat(MAX_TEXT));
        assert_eq!(cut, format!("{}…", "é".repeat(MAX_TEXT / 2)));
    }

    #[test]
    fn why_an_act_was_refused_is_for_operators() {
        let concealed = |outcome: &str| {
            let mut outcome = outcome.to_owned();
            conceal_detail(&mut outcome);
            outcome
        };
        let refused =
            describe(&Problem::unprocessable("value: \"ada@example.com\" is not a number"));
        assert_eq!(concealed(&refused), "refused: (the operator's token shows it)");
        assert_eq!(concealed("3 letters"), "3 letters");
        let mut target = r#"billing: {"reason":"ada@example.com"}"#.to_owned();
        conceal_filter(&mut target);
        assert_eq!(target, "billing: (the operator's token shows it)");
    }
}
