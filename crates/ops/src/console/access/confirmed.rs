use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Token;

/// How long a session is served before the services are asked for its operator again. So long a
/// token that was removed from the services still shows pages.
const LASTS: Duration = Duration::from_mins(1);

/// The tokens of sessions, with the services that know them. It has at most one entry for each
/// operator, since only a service's confirmation starts a session.
#[derive(Default)]
pub(super) struct Confirmed(Mutex<HashMap<String, Confirmation>>);

struct Confirmation {
    at: Instant,
    known_by: BTreeSet<String>,
}

impl Confirmed {
    /// Records that services have confirmed a token.
    pub(super) fn add(&self, token: &Token, known_by: BTreeSet<String>, now: Instant) {
        self.entries().insert(token.0.clone(), Confirmation { at: now, known_by });
    }

    /// Confirms a token without the services that know it, because they do not answer.
    pub(super) fn extend(&self, token: &Token, now: Instant) {
        let known_by = self.known_by(token);
        self.add(token, known_by, now);
    }

    pub(super) fn has(&self, token: &Token, now: Instant) -> bool {
        let is_recent = |it: &Confirmation| now.saturating_duration_since(it.at) < LASTS;
        self.entries().get(&token.0).is_some_and(is_recent)
    }

    /// Returns the services that confirmed a token when they were last asked.
    pub(super) fn known_by(&self, token: &Token) -> BTreeSet<String> {
        self.entries().get(&token.0).map(|it| it.known_by.clone()).unwrap_or_default()
    }

    pub(super) fn remove(&self, token: &Token) {
        self.entries().remove(&token.0);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Confirmation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_lasts_for_a_minute() {
        let (confirmed, now) = (Confirmed::default(), Instant::now());
        let ada = Token("ada".into());
        assert!(!confirmed.has(&ada, now));
        confirmed.add(&ada, ["billing".to_owned()].into(), now);
        assert!(confirmed.has(&ada, now + Duration::from_secs(59)));
        assert!(!confirmed.has(&ada, now + LASTS));
        assert!(!confirmed.has(&Token("grace".into()), now));
        confirmed.extend(&ada, now + LASTS);
        assert!(confirmed.has(&ada, now + LASTS));
        assert_eq!(confirmed.known_by(&ada), ["billing".to_owned()].into());
    }
}
