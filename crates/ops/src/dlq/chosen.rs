//! Selects the letters of a command and counts them before anything is changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};

use super::Context;
use super::arguments::Selected;
use super::list::write_letter;
use crate::client::{Client, Selection, Status, Summary};
use crate::error::Error;
use crate::moment;
use crate::plain::{count, plain};

/// Maximum number of letters to list one by one.
const FEW: usize = 5;
/// Maximum number of reasons to list.
const REASONS: usize = 10;

/// The letters that a filter may select for a command.
pub(super) struct Eligible<'a> {
    /// Their statuses, unless the filter contains one.
    pub(super) statuses: &'a [Status],
    /// Whether letters are included whose event is older than the inbox's retention.
    pub(super) expired: bool,
    /// Maximum number of letters, oldest first.
    pub(super) most: Option<usize>,
}

/// The selected letters of one group.
pub(super) struct Chosen {
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) selection: Selection,
    pub(super) tally: Tally,
}

impl Chosen {
    /// Finds the letters, by their ids or by the filter.
    pub(super) async fn find(
        context: &Context,
        selected: &Selected,
        eligible: &Eligible<'_>,
    ) -> Result<Self, Error> {
        selected.check()?;
        let Eligible { statuses, expired, most } = *eligible;
        let Selected { ids, filter } = selected;
        if !ids.is_empty() {
            if most.is_some() {
                return Err(Error::Refused("--id selects single letters; leave out --max".into()));
            }
            return Self::by_ids(context, ids.clone()).await;
        }
        let group = context.group.clone().ok_or_else(|| {
            Error::Refused("give --group, or --id for single letters; `orderflow dlq groups` shows what there is".into())
        })?;
        let client = context.services.of_group(&group)?;
        let statuses = filter.status.map_or(statuses.to_vec(), |status| vec![status]);
        let mut letters = context.letters(filter, &statuses, usize::MAX)?;
        let mut tally = Tally::default();
        let mut oldest = VecDeque::new();
        let mut newest = None;
        while let Some(letter) = letters.next().await? {
            newest = newest.max(moment::parse(&letter.died_at));
            match most {
                _ if letter.is_expired && !expired => {}
                None => tally.add(&letter),
                Some(most) => {
                    oldest.push_front((*letter).clone());
                    oldest.truncate(most);
                }
            }
        }
        if let Some((_, error)) = letters.unavailable.pop() {
            return Err(error);
        }
        if tally.letters == 0 && oldest.is_empty() {
            context.check_group().await?;
        }
        let selection = if most.is_some() {
            for letter in &oldest {
                tally.add(letter);
            }
            Selection::Ids(oldest.iter().map(|letter| letter.id).collect())
        } else {
            Selection::Filter(filter.clone().shown(newest))
        };
        Ok(Self { client, group, selection, tally })
    }

    async fn by_ids(context: &Context, mut ids: Vec<uuid::Uuid>) -> Result<Self, Error> {
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(*id));
        let mut tally = Tally::default();
        let mut home: Option<(Client, String)> = None;
        for id in &ids {
            let group = context.group.as_deref();
            let found = context.services.find(group, async |client| client.letter(*id).await).await;
            let (client, letter) = found?;
            let (_, group) = home.get_or_insert_with(|| (client, letter.summary.group.clone()));
            if *group != letter.summary.group
                || context.group.as_ref().is_some_and(|it| it != group)
            {
                let wanted = context.group.as_ref().unwrap_or(group);
                return Err(Error::Refused(format!(
                    "{id} is a letter of {}, not of {wanted}; a command takes letters of one group",
                    letter.summary.group
                )));
            }
            tally.add(&letter.summary);
        }
        let (client, group) = home.ok_or_else(|| Error::Refused("give --id".into()))?;
        Ok(Self { client, group, selection: Selection::Ids(ids), tally })
    }

    /// Returns a title such as "12 dead letters of billing".
    pub(super) fn title(&self) -> String {
        let letters = count(self.tally.letters, "dead letter", "dead letters");
        format!("{letters} of {}", plain(&self.group))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tally.letters == 0
    }

    /// Writes the number of letters for each reason, or a few letters one by one.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "No dead letters in {} to choose from.", plain(&self.group));
        }
        writeln!(out, "{}:\n", self.title())?;
        self.tally.write(out)
    }
}

/// Letters counted by fingerprint.
#[derive(Default)]
pub(super) struct Tally {
    letters: u64,
    reasons: HashMap<String, Counted>,
    few: Vec<Summary>,
}

/// Letters with the same reason.
struct Counted {
    letters: u64,
    event_type: Option<String>,
    /// The reason of the first of these letters.
    reason: String,
}

impl Tally {
    fn add(&mut self, letter: &Summary) {
        self.letters += 1;
        if self.few.len() <= FEW {
            self.few.push(letter.clone());
        }
        if let Some(counted) = self.reasons.get_mut(&letter.fingerprint) {
            counted.letters += 1;
            return;
        }
        let Summary { event_type, reason, .. } = letter.clone();
        let counted = Counted { letters: 1, event_type, reason };
        self.reasons.insert(letter.fingerprint.clone(), counted);
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.few.len() <= FEW {
            return self.few.iter().try_for_each(|letter| write_letter(out, letter));
        }
        let mut reasons: Vec<_> = self.reasons.values().collect();
        reasons.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.reason.cmp(&b.reason)));
        let shown = &reasons[..reasons.len().min(REASONS)];
        let width = shown.first().map_or(0, |it| it.letters.to_string().len());
        for Counted { letters, event_type, reason } in shown {
            let event_type = event_type.as_deref().unwrap_or("-");
            writeln!(out, "   {letters:>width$}   {}   {}", plain(event_type), plain(reason))?;
        }
        let rest = reasons.len() - shown.len();
        if rest > 0 {
            let letters: u64 = reasons[REASONS..].iter().map(|it| it.letters).sum();
            let reasons = count(rest as u64, "other reason", "other reasons");
            writeln!(out, "   {letters:>width$}   for {reasons}")?;
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::letter;
    use super::*;

    #[test]
    fn many_letters_are_counted_by_reason_and_few_are_shown() {
        let mut tally = Tally::default();
        for number in 0..20 {
            let mut letter = letter().summary;
            letter.fingerprint = format!("f{}", if number < 8 { 0 } else { number });
            letter.reason = format!("reason of {}\u{1b}", letter.fingerprint);
            tally.add(&letter);
            if number == 2 {
                let mut text = Vec::new();
                tally.write(&mut text).unwrap();
                let text = String::from_utf8(text).unwrap();
                assert_eq!(
                    text.matches("   reason       reason of f0\\x1b\n").count(),
                    3,
                    "{text}"
                );
            }
        }
        let mut text = Vec::new();
        tally.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("   8   order.completed   reason of f0\\x1b\n   1   "), "{text}");
        assert!(text.contains("   3   for 3 other reasons\n"), "{text}");
    }
}
