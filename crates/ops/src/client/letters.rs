//! Dead letters and their groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Answer, Client, Filter, Listed, Listing, Selection};
use crate::error::Error;

/// A dead letter without its record.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) id: Uuid,
    pub(crate) group: String,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) reason: String,
    pub(crate) exception: String,
    pub(crate) fingerprint: String,
    pub(crate) status: String,
    pub(crate) outcome: Option<String>,
    /// Number of failed replays.
    #[serde(default)]
    pub(crate) replays: u64,
    pub(crate) died_at: String,
    pub(crate) closed_at: Option<String>,
    #[serde(default)]
    pub(crate) is_expired: bool,
    #[serde(default)]
    pub(crate) is_edited: bool,
}

/// A dead letter with its record and its attempts.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Letter {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    #[serde(default)]
    pub(crate) headers: Vec<Header>,
    /// The causes, one per line.
    #[serde(default)]
    pub(crate) causes: String,
    #[serde(default)]
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) edit: Option<Edit>,
    pub(crate) traceparent: Option<String>,
}

impl Letter {
    /// Returns the headers in their order.
    pub(crate) fn header_bytes(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|it| (&*it.name, it.value.as_ref().map(Bytes::as_slice)))
    }
}

/// A header of a record.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Header {
    name: String,
    value: Option<Bytes>,
}

/// A failed attempt.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) at: String,
    pub(crate) exception: String,
    pub(crate) message: String,
    /// The causes of the error, one per line.
    #[serde(default)]
    pub(crate) causes: String,
    /// The replay of which the attempt was part. `None` for an attempt of the subscription.
    pub(crate) replay: Option<Uuid>,
}

/// The correction of a payload.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Edit {
    pub(crate) by: String,
    pub(crate) why: String,
    pub(crate) at: String,
    /// The payload before the edit.
    pub(crate) before: Option<Bytes>,
}

/// Bytes, in JSON as `{"text": ".."}` if they are UTF-8 and `{"base64": ".."}` if they are not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Encoded", into = "Encoded")]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Encoded {
    Text(String),
    Base64(String),
}

impl TryFrom<Encoded> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(encoded: Encoded) -> Result<Self, Self::Error> {
        match encoded {
            Encoded::Text(text) => Ok(Self(text.into_bytes())),
            Encoded::Base64(text) => STANDARD.decode(text).map(Self),
        }
    }
}

impl From<Bytes> for Encoded {
    fn from(Bytes(bytes): Bytes) -> Self {
        String::from_utf8(bytes)
            .map_or_else(|error| Self::Base64(STANDARD.encode(error.as_bytes())), Self::Text)
    }
}

/// Dead letters of one group with the same fingerprint.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LetterGroup {
    pub(crate) fingerprint: String,
    pub(crate) group: String,
    pub(crate) event_type: Option<String>,
    pub(crate) exception: String,
    /// The reason of the newest letter.
    pub(crate) reason: String,
    pub(crate) status: String,
    pub(crate) note: Option<String>,
    pub(crate) by: Option<String>,
    /// Letters that are dead, parked or being replayed.
    pub(crate) open: u64,
    #[serde(default)]
    pub(crate) parked: u64,
    #[serde(default)]
    pub(crate) replaying: u64,
    #[serde(default)]
    pub(crate) resolved: u64,
    #[serde(default)]
    pub(crate) discarded: u64,
    pub(crate) first_at: String,
    pub(crate) last_at: String,
}

impl Listed for Summary {
    const PLURAL: &'static str = "dead_letters";

    fn at(&self) -> &str {
        &self.died_at
    }
}

impl Listed for LetterGroup {
    const PLURAL: &'static str = "groups";

    fn at(&self) -> &str {
        &self.last_at
    }
}

/// Number of letters that a change affected.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Changed {
    pub(crate) letters: u64,
}

#[derive(Serialize)]
struct LettersRequest<'a> {
    group: &'a str,
    #[serde(flatten)]
    selection: &'a Selection,
    why: &'a str,
}

#[derive(Serialize)]
struct SetGroup<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    value: &'a RawValue,
    why: &'a str,
}

impl Client {
    /// Lists dead letters, newest first.
    pub(crate) fn letters(&self, group: Option<&str>, filter: &Filter) -> Listing<Summary> {
        let group = group.map(|group| ("group", group.to_owned()));
        let query = group.into_iter().chain(filter.query()).collect();
        Listing::new(self.clone(), "dead-letters".into(), query)
    }

    /// Lists groups of dead letters, the most recent death first.
    pub(crate) fn letter_groups(&self, group: Option<&str>) -> Listing<LetterGroup> {
        let query = group.map(|group| ("group", group.to_owned())).into_iter().collect();
        Listing::new(self.clone(), "dead-letters/groups".into(), query)
    }

    /// Returns a dead letter with its payload.
    pub(crate) async fn letter(&self, id: Uuid) -> Result<Answer<Letter>, Error> {
        self.get(&["dead-letters", &id.to_string()], &[]).await
    }

    /// Replaces the payload of a letter. The JSON is sent as raw text, so that no number is
    /// rounded.
    pub(crate) async fn edit(
        &self,
        id: Uuid,
        value: &RawValue,
        why: &str,
    ) -> Result<Answer<Letter>, Error> {
        let path = ["dead-letters", &id.to_string(), "payload"];
        self.change(Method::PUT, &path, &Payload { value, why }).await
    }

    /// Sets the status of a group of letters. `status` is the name in the API.
    pub(crate) async fn set_letter_group(
        &self,
        fingerprint: &str,
        status: &str,
        note: Option<&str>,
    ) -> Result<Answer<LetterGroup>, Error> {
        let body = SetGroup { status, note };
        self.change(Method::PUT, &["dead-letters", "groups", fingerprint], &body).await
    }

    /// Discards or restores letters. `act` is the name in the API.
    pub(crate) async fn change_letters(
        &self,
        act: &str,
        group: &str,
        selection: &Selection,
        why: &str,
    ) -> Result<Answer<Changed>, Error> {
        let body = LettersRequest { group, selection, why };
        self.change(Method::POST, &["dead-letters", act], &body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64() {
        let read = |json| serde_json::from_str::<Bytes>(json);
        assert_eq!(read(r#"{"text": "a\u0000"}"#).unwrap().as_slice(), b"a\0");
        assert_eq!(read(r#"{"base64": "/wA="}"#).unwrap().as_slice(), [0xff, 0]);
        assert!(read(r#"{"base64": "?"}"#).is_err());
    }

    #[test]
    fn a_number_of_an_edit_is_not_rounded() {
        let value: Box<RawValue> = serde_json::from_str("9007199254740993.10").unwrap();
        let body = serde_json::to_string(&Payload { value: &value, why: "w" }).unwrap();
        assert_eq!(body, r#"{"value":9007199254740993.10,"why":"w"}"#);
    }
}
