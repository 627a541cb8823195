//! Billing's database refuses, or another transaction holds a lock: no message is at fault.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};
use tokio::time::sleep;

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::scene::{Scene, soon};

const BEFORE: usize = 100;
const MEANWHILE: usize = 100;
const AFTERWARDS: usize = 50;
/// Longer than it takes to dead-letter a message, if its attempts counted: its retries take up to
/// 13 s.
const LASTS: Duration = Duration::from_secs(20);

/// Makes the database read-only, as after a failover that left the service connected to the old
/// primary.
pub(crate) async fn read_only(scene: &mut Scene) -> Evidence {
    let refusal = Refusal {
        begin: "alter role billing set default_transaction_read_only = on",
        end: "alter role billing reset default_transaction_read_only",
        message: "read-only transaction",
    };
    refusal.strike(scene).await
}

/// Refuses logins, as after a rotation of credentials that did not reach the service.
pub(crate) async fn logins_refused(scene: &mut Scene) -> Evidence {
    let refusal = Refusal {
        begin: "alter role billing nologin",
        end: "alter role billing login",
        message: "not permitted to log in",
    };
    refusal.strike(scene).await
}

pub(crate) async fn connections_exhausted(scene: &mut Scene) -> Evidence {
    let refusal = Refusal {
        begin: "alter role billing connection limit 0",
        end: "alter role billing connection limit -1",
        message: "too many connections",
    };
    refusal.strike(scene).await
}

pub(crate) async fn rights_revoked(scene: &mut Scene) -> Evidence {
    let refusal = Refusal {
        begin: "revoke insert on inbox, invoices from billing",
        end: "grant insert on inbox, invoices to billing",
        message: "permission denied",
    };
    refusal.strike(scene).await
}

/// Statements that make billing's database refuse, and let it serve again.
struct Refusal {
    begin: &'static str,
    end: &'static str,
    /// A text that billing's `/readyz` has to contain meanwhile.
    message: &'static str,
}

impl Refusal {
    async fn strike(&self, scene: &mut Scene) -> Evidence {
        scene.orders(BEFORE).await?;
        execute(scene, self.begin).await?;
        // Existing sessions keep the privileges that they started with.
        execute(
            scene,
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'billing'",
        )
        .await?;
        scene.orders(MEANWHILE).await?;
        let is_reported = soon(async || readiness_contains(scene, self.message).await).await;
        sleep(LASTS).await;
        execute(scene, self.end).await?;
        scene.healed();
        if !is_reported {
            let readiness = scene.billing.readiness().await?;
            return Err(format!("billing did not report {:?}: {readiness}", self.message).into());
        }
        scene.orders(AFTERWARDS).await?;
        Ok(format!("billing reported {:?} and waited", self.message))
    }
}

/// Returns `true` if billing's `/readyz` contains a text.
pub(crate) async fn readiness_contains(scene: &Scene, text: &str) -> bool {
    scene.billing.readiness().await.is_ok_and(|readiness| readiness.to_string().contains(text))
}

pub(super) async fn execute(scene: &Scene, sql: &str) -> Result<(), Error> {
    let mut database = scene.system.database("billing").await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut database).await?;
    Ok(database.close().await?)
}

/// Locks the row that every invoice of a tenant needs, in another transaction.
pub(crate) async fn counter_locked(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    let mut database = scene.system.database("billing").await?;
    let mut held = database.begin().await?;
    sqlx::query("select * from invoice_counter for update").execute(&mut *held).await?;
    scene.orders(MEANWHILE).await?;
    let is_reported = soon(async || readiness_contains(scene, "parked").await).await;
    sleep(LASTS).await;
    held.rollback().await?;
    scene.healed();
    if !is_reported {
        return Err("billing did not report that keys are parked".into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok("billing parked the orders whose counter was locked".into())
}
