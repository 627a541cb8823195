//! Samples of a service's `/metrics`, in Prometheus' text format 0.0.4.

use std::collections::BTreeMap;

/// A sample.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    /// Returns the value of a label, empty if there is none of that name.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Returns the samples with one of these names. Lines that can't be read are skipped.
pub(crate) fn samples(text: &str, names: &[&str]) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample).filter(|it| names.contains(&&*it.name)).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads `name="value",..}`, and returns what follows.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// Reads up to the closing quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_by_name_with_their_labels() {
        let text = "# TYPE a counter\na_total{g=\"b\\\"\\\\\\n,}\",otel=\"x\"} 3 1700000000\na_total 4\n\
                    outbox_age_seconds 1.5e0\nbroken{x\nb 1\n";
        let found = samples(text, &["a_total", "outbox_age_seconds"]);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].label("g"), found[0].label("none"), found[0].value),
            ("b\"\\\n,}", "", 3.0)
        );
        assert_eq!(found[2].value, 1.5);
    }
}
