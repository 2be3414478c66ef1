//! `sandhog deploy`: what gets into the plugin directory, what the command says, and its exit codes, with a host that answers as it is told.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Mutex,
    thread,
};

use harness::{host::Place, wait_for};
use sandhog_executor::digest;
use serde_json::{Value, json};

/// A place where a host could run, with files to deploy beside it.
struct Desk {
    place: Place,
    wasm: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let place = Place::new();
        let plugins = place.plugin("orders.wasm");
        fs::create_dir_all(plugins.parent().unwrap()).unwrap();
        fs::write(plugins, "the old one").unwrap();
        let wasm = place.path().join("orders.wasm");
        fs::write(&wasm, "the new one").unwrap();
        Self { place, wasm }
    }

    fn plugins(&self) -> PathBuf {
        self.place.plugin("orders.wasm").parent().unwrap().to_owned()
    }

    fn command(&self, url: &str, more: &[&str]) -> Command {
        let mut command = self.place.command();
        command.arg("deploy").arg(&self.wasm).args(["--url", url]).args(more);
        command
    }

    fn deploy(&self, host: &ToldHost, more: &[&str]) -> Said {
        Said::of(self.command(&host.url, more).output().unwrap())
    }

    /// The names in the plugin directory, hidden ones included.
    fn names(&self) -> Vec<String> {
        names(&self.plugins())
    }

    fn deployed(&self) -> String {
        fs::read_to_string(self.place.plugin("orders.wasm")).unwrap()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// A host that shows the given versions of `orders`: the next one at each question, and the last one from then on.
struct ToldHost {
    url: String,
}

impl ToldHost {
    fn new(plugins: &Path, refusals: u64, shown: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let handlers = json!({
            "plugins": plugins,
            "handlers": [{
                "name": "orders", "queue": "orders", "state": "serving", "version": 1, "in-flight": 0,
                "last-error": "no such export", "refusals": refusals,
                "refused-component": digest(b"the new one"),
            }],
        });
        let shown = Mutex::new(shown);
        // It serves until the process ends.
        drop(thread::spawn(move || {
            // The refusals come after the first question, which is about what was before.
            let mut asked = 0;
            for stream in listener.incoming() {
                asked += 1;
                let mut handlers = handlers.clone();
                if asked <= 3 {
                    handlers["handlers"][0]["refusals"] = json!(0);
                }
                drop(answer(stream.unwrap(), &handlers, &shown));
            }
        }));
        Self { url }
    }
}

fn answer(mut stream: TcpStream, handlers: &Value, shown: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let body = if head.starts_with("GET /handlers ") {
        handlers.clone()
    } else {
        let mut shown = shown.lock().unwrap();
        if shown.len() > 1 {
            shown.remove(0)
        } else {
            shown[0].clone()
        }
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// What a host shows while version 2, the deployed one, is in a state. `serving` is the number of the version that serves.
fn shown(state: &str, serving: u64) -> Value {
    let version = |number: u64, bytes: &str, state: &str, reason: Option<&str>| {
        json!({
            "number": number, "component": digest(bytes.as_bytes()), "manifest": null, "file": "plugins/orders.wasm",
            "accepted-at-ms": 1000, "state": state, "reason": reason, "rollback-of": null, "served-ms": 5, "last-served-at-ms": 2000,
            "calls": 0, "breaks": 0, "outcomes": {}, "p50-ms": null, "p99-ms": null, "cpu-ms-total": 0.0, "cpu-ms-mean": null,
            "memory-peak-bytes": 0,
        })
    };
    let reason = (state == "quarantined").then_some("it broke 7 of 7 calls");
    let probation = json!({
        "stage": "probation", "calls": 3, "calls-wanted": 300, "elapsed-ms": 0, "time-ms": 600_000, "share": 1.0,
        "newer-calls": 3, "newer-breaks": 1, "predecessor-calls": 2, "predecessor-breaks": 0, "second-opinions": 1,
    });
    let old = if serving == 1 { "serving" } else { "retired" };
    json!({
        "handler": "orders", "serving": serving, "predecessor": 1,
        "state": if serving == 1 { "serving" } else { state },
        "probation": if state == "probation" { probation } else { Value::Null },
        "note": null, "events": [],
        "barred": if state == "quarantined" {
            json!([{ "component": digest(b"the new one"), "number": 2, "state": state, "reason": reason }])
        } else {
            json!([])
        },
        "versions": [version(2, "the new one", state, reason), version(1, "the old one", old, None)],
    })
}

/// What a host shows before it has taken the file.
fn before() -> Value {
    let mut before = shown("retired", 1);
    before["versions"].as_array_mut().unwrap().remove(0);
    before
}

const ON_PROBATION: &str =
    "version 2 is on probation: 3 of 300 calls, 0s of 10m; 1 of its 3 calls broke, and 0 of 2 of version 1\n";

#[test]
fn a_version_that_is_proven_ends_with_0_and_the_stages_are_told() {
    let desk = Desk::new();
    let views = vec![
        before(),
        before(),
        shown("probation", 2),
        shown("probation", 2),
        shown("serving", 2),
    ];
    let host = ToldHost::new(&desk.plugins(), 0, views);
    let said = desk.deploy(&host, &[]);
    let put = format!("put orders.wasm into {}\n", desk.plugins().display());
    let expected = format!("{put}{ON_PROBATION}version 2 is proven, and serves orders\n");
    assert_eq!((said.code, said.out, said.err), (Some(0), expected, String::new()));
    assert_eq!(
        (desk.deployed().as_str(), desk.names()),
        ("the new one", vec!["orders.wasm".to_owned()])
    );
}

#[test]
fn a_version_that_the_host_goes_back_from_ends_with_4() {
    let desk = Desk::new();
    let host = ToldHost::new(
        &desk.plugins(),
        0,
        vec![before(), shown("probation", 2), shown("quarantined", 1)],
    );
    let said = desk.deploy(&host, &[]);
    let expected = "sandhog: the host went back from version 2: it broke 7 of 7 calls; version 1 serves orders\n";
    assert_eq!((said.code, said.err.as_str()), (Some(4), expected));
}

#[test]
fn a_probation_that_takes_longer_than_the_command_waits_ends_with_5() {
    let desk = Desk::new();
    let host = ToldHost::new(&desk.plugins(), 0, vec![before(), shown("probation", 2)]);
    let said = desk.deploy(&host, &["--timeout", "1s"]);
    let standing = ON_PROBATION.trim_end();
    let expected = format!("sandhog: the time is up: {standing}; the rollout goes on without this command\n");
    assert_eq!((said.code, said.err), (Some(5), expected));
}

#[test]
fn a_file_that_the_host_refuses_ends_with_1() {
    let desk = Desk::new();
    let host = ToldHost::new(&desk.plugins(), 1, vec![before()]);
    let said = desk.deploy(&host, &[]);
    let expected =
        "sandhog: the host refuses it: no such export\nthe earlier files of orders are back in the plugin directory\n";
    assert_eq!((said.code, said.err.as_str()), (Some(1), expected));
    assert_eq!(
        (desk.deployed().as_str(), desk.names()),
        ("the old one", vec!["orders.wasm".to_owned()])
    );
    let said = desk.deploy(&ToldHost::new(&desk.plugins(), 1, vec![before()]), &["--json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &report["outcome"]), (Some(1), &json!("refused")));
}

#[test]
fn a_manifest_beside_the_component_or_named_gets_into_place_with_it() {
    for named in [false, true] {
        let desk = Desk::new();
        let manifest = if named {
            desk.place.path().join("other.toml")
        } else {
            desk.wasm.with_extension("toml")
        };
        fs::write(&manifest, "concurrency = 1\n").unwrap();
        let host = ToldHost::new(&desk.plugins(), 0, vec![before()]);
        let mut more = vec!["--timeout", "0s", "--name", "jobs"];
        if named {
            more.extend(["--manifest", manifest.to_str().unwrap()]);
        }
        assert_eq!(desk.deploy(&host, &more).code, Some(5));
        assert_eq!(desk.names(), ["jobs.toml", "jobs.wasm", "orders.wasm"]);
        assert_eq!(
            fs::read_to_string(desk.place.plugin("jobs.toml")).unwrap(),
            "concurrency = 1\n"
        );
    }
}

#[test]
fn a_file_that_names_the_queue_of_another_handler_is_not_deployed() {
    let desk = Desk::new();
    let host = ToldHost::new(&desk.plugins(), 0, vec![before()]);
    fs::write(desk.wasm.with_extension("toml"), "queue = \"orders\"\n").unwrap();
    let said = desk.deploy(&host, &["--name", "jobs"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "queue orders has the handler orders already",
        "--name orders",
        "orders.wasm",
    ] {
        assert!(said.err.contains(part), "{said:?}");
    }
    assert_eq!(
        (desk.deployed().as_str(), desk.names()),
        ("the old one", vec!["orders.wasm".to_owned()])
    );
}

#[test]
fn nothing_changes_if_the_files_cannot_be_deployed() {
    let desk = Desk::new();
    let host = ToldHost::new(&desk.plugins(), 0, vec![before()]);
    let config = desk.place.path().join("sandhog.toml");
    fs::write(&config, "").unwrap();
    let config = config.to_str().unwrap();
    let elsewhere = ToldHost::new(Path::new("/no/such/directory"), 0, vec![before()]);
    let not_here = "the plugin directory of the host, \"/no/such/directory\", is not on this machine: run the command where the host runs";
    let cases: [(&ToldHost, &[&str], i32, &str); 4] = [
        (
            &host,
            &["--manifest", "missing.toml"],
            1,
            "missing.toml can't be read: there is no such file",
        ),
        (
            &host,
            &["--name", "sandhog", "--manifest", config],
            2,
            "a manifest sandhog.toml could replace the host's own configuration",
        ),
        (
            &host,
            &["--name", "../orders"],
            2,
            "use the name of a file without .wasm",
        ),
        (&elsewhere, &[], 1, not_here),
    ];
    for (host, more, code, why) in cases {
        let said = desk.deploy(host, more);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    let nobody = Said::of(desk.command("http://127.0.0.1:1", &[]).output().unwrap());
    assert_eq!(nobody.code, Some(69), "{nobody:?}");
    assert_eq!(
        (desk.deployed().as_str(), desk.names()),
        ("the old one", vec!["orders.wasm".to_owned()])
    );
}

#[test]
fn a_deploy_that_is_interrupted_while_it_waits_says_that_the_rollout_goes_on() {
    let desk = Desk::new();
    let host = ToldHost::new(&desk.plugins(), 0, vec![before(), shown("probation", 2)]);
    let mut command = desk.command(&host.url, &[]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    while !lines.ends_with(ON_PROBATION) {
        assert!(out.read_line(&mut lines).unwrap() > 0, "{lines}");
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let standing = ON_PROBATION.trim_end();
    assert_eq!(rest, format!("{standing}; the rollout goes on without this command\n"));
    let code = wait_for("its end", || child.try_wait().unwrap());
    assert_eq!(code.code(), Some(130));
    assert_eq!(desk.names(), ["orders.wasm"]);
}
