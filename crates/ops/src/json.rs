//! JSON output.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use crate::client::Merged;
use crate::error::Error;
use crate::{client, output::Output};

/// Prints one document.
pub(crate) fn print(out: &mut impl Write, document: &impl Serialize) -> Result<(), Error> {
    writeln!(out, "{}", text(document)?)?;
    Ok(())
}

fn text(document: &impl Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string(document).map_err(std::io::Error::from)?)
}

/// A list that is printed as one document while it is read, one item per line.
pub(crate) struct Document {
    printed: usize,
}

impl Document {
    /// Begins the document. `plural` is the member with the items.
    pub(crate) fn begin(out: &mut impl Write, plural: &str) -> Result<Self, Error> {
        write!(out, "{{\"{plural}\":[")?;
        Ok(Self { printed: 0 })
    }

    pub(crate) fn item(&mut self, out: &mut impl Write, item: &Value) -> Result<(), Error> {
        write!(out, "{}\n{}", if self.printed == 0 { "" } else { "," }, text(item)?)?;
        self.printed += 1;
        Ok(())
    }

    /// Ends the document. `is_complete` is false if there are more items, or a service did not
    /// answer. `next_cursor` is the service's cursor, and null if several lists were merged.
    /// Returns the number of printed items.
    pub(crate) fn end(
        self,
        out: &mut impl Write,
        next_cursor: Option<&str>,
        is_complete: bool,
    ) -> Result<usize, Error> {
        let cursor = next_cursor.map_or(Value::Null, Into::into);
        writeln!(out, "\n],\"next_cursor\":{cursor},\"is_complete\":{is_complete}}}")?;
        Ok(self.printed)
    }
}

/// Prints up to `limit` items of a list. Returns how many were printed.
pub(crate) async fn list<W: Write, T: client::Listed>(
    out: &mut Output<W>,
    plural: &str,
    list: &mut Merged<T>,
    limit: usize,
) -> Result<usize, Error> {
    let mut document = Document::begin(out, plural)?;
    while document.printed < limit {
        // The document is completed even if its reader is gone, so that it is never cut off.
        if out.is_closed() {
            return Ok(document.printed);
        }
        let Some(item) = list.next().await? else { break };
        document.item(out, &item.json)?;
    }
    let is_complete = list.is_at_end() && list.unavailable.is_empty();
    document.end(out, list.cursor(), is_complete)
}
