use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use telemetry::FlowStep;

/// Maximum length of a key, in bytes: GIN keys are limited to a third of a page.
const MAX_KEY: usize = 512;

/// Returns the key of an id: cut to the maximum length, without line breaks and NUL.
pub(super) fn key(id: &str) -> Cow<'_, str> {
    let id = &id[..id.floor_char_boundary(MAX_KEY)];
    // Keys are sent separated by line breaks, and Postgres can't store NUL in a text.
    if id.contains(['\n', '\0']) {
        Cow::Owned(id.replace(['\n', '\0'], "\u{fffd}"))
    } else {
        Cow::Borrowed(id)
    }
}

/// Steps by flow, as columns of an insert.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    pub(super) correlation_ids: Vec<Cow<'a, str>>,
    /// Separated by line breaks.
    pub(super) keys: Vec<String>,
    /// Separated by commas.
    pub(super) steps: Vec<String>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(steps: &'a [FlowStep]) -> Self {
        let mut rows = Self::default();
        let mut known = HashMap::new();
        for step in steps {
            let row = match known.entry(step.correlation_id.as_str()) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => *entry.insert(rows.begin(&step.correlation_id)),
            };
            rows.add(row, step);
        }
        rows
    }

    fn begin(&mut self, correlation_id: &'a str) -> usize {
        let id = key(correlation_id);
        // Most flows have two more keys, about as long.
        let mut keys = String::with_capacity(3 * (id.len() + 1));
        keys.push_str(&id);
        self.keys.push(keys);
        self.correlation_ids.push(id);
        self.steps.push(String::new());
        self.steps.len() - 1
    }

    fn add(&mut self, row: usize, step: &FlowStep) {
        let keys = &mut self.keys[row];
        for id in [&step.event_id, &step.subject].into_iter().flatten() {
            let id = key(id);
            if !id.is_empty() && !keys.split('\n').any(|known| known == id) {
                keys.push('\n');
                keys.push_str(&id);
            }
        }
        let steps = &mut self.steps[row];
        if !steps.is_empty() {
            steps.push(',');
        }
        steps.push_str(&step.json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(flow: &str, event: Option<&str>, json: &str) -> FlowStep {
        FlowStep {
            correlation_id: flow.to_owned(),
            event_id: event.map(str::to_owned),
            subject: Some("order-1".to_owned()),
            json: json.to_owned(),
        }
    }

    #[test]
    fn a_flow_is_one_row_with_each_key_once() {
        let steps = [step("a", Some("e"), "1"), step("b", None, "2"), step("a", Some("e"), "3")];
        let rows = Rows::of(&steps);
        assert_eq!(rows.correlation_ids, ["a", "b"]);
        assert_eq!(rows.keys, ["a\ne\norder-1", "b\norder-1"]);
        assert_eq!(rows.steps, ["1,3", "2"]);
    }

    #[test]
    fn a_key_is_one_that_postgres_can_index() {
        let steps = [step("a\0b", Some("two\nlines"), "1")];
        assert_eq!(Rows::of(&steps).keys, ["a\u{fffd}b\ntwo\u{fffd}lines\norder-1"]);
        assert_eq!(key(&"é".repeat(MAX_KEY)).len(), MAX_KEY);
    }
}
