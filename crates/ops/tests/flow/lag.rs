//! `orderflow flow` shows from a real Kafka what an expected event waits for.

use kafka::Settings;
use sandbox::testing::TestSpace;

use crate::fake::Services;
use crate::offsets::commit;
use crate::output::run;
use crate::story::*;
use crate::topics;

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_event_waits_behind_messages_or_was_passed() {
    let space = TestSpace::new().await;
    let settings = Settings::new(space.kafka_brokers(), space.topic_prefix());
    topics::create(&settings, "order.completed").await;
    let topic = settings.prefixed("order.completed");
    let mut known = well();
    known[3].steps.clear();
    let services = Services::start(known).await;
    for (committed, status, expected) in [
        (None, 1, "expected, the group has committed nothing here"),
        (Some(30), 1, "expected, waits behind 1,204 messages"),
        (Some(1234), 1, "expected, it is the next message"),
        (Some(1235), 1, "expected, its offset was passed, and no record is kept"),
    ] {
        if let Some(offset) = committed {
            tokio::task::block_in_place(|| commit(&settings, "analytics", &topic, offset));
        }
        let mut command = services.command(&["c-1"]);
        command.env("KAFKA_BROKERS", space.kafka_brokers());
        command.env("KAFKA_TOPIC_PREFIX", space.topic_prefix());
        let ran = run(command).await;
        assert_eq!(ran.status, Some(status), "{ran:?}");
        let words: Vec<_> = ran.out.split_whitespace().filter(|it| *it != "│").collect();
        assert!(words.join(" ").contains(expected), "{expected}: {}", ran.out);
    }
}
