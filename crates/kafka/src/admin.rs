use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult};
use tokio::runtime::Handle;

use crate::Settings;

/// A client that is dropped on another thread, because its drop waits for its own threads.
pub(crate) struct Admin(Option<AdminClient<DefaultClientContext>>);

impl Admin {
    pub(crate) fn new(settings: &Settings) -> KafkaResult<Self> {
        Ok(Self(Some(settings.client().create()?)))
    }

    /// Returns the client, which is there until the drop.
    pub(crate) fn client(&self) -> KafkaResult<&AdminClient<DefaultClientContext>> {
        self.0.as_ref().ok_or(KafkaError::Canceled)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let (Some(client), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(client));
        }
    }
}
