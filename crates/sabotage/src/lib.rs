//! Where the fault suite may strike: places and messages at which the process can be made to die, and bugs that can be
//! seeded to see that the suite finds them. Without the feature `on` all functions are empty, and nothing of them is in a
//! program.

/// Dies here without a last word (as after `kill -9`: nothing is flushed, dropped or said) if `SABOTAGE_DIE` names
/// this place: `SABOTAGE_DIE=<place>` at the first arrival, `SABOTAGE_DIE=<place>:<n>` at the n-th.
#[inline]
pub fn may_die(place: &str) {
    #[cfg(feature = "on")]
    on::may_die(place);
    #[cfg(not(feature = "on"))]
    let _ = place;
}

/// Dies here, in the same way and each time anew, if this is the event that `SABOTAGE_DIE_ON=<event id>` names.
#[inline]
pub fn may_die_on(event_id: &str) {
    #[cfg(feature = "on")]
    on::may_die_on(event_id);
    #[cfg(not(feature = "on"))]
    let _ = event_id;
}

/// Whether the bug of this name is seeded: `SABOTAGE_BUG=<name>`.
#[inline]
pub fn seeded(bug: &str) -> bool {
    #[cfg(feature = "on")]
    return on::seeded(bug);
    #[cfg(not(feature = "on"))]
    {
        let _ = bug;
        false
    }
}

/// Whether any bug is seeded: paths that do not have it are not to be taken then.
#[inline]
pub fn any_seeded() -> bool {
    #[cfg(feature = "on")]
    return on::any_seeded();
    #[cfg(not(feature = "on"))]
    false
}

/// The service's database (`DATABASE_URL`) if the bug of this name is seeded: for what is to be written past the
/// transaction that it belongs in.
#[inline]
pub fn database_past_transaction(bug: &str) -> Option<String> {
    #[cfg(feature = "on")]
    return on::seeded(bug).then(|| std::env::var("DATABASE_URL").ok()).flatten();
    #[cfg(not(feature = "on"))]
    {
        let _ = bug;
        None
    }
}

#[cfg(feature = "on")]
mod on {
    use std::env;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Death {
        place: String,
        arrivals_left: AtomicU64,
    }

    static DEATH: LazyLock<Option<Death>> = LazyLock::new(|| {
        let text = env::var("SABOTAGE_DIE").ok()?;
        let (place, nth) = text.split_once(':').unwrap_or((&text, "1"));
        let arrivals_left = AtomicU64::new(nth.parse().ok()?);
        Some(Death { place: place.to_owned(), arrivals_left })
    });
    static DEADLY_EVENT: LazyLock<Option<String>> =
        LazyLock::new(|| env::var("SABOTAGE_DIE_ON").ok());
    static BUG: LazyLock<Option<String>> = LazyLock::new(|| env::var("SABOTAGE_BUG").ok());

    pub(crate) fn may_die(place: &str) {
        let Some(death) = DEATH.as_ref().filter(|death| death.place == place) else { return };
        if death.arrivals_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }

    pub(crate) fn may_die_on(event_id: &str) {
        if DEADLY_EVENT.as_deref() == Some(event_id) {
            std::process::abort();
        }
    }

    pub(crate) fn any_seeded() -> bool {
        BUG.is_some()
    }

    pub(crate) fn seeded(bug: &str) -> bool {
        BUG.as_deref() == Some(bug)
    }
}
