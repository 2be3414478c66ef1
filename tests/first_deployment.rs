//! The tutorial about a first deployment: its commands, as printed, with a host of the tests in place of the service, and directories of
//! the tests in place of those of the system.

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use harness::{
    guests::{edited, handler, no_op},
    host::{Host, Place},
    sandhog_binary,
};

use crate::readme::{blocks, page};

const PAGE: &str = "docs/tutorials/first-deployment.md";
const DEPLOY: &str = "sudo sandhog deploy checkout/checkout.wasm";

/// The commands with what they say and their exit codes. What belongs to the system is not run.
const ANSWERS: [(&str, &str, i32); 20] = [
    ("sandhog handlers", "", 0),
    (DEPLOY, "checkout", 0),
    ("sandhog send checkout", "", 0),
    ("sandhog tail checkout --no-follow", "success", 0),
    (DEPLOY, "", 4),
    ("for n in $(seq 100)", "", 0),
    ("sandhog versions checkout", "quarantined", 0),
    ("sandhog tail checkout --failed", "trap", 0),
    ("sandhog dead list checkout", "no dead letters", 0),
    (DEPLOY, "is proven", 0),
    ("sandhog rollback checkout", "", 0),
    ("sandhog versions checkout", "set-aside", 0),
    ("sandhog promote checkout", "", 0),
    ("sudo sandhog backup /var/backups/sandhog-monday", "", 0),
    ("sudo systemctl stop sandhog", "", 0),
    ("sudo mv /var/lib/sandhog", "", 0),
    ("sudo cp -a /var/backups", "", 0),
    ("sudo chown -R sandhog: /var/lib/sandhog", "", 0),
    ("sudo systemctl start sandhog", "", 0),
    ("sandhog queues", "checkout", 0),
];

/// Runs a command of the page on this machine: no user but that of the tests, and directories of its own.
fn run(place: &Place, host: &Host, line: &str) -> (i32, String) {
    let path = |below: &str| place.path().join(below).display().to_string();
    let line = line
        .replace("sudo ", "")
        .replace("/var/lib/sandhog", &path("data"))
        .replace("/var/backups", &path("backups"));
    let programs = sandhog_binary().parent().unwrap().to_owned();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&old))).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &line])
        .current_dir(place.path())
        .env("PATH", all)
        .env("SANDHOG_URL", &host.url)
        .stdin(Stdio::null());
    let output = shell.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code().unwrap(), said)
}

/// The same while messages come, without which no version proves itself.
fn run_amid_messages(place: &Place, host: &Host, line: &str) -> (i32, String) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                host.send("checkout", b"{\"id\": 8, \"items\": []}");
                host.wait_empty("checkout");
            }
        });
        let done = run(place, host, line);
        is_over.store(true, Relaxed);
        done
    })
}

/// Puts what the reader builds before a deploy into the project.
fn build(place: &Place, deploy: usize) {
    let good = no_op();
    let wasm = match deploy {
        0 => good,
        1 => handler("unreachable"),
        _ => edited(&good, 2),
    };
    let page = page(PAGE);
    let rollout = blocks(&page).into_iter().find(|block| block.language == "toml");
    let directory = place.path().join("checkout");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("checkout.wasm"), wasm).unwrap();
    fs::write(directory.join("checkout.toml"), rollout.unwrap().text).unwrap();
}

#[test]
fn the_commands_of_the_first_deployment_do_what_the_page_says() {
    let place = Place::new();
    fs::create_dir(place.path().join("backups")).unwrap();
    let page = page(PAGE);
    let shells = blocks(&page);
    let mut lines = shells
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| block.text.lines());
    assert_eq!(lines.next(), Some("sudo apt install ./sandhog_*.deb"));
    assert_eq!(lines.next(), Some("sudo systemctl enable --now sandhog"));
    let mut host = Some(place.start());
    let mut answers = ANSWERS.iter();
    let mut deploys = 0;
    for line in lines {
        let (beginning, expected, code) = answers.next().unwrap_or_else(|| panic!("{line} is new"));
        assert!(line.starts_with(beginning), "{line} stands where {beginning} did");
        if line.starts_with("sudo chown") {
            continue;
        }
        if line == "sudo systemctl stop sandhog" {
            let (status, log) = host.take().unwrap().terminate();
            assert_eq!(status.code(), Some(0), "{log:#?}");
            continue;
        }
        if line == "sudo systemctl start sandhog" {
            host = Some(place.start());
            continue;
        }
        let done = match &host {
            Some(host) if line == DEPLOY => {
                build(&place, deploys);
                deploys += 1;
                if deploys == 1 {
                    run(&place, host, line)
                } else {
                    run_amid_messages(&place, host, line)
                }
            }
            Some(host) => {
                let done = run(&place, host, line);
                if line.contains("sandhog send") {
                    host.wait_empty("checkout");
                }
                done
            }
            // Files of a host that is stopped are files.
            None => {
                let line = line
                    .replace("sudo ", "")
                    .replace("/var/lib/sandhog", &place.data().display().to_string())
                    .replace("/var/backups", &place.path().join("backups").display().to_string());
                let status = Command::new("sh").args(["-c", &line]).status().unwrap();
                (status.code().unwrap(), String::new())
            }
        };
        assert_eq!(done.0, *code, "{line}: {}", done.1);
        assert!(done.1.contains(expected), "{line}: {expected:?} is not in {}", done.1);
    }
    assert_eq!(answers.next(), None, "the page has lost a command");
    host.unwrap().wait_ready();
}
