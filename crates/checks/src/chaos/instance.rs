//! A service as a separate process, and an HTTP client.

use std::sync::LazyLock;
use std::time::Duration;

pub(crate) use playground::Instance;
use reqwest::Client;

/// Uses no proxy, and gives up after 5 s, as a customer's client does.
pub(crate) static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5));
    client.build().unwrap_or_default()
});

/// Maximum time to drain after SIGTERM.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
