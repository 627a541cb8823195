//! Many dead letters, which are replayed while something fails.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::Evidence;
use super::messages::send_poison;
use super::refusals::execute;
use crate::chaos::Error;
use crate::chaos::letters::{ADA, GRACE, ended, replay, request};
use crate::chaos::scene::{Scene, soon};
use crate::chaos::written;

const BEFORE: usize = 50;
const AFTERWARDS: usize = 50;
const LETTERS: usize = 20_000;
/// Maximum time until all of them are dead letters.
const DYING: Duration = Duration::from_mins(2);
/// Maximum time until a replay is under way, which waits for the end of the other one.
const QUEUED: Duration = Duration::from_mins(5);
/// Longer than a message waits for its next attempt to become a dead letter.
const REFUSED: Duration = Duration::from_secs(4);
/// Rate of each operator's replay, in letters per second.
const RATE: f64 = 2_000.0;

/// Messages whose dead letter can't be written wait; the others are processed.
pub(crate) async fn not_written(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    execute(scene, "revoke insert on dead_letter from billing").await?;
    send_poison(scene).await?;
    scene.orders(BEFORE).await?;
    sleep(REFUSED).await;
    let meanwhile = scene.billing.metric("consumer_dead_lettered_total", "").await;
    execute(scene, "grant insert on dead_letter to billing").await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    if meanwhile > 0.0 {
        return Err(format!("{meanwhile} dead letters were written all the same").into());
    }
    Ok(format!("{} poisonous records waited until they could be dead letters", scene.poison.len()))
}

/// Lets two operators replay one half of the letters each at the same time, and kills billing
/// during each replay.
pub(crate) async fn replayed_under_kills(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.dead_by_chance = true;
    scene.billing.set_fault(json!({ "kind": "permanent" })).await?;
    let written = written::write_many(&scene.system, LETTERS).await?;
    scene.written.extend(written);
    let dead = all_dead(scene).await?;
    scene.billing.set_fault(Value::Null).await?;
    let (first, second) = split(scene).await?;
    let asks = |range: Value| json!({ "group": "billing", "filter": range, "rate": RATE, "why": "the fault is mended" });
    let (first, second) = (asks(first), asks(second));
    let (ada, grace) =
        tokio::join!(request(&scene.billing, ADA, &first), request(&scene.billing, GRACE, &second));
    let (ada, grace) = (ada?.ok_or("nothing for one")?, grace?.ok_or("nothing for the other")?);
    // Replays run one after the other, the one that is known first before the other.
    let mut waiting = vec![&*ada, &*grace];
    while !waiting.is_empty() {
        let begun = under_way(scene, &waiting).await?;
        scene.billing.kill_9().await;
        scene.billing.start_again().await?;
        waiting.remove(begun);
    }
    let mut processed = 0;
    for (id, by) in [(&ada, "ada"), (&grace, "grace")] {
        let done = ended(&scene.billing, id).await?;
        if done["by"] != by {
            return Err(format!("{by} is not recorded as the requester of {done}").into());
        }
        let number = |it: &Value| it.as_i64().unwrap_or_default();
        let settled: i64 =
            done["outcomes"].as_object().into_iter().flat_map(|it| it.values()).map(number).sum();
        if settled != number(&done["selected"]) {
            return Err(format!("{settled} letters were settled of {done}").into());
        }
        processed += number(&done["outcomes"]["processed"]);
    }
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    Ok(format!("{processed} of {dead} dead letters were replayed, and billing was killed twice"))
}

/// Waits until all messages are dead letters, and returns their number.
async fn all_dead(scene: &Scene) -> Result<i64, Error> {
    let deadline = Instant::now() + DYING;
    loop {
        let mut billing = scene.system.database("billing").await?;
        let dead: i64 =
            sqlx::query_scalar("select count(*) from dead_letter where status = 'dead'")
                .fetch_one(&mut billing)
                .await?;
        if usize::try_from(dead).unwrap_or_default() >= LETTERS {
            return Ok(dead);
        }
        if Instant::now() > deadline {
            return Err(format!("only {dead} messages became dead letters").into());
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Returns filters for the older and the newer half of the letters.
async fn split(scene: &Scene) -> Result<(Value, Value), Error> {
    let mut billing = scene.system.database("billing").await?;
    let middle: String = sqlx::query_scalar(
        r#"select to_char(percentile_disc(0.5) within group (order by died_at) at time zone 'UTC',
                          'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           from dead_letter where status = 'dead'"#,
    )
    .fetch_one(&mut billing)
    .await?;
    Ok((json!({ "to": middle }), json!({ "from": middle })))
}

/// Waits until one of these replays has processed some letters and is still running, and returns
/// its index.
async fn under_way(scene: &Scene, ids: &[&str]) -> Result<usize, Error> {
    let has_begun = async |id: &str| {
        let replay = replay(&scene.billing, id).await.unwrap_or_default();
        replay["outcomes"]["processed"].as_i64() > Some(0) && replay["status"] == "running"
    };
    // The second replay waits for the first.
    let deadline = Instant::now() + QUEUED;
    while Instant::now() < deadline {
        for (index, id) in ids.iter().enumerate() {
            if has_begun(id).await {
                return Ok(index);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("none of the replays {} was seen to run", ids.join(", ")).into())
}

/// Messages become dead letters while Kafka is unavailable, and an operator replays them before
/// Kafka is back.
pub(crate) async fn without_kafka(scene: &mut Scene) -> Evidence {
    scene.dead_by_chance = true;
    // The letters can't be written yet, so that they arrive after Kafka has stopped, however slow
    // the machine is.
    execute(scene, "revoke insert on dead_letter from billing").await?;
    scene.billing.set_fault(json!({ "kind": "permanent" })).await?;
    scene.orders(BEFORE).await?;
    if !soon(async || scene.billing.metric("consumer_parked_keys", "").await >= 1.0).await {
        return Err("no message failed".into());
    }
    scene.system.servers.kafka.halt().await;
    execute(scene, "grant insert on dead_letter to billing").await?;
    let arrived = async || {
        let mut billing = scene.system.database("billing").await?;
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from dead_letter where copied_at is null")
                .fetch_one(&mut billing)
                .await?;
        Ok::<_, Error>(waiting)
    };
    let deadline = Instant::now() + DYING;
    while arrived().await? == 0 {
        if Instant::now() > deadline {
            return Err("no dead letter was written without Kafka".into());
        }
        sleep(Duration::from_millis(200)).await;
    }
    scene.billing.set_fault(Value::Null).await?;
    let all = json!({ "group": "billing", "filter": {}, "why": "the fault is mended" });
    let asked = request(&scene.billing, ADA, &all).await?.ok_or("nothing to replay")?;
    let done = ended(&scene.billing, &asked).await?;
    let waiting = arrived().await?;
    scene.system.servers.kafka.start_again().await?;
    scene.healed();
    scene.orders(AFTERWARDS).await?;
    let processed = &done["outcomes"]["processed"];
    if processed.as_i64() < Some(1) || waiting == 0 {
        return Err(format!("{processed} were processed, and {waiting} copies waited").into());
    }
    Ok(format!(
        "{processed} letters were replayed without Kafka, and {waiting} copies waited for it"
    ))
}
