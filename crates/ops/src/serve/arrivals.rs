//! Increases of counters over the last minutes, like Prometheus's `increase()`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// How long a process that does not answer any more is remembered. Behind a load balancer each
/// poll may meet another instance of the service.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Counters of the services' processes.
#[derive(Default)]
pub(crate) struct Arrivals {
    processes: BTreeMap<Process, Counters>,
    increases: BTreeMap<Counted, VecDeque<(Instant, f64)>>,
}

/// A process of a service, which has counters of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Process {
    pub(crate) service: String,
    /// When it started. `None` if the service does not report it.
    pub(crate) started: Option<SystemTime>,
}

/// A counter of a process: the metric, and a label, such as a deferred task.
pub(crate) type Counter = (&'static str, String);

/// A counter of a service.
pub(crate) type Counted = (String, Counter);

struct Counters {
    totals: BTreeMap<Counter, f64>,
    /// When the process was first observed.
    since: Instant,
    /// When it was last observed.
    at: Instant,
}

impl Arrivals {
    /// Takes the values of all counters of a process.
    ///
    /// The first values are no increase, unless the process started after another one of the
    /// service was observed. A counter that appears later started at 0. A counter that is smaller
    /// than before was reset by a restart.
    pub(crate) fn observe(&mut self, process: &Process, totals: Vec<(Counter, f64)>, now: Instant) {
        let starts_at_zero = self.processes.contains_key(process) || self.is_new(process, now);
        let new = || Counters { totals: BTreeMap::new(), since: now, at: now };
        let known = self.processes.entry(process.clone()).or_insert_with(new);
        known.at = now;
        for (counter, total) in totals {
            let start = if starts_at_zero { 0.0 } else { total };
            let before = known.totals.insert(counter.clone(), total).unwrap_or(start);
            let increase = if total < before { total } else { total - before };
            if increase > 0.0 {
                let counted = (process.service.clone(), counter);
                self.increases.entry(counted).or_default().push_back((now, increase));
            }
        }
        self.processes.retain(|_, it| now.saturating_duration_since(it.at) < REMEMBERED);
    }

    /// Returns `true` if a process started after another one of its service was observed.
    fn is_new(&self, process: &Process, now: Instant) -> bool {
        let others = self.processes.iter().filter(|(it, _)| it.service == process.service);
        let first = others.map(|(_, counters)| counters.since).min();
        let age = process.started.and_then(|it| SystemTime::now().duration_since(it).ok());
        // An older one may have been observed and forgotten.
        let since = first.map(|first| now.saturating_duration_since(first).min(REMEMBERED));
        since.zip(age).is_some_and(|(since, age)| age < since)
    }

    /// Returns the counters that have grown within the time, each with its increase.
    pub(crate) fn within(&mut self, time: Duration, now: Instant) -> Vec<(Counted, f64)> {
        self.increases.retain(|_, all| {
            all.retain(|(at, _)| now.saturating_duration_since(*at) < time);
            !all.is_empty()
        });
        let grown = self.increases.iter().map(|(counted, all)| {
            (counted.clone(), all.iter().map(|(_, increase)| increase).sum::<f64>())
        });
        grown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a value of a process at a minute, and returns the increase of the last five minutes.
    fn increase(arrivals: &mut Arrivals, process: &Process, total: f64, minutes: u64) -> f64 {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let now = *START + Duration::from_mins(minutes);
        arrivals.observe(process, vec![(("dropped", "mail".to_owned()), total)], now);
        let grown = arrivals.within(Duration::from_mins(5), now).into_iter();
        // `sum` of no values would be -0.
        grown.map(|(_, increase)| increase).fold(0.0, std::ops::Add::add)
    }

    /// Returns a process that has run for this number of seconds.
    fn aged(seconds: u64) -> Process {
        let started = SystemTime::now() - Duration::from_secs(seconds);
        Process { service: "notification".into(), started: Some(started) }
    }

    #[test]
    fn a_counter_increases_for_some_minutes_and_a_restart_is_no_decrease() {
        let mut arrivals = Arrivals::default();
        let unknown = Process { started: None, ..aged(0) };
        let observed = [(7.0, 0), (9.0, 1), (1.0, 2), (1.0, 6), (1.0, 7)];
        let increases = observed.map(|(total, at)| increase(&mut arrivals, &unknown, total, at));
        assert_eq!(format!("{increases:?}"), "[0.0, 2.0, 3.0, 1.0, 0.0]");
    }

    #[test]
    fn a_counter_that_appears_has_begun_at_zero() {
        let mut arrivals = Arrivals::default();
        let process = aged(3_600);
        arrivals.observe(&process, Vec::new(), Instant::now());
        assert!((increase(&mut arrivals, &process, 2.0, 1) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn instances_behind_a_load_balancer_have_counters_of_their_own() {
        let mut arrivals = Arrivals::default();
        let (one, other) = (aged(3_600), aged(7_200));
        let observed = [(&one, 7.0, 0), (&other, 2.0, 1), (&one, 7.0, 2), (&other, 3.0, 3)];
        let increases = observed.map(|(it, total, at)| increase(&mut arrivals, it, total, at));
        assert_eq!(format!("{increases:?}"), "[0.0, 0.0, 0.0, 1.0]");
    }

    #[test]
    fn what_a_new_process_has_dropped_before_it_was_polled_counts() {
        let mut arrivals = Arrivals::default();
        let other = aged(3_600);
        increase(&mut arrivals, &other, 7.0, 0);
        assert!((increase(&mut arrivals, &aged(3), 2.0, 1) - 2.0).abs() < f64::EPSILON);
        // Polls have met the other instance meanwhile.
        increase(&mut arrivals, &other, 7.0, 9);
        assert!((increase(&mut arrivals, &aged(90), 4.0, 10) - 4.0).abs() < f64::EPSILON);
    }
}
