//! Messages that can't be processed, or not yet, and handlers that take too long.

use std::time::Duration;

use kafka::rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::{Headers, Record, Settings};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::settle;
use crate::chaos::topics::{self, DEAD_LETTERS, RecordPosition, Writer, position_of};

const TOPIC: &str = "order.completed";
/// Just below the maximum size of a record of the topic.
const NEARLY_TOO_LARGE: usize = 1_040_000;

pub(crate) async fn poison(scene: &mut Scene) -> Evidence {
    for _ in 0..3 {
        scene.orders(50).await?;
        send_poison(scene).await?;
    }
    scene.orders(50).await?;
    scene.healed();
    let counted = async || {
        scene.billing.metric("consumer_dead_lettered_total", "").await >= count(scene.poison.len())
    };
    if !soon(counted).await {
        return Err("not every poisonous record was dead-lettered".into());
    }
    Ok(format!("{} poisonous records were sent", scene.poison.len()))
}

#[allow(clippy::cast_precision_loss)] // A handful.
fn count(records: usize) -> f64 {
    records as f64
}

/// A record that is not a valid event.
struct Poison {
    what: &'static str,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

impl Poison {
    fn is(&self, record: &Record) -> bool {
        self.key == record.key && self.value == record.value && self.headers == record.headers
    }
}

/// Returns records that are malformed in every way.
fn poisons(sound: &Record) -> Vec<Poison> {
    let noise = |length| (0..length).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
    let nothing = [("odd", None), ("", Some("")), ("ce_id", None)].into_iter().collect();
    let stranger = br#"{"order_id":"no-uuid","status":"completed"}"#;
    let fresh = with(&sound.headers, "ce_source", "/poison");
    let fresh = with(&fresh, "ce_id", &Uuid::new_v4().to_string());
    // Records with the headers and the key of an event.
    let posing =
        |what, value| Poison { what, key: sound.key.clone(), value, headers: fresh.clone() };
    vec![
        Poison {
            what: "random bytes",
            key: None,
            value: Some(noise(300)),
            headers: Headers::new(),
        },
        Poison {
            what: "null and empty headers",
            key: Some(noise(16)),
            value: Some(b"{}".to_vec()),
            headers: nothing,
        },
        posing("a tombstone", None),
        posing("an empty value", Some(Vec::new())),
        posing("random bytes of nearly the largest size", Some(noise(NEARLY_TOO_LARGE))),
        posing("deep JSON", Some("[".repeat(100_000).into_bytes())),
        Poison {
            headers: with(&fresh, "ce_subject", "no-uuid"),
            ..posing("an order whose id is no UUID", Some(stranger.to_vec()))
        },
    ]
}

/// Sends poison, and a sound event with an unusual id, which must not become a dead letter.
pub(crate) async fn send_poison(scene: &mut Scene) -> Result<(), Error> {
    let settings = scene.system.kafka();
    let writer = Writer::new(&settings)?;
    let mut sent = Vec::new();
    for poison in poisons(&sound_event(&settings).await?) {
        let (key, value) = (poison.key.as_deref(), poison.value.as_deref());
        let position = writer.write(TOPIC, key, value, &poison.headers).await?;
        scene.poison.insert(position.clone());
        sent.push((position, poison));
    }
    // The id of an event may be any text. Its order has its invoice already, or gets it from this
    // event.
    send_sound(scene, &format!("no uuid/{}", Uuid::new_v4())).await?;
    verify_stored(&settings, &sent)
}

/// Fails if a record is not in Kafka as it was sent. Poison that a client has made harmless would
/// prove nothing.
fn verify_stored(settings: &Settings, sent: &[(RecordPosition, Poison)]) -> Result<(), Error> {
    let stored = topics::read_all(settings, TOPIC)?;
    for (position, poison) in sent {
        if !stored.iter().any(|record| position_of(record) == *position && poison.is(record)) {
            return Err(format!("{} is not in Kafka as it was sent", poison.what).into());
        }
    }
    Ok(())
}

/// Repeats the completion of an order, from another source and with the given id. Returns its
/// position.
pub(crate) async fn send_sound(scene: &Scene, id: &str) -> Result<RecordPosition, Error> {
    let settings = scene.system.kafka();
    let Record { key, value, headers, .. } = sound_event(&settings).await?;
    let headers = with(&with(&headers, "ce_source", "/poison"), "ce_id", id);
    let writer = Writer::new(&settings)?;
    writer.write(TOPIC, key.as_deref(), value.as_deref(), &headers).await
}

/// Waits for an event from our own service on the topic, and returns the latest one.
async fn sound_event(settings: &Settings) -> Result<Record, Error> {
    let ours = |record: &Record| record.text_header("ce_source") == Some("/order");
    for _ in 0..100 {
        // A new topic has no leader yet, so reading it fails.
        let records = topics::read_all(settings, TOPIC).unwrap_or_default();
        if let Some(latest) = records.into_iter().rfind(ours) {
            return Ok(latest);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("no event came to make poison from".into())
}

/// Returns the headers with one of them replaced.
fn with(headers: &Headers, name: &str, value: &str) -> Headers {
    let others = headers.iter().filter(|(other, _)| *other != name);
    others.chain([(name, Some(value.as_bytes()))]).collect()
}

pub(crate) async fn transient_failures(scene: &mut Scene) -> Evidence {
    // One of a hundred messages fails four times in a row.
    scene.dead_by_chance = true;
    scene.billing.set_fault(json!({ "kind": "transient", "rate": 0.3 })).await?;
    scene.orders(300).await?;
    sleep(Duration::from_secs(5)).await;
    let retries = scene.billing.metric("consumer_retries_total", "").await;
    scene.billing.set_fault(Value::Null).await?;
    scene.healed();
    if retries < 1.0 {
        return Err("no attempt was repeated".into());
    }
    scene.orders(50).await?;
    Ok(format!("{retries} attempts were repeated"))
}

pub(crate) async fn handler_slow(scene: &mut Scene) -> Evidence {
    let before = topics::member_ids(&scene.system.kafka())?;
    scene.billing.set_fault(json!({ "kind": "slow", "rate": 0.05, "delay_ms": 8_000 })).await?;
    scene.orders(150).await?;
    let all = scene.billing.metric("messaging_process_duration_seconds_count", "").await;
    let all_in = async || {
        let quick = "le=\"5\"";
        let (all, quick) = (
            scene.billing.metric("messaging_process_duration_seconds_count", "").await,
            scene.billing.metric("messaging_process_duration_seconds_bucket", quick).await,
        );
        all > quick
    };
    let slow = soon(all_in).await;
    let after = topics::member_ids(&scene.system.kafka())?;
    scene.quick_billing().await?;
    scene.healed();
    if !slow {
        return Err(format!("none of more than {all} attempts took longer than 5 s").into());
    }
    if before.is_none() || after != before {
        return Err(format!("billing left its group: {before:?} became {after:?}").into());
    }
    scene.orders(50).await?;
    Ok("attempts took 8 s, max.poll.interval.ms is 6 s, and billing stayed in its group".into())
}

pub(crate) async fn dead_letters_refused(scene: &mut Scene) -> Evidence {
    scene.orders(50).await?;
    limit_dead_letters(scene, "10").await?;
    send_poison(scene).await?;
    let dead = async || {
        scene.billing.metric("consumer_dead_lettered_total", "").await >= count(scene.poison.len())
    };
    let dead = soon(dead).await;
    scene.orders(50).await?;
    let ends = topics::ends_for_billing(&scene.system.kafka())?;
    let went_on = soon(async || settle::billing_has_reached(scene, &ends)).await;
    let kept = topics::read_all(&scene.system.kafka(), DEAD_LETTERS)?.len();
    limit_dead_letters(scene, "2097152").await?;
    scene.healed();
    scene.orders(50).await?;
    match (dead, went_on, kept) {
        (true, true, 0) => Ok("billing kept the dead letters, and processed other messages".into()),
        (_, _, 0) => Err(format!("dead letters kept: {dead}, others processed: {went_on}").into()),
        (_, _, kept) => Err(format!("the topic took {kept} dead letters").into()),
    }
}

/// Sets the maximum size of a record in the dead-letter topic.
async fn limit_dead_letters(scene: &Scene, bytes: &str) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = scene.system.kafka().client().create()?;
    let topic = ResourceSpecifier::Topic(DEAD_LETTERS);
    let change = AlterConfig::new(topic).set("max.message.bytes", bytes);
    for changed in admin.alter_configs([&change], &AdminOptions::new()).await? {
        changed.map_err(|(_, code)| code)?;
    }
    Ok(())
}
