use std::collections::{BTreeMap, HashMap, HashSet};

use events::Envelope;
use sqlx::PgConnection;

use crate::subscription::Mode;

/// What a message came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The handler made its effect.
    Processed,
    /// It had been dealt with before.
    Duplicate,
    /// Something newer had been applied before.
    Superseded,
    /// It was replayed in vain too often, and stays a dead letter.
    Parked,
}

impl Outcome {
    /// As the inbox and the log have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Parked => "parked",
        }
    }
}

/// What the inbox says about a message, with its row written.
pub(crate) enum Admission {
    /// The handler is to be called. `gap`: versions of the same subject are missing before this one.
    Admitted { gap: bool },
    /// It is not.
    Settled(Outcome),
}

/// Enters an event into the inbox, in the transaction of its effect. A twin in another transaction that has
/// not ended yet is waited for, up to `lock_timeout`.
pub(crate) async fn admit(
    tx: &mut PgConnection,
    subscription: &str,
    mode: Mode,
    envelope: &Envelope,
) -> sqlx::Result<Admission> {
    let entered = sqlx::query(
        "insert into inbox (subscription, source, event_id, outcome) values ($1, $2, $3, 'processed')
         on conflict do nothing",
    )
    .bind(subscription)
    .bind(&envelope.source)
    .bind(envelope.id.as_str())
    .execute(&mut *tx)
    .await?;
    if entered.rows_affected() == 0 {
        return Ok(Admission::Settled(Outcome::Duplicate));
    }
    if mode == Mode::EachOnce {
        return Ok(Admission::Admitted { gap: false });
    }
    if let Some(before) = advance(tx, subscription, envelope).await? {
        Ok(Admission::Admitted { gap: envelope.version > before + 1 })
    } else {
        sqlx::query(
            "update inbox set outcome = 'superseded'
             where subscription = $1 and source = $2 and event_id = $3",
        )
        .bind(subscription)
        .bind(&envelope.source)
        .bind(envelope.id.as_str())
        .execute(tx)
        .await?;
        Ok(Admission::Settled(Outcome::Superseded))
    }
}

/// Raises the version applied to the subject, if this one is higher. Gives the one before (0: none).
async fn advance(
    tx: &mut PgConnection,
    subscription: &str,
    envelope: &Envelope,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "with before as (
             select version from inbox_version where subscription = $1 and subject = $2
         )
         insert into inbox_version as applied (subscription, subject, version) values ($1, $2, $3)
         on conflict (subscription, subject) do update set version = excluded.version
             where applied.version < excluded.version
         returning coalesce((select version from before), 0)",
    )
    .bind(subscription)
    .bind(&envelope.subject)
    .bind(envelope.version)
    .fetch_optional(tx)
    .await
}

/// A message that asks to be admitted, with others.
pub(crate) struct Candidate<'a> {
    pub(crate) mode: Mode,
    pub(crate) envelope: &'a Envelope,
}

impl Candidate<'_> {
    fn identity(&self) -> (&str, &str) {
        (&self.envelope.source, self.envelope.id.as_str())
    }
}

/// [`admit`] for many, in their order. Rows are locked in a sorted order, so that two batches can't wait for each
/// other.
pub(crate) async fn admit_all(
    tx: &mut PgConnection,
    subscription: &str,
    candidates: &[Candidate<'_>],
) -> sqlx::Result<Vec<Admission>> {
    let mut fresh = enter_all(tx, subscription, candidates).await?;
    // A twin in the same batch is a duplicate like any other.
    let admitted: Vec<_> = candidates.iter().map(|it| fresh.remove(&it.identity())).collect();
    let versioned = candidates.iter().zip(&admitted);
    let versioned = versioned.filter(|(it, fresh)| **fresh && it.mode == Mode::LatestWins);
    let versioned: Vec<_> = versioned.map(|(it, _)| it.envelope).collect();
    let mut applied = Applied::lock(tx, subscription, &versioned).await?;

    let mut superseded = Vec::new();
    let admissions = candidates.iter().zip(admitted).map(|(it, fresh)| {
        if !fresh {
            return Admission::Settled(Outcome::Duplicate);
        }
        if it.mode == Mode::EachOnce {
            return Admission::Admitted { gap: false };
        }
        if let Some(before) = applied.advance(it.envelope) {
            return Admission::Admitted { gap: it.envelope.version > before + 1 };
        }
        superseded.push(it.identity());
        Admission::Settled(Outcome::Superseded)
    });
    let admissions = admissions.collect();
    applied.write(tx, subscription).await?;
    mark_superseded(tx, subscription, &superseded).await?;
    Ok(admissions)
}

/// Writes the inbox rows. Gives those that were not there.
async fn enter_all<'a>(
    tx: &mut PgConnection,
    subscription: &str,
    candidates: &'a [Candidate<'a>],
) -> sqlx::Result<HashSet<(&'a str, &'a str)>> {
    let mut identities: Vec<_> = candidates.iter().map(Candidate::identity).collect();
    identities.sort_unstable();
    identities.dedup();
    let (sources, ids): (Vec<_>, Vec<_>) = identities.iter().copied().unzip();
    let entered: Vec<(String, String)> = sqlx::query_as(
        "insert into inbox (subscription, source, event_id, outcome)
         select $1, source, id, 'processed' from unnest($2::text[], $3::text[]) event (source, id)
         on conflict do nothing
         returning source, event_id",
    )
    .bind(subscription)
    .bind(&sources)
    .bind(&ids)
    .fetch_all(tx)
    .await?;
    let entered: HashSet<_> = entered.iter().map(|(source, id)| (&**source, &**id)).collect();
    Ok(identities.into_iter().filter(|identity| entered.contains(identity)).collect())
}

async fn mark_superseded(
    tx: &mut PgConnection,
    subscription: &str,
    identities: &[(&str, &str)],
) -> sqlx::Result<()> {
    if identities.is_empty() {
        return Ok(());
    }
    let (sources, ids): (Vec<_>, Vec<_>) = identities.iter().copied().unzip();
    sqlx::query(
        "update inbox set outcome = 'superseded'
         where subscription = $1
           and (source, event_id) in (select * from unnest($2::text[], $3::text[]))",
    )
    .bind(subscription)
    .bind(&sources)
    .bind(&ids)
    .execute(tx)
    .await?;
    Ok(())
}

/// The versions applied to the subjects of a batch, locked until its transaction ends.
#[derive(Default)]
struct Applied {
    versions: HashMap<String, i64>,
    /// Sorted, because they are written in this order.
    raised: BTreeMap<String, i64>,
}

impl Applied {
    async fn lock(
        tx: &mut PgConnection,
        subscription: &str,
        envelopes: &[&Envelope],
    ) -> sqlx::Result<Self> {
        let mut subjects: Vec<_> = envelopes.iter().map(|it| it.subject.as_str()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.is_empty() {
            return Ok(Self::default());
        }
        // Rows that are missing are made first: what is not there can't be locked.
        sqlx::query(
            "insert into inbox_version (subscription, subject, version)
             select $1, subject, 0 from unnest($2::text[]) subject
             on conflict do nothing",
        )
        .bind(subscription)
        .bind(&subjects)
        .execute(&mut *tx)
        .await?;
        let versions: Vec<(String, i64)> = sqlx::query_as(
            "select subject, version from inbox_version
             where subscription = $1 and subject = any($2) order by subject for update",
        )
        .bind(subscription)
        .bind(&subjects)
        .fetch_all(tx)
        .await?;
        Ok(Self { versions: versions.into_iter().collect(), raised: BTreeMap::new() })
    }

    /// Raises the version of the subject, if this one is higher. Gives the one before (0: none).
    fn advance(&mut self, envelope: &Envelope) -> Option<i64> {
        let known = self.versions.get_mut(&envelope.subject)?;
        let before = *known;
        if envelope.version <= before {
            return None;
        }
        *known = envelope.version;
        self.raised.insert(envelope.subject.clone(), envelope.version);
        Some(before)
    }

    async fn write(&self, tx: &mut PgConnection, subscription: &str) -> sqlx::Result<()> {
        if self.raised.is_empty() {
            return Ok(());
        }
        let (subjects, versions): (Vec<&str>, Vec<i64>) =
            self.raised.iter().map(|(subject, version)| (subject.as_str(), *version)).unzip();
        sqlx::query(
            "update inbox_version applied set version = raised.version
             from unnest($2::text[], $3::bigint[]) raised (subject, version)
             where applied.subscription = $1 and applied.subject = raised.subject",
        )
        .bind(subscription)
        .bind(&subjects)
        .bind(&versions)
        .execute(tx)
        .await?;
        Ok(())
    }
}
