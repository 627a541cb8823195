//! Conditional reads: a response that the caller has already is not sent again.

use reqwest::Method;

use crate::house::House;

#[tokio::test]
async fn json_that_the_caller_has_is_not_sent_again() {
    let house = House::start().await;
    let first = house.acme(Method::GET, "/labels/100").send().await.unwrap();
    let etag = first.headers()["etag"].clone();
    assert!(etag.to_str().unwrap().starts_with("W/\""), "{etag:?}");
    assert_eq!(first.text().await.unwrap().len(), 100);

    let again = |method, path: &str| house.acme(method, path).header("if-none-match", &etag).send();
    let known = again(Method::GET, "/labels/100").await.unwrap();
    assert_eq!((known.status().as_u16(), &known.headers()["etag"]), (304, &etag));
    assert_eq!(known.text().await.unwrap(), "");
    let other = again(Method::GET, "/labels/101").await.unwrap();
    assert_eq!(other.status(), 200);
    assert_ne!(other.headers()["etag"], etag);
    // A HEAD never sends content, so it may leave the tag out.
    assert_eq!(again(Method::HEAD, "/labels/101").await.unwrap().status(), 200);
    let large = again(Method::GET, "/labels/1000000").await.unwrap();
    assert!(large.headers().get("etag").is_none());
    assert_eq!(large.text().await.unwrap().len(), 1_000_000);
}
