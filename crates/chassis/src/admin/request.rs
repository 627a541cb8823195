//! Fields that several routes of the admin port take: reasons, sizes of pages, selections of letters.

use consumer::{LetterFilter, Selection};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::http::Problem;

/// Maximum length of a reason or a note, in bytes.
const MAX_WHY: usize = 500;
/// Maximum size of a body that carries a letter's value, or ids of letters.
pub(super) const MAX_LETTERS_BODY: usize = 4 * 1024 * 1024;
/// How many ids the text of a selection shows.
const SHOWN_IDS: usize = 3;

/// Returns the size of a page if the query does not set it.
pub(super) const fn default_limit() -> u32 {
    100
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

/// The body of a request that needs nothing but a reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    why: String,
}

impl Why {
    /// Does the same as [`checked_why`] for the field `why`.
    pub(super) fn checked(&self) -> Result<&str, Problem> {
        checked_why("why", &self.why)
    }
}

/// Returns a reason without the spaces around it. Fails with 422 if it is empty, too long, or can't be stored.
pub(super) fn checked_why<'a>(field: &str, why: &'a str) -> Result<&'a str, Problem> {
    let why = why.trim();
    if why.is_empty() || why.len() > MAX_WHY || why.contains('\0') {
        let rule = format!("{field}: say it in 1 to {MAX_WHY} bytes of text");
        return Err(Problem::unprocessable(rule));
    }
    Ok(why)
}

/// Returns the letters that a body chooses by one of these fields. Fails with 422 if it has both or neither of them, and
/// with 409 if the list of ids is empty.
pub(super) fn selection(
    ids: Option<Vec<Uuid>>,
    filter: Option<LetterFilter>,
) -> Result<Selection, Problem> {
    match (ids, filter) {
        (Some(ids), None) if ids.is_empty() => {
            Err(Problem::conflict("ids: nothing is chosen; list at least one letter"))
        }
        (Some(ids), None) => Ok(Selection::Ids(ids)),
        (None, Some(filter)) => Ok(Selection::Filter(filter)),
        _ => Err(Problem::unprocessable("choose letters by either ids or filter")),
    }
}

/// Describes letters of a group in one line.
pub(super) fn describe(group: &str, selection: &Selection) -> String {
    match selection {
        Selection::Ids(ids) => {
            let shown: Vec<_> = ids.iter().take(SHOWN_IDS).map(Uuid::to_string).collect();
            let others = ids.len().saturating_sub(SHOWN_IDS);
            let others = if others == 0 { String::new() } else { format!(" and {others} others") };
            format!("{group}: {}{others}", shown.join(", "))
        }
        Selection::Filter(filter) => {
            let mut filter = serde_json::to_value(filter).unwrap_or_default();
            if let Value::Object(names) = &mut filter {
                names.retain(|_, value| !value.is_null());
            }
            format!("{group}: {filter}")
        }
    }
}

/// Returns a number of letters in words.
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
        assert_eq!(status(None, Some(all.clone())), Ok(Selection::Filter(all.clone())));
        assert_eq!(status(Some(vec![]), None), Err(StatusCode::CONFLICT));
        assert_eq!(status(None, None), Err(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!(status(Some(vec![id]), Some(all)), Err(StatusCode::UNPROCESSABLE_ENTITY));
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
