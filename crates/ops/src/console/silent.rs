use crate::error::{Error, with_cause};

/// A service that did not answer, so that its data is missing on the page.
pub(crate) struct Silent {
    pub(crate) service: String,
    pub(crate) why: String,
    pub(crate) advice: Option<String>,
}

impl Silent {
    pub(crate) fn of(unavailable: &[(String, Error)]) -> Vec<Self> {
        let silent = unavailable.iter().map(|(service, error)| Self {
            service: service.clone(),
            why: with_cause(error),
            advice: error.advice(),
        });
        silent.collect()
    }
}
