use crate::Error;

/// Reasons for which a request is refused, so that all are reported at once.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Vec<String>);

impl Refusals {
    /// Adds the reason, if there is one. Returns whether there was none.
    pub(crate) fn add(&mut self, why: Option<String>) -> bool {
        let is_fine = why.is_none();
        self.0.extend(why);
        is_fine
    }

    /// Takes the value of a check, or adds the reason for which it was refused.
    ///
    /// # Errors
    /// The error of the check, if it is not a refusal.
    pub(crate) fn take<T>(&mut self, checked: Result<T, Error>) -> Result<Option<T>, Error> {
        match checked {
            Ok(value) => Ok(Some(value)),
            Err(Error::Refused(why)) => {
                self.0.push(why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the error with all reasons, a line each.
    pub(crate) fn into_error(self) -> Error {
        Error::Refused(self.0.join("\n"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
