use std::collections::BTreeMap;

use crate::{Consumer, Error, Kind};

/// How `make` calls it.
pub const USAGE: &str =
    "make new-consumer NAME=order_values EVENT=order.completed SERVICE=analytics [KIND=row|sum]";

/// The variables, and whether one must be set.
const VARIABLES: [(&str, bool); 4] =
    [("NAME", true), ("EVENT", true), ("SERVICE", true), ("KIND", false)];

/// Reads the arguments `NAME=..`, `EVENT=..`, `SERVICE=..` and `KIND=..`, of which one that is empty counts as missing.
///
/// # Errors
/// [`Error::Usage`] if one is missing, unknown or not of that form.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<Consumer, Error> {
    let mut values = BTreeMap::new();
    for argument in arguments {
        let known = argument.split_once('=');
        let Some((name, value)) =
            known.filter(|(it, _)| VARIABLES.iter().any(|(name, _)| name == it))
        else {
            return Err(Error::Usage(format!(
                "{argument} is no variable of this command: {USAGE}"
            )));
        };
        if !value.is_empty() {
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some((name, _)) =
        VARIABLES.iter().find(|(it, needed)| *needed && !values.contains_key(*it))
    {
        return Err(Error::Usage(format!("{name} is missing: {USAGE}")));
    }
    let mut take = |name| values.remove(name).unwrap_or_default();
    let kind = match &*take("KIND") {
        "" | "row" => Kind::Row,
        "sum" => Kind::Sum,
        other => {
            return Err(Error::Usage(format!("KIND={other} is no kind; there are row and sum")));
        }
    };
    Ok(Consumer { name: take("NAME"), event: take("EVENT"), service: take("SERVICE"), kind })
}
