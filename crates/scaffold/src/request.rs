use std::collections::BTreeMap;

use crate::{Consumer, Error, Kind, NewEvent};

/// A request, as `make` passes it.
#[derive(Clone, Debug)]
pub enum Request {
    /// `consumer`
    Consumer(Consumer),
    /// `event`
    Event(NewEvent),
}

/// A command, with its required and optional variables.
struct Usage {
    text: &'static str,
    needed: &'static [&'static str],
    optional: &'static [&'static str],
}

const CONSUMER: Usage = Usage {
    text: "make new-consumer NAME=order_values EVENT=order.completed SERVICE=analytics [KIND=row|sum]",
    needed: &["NAME", "EVENT", "SERVICE"],
    optional: &["KIND"],
};
const EVENT: Usage = Usage {
    text: "make new-event EVENT=order.shipped SERVICE=order",
    needed: &["EVENT", "SERVICE"],
    optional: &[],
};

/// Reads the arguments: `consumer` or `event`, and variables of the form `NAME=..`. An empty
/// variable counts as missing.
///
/// # Errors
/// [`Error::Usage`] if a variable is missing, unknown or not of that form.
pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Request, Error> {
    match arguments.next().as_deref() {
        Some("consumer") => {
            let mut values = variables(&CONSUMER, arguments)?;
            let mut take = |name| values.remove(name).unwrap_or_default();
            let kind = match &*take("KIND") {
                "" | "row" => Kind::Row,
                "sum" => Kind::Sum,
                other => {
                    let why = format!("KIND={other} is no kind; there are row and sum");
                    return Err(Error::Usage(why));
                }
            };
            let (name, event, service) = (take("NAME"), take("EVENT"), take("SERVICE"));
            Ok(Request::Consumer(Consumer { name, event, service, kind }))
        }
        Some("event") => {
            let mut values = variables(&EVENT, arguments)?;
            let mut take = |name| values.remove(name).unwrap_or_default();
            Ok(Request::Event(NewEvent { event: take("EVENT"), service: take("SERVICE") }))
        }
        _ => Err(Error::Usage(format!("{}\n{}", CONSUMER.text, EVENT.text))),
    }
}

/// Returns the variables that are not empty.
fn variables(
    usage: &Usage,
    arguments: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut values = BTreeMap::new();
    for argument in arguments {
        let known = |it: &str| usage.needed.contains(&it) || usage.optional.contains(&it);
        let Some((name, value)) = argument.split_once('=').filter(|(name, _)| known(name)) else {
            let why = format!("{argument} is no variable of this command: {}", usage.text);
            return Err(Error::Usage(why));
        };
        if !value.is_empty() {
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    let missing = usage.needed.iter().filter(|it| !values.contains_key(**it));
    match &*missing.copied().collect::<Vec<_>>() {
        [] => Ok(values),
        [name] => Err(Error::Usage(format!("{name} is missing: {}", usage.text))),
        names => Err(Error::Usage(format!("{} are missing: {}", names.join(", "), usage.text))),
    }
}
