use super::{Reached, Session, SessionError, unless_locked, within};
use crate::scan;

impl Session<'_> {
    /// Deletes published rows.
    pub(super) async fn delete(&mut self) -> Result<(), SessionError> {
        if !self.published.is_empty() {
            let deleted = within(scan::delete(self.shards.session(), &self.published)).await;
            match unless_locked(deleted)? {
                Some(()) => self.deleted(),
                None => self.put_off_deletes(),
            }
        }
        Ok(())
    }

    pub(super) fn deleted(&mut self) {
        if !self.published.is_empty() {
            self.reached = Reached::Deleted;
        }
        self.published.clear();
        self.published_since = None;
    }

    /// Postpones the deletion of published rows, because another session has locked one of them or
    /// the table.
    pub(super) fn put_off_deletes(&mut self) {
        self.locked.append(&mut self.published);
        self.published_since = None;
    }

    /// Deletes postponed rows, except for those that are still locked.
    pub(super) async fn delete_locked(&mut self) -> Result<(), SessionError> {
        if !self.locked.is_empty() {
            let deleted = scan::delete_unlocked(self.shards.session(), &self.locked);
            if let Some(left) = unless_locked(within(deleted).await)? {
                if left.len() < self.locked.len() {
                    self.reached = Reached::Deleted;
                }
                self.locked = left;
            }
        }
        Ok(())
    }
}
