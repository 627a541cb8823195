use crate::house::House;
use browser::Browser;

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_can_be_undone_and_names_who_paused() {
    let house = House::start().await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/lag")).await;
    browser.enter("main input[name=why]", "the rates are wrong").await;
    browser.press("Pause").await;
    browser.shows("billing is paused; its instances stop within a second.").await;
    browser.shows("Paused by ada").await;
    browser.press("Undo").await;
    browser.shows("billing is resumed").await;
    assert!(house.service.known().paused.is_none());
    let whys: Vec<_> = house.service.known().acts.iter().map(|it| it["why"].clone()).collect();
    assert_eq!(whys, ["undo: the rates are wrong", "the rates are wrong"]);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_operator_does_appears_at_the_other_with_the_name() {
    let house = House::with(&[]).await;
    let (ada, grace) = (Browser::start().await, Browser::start().await);
    for (browser, token) in [(&ada, "ada-token"), (&grace, "grace-token")] {
        browser.goto(&house.url("/sign-in?back=%2Flag")).await;
        browser.enter("#token", token).await;
        browser.press("Sign in").await;
        browser.shows("Subscriptions").await;
    }
    // Both want to pause it.
    grace.enter("main input[name=why]", "half a rea").await;
    ada.enter("main input[name=why]", "the rates are wrong").await;
    ada.press("Pause").await;
    grace.shows("Paused by ada").await;
    grace.shows("the rates are wrong").await;
    let typed = grace.run("return document.querySelector('main input[name=why]').value").await;
    assert_eq!(typed, "", "a reason for a pause is not sent with a resume");
    grace.enter("main input[name=why]", "the rates are right").await;
    grace.press("Resume").await;
    ada.until("grace's resume", "return !document.body.innerText.includes('Paused by ada')").await;
    let acts: Vec<_> = house.service.known().acts.iter().map(|it| it["by"].clone()).collect();
    assert_eq!(acts, ["grace", "ada"]);
    ada.close().await;
    grace.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_changed_and_the_page_says_what_to_do() {
    let house = House::with(&[]).await;
    let browser = Browser::start().await;
    browser.goto(&house.url("/lag")).await;
    browser.enter("main input[name=why]", "the rates are wrong").await;
    browser.press("Pause").await;
    browser.shows("billing does not know your token. Sign in").await;
    browser.is_at("/lag").await;
    assert!(house.service.known().paused.is_none());
    browser.press("Sign in").await;
    browser.shows("Operator's token").await;
    browser.close().await;
}
