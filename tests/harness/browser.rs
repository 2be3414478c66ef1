//! A real browser, driven as a person would: Chromium without a window, by its `WebDriver`.
//!
//! The protocol is JSON over HTTP, which the tests speak already. A client library brings forty crates, half of them second versions of
//! what is there.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{repository, toolchains, wait_for};

/// The key under which an element is named.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window and a profile of its own, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    session: String,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser.
        drop(ureq::delete(&self.session).call());
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    ///
    /// There is none: the packages are named.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = driver.unwrap_or_else(|error| {
            panic!("chromedriver did not start ({error}): the tests of the dashboard need Chromium and its driver (Debian: chromium, chromium-driver)")
        });
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = said.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("the driver says its port");
        // It would wait for a reader of what it says.
        std::thread::spawn(move || said.for_each(drop));
        let driver_url = format!("http://127.0.0.1:{port}");
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--window-size=1280,900", format!("--user-data-dir={}", profile.path().display()),
            ],
        });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } });
        let answer = ask(&format!("{driver_url}/session"), &wanted);
        let id = answer["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no browser (Debian: the package chromium): {answer}"));
        Self {
            driver,
            session: format!("{driver_url}/session/{id}"),
            _profile: profile,
        }
    }

    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    pub fn url(&self) -> String {
        text(&self.look("url"))
    }

    /// The tab that everything is done in.
    pub fn tab(&self) -> String {
        text(&self.look("window"))
    }

    /// Opens another tab, and stays in this one.
    pub fn open_tab(&self) -> String {
        text(&self.command("window/new", &json!({ "type": "tab" }))["handle"])
    }

    /// Does everything in this tab from now on.
    pub fn go_to_tab(&self, tab: &str) {
        self.command("window", &json!({ "handle": tab }));
    }

    /// Asks the browser itself, by the name of its own protocol.
    pub fn devtools(&self, name: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    /// The pages run no script from the next one on. What a test runs in them does.
    pub fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// A window of so many pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Light or dark.
    pub fn prefers(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// What a script in the page returns. It is the body of a function.
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script in the page gives to its last argument.
    pub fn run_until_answer(&self, script: &str) -> Value {
        self.command("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits for an element.
    fn element(&self, css: &str) -> String {
        wait_for(&format!("{css} at {}", self.url()), || {
            let found = self.try_command("element", &json!({ "using": "css selector", "value": css }))?;
            Some(text(&found[ELEMENT]))
        })
    }

    pub fn has(&self, css: &str) -> bool {
        self.try_command("element", &json!({ "using": "css selector", "value": css }))
            .is_some()
    }

    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// Types into a field in place of what is there.
    pub fn fill(&self, css: &str, value: &str) {
        let element = self.element(css);
        self.command(&format!("element/{element}/clear"), &json!({}));
        self.command(&format!("element/{element}/value"), &json!({ "text": value }));
    }

    /// Chooses a file in a field for files.
    pub fn choose(&self, css: &str, path: &str) {
        let element = self.element(css);
        self.command(&format!("element/{element}/value"), &json!({ "text": path }));
    }

    /// Drops a file of this machine on an element, as from another window.
    pub fn drop_file(&self, css: &str, path: &Path) {
        self.element(css);
        let place = self.run(&format!(
            "const one = document.querySelector({css:?}); one.scrollIntoView(); const at = one.getBoundingClientRect(); \
             return [at.x + at.width / 2, at.y + at.height / 2]"
        ));
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({ "items": [], "files": [path], "dragOperationsMask": 1 });
            let parameters = json!({ "type": kind, "x": place[0], "y": place[1], "data": data });
            self.devtools("Input.dispatchDragEvent", &parameters);
        }
    }

    /// Presses keys, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        self.command(
            "actions",
            &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }),
        );
    }

    /// The text of an element, as a person sees it.
    pub fn text(&self, css: &str) -> String {
        let element = self.element(css);
        text(&self.look(&format!("element/{element}/text")))
    }

    /// Waits until a text is on the page.
    pub fn wait_text(&self, expected: &str) {
        wait_for(&format!("{expected:?} at {}", self.url()), || {
            let seen = self.run("return document.body.innerText");
            seen.as_str()?.contains(expected).then_some(())
        });
    }

    /// The page as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let png = text(&self.look("screenshot"));
        BASE64.decode(png).unwrap()
    }

    /// The findings of axe that keep people from using the page: serious ones and critical ones.
    pub fn axe(&self) -> Vec<String> {
        let axe = fs::read_to_string(axe()).unwrap();
        self.run(&axe);
        let answer = self.run_until_answer(
            "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => done(found.violations), (why) => done(String(why)));",
        );
        let found = answer.as_array().unwrap_or_else(|| panic!("{answer}"));
        let heavy = found
            .iter()
            .filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
        heavy
            .map(|one| format!("{}: {} {}", one["id"], one["help"], one["nodes"][0]["html"]))
            .collect()
    }

    fn look(&self, what: &str) -> Value {
        let mut answer = ureq::get(format!("{}/{what}", self.session))
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .unwrap();
        let answer: Value = serde_json::from_str(&big_text(&mut answer)).unwrap();
        answer["value"].clone()
    }

    fn command(&self, what: &str, body: &Value) -> Value {
        let answer = ask(&format!("{}/{what}", self.session), body);
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer
    }

    /// As [`Self::command`]; `None` if the browser says no.
    fn try_command(&self, what: &str, body: &Value) -> Option<Value> {
        let answer = ask(&format!("{}/{what}", self.session), body);
        answer.get("error").is_none().then_some(answer)
    }
}

fn ask(url: &str, body: &Value) -> Value {
    let mut answer = ureq::post(url)
        .config()
        .http_status_as_error(false)
        .build()
        .send_json(body)
        .unwrap();
    let answer: Value = serde_json::from_str(&big_text(&mut answer)).unwrap();
    answer["value"].clone()
}

/// A screenshot is longer than what is read by default.
fn big_text(answer: &mut ureq::http::Response<ureq::Body>) -> String {
    let reader = answer.body_mut().with_config().limit(64 * 1024 * 1024);
    reader.read_to_string().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// The accessibility checker, of npm.
fn axe() -> PathBuf {
    let made = toolchains::directory().join("dashboard");
    toolchains::node_modules(&repository().join("tests/toolchains/dashboard"), &made).unwrap();
    made.join("node_modules/axe-core/axe.min.js")
}
