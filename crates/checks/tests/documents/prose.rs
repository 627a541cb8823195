//! The width of prose in documents.

use crate::Finding;
use crate::document::Document;

/// Maximum length of a line.
const MAX_COLUMNS: usize = 120;

/// Returns the lines of a document that are too long, except for tables, code, and lines with a
/// link or an image, which can't be wrapped.
pub(crate) fn too_long(document: &Document, text: &str) -> Vec<Finding> {
    let long = (1..).zip(text.lines()).filter(|(number, line)| {
        let is_code = document.code.iter().any(|(of_code, _)| of_code == number);
        let is_table = line.trim_start().starts_with('|');
        let is_free = is_table || ["://", "](", "<img "].iter().any(|it| line.contains(it));
        line.chars().count() > MAX_COLUMNS && !is_code && !is_free
    });
    let what = |line: &str| {
        let columns = line.chars().count();
        format!("the line has {columns} columns, more than {MAX_COLUMNS}")
    };
    long.map(|(number, line)| document.finding(number, what(line))).collect()
}
