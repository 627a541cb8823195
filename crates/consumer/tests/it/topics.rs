//! Topics belong to their publishers: a subscription waits for them, visibly, and consumes what
//! there is.

use consumer::{Consumer, State, Subscription};
use envelope::Event;
use kafka::rdkafka::admin::{AdminClient, AdminOptions};
use kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka::{TopicPolicy, TopicSpec, dead_letter_topic};
use sandbox::testing::eventually;

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use crate::house::{House, PATIENCE, create, note};

impl House {
    async fn troubled(&self, running: &crate::house::Running, expected: &str) {
        let troubled = async || {
            let state = running.status.state();
            matches!(&state, State::Troubled(_)).then_some(state.to_string())
        };
        let state = eventually("a troubled state", PATIENCE, troubled).await;
        assert!(state.contains(expected), "{state}");
    }

    fn exists(&self, topic: &str) -> bool {
        let mut config = self.settings.client();
        config.set("allow.auto.create.topics", "false");
        let client: BaseConsumer = config.create().unwrap();
        let metadata =
            client.fetch_metadata(Some(&self.settings.prefixed(topic)), PATIENCE).unwrap();
        !metadata.topics()[0].partitions().is_empty()
    }
}

#[tokio::test]
async fn a_topic_of_others_is_never_created_but_waited_for_while_the_rest_is_consumed() {
    let house = House::new().await;
    let subscription = Subscription::new("group")
        .each_once(note::<ParcelPacked>())
        .each_once_from("returns", note::<ParcelShipped>());
    let running = house.run(subscription);
    let (first, second) = (ParcelId::new(), ParcelId::new());
    house.send::<ParcelPacked>(first, 1, "a@example.com").await;
    house.has(first, &[1]).await;
    house.troubled(&running, "the topic returns is missing: its publisher has to create it").await;
    assert!(!house.exists("returns"));

    create(&house.settings, TopicSpec::new("returns").partitions(3)).await;
    house.publish("returns", &house.event::<ParcelShipped>(second, 1, "a@example.com")).await;
    house.has(second, &[1]).await;
    let well = async || (running.status.state() == State::Running).then_some(());
    eventually("the trouble to end", PATIENCE, well).await;
    running.end().await;
}

#[tokio::test]
async fn with_verify_nothing_is_created_and_what_is_missing_is_named() {
    let house = House::new().await;
    let subscription = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_as(subscription, |it| it.topic_policy(TopicPolicy::Verify));
    house.troubled(&running, "the topic group.dlq is missing: create it").await;
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    assert!(!house.exists("group.dlq"));
    create(&house.settings, dead_letter_topic("group")).await;
    let well = async || (running.status.state() == State::Running).then_some(());
    eventually("the trouble to end", PATIENCE, well).await;
    running.end().await;
}

#[tokio::test]
async fn a_topic_that_is_not_as_its_owner_wants_it_is_named_and_left_alone() {
    let house = House::new().await;
    let wanted = TopicSpec::new("commands").partitions(4);
    create(&house.settings, TopicSpec::new("commands").partitions(2).max_record_bytes(1000)).await;
    let subscription =
        Subscription::new("group").each_once_from("commands", note::<ParcelPacked>()).owns(wanted);
    let running = house.run(subscription);
    house.troubled(&running, "commands has partitions 2, and its owner wants 4").await;
    house.troubled(&running, "commands has max.message.bytes 1000").await;
    let parcel = ParcelId::new();
    house.publish("commands", &house.event::<ParcelPacked>(parcel, 1, "a@example.com")).await;
    house.has(parcel, &[1]).await;
    running.end().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_is_named_and_consumed_again_when_its_publisher_has_made_it_anew() {
    let house = House::new().await;
    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    house.processes_one().await;
    let second = ParcelId::new();

    let admin: AdminClient<_> = house.settings.client().create().unwrap();
    let topics = [ParcelPacked::TYPE, "group.dlq"].map(|topic| house.settings.prefixed(topic));
    let names = topics.each_ref().map(String::as_str);
    let deleted = admin.delete_topics(&names, &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    house.troubled(&running, "parcel.packed is missing: its publisher has to create it").await;
    let again = async || house.exists("group.dlq").then_some(());
    eventually("its own topic to be made anew", PATIENCE, again).await;
    create(&house.settings, TopicSpec::new(ParcelPacked::TYPE)).await;
    house.send::<ParcelPacked>(second, 1, "a@example.com").await;
    house.has(second, &[1]).await;
    let well = async || (running.status.state() == State::Running).then_some(());
    eventually("the trouble to end", PATIENCE, well).await;
    running.end().await;
}

/// `off` is for clusters that deny the reading of topics' settings.
#[tokio::test]
async fn with_off_nothing_is_asked_and_what_is_there_is_consumed() {
    let house = House::new().await;
    let subscription = Subscription::new("group").each_once(note::<ParcelPacked>());
    let running = house.run_as(subscription, |it: Consumer| it.topic_policy(TopicPolicy::Off));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    running.end().await;
}
