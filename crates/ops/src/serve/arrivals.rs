//! Increases of counters over the last minutes, like Prometheus's `increase()`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Counters by name, service and label.
#[derive(Default)]
pub(crate) struct Arrivals {
    counters: BTreeMap<Key, Counter>,
    /// Services whose counters were read before.
    services: BTreeSet<String>,
}

/// Metric, service, and group or task.
pub(crate) type Key = (&'static str, String, String);

#[derive(Default)]
struct Counter {
    total: f64,
    increases: VecDeque<(Instant, f64)>,
}

impl Arrivals {
    /// Takes the values of all counters of a service.
    ///
    /// The first values are no increase. A counter that appears later started at 0. A counter that
    /// is smaller than before was reset by a restart of the service.
    pub(crate) fn observe(&mut self, service: &str, totals: Vec<(Key, f64)>, now: Instant) {
        let is_first = self.services.insert(service.to_owned());
        for (key, total) in totals {
            let start = if is_first { total } else { 0.0 };
            let new = || Counter { total: start, ..Counter::default() };
            let counter = self.counters.entry(key).or_insert_with(new);
            let increase = if total < counter.total { total } else { total - counter.total };
            counter.total = total;
            if increase > 0.0 {
                counter.increases.push_back((now, increase));
            }
        }
    }

    /// Returns the counters that have grown within the time, each with its increase.
    pub(crate) fn within(&mut self, time: Duration, now: Instant) -> Vec<(Key, f64)> {
        for counter in self.counters.values_mut() {
            counter.increases.retain(|(at, _)| now.saturating_duration_since(*at) < time);
        }
        let grown = self.counters.iter().map(|(key, counter)| {
            (key.clone(), counter.increases.iter().map(|(_, increase)| increase).sum::<f64>())
        });
        grown.filter(|(_, increase)| *increase > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a value at a minute, and returns the increase of the last five minutes.
    fn increase(arrivals: &mut Arrivals, name: &'static str, total: f64, minutes: u64) -> f64 {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let (key, now) =
            ((name, "s".to_owned(), "g".to_owned()), *START + Duration::from_mins(minutes));
        arrivals.observe("s", vec![(key.clone(), total)], now);
        let grown = arrivals.within(Duration::from_mins(5), now).into_iter();
        let grown = grown.filter(|(grown, _)| *grown == key).map(|(_, increase)| increase);
        // `sum` of no values would be -0.
        grown.fold(0.0, std::ops::Add::add)
    }

    #[test]
    fn a_counter_increases_for_some_minutes_and_a_restart_is_no_decrease() {
        let mut arrivals = Arrivals::default();
        let observed = [(7.0, 0), (9.0, 1), (1.0, 2), (1.0, 6), (1.0, 7)];
        let increases = observed.map(|(total, at)| increase(&mut arrivals, "c", total, at));
        assert_eq!(format!("{increases:?}"), "[0.0, 2.0, 3.0, 1.0, 0.0]");
    }

    #[test]
    fn a_counter_that_appears_has_begun_at_zero() {
        let mut arrivals = Arrivals::default();
        increase(&mut arrivals, "c", 7.0, 0);
        let appeared = increase(&mut arrivals, "dropped", 2.0, 1);
        assert!((appeared - 2.0).abs() < f64::EPSILON);
    }
}
