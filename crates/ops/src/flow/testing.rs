//! Builds flows from responses of services, for tests.

use serde_json::{Value, json};

use super::clock::{Clock, Clocks};
use super::collect::{Asked, Collected};
use super::{Content, Flow, Lag, Timestamp, sort};
use crate::client::{Client, Token};

/// The response of a service.
pub(crate) struct Answered {
    service: String,
    steps: Vec<Value>,
    open: Vec<Value>,
    subscriptions: Vec<Value>,
}

/// Returns a service that has recorded these steps.
pub(crate) fn service(service: &str, steps: Vec<Value>) -> Answered {
    Answered { service: service.into(), steps, open: Vec::new(), subscriptions: Vec::new() }
}

impl Answered {
    pub(crate) fn open(mut self, open: Vec<Value>) -> Self {
        self.open = open;
        self
    }

    pub(crate) fn subscribed(mut self, group: &str, event_type: &str, state: &str) -> Self {
        self.subscriptions.push(
            json!({ "group": group, "state": state, "event_types": [event_type], "paused": null }),
        );
        self
    }

    fn asked(self) -> Asked {
        let part = json!({
            "now": "2026-11-26T01:30:00Z", "correlation_ids": ["c-1"], "steps": self.steps, "open": self.open,
        });
        let part = serde_json::from_value(part).unwrap();
        let subscriptions =
            self.subscriptions.into_iter().map(|it| serde_json::from_value(it).unwrap());
        let client =
            Client::new(self.service.clone(), "http://nowhere".parse().unwrap(), Token::default());
        Asked::answered(client, part, subscriptions.collect(), Clock::default())
    }
}

/// Returns the flow `c-1`. All expected deliveries have this lag.
pub(crate) fn flow(services: Vec<Answered>, lag: &Lag) -> Flow {
    let services: Vec<_> = services.into_iter().map(Answered::asked).collect();
    let clocks = Clocks::new(&services);
    let mut sorting = sort(&services, &clocks);
    for entry in &mut sorting.entries {
        if let Content::Delivery(delivery) = &mut entry.content
            && let Some(expected) = &mut delivery.expected
            && expected.lag != Lag::Unpublished
        {
            expected.lag = lag.clone();
        }
    }
    let collected = Collected { correlation_ids: vec!["c-1".into()], services };
    Flow::new("c-1", collected, &clocks, sorting)
}

/// Returns a time in milliseconds after half past one.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::parse("2026-11-26T01:30:00Z").unwrap().plus(ms * 1000)
}
