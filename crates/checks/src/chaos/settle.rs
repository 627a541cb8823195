//! Waits until all events are processed.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::Error;
use super::letters::{self, ADA};
use super::scene::Scene;
use super::topics::{self, Offsets};

/// Maximum time to catch up after the fault is healed.
pub(crate) const HEAL: Duration = Duration::from_secs(30);
/// Additional time before the books are read, so that late effects are not taken for lost ones.
const LATE: Duration = Duration::from_secs(30);

/// Time limit of notification's jobs: longer than the wait before a second retry.
const SENDING: Duration = Duration::from_secs(90);
/// How long to look at more jobs than [`BACKLOG`], and how recently one of them must have ended.
/// Jobs that are still processed then are not lost.
const SENDING_BACKLOG: Duration = Duration::from_secs(20);
const BACKLOG: i64 = 1_000;
/// Maximum time until the next job ends: longer than the lease of a job whose worker died, and than
/// the wait before a second retry.
const NEXT_JOB: Duration = Duration::from_secs(75);

/// Waits until no event waits in an outbox and billing has no lag. Returns the time since the fault
/// was healed, or `None` if that did not happen in time.
pub(crate) async fn caught_up(scene: &Scene) -> Option<Duration> {
    let healed = scene.healed_at();
    while healed.elapsed() < HEAL + LATE {
        if is_quiet(scene).await.unwrap_or(false) {
            return Some(healed.elapsed());
        }
        sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Waits until the groups of notification and analytics have no lag, with the same time limit from
/// `since` on. Returns what they have not read then.
pub(crate) async fn others_behind(scene: &Scene, since: Instant) -> Vec<String> {
    loop {
        let behind = topics::lags_of_others(&scene.system.kafka());
        let behind = behind.unwrap_or_else(|error| vec![format!("the lag is unknown: {error}")]);
        if behind.is_empty() || since.elapsed() >= HEAL + LATE {
            return behind;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until every dead letter of billing has its copy, with the same time limit.
pub(crate) async fn letters_copied(scene: &Scene) {
    let healed = scene.healed_at();
    while healed.elapsed() < HEAL + LATE && letters_to_copy(scene).await.unwrap_or(1) > 0 {
        sleep(Duration::from_millis(200)).await;
    }
}

async fn letters_to_copy(scene: &Scene) -> Result<i64, Error> {
    let mut billing = scene.system.database("billing").await?;
    let left = sqlx::query_scalar("select count(*) from dead_letter where copied_at is null");
    Ok(left.fetch_one(&mut billing).await?)
}

/// Waits until notification has no unfinished job. Returns the number of unfinished jobs if few are
/// left at the end of the time, or if none of them has ended for a while.
pub(crate) async fn stuck_sends(scene: &Scene) -> Option<i64> {
    let mut sending = Sending::new(jobs_left(scene).await.unwrap_or(i64::MAX), Instant::now());
    loop {
        match sending.state(Instant::now()) {
            SendingState::Going => {}
            SendingState::Sound => return None,
            SendingState::Stuck => return Some(sending.fewest),
        }
        sleep(Duration::from_millis(200)).await;
        if let Ok(left) = jobs_left(scene).await {
            sending.saw(left, Instant::now());
        }
    }
}

/// How many jobs were left, and since when.
#[derive(Debug)]
struct Sending {
    began: Instant,
    fewest: i64,
    /// When the number last became smaller.
    since: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum SendingState {
    /// It is too early to tell.
    Going,
    /// There are no jobs left, or a backlog becomes smaller.
    Sound,
    Stuck,
}

impl Sending {
    fn new(left: i64, now: Instant) -> Self {
        Self { began: now, fewest: left, since: now }
    }

    fn saw(&mut self, left: i64, now: Instant) {
        if left < self.fewest {
            (self.fewest, self.since) = (left, now);
        }
    }

    fn state(&self, now: Instant) -> SendingState {
        let (waited, idle) = (now - self.began, now - self.since);
        if self.fewest == 0 {
            SendingState::Sound
        } else if idle >= NEXT_JOB {
            SendingState::Stuck
        } else if self.fewest <= BACKLOG {
            if waited >= SENDING { SendingState::Stuck } else { SendingState::Going }
        } else if waited >= SENDING_BACKLOG && idle < SENDING_BACKLOG {
            SendingState::Sound
        } else {
            SendingState::Going
        }
    }
}

/// Returns the number of e-mails and webhooks that are to be sent, without failed ones.
async fn jobs_left(scene: &Scene) -> Result<i64, Error> {
    let mut database = scene.system.database("notification").await?;
    let left = sqlx::query_scalar("select count(*) from job where failed_at is null");
    Ok(left.fetch_one(&mut database).await?)
}

/// Returns `true` if billing has processed what was on its topics when they had these
/// [ends](topics::ends_for_billing). Its lag would not show that, since orders arrive all the time.
pub(crate) fn billing_has_reached(scene: &Scene, ends: &Offsets) -> bool {
    topics::progress(&scene.system.kafka()).is_ok_and(|progress| {
        ends.iter().all(|(partition, end)| progress.committed.get(partition) >= Some(end))
    })
}

/// Checks the outbox first: an event that leaves it later is part of the lag by then.
async fn is_quiet(scene: &Scene) -> Result<bool, Error> {
    Ok(waiting(scene, "order").await? == 0
        && topics::progress(&scene.system.kafka())?.lag == 0
        && topics::lag(&scene.system.kafka(), topics::CREDITS, "order.cancelled")? == 0
        && waiting(scene, "billing").await? == 0)
}

/// Returns the number of events that wait in the outbox of a service.
pub(crate) async fn waiting(scene: &Scene, service: &str) -> Result<i64, Error> {
    let mut database = scene.system.database(service).await?;
    Ok(sqlx::query_scalar("select count(*) from outbox").fetch_one(&mut database).await?)
}

/// Replays every dead letter of billing, as an operator does, and waits until that is done.
pub(crate) async fn replay(scene: &Scene) -> Result<(), Error> {
    let all = json!({ "group": "billing", "filter": {}, "why": "healed" });
    // There may be no dead letters.
    if let Some(replay) = letters::request(&scene.billing, ADA, &all).await? {
        letters::ended(&scene.billing, &replay).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_backlog_is_sound_only_if_it_becomes_smaller() {
        let began = Instant::now();
        let mut sending = Sending::new(5_000, began);
        assert_eq!(sending.state(began + SENDING_BACKLOG), SendingState::Going);
        assert_eq!(sending.state(began + NEXT_JOB), SendingState::Stuck);
        sending.saw(5_100, began + 30 * SECOND);
        assert_eq!(
            sending.state(began + NEXT_JOB),
            SendingState::Stuck,
            "there are more than before"
        );
        sending.saw(4_999, began + 60 * SECOND);
        assert_eq!(sending.state(began + 61 * SECOND), SendingState::Sound);
    }

    #[test]
    fn few_jobs_have_to_end() {
        let began = Instant::now();
        let mut sending = Sending::new(5_000, began);
        sending.saw(BACKLOG, began + SECOND);
        assert_eq!(sending.state(began + 60 * SECOND), SendingState::Going);
        sending.saw(1, began + 80 * SECOND);
        assert_eq!(sending.state(began + SENDING), SendingState::Stuck);
        sending.saw(0, began + SENDING);
        assert_eq!(sending.state(began + SENDING), SendingState::Sound);
    }
}
