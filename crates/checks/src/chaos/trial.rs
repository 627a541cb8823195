//! One trial of a fault, from the start of its servers to the check of its books.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Error;
use super::books::Books;
use super::faults::Fault;
use super::instance::{DRAIN, Instance};
use super::invariants;
use super::releases::Releases;
use super::report::Row;
use super::scene::Scene;
use super::sends;
use super::settle::{self, HEAL};
use super::system::{Setup, System};

/// Time limit of a trial, so that the suite does not hang on one.
const LIMIT: Duration = Duration::from_mins(10);

/// A fault to be applied.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) fault: &'a Fault,
    pub(crate) programs: &'a Path,
    /// Folder of the earlier release, for faults that run it.
    pub(crate) baseline: &'a Path,
}

impl Trial<'_> {
    /// Runs the trial. An error of the trial itself is returned as a red row.
    pub(crate) async fn run(&self) -> Row {
        let mut row = Row { fault: self.fault.name, ..Row::default() };
        // Not part of the trial's time, since the first build takes minutes.
        let releases = match self.releases().await {
            Ok(releases) => releases,
            Err(error) => {
                row.enter("trial_completed", &[error.to_string()]);
                return row;
            }
        };
        let began = Instant::now();
        let trial = Box::pin(self.try_to_run(&mut row, releases));
        let failed = match tokio::time::timeout(LIMIT, trial).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it did not end within {LIMIT:?}")),
        };
        row.enter("trial_completed", failed.as_slice());
        row.took_seconds = began.elapsed().as_secs();
        row
    }

    async fn releases(&self) -> Result<Option<Releases>, Error> {
        match self.fault.setup {
            Setup::TwoReleases => Ok(Some(Releases::build(self.baseline, self.programs).await?)),
            _ => Ok(None),
        }
    }

    async fn try_to_run(&self, row: &mut Row, releases: Option<Releases>) -> Result<(), Error> {
        let system = System::start(self.programs, self.fault.setup, releases).await?;
        let mut scene = Scene::set(system, self.fault).await?;
        let struck = (self.fault.apply)(&mut scene).await;
        let mut placed = scene.load.stop().await;
        placed.extend(&scene.written);
        row.orders = placed.len();
        row.enter("no_request_failed", &scene.load.failed());
        match struck {
            Ok(how) => {
                row.struck = how;
                row.enter("struck", &[]);
            }
            Err(error) => row.enter("struck", &[error.to_string()]),
        }
        wait_for_recovery(&scene, row).await?;
        let books = Books::open(&scene).await?;
        let of_books = invariants::check(&books, &placed, &scene);
        let of_sends = sends::check(&books, self.fault.resends);
        for (name, objections) in of_books.into_iter().chain(of_sends) {
            row.enter(name, &objections);
        }
        row.resent = sends::resent(&books);
        row.duplicates = duplicates(&mut scene, books.published_again()).await;
        end(scene, row).await;
        Ok(())
    }
}

/// Waits for the lag to disappear, and replays letters of sound records.
async fn wait_for_recovery(scene: &Scene, row: &mut Row) -> Result<(), Error> {
    let healed = settle::caught_up(scene).await;
    row.heal_seconds = healed.map(|took| took.as_secs_f64());
    let objection = match healed {
        Some(took) if took <= HEAL => None,
        Some(took) => Some(format!("it took {took:.1?}")),
        None => Some("the lag never disappeared".into()),
    };
    row.enter("lag_gone_within_30_s", objection.as_slice());
    let mut since = scene.healed_at();
    if scene.dead_by_chance {
        settle::replay(scene).await?;
        settle::caught_up(scene).await;
        // A replay publishes, too.
        since = Instant::now();
    }
    row.enter("others_caught_up", &settle::others_behind(scene, since).await);
    settle::letters_copied(scene).await;
    let stuck = settle::stuck_sends(scene).await;
    let stuck = stuck.map(|left| format!("{left} jobs of notification are left and none ends"));
    row.enter("sends_caught_up", stuck.as_slice());
    Ok(())
}

/// Returns the number of duplicates that billing counted, but at least the number of events that
/// were published again.
async fn duplicates(scene: &mut Scene, published_again: usize) -> usize {
    let mut counted = 0.0;
    for instance in scene.instances() {
        counted += instance.metric("consumer_settled_total", "duplicate").await;
    }
    // The metric is a count, so it is a whole number and not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let counted = counted as usize;
    counted.max(published_again)
}

/// Copies the logs of servers and services, whose folders are removed, after a red trial.
fn keep_logs(scene: &Scene, row: &mut Row) {
    let folder = std::env::temp_dir().join("chaos-logs").join(row.fault);
    let services = [&scene.order, &scene.billing, &scene.notification, &scene.analytics];
    let logs = services.into_iter().map(Instance::log).chain(scene.system.servers.kafka.logs());
    let keep = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        for log in logs {
            std::fs::copy(log, folder.join(log.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    row.notes.push(match keep() {
        Ok(()) => format!("logs: {}", folder.display()),
        Err(error) => format!("no logs are kept: {error}"),
    });
}

/// Sends SIGTERM to all instances; each must end by itself, with success.
async fn end(mut scene: Scene, row: &mut Row) {
    let mut endings = std::mem::take(&mut scene.endings);
    endings.extend(
        futures::future::join_all(scene.instances().into_iter().map(Instance::terminate)).await,
    );
    let late = endings.iter().filter(|took| took.is_none_or(|took| took > DRAIN));
    let late: Vec<_> =
        late.map(|_| "an instance had to be killed, or ended badly".into()).collect();
    row.enter("sigterm_within_10_s", &late);
    if !row.is_green() {
        keep_logs(&scene, row);
    }
    scene.system.servers.stop().await;
}
