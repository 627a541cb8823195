use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Token;

/// How long a session is served before the services are asked for its operator again. So long a
/// token that was removed from the services still shows pages.
const LASTS: Duration = Duration::from_mins(1);

/// The tokens of sessions that the services have confirmed, with the time. It has at most one entry
/// for each operator, since only a service's confirmation starts a session.
#[derive(Default)]
pub(super) struct Confirmed(Mutex<HashMap<String, Instant>>);

impl Confirmed {
    pub(super) fn add(&self, token: &Token, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| is_recent(*at, now));
        all.insert(token.0.clone(), now);
    }

    pub(super) fn has(&self, token: &Token, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&token.0).is_some_and(|at| is_recent(*at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < LASTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_lasts_for_a_minute() {
        let (confirmed, now) = (Confirmed::default(), Instant::now());
        let ada = Token("ada".into());
        assert!(!confirmed.has(&ada, now));
        confirmed.add(&ada, now);
        assert!(confirmed.has(&ada, now + Duration::from_secs(59)));
        assert!(!confirmed.has(&ada, now + LASTS));
        assert!(!confirmed.has(&Token("grace".into()), now));
    }
}
