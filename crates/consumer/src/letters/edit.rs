//! Edits the payload of a letter.

use std::collections::BTreeMap;

use kafka::Record;
use serde_json::value::RawValue;
use sqlx::FromRow;
use telemetry::error_chain;
use time::OffsetDateTime;
use uuid::Uuid;

use super::letter::unknown;
use super::record::{COLUMNS, StoredRecord};
use super::{Letter, Letters, LettersError, letter};

#[derive(FromRow)]
struct Edited {
    #[sqlx(flatten)]
    record: StoredRecord,
    subscription: String,
    status: String,
    erased_at: Option<OffsetDateTime>,
}

impl Letters {
    /// Replaces the data of a dead or parked letter, to be rehearsed and replayed. The consumed
    /// data is kept as well; headers and key stay unchanged. `by` is the operator's name.
    ///
    /// # Errors
    /// Fails and changes nothing if the letter is unknown or closed, its record is not an event
    /// that the subscription handles, the data violates the event's schema, or the database is
    /// unavailable.
    pub async fn edit(
        &self,
        id: Uuid,
        data: &RawValue,
        by: &str,
        why: &str,
    ) -> Result<Letter, LettersError> {
        let query = format!(
            "select {COLUMNS}, subscription, status, erased_at from dead_letter where id = $1"
        );
        let found: Option<Edited> =
            sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.pool).await?;
        let found = found.filter(|it| it.subscription == self.group());
        let Edited { record, status, erased_at, .. } = found.ok_or_else(|| unknown(id))?;
        if !matches!(&*status, "dead" | "parked") {
            return Err(LettersError::Conflict(format!(
                "the letter is {status}; only a dead or parked letter can be edited"
            )));
        }
        if erased_at.is_some() {
            return Err(LettersError::Conflict("the content of the letter was erased".to_owned()));
        }
        let value = self.checked(&record.into_record(), data)?;
        let edited = sqlx::query(
            "update dead_letter
             set value_before = case when edited_at is null then value else value_before end,
                 value = $2, edited_by = $3, edited_why = $4, edited_at = clock_timestamp()
             where id = $1 and status in ('dead', 'parked')",
        )
        .bind(id)
        .bind(value)
        .bind(by)
        .bind(why)
        .execute(&self.pool)
        .await?;
        if edited.rows_affected() == 0 {
            let why = "the letter was replayed or discarded meanwhile".to_owned();
            return Err(LettersError::Conflict(why));
        }
        letter(&self.pool, id).await
    }

    /// Returns the record's value with the new data, if the event type accepts it.
    fn checked(&self, record: &Record, data: &RawValue) -> Result<Vec<u8>, LettersError> {
        let refused = |why: String| LettersError::Unprocessable(format!("value: {why}"));
        if has_nul(data.get()) {
            return Err(refused("Postgres can't store the character U+0000".to_owned()));
        }
        let event = kafka::decode(record).map_err(|error| {
            LettersError::Conflict(format!(
                "the record is not an event and has no schema to be checked against: {error}"
            ))
        })?;
        let event_type = &*event.envelope.event_type;
        let topic = self.kafka.unprefixed(&record.topic);
        let route = self.subscription.route_on(topic, event_type).ok_or_else(|| {
            let what = format!("{} handles no {event_type} on {topic}", self.group());
            LettersError::Conflict(what)
        })?;
        route
            .handler
            .check(&event.envelope, data.get())
            .map_err(|failure| refused(error_chain(&failure)))?;
        in_its_mode(record, data).map_err(|error| refused(error.to_string()))
    }
}

/// Returns whether a string or a name in the JSON text contains U+0000, which JSON writes as an
/// escape. After a backslash that is itself escaped, the same characters are plain text.
fn has_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        before % 2 == 0
    })
}

/// Returns the record's value with other data: in structured mode the data is the member `data` of
/// the value, otherwise it is the whole value. The given text is kept unchanged, so that numbers
/// stay exact.
fn in_its_mode(record: &Record, data: &RawValue) -> serde_json::Result<Vec<u8>> {
    let is_structured = record.text_header("content-type").is_some_and(kafka::is_structured);
    let whole = record.value.as_deref().filter(|_| is_structured);
    let Some(whole) = whole else { return Ok(data.get().into()) };
    let mut whole: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(whole)?;
    whole.remove("data_base64");
    whole.insert("data".to_owned(), data.to_owned());
    serde_json::to_vec(&whole)
}

#[cfg(test)]
mod tests {
    use super::has_nul;

    #[test]
    fn an_escaped_nul_is_found_and_an_escaped_backslash_is_not_taken_for_one() {
        for json in [r#""\u0000""#, r#""a\\\u0000""#, r#"{"a\u0000": 1}"#, r#""\\u0000\u0000""#] {
            assert!(has_nul(json), "{json}");
        }
        for json in [r#""\\u0000""#, r#""u0000""#, r#""\\\\u0000""#, "{}"] {
            assert!(!has_nul(json), "{json}");
        }
    }
}
