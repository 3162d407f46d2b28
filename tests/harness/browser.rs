//! A real browser: Chromium, driven through its WebDriver with the little of the protocol that the
//! tests need (W3C WebDriver, and ChromeDriver's own commands for logs and emulation).
//!
//! Each browser has a profile of its own and ends when it is dropped. Elements are found by CSS
//! selectors. Waiting is level-triggered with a deadline.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peers::peer;

/// How long a browser may take for something that must happen: it shares two cores with other
/// tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key by which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys as WebDriver types them.
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const ARROW_DOWN: &str = "\u{e015}";
pub const SPACE: &str = " ";

/// A running browser.
pub struct Browser {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`.
    session: String,
    port: u16,
    driver: Child,
    /// Kept open: the driver may write to it for as long as it runs.
    _output: BufReader<ChildStdout>,
    process: Option<i32>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with a window of 1280 × 900 in the light theme; `None` when Chromium or its driver
    /// cannot be had.
    pub async fn start() -> Option<Self> {
        let (chromium, chromedriver) = (peer("chromium")?, peer("chromedriver")?);
        let profile = tempfile::tempdir().expect("a directory");
        let (driver, output, port) = start_driver(&chromedriver, profile.path());
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let base = format!("http://127.0.0.1:{port}/session");
        let made = command(
            &http,
            reqwest::Method::POST,
            &base,
            Some(capabilities(&chromium, profile.path())),
        )
        .await;
        let id = made["sessionId"].as_str().expect("a session");
        let process = made["capabilities"]["goog:processID"].as_i64();
        let browser = Self {
            session: format!("{base}/{id}"),
            http,
            port,
            driver,
            _output: output,
            process: process.and_then(|pid| i32::try_from(pid).ok()),
            _profile: profile,
        };
        browser.look("light", 1280, 900).await;
        Some(browser)
    }

    /// Sets the colour scheme that the system prefers, and the size of the window.
    pub async fn look(&self, scheme: &str, width: u32, height: u32) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        )
        .await;
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs the body of a function, with `arguments`; a promise is waited for.
    pub async fn run(&self, script: &str, arguments: Value) -> Value {
        let body = json!({ "script": script, "args": arguments });
        self.post("/execute/sync", body).await
    }

    /// What an expression is worth.
    pub async fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression})"), json!([])).await
    }

    /// Waits until the expression is true; panics with what the page shows.
    pub async fn until(&self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(&format!("Boolean({expression})")).await != Value::Bool(true) {
            if Instant::now() > deadline {
                let text = self.eval("document.body.innerText").await;
                panic!(
                    "{what} did not happen within {PATIENCE:?}: {expression}\nthe page shows: {text}"
                );
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until an element is there and its text contains `text`.
    pub async fn shows(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(
            &format!("{text} in {selector}"),
            &format!(
                "[...document.querySelectorAll({selector})].some((node) => node.textContent.includes({text}))"
            ),
        )
        .await;
    }

    /// Waits for an element, then clicks it as a person would: it must be visible and uncovered.
    pub async fn click(&self, selector: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let element = self.element(selector).await;
            let result = self
                .try_post(&format!("/element/{element}/click"), json!({}))
                .await;
            match result {
                Ok(_) => return,
                // It was drawn anew, or something still moves over it.
                Err(error) => assert!(Instant::now() < deadline, "{selector}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Types into an element.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(
            &format!("/element/{element}/value"),
            json!({ "text": text }),
        )
        .await;
    }

    /// Presses keys, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                let key = key.to_string();
                [
                    json!({ "type": "keyDown", "value": key }),
                    json!({ "type": "keyUp", "value": key }),
                ]
            })
            .collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.post("/actions", body).await;
    }

    /// The text of the first element that `selector` finds; waits for it.
    pub async fn text(&self, selector: &str) -> String {
        self.element(selector).await;
        let selector = json!(selector);
        let text = self
            .eval(&format!(
                "document.querySelector({selector})?.textContent ?? ''"
            ))
            .await;
        text.as_str().expect("text").to_owned()
    }

    /// Entries of the browser's console since the last call.
    pub async fn console(&self) -> Vec<Value> {
        self.log("browser").await
    }

    /// Every URL that the page asked for since the last call.
    pub async fn requests(&self) -> Vec<String> {
        self.log("performance")
            .await
            .iter()
            .filter_map(|entry| {
                let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
                let message = &message["message"];
                (message["method"] == "Network.requestWillBeSent")
                    .then(|| message["params"]["request"]["url"].as_str())?
                    .map(str::to_owned)
            })
            .collect()
    }

    /// The whole page as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let shot = self
            .devtools("Page.captureScreenshot", json!({ "format": "png" }))
            .await;
        base64::engine::general_purpose::STANDARD
            .decode(shot["data"].as_str().expect("a picture"))
            .expect("base64")
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", body).await
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        match self.post("/se/log", json!({ "type": kind })).await {
            Value::Array(entries) => entries,
            other => panic!("a log is a list: {other}"),
        }
    }

    async fn element(&self, selector: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let body = json!({ "using": "css selector", "value": selector });
        loop {
            match self.try_post("/element", body.clone()).await {
                Ok(found) => return found[ELEMENT].as_str().expect("an element").to_owned(),
                Err(error) if Instant::now() > deadline => {
                    let text = self.eval("document.body.innerText").await;
                    panic!("{selector} is not there: {error}\nthe page shows: {text}");
                }
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(25)).await,
            }
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn try_post(&self, path: &str, body: Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        try_command(&self.http, reqwest::Method::POST, &url, Some(body)).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session first: a driver that is killed leaves its browser behind.
        let id = self.session.rsplit('/').next().unwrap_or_default();
        let _gone_already = end_session(self.port, id);
        let _gone_already = self.driver.kill();
        let _reaped = self.driver.wait();
        let pid = self.process.and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Usually gone by now; it is ours, and reaped by nobody else.
            let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn end_session(port: u16, id: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "DELETE /session/{id} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    )?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

/// Starts ChromeDriver on a port of its own choice, which it says in its first lines.
fn start_driver(program: &Path, profile: &Path) -> (Child, BufReader<ChildStdout>, u16) {
    let mut command = Command::new(program);
    let fonts = program
        .parent()
        .and_then(Path::parent)
        .map(|peers| peers.join("fonts.conf"))
        .filter(|file| file.is_file());
    if let Some(fonts) = fonts {
        command.env("FONTCONFIG_FILE", fonts);
    }
    let mut child = command
        .arg("--port=0")
        .env("HOME", profile)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver starts");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let port = (&mut output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let (_, rest) = line.rsplit_once("on port ")?;
            // It repeats the 0 that it was asked for first.
            rest.trim_end_matches('.')
                .parse()
                .ok()
                .filter(|port| *port != 0)
        })
        .expect("chromedriver says its port");
    (child, output, port)
}

fn capabilities(chromium: &Path, profile: &Path) -> Value {
    let profile = profile.join("profile");
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": {
            "binary": chromium,
            "args": [
                "--headless=new",
                // Tests may run as root, for which there is no sandbox; only our own pages are shown.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--no-proxy-server",
                "--hide-scrollbars",
                format!("--user-data-dir={}", profile.display()),
            ],
        },
    } } })
}

async fn command(
    http: &reqwest::Client,
    method: reqwest::Method,
    url: &str,
    body: Option<Value>,
) -> Value {
    try_command(http, method, url, body)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// The value of the answer, or the error in words.
async fn try_command(
    http: &reqwest::Client,
    method: reqwest::Method,
    url: &str,
    body: Option<Value>,
) -> Result<Value, String> {
    let mut request = http.request(method, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("chromedriver answers");
    let good = response.status().is_success();
    let mut answer: Value = response.json().await.expect("JSON");
    let value = answer["value"].take();
    if good {
        return Ok(value);
    }
    Err(format!("{}: {}", value["error"], value["message"]))
}
