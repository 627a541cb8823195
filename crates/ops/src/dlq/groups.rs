use std::io::{self, Write};

use clap::Args;

use super::Context;
use crate::amount::Amount;
use crate::client::{LetterGroup, Merged, Order};
use crate::error::{Error, Failure, StepContext, name_unavailable};
use crate::json;
use crate::moment::when;
use crate::plain::plain;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    amount: Amount,
}

pub(super) async fn run(context: &mut Context, arguments: &Arguments) -> Result<u8, Failure> {
    groups(context, arguments.amount.limit()).await.during("list the groups of dead letters")
}

async fn groups(context: &mut Context, limit: usize) -> Result<u8, Error> {
    let group = context.group.as_deref();
    let clients = context.services.chosen(group)?;
    let listings = clients.iter().map(|client| client.letter_groups(group)).collect();
    let mut groups = Merged::new(listings, limit, Order::Newest);
    if context.json {
        let shown = json::list(&mut context.out, "groups", &mut groups, limit).await?;
        if shown == 0 {
            context.check_group().await?;
        }
    } else {
        let shown = table(&mut context.out, &mut groups, limit).await?;
        if shown == 0 && groups.unavailable.is_empty() {
            context.check_group().await?;
            writeln!(context.out, "There are no dead letters.")?;
        }
    }
    Ok(name_unavailable(&groups.unavailable))
}

async fn table(
    out: &mut impl Write,
    groups: &mut Merged<LetterGroup>,
    limit: usize,
) -> Result<usize, Error> {
    let mut shown = 0;
    while shown < limit
        && let Some(group) = groups.next().await?
    {
        write_group(out, &group)?;
        shown += 1;
    }
    if !groups.is_at_end() {
        writeln!(out, "There are more; --all or --limit shows them.")?;
    }
    Ok(shown)
}

pub(super) fn write_group(out: &mut impl Write, group: &LetterGroup) -> io::Result<()> {
    let event_type = group.event_type.as_deref().unwrap_or("-");
    let head = [&*group.group, event_type, &group.status].map(plain).join("   ");
    writeln!(out, "{head}")?;
    writeln!(out, "   letters      {}", letters(group))?;
    writeln!(out, "   exception    {}", plain(&group.exception))?;
    writeln!(out, "   reason       {}", plain(&group.reason))?;
    writeln!(out, "   died         {} to {}", when(&group.first_at), when(&group.last_at))?;
    if let Some(note) = &group.note {
        let by = group.by.as_deref().map(|by| format!(" ({})", plain(by))).unwrap_or_default();
        writeln!(out, "   note         {}{by}", plain(note))?;
    }
    writeln!(out, "   fingerprint  {}\n", plain(&group.fingerprint))
}

fn letters(group: &LetterGroup) -> String {
    let LetterGroup { open, parked, replaying, resolved, discarded, .. } = group;
    let within = [(parked, "parked"), (replaying, "being replayed")];
    let closed = [(resolved, "resolved"), (discarded, "discarded")];
    let join = |parts: &[(&u64, &str)]| {
        let parts = parts.iter().filter(|(letters, _)| **letters > 0);
        parts.map(|(letters, name)| format!("{letters} {name}")).collect::<Vec<_>>().join(", ")
    };
    let (within, closed) = (join(&within), join(&closed));
    let within = if within.is_empty() { within } else { format!(" ({within})") };
    let closed = if closed.is_empty() { closed } else { format!(", {closed}") };
    format!("{open} open{within}{closed}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_counts_what_there_is() {
        let mut group = json!({
            "fingerprint": "f1", "group": "billing", "event_type": null, "exception": "consumer::Permanent",
            "reason": "no such\u{1b} customer", "status": "regressed", "note": "see #7", "by": "ada", "open": 12,
            "parked": 2, "replaying": 0, "resolved": 3, "discarded": 0, "first_at": "t1", "last_at": "t2",
        });
        let read = |group: &serde_json::Value| {
            serde_json::from_value::<LetterGroup>(group.clone()).unwrap()
        };
        let mut text = Vec::new();
        write_group(&mut text, &read(&group)).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "billing   -   regressed",
            "12 open (2 parked), 3 resolved",
            "no such\\x1b customer",
            "see #7 (ada)",
        ] {
            assert!(text.contains(line), "{text}");
        }
        group["parked"] = 0.into();
        group["resolved"] = 0.into();
        assert_eq!(letters(&read(&group)), "12 open");
    }
}
