//! `list`.

use std::io::{self, Write};

use time::OffsetDateTime;

use super::Context;
use crate::client::{Merged, Order, Subscription};
use crate::error::{Error, name_unavailable};
use crate::json::Document;
use crate::moment::{ago, when};
use crate::plain::{count, plain};
use crate::style::{Tone, paint};

pub(super) async fn run(context: &mut Context) -> Result<u8, Error> {
    let listings = context.services.all();
    let listings = listings.iter().map(crate::client::Client::subscription_list).collect();
    let mut subscriptions = Merged::new(listings, usize::MAX, Order::AsListed);
    let out = &mut context.out;
    let mut document =
        if context.json { Some(Document::begin(out, "subscriptions")?) } else { None };
    let (mut shown, mut is_well) = (0, true);
    while let Some(subscription) = subscriptions.next().await? {
        is_well &= subscription.trouble().is_none();
        shown += 1;
        match &mut document {
            Some(document) => document.item(out, &subscription.json)?,
            None => write(out, &subscription, OffsetDateTime::now_utc())?,
        }
    }
    let all_answered = subscriptions.unavailable.is_empty();
    match document {
        Some(document) => _ = document.end(out, None, all_answered)?,
        None if shown == 0 && all_answered => {
            writeln!(out, "There are no subscriptions.")?;
        }
        None => {}
    }
    Ok(u8::from(!is_well).max(name_unavailable(&subscriptions.unavailable)))
}

fn write(out: &mut impl Write, subscription: &Subscription, now: OffsetDateTime) -> io::Result<()> {
    let Subscription { group, state, event_types, paused, instances, .. } = subscription;
    let state = paint(tone(state), &plain(state));
    writeln!(out, "{}: {state}", plain(group))?;
    if !event_types.is_empty() {
        writeln!(out, "   events       {}", plain(&event_types.join(", ")))?;
    }
    if let Some(pause) = paused {
        writeln!(out, "   paused       {} by {}", when(&pause.since), plain(&pause.by))?;
        writeln!(out, "   why          {}", plain(&pause.why))?;
    }
    for breaker in subscription.open_breakers() {
        let letters = count(breaker.letters, "dead letter", "dead letters");
        let since = breaker.opened_at.as_deref().map(when).unwrap_or_default();
        writeln!(out, "   breaker      {}, open since {since}", plain(&breaker.event_type))?;
        writeln!(out, "   after        {letters}: {}", plain(&breaker.reason))?;
    }
    for instance in instances {
        let id = plain(instance.id.get(..8).unwrap_or(&instance.id));
        let state = paint(tone(&instance.state), &plain(&instance.state));
        writeln!(out, "   instance     {id}, seen {}: {state}", ago(&instance.seen_at, now))?;
    }
    writeln!(out)
}

/// Returns the tone of a subscription's state.
pub(crate) fn tone(state: &str) -> Tone {
    if state == "running" {
        Tone::Well
    } else if state.starts_with("paused") || state.starts_with("gone") || state.starts_with("off") {
        Tone::Caution
    } else {
        Tone::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_shows_what_holds_it_up_and_its_instances() {
        let subscription = serde_json::from_value(serde_json::json!({
            "service": "billing", "group": "billing", "state": "paused by ada: the rates\u{1b} are wrong",
            "event_types": ["order.completed"],
            "paused": { "by": "ada", "why": "the rates\u{1b} are wrong", "since": "2026-11-26T01:00:00.123Z" },
            "breakers": [
                { "event_type": "order.completed", "reason": "SQLSTATE 42P01", "letters": 20, "fingerprint": "f",
                  "last_at": "t", "opened_at": "2026-11-26T00:59:00Z" },
                { "event_type": "order.created", "reason": "it counts", "letters": 3, "opened_at": null },
            ],
            "instances": [{ "id": "0193-56789-abc", "state": "running", "started_at": "t",
                            "seen_at": "2026-11-26T01:29:58Z" }],
        }));
        let now = crate::moment::parse("2026-11-26T01:30:00Z").unwrap();
        let mut text = Vec::new();
        write(&mut text, &subscription.unwrap(), now).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "billing: paused by ada: the rates\\x1b are wrong\n   \
                events       order.completed\n   \
                paused       2026-11-26 01:00:00 UTC by ada\n   \
                why          the rates\\x1b are wrong\n   \
                breaker      order.completed, open since 2026-11-26 00:59:00 UTC\n   \
                after        20 dead letters: SQLSTATE 42P01\n   \
                instance     0193-567, seen 2 s ago: running\n\n"
        );
    }
}
