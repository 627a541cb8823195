//! Tests with a cluster that denies the creation of topics and the reading of their settings.

use consumer::{State, Subscription};
use kafka::{Settings, dead_letter_topic};
use sandbox::testing::eventually;
use sandbox::{Kafka, ServerOptions, Silent, Tools};

use crate::events::{ParcelId, ParcelPacked, ParcelShipped};
use crate::house::{House, PATIENCE, create, note};

/// Allows all clients to read, write and describe topics, which denies other operations on them.
async fn deny_the_rest(kafka: &Kafka) {
    let allow = ["--add", "--force", "--allow-principal", "User:ANONYMOUS"];
    let operations = |of: &[&'static str]| {
        of.iter().flat_map(|operation| ["--operation", *operation]).collect::<Vec<_>>()
    };
    // The broker itself is as anonymous as its clients.
    let cluster =
        operations(&["ClusterAction", "Alter", "AlterConfigs", "Describe", "IdempotentWrite"]);
    let topics = operations(&["Read", "Write", "Describe"]);
    for arguments in [
        [&allow[..], &topics, &["--topic", "*"]].concat(),
        [&allow[..], &cluster, &["--cluster"]].concat(),
    ] {
        kafka.run_tool("org.apache.kafka.tools.AclCommand", &arguments).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_there_is_enough_and_what_is_not_is_named() {
    let options = ServerOptions {
        settings: [
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("allow.everyone.if.no.acl.found", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..ServerOptions::default()
    };
    let broker = Kafka::start(options, &Tools::find().unwrap(), &Silent).await.unwrap();
    let house = House::on(|_| Settings::new(broker.brokers(), "")).await;
    create(&house.settings, dead_letter_topic("group")).await;
    // A cluster in use has the topic of its groups' offsets.
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    let running = house.run(Subscription::new("before").each_once(note::<ParcelPacked>()));
    house.has(parcel, &[1]).await;
    running.end().await;
    deny_the_rest(&broker).await;

    let running = house.run(Subscription::new("group").each_once(note::<ParcelPacked>()));
    let parcel = ParcelId::new();
    house.send::<ParcelPacked>(parcel, 1, "a@example.com").await;
    house.has(parcel, &[1]).await;
    let state = running.status.state();
    let degraded = matches!(&state, State::Troubled(problems) if problems.len() == 1);
    assert!(degraded && state.to_string().contains("not known whether the inbox"), "{state}");
    running.end().await;

    let running = house.run(Subscription::new("other").each_once(note::<ParcelPacked>()));
    house.has(parcel, &[1, 1]).await;
    let refused = async || {
        let state = running.status.state().to_string();
        state.contains("other.dlq is missing, and the cluster refuses to create it").then_some(())
    };
    eventually("the refusal to be told", PATIENCE, refused).await;
    running.end().await;

    is_refused_and_let_in(&broker, &house).await;
    broker.stop().await;
}

/// A consumer that may not read its group says so until it may, although no message arrives.
async fn is_refused_and_let_in(broker: &Kafka, house: &House) {
    let group = [
        "--add",
        "--force",
        "--deny-principal",
        "User:ANONYMOUS",
        "--operation",
        "Read",
        "--group",
        "refused",
    ];
    broker.run_tool("org.apache.kafka.tools.AclCommand", &group).await.unwrap();
    let topic = dead_letter_topic("refused");
    let arguments = [&ALLOW_CREATE[..], &["--topic", &topic.name]].concat();
    broker.run_tool("org.apache.kafka.tools.AclCommand", &arguments).await.unwrap();
    create(&house.settings, topic).await;
    // Of events that nobody sends.
    let running = house.run(Subscription::new("refused").each_once(note::<ParcelShipped>()));
    let refused = async || {
        let state = running.status.state().to_string();
        (state.contains("troubled") && state.contains("Group authorization failed")).then_some(())
    };
    eventually("the group's refusal to be told", PATIENCE, refused).await;
    let allowed = [&["--remove"], &group[1..]].concat();
    broker.run_tool("org.apache.kafka.tools.AclCommand", &allowed).await.unwrap();
    let let_in = async || {
        let state = running.status.state().to_string();
        (!state.contains("Group authorization failed")).then_some(())
    };
    eventually("the refusal to be told no more", PATIENCE, let_in).await;
    running.end().await;
}

const ALLOW_CREATE: [&str; 6] =
    ["--add", "--force", "--allow-principal", "User:ANONYMOUS", "--operation", "Create"];
