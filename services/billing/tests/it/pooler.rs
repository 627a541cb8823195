//! Billing behind a PgBouncer, if one is installed.

use std::error::Error;

use billing::{Config, app};
use chassis::StartError;
use sandbox::PgBouncer;
use sandbox::testing::eventually;

use crate::house::{House, PATIENCE, completed};

impl House {
    /// Returns billing's configuration with its database behind a pooler.
    fn pooled(&self, bouncer: &PgBouncer) -> Config {
        Config { chassis: self.chassis_on(bouncer.url()) }
    }
}

#[tokio::test]
async fn behind_a_pooler_of_whole_sessions_orders_are_invoiced_and_published() {
    let house = House::empty().await;
    let settings = ["default_pool_size = 40"];
    let bouncer = PgBouncer::start(house.space.database_url(), "session", &settings).await;
    let Some(bouncer) = bouncer else { return };
    let running = app::build(house.pooled(&bouncer)).start().await.unwrap();
    house.send(&completed("acme")).await;
    house.invoiced(1).await;
    let published = async || (house.records("invoice.issued", 1).await.len() == 1).then_some(());
    eventually("the invoice to be published", PATIENCE, published).await;
    assert!(running.shutdown().await);
}

#[tokio::test]
async fn it_does_not_start_behind_a_pooler_that_shares_sessions() {
    for mode in ["transaction", "statement"] {
        let house = House::empty().await;
        let bouncer = PgBouncer::start(house.space.database_url(), mode, &[]).await;
        let Some(bouncer) = bouncer else { return };
        let error = app::build(house.pooled(&bouncer)).start().await.err().unwrap();
        assert!(matches!(error, StartError::SharedSessions), "{mode}: {error}");
        let line = error.to_string();
        assert!(line.contains("pool_mode=session") && !line.contains('\n'), "{line}");
        assert!(error.source().is_none());
        // Nothing was written, so another release or a direct connection finds the database
        // unchanged.
        let tables: i64 =
            sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
                .fetch_one(&house.pool)
                .await
                .unwrap();
        assert_eq!(tables, 0, "{mode}");
    }
}
