//! Labels of the request metrics on `/metrics`.

use reqwest::Method;

use crate::house::House;

#[tokio::test]
async fn methods_that_callers_make_up_are_one_series() {
    let house = House::start().await;
    let count = async || {
        let metrics = house.admin(Method::GET, "/metrics").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let is_count = |line: &&str| line.starts_with("http_server_request_duration_seconds_count");
        metrics.lines().filter(is_count).map(str::to_owned).collect::<Vec<_>>()
    };
    for n in 0..50 {
        let method = Method::from_bytes(format!("BREW{n}").as_bytes()).unwrap();
        let answer = house.acme(method, "/parcels").send().await.unwrap();
        assert_eq!(answer.status(), 405);
    }
    let all = sandbox::testing::eventually(
        "50 requests",
        std::time::Duration::from_secs(20),
        async || {
            let all = count().await;
            all.iter().any(|line| line.ends_with(" 50")).then_some(all)
        },
    )
    .await;
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all[0].contains("http_request_method=\"_OTHER\""), "{all:#?}");
}
