//! Access control: sign-in, hosts, TLS and forged requests.

use std::path::{Path, PathBuf};

use sandbox::testing::eventually;
use sandbox::{Life, Process};

use crate::house::{House, command};
use browser::{Browser, PATIENCE};

/// Starts a server that must fail to start. Returns its exit status and its output.
async fn start_refused(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = command();
    command.envs(settings.iter().copied());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("ops.log");
    let mut process = Process::spawn("ops", command, &log, Life::WithParent).unwrap();
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
    let text = std::fs::read_to_string(log).unwrap();
    (ended.unwrap_or_else(|_| panic!("it serves: {text}")).code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_for_others_needs_tls_or_a_proxy() {
    let (status, text) = start_refused(&[("CONSOLE_ADDR", "0.0.0.0:0")]).await;
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("CONSOLE_TLS_CERT") && text.contains("CONSOLE_PLAIN_HTTP=on"), "{text}");
    let missing = [
        ("CONSOLE_ADDR", "0.0.0.0:0"),
        ("CONSOLE_TLS_CERT", "/none"),
        ("CONSOLE_TLS_KEY", "/none"),
    ];
    let (_, text) = start_refused(&missing).await;
    assert!(text.contains("CONSOLE_TLS_CERT /none can't be used"), "{text}");
}

/// Returns an address of this machine that is not loopback.
fn own_address() -> Option<std::net::IpAddr> {
    // No packet is sent.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|it| it.ip()).filter(|it| !it.is_loopback())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_wants_a_token_which_the_services_know_and_leads_back() {
    let Some(own) = own_address() else {
        eprintln!("this machine has no address but loopback");
        return;
    };
    let hosts = own.to_string();
    let address = [
        ("CONSOLE_ADDR", "0.0.0.0:{port}"),
        ("CONSOLE_PLAIN_HTTP", "on"),
        ("CONSOLE_HOSTS", &*hosts),
    ];
    let house = House::with(&address).await;
    let mut browser = Browser::start().await;
    browser.expect("403 (Forbidden)");
    // Chromium warns about forms over HTTP, which this test uses.
    browser.expect("insecure connection");
    let url = |path: &str| format!("http://{own}:{}{path}", house.port);
    browser.goto(&url("/history?by=ada")).await;
    browser.is_at("/sign-in?back=%2Fhistory%3Fby%3Dada").await;
    browser.enter("#token", "wrong").await;
    browser.press("Sign in").await;
    browser.shows("No service knows this token").await;
    browser.enter("#token", "ada-token").await;
    browser.press("Sign in").await;
    browser.shows("No such acts").await;
    browser.shows("ada").await;
    browser.is_at("/history?by=ada").await;
    assert_eq!(browser.run("return document.cookie").await, "", "scripts do not see the cookie");
    browser.press("Sign out").await;
    browser.shows("Operator's token").await;
    // A program's token is checked too.
    for (token, page) in [("wrong", "/sign-in"), ("ada-token", "/history")] {
        let request = reqwest::Client::new().get(url("/history")).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().url().path(), page, "{token}");
    }
    browser.close().await;
}

/// Writes a certificate of `localhost` and its key. Returns their paths.
fn certify(folder: &Path) -> [PathBuf; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = [folder.join("cert.pem"), folder.join("key.pem")];
    std::fs::write(&files[0], made.cert.pem()).unwrap();
    std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_prometheus_have_an_address_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certify(folder.path());
    let address = format!("127.0.0.1:{}", sandbox::port::free().unwrap());
    let _house = House::with(&[
        ("METRICS_ADDR", &address),
        ("CONSOLE_TLS_CERT", certificate.to_str().unwrap()),
        ("CONSOLE_TLS_KEY", key.to_str().unwrap()),
    ])
    .await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
    // There are none until it has asked the services.
    let metrics = async || get("/metrics").await.1.contains("orderflow_").then_some(());
    eventually("the metrics", PATIENCE, metrics).await;
    for page in ["/", "/failures", "/sign-in"] {
        assert_eq!(get(page).await.0, 404, "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_cookie_is_for_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certify(folder.path());
    let house = House::with(&[
        ("CONSOLE_ADDR", "0.0.0.0:{port}"),
        ("CONSOLE_TLS_CERT", certificate.to_str().unwrap()),
        ("CONSOLE_TLS_KEY", key.to_str().unwrap()),
    ])
    .await;
    let browser = Browser::start().await;
    let url = |path: &str| format!("https://localhost:{}{path}", house.port);
    browser.goto(&url("/")).await;
    browser.enter("#token", "grace-token").await;
    browser.press("Sign in").await;
    browser.shows("grace").await;
    browser.shows("All is well").await;
    let cookies = browser.client.get_all_cookies().await.unwrap();
    let session = cookies.iter().find(|it| it.name() == "__Host-orderflow").unwrap();
    assert_eq!((session.secure(), session.http_only()), (Some(true), Some(true)));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_is_refused() {
    let house = House::start().await;
    let mut browser = Browser::start().await;
    browser.expect("403 (Forbidden)");
    browser.expect("favicon.ico");
    let to = house.url("/lag/billing/billing/pause");
    browser.goto(&format!("http://{}/evil?to={to}", house.service.address)).await;
    browser.press("Win a prize").await;
    browser.shows("Another site has sent this request.").await;
    assert!(house.service.known().paused.is_none());
    browser.close().await;
}

/// Sends a request that no browser sends.
async fn send(house: &House, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = http.request(method.parse().unwrap(), house.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == "POST" {
        request =
            request.header("content-type", "application/x-www-form-urlencoded").body("why=because");
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sends_a_token_and_neither_the_cookie_nor_the_servers_own_token_speaks_for_it() {
    let house = House::start().await;
    let pause = "/lag/billing/billing/pause";
    assert_eq!(send(&house, "POST", pause, &[]).await.0, 401);
    assert_eq!(send(&house, "POST", pause, &[("cookie", "orderflow=x")]).await.0, 401);
    assert!(house.service.known().paused.is_none());
    let token = [("authorization", "Bearer grace-token")];
    assert_eq!(send(&house, "POST", pause, &token).await.0, 303);
    assert_eq!(house.service.known().acts[0]["by"], "grace");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_gets_nothing_but_what_programs_read() {
    let house = House::start().await;
    let evil = [("host", "evil.example")];
    for path in ["/", "/jobs", "/live", "/sign-in", "/assets/x/console.js", "/nowhere"] {
        let (status, text) = send(&house, "GET", path, &evil).await;
        assert!(status == 421 && text.contains("CONSOLE_HOSTS"), "{path}: {status} {text}");
    }
    for path in ["/metrics", "/healthz"] {
        assert_eq!(send(&house, "GET", path, &evil).await.0, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_leads_to_no_other_site() {
    let house = House::start().await;
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for back in ["https://evil", "//evil", "/\\evil"] {
        let form = format!("token=ada-token&back={back}");
        let request = http.post(house.url("/sign-in")).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["location"], "/", "{back}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_everybody_signs_in_even_on_loopback_and_the_cookie_is_for_tls() {
    let hosts = [("CONSOLE_PLAIN_HTTP", "proxy"), ("OPERATOR_TOKEN", "ada-token")];
    let house = House::with(&hosts).await;
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = http.get(house.url("/jobs")).send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/sign-in?back=%2Fjobs");
    let sign_in = async |proto: &str| {
        let request = http.post(house.url("/sign-in")).header("x-forwarded-proto", proto);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body("token=ada-token").send().await.unwrap();
        answer.headers()["set-cookie"].to_str().unwrap().to_owned()
    };
    let cookie = sign_in("https").await;
    assert!(cookie.starts_with("__Host-orderflow=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(!sign_in("http").await.contains("Secure"));
    let pair = cookie.split(';').next().unwrap().to_owned();
    let page = http.get(house.url("/jobs")).header("cookie", pair);
    let answer = page.header("x-forwarded-proto", "https").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_an_outage_and_ends_when_its_token_is_removed() {
    let mut house =
        House::with(&[("CONSOLE_PLAIN_HTTP", "proxy"), ("CONSOLE_SECRET", "of the test")]).await;
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = http.post(house.url("/sign-in")).body("token=ada-token");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for (refusal, shown) in [(Some(503), 200), (Some(401), 303), (None, 200)] {
        house.service.known().refusal = refusal;
        // A new process has no confirmation.
        house.stop().await;
        house.start_again().await;
        let page = http.get(house.url("/jobs")).header("cookie", &cookie).send().await.unwrap();
        assert_eq!(page.status(), shown, "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_the_server_did_not_make_is_not_shown() {
    use base64::Engine;
    let house = House::start().await;
    let notice = r#"{"text":"Call 0190 666 666","undo":{"action":"/jobs","fields":[]}}"#;
    let forged = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(notice);
    let cookie = format!("orderflow-said={forged}");
    let (status, page) = send(&house, "GET", "/jobs", &[("cookie", &cookie)]).await;
    assert!(status == 200 && !page.contains("0190"), "{page}");
}
