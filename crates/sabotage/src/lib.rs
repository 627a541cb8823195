#![doc = include_str!("../README.md")]

/// Aborts the process (as after `kill -9`: nothing is flushed, dropped or logged) if `SABOTAGE_DIE`
/// names this place: `SABOTAGE_DIE=<place>` at the first arrival, `SABOTAGE_DIE=<place>:<n>` at the
/// n-th.
#[inline]
pub fn may_die(place: &str) {
    #[cfg(feature = "on")]
    on::may_die(place);
    #[cfg(not(feature = "on"))]
    let _ = place;
}

/// Aborts the process in the same way, on every arrival, if `SABOTAGE_DIE_ON=<event id>` names this
/// event.
#[inline]
pub fn may_die_on(event_id: &str) {
    #[cfg(feature = "on")]
    on::may_die_on(event_id);
    #[cfg(not(feature = "on"))]
    let _ = event_id;
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
}
