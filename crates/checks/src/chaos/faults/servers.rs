//! Kafka and Postgres become unavailable, or freeze.

use std::time::{Duration, Instant};

use sandbox::Shutdown;
use sqlx::Connection;
use tokio::time::{sleep, timeout};

use super::Evidence;
use crate::chaos::Error;
use crate::chaos::scene::Scene;

const BEFORE: usize = 100;
const AFTERWARDS: usize = 50;
/// Longer than it takes to dead-letter a message, if its attempts counted: its retries take up to
/// 13 s.
const ATTEMPTS: Duration = Duration::from_secs(25);

pub(crate) async fn kafka_stopped(scene: &mut Scene) -> Evidence {
    scene.orders(BEFORE).await?;
    scene.system.servers.kafka.halt().await;
    let before = scene.load.taken();
    sleep(Duration::from_secs(30)).await;
    let meanwhile = scene.load.taken() - before;
    let readiness = scene.order.readiness().await?;
    scene.system.servers.kafka.start_again().await?;
    scene.healed();
    if readiness["kafka"] != "away" || meanwhile == 0 {
        return Err(
            format!("order reports {readiness}, and {meanwhile} orders were accepted").into()
        );
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("Kafka was unavailable, and {meanwhile} orders were accepted"))
}

pub(crate) async fn postgres_restarted(scene: &mut Scene) -> Evidence {
    // Slow, so that messages are being processed when it stops.
    scene.slow_billing(100).await?;
    scene.orders(BEFORE).await?;
    scene.system.servers.postgres.halt(Shutdown::Immediate).await;
    sleep(Duration::from_secs(8)).await;
    let refused = scene.billing.metric("consumer_unavailable_total", "").await;
    scene.system.servers.postgres.start_again().await?;
    scene.quick_billing().await?;
    scene.healed();
    if refused < 1.0 {
        return Err("billing did not notice that its database was unavailable".into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("billing found its database unavailable {refused} times"))
}

pub(crate) async fn connections_cut(scene: &mut Scene) -> Evidence {
    // Longer than a connection lives: no transaction can complete.
    scene.slow_billing(100).await?;
    scene.orders(BEFORE).await?;
    let cut = cut_connections(scene).await?;
    let failed = scene.billing.metric("consumer_unavailable_total", "").await
        + scene.billing.metric("consumer_retries_total", "").await;
    scene.quick_billing().await?;
    scene.healed();
    if failed < 1.0 {
        return Err(format!("{cut} connections were cut, and billing did not notice").into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok(format!("{cut} connections were cut, and {failed} attempts failed"))
}

/// Cuts all of billing's connections repeatedly. Returns the number of cut connections.
async fn cut_connections(scene: &Scene) -> Result<i64, Error> {
    let mut database = scene.system.database("billing").await?;
    let (began, mut cut) = (Instant::now(), 0);
    while began.elapsed() < ATTEMPTS {
        cut += sqlx::query_scalar::<_, i64>(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = 'billing' and pid <> pg_backend_pid()",
        )
        .fetch_one(&mut database)
        .await?;
        sleep(Duration::from_millis(20)).await;
    }
    database.close().await?;
    Ok(cut)
}

pub(crate) async fn postgres_frozen(scene: &mut Scene) -> Evidence {
    scene.slow_billing(100).await?;
    scene.orders(BEFORE).await?;
    scene.system.servers.postgres.process().pause();
    let asked = timeout(Duration::from_secs(2), scene.system.database("order")).await;
    sleep(Duration::from_secs(13)).await;
    scene.system.servers.postgres.process().resume();
    scene.quick_billing().await?;
    scene.healed();
    if asked.is_ok() {
        return Err("Postgres answered while it was frozen".into());
    }
    scene.orders(AFTERWARDS).await?;
    Ok("Postgres did not answer for 15 s".into())
}
