use events::Envelope;
use sqlx::PgConnection;

use crate::subscription::Mode;

/// What a message came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The handler made its effect.
    Processed,
    /// It had been dealt with before.
    Duplicate,
    /// Something newer had been applied before.
    Superseded,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
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
