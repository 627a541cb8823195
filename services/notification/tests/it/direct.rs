//! Events that are posted to `POST /events`.

use reqwest::Client;
use serde_json::Value;

use crate::house::{CONTRACT, House, completed};

#[tokio::test]
async fn an_event_that_is_sent_twice_is_written_of_once() {
    let house = House::empty().await;
    let running = house.start().await;
    let event = completed("acme");
    for outcome in ["processed", "duplicate"] {
        let request = Client::new().post(format!("http://{}/events", running.http));
        let request = request.headers(chassis::binary_headers(&event.envelope));
        let request = request.bearer_auth("sender").body(event.data.clone());
        let response = CONTRACT.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["outcomes"]["notification"], outcome);
    }
    house.until("one confirmation", 1, |row| row.sent).await;
    running.shutdown().await;
}
