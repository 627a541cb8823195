//! Increases of counters over the last minutes, as Prometheus' `increase()`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Counters by name, service and label.
#[derive(Default)]
pub(crate) struct Arrivals(BTreeMap<Key, Counter>);

/// Metric, service, and group or task.
pub(crate) type Key = (&'static str, String, String);

#[derive(Default)]
struct Counter {
    total: f64,
    increases: VecDeque<(Instant, f64)>,
}

impl Arrivals {
    /// Takes the value of a counter.
    ///
    /// The first value is no increase. One that is smaller than the last is that of a service that was restarted.
    pub(crate) fn observe(&mut self, key: Key, total: f64, now: Instant) {
        let Some(counter) = self.0.get_mut(&key) else {
            self.0.insert(key, Counter { total, ..Counter::default() });
            return;
        };
        let increase = if total < counter.total { total } else { total - counter.total };
        counter.total = total;
        if increase > 0.0 {
            counter.increases.push_back((now, increase));
        }
    }

    /// Returns the counters that have grown within the time, each with its increase.
    pub(crate) fn within(&mut self, time: Duration, now: Instant) -> Vec<(Key, f64)> {
        for counter in self.0.values_mut() {
            counter.increases.retain(|(at, _)| now.saturating_duration_since(*at) < time);
        }
        let grown = self.0.iter().map(|(key, counter)| {
            (key.clone(), counter.increases.iter().map(|(_, increase)| increase).sum::<f64>())
        });
        grown.filter(|(_, increase)| *increase > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_increases_for_some_minutes_and_a_restart_is_no_decrease() {
        let (mut arrivals, start) = (Arrivals::default(), Instant::now());
        let key = || ("c", "billing".to_owned(), "billing".to_owned());
        let minutes = |minutes: u64| start + Duration::from_mins(minutes);
        let mut observe = |total: f64, at: u64| {
            arrivals.observe(key(), total, minutes(at));
            arrivals
                .within(Duration::from_mins(5), minutes(at))
                .into_iter()
                .map(|it| it.1)
                .sum::<f64>()
        };
        assert_eq!(observe(7.0, 0), 0.0, "it was there before");
        assert_eq!(observe(9.0, 1), 2.0);
        assert_eq!(observe(1.0, 2), 3.0, "restarted, and one more since");
        assert_eq!(observe(1.0, 6), 1.0);
        assert_eq!(observe(1.0, 7), 0.0);
    }
}
