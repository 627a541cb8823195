use std::borrow::Cow;

use envelope::{EncodeError, Encoded, Envelope, Event, NewEvent, SchemaError, TopicSpec};
use serde::Serializer;
use serde::ser::Error as _;
use sqlx::PgConnection;
use telemetry::query_span;
use tracing::Instrument;

/// Number of shards of the keys, and so the maximum number of instances that share an outbox.
/// Stored in the rows: never change it while rows wait.
pub const SHARDS: i16 = 16;

/// Maximum bytes of Kafka's framing and the hop's trace context, besides the event's own bytes.
const FRAMING: usize = 1024;

/// An event that can't be published.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The event violates its schema.
    #[error("the event does not fit its schema")]
    Encode(#[from] EncodeError),
    /// Kafka would refuse the record after the commit, when the caller no longer gets an error.
    #[error("the event takes {size} bytes, the limit of the topic {topic} is {limit}")]
    TooLarge {
        /// Data and headers, in bytes.
        size: usize,
        /// Name of the topic, without the prefix.
        topic: String,
        /// [`TopicSpec::max_record_bytes`].
        limit: usize,
    },
}

/// A validated and serialised event: a future row of the outbox.
#[derive(Clone, Debug)]
pub struct Prepared {
    topic: Cow<'static, str>,
    key: String,
    envelope: Envelope,
    shard: i16,
    /// JSON.
    headers: String,
    payload: Vec<u8>,
}

/// Writes headers as a JSON object of texts. `bytes` is the length of names and values.
fn as_json(headers: &kafka::Headers, bytes: usize) -> serde_json::Result<String> {
    // All attributes are texts.
    let texts = headers.iter();
    let texts = texts.filter_map(|(name, value)| Some((name, str::from_utf8(value?).ok()?)));
    // Each has four quotes, a colon and a comma.
    let mut json = Vec::with_capacity(bytes + 6 * headers.len() + 2);
    serde_json::Serializer::new(&mut json).collect_map(texts)?;
    String::from_utf8(json).map_err(serde_json::Error::custom)
}

impl Prepared {
    /// Returns the attributes of the event.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns the data of the event, as JSON.
    pub fn data(&self) -> &[u8] {
        &self.payload
    }
}

/// Validates an event against its schema and serialises it, for the topic named like its type. Call
/// it before opening a transaction, so that an invalid event fails before anything is written.
///
/// ```
/// # use std::borrow::Cow;
/// # use envelope::{Event, Schema};
/// # static SHIPPED: Schema =
/// #     Schema::new(r#"{ "$id": "https://example.com/parcel.shipped/1.0.json" }"#);
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct ParcelShipped { parcel: String }
/// # impl Event for ParcelShipped {
/// #     const TYPE: &'static str = "parcel.shipped";
/// #     const SCHEMA: &'static Schema = &SHIPPED;
/// #     fn subject(&self) -> Cow<'_, str> { self.parcel.as_str().into() }
/// # }
/// use envelope::{Cause, CorrelationId, NewEvent};
///
/// let shipped = ParcelShipped { parcel: "P-17".into() };
/// let cause = Cause::new(CorrelationId::new("flow-17")?);
/// let prepared = outbox::prepare(NewEvent::new("/warehouse", shipped, cause).version(1))?;
/// assert_eq!(prepared.data(), br#"{"parcel":"P-17"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Fails with [`PrepareError`] if the schema refuses the data, or if the record would exceed
/// [`TopicSpec::max_record_bytes`].
pub fn prepare<E: Event>(event: NewEvent<E>) -> Result<Prepared, PrepareError> {
    prepare_for(&TopicSpec::new(E::TYPE), event)
}

/// Does the same for a topic with another name or another record limit.
///
/// # Errors
/// Fails like [`prepare`].
pub fn prepare_for<E: Event>(
    topic: &TopicSpec,
    event: NewEvent<E>,
) -> Result<Prepared, PrepareError> {
    let Encoded { envelope, data } = event.encode()?;
    let headers = kafka::content_headers(&envelope);
    let key = envelope.partition_key.clone().unwrap_or_default();
    let lengths = headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    let of_headers: usize = lengths.sum();
    let size = data.len() + of_headers + key.len() + FRAMING;
    if size > topic.max_record_bytes {
        let (topic, limit) = (topic.name.clone().into_owned(), topic.max_record_bytes);
        return Err(PrepareError::TooLarge { size, topic, limit });
    }
    let headers = as_json(&headers, of_headers).map_err(|error| {
        let (event_type, reason) = (E::TYPE, error.to_string());
        EncodeError::from(SchemaError::Unwritable { event_type, reason })
    })?;
    let topic = topic.name.clone();
    Ok(Prepared { topic, shard: shard_of(&key), key, headers, payload: data, envelope })
}

/// Writes events in the caller's transaction: they are published if and only if it commits. Call
/// [`RelayWaker::wake`](crate::RelayWaker::wake) after the commit, or they wait for the next poll.
///
/// The caller must hold a lock on the subject of the events, so that events of one key get their
/// ids in the order in which they become visible.
///
/// ```no_run
/// # async fn example<E: envelope::Event>(pool: sqlx::PgPool, event: envelope::NewEvent<E>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let event = outbox::prepare(event)?;
/// let mut tx = pool.begin().await?;
/// // Locks the row that the event is about until the transaction ends.
/// sqlx::query("update parcels set shipped = true where parcel = 'P-17'").execute(&mut *tx).await?;
/// outbox::append(&mut tx, &[event]).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// Fails with the error of Postgres, after which the transaction can't commit. If the future is
/// dropped, the rows may be written or not: roll the transaction back.
pub async fn append(tx: &mut PgConnection, prepared: &[Prepared]) -> sqlx::Result<()> {
    let rows = Columns::of(prepared);
    sqlx::query(
        "insert into outbox (shard, topic, key, headers, payload)
         select shard, topic, key, headers::json, payload
         from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
              as event (shard, topic, key, headers, payload)",
    )
    .bind(rows.shards)
    .bind(rows.topics)
    .bind(rows.keys)
    .bind(rows.headers)
    .bind(rows.payloads)
    .execute(tx)
    .instrument(query_span("insert outbox"))
    .await?;
    Ok(())
}

/// Events as columns, to be bound into the caller's own statement:
/// `insert into outbox (shard, topic, key, headers, payload)
/// select shard, topic, key, headers::json, payload
/// from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
///      as event (shard, topic, key, headers, payload)`.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool, event: outbox::Prepared) -> sqlx::Result<()> {
/// let events = [event];
/// let rows = outbox::Columns::of(&events);
/// sqlx::query(
///     "with shipped as (
///          update parcels set shipped = true where parcel = 'P-17' and not shipped
///          returning parcel
///      )
///      insert into outbox (shard, topic, key, headers, payload)
///      select shard, topic, key, headers::json, payload
///      from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
///               as event (shard, topic, key, headers, payload),
///           shipped",
/// )
/// .bind(rows.shards)
/// .bind(rows.topics)
/// .bind(rows.keys)
/// .bind(rows.headers)
/// .bind(rows.payloads)
/// .execute(&pool)
/// .await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Columns<'a> {
    /// `smallint[]`
    pub shards: Vec<i16>,
    /// `text[]`
    pub topics: Vec<&'a str>,
    /// `text[]`
    pub keys: Vec<&'a str>,
    /// `text[]`: JSON objects, not `jsonb[]`, which Postgres would write as text and parse again.
    pub headers: Vec<&'a str>,
    /// `bytea[]`
    pub payloads: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// Creates the columns, with a row for each event.
    pub fn of(prepared: impl IntoIterator<Item = &'a Prepared>) -> Self {
        let mut columns = Self {
            shards: Vec::new(),
            topics: Vec::new(),
            keys: Vec::new(),
            headers: Vec::new(),
            payloads: Vec::new(),
        };
        for row in prepared {
            columns.shards.push(row.shard);
            columns.topics.push(&row.topic);
            columns.keys.push(&row.key);
            columns.headers.push(&row.headers);
            columns.payloads.push(&row.payload);
        }
        columns
    }
}

/// Uses FNV-1a (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>), because shards are
/// stored, and std's hasher may change between releases.
fn shard_of(key: &str) -> i16 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i16::try_from(hash % u64::from(SHARDS.unsigned_abs())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use envelope::{Cause, CorrelationId, Schema};
    use serde::{Deserialize, Serialize};

    use super::*;

    static SHIPPED: Schema = Schema::new(
        r#"{ "$id": "https://example.com/parcel.shipped/1.0.json", "type": "object",
             "properties": { "grams": { "minimum": 1 } } }"#,
    );

    #[derive(Serialize, Deserialize)]
    struct ParcelShipped {
        grams: i64,
        note: String,
    }

    impl Event for ParcelShipped {
        const TYPE: &'static str = "parcel.shipped";
        const SCHEMA: &'static Schema = &SHIPPED;

        fn subject(&self) -> Cow<'_, str> {
            "P-17".into()
        }
    }

    fn shipped(grams: i64, note: usize) -> NewEvent<ParcelShipped> {
        let data = ParcelShipped { grams, note: "x".repeat(note) };
        NewEvent::new("/warehouse", data, Cause::new(CorrelationId::generate()))
    }

    #[test]
    fn an_event_that_its_schema_refuses_is_an_error_at_publish() {
        assert!(prepare(shipped(1, 0)).is_ok());
        let error = prepare(shipped(0, 0)).expect_err("refused");
        assert!(
            matches!(&error, PrepareError::Encode(violation) if violation.to_string().contains("/grams"))
        );
    }

    #[test]
    fn the_topic_decides_how_large_an_event_may_be() {
        let note = 1024 * 1024;
        let error = prepare(shipped(1, note)).expect_err("too large").to_string();
        assert!(error.contains("the limit of the topic parcel.shipped is 1048576"), "{error}");
        let parcels = TopicSpec::new("parcels").max_record_bytes(2 * note);
        let prepared = prepare_for(&parcels, shipped(1, note)).expect("fits");
        assert_eq!(Columns::of(&[prepared]).topics, ["parcels"]);
    }

    #[test]
    fn shards_are_stable_and_all_used() {
        assert_eq!(shard_of("a"), 12, "FNV-1a of \"a\" is af63dc4c8601ec8c");
        let mut used = [false; SHARDS as usize];
        for n in 0..200 {
            used[usize::try_from(shard_of(&format!("parcel-{n}"))).expect("not negative")] = true;
        }
        assert_eq!(used, [true; SHARDS as usize]);
    }
}
