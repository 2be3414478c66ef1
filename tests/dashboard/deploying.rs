//! A component that is dropped on the page of its handler: it is checked, and deployed by whoever may; and nothing else comes in.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    path::Path,
};

use harness::{
    browser::Browser as RealBrowser,
    guests::{edited, forward, handler, handler_importing, no_op},
    host::{Host, Place},
    wait_for,
};
use sandhog_executor::{MAX_WASM_BYTES, digest};
use serde_json::Value;

use super::{Browser, READER, SECRET, Seen, between, send_with};

const PAGE: &str = "/ui/handlers/orders";
const CHECK: &str = "/ui/handlers/orders/check";
const DEPLOY: &str = "/ui/handlers/orders/deploy";
pub(super) const SWITCHED_ON: &str = "dashboard-deploy = true\n";
const GRANT: &str = "[grant]\nsend = [\"out\"]\n";
/// Few calls prove a version, and their time does not count.
const QUICK: &str = "[rollout]\nattempts = 50\ntime = \"0s\"\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";

/// A place with a handler `orders` that does nothing with its messages.
pub(super) fn place(keys: &str, manifest: &str) -> Place {
    let place = Place::new();
    fs::write(place.path().join("secret"), SECRET).unwrap();
    fs::write(place.path().join("reader"), READER).unwrap();
    place.configure(&format!(
        "secret-file = \"secret\"\nread-only-secret-file = \"reader\"\n{keys}[queues.orders]\n[queues.out]\n"
    ));
    place.install("orders", &no_op(), manifest);
    place
}

pub(super) fn started(place: &Place) -> Host {
    let host = place.start();
    host.wait_ready();
    host
}

/// A part of a form: the name of the field, the name of its file, and the content.
type Part<'p> = (&'p str, Option<&'p str>, &'p [u8]);

fn form_of(parts: &[Part<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        write!(
            form,
            "--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
        )
        .unwrap();
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--edge--\r\n");
    form
}

impl Browser<'_> {
    fn send_parts(&self, path: &str, parts: &[Part<'_>]) -> Seen {
        let mut request = ureq::post(format!("{}{path}", self.host.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.header("content-type", "multipart/form-data; boundary=edge");
        let request = request.config().http_status_as_error(false).max_redirects(0).build();
        Seen::of(request.send(&form_of(parts)))
    }

    /// Sends a component as the form of the page does.
    fn drop_file(&self, wasm: &[u8]) -> Seen {
        let token = self.get(PAGE).token();
        self.send_parts(
            CHECK,
            &[
                ("token", None, token.as_bytes()),
                ("component", Some("orders.wasm"), wasm),
            ],
        )
    }

    /// Sends a component, and returns the page with the verdict.
    pub(super) fn checked(&self, wasm: &[u8]) -> Seen {
        let sent = self.drop_file(wasm);
        assert_eq!(sent.status, 303, "{}", sent.text);
        let page = self.get(sent.header("location"));
        assert_eq!(page.status, 200, "{}", page.text);
        page
    }

    fn deploy(&self, wasm: &[u8]) -> Seen {
        self.act(PAGE, DEPLOY, &[("digest", &digest(wasm))])
    }
}

/// What came in and is on the disk.
fn kept(place: &Place) -> usize {
    fs::read_dir(place.data().join("uploads.tmp")).map_or(0, Iterator::count)
}

fn check_untouched(place: &Place, manifest: &str) {
    assert_eq!(fs::read(place.plugin("orders.wasm")).unwrap(), no_op());
    assert_eq!(fs::read_to_string(place.plugin("orders.toml")).unwrap(), manifest);
    let entries = fs::read_dir(place.path().join("plugins")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["orders.toml", "orders.wasm"]);
}

fn api(host: &Host, path: &str) -> Value {
    let owner = Browser::with(host, &[("authorization", &format!("Bearer {SECRET}"))]);
    serde_json::from_str(&owner.get(path).text).unwrap()
}

/// The audit lines with this action: their results.
fn audited(host: &Host, action: &str) -> Vec<Value> {
    let lines = host.events("audit").into_iter().map(|line| line["fields"].clone());
    lines.filter(|line| line["action"] == action).collect()
}

#[test]
fn nobody_deploys_on_a_page_unless_the_configuration_says_so() {
    let place = place("", "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let page = owner.get(PAGE);
    assert!(!page.text.contains("multipart/form-data"), "{}", page.text);
    let sent = owner.drop_file(&edited(&no_op(), 1));
    assert_eq!(sent.status, 404, "{}", sent.text);
    assert!(sent.text.contains("dashboard-deploy"), "{}", sent.text);
    assert_eq!(owner.deploy(&no_op()).status, 404);
    assert_eq!(kept(&place), 0);
    check_untouched(&place, "");
}

#[test]
fn a_component_that_passes_serves_the_next_message() {
    let place = place(SWITCHED_ON, GRANT);
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let wasm = forward();
    let page = owner.checked(&wasm);
    for part in [
        "The host would run it",
        "granted by grant.send",
        &digest(&wasm),
        "serves now: version 1",
        "action=\"/ui/handlers/orders/deploy\"",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    check_untouched(&place, GRANT);
    assert_eq!(kept(&place), 1);
    let done = owner.deploy(&wasm);
    assert!(owner.notice(&done).contains("is in the plugin directory now"));
    assert_eq!(fs::read(place.plugin("orders.wasm")).unwrap(), wasm);
    assert_eq!(fs::read_to_string(place.plugin("orders.toml")).unwrap(), GRANT);
    assert_eq!(kept(&place), 0);
    wait_for("the new version", || {
        (api(&host, "/handlers")["handlers"][0]["version"] == 2).then_some(())
    });
    assert_eq!(send_with(&host, "hello", SECRET).status, 200);
    wait_for("the message", || {
        (api(&host, "/queues/out")["ready"] == 1).then_some(())
    });
    wait_for("the audit", || {
        (!audited(&host, "deploy handler").is_empty()).then_some(())
    });
    for (action, result) in [
        ("check handler", "done: the host would run it"),
        ("deploy handler", "done"),
    ] {
        let lines = audited(&host, action);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["result"], result);
        let what = format!("/handlers/orders component {}, {} bytes", digest(&wasm), wasm.len());
        assert_eq!(lines[0]["what"], what);
        let who = lines[0]["who"].as_str().unwrap();
        assert!(who.starts_with("secret, dashboard session "), "{who}");
    }
}

/// Makes the file `a` in its first directory whenever an instance begins, if it may.
fn writes_at_its_start() -> Vec<u8> {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    let start = r#"(func (export "_initialize")
        (i32.store8 (i32.const 512) (i32.const 97))
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 1) (i64.const 64) (i64.const 0)
            (i32.const 0) (i32.const 520))))"#;
    handler_importing("(global.get $ok)", (open, start))
}

#[test]
fn a_check_lets_the_component_change_nothing_outside_of_the_host() {
    let files = tempfile::tempdir().unwrap();
    let grant = format!(
        "[grant]\ndirs = [{{ host = {:?}, guest = \"/files\", write = true }}]\n",
        files.path()
    );
    let place = place(SWITCHED_ON, &grant);
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let wasm = writes_at_its_start();
    let page = owner.checked(&wasm);
    assert!(page.text.contains("The host would run it"), "{}", page.text);
    // The page says what the manifest grants, and not what the check does.
    assert!(page.text.contains("write"), "{}", page.text);
    let aside = tempfile::tempdir().unwrap();
    let file = aside.path().join("orders.wasm");
    fs::write(&file, &wasm).unwrap();
    fs::write(file.with_extension("toml"), &grant).unwrap();
    let output = place.command().arg("check").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!files.path().join("a").exists());
    assert_eq!(owner.deploy(&wasm).status, 303);
    wait_for("the file of the first instance", || {
        files.path().join("a").exists().then_some(())
    });
}

#[test]
fn a_page_makes_no_handler_of_a_manifest_without_a_component() {
    let place = place(SWITCHED_ON, "");
    fs::write(place.plugin("alone.toml"), "queue = \"out\"\n").unwrap();
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let token = owner.get(PAGE).token();
    let refused = owner.send_parts(
        "/ui/handlers/alone/check",
        &[
            ("token", None, token.as_bytes()),
            ("component", Some("alone.wasm"), &no_op()),
        ],
    );
    assert_eq!(refused.status, 404, "{}", refused.text);
    assert!(refused.text.contains("makes none"), "{}", refused.text);
    assert_eq!(kept(&place), 0);
    assert!(!place.plugin("alone.wasm").exists());
}

#[test]
fn a_component_that_needs_more_than_its_manifest_grants_is_refused_in_the_words_of_check() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let page = owner.checked(&forward());
    let aside = tempfile::tempdir().unwrap();
    let file = aside.path().join("orders.wasm");
    fs::write(&file, forward()).unwrap();
    let output = place.command().arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let why = said.lines().next().unwrap().strip_prefix("refused: ").unwrap();
    // The command names the files by their paths.
    let why = why.replace(&format!("{}/", aside.path().display()), "");
    let shown = between(&page.text, "<pre><bdi>", "</bdi>");
    let shown = shown.replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<");
    assert_eq!(shown.lines().next().unwrap(), why);
    assert!(why.contains("send"), "{why}");
    for line in said.lines().filter(|line| line.starts_with("imports")) {
        let line = line.trim_start_matches("imports").trim();
        assert!(page.text.contains(line), "{line}: {}", page.text);
    }
    assert!(!page.text.contains(DEPLOY), "{}", page.text);
    let refused = owner.deploy(&forward());
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(kept(&place), 0);
    check_untouched(&place, "");
    assert_eq!(api(&host, "/handlers")["handlers"][0]["version"], 1);
}

#[test]
fn a_text_is_refused_as_no_component() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let page = owner.checked(b"a text, and no component");
    assert!(page.text.contains("The host would refuse it"), "{}", page.text);
    assert!(page.text.contains("is not"), "{}", page.text);
    let nothing = owner.drop_file(b"");
    assert_eq!(nothing.status, 400, "{}", nothing.text);
    assert!(nothing.text.contains("no file was chosen"), "{}", nothing.text);
    assert_eq!(kept(&place), 0);
    check_untouched(&place, "");
}

#[test]
fn a_file_that_is_too_large_is_refused_and_nothing_of_it_stays() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let large = vec![b'x'; MAX_WASM_BYTES + 1];
    let refused = owner.drop_file(&large);
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert!(refused.text.contains(&MAX_WASM_BYTES.to_string()), "{}", refused.text);
    // A client that does not say how much comes.
    let token = owner.get(PAGE).token();
    let form = form_of(&[("token", None, token.as_bytes()), ("component", Some("x"), &large)]);
    let request = ureq::post(format!("{}{CHECK}", host.url))
        .header("cookie", &owner.headers[0].1)
        .header("content-type", "multipart/form-data; boundary=edge")
        .config()
        .http_status_as_error(false)
        .build();
    let refused = Seen::of(request.send(ureq::SendBody::from_reader(&mut form.as_slice())));
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert_eq!(kept(&place), 0);
    check_untouched(&place, "");
}

#[test]
fn who_may_only_look_sees_no_form_and_is_refused() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let reader = Browser::session(&host, READER);
    let page = reader.get(PAGE);
    assert!(!page.text.contains("multipart/form-data"), "{}", page.text);
    assert_eq!(reader.drop_file(&edited(&no_op(), 1)).status, 403);
    assert_eq!(reader.deploy(&no_op()).status, 403);
    let owner = Browser::session(&host, SECRET);
    let sent = owner.drop_file(&edited(&no_op(), 1));
    assert_eq!(reader.get(sent.header("location")).status, 403);
    check_untouched(&place, "");
}

#[test]
fn a_form_that_is_not_of_the_session_leaves_nothing() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let wasm = edited(&no_op(), 1);
    let (owner, other) = (Browser::session(&host, SECRET), Browser::session(&host, SECRET));
    let token = owner.get(PAGE).token();
    let file = ("component", Some("orders.wasm"), wasm.as_slice());
    for (person, parts, status) in [
        (&other, vec![("token", None, token.as_bytes()), file], 403),
        (&owner, vec![("token", None, &b"x"[..]), file], 403),
        (&owner, vec![("token", None, &[b'x'; 1000][..]), file], 403),
        // The token is read before the file, and not after it.
        (&owner, vec![file, ("token", None, token.as_bytes())], 400),
        (&owner, vec![file], 400),
        (&owner, vec![("token", None, token.as_bytes())], 400),
        (&owner, vec![("token", None, token.as_bytes()), file, file], 400),
        (&Browser::new(&host), vec![("token", None, token.as_bytes()), file], 401),
    ] {
        let refused = person.send_parts(CHECK, &parts);
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        let mut elsewhere = Browser::with(&host, &[(name, value)]);
        elsewhere.headers.extend(owner.headers.clone());
        let refused = elsewhere.send_parts(CHECK, &[("token", None, token.as_bytes()), file]);
        assert_eq!(refused.status, 403, "{}", refused.text);
    }
    let plain = owner.post(CHECK, &[("token", &token), ("component", "x")]);
    assert_eq!(plain.status, 415, "{}", plain.text);
    // The secret alone opens no page, and no other route takes a component.
    let bearer = Browser::with(&host, &[("authorization", &format!("Bearer {SECRET}"))]);
    assert_eq!(
        bearer
            .send_parts(CHECK, &[("token", None, token.as_bytes()), file])
            .status,
        401
    );
    assert_eq!(kept(&place), 0);
    // A stranger leaves no line, so that nobody can fill the log; whoever is logged in does.
    wait_for("the audit", || {
        (audited(&host, "check handler").len() >= 8).then_some(())
    });
    let lines = audited(&host, "check handler");
    assert_eq!(lines.len(), 8, "{lines:#?}");
    for line in lines {
        assert_eq!(line["result"], "refused", "{line}");
        assert_eq!(line["what"], "/handlers/orders", "{line}");
        assert!(!line["error"].as_str().unwrap().is_empty(), "{line}");
    }
    check_untouched(&place, "");
}

#[test]
fn a_component_is_deployed_once_by_the_session_that_has_sent_it() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let wasm = edited(&no_op(), 1);
    let (owner, other) = (Browser::session(&host, SECRET), Browser::session(&host, SECRET));
    let sent = owner.drop_file(&wasm);
    assert_eq!(other.get(sent.header("location")).status, 404);
    let refused = other.deploy(&wasm);
    assert_eq!(refused.status, 404, "{}", refused.text);
    assert!(refused.text.contains("this check is over"), "{}", refused.text);
    check_untouched(&place, "");
    assert_eq!(owner.deploy(&wasm).status, 303);
    assert_eq!(owner.deploy(&wasm).status, 404);
    // What is in place already is not deployed again.
    let again = owner.checked(&wasm);
    assert!(again.text.contains("is this component already"), "{}", again.text);
    assert_eq!(owner.deploy(&wasm).status, 409);
    assert_eq!(kept(&place), 0);
}

#[test]
fn a_check_is_worth_nothing_once_somebody_has_changed_the_files() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let wasm = edited(&no_op(), 1);
    owner.checked(&wasm);
    place.install("orders", &edited(&no_op(), 2), "");
    let refused = owner.deploy(&wasm);
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(
        refused.text.contains("somebody has changed orders.wasm"),
        "{}",
        refused.text
    );
    assert_eq!(fs::read(place.plugin("orders.wasm")).unwrap(), edited(&no_op(), 2));
    owner.checked(&wasm);
    place.install("orders", &edited(&no_op(), 2), "timeout = \"1s\"\n");
    let refused = owner.deploy(&wasm);
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(
        refused.text.contains("somebody has changed orders.toml"),
        "{}",
        refused.text
    );
    assert_eq!(kept(&place), 0);
    wait_for("the audit", || {
        (audited(&host, "deploy handler").len() == 2).then_some(())
    });
    for line in audited(&host, "deploy handler") {
        assert_eq!(line["result"], "refused", "{line}");
        assert!(
            line["error"].as_str().unwrap().contains("somebody has changed"),
            "{line}"
        );
    }
}

#[test]
fn a_check_ends_with_the_host() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let wasm = edited(&no_op(), 1);
    Browser::session(&host, SECRET).checked(&wasm);
    assert_eq!(kept(&place), 1);
    host.kill();
    let host = started(&place);
    assert_eq!(kept(&place), 0);
    let owner = Browser::session(&host, SECRET);
    assert_eq!(owner.deploy(&wasm).status, 404);
    check_untouched(&place, "");
}

#[test]
fn no_name_of_a_request_or_of_a_file_becomes_a_path() {
    let place = place(SWITCHED_ON, "");
    fs::create_dir(place.path().join("other")).unwrap();
    fs::write(place.path().join("other/x.wasm"), no_op()).unwrap();
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let token = owner.get(PAGE).token();
    let wasm = edited(&no_op(), 1);
    let send = |path: &str, file: &str| {
        let parts = [
            ("token", None, token.as_bytes()),
            ("component", Some(file), wasm.as_slice()),
        ];
        owner.send_parts(path, &parts)
    };
    for name in [
        "..%2Fother%2Fx",
        "nobody",
        "%2E%2E%2Fother%2Fx",
        ".orders",
        "orders%00",
        "orders.wasm%2F..%2Forders",
    ] {
        let refused = send(&format!("/ui/handlers/{name}/check"), "x.wasm");
        assert!([400, 404].contains(&refused.status), "{name}: {}", refused.text);
        assert!(!refused.text.contains("The host would run it"), "{name}");
    }
    assert_eq!(kept(&place), 0);
    // The name of the file is that of the person, and means nothing.
    for file in ["../../other/x.wasm", "/etc/passwd", "other.wasm", ""] {
        assert_eq!(send(CHECK, file).status, 303, "{file}");
    }
    assert_eq!(kept(&place), 1);
    assert_eq!(owner.deploy(&wasm).status, 303);
    assert_eq!(fs::read(place.plugin("orders.wasm")).unwrap(), wasm);
    assert_eq!(fs::read(place.path().join("other/x.wasm")).unwrap(), no_op());
}

#[test]
fn files_that_something_else_puts_there_are_left_to_it() {
    let place = place(SWITCHED_ON, "");
    // As a ConfigMap is mounted.
    let data = place.plugin("..data");
    fs::create_dir(&data).unwrap();
    fs::rename(place.plugin("orders.wasm"), data.join("orders.wasm")).unwrap();
    symlink("..data/orders.wasm", place.plugin("orders.wasm")).unwrap();
    let host = started(&place);
    check_no_deploy(&host, &place, "orders.wasm is a link");
    assert!(fs::symlink_metadata(place.plugin("orders.wasm")).unwrap().is_symlink());
}

#[test]
fn a_plugin_directory_that_can_only_be_read_says_so() {
    let mut place = place(SWITCHED_ON, "");
    let script = "mount --bind plugins plugins && mount -o remount,bind,ro plugins || exit 99; exec \"$0\" \"$@\"";
    place.prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        .map(str::to_owned)
        .into();
    let host = started(&place);
    check_no_deploy(&host, &place, "mounted read-only");
    check_untouched(&place, "");
}

/// A component with so many bytes more.
fn padded(wasm: &[u8], bytes: usize) -> Vec<u8> {
    // A custom section without a name: its size in the form of LEB128, of three bytes.
    let (size, mut padded) = (bytes + 1, wasm.to_vec());
    let septet = |shift: usize| u8::try_from(size >> shift & 0x7f).unwrap();
    padded.extend([0, septet(0) | 0x80, septet(7) | 0x80, septet(14), 0]);
    padded.resize(padded.len() + bytes, 0);
    padded
}

#[test]
fn a_component_that_does_not_fit_on_the_disk_leaves_the_old_one_alone() {
    let mut place = place(SWITCHED_ON, "");
    let script = "cp -r plugins kept && mount -t tmpfs -o size=100k tmpfs plugins && cp kept/* plugins || exit 99; exec \"$0\" \"$@\"";
    place.prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        .map(str::to_owned)
        .into();
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let wasm = padded(&no_op(), 200_000);
    owner.checked(&wasm);
    for _ in 0..2 {
        let refused = owner.deploy(&wasm);
        assert_eq!(refused.status, 507, "{}", refused.text);
        assert!(refused.text.contains("nothing is left behind"), "{}", refused.text);
        assert!(refused.text.contains("No space left"), "{}", refused.text);
    }
    // The directory as the host sees it.
    let plugins = format!("/proc/{}/root{}", host.id(), place.path().join("plugins").display());
    let mut names: Vec<_> = fs::read_dir(&plugins)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["orders.toml", "orders.wasm"]);
    assert_eq!(fs::read(format!("{plugins}/orders.wasm")).unwrap(), no_op());
    assert_eq!(api(&host, "/handlers")["handlers"][0]["version"], 1);
}

#[test]
fn a_manifest_with_a_mistake_keeps_components_out() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    fs::write(place.plugin("orders.toml"), "timeuot = \"1s\"\n").unwrap();
    let owner = Browser::session(&host, SECRET);
    let refused = owner.drop_file(&edited(&no_op(), 1));
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("timeuot"), "{}", refused.text);
    assert_eq!(kept(&place), 0);
}

fn check_no_deploy(host: &Host, place: &Place, why: &str) {
    let owner = Browser::session(host, SECRET);
    let page = owner.get(PAGE);
    assert!(page.text.contains(why), "{}", page.text);
    assert!(!page.text.contains("multipart/form-data"), "{}", page.text);
    let refused = owner.drop_file(&edited(&no_op(), 1));
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains(why), "{}", refused.text);
    assert_eq!(kept(place), 0);
}

/// A client that begins to send a component and goes on no further.
fn slow(host: &Host, owner: &Browser<'_>) -> TcpStream {
    let token = owner.get(PAGE).token();
    let form = form_of(&[
        ("token", None, token.as_bytes()),
        ("component", Some("x"), &[b'x'; 1000]),
    ]);
    let name = host.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(name).unwrap();
    write!(
        stream,
        "POST {CHECK} HTTP/1.1\r\nhost: {name}\r\ncookie: {}\r\ncontent-type: multipart/form-data; boundary=edge\r\ncontent-length: 100000\r\n\r\n",
        owner.headers[0].1
    )
    .unwrap();
    stream.write_all(&form[..form.len() - 20]).unwrap();
    stream
}

#[test]
fn few_components_come_in_at_a_time_and_one_that_is_given_up_leaves_nothing() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let slow = [slow(&host, &owner), slow(&host, &owner)];
    wait_for("two components that come in", || (kept(&place) == 2).then_some(()));
    let refused = owner.drop_file(&edited(&no_op(), 1));
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("try again in a moment"), "{}", refused.text);
    // Meanwhile the host does everything else.
    assert_eq!(owner.get("/ui").status, 200);
    drop(slow);
    wait_for("both to be gone", || (kept(&place) == 0).then_some(()));
    owner.checked(&edited(&no_op(), 1));
}

#[test]
fn a_session_that_has_ended_meanwhile_brings_nothing_in() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let mut stream = slow(&host, &owner);
    wait_for("a component that comes in", || (kept(&place) == 1).then_some(()));
    assert_eq!(owner.act("/ui", "/ui/logout", &[]).status, 303);
    let token = "x";
    // The rest: the end of the file, and of the form.
    let head_and_form = form_of(&[
        ("token", None, token.as_bytes()),
        ("component", Some("x"), &[b'x'; 1000]),
    ]);
    let sent = head_and_form.len() - token.len() + 64 - 20;
    let mut rest = vec![b'x'; 100_000 - sent - 12];
    rest.extend_from_slice(b"\r\n--edge--\r\n");
    stream.write_all(&rest).unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    wait_for("it to be gone", || (kept(&place) == 0).then_some(()));
}

#[test]
fn a_component_that_breaks_is_gone_back_from_and_the_page_says_so() {
    let place = place(SWITCHED_ON, QUICK);
    let host = started(&place);
    let owner = Browser::session(&host, SECRET);
    let wasm = handler("unreachable");
    owner.checked(&wasm);
    assert_eq!(owner.deploy(&wasm).status, 303);
    wait_for("the new version", || {
        (api(&host, "/handlers/orders/versions")["versions"][0]["number"] == 2).then_some(())
    });
    wait_for("the host to go back", || {
        send_with(&host, "x", SECRET);
        (api(&host, "/handlers/orders/versions")["versions"][0]["state"] == "quarantined").then_some(())
    });
    let page = owner.get(PAGE);
    for part in ["quarantined", "Do not serve by themselves", &digest(&wasm)] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert_eq!(api(&host, "/handlers/orders/versions")["serving"], 1);
    // Whoever brings it once more is told.
    place.install("orders", &no_op(), QUICK);
    let again = owner.checked(&wasm);
    assert!(again.text.contains("does not serve by itself"), "{}", again.text);
}

/// Logs in, chooses a file, reads the verdict and deploys, as a person does.
fn deploy_by_hand(host: &Host, browser: &RealBrowser, bring: impl FnOnce(&RealBrowser)) {
    browser.open(&format!("{}{PAGE}", host.url));
    browser.fill("input[name=secret]", SECRET);
    browser.click("button[type=submit]");
    browser.wait_text("It is checked first");
    bring(browser);
    browser.wait_text("The host would run it");
    browser.click("form[action$='/deploy'] button");
    browser.wait_text("is in the plugin directory now");
    wait_for("the new version", || {
        (api(host, "/handlers")["handlers"][0]["version"] == 2).then_some(())
    });
}

/// The page can be used by everybody, and on a phone.
fn check_looks(browser: &RealBrowser) {
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        let found = browser.axe();
        assert!(found.is_empty(), "{scheme}: {found:#?}");
    }
    browser.resize(360, 740);
    assert_eq!(browser.run("return document.documentElement.scrollWidth"), 360);
    browser.resize(1280, 900);
}

fn file(place: &Place) -> String {
    let file = place.path().join("build.wasm");
    fs::write(&file, edited(&no_op(), 1)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_file_is_chosen_and_deployed_without_a_script() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let browser = RealBrowser::start();
    browser.without_scripts();
    deploy_by_hand(&host, &browser, |browser| {
        browser.choose("#deploy input[type=file]", &file(&place));
        browser.click("#deploy button");
    });
}

#[test]
fn a_file_is_dropped_and_deployed() {
    let place = place(SWITCHED_ON, "");
    let host = started(&place);
    let browser = RealBrowser::start();
    deploy_by_hand(&host, &browser, |browser| {
        check_looks(browser);
        // Its form, and not only its field.
        browser.drop_file("#deploy form p", Path::new(&file(&place)));
        browser.wait_text("The host would run it");
        check_looks(browser);
    });
}
