//! Signals pages which data has changed since the last poll.

use super::router::Watched;
use super::service_state::Digests;
use crate::console::{Live, Topic};

/// Compares polled data with the previous data, until polling ends.
pub(super) async fn send(mut watched: Watched, live: Live) {
    let (mut digests, mut firing) = (Vec::new(), Vec::new());
    loop {
        let topics = tokio::select! {
            Ok(()) = watched.services.changed() => {
                let services = watched.services.borrow_and_update().clone();
                let states = services.as_ref().and_then(|it| it.fresh()).map_or(&[][..], Vec::as_slice);
                let now = states.iter().map(|it| (it.service.clone(), it.digests)).collect();
                let topics = changed(&digests, &now);
                digests = now;
                topics
            }
            Ok(()) = watched.lag.changed() => {
                watched.lag.mark_unchanged();
                vec![Topic::Lag]
            }
            Ok(()) = watched.alerts.changed() => {
                let now = watched.alerts.borrow_and_update().clone();
                let topics = if now == firing { vec![] } else { vec![Topic::Overview] };
                firing = now;
                topics
            }
            else => return,
        };
        live.signal(&topics);
    }
}

/// Returns the changed topics. Steps of flows and single jobs are not polled, so their topics count
/// as changed.
fn changed(before: &Vec<(String, Digests)>, now: &Vec<(String, Digests)>) -> Vec<Topic> {
    type Part = fn(&Digests) -> u64;
    let parts: [(Topic, Part); 4] = [
        (Topic::Overview, |it| it.overview),
        (Topic::Failures, |it| it.failures),
        (Topic::Lag, |it| it.subscriptions),
        (Topic::History, |it| it.acts),
    ];
    let of = |all: &Vec<(String, Digests)>, part: Part| -> Vec<(String, u64)> {
        all.iter().map(|(service, digests)| (service.clone(), part(digests))).collect()
    };
    let changed = parts.into_iter().filter(|(_, part)| of(before, *part) != of(now, *part));
    changed.map(|(topic, _)| topic).chain([Topic::Jobs, Topic::Flow]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_signalled_and_what_is_not_polled() {
        let of = |failures, acts| {
            let digests = Digests { failures, acts, ..Digests::default() };
            vec![("billing".to_owned(), digests)]
        };
        let unpolled = [Topic::Jobs, Topic::Flow];
        assert_eq!(changed(&of(1, 1), &of(1, 1)), unpolled);
        assert_eq!(changed(&of(1, 1), &of(2, 1)), [&[Topic::Failures][..], &unpolled].concat());
        assert_eq!(
            changed(&vec![], &of(0, 0)).len(),
            6,
            "the first answer of a service is a change"
        );
    }
}
