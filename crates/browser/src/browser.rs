use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use sandbox::testing::eventually;
use sandbox::{Life, Process};
use serde_json::{Map, Value, json};

use crate::axe;

/// Time limit for something to appear: several polls of `orderflow serve`.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns nothing if the page fits its width, or else the elements that don't.
const TOO_WIDE: &str = r"
    const page = document.documentElement, width = page.clientWidth;
    if (page.scrollWidth <= width) return [];
    const clips = it => it && it !== document.body && (getComputedStyle(it).overflowX !== 'visible' || clips(it.parentElement));
    const wide = [...document.body.querySelectorAll('*')]
        .filter(it => it.getBoundingClientRect().right > width + 0.5 && !clips(it.parentElement));
    return [`${page.scrollWidth} of ${width} px`,
        ...wide.slice(0, 20).map(it => `${it.tagName} .${it.className} ${it.getBoundingClientRect().left} to ${it.getBoundingClientRect().right}: ${it.textContent.slice(0, 40)}`)];
";

/// Records violations and errors of all pages of a tab.
const WATCH: &str = r#"
(() => {
    const keep = (text) => {
        const all = JSON.parse(sessionStorage.getItem("troubles") ?? "[]");
        sessionStorage.setItem("troubles", JSON.stringify([...all, text]));
    };
    addEventListener("securitypolicyviolation", (it) => keep(`violation of ${it.violatedDirective} by ${it.blockedURI} ${it.sample}`));
    addEventListener("error", (it) => keep(`error ${it.message ?? it.target?.src}`), true);
    addEventListener("unhandledrejection", (it) => keep(`rejection ${it.reason}`));
})();
"#;

/// A tab of a separate browser. It records problems: violations of the content security policy,
/// errors of scripts, failed requests.
#[derive(Debug)]
pub struct Browser {
    /// Client of the driver, for functions that this type lacks.
    pub client: Client,
    driver: String,
    http: reqwest::Client,
    /// Messages that may be logged, because the test provokes them.
    expected: Vec<String>,
    _process: Process,
    _folder: tempfile::TempDir,
}

/// Finds a program. Fails with instructions to install it.
fn program(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut found = names.iter().flat_map(|name| {
        std::env::split_paths(&paths).map(|folder| folder.join(name)).collect::<Vec<_>>()
    });
    found.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "The tests of the console need Chromium and its driver. On Debian: apt-get install chromium chromium-driver. \
             Elsewhere: install them and set CHROMIUM and CHROMEDRIVER to their paths. None of {names:?} is in PATH"
        )
    })
}

impl Browser {
    /// Starts Chromium without a window, with a separate profile.
    ///
    /// # Panics
    /// If Chromium or its driver is missing. The message says how to install them.
    pub async fn start() -> Self {
        let chromium = program("CHROMIUM", &["chromium", "chromium-browser", "google-chrome"]);
        let folder = tempfile::tempdir().unwrap();
        let port = sandbox::port::free().unwrap();
        let mut command = Command::new(program("CHROMEDRIVER", &["chromedriver"]));
        command.arg(format!("--port={port}"));
        let log = folder.path().join("chromedriver.log");
        let process = Process::spawn("chromedriver", command, &log, Life::WithParent).unwrap();
        let (driver, http) = (format!("http://127.0.0.1:{port}"), reqwest::Client::new());
        let answers = async || {
            let status: Value =
                http.get(format!("{driver}/status")).send().await.ok()?.json().await.ok()?;
            (status["value"]["ready"] == true).then_some(())
        };
        eventually("chromedriver", PATIENCE, answers).await;
        let profile = folder.path().join("profile");
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let mut client = client;
        client.capabilities(capabilities(&chromium, &profile));
        let client = client.connect(&driver).await.unwrap();
        let browser =
            Self { client, driver, http, expected: Vec::new(), _process: process, _folder: folder };
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH })).await;
        browser.size(1280, 900).await;
        browser
    }

    /// Sends a command of Chromium's debugging protocol.
    pub async fn cdp(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        let answer = self.to_driver("goog/cdp/execute", &body).await;
        assert!(answer["value"].get("error").is_none(), "{command}: {answer}");
    }

    async fn to_driver(&self, path: &str, body: &Value) -> Value {
        let session = self.client.session_id().await.unwrap().unwrap();
        let url = format!("{}/session/{session}/{path}", self.driver);
        self.http.post(url).json(body).send().await.unwrap().json().await.unwrap()
    }

    /// Sets the size of the page in pixels.
    pub async fn size(&self, width: u32, height: u32) {
        self.metrics(width, height, 1).await;
    }

    /// Sets the size of the page in CSS pixels, each of which has four pixels in a picture.
    pub async fn sharp(&self, width: u32, height: u32) {
        self.metrics(width, height, 2).await;
    }

    async fn metrics(&self, width: u32, height: u32, scale: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sets the preferred colour scheme, `light` or `dark`.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Opens an address.
    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Opens an address in another tab, in the background.
    pub async fn open_in_background(&self, url: &str) {
        self.cdp("Target.createTarget", json!({ "url": url, "background": true })).await;
    }

    /// Shows the tab that was opened last.
    pub async fn show_last_tab(&self) {
        let tabs = self.client.windows().await.unwrap();
        self.client.switch_to_window(tabs.into_iter().next_back().unwrap()).await.unwrap();
        self.cdp("Page.bringToFront", json!({})).await;
    }

    /// Runs a script in the page and returns its value.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Returns the visible text of the page.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows a text.
    pub async fn shows(&self, part: &str) {
        let start = Instant::now();
        loop {
            // While a page loads there may be no body.
            let text = self.client.execute("return document.body?.innerText", Vec::new()).await;
            let text =
                text.ok().and_then(|it| it.as_str().map(ToOwned::to_owned)).unwrap_or_default();
            if text.contains(part) {
                return;
            }
            let is_late = start.elapsed() > PATIENCE;
            let troubles = if is_late { self.troubles().await } else { Vec::new() };
            assert!(!is_late, "the page does not show {part:?}: {text}\n{troubles:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a script returns true.
    pub async fn until(&self, what: &str, script: &str) {
        let holds = async || {
            let value = self.client.execute(script, Vec::new()).await.ok()?;
            (value == true).then_some(())
        };
        eventually(what, PATIENCE, holds).await;
    }

    /// Clicks the element that a selector finds, as soon as it is there.
    pub async fn click(&self, css: &str) {
        self.click_at(Locator::Css(css)).await;
    }

    /// Clicks the button or link with this text, as soon as it is there.
    pub async fn press(&self, text: &str) {
        let path = format!(
            "//button[normalize-space()='{text}' and not(@disabled)] | //a[normalize-space()='{text}']"
        );
        self.click_at(Locator::XPath(&path)).await;
    }

    /// Clicks the button or the summary in the table row that also contains another text, as soon
    /// as it is there.
    pub async fn press_in_row(&self, row: &str, text: &str) {
        let path = format!(
            "//tr[contains(., '{row}')]//*[self::button or self::summary][normalize-space()='{text}']"
        );
        self.click_at(Locator::XPath(&path)).await;
    }

    async fn click_at(&self, locator: Locator<'_>) {
        let click = async || self.client.find(locator).await?.click().await;
        eventually(&format!("{locator:?}"), PATIENCE, async || present(click().await)).await;
    }

    /// Replaces the value of a field, as soon as it is there.
    pub async fn enter(&self, css: &str, text: &str) {
        let enter = async || {
            let element = self.client.find(Locator::Css(css)).await?;
            element.clear().await?;
            element.send_keys(text).await
        };
        eventually(css, PATIENCE, async || present(enter().await)).await;
    }

    /// Waits until the page has this path and query: a click returns before the next page is there.
    pub async fn is_at(&self, address: &str) {
        let is_there = async || {
            let url = self.client.current_url().await.ok()?;
            (&url[url::Position::BeforePath..] == address).then_some(())
        };
        eventually(&format!("the page {address}"), PATIENCE, is_there).await;
    }

    /// Takes a screenshot, and saves it in the folder named by `PICTURES`.
    pub async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("PICTURES") {
            let png = self.client.screenshot().await.unwrap();
            std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
        }
    }

    /// Fails if axe finds a problem, the page scrolls sideways, or its content has an image or a
    /// script, which can only come from an unescaped text.
    pub async fn assert_well_formed(&self, what: &str) {
        self.axe(what).await;
        let wide = self.run(TOO_WIDE).await;
        assert_eq!(wide, json!([]), "{what} scrolls sideways, because of these elements");
        let injected = "return document.querySelectorAll('main img, main script').length";
        assert_eq!(self.run(injected).await, 0, "{what}: a text was not escaped");
    }

    /// Fails if the page violates a rule of WCAG 2.2 A or AA, or a best practice.
    pub async fn axe(&self, what: &str) {
        axe::check(&self.client, what).await;
    }

    /// Allows messages that the test provokes.
    pub fn expect(&mut self, part: &str) {
        self.expected.push(part.to_owned());
    }

    /// Returns the problems so far, of all pages.
    async fn troubles(&self) -> Vec<String> {
        let kept = self.run("return sessionStorage.getItem('troubles') ?? '[]'").await;
        let kept: Vec<String> = serde_json::from_str(kept.as_str().unwrap()).unwrap();
        let logged = self.to_driver("se/log", &json!({ "type": "browser" })).await;
        let logged = logged["value"].as_array().cloned().unwrap_or_default();
        let logged = logged.iter().filter(|it| it["level"] == "SEVERE" || it["level"] == "WARNING");
        let logged = logged.map(|it| it["message"].to_string());
        let all = kept.into_iter().chain(logged);
        all.filter(|it| !self.expected.iter().any(|part| it.contains(part))).collect()
    }

    /// Ends the browser. Fails if there were problems.
    pub async fn close(self) {
        let troubles = self.troubles().await;
        assert!(troubles.is_empty(), "the browser had troubles: {troubles:#?}");
        self.client.clone().close().await.unwrap();
    }
}

/// Returns what an act on an element returned, or nothing if the element is not there: the page
/// before it is still shown, or has just been replaced.
fn present<T>(outcome: Result<T, CmdError>) -> Option<T> {
    match outcome {
        Err(e) if e.is_no_such_element() || e.is_stale_element_reference() => None,
        outcome => Some(outcome.unwrap()),
    }
}

fn capabilities(chromium: &Path, profile: &Path) -> Map<String, Value> {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--lang=en".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if nix::unistd::Uid::effective().is_root() {
        arguments.push("--no-sandbox".to_owned());
    }
    let options = json!({ "args": arguments, "binary": chromium });
    let capabilities = json!({
        "browserName": "chrome",
        "acceptInsecureCerts": true,
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": options,
    });
    capabilities.as_object().unwrap().clone()
}
