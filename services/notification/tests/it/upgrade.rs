//! Upgrade of a database of the previous release.

use sqlx::PgPool;
use uuid::Uuid;

use crate::house::{House, deliveries, get};

async fn of_the_release_before(pool: &PgPool) {
    jobs::migrate(pool).await.unwrap();
    let mut migrations = sqlx::migrate!("./migrations");
    migrations.migrations.to_mut().retain(|migration| migration.version <= 2);
    migrations.run(pool).await.unwrap();
}

#[tokio::test]
async fn webhooks_and_e_mails_of_the_release_before_are_kept_and_listed() {
    let house = House::empty().await;
    of_the_release_before(&house.pool).await;
    // One URL registered twice, each time for other events. Both registrations stay.
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    for (id, event) in ids.iter().zip(["order.completed", "invoice.issued"]) {
        sqlx::query(
            "insert into webhooks (id, tenant_id, url, events, secret)
             values ($1, 'acme', 'https://1.1.1.1/', array[$2], 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')",
        )
        .bind(id)
        .bind(event)
        .execute(&house.pool)
        .await
        .unwrap();
    }
    for day in 1..=3 {
        sqlx::query(
            "insert into emails (order_id, kind, tenant_id, recipient, subject, body, message_id, created_at, sent_at)
             values (gen_random_uuid(), 'receipt', 'acme', 'ada@example.com', $1, '', '<1@example.com>',
                     now() - make_interval(days => $2), now())",
        )
        .bind(format!("{day} days old"))
        .bind(day)
        .execute(&house.pool)
        .await
        .unwrap();
    }
    let running = house.start().await;
    let (_, webhooks) = get(&running, "/webhooks", "demo-acme").await;
    let listed: Vec<_> = webhooks["webhooks"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 2, "{webhooks}");
    assert!(listed.iter().all(|webhook| webhook["status"] == "enabled"), "{webhooks}");
    let (_, emails) = get(&running, "/emails?status=sent", "demo-acme").await;
    let subjects: Vec<_> =
        emails["emails"].as_array().unwrap().iter().map(|email| email["subject"].clone()).collect();
    assert_eq!(subjects, ["1 days old", "2 days old", "3 days old"]);
    assert_eq!(deliveries(&running, "limit=1").await.len(), 0);

    // An instance of the previous release is still running: the rows that it writes have ids, and
    // it may register a URL twice.
    sqlx::query(
        "insert into emails (order_id, kind, tenant_id, recipient, subject, body, message_id)
         values (gen_random_uuid(), 'receipt', 'acme', 'ada@example.com', 'new', '', '<1@example.com>')",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    let (_, emails) = get(&running, "/emails?limit=1", "demo-acme").await;
    assert_eq!(emails["emails"][0]["subject"], "new");
    sqlx::query(
        "insert into webhooks (id, tenant_id, url, events, secret)
         values (gen_random_uuid(), 'acme', 'https://1.1.1.1/', array['order.completed'], 'whsec_MfKQ9r8G')",
    )
    .execute(&house.pool)
    .await
    .unwrap();
    running.shutdown().await;
}
