//! Pages of the public API's lists: their size and their cursors.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// Maximum number of rows of a page, from the query: 1 to 100, by default 20.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "u32")]
pub struct Limit(u32);

impl Limit {
    /// Returns the number of rows to read: one more than the page has, which shows whether there is
    /// a next page.
    pub fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let schema = schema.maximum(Some(MAX_LIMIT)).default(Some(DEFAULT_LIMIT.into()));
        RefOr::T(schema.into())
    }
}

impl ToSchema for Limit {}

/// Error of a limit that is not 1 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("limit must be 1 to {MAX_LIMIT}")]
pub struct BadLimit;

impl TryFrom<u32> for Limit {
    type Error = BadLimit;

    fn try_from(limit: u32) -> Result<Self, BadLimit> {
        if (1..=MAX_LIMIT).contains(&limit) { Ok(Self(limit)) } else { Err(BadLimit) }
    }
}

/// The key that a list is ordered by, and its text in a cursor.
pub trait CursorKey: Sized {
    /// Returns the text: letters, digits, `-`, `_` and `.`, so that a URL needs no escapes.
    fn to_text(&self) -> String;

    /// Parses a text. Returns `None` if it does not stand for a key.
    fn from_text(text: &str) -> Option<Self>;
}

/// Lists by id show the newest rows first.
impl CursorKey for Uuid {
    fn to_text(&self) -> String {
        self.simple().to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The last row of a page, from its `next_cursor`; the next page begins after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String", bound = "K: CursorKey")]
pub struct Cursor<K = Uuid>(K);

impl Cursor {
    /// Returns the id that all rows of the page are below. Without a cursor it is the highest id,
    /// so that one condition serves the first page, too.
    pub fn below(cursor: Option<Self>) -> Uuid {
        cursor.map_or(Uuid::max(), |cursor| cursor.0)
    }

    /// Returns the id that all rows of the page are above, for lists that show the oldest rows
    /// first. Without a cursor it is the lowest id.
    pub fn above(cursor: Option<Self>) -> Uuid {
        cursor.map_or(Uuid::nil(), |cursor| cursor.0)
    }

    /// Creates the cursor of the page after this row.
    pub fn at(id: Uuid) -> Self {
        Self(id)
    }
}

impl<K> Cursor<K> {
    /// Returns the key of the row.
    pub fn into_key(self) -> K {
        self.0
    }
}

impl<K> PartialSchema for Cursor<K> {
    fn schema() -> RefOr<Schema> {
        RefOr::T(ObjectBuilder::new().schema_type(Type::String).into())
    }
}

impl<K> ToSchema for Cursor<K> {
    fn name() -> Cow<'static, str> {
        "Cursor".into()
    }
}

/// Error of a text that is not a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cursor must be an unchanged next_cursor of an earlier page")]
pub struct BadCursor;

impl<K: CursorKey> TryFrom<String> for Cursor<K> {
    type Error = BadCursor;

    fn try_from(text: String) -> Result<Self, BadCursor> {
        let key = K::from_text(&text).ok_or(BadCursor)?;
        if key.to_text() == text { Ok(Self(key)) } else { Err(BadCursor) }
    }
}

impl<K: CursorKey> Serialize for Cursor<K> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.to_text().serialize(to)
    }
}

/// The query of a list without filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Maximum number of rows.
    #[serde(default)]
    #[param(inline)]
    pub limit: Limit,
    /// The `next_cursor` of the previous page.
    #[param(inline)]
    pub cursor: Option<Cursor>,
}

/// A page of rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T, K = Uuid> {
    /// The rows, in the order of the list.
    pub rows: Vec<T>,
    /// Cursor of the next page. `None` if this is the last one.
    pub next_cursor: Option<Cursor<K>>,
}

impl<T, K> Page<T, K> {
    /// Creates a page of the rows that were read, at most [`Limit::rows`].
    pub fn new(mut rows: Vec<T>, limit: Limit, key: impl FnOnce(&T) -> K) -> Self {
        let size = limit.0 as usize;
        let mut next_cursor = None;
        if rows.len() > size {
            rows.truncate(size);
            next_cursor = rows.last().map(|last| Cursor(key(last)));
        }
        Self { rows, next_cursor }
    }
}
