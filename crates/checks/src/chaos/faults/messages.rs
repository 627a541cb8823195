//! Messages that can't be handled, or not now, and handlers that take too long.

use std::time::Duration;

use kafka::rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use kafka::rdkafka::client::DefaultClientContext;
use kafka::{Headers, Record, Settings};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::Struck;
use crate::chaos::Error;
use crate::chaos::scene::{Scene, soon};
use crate::chaos::topics::{self, DEAD_LETTERS, Writer};

const TOPIC: &str = "order.completed";
/// Just below the largest record that the topic takes.
const NEARLY_TOO_LARGE: usize = 1_040_000;

pub(crate) async fn poison(scene: &mut Scene) -> Struck {
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
        return Err("not every poison was taken for one".into());
    }
    Ok(format!("{} poisonous records were sent", scene.poison.len()))
}

#[allow(clippy::cast_precision_loss)] // A handful.
fn count(records: usize) -> f64 {
    records as f64
}

/// Key, value and headers.
type Poison<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, Headers);

/// Everything that an event should not be; and one that only looks odd, which must not die.
pub(crate) async fn send_poison(scene: &mut Scene) -> Result<(), Error> {
    let settings = scene.system.kafka();
    let sound = sound_event(&settings).await?;
    let headers = with(&sound.headers, "ce_source", "/poison");
    let id = Uuid::new_v4().to_string();
    let fresh = with(&headers, "ce_id", &id);
    let odd = vec![("odd".into(), None), (String::new(), Some(vec![])), ("ce_id".into(), None)];
    let deep = "[".repeat(100_000).into_bytes();
    let noise: Vec<u8> = (0..NEARLY_TOO_LARGE).map(|_| fastrand::u8(..)).collect();
    let stranger = br#"{"order_id":"no-uuid","status":"completed"}"#;
    let key = sound.key.as_deref();
    let poison: [Poison<'_>; 6] = [
        (None, Some(&noise[..300]), Headers::new()),
        (Some(&noise[..16]), Some(b"{}"), odd),
        (key, None, fresh.clone()),
        (key, Some(&noise), fresh.clone()),
        (key, Some(&deep), fresh.clone()),
        (key, Some(stranger), with(&fresh, "ce_subject", "no-uuid")),
    ];
    let writer = Writer::new(&settings)?;
    for (key, value, headers) in poison {
        scene.poison.insert(writer.write(TOPIC, key, value, &headers).await?);
    }
    // The id of an event is any text. Its order has an invoice already, or gets its one.
    let named = with(&headers, "ce_id", &format!("no uuid/{id}"));
    writer.write(TOPIC, key, sound.value.as_deref(), &named).await?;
    Ok(())
}

/// The latest event on the topic, as our own service said it; waits for one.
async fn sound_event(settings: &Settings) -> Result<Record, Error> {
    let ours = |record: &Record| record.text_header("ce_source") == Some("/order");
    for _ in 0..100 {
        // A topic that was just made has no leader yet, which is an error to whoever reads it.
        let records = topics::read_all(settings, TOPIC).unwrap_or_default();
        if let Some(latest) = records.into_iter().rfind(ours) {
            return Ok(latest);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err("no event came to make poison from".into())
}

/// The headers with one of them changed.
fn with(headers: &Headers, name: &str, value: &str) -> Headers {
    let mut headers = headers.clone();
    headers.retain(|(other, _)| other != name);
    headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
    headers
}

pub(crate) async fn transient_failures(scene: &mut Scene) -> Struck {
    // One of a hundred fails four times in a row.
    scene.dead_by_chance = true;
    scene.billing.set_fault(json!({ "kind": "transient", "rate": 0.3 })).await?;
    scene.orders(300).await?;
    sleep(Duration::from_secs(5)).await;
    let retries = scene.billing.metric("consumer_retries_total", "").await;
    scene.billing.set_fault(Value::Null).await?;
    scene.healed();
    if retries < 1.0 {
        return Err("nothing was tried again".into());
    }
    scene.orders(50).await?;
    Ok(format!("{retries} attempts were repeated"))
}

pub(crate) async fn handler_slow(scene: &mut Scene) -> Struck {
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
    scene.quick_billing().await?;
    scene.healed();
    if !slow {
        return Err(format!("none of more than {all} attempts took longer than 5 s").into());
    }
    scene.orders(50).await?;
    Ok("attempts took 8 s, and max.poll.interval.ms is 6 s".into())
}

pub(crate) async fn dead_letters_refused(scene: &mut Scene) -> Struck {
    scene.orders(50).await?;
    limit_dead_letters(scene, "10").await?;
    send_poison(scene).await?;
    let halted = async || {
        let said = scene.billing.readiness().await.unwrap_or_default();
        said["subscriptions"]["billing"].as_str().is_some_and(|said| said.starts_with("halted"))
    };
    let halted = soon(halted).await;
    // So long that an offset would be committed, were one stored.
    sleep(Duration::from_secs(4)).await;
    let kept = topics::read_all(&scene.system.kafka(), DEAD_LETTERS)?.len();
    limit_dead_letters(scene, "2097152").await?;
    scene.healed();
    scene.orders(50).await?;
    match (halted, kept) {
        (true, 0) => Ok("billing said that it halted, and went on when it could".into()),
        // A consumer that does not care is no fault that missed: the topic did refuse.
        (false, 0) => Ok("the topic refused, and billing did not halt".into()),
        (_, kept) => Err(format!("the topic took {kept} dead letters").into()),
    }
}

/// How large a record may be in the dead-letter topic.
async fn limit_dead_letters(scene: &Scene, bytes: &str) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = scene.system.kafka().client().create()?;
    let topic = ResourceSpecifier::Topic(DEAD_LETTERS);
    let change = AlterConfig::new(topic).set("max.message.bytes", bytes);
    for changed in admin.alter_configs([&change], &AdminOptions::new()).await? {
        changed.map_err(|(_, code)| code)?;
    }
    Ok(())
}
