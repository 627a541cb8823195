//! Details for operators only. Errors quote mail servers, webhooks and payloads, so that they may
//! name a customer.

use serde_json::{Map, Value};

/// Replaces a text that only an operator may see.
const CONCEALED: &str = "(the operator's token shows it)";

/// Conceals texts, where there are any.
pub(super) fn conceal<'a>(texts: impl IntoIterator<Item = &'a mut String>) {
    texts.into_iter().for_each(|text| CONCEALED.clone_into(text));
}

/// Conceals the error of a step of a flow, and those of its attempts.
pub(super) fn conceal_step(step: &mut Map<String, Value>) {
    conceal_error(step);
    let attempts = step.get_mut("attempts").and_then(Value::as_array_mut);
    attempts.into_iter().flatten().filter_map(Value::as_object_mut).for_each(conceal_error);
}

fn conceal_error(object: &mut Map<String, Value>) {
    if let Some(error) = object.get_mut("error") {
        *error = CONCEALED.into();
    }
}
