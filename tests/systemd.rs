//! What systemd is told, over its notify protocol: when the host has started, that it lives, that it reloads, and how its end comes on.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use harness::{
    PATIENCE,
    guests::{body_starts_with, handler, no_op},
    host::{Host, Place},
    wait_for,
};

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    /// Every assignment that came, in order.
    heard: Vec<String>,
}

impl Manager {
    /// Binds a socket in the place, and names it in the environment of its hosts.
    fn of(place: &mut Place) -> Self {
        let path = place.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        place
            .environment
            .push(("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()));
        Self {
            socket,
            heard: Vec::new(),
        }
    }

    /// Waits for an assignment that begins like this, after those that were waited for before. Returns it.
    fn hear(&mut self, beginning: &str) -> String {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.heard.iter().position(|heard| heard.starts_with(beginning)) {
                let found = self.heard.remove(at);
                self.heard.drain(..at);
                return found;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited for {beginning}, and heard {:#?}",
                self.heard
            );
            if let Ok(bytes) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer.get(..bytes).unwrap().to_vec()).unwrap();
                self.heard.extend(text.lines().map(str::to_owned));
            }
        }
    }
}

/// A host with a handler that spins on a body that starts with `s`.
fn supervised(environment: &[(&'static str, &str)]) -> (Place, Manager, Host) {
    let mut place = Place::new();
    let mut manager = Manager::of(&mut place);
    for (name, value) in environment {
        place.environment.push((name, (*value).to_owned()));
    }
    place.configure("grace-period = \"10m\"\n");
    let spinner = handler(&format!(
        "(if {} (then (loop $l (br $l)))) (global.get $ok)",
        body_starts_with('s')
    ));
    place.install("in", &spinner, "timeout = \"10m\"\n");
    let host = place.start();
    manager.hear("EXTEND_TIMEOUT_USEC=15000000");
    manager.hear("STATUS=starting: the queues' storage is opened");
    manager.hear("EXTEND_TIMEOUT_USEC=15000000");
    manager.hear("STATUS=starting: handlers are being compiled");
    manager.hear("READY=1");
    // What was told is so.
    assert_eq!(host.text("/ready").0, 200);
    (place, manager, host)
}

#[test]
fn systemd_is_told_when_the_host_has_started_and_how_it_ends() {
    let (_place, mut manager, host) = supervised(&[]);
    manager.hear("STATUS=ready: 1 handler serves");
    host.send("in", b"spin");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    host.signal("TERM");
    manager.hear("STOPPING=1");
    manager.hear("EXTEND_TIMEOUT_USEC=15000000");
    let status = manager.hear("STATUS=stopping: 1 in flight (in 1), ");
    assert!(status.ends_with(" s of the grace period are left"), "{status}");
    // It goes on asking for time, as the grace period is long.
    manager.hear("EXTEND_TIMEOUT_USEC=15000000");
    let (status, log) = host.terminate();
    assert_eq!(status.code(), Some(143), "{log:#?}");
    manager.hear("EXTEND_TIMEOUT_USEC=15000000");
    manager.hear("STATUS=stopping: the queues' storage is closed");
}

#[test]
fn a_manager_that_does_not_read_holds_up_no_reload_and_hears_at_last_that_the_host_is_ready() {
    let mut place = Place::new();
    let mut manager = Manager::of(&mut place);
    place.configure("");
    let path = place.path().join("notify");
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"STATUS=filler", &path).is_ok() {}
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    wait_for("the warning", || host.events("the service manager can't be told").pop());
    place.configure("[queues.in]\nvisibility-timeout = \"45s\"\n");
    let reloaded = host.post("/reload", &serde_json::Value::Null);
    assert_eq!(reloaded["changed"][0], "queues.in", "{reloaded}");
    manager.hear("READY=1");
    manager.hear("STATUS=ready: 1 handler serves");
}

#[test]
fn systemd_is_told_of_each_reload_and_of_its_end() {
    let (place, mut manager, host) = supervised(&[]);
    host.signal("HUP");
    manager.hear("RELOADING=1");
    let at = manager.hear("MONOTONIC_USEC=");
    assert!(at.split_once('=').unwrap().1.parse::<u64>().unwrap() > 0, "{at}");
    manager.hear("READY=1");
    // Mistakes are no end of the service.
    place.configure("grace-period = 1\n");
    host.signal("HUP");
    manager.hear("RELOADING=1");
    manager.hear("READY=1");
    fs::remove_file(place.plugin("in.wasm")).unwrap();
    manager.hear("STATUS=ready: 0 handlers serve");
}

#[test]
fn systemd_is_told_that_the_host_lives_as_often_as_it_asks() {
    let (_place, mut manager, host) = supervised(&[("WATCHDOG_USEC", "400000")]);
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    drop(host);
    let mut place = Place::new();
    let mut manager = Manager::of(&mut place);
    place.environment.push(("WATCHDOG_USEC", "soon".to_owned()));
    let output = place.run().output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("WATCHDOG_USEC"));
    // The watchdog of another process.
    place.environment.pop();
    place.environment.push(("WATCHDOG_USEC", "100000".to_owned()));
    place.environment.push(("WATCHDOG_PID", "1".to_owned()));
    let host = place.start();
    manager.hear("READY=1");
    manager.hear("STATUS=ready");
    host.wait_idle();
    assert!(!manager.heard.iter().any(|heard| heard.starts_with("WATCHDOG")));
}

#[test]
fn systemd_is_told_of_a_drain_and_of_a_handler_that_can_not_serve() {
    let (place, mut manager, host) = supervised(&[]);
    host.send("in", b"spin");
    wait_for("the attempt", || (host.count("in", "in-flight") == 1).then_some(()));
    host.post("/drain", &serde_json::Value::Null);
    manager.hear("STATUS=draining by an operator's order: 1 in flight (in 1)");
    host.post("/drain/end", &serde_json::Value::Null);
    fs::write(place.plugin("bad.wasm"), "junk").unwrap();
    // Every user of the machine can read it, so it has no word of a file.
    manager.hear("STATUS=not ready: `sandhog health` says why");
    place.install("bad", &no_op(), "");
    manager.hear("STATUS=ready: 2 handlers serve");
}

#[test]
fn a_manager_that_is_not_there_stops_nothing() {
    let mut place = Place::new();
    let nowhere = place.path().join("nowhere").to_str().unwrap().to_owned();
    place.environment.push(("NOTIFY_SOCKET", nowhere));
    place.install("in", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    wait_for("the warning", || host.events("the service manager can't be told").pop());
    host.send("in", b"x");
    host.wait_empty("in");
}
