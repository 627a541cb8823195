//! Replays and rehearsals.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Answer, Client, Listed, Listing, Selection};
use crate::error::Error;

/// A replay, or a rehearsal of one.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Replay {
    pub(crate) id: Uuid,
    pub(crate) group: String,
    pub(crate) rehearsal: bool,
    pub(crate) status: String,
    /// Number of letters.
    pub(crate) selected: u64,
    #[serde(default)]
    pub(crate) outcomes: Outcomes,
    pub(crate) rate: Option<f64>,
    #[serde(default)]
    pub(crate) ramp: bool,
    pub(crate) stop_after: Option<u64>,
    #[serde(default)]
    pub(crate) force: bool,
    pub(crate) by: String,
    pub(crate) why: Option<String>,
    /// A remark of the service, for example the reason of a pause.
    pub(crate) note: Option<String>,
    pub(crate) requested_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
}

impl Replay {
    /// Returns `true` if it will not proceed without an operator.
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(&*self.status, "done" | "cancelled" | "paused")
    }

    /// Returns `true` if all letters were settled and none failed or was held.
    pub(crate) fn ended_well(&self) -> bool {
        self.status == "done" && self.outcomes.failed == 0 && self.outcomes.held == 0
    }
}

/// Letters of a replay by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Outcomes {
    pub(crate) processed: u64,
    pub(crate) duplicate: u64,
    pub(crate) superseded: u64,
    pub(crate) ignored: u64,
    pub(crate) failed: u64,
    /// Not attempted, because an earlier letter of the same key failed.
    pub(crate) held: u64,
}

impl Outcomes {
    /// Returns the number of letters that have an outcome.
    pub(crate) fn settled(&self) -> u64 {
        let Self { processed, duplicate, superseded, ignored, failed, held } = self;
        processed + duplicate + superseded + ignored + failed + held
    }
}

/// A replay with the reasons of its failures.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReplayDetails {
    #[serde(flatten)]
    pub(crate) replay: Replay,
    /// Reasons of failures, the most frequent first.
    #[serde(default)]
    pub(crate) failures: Vec<FailureReason>,
}

/// A reason for which letters of a replay failed.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FailureReason {
    pub(crate) reason: String,
    pub(crate) letters: u64,
}

/// A letter of a replay.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ReplayedLetter {
    pub(crate) id: Uuid,
    pub(crate) event_id: Option<String>,
    pub(crate) subject: Option<String>,
    /// `None` until the letter is settled.
    pub(crate) outcome: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) settled_at: Option<String>,
}

impl Listed for Replay {
    const PLURAL: &'static str = "replays";

    fn at(&self) -> &str {
        &self.requested_at
    }
}

impl Listed for ReplayedLetter {
    const PLURAL: &'static str = "letters";

    fn at(&self) -> &'static str {
        "" // Only read from a single list.
    }
}

/// The request for a replay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NewReplay {
    pub(crate) group: String,
    #[serde(flatten)]
    pub(crate) selection: Selection,
    pub(crate) rehearse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    pub(crate) ramp: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_after: Option<u32>,
    pub(crate) force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl Client {
    /// Lists replays and rehearsals, newest first.
    pub(crate) fn replays(&self, group: Option<&str>) -> Listing<Replay> {
        let query = group.map(|group| ("group", group.to_owned())).into_iter().collect();
        Listing::new(self.clone(), "replays".into(), query)
    }

    /// Lists the letters of a replay, all or those with one outcome.
    pub(crate) fn replayed_letters(
        &self,
        id: Uuid,
        outcome: Option<&str>,
    ) -> Listing<ReplayedLetter> {
        let query = outcome.map(|outcome| ("outcome", outcome.to_owned())).into_iter().collect();
        Listing::new(self.clone(), format!("replays/{id}/letters"), query)
    }

    /// Returns a replay.
    pub(crate) async fn replay(&self, id: Uuid) -> Result<Answer<ReplayDetails>, Error> {
        self.get(&["replays", &id.to_string()], &[]).await
    }

    /// Requests a replay. The service runs it.
    pub(crate) async fn start_replay(&self, new: &NewReplay) -> Result<Answer<Replay>, Error> {
        self.change(Method::POST, &["replays"], new).await
    }

    /// Pauses, resumes or cancels a replay. `act` is the name in the API.
    pub(crate) async fn change_replay(
        &self,
        id: Uuid,
        act: &str,
        why: &str,
    ) -> Result<Answer<Replay>, Error> {
        let path = ["replays", &id.to_string(), act];
        self.change(Method::POST, &path, &json!({ "why": why })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_members_of_the_api() {
        let new = NewReplay {
            group: "billing".into(),
            selection: Selection::Ids(vec![Uuid::nil()]),
            rehearse: false,
            rate: Some(2.5),
            ramp: true,
            stop_after: None,
            force: false,
            why: Some("fixed".into()),
        };
        let expected = json!({
            "group": "billing", "ids": [Uuid::nil()], "rehearse": false, "rate": 2.5, "ramp": true, "force": false,
            "why": "fixed",
        });
        assert_eq!(serde_json::to_value(&new).unwrap(), expected);
    }
}
