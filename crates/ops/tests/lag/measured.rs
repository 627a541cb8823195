//! Measurements without problems.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::House;
use crate::output::run;

const FRESH: Duration = Duration::ZERO;
const OLD: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_live_group_that_has_caught_up_is_well() {
    let house = House::parcels(3, OLD).await;
    let _member = house.consume("billing", 3);
    let (status, billing) = house.billing(&[]).await;
    assert_eq!(status, Some(0), "{billing}");
    assert_eq!((&billing["messages"], &billing["members"]), (&json!(0), &json!(1)), "{billing}");
    assert_eq!((&billing["state"], &billing["catch_up_seconds"]), (&json!("ok"), &json!(0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_group_is_known_by_its_offsets_and_is_stalled_once_its_lag_is_old() {
    let house = House::parcels(5, OLD).await;
    house.commit("billing", 2);
    let (status, billing) = house.billing(&[]).await;
    assert_eq!(status, Some(1), "{billing}");
    assert_eq!((&billing["messages"], &billing["members"]), (&json!(3), &json!(0)), "{billing}");
    assert!(billing["seconds"].as_f64().unwrap() >= 600.0, "{billing}");
    assert_eq!((&billing["state"], &billing["is_stalled"]), (&json!("stalled"), &json!(true)));
    assert_eq!(billing["partitions"][0]["committed"], json!(2));
    // As a table, and without the service's list: the group is found by its name.
    let mut command = house.command(&["--group", "billing"]);
    command.env("ORDERFLOW_SERVICES", "billing=http://127.0.0.1:1");
    let ran = run(command).await;
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.out.contains("stalled") && ran.out.contains("no consumer has joined"), "{ran:?}");
    assert!(ran.err.contains("billing does not answer"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_threshold_decides_the_exit_status() {
    let house = House::parcels(3, FRESH).await;
    house.commit("billing", 0);
    assert_eq!(house.billing(&["--threshold", "3"]).await.0, Some(0));
    let (status, billing) = house.billing(&["--threshold", "2"]).await;
    assert_eq!((status, &billing["state"]), (Some(1), &json!("too far")), "{billing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_never_committed_counts_from_the_earliest_message() {
    let house = House::parcels(4, FRESH).await;
    let (_, billing) = house.billing(&[]).await;
    assert_eq!(billing["messages"], json!(4), "{billing}");
    assert_eq!(billing["partitions"][0]["committed"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_of_a_transaction_is_no_lag() {
    let house = House::parcels(0, FRESH).await;
    house.send_in_transaction().await;
    // The position before the marker, at which a consumer stops that counts records only.
    house.commit("billing", 1);
    let (status, billing) = house.billing(&[]).await;
    assert_eq!(billing["partitions"][0]["high"], json!(2), "{billing}");
    assert_eq!((status, &billing["messages"]), (Some(0), &json!(0)), "{billing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_groups_are_listed_and_other_peoples_do_not_decide_the_exit_status() {
    let house = House::parcels(3, OLD).await;
    house.commit("billing", 3);
    house.commit("console-consumer-1", 1);
    // The service answers and does not list it.
    house.commit("billing.2", 1);
    let ran = house.run(&["--json"]).await;
    let document = ran.json();
    let groups = document["groups"].as_array().unwrap();
    let find = |name: &str| groups.iter().find(|it| it["group"] == name).unwrap();
    let (billing, stranger) = (find("billing"), find("console-consumer-1"));
    assert_eq!(find("billing.2")["service"], Value::Null, "a replaced generation");
    assert_eq!(ran.status, Some(0), "{billing}");
    assert_eq!((&billing["service"], &stranger["service"]), (&json!("billing"), &Value::Null));
    assert_eq!((&stranger["messages"], &stranger["state"]), (&json!(2), &json!("stalled")));
    assert_eq!(house.run(&["--group", "console-consumer-1"]).await.status, Some(1));
}

/// librdkafka aborts the process if a client is assigned partitions too soon after others.
#[tokio::test(flavor = "multi_thread")]
async fn many_groups_at_many_offsets_are_measured_while_messages_arrive() {
    let house = House::parcels(40, FRESH).await;
    for group in 0..6 {
        house.commit(&format!("billing.{group}"), i64::from(group) * 5);
    }
    let measured = async {
        for _ in 0..4 {
            let runs = futures::future::join_all((0..3).map(|_| house.run(&["--json"]))).await;
            for ran in runs {
                // An aborted process has no exit status. On a slow machine the lag is old enough to
                // be stalled.
                assert!(matches!(ran.status, Some(0 | 1)), "{ran:?}");
                let document = ran.json();
                let groups = document["groups"].as_array().unwrap().iter();
                let is_ours = |it: &&Value| it["group"].as_str().unwrap().starts_with("billing");
                let ours: Vec<_> = groups.filter(is_ours).collect();
                assert_eq!(ours.len(), 7, "{document}");
                assert!(ours.iter().all(|it| it["seconds"].is_number()), "{document}");
            }
        }
    };
    let sending = async {
        loop {
            house.send(5, FRESH).await;
        }
    };
    tokio::select! {
        () = measured => {}
        () = sending => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_say_when_it_will_have_caught_up() {
    let house = House::parcels(1_200, FRESH).await;
    let brokers = house.settings.clone();
    house.commit("billing", 0);
    let topic = house.topic();
    // Commits of 10 messages with their times, until the tool has ended.
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let consuming = std::thread::spawn(move || {
        use kafka::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
        use kafka::rdkafka::{Offset, TopicPartitionList};
        let consumer: BaseConsumer = brokers.consumer("billing").create().unwrap();
        let mut times = Vec::new();
        for offset in (10..=1_200).step_by(10) {
            {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&topic, 0, Offset::Offset(offset)).unwrap();
                consumer.commit(&list, CommitMode::Sync).unwrap();
            }
            times.push(Instant::now());
            if end.recv_timeout(Duration::from_millis(250)) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        times
    });
    let (_, billing) = house.billing(&[]).await;
    drop(ended);
    let times = consuming.join().unwrap();
    let rate = billing["consumed_per_second"].as_f64().unwrap();
    // The tool sees a part of the commits, and one more or less at either end of that part.
    let gaps: Vec<_> = times.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect();
    let rates = gaps.iter().map(|seconds| 10.0 / seconds);
    let (least, most) =
        rates.fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(it), most.max(it)));
    assert!((least / 2.0..=most * 2.0).contains(&rate), "{billing}, {gaps:?}");
    let (messages, seconds) =
        (billing["messages"].as_f64().unwrap(), billing["catch_up_seconds"].as_f64().unwrap());
    assert!((seconds - messages / rate).abs() < 0.5, "{billing}");
}
