use std::time::{Duration, Instant};

use crate::console::spark::Spark;
use crate::console::tone::Tone;
use crate::lag::words::{details, duration, grouped, rate};
use crate::lag::{CatchUp, GroupLag, LAG_THRESHOLD, State};
use crate::serve::Trends;

/// Lag of a group, as a row.
pub(crate) struct LagRow {
    pub(crate) group: String,
    /// `None` for groups of other systems.
    pub(crate) service: Option<String>,
    pub(crate) behind: String,
    pub(crate) oldest: String,
    pub(crate) rate: String,
    pub(crate) arriving: String,
    pub(crate) caught_up: String,
    pub(crate) state: String,
    pub(crate) tone: Tone,
    pub(crate) details: Vec<String>,
    pub(crate) members: usize,
    pub(crate) spark: Option<Spark>,
}

impl LagRow {
    pub(crate) fn of(lag: &GroupLag, trends: &Trends) -> Self {
        let state = lag.state(LAG_THRESHOLD);
        Self {
            group: lag.group.clone(),
            service: lag.service.clone(),
            behind: lag.messages().map_or_else(|| "?".to_owned(), grouped),
            oldest: match (lag.messages(), lag.age()) {
                (Some(0), _) => "–".to_owned(),
                (_, age) => age.map_or_else(|| "?".to_owned(), duration),
            },
            rate: lag.rates.map_or_else(|| "–".to_owned(), |it| rate(it.consumed)),
            arriving: lag.rates.map_or_else(|| "–".to_owned(), |it| rate(it.arrived)),
            caught_up: match lag.catch_up() {
                Some(CatchUp::In(after)) => format!("in {}", duration(after)),
                Some(CatchUp::Never) => "never, at this rate".to_owned(),
                Some(CatchUp::Now) | None => "–".to_owned(),
            },
            state: if lag.may_be_stalled() && lag.age() > Some(Duration::from_mins(1)) {
                format!("{state}, no progress")
            } else {
                state.to_string()
            },
            tone: match state {
                State::Ok => Tone::Good,
                State::Behind => Tone::Plain,
                _ => Tone::Bad,
            },
            details: details(lag),
            members: lag.members,
            spark: Spark::draw(&trends.of(&lag.name, Instant::now())),
        }
    }
}
