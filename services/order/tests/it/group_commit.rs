//! Changes of concurrent requests share a statement, and do not affect each other.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sandbox::testing::eventually;
use serde_json::json;

use crate::app::{Answer, App, Ask, Rows, an_order, an_order_with};

const PATIENCE: Duration = Duration::from_secs(30);

impl App {
    /// Slows down each statement that inserts orders, so that concurrent requests share the next
    /// one.
    pub(crate) async fn with_slow_statements(self, seconds: &str) -> Self {
        self.with_slow_inserts(seconds, "statement").await
    }

    /// Slows down inserts of orders. `each` is what follows `for each` in the trigger.
    async fn with_slow_inserts(self, seconds: &str, each: &str) -> Self {
        let sql = format!(
            "create function slow() returns trigger language plpgsql as
                 $$ begin perform pg_sleep({seconds}); return null; end $$;
             create trigger slow after insert on orders for each {each} execute function slow()"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
        self
    }

    /// Returns whether a slow statement is running.
    pub(crate) async fn is_writing(&self) -> bool {
        let slow = "select exists (select from pg_stat_activity
                    where datname = current_database() and wait_event = 'PgSleep')";
        sqlx::query_scalar(slow).fetch_one(&self.pool).await.unwrap()
    }

    async fn place_with(&self, key: &str) -> Answer {
        self.post("/orders").json(&an_order()).header("idempotency-key", key).answer().await
    }

    /// Returns the number of transactions that wrote the current orders.
    pub(crate) async fn transactions(&self) -> i64 {
        let count = "select count(distinct xmin::text) from orders";
        sqlx::query_scalar(count).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_share_statements_and_their_events_keep_their_order() {
    let app = App::start().await.with_slow_statements("0.2").await;
    let order = an_order_with(json!({ "complete": true }));
    let placed = join_all((0..40).map(|n| {
        let request = app.post("/orders").json(&order);
        request.header("idempotency-key", format!("k{n}")).answer()
    }))
    .await;
    assert!(placed.iter().all(|it| it.status == 201), "{placed:?}");
    assert_eq!(app.rows().await, Rows { orders: 40, keys: 40, events: 80 });
    let transactions = app.transactions().await;
    assert!(transactions < 20, "{transactions} transactions");
    for placed in placed {
        let id = placed.json()["id"].as_str().unwrap().to_owned();
        let events = app.events().await.into_iter().filter(|event| event.key == id);
        let topics: Vec<_> = events.map(|event| event.topic).collect();
        assert_eq!(topics, ["order.created", "order.completed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_for_a_lock_is_waited_for_by_nobody() {
    let app = App::start().await;
    let held = app.place(&an_order()).await;
    let app = app.with_slow_statements("0.2").await;
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("select from orders for update").execute(&mut *other).await.unwrap();
    sqlx::query(
        "insert into idempotency_key (tenant_id, key, fingerprint, status, headers, body)
         values ('acme', 'held', '', 201, '{}', '{}')",
    )
    .execute(&mut *other)
    .await
    .unwrap();

    let began = Instant::now();
    let complete = format!("/orders/{held}/complete");
    // More requests than there are concurrent statements.
    let waiting = join_all((0..4).map(|_| app.post(&complete).answer()));
    let twin = app.place_with("held");
    let others = async {
        let placed = join_all((0..20).map(|_| app.post("/orders").json(&an_order()).answer()));
        let placed = placed.await;
        let took = began.elapsed();
        other.rollback().await.unwrap();
        (placed, took)
    };
    let (waiting, twin, (placed, took)) = tokio::join!(waiting, twin, others);
    assert!(placed.iter().all(|it| it.status == 201), "{placed:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(twin.status, 201, "{}", twin.text);
    assert!(waiting.iter().all(|it| it.status == 200), "{waiting:?}");
    assert_eq!(app.rows().await, Rows { orders: 22, keys: 1, events: 23 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_delays_other_changes_for_a_moment_only() {
    let each = "row when (new.customer_email = 'slow@example.com')";
    let app = App::start().await.with_slow_inserts("3", each).await;
    let slow = an_order_with(json!({ "customer_email": "slow@example.com" }));
    let other = async {
        let writes = async || app.is_writing().await.then_some(());
        eventually("a slow statement", PATIENCE, writes).await;
        let began = Instant::now();
        let answer = app.post("/orders").json(&an_order()).answer().await;
        (answer, began.elapsed())
    };
    let (slow, (other, took)) = tokio::join!(app.post("/orders").json(&slow).answer(), other);
    assert_eq!((slow.status, other.status), (201, 201));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_database_refuses_fails_alone() {
    let app = App::start().await.with_slow_statements("0.2").await;
    sqlx::raw_sql("alter table orders add check (customer_email <> 'broken@example.com')")
        .execute(&app.pool)
        .await
        .unwrap();
    let broken = an_order_with(json!({ "customer_email": "broken@example.com" }));
    let orders = (0..24).map(|n| if n % 8 == 5 { broken.clone() } else { an_order() });
    let orders: Vec<_> = orders.collect();
    let answers = join_all(orders.iter().map(|order| app.post("/orders").json(order).answer()));
    for (order, answer) in orders.iter().zip(answers.await) {
        assert_eq!(answer.status, if *order == broken { 500 } else { 201 }, "{}", answer.text);
    }
    assert_eq!(app.rows().await, Rows { orders: 21, keys: 0, events: 21 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_leaves_out_its_own_change_only() {
    let app = App::start().await;
    let first = app.place_with("k").await;
    let app = app.with_slow_statements("0.2").await;
    // Some requests share a key.
    let keys = (0..24).map(|n| if n % 3 == 0 { "k".to_owned() } else { format!("k{}", n / 2) });
    let keys: Vec<_> = keys.collect();
    let answers = join_all(keys.iter().map(|key| app.place_with(key))).await;
    for (key, answer) in keys.iter().zip(answers) {
        assert_eq!(answer.status, 201, "{}", answer.text);
        if key == "k" {
            assert_eq!(answer.lasting(), first.clone().lasting());
        }
    }
    let rows = app.rows().await;
    assert_eq!(rows, Rows { orders: rows.keys, keys: rows.keys, events: rows.keys });
    assert_eq!(rows.keys, 1 + 12, "one for each key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_sent_is_written_though_its_caller_hung_up() {
    let app = App::start().await.with_slow_statements("0.5").await;
    let order = an_order();
    let request = app.post("/orders").json(&order).timeout(Duration::from_millis(300));
    assert!(request.send().await.is_err_and(|error| error.is_timeout()));
    eventually("the order", PATIENCE, async || {
        (app.rows().await == Rows { orders: 1, keys: 0, events: 1 }).then_some(())
    })
    .await;
}
