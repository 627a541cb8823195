use std::time::{Duration, Instant};

use kafka::rdkafka::admin::{AdminClient, AdminOptions};
use kafka::rdkafka::client::DefaultClientContext;
use sandbox::testing::eventually;

use crate::house::{House, PATIENCE, command};

#[tokio::test(flavor = "multi_thread")]
async fn lag_and_what_the_services_say_are_exported() {
    let house = House::start(&[]).await;
    let (group, topic) = (house.settings.prefixed("billing"), house.settings.prefixed("parcels"));
    let lag = format!(
        "kafka_consumergroup_lag{{consumergroup=\"{group}\",partition=\"0\",topic=\"{topic}\"}} 4"
    );
    let text = house.has(&lag).await;
    for line in [
        format!("kafka_topic_partition_current_offset{{partition=\"0\",topic=\"{topic}\"}} 4"),
        format!("kafka_consumergroup_members{{consumergroup=\"{group}\"}} 0"),
        format!("kafka_consumergroup_messages_lost{{consumergroup=\"{group}\"}} 0"),
        format!("kafka_consumergroup_stalled{{consumergroup=\"{group}\"}} 0"),
        format!(
            "orderflow_group_info{{consumergroup=\"{group}\",group=\"billing\",service=\"billing\"}} 1"
        ),
        "orderflow_service_up{service=\"billing\"} 1".to_owned(),
        "orderflow_dead_letters{group=\"billing\",status=\"dead\"} 2".to_owned(),
        "orderflow_dead_letters{group=\"billing\",status=\"parked\"} 1".to_owned(),
        "orderflow_failed_jobs{kind=\"deliver-webhook\",service=\"billing\"} 1".to_owned(),
        "orderflow_failed_jobs{kind=\"send-email\",service=\"billing\"} 0".to_owned(),
        "orderflow_outbox_age_seconds{service=\"billing\"} 2.5".to_owned(),
        "orderflow_outbox_depth{service=\"billing\"} 7".to_owned(),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    for name in ["kafka_consumergroup_lag_seconds", "kafka_consumergroup_retention_share"] {
        let series = format!("{name}{{consumergroup=\"{group}\"}} ");
        assert!(text.contains(&series), "{series}: {text}");
    }
    assert!(!text.contains(&format!("current_offset{{consumergroup=\"{group}\"")), "it has none");
    let (status, index) = house.get("").await.unwrap();
    assert!(status == 200 && index.contains("<h1>"), "{index}");
    assert_eq!(house.get("healthz").await, Some((200, "ok\n".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_jobs_counts_however_many_others_have_failed() {
    let house = House::start(&[]).await;
    house.has("orderflow_failed_jobs{kind=\"send-email\",service=\"billing\"} 0").await;
    house.service.crowd_jobs();
    house.has("orderflow_failed_jobs{kind=\"deliver-webhook\",service=\"billing\"} 1000").await;
    house.has("orderflow_failed_jobs{kind=\"send-email\",service=\"billing\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_measured_any_more_is_absent() {
    let house = House::start(&[]).await;
    let group = house.settings.prefixed("billing");
    let seconds = format!("kafka_consumergroup_lag_seconds{{consumergroup=\"{group}\"}}");
    let text = async || Some(house.get("metrics").await?.1);
    eventually("its lag", PATIENCE, async || text().await?.contains(&seconds).then_some(())).await;
    let admin: AdminClient<DefaultClientContext> = house.settings.client().create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin.delete_topics(&[&house.settings.prefixed("parcels")], &options).await.unwrap();
    let is_gone = async || {
        let text = text().await?;
        let is_known = text.contains(&format!("orderflow_group_info{{consumergroup=\"{group}\""));
        (is_known && !text.contains(&seconds)).then_some(())
    };
    eventually("no lag of a topic that is gone", PATIENCE, is_gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_there_is_no_lag_and_the_services_are_still_polled() {
    let house = House::start(&[("KAFKA_BROKERS", "127.0.0.1:1")]).await;
    let text = house.has("orderflow_service_up{service=\"billing\"} 1").await;
    assert!(!text.contains("kafka_") && !text.contains("orderflow_lag_measured"), "{text}");
    let warned = async || house.log().contains("lag not measured, retrying").then_some(());
    eventually("a warning", PATIENCE, warned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_within_seconds() {
    let mut house = House::start(&[]).await;
    house.has("orderflow_service_up{service=\"billing\"} 1").await;
    let start = Instant::now();
    let status = house.process.stop(Duration::from_secs(10)).await;
    assert!(status.success(), "{status} {}", house.log());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_used_is_named_at_the_start() {
    for (name, value) in
        [("ALERT_WEBHOOK", "https://x/"), ("ALERT_WEBHOOK", "nonsense"), ("KAFKA_PROPERTIES", "x")]
    {
        let mut command = command(0);
        command.env(name, value);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(name), "{text}");
    }
}
