use time::OffsetDateTime;

use crate::client::{Act, LetterGroup};
use crate::console::address::escaped;
use crate::moment::parse;
use crate::serve::ServiceState;

/// A recent change: an act, or a reason of failures that is new or has come back.
pub(super) struct RecentChange {
    pub(super) moment: Option<OffsetDateTime>,
    pub(super) at: String,
    pub(super) what: String,
    /// The operator's reason, or the reason of the failures.
    pub(super) why: String,
    pub(super) is_bad: bool,
    pub(super) path: String,
}

impl RecentChange {
    /// Returns the changes of a service.
    pub(super) fn of(state: &ServiceState) -> Vec<Self> {
        let acts = state.acts.iter().flatten().map(|it| Self::of_act(it));
        let groups = state.letters.iter().flat_map(|it| it.values()).flat_map(|it| &it.groups);
        acts.chain(groups.filter_map(Self::of_reason)).collect()
    }

    fn of_act(act: &Act) -> Self {
        let outcome = act.outcome.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        Self {
            moment: parse(&act.at),
            at: act.at.clone(),
            what: format!("{} {} {}{outcome}", act.by, act.kind, act.target),
            why: act.why.clone().unwrap_or_default(),
            is_bad: false,
            path: format!("/history?by={}", escaped(&act.by)),
        }
    }

    fn of_reason(group: &LetterGroup) -> Option<Self> {
        let (at, word) = match &*group.status {
            "open" | "acknowledged" => (&group.first_at, "fails for a new reason"),
            "regressed" => (&group.last_at, "fails again for a reason that was resolved"),
            _ => return None,
        };
        let (name, fingerprint) = (escaped(&group.group), escaped(&group.fingerprint));
        Some(Self {
            moment: parse(at),
            at: at.clone(),
            what: format!("{} {word}", group.group),
            why: group.reason.clone(),
            is_bad: true,
            path: format!("/failures?view=letters&group={name}&fingerprint={fingerprint}"),
        })
    }
}
