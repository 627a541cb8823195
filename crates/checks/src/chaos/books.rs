//! Reads the state of the databases and of Kafka at the end of a trial.

use std::collections::{HashMap, HashSet};

use kafka::Record;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::Error;
use super::mail::Tally;
use super::receivers::AttemptCounts;
use super::scene::Scene;
use super::topics::{self, DEAD_LETTERS, Offsets, READ_BY_BILLING, RecordPosition};

/// Topics of the events of an order.
pub(crate) const ORDER_TOPICS: [&str; 4] =
    ["order.created", "order.updated", "order.completed", "order.cancelled"];
pub(crate) const INVOICE_TOPIC: &str = "invoice.issued";
pub(crate) const CREDIT_NOTE_TOPIC: &str = "invoice.credited";

/// An order in order's database.
#[derive(Debug)]
pub(crate) struct OrderRow {
    pub(crate) tenant: String,
    pub(crate) version: i64,
    /// `true` if it was completed, even if it was cancelled later.
    pub(crate) completed: bool,
    pub(crate) cancelled: bool,
}

/// An invoice or a credit note in billing's database.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Document {
    pub(crate) order_id: Uuid,
    /// Id of the invoice, or of the credited one.
    pub(crate) invoice_id: Uuid,
    pub(crate) tenant_id: String,
    pub(crate) number: i64,
}

/// State of an order in analytics' database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counted {
    pub(crate) completed: bool,
    pub(crate) cancelled: bool,
}

/// An e-mail in notification's database.
#[derive(Debug)]
pub(crate) struct Email {
    pub(crate) kind: String,
    pub(crate) message_id: String,
}

/// An event to be delivered to a webhook.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) order: Uuid,
    pub(crate) event_type: String,
    pub(crate) status: String,
}

/// Unfinished jobs of notification.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) emails: HashSet<(Uuid, String)>,
    pub(crate) deliveries: HashSet<String>,
}

/// Attempts that notification counts as failed although the receiver refused none of them: a time
/// limit ran out, perhaps after the acceptance.
#[derive(Debug)]
pub(crate) struct Unclear {
    pub(crate) emails: u32,
    pub(crate) webhooks: u32,
}

/// Source and id of an event.
pub(crate) type EventKey = (String, String);

/// The state of all services at the end of a trial.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) orders: HashMap<Uuid, OrderRow>,
    /// SKUs of orders that were placed more than once. Each order has a unique SKU, so a repeated
    /// one stems from a request that took effect twice.
    pub(crate) placed_twice: Vec<String>,
    /// Invoices by order.
    pub(crate) invoices: HashMap<Uuid, Vec<Document>>,
    /// Credit notes by order.
    pub(crate) credit_notes: HashMap<Uuid, Vec<Document>>,
    /// E-mails in notification's database, by order.
    pub(crate) emails: HashMap<Uuid, Vec<Email>>,
    /// Deliveries in notification's database, by `webhook-id`.
    pub(crate) deliveries: HashMap<String, Delivery>,
    /// E-mails, by order and kind, and deliveries whose job is not finished.
    pub(crate) jobs: Jobs,
    /// E-mails that the mail server accepted, by `Message-ID`.
    pub(crate) mails: HashMap<String, Tally>,
    /// Requests that the webhook target received, by `webhook-id`.
    pub(crate) webhooks: HashMap<String, AttemptCounts>,
    /// Orders in analytics' database.
    pub(crate) counted: HashMap<Uuid, Counted>,
    /// Orders with a basket in analytics' database.
    pub(crate) baskets: HashSet<Uuid>,
    /// Orders whose basket analytics does not count any more.
    pub(crate) baskets_cancelled: HashSet<Uuid>,
    /// Events in analytics' histories of orders.
    pub(crate) history: HashSet<EventKey>,
    /// Attempts whose outcome notification could not know.
    pub(crate) unclear: Unclear,
    /// Events in billing's inbox.
    pub(crate) inbox: HashSet<EventKey>,
    /// All records, by topic; those of a deleted topic come first.
    pub(crate) records: HashMap<&'static str, Vec<Record>>,
    /// Billing's dead letters, both the rows and their copies on the topic, each with the position
    /// of the original record.
    pub(crate) dead: Vec<(RecordPosition, Record)>,
    /// The rows, in insertion order.
    pub(crate) letters: Vec<Letter>,
    /// Dead letters of notification and analytics: the subscription, and the original position.
    pub(crate) dead_elsewhere: Vec<(String, RecordPosition)>,
    /// Original positions of the records of the dead-letter topic, in their order.
    pub(crate) copies: Vec<RecordPosition>,
    /// Number of records of the dead-letter topic that do not name their original position.
    pub(crate) unreadable_dead: usize,
    /// Committed offsets of billing's group.
    pub(crate) committed: Offsets,
}

impl Books {
    pub(crate) async fn open(scene: &Scene) -> Result<Self, Error> {
        let settings = scene.system.kafka();
        let mut records = HashMap::new();
        for topic in ORDER_TOPICS.into_iter().chain([INVOICE_TOPIC, CREDIT_NOTE_TOPIC]) {
            records.insert(topic, topics::read_all(&settings, topic)?);
        }
        let mut committed = topics::progress(&settings)?.committed;
        if let Some(deleted) = &scene.deleted {
            deleted.enter(&mut records, &mut committed);
        }
        let stored = topics::read_all(&settings, DEAD_LETTERS)?;
        let all = stored.len();
        let with_origin = |record| Some((topics::origin_of(&record)?, record));
        let mut dead: Vec<_> = stored.into_iter().filter_map(with_origin).collect();
        let unreadable_dead = all - dead.len();
        let copies = dead.iter().map(|(position, _)| position.clone()).collect();
        let mut order = scene.system.database("order").await?;
        let mut billing = scene.system.database("billing").await?;
        let mut notification = scene.system.database("notification").await?;
        let mut analytics = scene.system.database("analytics").await?;
        let letters = letters(&mut billing).await?;
        dead.extend(letters.iter().map(|it| (it.position(), it.record())));
        let mut dead_elsewhere = positions_of_letters(&mut notification).await?;
        dead_elsewhere.extend(positions_of_letters(&mut analytics).await?);
        let books = Self {
            orders: orders(&mut order).await?,
            placed_twice: placed_twice(&mut order).await?,
            invoices: documents(&mut billing, INVOICES).await?,
            credit_notes: documents(&mut billing, CREDIT_NOTES).await?,
            emails: emails(&mut notification).await?,
            deliveries: deliveries(&mut notification).await?,
            // Read before the receivers: a job that is gone by now has sent.
            jobs: jobs(&mut notification).await?,
            mails: scene.receivers.mail.tallies(),
            webhooks: scene.receivers.webhooks(),
            unclear: unclear(scene).await,
            counted: counted(&mut analytics).await?,
            baskets: ids(&mut analytics, "select order_id from basket").await?,
            baskets_cancelled: ids(&mut analytics, "select order_id from basket_cancelled").await?,
            history: history(&mut analytics).await?,
            inbox: inbox(&mut billing).await?,
            records,
            unreadable_dead,
            dead,
            letters,
            dead_elsewhere,
            copies,
            committed,
        };
        order.close().await?;
        billing.close().await?;
        notification.close().await?;
        analytics.close().await?;
        Ok(books)
    }

    pub(crate) fn of(&self, topic: &str) -> &[Record] {
        self.records.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Returns all records that billing's group has to read.
    pub(crate) fn for_billing(&self) -> impl Iterator<Item = &Record> {
        READ_BY_BILLING.into_iter().flat_map(|topic| self.of(topic))
    }

    /// Returns the original positions of the dead letters.
    pub(crate) fn positions_of_dead(&self) -> HashSet<&RecordPosition> {
        self.dead.iter().map(|(position, _)| position).collect()
    }

    /// Returns the number of events that were published more than once.
    pub(crate) fn published_again(&self) -> usize {
        let mut seen = HashSet::new();
        let again = |record: &&Record| event_key(record).is_some_and(|key| !seen.insert(key));
        self.of("order.completed").iter().filter(again).count()
    }
}

/// A dead letter of billing, as a row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Letter {
    topic: String,
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header_names: Vec<String>,
    header_values: Vec<Option<Vec<u8>>>,
    pub(crate) status: String,
}

impl Letter {
    pub(crate) fn position(&self) -> RecordPosition {
        (self.topic.clone(), self.partition, self.offset)
    }

    fn record(&self) -> Record {
        Record {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            timestamp: None,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.header_names.iter().cloned().zip(self.header_values.clone()).collect(),
        }
    }
}

async fn letters(billing: &mut PgConnection) -> sqlx::Result<Vec<Letter>> {
    let letters = sqlx::query_as(
        r#"select topic, partition, "offset", key, value, header_names, header_values, status
           from dead_letter where subscription = 'billing' order by seq"#,
    );
    letters.fetch_all(billing).await
}

/// Returns the subscription and the original position of every dead letter of a service.
async fn positions_of_letters(
    database: &mut PgConnection,
) -> sqlx::Result<Vec<(String, RecordPosition)>> {
    let rows: Vec<(String, String, i32, i64)> =
        sqlx::query_as(r#"select subscription, topic, partition, "offset" from dead_letter"#)
            .fetch_all(database)
            .await?;
    let position =
        |(subscription, topic, partition, offset)| (subscription, (topic, partition, offset));
    Ok(rows.into_iter().map(position).collect())
}

/// Returns source and id of an event, or `None` if the record is not an event.
pub(crate) fn event_key(record: &Record) -> Option<EventKey> {
    let text = |name| Some(record.text_header(name)?.to_owned());
    Some((text("ce_source")?, text("ce_id")?))
}

async fn orders(database: &mut PgConnection) -> sqlx::Result<HashMap<Uuid, OrderRow>> {
    let rows: Vec<(Uuid, String, i64, bool, bool)> = sqlx::query_as(
        "select id, tenant_id, version, completed_at is not null, cancelled_at is not null from orders",
    )
    .fetch_all(database)
    .await?;
    let row = |(id, tenant, version, completed, cancelled)| {
        (id, OrderRow { tenant, version, completed, cancelled })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn placed_twice(database: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select items->0->>'sku' from orders group by items->0->>'sku' having count(*) > 1",
    )
    .fetch_all(database)
    .await
}

const INVOICES: &str = "select order_id, id as invoice_id, tenant_id, number from invoices";
const CREDIT_NOTES: &str = "select order_id, invoice_id, tenant_id, number from credit_notes";

async fn documents(
    database: &mut PgConnection,
    sql: &'static str,
) -> sqlx::Result<HashMap<Uuid, Vec<Document>>> {
    let rows: Vec<Document> = sqlx::query_as(sql).fetch_all(database).await?;
    let mut by_order: HashMap<_, Vec<_>> = HashMap::new();
    for document in rows {
        by_order.entry(document.order_id).or_default().push(document);
    }
    Ok(by_order)
}

async fn emails(database: &mut PgConnection) -> sqlx::Result<HashMap<Uuid, Vec<Email>>> {
    let rows: Vec<(Uuid, String, String)> =
        sqlx::query_as("select order_id, kind, message_id from emails").fetch_all(database).await?;
    let mut by_order: HashMap<_, Vec<_>> = HashMap::new();
    for (order, kind, message_id) in rows {
        by_order.entry(order).or_default().push(Email { kind, message_id });
    }
    Ok(by_order)
}

async fn deliveries(database: &mut PgConnection) -> sqlx::Result<HashMap<String, Delivery>> {
    let rows: Vec<(Uuid, Uuid, String, String)> =
        sqlx::query_as("select id, order_id, event_type, status from deliveries")
            .fetch_all(database)
            .await?;
    let row = |(id, order, event_type, status): (Uuid, _, _, _)| {
        (id.to_string(), Delivery { order, event_type, status })
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn jobs(database: &mut PgConnection) -> sqlx::Result<Jobs> {
    let emails: Vec<(Uuid, String)> = sqlx::query_as(
        "select (payload->>'order_id')::uuid, payload->>'kind' from job
         where kind = 'send-email' and failed_at is null",
    )
    .fetch_all(&mut *database)
    .await?;
    let deliveries: Vec<String> = sqlx::query_scalar(
        "select payload->>'delivery' from job where kind = 'deliver-webhook' and failed_at is null",
    )
    .fetch_all(database)
    .await?;
    let (emails, deliveries) = (emails.into_iter().collect(), deliveries.into_iter().collect());
    Ok(Jobs { emails, deliveries })
}

async fn unclear(scene: &Scene) -> Unclear {
    let failed = async |kind: &str| {
        let failed = scene.notification.metric("jobs_failed_total", kind).await;
        // The metric is a count, so it is a whole number and not negative.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let failed = failed as u32;
        failed
    };
    let mail = &scene.receivers.mail;
    let refused = u32::try_from(mail.refused() + mail.abandoned()).unwrap_or(u32::MAX);
    let not_accepted: u32 = scene.receivers.webhooks().values().map(|tries| tries.failed).sum();
    Unclear {
        emails: failed("send-email").await.saturating_sub(refused),
        webhooks: failed("deliver-webhook").await.saturating_sub(not_accepted),
    }
}

async fn counted(database: &mut PgConnection) -> sqlx::Result<HashMap<Uuid, Counted>> {
    let rows: Vec<(Uuid, bool, bool)> = sqlx::query_as(
        "select order_id, completed_at is not null, cancelled_at is not null from orders",
    )
    .fetch_all(database)
    .await?;
    let row = |(order, completed, cancelled)| (order, Counted { completed, cancelled });
    Ok(rows.into_iter().map(row).collect())
}

async fn ids(database: &mut PgConnection, sql: &'static str) -> sqlx::Result<HashSet<Uuid>> {
    Ok(sqlx::query_scalar(sql).fetch_all(database).await?.into_iter().collect())
}

async fn history(database: &mut PgConnection) -> sqlx::Result<HashSet<EventKey>> {
    let rows: Vec<EventKey> =
        sqlx::query_as("select source, event_id from history").fetch_all(database).await?;
    Ok(rows.into_iter().collect())
}

async fn inbox(database: &mut PgConnection) -> sqlx::Result<HashSet<EventKey>> {
    let rows: Vec<EventKey> =
        sqlx::query_as("select source, event_id from inbox where subscription = 'billing'")
            .fetch_all(database)
            .await?;
    Ok(rows.into_iter().collect())
}
