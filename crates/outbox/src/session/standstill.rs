//! Tests that a refused key, a partition without a leader or a locked row delays no other.

use std::time::{Duration, Instant};

use kafka::rdkafka::error::RDKafkaErrorCode;
use tokio::time::{sleep, timeout};

use super::tests::{PAUSES, Stage, key_of};
use crate::shards::Shards;

#[tokio::test]
async fn refused_keys_are_tried_one_after_the_other_and_other_partitions_do_not_wait() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    let keys: Vec<_> = (0..5).map(|number| key_of(0, number)).collect();
    let mut poison = Vec::new();
    for key in &keys {
        let id = stage.insert(0, key).await;
        session.refuse_alone(topic, id, key);
        poison.push(id);
    }
    let busy = stage.insert(0, &key_of(0, 9)).await;
    session.new_rows().await;
    assert_eq!(session.under_way(), [busy]);
    sleep(PAUSES).await;
    session.left_rows().await;

    let held = stage.insert(0, &key_of(0, 9)).await;
    let live = stage.insert(0, &key_of(1, 0)).await;
    session.new_rows().await;
    assert_eq!(session.under_way(), [busy, live], "the partition is let run empty");
    assert!(session.topics.get(topic).aside.is_none(), "the topic's other partitions go on");

    session.acknowledge(busy);
    session.left_rows().await;
    let tried: Vec<_> = session.under_way().into_iter().filter(|id| poison.contains(id)).collect();
    assert_eq!(tried.len(), 1, "{tried:?}");
    session.refuse_with(tried[0], RDKafkaErrorCode::InvalidRecord);
    session.left_rows().await;
    assert_eq!(session.under_way(), [held, live], "the next key is not tried at once");
}

#[tokio::test]
async fn the_keys_that_are_refused_are_bounded_and_more_of_them_pause_their_partition() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    for number in 0..1_200 {
        session.refuse_alone(topic, number + 1, &format!("K-{number}"));
        session.topics.get_mut(topic).acknowledged(1, "L", 1, Instant::now());
    }
    let topic = session.topics.get(topic);
    assert_eq!(topic.keys.len(), 1_000);
    assert!(topic.pause.is_none());
    assert!(topic.partition(0).unwrap().pause.is_some());
}

#[tokio::test]
async fn a_backlog_of_a_partition_is_not_put_before_its_live_siblings() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    session.receive_metadata(2, &[0]);
    stage.insert_many(0, &key_of(0, 0), 5_000).await;
    for _ in 0..6 {
        session.new_rows().await;
    }
    session.prove_all().await;
    session.new_rows().await;
    session.receive_metadata(2, &[]);
    session.left_rows().await;
    session.leave_topic(topic);
    for id in session.under_way() {
        session.acknowledge(id);
    }
    let live = stage.insert(0, &key_of(1, 0)).await;
    for _ in 0..3 {
        session.new_rows().await;
        session.left_rows().await;
    }
    assert!(session.under_way().contains(&live), "{:?}", session.under_way());
}

#[tokio::test]
async fn partitions_that_are_added_while_one_stands_still_hold_up_no_other() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let topic = session.topic();
    let stuck = stage.insert(0, &key_of(0, 0)).await;
    session.new_rows().await;
    session.receive_metadata(2, &[0]);
    session.receive_metadata(3, &[0]);
    let live = stage.insert(0, &key_of(1, 0)).await;
    session.new_rows().await;
    session.left_rows().await;
    assert_eq!(session.under_way(), [stuck, live]);

    session.receive_metadata(3, &[]);
    session.receive_metadata(3, &[0]); // it stands still while the new number waits for what is under way
    let other = stage.insert(0, &key_of(1, 0)).await;
    for _ in 0..3 {
        session.left_rows().await;
        session.new_rows().await;
    }
    assert_eq!(session.under_way(), [stuck, live, other]);

    session.receive_metadata(3, &[]);
    for id in session.under_way() {
        session.acknowledge(id);
    }
    session.left_rows().await;
    session.receive_metadata(3, &[]);
    assert_eq!(session.topics.get(topic).count(), Some(3));
}

#[tokio::test]
async fn a_partition_that_stands_still_keeps_no_shard_from_being_read_while_another_relay_joins() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    for shard in 0..14 {
        stage.insert(shard, &key_of(0, 0)).await;
    }
    session.new_rows().await;
    session.receive_metadata(2, &[0]);
    let _other = Shards::connect(&stage.options).await.unwrap();
    session.ticked().await;
    let mut live = Vec::new();
    for shard in 0..14 {
        live.push(stage.insert(shard, &key_of(1, 0)).await);
    }
    session.new_rows().await;
    let under_way = session.under_way();
    assert!(live.iter().all(|id| under_way.contains(id)), "{live:?} {under_way:?}");
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_holds_up_no_read_and_is_not_sent_again() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    let [locked, free] =
        [stage.insert(0, &key_of(0, 0)).await, stage.insert(0, &key_of(1, 0)).await];
    session.new_rows().await;
    let mut operator = stage.pool.begin().await.unwrap();
    sqlx::query("update outbox set topic = topic where id = $1")
        .bind(locked)
        .execute(&mut *operator)
        .await
        .unwrap();
    session.acknowledge(locked);
    session.acknowledge(free);
    let reads = async {
        let next = stage.insert(0, &key_of(1, 0)).await;
        for _ in 0..3 {
            session.new_rows().await;
            session.left_rows().await;
        }
        assert_eq!(session.under_way(), [next], "each once");
        session.ticked().await;
        assert_eq!(stage.ids().await, [locked, next]);
    };
    timeout(Duration::from_secs(5), reads).await.unwrap();
    operator.commit().await.unwrap();
    session.ticked().await;
    assert!(!stage.ids().await.contains(&locked));
}

#[tokio::test]
async fn a_table_that_is_locked_against_writes_is_read_and_ends_no_session() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let all = [stage.insert(0, "K").await, stage.insert(0, "L").await];
    let mut migration = stage.pool.begin().await.unwrap();
    sqlx::query("lock table outbox in share mode").execute(&mut *migration).await.unwrap();
    let reads = async {
        session.new_rows().await;
        assert_eq!(session.under_way(), all);
        for id in all {
            session.acknowledge(id);
            session.new_rows().await;
        }
        session.ticked().await;
        assert!(session.flights.is_empty(), "each once");
    };
    timeout(Duration::from_secs(5), reads).await.unwrap();
    assert_eq!(stage.ids().await, all);
    migration.commit().await.unwrap();
    session.ticked().await;
    assert!(stage.ids().await.is_empty());
}

#[tokio::test]
async fn a_refused_record_of_a_shard_that_is_kept_waits_for_those_under_way_behind_it() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let [first, second] = [stage.insert(15, "K").await, stage.insert(15, "K").await];
    session.new_rows().await;
    for shard in 0..15 {
        stage.insert(shard, &format!("L-{shard}")).await;
    }
    session.new_rows().await;
    let _other = Shards::connect(&stage.options).await.unwrap();
    session.ticked().await;
    assert!(!session.shards.owned().contains(&15), "it is to be given up");
    session.refuse_with(first, RDKafkaErrorCode::NotEnoughReplicas);
    while !session.shards.owned().contains(&15) {
        sleep(Duration::from_millis(200)).await;
        session.ticked().await;
    }
    for id in session.under_way().into_iter().filter(|id| *id > second) {
        session.acknowledge(id);
    }
    session.expire_pauses();
    session.left_rows().await;
    assert!(!session.under_way().contains(&first), "the one behind it is still under way");
    session.acknowledge(second);
    session.left_rows().await;
    assert_eq!(session.under_way(), [first, second], "it follows once more");
}
