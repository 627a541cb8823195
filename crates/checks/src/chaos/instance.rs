//! A service as a process of its own, and a client of its API.

use std::sync::LazyLock;
use std::time::Duration;

pub(crate) use playground::Instance;
use reqwest::Client;

/// Never through a proxy, and no longer than a customer waits for an order.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5));
    client.build().unwrap_or_default()
});

/// How long a service may take to drain after SIGTERM.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
