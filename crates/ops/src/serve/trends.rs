//! Lag of each group over the last minutes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::poller::Measured;

/// Time span of the trends.
pub(crate) const TREND: Duration = Duration::from_mins(15);

/// Messages behind over time, by the groups' names on the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trends(BTreeMap<String, VecDeque<(Instant, u64)>>);

impl Trends {
    /// Adds a measurement of all groups. A group that has disappeared is removed when its last
    /// point is too old.
    pub(crate) fn add(&mut self, measured: impl IntoIterator<Item = (String, u64)>, now: Instant) {
        for (group, messages) in measured {
            self.0.entry(group).or_default().push_back((now, messages));
        }
        self.0.retain(|_, points| {
            points.retain(|(at, _)| now.saturating_duration_since(*at) <= TREND);
            !points.is_empty()
        });
    }

    /// Returns the points of a group, oldest first: their age, and the number of messages.
    pub(crate) fn of(&self, group: &str, now: Instant) -> Vec<(Duration, u64)> {
        let points = self.0.get(group).into_iter().flatten();
        points.map(|(at, messages)| (now.saturating_duration_since(*at), *messages)).collect()
    }
}

/// Records trends until measuring ends.
pub(super) async fn keep(mut lag: watch::Receiver<Measured>, trends: watch::Sender<Trends>) {
    while lag.changed().await.is_ok() {
        let measured = lag.borrow_and_update().clone();
        let Some(Ok(lag)) = measured.as_ref().and_then(|it| it.fresh()) else { continue };
        let known = lag.groups.iter().filter_map(|it| Some((it.name.clone(), it.messages()?)));
        trends.send_modify(|trends| trends.add(known, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_goes_back_a_quarter_of_an_hour() {
        let (start, mut trends) = (Instant::now(), Trends::default());
        let at = |minutes| start + Duration::from_mins(minutes);
        for minute in 0..=20 {
            let gone = (minute < 3).then(|| ("gone".to_owned(), 1));
            trends.add([("billing".to_owned(), minute)].into_iter().chain(gone), at(minute));
        }
        let points = trends.of("billing", at(20));
        assert_eq!(points.first(), Some(&(TREND, 5)));
        assert_eq!(points.last(), Some(&(Duration::ZERO, 20)));
        assert!(trends.of("gone", at(20)).is_empty() && trends.0.len() == 1);
    }
}
