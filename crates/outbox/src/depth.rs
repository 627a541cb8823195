use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::instruments::Instruments;

/// Interval of the measurements of depth and age.
const EVERY: Duration = Duration::from_secs(5);
/// Statement timeout, on the server and in this process.
const STATEMENT: (&str, &str) = ("statement_timeout", "4s");
const LIMIT: Duration = Duration::from_secs(6);
/// A measurement starts at the last known oldest event. Every twelfth measurement starts at the
/// first id, since ids become visible out of order.
const FROM_THE_START: u32 = 12;

/// Measures depth and age of an outbox on its own connection, independently of the relay.
pub(crate) struct DepthGauge<'a> {
    pub(crate) database: &'a PgConnectOptions,
    pub(crate) instruments: &'a Instruments,
}

/// Start of a measurement. Dead rows that an old snapshot keeps are scanned once, and not in every
/// measurement.
#[derive(Clone, Copy, Default, Debug)]
struct MeasurementStart {
    /// No event exists before this id.
    oldest: i64,
    /// The last assigned id, as of the last measurement.
    assigned: Option<i64>,
    round: u32,
}

impl MeasurementStart {
    /// Returns the start of the next measurement. A failed measurement does not change it.
    fn next(&mut self) -> i64 {
        let is_first = self.round.is_multiple_of(FROM_THE_START);
        self.round = self.round.wrapping_add(1);
        if is_first { 0 } else { self.oldest }
    }

    fn found(&mut self, measured: &Measurement) {
        // If the outbox was empty, all ids assigned before the last measurement are gone.
        let gone = self.assigned.unwrap_or(self.oldest);
        self.oldest = measured.oldest.unwrap_or(gone);
        self.assigned = measured.assigned;
    }
}

#[derive(sqlx::FromRow)]
struct Measurement {
    depth: i64,
    age: f64,
    oldest: Option<i64>,
    assigned: Option<i64>,
}

impl DepthGauge<'_> {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: &CancellationToken) {
        shutdown.run_until_cancelled(self.measure_for_ever()).await;
    }

    async fn measure_for_ever(&self) {
        let mut session = None;
        let mut is_failing = false;
        let mut start = MeasurementStart::default();
        loop {
            let measured = pg::within(LIMIT, self.measure(&mut session, &mut start)).await;
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

    async fn measure(
        &self,
        session: &mut Option<PgConnection>,
        start: &mut MeasurementStart,
    ) -> sqlx::Result<()> {
        let from = start.next();
        let session = match session {
            Some(session) => session,
            None => session.insert(self.connect().await?),
        };
        let measured = measure(session, from).await?;
        start.found(&measured);
        self.instruments.waiting(measured.depth.unsigned_abs(), measured.age.max(0.0));
        Ok(())
    }
}

/// Finds the oldest event from an id on, and counts the events from it on, so that earlier dead
/// rows are scanned once.
async fn measure(session: &mut PgConnection, from: i64) -> sqlx::Result<Measurement> {
    sqlx::query_as(
        "select (select count(*) from (select from outbox where id >= first.id limit 100000) waiting) as depth,
                coalesce(extract(epoch from clock_timestamp() - first.created_at), 0)::float8 as age,
                first.id as oldest,
                case when has_sequence_privilege(ids.sequence::oid, 'select')
                     then coalesce(pg_sequence_last_value(ids.sequence), 0) end as assigned
         from (select pg_get_serial_sequence('outbox', 'id')::regclass as sequence) ids
         left join lateral (select id, created_at from outbox where id >= $1 order by id limit 1) first on true",
    )
    .bind(from)
    .fetch_one(session)
    .await
}

#[cfg(test)]
mod tests {
    use sandbox::testing::TestSpace;
    use sqlx::{Connection, PgPool};
    use telemetry::Metrics;

    use super::*;

    async fn write(pool: &PgPool) {
        sqlx::query(
            "insert into outbox (shard, topic, key, headers, payload) values (0, 't', 'K', '{}', 'x')",
        )
        .execute(pool)
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn what_was_passed_over_is_remembered_when_nothing_waits_and_when_a_round_fails() {
        let space = TestSpace::new().await;
        let pool = PgPool::connect(space.database_url()).await.unwrap();
        crate::migrate(&pool).await.unwrap();
        let database = space.database_url().parse().unwrap();
        let instruments = Instruments::new(&Metrics::new("test").meter("outbox"));
        let gauge = DepthGauge { database: &database, instruments: &instruments };
        let mut session = Some(PgConnection::connect(space.database_url()).await.unwrap());
        let mut start = MeasurementStart::default();
        for _ in 0..7 {
            write(&pool).await;
        }
        gauge.measure(&mut session, &mut start).await.unwrap();
        assert_eq!(start.oldest, 1);
        sqlx::query("delete from outbox").execute(&pool).await.unwrap();
        for _ in 0..2 {
            gauge.measure(&mut session, &mut start).await.unwrap();
        }
        assert_eq!(start.oldest, 7, "nothing of all that was written is left");
        write(&pool).await;
        gauge.measure(&mut session, &mut start).await.unwrap();
        assert_eq!(start.oldest, 8);

        let mut locked = pool.begin().await.unwrap();
        sqlx::query("lock table outbox").execute(&mut *locked).await.unwrap();
        let mut slow = PgConnection::connect(space.database_url()).await.unwrap();
        sqlx::query("set statement_timeout = 50").execute(&mut slow).await.unwrap();
        start.round = FROM_THE_START;
        gauge.measure(&mut Some(slow), &mut start).await.unwrap_err();
        assert_eq!(
            start.next(),
            8,
            "the round from the start failed, and the next one begins here"
        );
    }
}
