//! Erasure of a customer to whom an e-mail is being sent. The mail server quotes the address when
//! it refuses the e-mail.

use chassis::RunningService;
use reqwest::Client;
use sandbox::testing::eventually;
use serde_json::json;

use crate::house::{House, PATIENCE, completed_to};
use crate::sink::Sink;

const CUSTOMER: &str = "doubtful@example.com";

/// An e-mail whose recipient the mail server has been told, and has not refused yet.
struct UnderWay {
    house: House,
    sink: Sink,
    running: RunningService,
}

impl UnderWay {
    async fn start() -> Self {
        let house = House::empty().await;
        let (sink, port) = Sink::start().await;
        let running = house.start_smtp(port).await;
        house.send(&completed_to("acme", CUSTOMER)).await;
        let asked = async || (sink.tries(CUSTOMER) > 0).then_some(());
        eventually("the mail server to be asked", PATIENCE, asked).await;
        Self { house, sink, running }
    }

    /// Waits until no job is to be run, and returns the errors of those that failed.
    async fn errors(&self) -> Vec<String> {
        eventually("the job to end", PATIENCE, async || {
            let jobs = "select failed_at is not null, errors::text from job";
            let jobs: Vec<(bool, String)> =
                sqlx::query_as(jobs).fetch_all(&self.house.pool).await.unwrap();
            let have_ended = jobs.iter().all(|(has_failed, _)| *has_failed);
            have_ended.then(|| jobs.into_iter().map(|(_, errors)| errors).collect())
        })
        .await
    }
}

#[tokio::test]
async fn an_e_mail_that_is_refused_after_its_customer_was_erased_leaves_no_record() {
    let mail = UnderWay::start().await;
    let erasure = Client::new().post(format!("http://{}/erasures", mail.running.admin));
    let erasure = erasure.json(&json!({ "customer_email": CUSTOMER }));
    assert_eq!(erasure.bearer_auth("operator").send().await.unwrap().status(), 200);
    assert!(mail.house.rows().await.is_empty());
    mail.sink.refuses_the_doubtful();
    let errors = mail.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
    mail.running.shutdown().await;
}

#[tokio::test]
async fn an_e_mail_that_is_erased_while_its_refusal_is_recorded_leaves_no_record() {
    let mail = UnderWay::start().await;
    // Like an erasure, which locks the job before the e-mail.
    let mut tx = mail.house.pool.begin().await.unwrap();
    sqlx::query("select from job for update").execute(&mut *tx).await.unwrap();
    mail.sink.refuses_the_doubtful();
    mail.house.until_waiting_for_a_lock().await;
    let deleted = sqlx::query("delete from emails").execute(&mut *tx).await.unwrap();
    assert_eq!(deleted.rows_affected(), 1);
    tx.commit().await.unwrap();
    let errors = mail.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
    mail.running.shutdown().await;
}
