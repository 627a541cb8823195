//! Fields shared by several routes of the admin port: reasons, page sizes, selections of letters.

use consumer::{LetterFilter, Selection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::http::{JsonObject, Problem};

/// Maximum length of a reason or a note, in bytes.
const MAX_WHY: usize = 500;
/// Maximum size of a page.
const MAX_LIMIT: u32 = 1_000;
/// Maximum size of a body that carries a letter's value, or ids of letters or jobs.
pub(super) const MAX_LETTERS_BODY: usize = 4 * 1024 * 1024;
/// Number of ids in the text of a selection.
const SHOWN_IDS: usize = 3;

/// Returns the size of a page if the query does not set it.
pub(super) const fn default_limit() -> u32 {
    100
}

/// Fails with 400 if a page can't have this size.
pub(super) fn check_limit(limit: u32) -> Result<(), Problem> {
    if limit == 0 || limit > MAX_LIMIT {
        return Err(Problem::bad_request(format!("limit must be 1 to {MAX_LIMIT}")));
    }
    Ok(())
}

/// Text that Postgres can store and compare with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Text(String);

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.contains('\0') {
            Err("the character U+0000 can't be stored")
        } else {
            Ok(Self(text))
        }
    }
}

/// Body of a request that consists of a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    why: String,
}

impl ReasonBody {
    /// Returns the field `why`, checked by [`checked_why`].
    pub(super) fn checked(&self) -> Result<&str, Problem> {
        checked_why("why", &self.why)
    }
}

/// Returns a reason without the spaces around it. Fails with 422 if it is empty, too long, or can't
/// be stored.
pub(super) fn checked_why<'a>(field: &str, why: &'a str) -> Result<&'a str, Problem> {
    let why = why.trim();
    if why.is_empty() || why.len() > MAX_WHY || why.contains('\0') {
        let rule = format!("{field} must be 1 to {MAX_WHY} bytes of text");
        return Err(Problem::unprocessable(rule));
    }
    Ok(why)
}

/// A selection in a body: by ids or by a filter.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Choice<F> {
    Ids(Vec<Uuid>),
    Filter(F),
}

/// Returns the selection in a body. Fails with 422 if it has both or neither of the fields, and
/// with 409 if the list of ids is empty. `thing` is the noun of the selected items, as in `letter`.
pub(super) fn choice<F>(
    ids: Option<Vec<Uuid>>,
    filter: Option<JsonObject<F>>,
    thing: &str,
) -> Result<Choice<F>, Problem> {
    match (ids, filter) {
        (Some(ids), None) if ids.is_empty() => {
            let why = format!("ids must list at least one {thing}");
            Err(Problem::conflict(why))
        }
        (Some(ids), None) => Ok(Choice::Ids(ids)),
        (None, Some(JsonObject(filter))) => Ok(Choice::Filter(filter)),
        _ => Err(Problem::unprocessable("give either ids or filter")),
    }
}

/// Returns the letters selected in a body, by the rules of [`choice`].
pub(super) fn selection(
    ids: Option<Vec<Uuid>>,
    filter: Option<JsonObject<LetterFilter>>,
) -> Result<Selection, Problem> {
    Ok(match choice(ids, filter, "letter")? {
        Choice::Ids(ids) => Selection::Ids(ids),
        Choice::Filter(filter) => Selection::Filter(filter),
    })
}

/// Describes letters of a group in one line.
pub(super) fn describe(group: &str, selection: &Selection) -> String {
    match selection {
        Selection::Ids(ids) => format!("{group}: {}", describe_ids(ids)),
        Selection::Filter(filter) => format!("{group}: {}", describe_filter(filter)),
    }
}

/// Names the first of several ids, and counts the others.
pub(super) fn describe_ids(ids: &[Uuid]) -> String {
    let shown: Vec<_> = ids.iter().take(SHOWN_IDS).map(Uuid::to_string).collect();
    let others = ids.len().saturating_sub(SHOWN_IDS);
    let others = if others == 0 { String::new() } else { format!(" and {others} others") };
    format!("{}{others}", shown.join(", "))
}

/// Returns a filter as JSON, without the conditions that it does not have.
pub(super) fn describe_filter(filter: &impl Serialize) -> String {
    let mut filter = serde_json::to_value(filter).unwrap_or_default();
    if let Value::Object(names) = &mut filter {
        names.retain(|_, value| !value.is_null());
    }
    filter.to_string()
}

/// Formats a number of letters, as in `2 letters`.
pub(super) fn letters(number: u64) -> String {
    if number == 1 { "1 letter".to_owned() } else { format!("{number} letters") }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use consumer::LetterStatus;

    use super::*;

    #[test]
    fn letters_are_chosen_in_one_way() {
        let (id, all) = (Uuid::nil(), LetterFilter::default());
        let status = |ids, filter| selection(ids, filter).map_err(|it| it.status());
        assert_eq!(status(Some(vec![id]), None), Ok(Selection::Ids(vec![id])));
        assert_eq!(status(None, Some(JsonObject(all.clone()))), Ok(Selection::Filter(all.clone())));
        assert_eq!(status(Some(vec![]), None), Err(StatusCode::CONFLICT));
        assert_eq!(status(None, None), Err(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!(
            status(Some(vec![id]), Some(JsonObject(all))),
            Err(StatusCode::UNPROCESSABLE_ENTITY)
        );
    }

    #[test]
    fn a_selection_is_described_in_one_line() {
        let id = Uuid::nil();
        assert_eq!(describe("billing", &Selection::Ids(vec![id])), format!("billing: {id}"));
        let many = describe("billing", &Selection::Ids(vec![id; 5]));
        assert_eq!(many, format!("billing: {id}, {id}, {id} and 2 others"));
        let status = Some(LetterStatus::Parked);
        let filter = LetterFilter { status, ..LetterFilter::default() };
        let parked = describe("billing", &Selection::Filter(filter));
        assert_eq!(parked, r#"billing: {"status":"parked"}"#);
    }
}
