//! `sandhog health` answers a probe by its exit code, soon and without the secret.

use std::{fs, net::TcpListener, process::Command};

use harness::{
    guests::no_op,
    host::{Host, Place},
    wait_for,
};
use serde_json::{Value, json};

/// The exit code, standard output and standard error of a probe.
fn probe(mut command: Command, url: &str, options: &[&str]) -> (Option<i32>, String, String) {
    command.env_remove("SANDHOG_SECRET");
    command.args(["health", "--url", url]).args(options);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn health(place: &Place, host: &Host, options: &[&str]) -> (Option<i32>, String) {
    let (code, out, error) = probe(place.command(), &host.url, options);
    assert_eq!(error, "");
    (code, out)
}

#[test]
fn a_probe_says_by_its_exit_code_whether_the_host_is_ready() {
    let place = Place::new();
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    assert_eq!(health(&place, &host, &[]), (Some(0), "ready\n".to_owned()));
    fs::write(place.plugin("bad.wasm"), "junk").unwrap();
    wait_for("the refusal", || host.events("a handler was refused").pop());
    let (code, said) = health(&place, &host, &[]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("not ready: handler bad has no version that serves: "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    // It lives all the same, and no restart would mend it.
    assert_eq!(health(&place, &host, &["--live"]), (Some(0), "live\n".to_owned()));
    let (code, said) = health(&place, &host, &["--json"]);
    assert_eq!(code, Some(1));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["ready"], false);
    assert_eq!(said["reasons"].as_array().unwrap().len(), 1, "{said}");
    let (_, said) = health(&place, &host, &["--live", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({ "live": true }));
}

#[test]
fn a_probe_needs_no_secret_and_gets_no_reasons_without_it() {
    const SECRET: &str = "0123456789abcdef";
    let mut place = Place::new();
    place.environment.push(("SANDHOG_SECRET", SECRET.to_owned()));
    fs::write(place.plugin("bad.wasm"), "junk").unwrap();
    let host = place.start();
    wait_for("the refusal", || host.events("a handler was refused").pop());
    let expected = "not ready; the host says why to those that have its secret in SANDHOG_SECRET\n";
    assert_eq!(health(&place, &host, &[]), (Some(1), expected.to_owned()));
    fs::remove_file(place.plugin("bad.wasm")).unwrap();
    wait_for("readiness", || (health(&place, &host, &[]).0 == Some(0)).then_some(()));
    fs::write(place.plugin("bad.wasm"), "junk").unwrap();
    wait_for("unreadiness", || {
        (health(&place, &host, &[]).0 == Some(1)).then_some(())
    });
    let with_secret = place
        .command()
        .args(["health", "--url", &host.url])
        .env("SANDHOG_SECRET", SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8(with_secret.stdout).unwrap();
    assert!(said.starts_with("not ready: handler bad has no version"), "{said}");
}

#[test]
fn a_probe_that_finds_no_host_or_no_answer_ends_with_69() {
    let place = Place::new();
    // Port 1 is nobody's.
    let (code, out, error) = probe(place.command(), "127.0.0.1:1", &[]);
    assert_eq!((code, out.as_str()), (Some(69), ""), "{error}");
    assert!(
        error.starts_with("sandhog: no sandhog host answers at http://127.0.0.1:1"),
        "{error}"
    );
    // The system accepts a connection here, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = silent.local_addr().unwrap().to_string();
    for options in [&["--timeout", "200ms"][..], &["--live", "--timeout", "200ms"]] {
        let (code, out, error) = probe(place.command(), &url, options);
        assert_eq!((code, out.as_str()), (Some(69), ""), "{error}");
        assert!(error.contains("gave no answer"), "{error}");
    }
}
