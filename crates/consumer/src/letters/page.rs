use super::LettersError;

/// Maximum number of items of a page.
const MAX: u32 = 1_000;

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// Items of this page.
    pub items: Vec<T>,
    /// Cursor of the next page. `None` on the last page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Creates a page from up to `limit + 1` items. A surplus item means that there is another
    /// page, which begins after the last item of this one.
    pub(super) fn of(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let is_last = items.len() <= limit;
        items.truncate(limit);
        let next_cursor = if is_last { None } else { items.last().map(cursor) };
        Self { items, next_cursor }
    }
}

/// Returns how many items a page may hold.
pub(super) fn limit(asked: u32) -> Result<i64, LettersError> {
    if asked == 0 || asked > MAX {
        return Err(LettersError::Unprocessable(format!("limit must be 1 to {MAX}")));
    }
    Ok(i64::from(asked))
}

/// Reads a cursor that is a number; without one, the list begins at its end.
pub(super) fn before(cursor: Option<&str>) -> Result<i64, LettersError> {
    cursor.map_or(Ok(i64::MAX), |it| it.parse().map_err(|_| malformed()))
}

pub(super) fn malformed() -> LettersError {
    LettersError::Unprocessable("cursor must be the next_cursor of the previous page".to_owned())
}
