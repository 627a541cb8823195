//! Parses enough of `PromQL` to find the metrics of an expression.

use std::collections::BTreeSet;

/// Keywords that are not functions.
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
/// Keywords before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Returns the names of the metrics in an expression.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let mut metrics = BTreeSet::new();
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => rest = after(rest, '}'),
            '[' => rest = after(rest, ']'),
            '"' => rest = after(&rest[1..], '"'),
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
                let (word, next) = rest.split_at(end.unwrap_or(rest.len()));
                let next = next.trim_start();
                // Matches `sum (..)` and `sum by (..) (..)`.
                let is_call = ["(", "by ", "without "].iter().any(|it| next.starts_with(it));
                rest = if BEFORE_LABELS.contains(&word) && next.starts_with('(') {
                    after(next, ')')
                } else {
                    next
                };
                if WORDS.contains(&word) || BEFORE_LABELS.contains(&word) || is_call {
                    continue;
                }
                metrics.insert(word.to_owned());
            }
            // A number with its unit.
            c if c.is_ascii_digit() => {
                let is_number = |c: char| c.is_ascii_alphanumeric() || c == '.';
                rest = rest.trim_start_matches(is_number);
            }
            c => rest = &rest[c.len_utf8()..],
        }
    }
    metrics
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    let found = metrics(
        r#"sum by (a, b) (rate(x_total{l="y_total"}[5m])) * on (c) group_left (d) info > 1e3
           and 0.5 < orderflow:late:ratio1h unless y offset 5m or label_replace(z, "e", "$1", "f", "(.*)")"#,
    );
    let expected = ["info", "orderflow:late:ratio1h", "x_total", "y", "z"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
