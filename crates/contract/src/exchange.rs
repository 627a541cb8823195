use http::HeaderMap;
use reqwest::{Method, Url};
use serde_json::Value;

/// A request with its response.
pub(crate) struct Exchange {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) request: Message,
    pub(crate) status: u16,
    pub(crate) response: Message,
}

/// Headers and body of a request or a response.
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Exchange {
    pub(crate) fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Message {
    /// Returns the media type without parameters.
    pub(crate) fn media_type(&self) -> &str {
        let value = self.headers.get(http::header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        value.and_then(|it| it.split(';').next()).unwrap_or_default().trim()
    }

    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("is not JSON: {error}"))
    }
}
