//! Topics for tests.

use std::sync::Arc;
use std::time::Duration;

use kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka::{Settings, TopicPolicy, TopicSpec, Topics};
use sandbox::testing::eventually;

/// Creates a topic with one partition. Waits until the broker knows it, because the controller
/// answers earlier.
pub(crate) async fn create(settings: &Settings, name: &'static str) {
    let topic = TopicSpec::with_name(name.into()).partitions(1);
    let owned = Topics { owned: vec![topic], ..Topics::default() };
    kafka::ensure(settings, &owned, TopicPolicy::Create).await.unwrap();

    let client: Arc<BaseConsumer> = Arc::new(settings.client().create().unwrap());
    let topic = settings.prefixed(name);
    let known = async || {
        let (client, topic) = (client.clone(), topic.clone());
        let ask = move || {
            let metadata = client.fetch_metadata(Some(&topic), Duration::from_secs(5)).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            partitions.iter().any(|it| it.leader() >= 0).then_some(())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    };
    eventually(name, Duration::from_secs(30), known).await;
}
