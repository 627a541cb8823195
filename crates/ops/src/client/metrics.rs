//! Metrics of a service, in Prometheus' text format 0.0.4.

use reqwest::Method;

use super::{Client, HTTP, READ};
use crate::error::Error;

/// The metrics that a service exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Vec<Sample>);

/// A sample with its name and labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Parses a line. Returns `None` for comments and lines that are no sample.
    fn read(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), labels, value })
    }
}

/// Parses `a="b",c="d"}`, and returns the rest of the line.
fn read_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    rest = &quoted[at + 1..];
                    break;
                }
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    escaped => escaped,
                }),
                (_, character) => value.push(character),
            }
        }
        labels.push((name.trim().to_owned(), value));
    }
}

impl Metrics {
    /// Parses the text format. Lines that can't be parsed are skipped.
    pub(crate) fn read(text: &str) -> Self {
        Self(text.lines().filter_map(Sample::read).collect())
    }

    /// Returns the samples of a name.
    pub(crate) fn samples(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// Returns the largest value of a name. `None` if there is none.
    pub(crate) fn largest(&self, name: &str) -> Option<f64> {
        self.samples(name).map(|it| it.value).reduce(f64::max)
    }
}

impl Client {
    /// Returns the metrics of the service.
    pub(crate) async fn metrics(&self) -> Result<Metrics, Error> {
        let path = ["metrics"];
        let (status, text) = self
            .exchange(&Method::GET, &path, HTTP.get(self.resource(&path)).timeout(READ))
            .await?;
        if status == 200 {
            return Ok(Metrics::read(&text));
        }
        Err(self.not_understood(&Method::GET, &path, status, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let metrics = Metrics::read(
            "# HELP outbox_depth Events\n# TYPE outbox_depth gauge\noutbox_depth 12\n\
             consumer_lag{a=\"x\\\"y\\n\",otel_scope_name=\"}\"} 3 1700000000\n\
             consumer_lag{a=\"b\"} 1e3\nnonsense{a=\nother\n",
        );
        assert_eq!(metrics.largest("outbox_depth"), Some(12.0));
        assert_eq!(metrics.largest("outbox_age_seconds"), None);
        let lags: Vec<_> = metrics.samples("consumer_lag").collect();
        assert_eq!((lags.len(), lags[0].value, lags[1].value), (2, 3.0, 1000.0));
        assert_eq!(lags[0].label("a"), Some("x\"y\n"));
        assert_eq!(lags[0].label("otel_scope_name"), Some("}"));
        assert_eq!(lags[0].label("b"), None);
    }
}
