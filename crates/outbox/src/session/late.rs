//! Tests that events which commit after higher ids were read are not overtaken by later events of
//! their keys.

use std::time::Duration;

use kafka::rdkafka::error::RDKafkaErrorCode;
use tokio::time::sleep;

use super::tests::{PAUSES, Stage, insert, key_of};

#[tokio::test]
async fn the_lane_of_a_partition_does_not_overtake_an_event_that_commits_late() {
    let stage = Stage::new().await;
    let mut writer = stage.pool.begin().await.unwrap();
    let late = insert(&mut *writer, 0, &key_of(0, 0)).await;
    stage.insert(0, &key_of(0, 1)).await;
    let mut session = stage.session(2).await;
    session.receive_metadata(2, &[0]);
    session.new_rows().await;
    writer.commit().await.unwrap();
    let next = stage.insert(0, &key_of(0, 0)).await;
    session.receive_metadata(2, &[]);
    session.left_rows().await;
    let under_way = session.under_way();
    assert!(under_way.contains(&late), "{under_way:?}");
    assert!(under_way.contains(&next), "{under_way:?}");
}

#[tokio::test]
async fn the_lane_of_a_partition_that_was_cut_does_not_overtake_an_event_that_commits_late() {
    let stage = Stage::new().await;
    let mut session = stage.session(2).await;
    session.receive_metadata(2, &[0]);
    let first = stage.insert(0, &key_of(0, 1)).await;
    session.new_rows().await;
    let mut writer = stage.pool.begin().await.unwrap();
    let late = insert(&mut *writer, 0, &key_of(0, 0)).await;
    for _ in 0..30 {
        stage.insert(0, &key_of(0, 1)).await;
    }
    session.receive_metadata(2, &[]);
    session.left_rows().await;
    assert!(session.under_way().len() < 30, "there is no room for all of them");
    writer.commit().await.unwrap();
    let next = stage.insert(0, &key_of(0, 0)).await;
    assert!(first < late && late < next);
    for _ in 0..10 {
        for id in session.under_way() {
            session.acknowledge(id);
            assert_ne!(id, next, "it overtakes");
        }
        session.left_rows().await;
        if session.under_way().contains(&late) {
            return;
        }
    }
    panic!("it is not sent");
}

#[tokio::test]
async fn an_event_that_is_left_to_its_topic_is_not_overtaken_by_the_lane_of_its_partition() {
    let stage = Stage::new().await;
    let mut session = stage.session(1).await;
    let [first, other] = [stage.insert(0, "K").await, stage.insert(0, "L").await];
    session.new_rows().await;
    session.refuse_with(first, RDKafkaErrorCode::TopicAuthorizationFailed);
    session.refuse_with(other, RDKafkaErrorCode::NotEnoughReplicas);
    sqlx::query("delete from outbox where id = $1").bind(other).execute(&stage.pool).await.unwrap();
    let next = stage.insert(0, "K").await;
    sleep(PAUSES).await;
    session.receive_metadata(1, &[]);
    for _ in 0..5 {
        session.left_rows().await;
        let under_way = session.under_way();
        assert!(!under_way.contains(&next) || under_way.contains(&first), "{under_way:?}");
        if under_way.contains(&first) {
            return;
        }
        for id in under_way {
            session.acknowledge(id);
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("it is not sent");
}
