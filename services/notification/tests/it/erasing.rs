//! Erasure of a customer to whom an e-mail is being sent. The mail server quotes the address when
//! it refuses the e-mail.

use std::sync::Arc;

use chassis::RunningService;
use reqwest::Client;
use sandbox::testing::eventually;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::house::{House, PATIENCE, completed};

/// An e-mail whose recipient the mail server has been told, and has not refused yet.
struct UnderWay {
    house: House,
    running: RunningService,
    refuse: Arc<Notify>,
}

impl UnderWay {
    async fn start() -> Self {
        let house = House::empty().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, refuse) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        tokio::spawn(serve(listener, Arc::clone(&asked), Arc::clone(&refuse)));
        let running = house.start_smtp(port).await;
        house.send(&completed("acme")).await;
        timeout(PATIENCE, asked.notified()).await.unwrap();
        Self { house, running, refuse }
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

/// Serves one connection at a time. Refuses each recipient when `refuse` says so.
async fn serve(listener: TcpListener, asked: Arc<Notify>, refuse: Arc<Notify>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        // An error only means that the client closed the connection.
        let _ = write.write_all(b"220 mail\r\n").await;
        while let Ok(Some(line)) = lines.next_line().await {
            let reply = match line.split([' ', ':']).next().unwrap() {
                "EHLO" => "250-mail\r\n250 8BITMIME",
                "RCPT" => {
                    asked.notify_one();
                    refuse.notified().await;
                    "550 5.1.1 <ada@example.com>: unknown"
                }
                "QUIT" => "221 bye",
                _ => "250 OK",
            };
            let _ = write.write_all(format!("{reply}\r\n").as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn an_e_mail_that_is_refused_after_its_customer_was_erased_leaves_no_record() {
    let mail = UnderWay::start().await;
    let erasure = Client::new().post(format!("http://{}/erasures", mail.running.admin));
    let erasure = erasure.json(&json!({ "customer_email": "ada@example.com" }));
    assert_eq!(erasure.bearer_auth("operator").send().await.unwrap().status(), 200);
    assert!(mail.house.rows().await.is_empty());
    mail.refuse.notify_one();
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
    mail.refuse.notify_one();
    mail.house.until_waiting_for_a_lock().await;
    let deleted = sqlx::query("delete from emails").execute(&mut *tx).await.unwrap();
    assert_eq!(deleted.rows_affected(), 1);
    tx.commit().await.unwrap();
    let errors = mail.errors().await;
    assert!(errors.is_empty(), "{errors:?}");
    mail.running.shutdown().await;
}
