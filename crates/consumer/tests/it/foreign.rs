//! Tests of events of other producers: required and optional attributes.

use consumer::Subscription;
use envelope::{CorrelationId, Encoded, TenantId};
use kafka::{DeadLetter, Record, TopicSpec};
use sandbox::testing::eventually;
use serde_json::json;

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use crate::house::{House, PATIENCE, create, note};

impl House {
    /// Waits until the group has `count` dead letters, and returns their reasons.
    async fn reasons(&self, count: u64) -> Vec<String> {
        let dead =
            async || (self.counter("consumer_dead_lettered_total", "group") == count).then_some(());
        eventually(&format!("{count} dead letters"), PATIENCE, dead).await;
        let letters = self.read("group.dlq", usize::try_from(count).unwrap()).await;
        letters.iter().map(reason).collect()
    }

    async fn settled_as(&self, outcome: &str, count: u64) {
        let settled =
            async || (self.counter("consumer_settled_total", outcome) == count).then_some(());
        eventually(&format!("{count} {outcome}"), PATIENCE, settled).await;
    }
}

fn reason(letter: &Record) -> String {
    DeadLetter::read(letter).unwrap().reason.stacktrace
}

#[tokio::test]
async fn without_version_tenant_and_correlation_id_each_once_has_its_effect() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let mut event = house.event::<ParcelPacked>(ParcelId::new(), 1, "a@example.com");
    let subject = event.envelope.subject.take().unwrap();
    event.envelope = envelope::Envelope {
        version: None,
        tenant_id: None,
        time: None,
        dataschema: None,
        correlation_id: CorrelationId::for_event(&event.envelope.id),
        ..event.envelope
    };
    house.publish("parcel.packed", &event).await;
    house.settled_as("processed", 1).await;
    let effects: i64 =
        sqlx::query_scalar("select count(*) from effect where subject is null and version is null")
            .fetch_one(&house.pool)
            .await
            .unwrap();
    assert_eq!(effects, 1, "of {subject}");
    running.end().await;
}

#[tokio::test]
async fn without_a_version_the_latest_one_can_not_win() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").latest_wins(note::<ParcelPacked>()));
    let mut event = house.event::<ParcelPacked>(ParcelId::new(), 1, "a@example.com");
    event.envelope.version = None;
    house.publish("parcel.packed", &event).await;
    let reasons = house.reasons(1).await;
    assert!(reasons[0].contains("no usable sequence"), "{reasons:?}");
    running.end().await;
}

#[tokio::test]
async fn an_event_in_structured_mode_has_its_effect() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let parcel = ParcelId::new();
    let event = json!({
        "specversion": "1.0", "id": "7", "source": "https://depot.example", "type": "parcel.packed",
        "subject": parcel.to_string(), "sequence": "3",
        "data": { "number": parcel.to_string(), "owner": "acme", "email": "a@example.com" },
    });
    house.publish_structured("parcel.packed", &event).await;
    house.has(parcel, &[3]).await;
    running.end().await;
}

/// The shortest form of the reason, which lists show, has to name the missing attribute.
#[tokio::test]
async fn the_reason_of_what_is_no_event_names_what_is_missing() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let without_id =
        json!({ "specversion": "1.0", "source": "/shop", "type": "parcel.packed", "data": {} });
    house.publish_structured("parcel.packed", &without_id).await;
    let listed = async || {
        let all = consumer::LetterFilter::default();
        let page = consumer::letters(&house.pool, Some("group"), &all, 10, None).await.unwrap();
        page.items.into_iter().next()
    };
    let letter = eventually("a dead letter", PATIENCE, listed).await;
    assert!(
        letter.reason.starts_with("not a CloudEvent in structured mode: "),
        "{}",
        letter.reason
    );
    assert!(letter.reason.ends_with("id is missing"), "{}", letter.reason);
    let copy = house.first("group.dlq").await;
    assert_eq!(DeadLetter::read(&copy).unwrap().reason.message, letter.reason);
    running.end().await;
}

#[tokio::test]
async fn data_of_one_tenant_under_the_header_of_another_is_a_dead_letter() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let changed = |change: fn(&mut Encoded)| {
        let mut event = house.event::<ParcelPacked>(ParcelId::new(), 1, "a@example.com");
        change(&mut event);
        event
    };
    let tenant = changed(|event| event.envelope.tenant_id = Some(TenantId::new("globex").unwrap()));
    let subject = changed(|event| event.envelope.subject = Some("P-another".into()));
    house.publish("parcel.packed", &tenant).await;
    house.publish("parcel.packed", &subject).await;
    let reasons = house.reasons(2).await.join("\n");
    assert!(reasons.contains("the tenantid of the envelope is \"globex\""), "{reasons}");
    assert!(reasons.contains("the subject of the envelope is \"P-another\""), "{reasons}");
    assert_eq!(house.counter("consumer_settled_total", "processed"), 0);
    running.end().await;
}

#[tokio::test]
async fn several_types_on_one_topic_go_to_their_handlers_and_one_that_nobody_handles_is_dead() {
    let house = House::new().await;
    create(&house.settings, TopicSpec::new("parcels").partitions(2)).await;
    let both = || {
        Subscription::new("group")
            .each_once_from("parcels", note::<ParcelPacked>())
            .each_once_from("parcels", note::<ParcelShipped>())
    };
    let running = house.run(both());
    let parcel = ParcelId::new();
    house.publish("parcels", &house.event::<ParcelPacked>(parcel, 1, "a@example.com")).await;
    house.publish("parcels", &house.event::<ParcelShipped>(parcel, 2, "a@example.com")).await;
    house.has(parcel, &[1, 2]).await;
    let mut lost = house.event::<ParcelPacked>(parcel, 3, "a@example.com");
    lost.envelope.event_type = "parcel.lost".into();
    house.publish("parcels", &lost).await;
    let reasons = house.reasons(1).await;
    assert!(reasons[0].contains("parcel.lost does not belong on the topic parcels"), "{reasons:?}");
    running.end().await;

    let running = house.run(both().generation(2).ignore_unknown());
    house.has(parcel, &[1, 2, 1, 2]).await;
    house.settled_as("ignored", 1).await;
    assert_eq!(house.counter("consumer_dead_lettered_total", ""), 1, "no further one");
    running.end().await;
}

#[tokio::test]
async fn versions_are_counted_for_each_source_and_a_renamed_one_counts_on() {
    let house = House::new().await;
    let parcel = ParcelId::new();
    let publish = async |source: &str, version| {
        let mut event = house.event::<ParcelPacked>(parcel, version, "a@example.com");
        event.envelope.source = source.to_owned();
        event.envelope.partition_key = Some("one after the other".into());
        house.publish("parcel.packed", &event).await;
    };
    // A version that was applied when versions had no source.
    sqlx::query(
        "insert into inbox_version (subscription, subject, version) values ('group', $1, 5)",
    )
    .bind(parcel.to_string())
    .execute(&house.pool)
    .await
    .unwrap();
    // A version that was applied while the publisher had its old name.
    sqlx::query(
        "insert into applied_version (subscription, source, subject, version)
         values ('group', '/depot', $1, 6)",
    )
    .bind(parcel.to_string())
    .execute(&house.pool)
    .await
    .unwrap();
    let subscription = Subscription::new("group")
        .latest_wins(note::<ParcelPacked>())
        .source_alias("/depot", "/warehouse");
    let running = house.run(subscription);
    publish("/warehouse", 6).await; // not newer than under the old name
    publish("/elsewhere", 6).await; // counts by itself, above the same floor
    publish("/elsewhere", 4).await;
    publish("/depot", 6).await; // the old name of /warehouse
    publish("/depot", 7).await;
    publish("/warehouse", 7).await;
    house.settled_as("superseded", 4).await;
    house.has(parcel, &[6, 7]).await;
    running.end().await;
}
