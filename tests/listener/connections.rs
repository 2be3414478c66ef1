//! Clients that say nothing, say it slowly or do not listen: none of them keeps the others, or the end of the host, waiting.

use std::{fs, net::TcpStream, time::Duration};

use harness::{host::Place, wait_for};
use sandhog::admin::ListenerLimits;

use super::served::{Client, Served, patient};

const LIVE: &str = "GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HALF_A_HEAD: &str = "GET /live HTTP/1.1\r\nho";
const HALF_A_BODY: &str = "POST /queues/orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nx";

/// Says a request and hears the answer, so that the line is free again.
fn idle(served: &Served) -> Client {
    let mut client = served.say(LIVE);
    assert!(client.hear(12).ends_with("200"));
    wait_for("the end of the answer", || client.hear(1).contains('l').then_some(()));
    client
}

#[test]
fn a_connection_without_a_whole_head_is_ended() {
    let served = Served::new(ListenerLimits {
        head: Duration::from_millis(50),
        ..patient()
    });
    // There was no limit: each of them stayed for ever.
    for said in ["", HALF_A_HEAD, LIVE] {
        let heard = served.say(said).rest();
        assert_eq!(heard.starts_with("HTTP/1.1 200"), said == LIVE, "{said:?}: {heard}");
    }
}

#[test]
fn a_body_that_does_not_come_ends_its_request() {
    let served = Served::new(ListenerLimits {
        body: Duration::from_millis(50),
        ..patient()
    });
    let heard = served.say(HALF_A_BODY).rest();
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert!(heard.contains("the body was not there within 50ms"), "{heard}");
}

#[test]
fn a_client_that_does_not_take_its_answer_is_ended() {
    let served = Served::new(ListenerLimits {
        answer: Duration::from_millis(50),
        ..patient()
    });
    for _ in 0..10 {
        served.send(vec![0; 1024 * 1024]);
    }
    // Ten MiB of NUL are sixty as JSON: more than the system takes in for a client.
    let client = served.say("POST /queues/orders/receive?max=10 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    wait_for("the receive", || (served.counts().in_flight == 10).then_some(()));
    served.wait_metric("sandhog_listener_connections 0");
    client.hang_up();
}

#[test]
fn silent_connections_keep_no_probe_from_being_answered() {
    let served = Served::new(ListenerLimits {
        connections: 8,
        ..patient()
    });
    let mut parked = served.park(1);
    let mut silent = Vec::new();
    for said in ["", HALF_A_HEAD, HALF_A_BODY].iter().cycle().take(60) {
        silent.push(served.say(said));
        assert_eq!(served.ask("GET /live"), 200);
    }
    // The request that was under way was not ended for any of them, and nobody else was kept out.
    assert_eq!(served.ask("GET /queues"), 200);
    served.send(b"late".to_vec());
    assert!(parked.hear(15).ends_with("200 OK"));
    wait_for("the others to be ended", || {
        let open = silent.iter_mut().map(Client::is_open).filter(|open| *open).count();
        (open <= 8).then_some(())
    });
}

#[test]
fn requests_under_way_keep_no_probe_from_being_answered() {
    let served = Served::new(ListenerLimits {
        connections: 5,
        reserve: 2,
        ..patient()
    });
    let mut parked = [1, 2, 3].map(|number| served.park(number));
    let _silent = [(); 10].map(|()| served.say(""));
    assert_eq!((served.ask("GET /live"), served.ask("GET /ready")), (200, 503));
    assert_eq!(served.ask("GET /queues"), 503, "there is room for probes alone");
    served.send(b"late".to_vec());
    wait_for("an answer to one of them", || {
        parked.iter_mut().any(Client::is_answered).then_some(())
    });
    wait_for("room again", || (served.ask("GET /queues") == 200).then_some(()));
}

#[test]
fn a_stop_does_not_wait_for_silent_clients() {
    let mut served = Served::new(patient());
    let (_silent, _half, _idle) = (served.say(""), served.say(HALF_A_HEAD), idle(&served));
    served.wait_metric("sandhog_listener_connections 3");
    let mut parked = served.park(1);
    // Each of the others held up every stop for five seconds.
    served.stop();
    served.wait_end();
    assert!(
        parked.rest().starts_with("HTTP/1.1 200"),
        "what is under way gets its answer"
    );
}

#[test]
fn a_stop_waits_for_half_a_body_for_a_moment_only() {
    let mut served = Served::new(ListenerLimits {
        patience: Duration::from_millis(50),
        ..patient()
    });
    let _client = served.say(HALF_A_BODY);
    served.wait_metric("sandhog_listener_requests 1");
    served.stop();
    served.wait_end();
}

#[test]
fn a_head_of_more_than_32_kib_is_refused() {
    let served = Served::new(patient());
    let long = format!("GET /live?{} HTTP/1.1\r\nhost: localhost\r\nx: ", "x".repeat(20_000));
    let mut client = served.say(&long);
    client.say("x".repeat(400_000).as_bytes());
    let heard = client.rest();
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 431"), "{heard}");
    assert_eq!(served.ask("GET /live"), 200);
}

#[test]
fn requests_follow_each_other_on_a_connection() {
    let served = Served::new(patient());
    let last = "GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let heard = served.say(&format!("{LIVE}{LIVE}{last}")).rest();
    assert_eq!(heard.matches("HTTP/1.1 200").count(), 3, "{heard}");
}

#[test]
fn the_second_version_of_http_is_not_spoken() {
    let served = Served::new(patient());
    let heard = served
        .say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .rest();
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 4"), "{heard:?}");
}

#[test]
fn a_request_says_once_whom_it_asks() {
    let served = Served::new(patient());
    let check = |head: &str, expected: u16| {
        let status = served.say(&format!("{head}connection: close\r\n\r\n")).status();
        assert_eq!(status, expected, "{head}");
    };
    check("GET /queues HTTP/1.1\r\n", 400);
    check("GET /live HTTP/1.1\r\n", 400);
    check("GET /queues HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 400);
    // What names no host was not looked at, nor was a host in the target.
    check("GET /queues HTTP/1.0\r\n", 403);
    check("GET http://evil.example/queues HTTP/1.1\r\nhost: localhost\r\n", 403);
    check("GET http://localhost/queues HTTP/1.1\r\nhost: localhost\r\n", 200);
    // A probe of the old kind.
    check("GET /live HTTP/1.0\r\n", 200);
}

/// A host that may have so many descriptors.
fn limited(soft_and_hard: &str) -> Place {
    let mut place = Place::new();
    let limit = format!("ulimit {soft_and_hard}; exec \"$@\"");
    place.prefix = ["sh", "-c", &limit, "sh"].map(str::to_owned).to_vec();
    place
}

#[test]
fn connections_leave_the_host_descriptors_to_work_with() {
    let place = limited("-n 128");
    let host = place.start();
    host.wait_ready();
    let address = host.url.strip_prefix("http://").unwrap();
    let _silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(host.text("/live").0, 200);
    // With all descriptors taken the directory could not be read.
    fs::write(place.plugin("late.wasm"), b"\0asm").unwrap();
    wait_for("the file to be looked at", || {
        host.get("/handlers").to_string().contains("late").then_some(())
    });
    assert!(host.events("the plugin directory can't be read").is_empty());
    host.event("the process may have few files open");
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_it_may_be() {
    let place = limited("-S -n 100; ulimit -H -n 2000");
    let host = place.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["2000", "2000"]);
}

#[test]
fn a_listener_without_descriptors_tries_again() {
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    let limit = |files: usize| {
        let id = host.id().to_string();
        let status = std::process::Command::new("prlimit")
            .args(["--pid", &id, &format!("--nofile={files}:2000")])
            .status();
        assert!(status.unwrap().success());
    };
    limit(3);
    let mut waiting = TcpStream::connect(host.url.strip_prefix("http://").unwrap()).unwrap();
    std::io::Write::write_all(&mut waiting, LIVE.as_bytes()).unwrap();
    wait_for("the listener to say so", || {
        host.events("the listener can't accept").pop()
    });
    limit(2000);
    let mut heard = [0; 12];
    std::io::Read::read_exact(&mut waiting, &mut heard).unwrap();
    assert!(heard.ends_with(b"200"), "{heard:?}");
    assert_eq!(host.events("the listener can't accept").len(), 1);
}

// Beyond 128 each of them tried again after a second, and after three.
#[test]
fn many_clients_that_come_at_once_need_not_come_again() {
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").map_or(500, |most| most.trim().parse().unwrap());
    let place = Place::new();
    let host = place.start();
    let address = host.url.strip_prefix("http://").unwrap().parse().unwrap();
    // It accepts nobody meanwhile.
    host.signal("STOP");
    let clients: Vec<_> = (0..most.min(500))
        .map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(900)))
        .collect();
    host.signal("CONT");
    let refused = clients.iter().filter(|client| client.is_err()).count();
    assert_eq!(refused, 0, "of {}", clients.len());
    assert_eq!(host.text("/live").0, 200);
}
