use crate::client::Subscription;
use crate::console::address::escaped;
use crate::console::tone::Tone;
use crate::plain::count;

/// A subscription, what stops it, and its instances.
pub(super) struct SubscriptionCard {
    /// Id of its element.
    pub(super) id: String,
    pub(super) service: String,
    pub(super) group: String,
    pub(super) state: String,
    pub(super) tone: Tone,
    pub(super) events: String,
    pub(super) pause: Option<Pause>,
    pub(super) breakers: Vec<Breaker>,
    pub(super) instances: Vec<Instance>,
    /// Address to which its forms are posted.
    pub(super) pause_action: String,
    pub(super) resume_action: String,
}

pub(super) struct Pause {
    pub(super) by: String,
    pub(super) why: String,
    pub(super) since: String,
}

pub(super) struct Breaker {
    pub(super) text: String,
    pub(super) since: String,
    pub(super) reason: String,
}

pub(super) struct Instance {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) tone: Tone,
    pub(super) seen_at: String,
}

/// Returns the address to which a change of a subscription is posted.
pub(super) fn action(service: &str, group: &str, act: &str) -> String {
    format!("/lag/{}/{}/{act}", escaped(service), escaped(group))
}

impl SubscriptionCard {
    pub(super) fn of(subscription: &Subscription) -> Self {
        let Subscription { service, group, state, event_types, paused, instances, .. } =
            subscription;
        let state = subscription.trouble().unwrap_or(state);
        let breakers = subscription.open_breakers().map(|breaker| Breaker {
            text: format!(
                "{} after {}",
                breaker.event_type,
                count(breaker.letters, "dead letter", "dead letters")
            ),
            since: breaker.opened_at.clone().unwrap_or_default(),
            reason: breaker.reason.clone(),
        });
        let instances = instances.iter().map(|it| Instance {
            id: it.id.get(..8).unwrap_or(&it.id).to_owned(),
            state: it.state.clone(),
            tone: Tone::of_state(&it.state),
            seen_at: it.seen_at.clone(),
        });
        Self {
            id: format!("subscription-{service}-{group}"),
            service: service.clone(),
            group: group.clone(),
            // The operator and the reason of a pause are shown separately.
            state: if paused.is_some() { "paused".to_owned() } else { state.to_owned() },
            tone: Tone::of_state(state),
            events: event_types.join(", "),
            pause: paused.as_ref().map(|it| Pause {
                by: it.by.clone(),
                why: it.why.clone(),
                since: it.since.clone(),
            }),
            breakers: breakers.collect(),
            instances: instances.collect(),
            pause_action: action(service, group, "pause"),
            resume_action: action(service, group, "resume"),
        }
    }

    /// Returns `true` if an operator can resume it.
    pub(super) fn can_resume(&self) -> bool {
        self.pause.is_some() || !self.breakers.is_empty()
    }

    /// Returns the id of its form, which contains the acts that the form offers. A refresh keeps
    /// the typed text of a form with the same id, so a reason for a pause would be sent with a
    /// resume.
    pub(super) fn form_id(&self) -> String {
        let acts = if !self.can_resume() {
            "pause"
        } else if self.pause.is_some() {
            "resume"
        } else {
            "resume-or-pause"
        };
        format!("{acts}-{}", self.id)
    }
}
