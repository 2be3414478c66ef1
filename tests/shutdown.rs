//! SIGTERM: nothing is stranded, nothing is counted that was not run.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use std::{
    fs::File,
    io::Read as _,
    os::fd::{FromRawFd as _, OwnedFd},
    sync::{Arc, Mutex},
};

use harness::{
    guests::{FORWARD, body_starts_with, forward, handler},
    host::Place,
    wait_for,
};
use serde_json::json;

const GRANT: &str = "[grant]\nsend = [\"out\"]\n";

/// Spins on a body that starts with `s`, forwards the rest.
fn spinner() -> Vec<u8> {
    handler(&format!(
        "(if {} (then (loop $l (br $l)))) {FORWARD} (global.get $ok)",
        body_starts_with('s')
    ))
}

#[test]
fn an_idle_host_ends_at_once() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let start = Instant::now();
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    // The grace period is 30 s and a parked receive waits for 20 s: neither was waited for.
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn what_the_grace_period_cuts_off_is_released_uncounted() {
    let place = Place::new();
    place.configure("grace-period = \"200ms\"\n");
    place.install("in", &spinner(), GRANT);
    let host = place.start();
    host.wait_ready();
    host.send("in", b"spin");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    std::fs::remove_file(place.plugin("in.wasm")).unwrap();
    let host = place.start();
    let answer = host.post("/queues/in/receive?max=1&wait=5s", &json!(null));
    assert_eq!(answer["messages"][0]["receive-count"], 1, "{answer}");
}

/// Two handlers with room for four instances between them: half of what they received has not run when the host stops.
#[test]
fn what_was_received_and_not_run_is_released_uncounted() {
    let place = Place::new();
    place.configure("grace-period = \"200ms\"\nmax-live-instances = 4\n");
    let queues = ["in", "other"];
    for queue in queues {
        place.install(
            queue,
            &spinner(),
            &format!("concurrency = 4\ntimeout = \"1m\"\n{GRANT}"),
        );
    }
    let host = place.start();
    host.wait_ready();
    for queue in queues {
        for _ in 0..4 {
            host.send(queue, b"spin");
        }
    }
    for queue in queues {
        wait_for("the receives", || (host.count(queue, "in-flight") == 4).then_some(()));
    }
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    for queue in queues {
        std::fs::remove_file(place.plugin(&format!("{queue}.wasm"))).unwrap();
    }
    let host = place.start();
    for queue in queues {
        let answer = host.post(&format!("/queues/{queue}/receive?max=10&wait=5s"), &json!(null));
        let messages = answer["messages"].as_array().unwrap();
        let counts: Vec<_> = messages
            .iter()
            .map(|message| message["receive-count"].as_u64())
            .collect();
        assert_eq!(counts, [Some(1); 4], "{answer}");
    }
}

#[test]
fn a_second_signal_skips_the_grace_period() {
    let place = Place::new();
    place.install("in", &spinner(), GRANT);
    let mut host = place.start();
    host.wait_ready();
    host.send("in", b"spin");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    host.signal("TERM");
    wait_for("the drain", || host.events("stopping: ").pop());
    assert!(host.try_wait().is_none());
    let start = Instant::now();
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(143), "{log:#?}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_signal_that_is_no_order_to_stop_disturbs_no_attempt() {
    let place = Place::new();
    place.configure("grace-period = \"200ms\"\n");
    place.install("in", &spinner(), GRANT);
    let mut host = place.start();
    host.wait_ready();
    host.send("in", b"spin");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    // Each of them ended the process in the middle of the attempt, whose receive was counted.
    let mut signals = vec!["HUP", "USR1", "ALRM", "VTALRM", "PROF", "XFSZ", "PIPE", "USR2"];
    if cfg!(target_os = "linux") {
        signals.extend(["IO", "STKFLT", "34", "64"]);
    }
    for signal in signals {
        host.signal(signal);
        assert!(host.try_wait().is_none(), "SIG{signal}");
    }
    wait_for("the line that tells", || host.events("SIGUSR2 came").pop());
    wait_for("the look", || host.events("SIGHUP: looking at").pop());
    assert_eq!(host.count("in", "in-flight"), 1);
    assert!(host.try_wait().is_none());
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn every_signal_that_announces_an_end_lets_attempts_end() {
    let mut signals = vec!["QUIT", "XCPU", "INT"];
    if cfg!(target_os = "linux") {
        signals.push("PWR");
    }
    for signal in signals {
        let place = Place::new();
        place.configure("grace-period = \"200ms\"\n");
        place.install("in", &spinner(), GRANT);
        let host = place.start();
        host.wait_ready();
        host.send("in", b"spin");
        wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
        host.signal(signal);
        let (status, log) = host.wait();
        assert_eq!(status.code(), Some(0), "SIG{signal}: {log:#?}");
        assert!(
            log.iter().any(|line| line.contains("the grace period is over")),
            "{log:#?}"
        );
    }
}

#[test]
fn sigterm_under_load_strands_nothing() {
    let place = Place::new();
    place.install("in", &forward(), GRANT);
    let host = place.start();
    host.wait_ready();
    let mut sent = 0;
    for _ in 0..20 {
        let messages: Vec<_> = (0..100)
            .map(|number| json!({ "body": (sent + number).to_string() }))
            .collect();
        host.post("/queues/in/batch", &json!({ "messages": messages }));
        sent += 100;
    }
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    // Without its handler, so that nothing moves while it is counted.
    std::fs::remove_file(place.plugin("in.wasm")).unwrap();
    let host = place.start();
    assert_eq!(host.count("in", "in-flight"), 0);
    assert_eq!(host.count("in", "ready") + host.count("out", "ready"), sent);
    place.install("in", &forward(), GRANT);
    host.wait_empty("in");
    let mut out: Vec<u64> = host.take_all("out").iter().map(|body| body.parse().unwrap()).collect();
    out.sort_unstable();
    assert_eq!(out, (0..sent).collect::<Vec<_>>());
    assert!(host.dead("in").is_empty());
}

#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let place = Place::new();
    place.install("in", &handler("unreachable"), "[retry]\nmin = \"1ms\"\nmax = \"1ms\"\n");
    let mut command = place.run();
    // The reader of standard error goes away once it knows the address.
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(&line).ok()?;
        Some(event["fields"]["address"].as_str()?.to_owned())
    });
    let url = format!("http://{}", address.unwrap());
    drop(lines);
    wait_for("readiness", || ureq::get(format!("{url}/ready")).call().ok());
    for _ in 0..10 {
        ureq::post(format!("{url}/queues/in")).send("x").unwrap();
    }
    // Each failed attempt logs; all of them are settled all the same.
    wait_for("the dead letters", || {
        let text = ureq::get(format!("{url}/queues/in"))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
        (counts["dead"] == 10).then_some(())
    });
    assert!(
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let told = Instant::now();
    let status = wait_for("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "after {:?}", told.elapsed());
}

#[test]
fn a_host_that_should_empty_its_queues_says_when_it_was_stopped_before() {
    let mut place = Place::new();
    place.install("in", &spinner(), GRANT);
    place.configure("grace-period = \"100ms\"\n");
    place.arguments.push("--until-empty".to_owned());
    {
        // The message has to be there before the host looks for the first time.
        let arguments = std::mem::take(&mut place.arguments);
        let host = place.start();
        host.wait_ready();
        host.send("in", b"spin");
        host.terminate();
        place.arguments = arguments;
    }
    let host = place.start();
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(143), "{log:#?}");
}

/// The two ends of a terminal with long lines: that of a person, and that of a program.
#[cfg(target_os = "linux")]
fn terminal() -> (File, OwnedFd) {
    let (mut person, mut program) = (0, 0);
    let size = libc::winsize {
        ws_row: 24,
        ws_col: 200,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    #[expect(unsafe_code, reason = "the standard library opens no terminals")]
    // SAFETY: the pointers are those of values that live, or null where the call allows that; nobody else owns what it opens.
    unsafe {
        let opened = libc::openpty(
            &raw mut person,
            &raw mut program,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        );
        assert_eq!(opened, 0);
        (File::from_raw_fd(person), OwnedFd::from_raw_fd(program))
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_person_at_a_terminal_sees_what_a_stop_waits_for() {
    let place = Place::new();
    place.configure("grace-period = \"10m\"\n");
    place.install("in", &spinner(), &format!("timeout = \"10m\"\n{GRANT}"));
    let (mut person, program) = terminal();
    let mut command = place.run();
    let mut child = command.stdout(Stdio::null()).stderr(program).spawn().unwrap();
    let screen = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&screen);
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // An error is the end: no program has the terminal any more.
        while let Ok(length) = person.read(&mut bytes) {
            seen.lock().unwrap().extend_from_slice(bytes.get(..length).unwrap());
        }
    });
    let shown = || String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
    let url = wait_for("the address", || {
        let shown = shown();
        let (_, address) = shown.split_once("\"address\":\"")?;
        Some(format!("http://{}", address.split_once('"')?.0))
    });
    wait_for("readiness", || ureq::get(format!("{url}/ready")).call().ok());
    ureq::post(format!("{url}/queues/in")).send("spin").unwrap();
    wait_for("the attempt", || {
        let mut counts = ureq::get(format!("{url}/queues/in")).call().unwrap();
        let counts = counts.body_mut().read_to_string().unwrap();
        counts.contains("\"in-flight\":1").then_some(())
    });
    let order = || {
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    };
    assert!(!shown().contains("in flight ("), "{}", shown());
    order();
    wait_for("the line", || {
        shown().contains("stopping: 1 in flight (in 1), 59").then_some(())
    });
    order();
    let status = wait_for("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(143));
    drop(command);
    reader.join().unwrap();
    // The last line of the log stands alone.
    let shown = shown();
    let last = shown.trim_end().lines().next_back().unwrap();
    assert!(last.contains("\"message\":\"stopped\""), "{shown}");
}
