use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::instruments::Instruments;

/// How often depth and age are measured.
const EVERY: Duration = Duration::from_secs(5);
/// The limit of a statement, on the server and here.
const STATEMENT: (&str, &str) = ("statement_timeout", "4s");
const LIMIT: Duration = Duration::from_secs(6);
/// The measurement begins where the oldest event was found last; so often at the very beginning, since ids become visible
/// out of order.
const FROM_THE_START: u32 = 12;

/// Measures depth and age of an outbox, on a connection of its own: whatever the relay waits for.
pub(crate) struct DepthGauge<'a> {
    pub(crate) database: &'a PgConnectOptions,
    pub(crate) instruments: &'a Instruments,
}

impl DepthGauge<'_> {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: &CancellationToken) {
        shutdown.run_until_cancelled(self.measure_for_ever()).await;
    }

    async fn measure_for_ever(&self) {
        let mut session = None;
        let mut is_failing = false;
        let mut oldest = 0;
        for round in 0_u32.. {
            if round.is_multiple_of(FROM_THE_START) {
                oldest = 0;
            }
            let measured = pg::within(LIMIT, self.measure(&mut session, &mut oldest)).await;
            if let Err(error) = &measured {
                session = None;
                if !is_failing {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "depth and age of the outbox not measured, retrying"
                    );
                }
            }
            is_failing = measured.is_err();
            sleep(EVERY).await;
        }
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let mut session = self.database.connect().await?;
        let (name, limit) = STATEMENT;
        pg::set_in_session(&mut session, &[(name, limit.to_owned())]).await?;
        Ok(session)
    }

    /// Dead rows that an old snapshot keeps are passed over once, and not at each measurement.
    async fn measure(
        &self,
        session: &mut Option<PgConnection>,
        oldest: &mut i64,
    ) -> sqlx::Result<()> {
        let session = match session {
            Some(session) => session,
            None => session.insert(self.connect().await?),
        };
        let (depth, age, first): (i64, f64, Option<i64>) = sqlx::query_as(
            "select (select count(*) from (select from outbox where id >= $1 limit 100000) waiting),
                    coalesce(extract(epoch from clock_timestamp() - first.created_at), 0)::float8,
                    first.id
             from (values (1)) one
             left join lateral (select id, created_at from outbox where id >= $1 order by id limit 1) first on true",
        )
        .bind(*oldest)
        .fetch_one(session)
        .await?;
        *oldest = first.unwrap_or(*oldest);
        self.instruments.waiting(depth.unsigned_abs(), age.max(0.0));
        Ok(())
    }
}
