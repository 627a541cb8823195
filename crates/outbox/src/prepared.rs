use std::collections::BTreeMap;

use events::{Encoded, Envelope, Event, Message, SchemaViolation};
use sqlx::PgConnection;
use sqlx::types::Json;
use telemetry::query_span;
use tracing::Instrument;

/// How many shards the keys are spread over, and so how many instances can share the work of one outbox.
/// Part of the stored rows: never change it while rows wait.
pub const SHARDS: i16 = 16;

/// An event that can't be published.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The data is not what its schema says.
    #[error("the event does not fit its schema")]
    Schema(#[from] SchemaViolation),
    /// Kafka would refuse it, when nobody can be told any more.
    #[error("the event takes {size} bytes, and {} is the limit", kafka::MAX_EVENT_BYTES)]
    TooLarge {
        /// Data and headers, in bytes.
        size: usize,
    },
}

/// An event that was checked and serialised: a row of the outbox to be.
#[derive(Clone, Debug)]
pub struct Prepared {
    envelope: Envelope,
    shard: i16,
    headers: BTreeMap<String, String>,
    payload: Vec<u8>,
}

impl Prepared {
    /// What is said about the event.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What is said: JSON.
    pub fn data(&self) -> &[u8] {
        &self.payload
    }
}

/// Checks an event and serialises it, before any transaction is open: an event that its schema refuses is an
/// error here, and nothing is written.
pub fn prepare<E: Event>(message: Message<E>) -> Result<Prepared, PrepareError> {
    let Encoded { envelope, data } = message.encode()?;
    let headers: BTreeMap<String, String> = kafka::content_headers(&envelope)
        .into_iter()
        .filter_map(|(name, value)| Some((name, String::from_utf8(value?).ok()?)))
        .collect();
    let of_headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    // The hop's trace context is added by the relay, and Kafka's own framing by the client.
    let size = data.len() + of_headers + envelope.partition_key.len() + 1024;
    if size > kafka::MAX_EVENT_BYTES {
        return Err(PrepareError::TooLarge { size });
    }
    Ok(Prepared { shard: shard_of(&envelope.partition_key), headers, payload: data, envelope })
}

/// Writes events in the caller's transaction: they are published if it commits, and only then. Call
/// [`Wake::wake`](crate::Wake::wake) after the commit, or they wait for the next poll.
///
/// The caller holds the lock of the order that they are about, so that events of one order get their ids in
/// the order in which they become visible.
pub async fn append(tx: &mut PgConnection, prepared: &[Prepared]) -> sqlx::Result<()> {
    let rows = Columns::of(prepared);
    sqlx::query(
        "insert into outbox (shard, topic, key, headers, payload)
         select * from unnest($1::smallint[], $2::text[], $3::text[], $4::json[], $5::bytea[])",
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
/// select * from unnest($1::smallint[], $2::text[], $3::text[], $4::json[], $5::bytea[])`.
#[derive(Debug)]
pub struct Columns<'a> {
    /// `smallint[]`
    pub shards: Vec<i16>,
    /// `text[]`
    pub topics: Vec<&'a str>,
    /// `text[]`
    pub keys: Vec<&'a str>,
    /// `json[]`
    pub headers: Vec<Json<&'a BTreeMap<String, String>>>,
    /// `bytea[]`
    pub payloads: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    /// A row each.
    pub fn of(prepared: &'a [Prepared]) -> Self {
        Self {
            shards: prepared.iter().map(|row| row.shard).collect(),
            topics: prepared.iter().map(|row| row.envelope.event_type.as_str()).collect(),
            keys: prepared.iter().map(|row| row.envelope.partition_key.as_str()).collect(),
            headers: prepared.iter().map(|row| Json(&row.headers)).collect(),
            payloads: prepared.iter().map(|row| row.payload.as_slice()).collect(),
        }
    }
}

/// FNV-1a (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>), because it is stored: std's hasher may
/// change between releases.
fn shard_of(key: &str) -> i16 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i16::try_from(hash % u64::from(SHARDS.unsigned_abs())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use events::{Cause, CorrelationId, InvoiceIssued, SCHEMAS};

    use super::*;

    fn issued(change: impl FnOnce(&mut InvoiceIssued)) -> Message<InvoiceIssued> {
        let file = SCHEMAS.iter().find(|file| file.event_type == "invoice.issued").expect("known");
        let mut data = serde_json::from_str(file.example).expect("an example");
        change(&mut data);
        let cause = Cause {
            correlation_id: CorrelationId::generate(),
            causation_id: None,
            traceparent: None,
        };
        Message::new("/billing", 2, data, cause)
    }

    #[test]
    fn an_event_that_its_schema_refuses_is_an_error_at_publish() {
        assert!(prepare(issued(|_| {})).is_ok());
        let error = prepare(issued(|invoice| invoice.number = 0)).expect_err("refused");
        assert!(
            matches!(&error, PrepareError::Schema(violation) if violation.to_string().contains("/number"))
        );
    }

    #[test]
    fn shards_are_stable_and_all_used() {
        assert_eq!(shard_of("a"), 12, "FNV-1a of \"a\" is af63dc4c8601ec8c");
        let mut used = [false; SHARDS as usize];
        for n in 0..200 {
            used[usize::try_from(shard_of(&format!("order-{n}"))).expect("not negative")] = true;
        }
        assert_eq!(used, [true; SHARDS as usize]);
    }
}
