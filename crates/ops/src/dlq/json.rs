//! Output for machines.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use crate::client::Merged;
use crate::error::Error;
use crate::{client, output::Output};

/// Prints one document.
pub(super) fn print(out: &mut impl Write, document: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(document).map_err(std::io::Error::from)?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Prints a list as one document while it is read, an item a line.
///
/// `is_complete` is false if there is more, or a service did not answer. `next_cursor` is the service's, and null if
/// several lists were merged. Returns how many items were printed.
pub(super) async fn list<W: Write, T: client::Listed>(
    out: &mut Output<W>,
    plural: &str,
    list: &mut Merged<T>,
    limit: usize,
) -> Result<usize, Error> {
    write!(out, "{{\"{plural}\":[")?;
    let mut shown = 0;
    while shown < limit {
        // A document that is cut off is no document: it ends all the same if its reader is gone.
        if out.is_closed() {
            return Ok(shown);
        }
        let Some(item) = list.next().await? else { break };
        let item = serde_json::to_string(&item.json).map_err(std::io::Error::from)?;
        write!(out, "{}\n{item}", if shown == 0 { "" } else { "," })?;
        shown += 1;
    }
    let cursor = list.cursor().map_or(Value::Null, Into::into);
    let is_complete = list.is_at_end() && list.unavailable.is_empty();
    writeln!(out, "\n],\"next_cursor\":{cursor},\"is_complete\":{is_complete}}}")?;
    Ok(shown)
}
