//! Outgoing HTTP: a request goes where the manifest says, within its limits, and leaves nothing behind.

#![expect(
    clippy::indexing_slicing,
    reason = "an answer that is not as expected fails the test"
)]

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use harness::{
    bench::Bench,
    built::http_guest,
    host::Place,
    http_server::{HttpServer, authority},
};
use sandhog_executor::{
    CallReport, Component, EngineOptions, Executor, LocalExecutor, LogStream, NameResolver, Verdict,
    policy::{HttpGrant, OriginPattern},
};
use sandhog_queue::FailureKind;
use serde_json::Value;
use tokio::time::Instant;

/// Answers with what it was told to, one answer after the other, the last one for ever; names that it was not told of, it
/// asks the system for.
#[derive(Debug, Default)]
struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn tell(&self, host: &str, answers: &[&[IpAddr]]) {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        self.answers.lock().unwrap().insert(host.to_owned(), answers);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl NameResolver for Names {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        match self.answers.lock().unwrap().get_mut(host) {
            Some(answers) if answers.len() > 1 => Ok(answers.pop().unwrap()),
            Some(answers) => Ok(answers[0].clone()),
            None => sandhog_executor::SystemResolver.resolve(host),
        }
    }
}

/// The bench of the sandbox's tests, with names that lead where a test says.
struct Network {
    bench: Bench,
    names: Arc<Names>,
}

impl Network {
    /// What is granted: origins, and networks.
    fn granting(origins: &[&str], addresses: &[&str]) -> Self {
        let names = Arc::<Names>::default();
        let options = EngineOptions {
            max_live_instances: 8,
            threads: 2,
            ..EngineOptions::default()
        };
        let resolver: Arc<dyn NameResolver> = Arc::<Names>::clone(&names);
        let executor = LocalExecutor::with_resolver(options, resolver);
        let mut bench = Bench::on(executor.unwrap());
        bench.policy.grants.http = Some(HttpGrant {
            origins: origins.iter().map(|text| OriginPattern::new(text).unwrap()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        });
        Self { bench, names }
    }

    /// The server's own address is granted.
    fn for_server(server: &HttpServer) -> Self {
        Self::granting(&[&server.url("")], &[])
    }

    async fn load(&self) -> Component {
        self.bench.load(http_guest()).await.unwrap()
    }

    async fn report(&self, component: &Component, script: &str) -> CallReport {
        let report = self.bench.run(component, &[script.as_bytes()]).await;
        assert_eq!(self.bench.executor.live_instances(), 0);
        report
    }

    /// What the guest saw, a line for each request.
    async fn run_on(&self, component: &Component, script: &str) -> Vec<String> {
        let report = self.report(component, script).await;
        assert_eq!(report.verdicts, [Verdict::Success], "{:?}", self.log());
        let text = std::str::from_utf8(&report.sends[0].message.body).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    async fn run(&self, script: &str) -> Vec<String> {
        self.run_on(&self.load().await, script).await
    }

    /// What the host said about it.
    fn log(&self) -> Vec<String> {
        let lines = self.bench.lines.lock().unwrap();
        let by_host = lines.iter().filter(|line| line.stream == LogStream::Host);
        by_host.map(|line| line.text.clone()).collect()
    }
}

async fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < harness::PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn a_granted_origin_answers() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let seen = network
        .run(&format!("GET {} header=accept:text/plain", server.url("/")))
        .await;
    assert_eq!(seen, ["200 5 hello"]);
    let requests = server.requests();
    assert!(requests[0].starts_with("GET / HTTP/1.1\r\n"), "{requests:?}");
    assert!(
        requests[0].contains(&format!("host: {}\r\n", server.address)),
        "{requests:?}"
    );
    assert!(requests[0].contains("accept: text/plain\r\n"), "{requests:?}");
    assert_eq!(network.log(), [""; 0]);
}

#[tokio::test]
async fn a_redirect_goes_to_the_guest_and_is_not_followed() {
    let (server, secret) = (HttpServer::start().await, HttpServer::start().await);
    // Even where the target is granted: following is the guest's decision.
    let network = Network::granting(&[&server.url(""), &secret.url("")], &[]);
    let target = secret.url("/secret");
    let seen = network
        .run(&format!("GET {}", server.url(&format!("/redirect/{target}"))))
        .await;
    assert_eq!(seen, [format!("302 0  to {target}")]);
    assert_eq!((server.accepted(), secret.accepted()), (1, 0));
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_the_log_has_the_line_to_add() {
    let server = HttpServer::start().await;
    let network = Network::granting(&["http://api.example.com:8080", "https://b.example"], &["127.0.0.0/8"]);
    for (url, added) in [
        (server.url("/"), server.url("")),
        (
            "http://other.example.com:8080/".to_owned(),
            "http://other.example.com:8080".to_owned(),
        ),
        (
            "http://www.api.example.com:8080/".to_owned(),
            "http://www.api.example.com:8080".to_owned(),
        ),
        (
            "http://api.example.com/".to_owned(),
            "http://api.example.com".to_owned(),
        ),
        (
            "https://api.example.com:8080/".to_owned(),
            "https://api.example.com:8080".to_owned(),
        ),
        ("http://b.example/".to_owned(), "http://b.example".to_owned()),
    ] {
        let seen = network.run(&format!("GET {url}")).await;
        assert_eq!(seen, ["error ErrorCode::HttpRequestDenied"], "{url}");
        let log = network.log().pop().unwrap();
        assert_eq!(
            log,
            format!("{added} is not granted: to grant it, add \"{added}\" to http in [grant] of its manifest")
        );
        assert!(OriginPattern::new(&added).is_some());
    }
    assert_eq!((server.accepted(), network.names.asked()), (0, Vec::new()));
}

#[tokio::test]
async fn a_wildcard_grants_subdomains_and_not_the_domain_itself() {
    let server = HttpServer::start().await;
    let network = Network::granting(&[&server.url_on("*.example.com", "")], &["127.0.0.1/32"]);
    for name in ["a.example.com", "b.a.example.com", "example.com", "evilexample.com"] {
        network.names.tell(name, &[&[LOOPBACK]]);
    }
    let component = network.load().await;
    let script = ["a.example.com", "B.A.example.com", "example.com", "evilexample.com"]
        .map(|name| format!("GET {}", server.url_on(name, "/")));
    let denied = "error ErrorCode::HttpRequestDenied";
    let seen = network.run_on(&component, &script.join("\n")).await;
    assert_eq!(seen, ["200 5 hello", "200 5 hello", denied, denied]);
    assert_eq!(network.names.asked(), ["a.example.com", "b.a.example.com"]);
}

#[tokio::test]
async fn a_name_that_leads_to_an_address_that_is_not_public_is_refused() {
    let server = HttpServer::start().await;
    let network = Network::granting(&[&server.url_on("*.example.com", "")], &["192.168.7.0/24"]);
    let component = network.load().await;
    for (address, shown) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("192.168.8.1", "192.168.8.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("fd00:ec2::254", "fd00:ec2::254"),
        ("fe80::1", "fe80::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::7f00:1", "64:ff9b::7f00:1"),
        ("0.0.0.0", "0.0.0.0"),
    ] {
        network.names.tell("a.example.com", &[&[address.parse().unwrap()]]);
        let url = server.url_on("a.example.com", "/");
        let seen = network.run_on(&component, &format!("GET {url}")).await;
        assert_eq!(seen, ["error ErrorCode::DestinationIpProhibited"], "{address}");
        let log = network.log().pop().unwrap();
        let added = format!("add \"{shown}\" to http-addresses in [grant]");
        assert!(log.contains(&added), "{log}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_may_lead_to_a_private_address_that_is_granted() {
    let server = HttpServer::start().await;
    for granted in ["127.0.0.1/32", "127.0.0.0/8"] {
        let network = Network::granting(&[&server.url_on("a.example.com", "")], &[granted]);
        network
            .names
            .tell("a.example.com", &[&["::ffff:127.0.0.1".parse().unwrap()]]);
        let seen = network
            .run(&format!("GET {}", server.url_on("a.example.com", "/")))
            .await;
        assert_eq!(seen, ["200 5 hello"]);
    }
    assert!(
        server.requests()[0].contains("host: a.example.com:"),
        "{:?}",
        server.requests()
    );
}

#[tokio::test]
async fn an_origin_that_is_an_address_grants_no_name_that_leads_there() {
    let server = HttpServer::start().await;
    let network = Network::granting(&[&server.url(""), &server.url_on("a.example.com", "")], &[]);
    network.names.tell("a.example.com", &[&[LOOPBACK]]);
    let script = format!("GET {}\nGET {}", server.url("/"), server.url_on("a.example.com", "/"));
    let seen = network.run(&script).await;
    assert_eq!(seen, ["200 5 hello", "error ErrorCode::DestinationIpProhibited"]);
}

#[tokio::test]
async fn other_spellings_of_loopback_are_refused() {
    let server = HttpServer::start().await;
    let spellings = ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "localhost", "localhost."];
    let granted: Vec<String> = spellings[..5].iter().map(|host| server.url_on(host, "")).collect();
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let script: Vec<_> = spellings
        .iter()
        .map(|host| format!("GET {}", server.url_on(host, "/")))
        .collect();
    // Where only the address is granted, another spelling is another origin.
    let network = Network::for_server(&server);
    let mapped = format!(
        "GET {}\n{}",
        server.url_on("[::ffff:127.0.0.1]", "/"),
        script.join("\n")
    );
    let seen = network.run(&mapped).await;
    assert_eq!(seen, ["error ErrorCode::HttpRequestDenied"; 7]);
    // Where the spelling is granted, it is a name like any other, which leads to loopback.
    let network = Network::granting(&granted, &[]);
    let seen = network.run(&script.join("\n")).await;
    assert_eq!(
        seen[..5],
        ["error ErrorCode::DestinationIpProhibited"; 5],
        "{:?}",
        network.log()
    );
    assert_eq!(seen[5], "error ErrorCode::HttpRequestDenied");
    assert_eq!(server.accepted(), 0);
}

/// A server on another address of this machine and the same port; a connection there is one that must not be made.
async fn another_at_the_same_port(server: &HttpServer) -> HttpServer {
    let port = server.address.port();
    for address in ["127.0.0.2", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        if let Ok(other) = HttpServer::on(SocketAddr::new(address, port)).await {
            return other;
        }
    }
    panic!("this machine has no second loopback address with port {port} free");
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_the_connection_goes_to_the_address_that_was_checked() {
    let server = HttpServer::start().await;
    let other = another_at_the_same_port(&server).await;
    let network = Network::granting(&[&server.url_on("a.example.com", "")], &["127.0.0.1/32"]);
    // The second answer is for whoever asks again before connecting.
    network
        .names
        .tell("a.example.com", &[&[LOOPBACK], &[other.address.ip()]]);
    let seen = network
        .run(&format!("GET {}", server.url_on("a.example.com", "/")))
        .await;
    assert_eq!(seen, ["200 5 hello"]);
    assert_eq!(network.names.asked(), ["a.example.com"]);
    assert_eq!((server.accepted(), other.accepted()), (1, 0));
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_ones_are_tried() {
    let server = HttpServer::start().await;
    let other = another_at_the_same_port(&server).await;
    let network = Network::granting(&[&server.url_on("a.example.com", "")], &["127.0.0.1/32"]);
    network.names.tell(
        "a.example.com",
        &[&[other.address.ip(), "10.0.0.1".parse().unwrap(), LOOPBACK]],
    );
    let seen = network
        .run(&format!("GET {}", server.url_on("a.example.com", "/")))
        .await;
    assert_eq!(seen, ["200 5 hello"]);
    assert_eq!((server.accepted(), other.accepted()), (1, 0));
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_refuses() {
    let server = HttpServer::start().await;
    let network = Network::granting(&[&server.url_on("a.example.com", "")], &["127.0.0.0/8", "::1/128"]);
    network
        .names
        .tell("a.example.com", &[&["::1".parse().unwrap(), LOOPBACK]]);
    let seen = network
        .run(&format!("GET {}", server.url_on("a.example.com", "/")))
        .await;
    assert_eq!(seen, ["200 5 hello"]);
}

#[tokio::test]
async fn requests_that_would_lead_past_the_grant_are_refused() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let (url, authority) = (server.url("/"), server.address);
    let script = [
        format!("CONNECT {url}"),
        format!("GET {url} authority=user@{authority}"),
        format!("GET {url} authority={authority}@evil.example"),
        format!("GET {url} scheme=ftp"),
        format!("GET {url} header=host:evil.example"),
        format!("GET {url} header=connection:upgrade"),
        format!("GET {url} header=transfer-encoding:chunked"),
        format!("GET {url} header=proxy-authorization:x"),
        format!("{} {url}", "A".repeat(100)),
    ];
    let seen = network.run(&script.join("\n")).await;
    assert_eq!(seen.len(), script.len());
    assert!(seen.iter().all(|line| line.starts_with("error ")), "{seen:#?}");
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_attempt_its_timeout_and_leaves_nothing() {
    let server = HttpServer::start().await;
    for path in ["/silent", "/stall/10", "/drip"] {
        let mut network = Network::for_server(&server);
        network.bench.policy.timeout = Duration::from_secs(1);
        let start = Instant::now();
        let report = network
            .report(&network.load().await, &format!("GET {}", server.url(path)))
            .await;
        let [Verdict::Failed(failure)] = report.verdicts.as_slice() else {
            panic!("{path}: {:?}", report.verdicts);
        };
        assert_eq!(failure.kind, FailureKind::Timeout, "{path}");
        assert!(start.elapsed() < Duration::from_mins(1));
        wait_until("the server to see the end", || server.open() == 0).await;
    }
}

#[tokio::test]
async fn an_interrupted_attempt_closes_its_connection() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let component = network.load().await;
    let script = format!("GET {}", server.url("/silent"));
    tokio::select! {
        report = network.report(&component, &script) => panic!("{report:?}"),
        () = wait_until("the request", || !server.requests().is_empty()) => {}
    }
    wait_until("the server to see the end", || server.open() == 0).await;
    wait_until("the instance to go", || network.bench.executor.live_instances() == 0).await;
}

#[tokio::test]
async fn a_guest_that_leaks_requests_and_responses_leaves_nothing() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let (silent, stall) = (server.url("/silent"), server.url("/stall/9"));
    let script = [
        format!("GET {silent} leak\nPOST {silent} leak upload=100 open"),
        format!("GET {stall} head\nGET {stall} head\nGET {stall} drop"),
    ];
    let seen = network.run(&script.join("\n")).await;
    assert_eq!(seen, ["200"; 3]);
    wait_until("the server to see the end", || server.open() == 0).await;
}

#[tokio::test]
async fn half_a_body_never_looks_like_a_whole_one() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let component = network.load().await;
    let length = server.url("/length");
    // Interrupted, trapped, and forgotten, each with the rest of the body still to come.
    for end in ["wait 100\ntrap", "wait 100"] {
        let script = format!("POST {length} upload=1000 open start\n{end}");
        let script = script.replace("start\n", "leak\n");
        network.report(&component, &script).await;
        wait_until("the server to see the end", || server.open() == 0).await;
    }
    assert_eq!(server.bodies(), [0; 0]);
    let seen = network.run_on(&component, &format!("POST {length} upload=1000")).await;
    assert_eq!(
        (seen.as_slice(), server.bodies()),
        (["200 4 1000".to_owned()].as_slice(), vec![1000])
    );
}

#[tokio::test]
async fn the_timeouts_that_a_guest_asks_for_hold() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let script = format!(
        "GET {} first=100\nGET {} between=100\nGET {} between=5000 first=5000 connect=5000",
        server.url("/silent"),
        server.url("/stall/10"),
        server.url("/")
    );
    let seen = network.run(&script).await;
    let (late, stalled) = (
        "error ErrorCode::ConnectionReadTimeout",
        "error connection read timeout",
    );
    assert_eq!(seen, [late, stalled, "200 5 hello"]);
}

#[tokio::test]
async fn responses_past_the_limit_end_with_an_error() {
    let server = HttpServer::start().await;
    let mut network = Network::for_server(&server);
    network.bench.policy.limits.http_response_bytes = 100_000;
    let component = network.load().await;
    let too_much = "error HTTP response body size exceeds limit: 100000 bytes";
    for path in ["/bytes/100001", "/chunked/100001", "/endless"] {
        let seen = network.run_on(&component, &format!("GET {}", server.url(path))).await;
        assert_eq!(seen, [too_much], "{path}");
        let log = network.log().pop().unwrap();
        assert!(log.contains("limits.http-response-bytes"), "{log}");
    }
    // All responses of the attempt count together.
    let part = server.url("/bytes/60000");
    let seen = network.run_on(&component, &format!("GET {part}\nGET {part}")).await;
    assert!(seen[0].starts_with("200 60000 bbb"), "{seen:?}");
    assert_eq!(seen[1], too_much);
    let seen = network
        .run_on(&component, &format!("GET {}", server.url("/chunked/100000")))
        .await;
    assert!(seen[0].starts_with("200 100000 ccc"), "{seen:?}");
}

#[tokio::test]
async fn requests_past_the_limit_end_with_an_error() {
    let server = HttpServer::start().await;
    let mut network = Network::for_server(&server);
    network.bench.policy.limits.http_request_bytes = 50_000;
    let length = server.url("/length");
    let seen = network
        .run(&format!("POST {length} upload=50000\nPOST {length} upload=1"))
        .await;
    assert_eq!(seen[0], "200 5 50000");
    assert!(seen[1].starts_with("error ErrorCode::HttpRequestBodySize"), "{seen:?}");
    assert_eq!(server.bodies(), [50_000]);
    let log = network.log();
    assert!(log[0].contains("limits.http-request-bytes"), "{log:?}");
}

#[tokio::test]
async fn more_requests_than_the_limit_are_refused() {
    let server = HttpServer::start().await;
    let mut network = Network::for_server(&server);
    network.bench.policy.limits.http_requests = 2;
    let component = network.load().await;
    let script = [format!("GET {}", server.url("/")).as_str(); 3].join("\n");
    let report = network.report(&component, &script).await;
    let seen = std::str::from_utf8(&report.sends[0].message.body).unwrap();
    assert_eq!(seen, "200 5 hello\n200 5 hello\nerror ErrorCode::HttpRequestDenied");
    assert_eq!((report.usage.http_requests, server.requests().len()), (2, 2));
    let log = network.log();
    assert!(log[0].contains("limits.http-requests"), "{log:?}");
}

#[tokio::test]
async fn more_requests_at_a_time_than_the_limit_wait_for_their_turn() {
    let server = HttpServer::start().await;
    let mut network = Network::for_server(&server);
    network.bench.policy.limits.http_concurrent = 2;
    let script = [format!("GET {} start", server.url("/")).as_str(); 6].join("\n");
    let seen = network.run(&script).await;
    assert_eq!(seen, ["200 5 hello"; 6]);
    assert!(server.accepted() <= 2, "{} connections", server.accepted());
}

#[tokio::test]
async fn a_request_whose_turn_does_not_come_ends_with_an_error() {
    let server = HttpServer::start().await;
    let mut network = Network::for_server(&server);
    network.bench.policy.limits.http_concurrent = 2;
    let held = format!("GET {} head", server.url("/stall/1"));
    let seen = network
        .run(&format!("{held}\n{held}\nGET {} connect=100", server.url("/")))
        .await;
    assert_eq!(seen, ["200", "200", "error ErrorCode::ConnectionLimitReached"]);
    let log = network.log();
    assert!(log[0].contains("limits.http-concurrent"), "{log:?}");
}

#[tokio::test]
async fn attempts_of_one_handler_share_connections_and_other_handlers_do_not() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let script = format!(
        "GET {}\nPOST {} upload=10",
        server.url("/chunked/5"),
        server.url("/length")
    );
    let (component, other) = (network.load().await, network.load().await);
    for _ in 0..3 {
        assert_eq!(network.run_on(&component, &script).await, ["200 5 ccccc", "200 2 10"]);
    }
    assert_eq!(server.accepted(), 1);
    network.run_on(&other, &script).await;
    assert_eq!((server.accepted(), server.open()), (2, 2));
    drop((component, other));
    wait_until("unused connections to close", || server.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_the_server_said_to_close_is_not_used_again() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let component = network.load().await;
    for count in 1..=3 {
        let seen = network
            .run_on(&component, &format!("GET {}", server.url("/close")))
            .await;
        assert_eq!(seen, ["200 5 hello"]);
        assert_eq!(server.accepted(), count);
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_arrives() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let seen = network.run(&format!("POST {} upload=10", server.url("/early"))).await;
    assert_eq!(seen, ["200 5 hello"]);
}

#[tokio::test]
async fn heads_past_the_limits_are_refused() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let script = ["/head/30000", "/head/100000", "/fields/90", "/fields/1000", "/broken"]
        .map(|path| format!("GET {}", server.url(path)));
    let seen = network.run(&script.join("\n")).await;
    assert_eq!((seen[0].as_str(), seen[2].as_str()), ("200 0 ", "200 0 "));
    for at in [1, 3] {
        assert!(
            seen[at].starts_with("error ErrorCode::HttpResponseHeaderSectionSize"),
            "{seen:?}"
        );
    }
    assert_eq!(seen[4], "error ErrorCode::HttpProtocolError");
}

#[tokio::test]
async fn fields_past_the_limit_are_a_guest_that_broke() {
    let server = HttpServer::start().await;
    let network = Network::for_server(&server);
    let component = network.load().await;
    let seen = network
        .run_on(&component, &format!("GET {} fields=50", server.url("/")))
        .await;
    assert_eq!(seen, ["200 5 hello"]);
    let report = network
        .report(&component, &format!("GET {} fields=400", server.url("/")))
        .await;
    let [Verdict::Failed(failure)] = report.verdicts.as_slice() else {
        panic!("{:?}", report.verdicts);
    };
    assert_eq!(failure.kind, FailureKind::Trap);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_error_that_the_log_explains() {
    let network = Network::granting(&["http://nowhere.invalid", "http://empty.example"], &[]);
    network.names.tell("empty.example", &[&[]]);
    let seen = network
        .run("GET http://nowhere.invalid/\nGET http://empty.example/")
        .await;
    assert!(seen[0].starts_with("error ErrorCode::DnsError"), "{seen:?}");
    assert_eq!(seen[1], "error ErrorCode::DestinationNotFound");
    let log = network.log();
    assert!(
        log[0].contains("http://nowhere.invalid could not be looked up"),
        "{log:?}"
    );
}

/// What the guest sees of a request on the real host, which trusts the given authority, and what the host says about it.
async fn seen_by_host(url: &str, trusted: Option<String>) -> (String, Vec<String>) {
    let mut place = Place::new();
    place.environment.extend(trusted.map(|file| ("SSL_CERT_FILE", file)));
    let origin = url.trim_end_matches('/');
    let manifest =
        format!("[grant]\nsend = [\"out\"]\nhttp = [\"{origin}\"]\nhttp-addresses = [\"127.0.0.1\", \"::1\"]");
    place.install("fetch", &http_guest(), &manifest);
    let script = format!("GET {url}");
    let on_host = move || {
        let host = place.start();
        host.wait_ready();
        host.send("fetch", script.as_bytes());
        host.wait_empty("fetch");
        let seen = host.take_one("out").unwrap_or_else(|| panic!("{:#?}", host.log()));
        // The log is whole when the host has ended.
        let (_, log) = host.terminate();
        let events = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = events.filter(|event| event["fields"]["stream"] == "host");
        (seen, said.map(|event| event["fields"]["message"].to_string()).collect())
    };
    tokio::task::spawn_blocking(on_host).await.unwrap()
}

#[tokio::test]
async fn a_server_with_a_certificate_that_the_system_trusts_answers() {
    let server = HttpServer::start_secure().await;
    let trusted = authority().to_str().unwrap().to_owned();
    let url = format!("https://localhost:{}/", server.address.port());
    let (seen, said) = seen_by_host(&url, Some(trusted)).await;
    assert_eq!((seen.as_str(), said), ("200 5 hello", Vec::new()));
}

#[tokio::test]
async fn a_server_with_a_certificate_that_the_system_does_not_trust_is_refused() {
    let server = HttpServer::start_secure().await;
    let url = format!("https://localhost:{}/", server.address.port());
    let (seen, said) = seen_by_host(&url, None).await;
    assert_eq!(seen, "error ErrorCode::TlsCertificateError");
    assert!(said[0].contains("TLS certificate error"), "{said:?}");
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn a_server_with_a_certificate_for_another_name_is_refused() {
    let server = HttpServer::start_secure().await;
    let trusted = authority().to_str().unwrap().to_owned();
    let (seen, _) = seen_by_host(&format!("https://{}/", server.address), Some(trusted)).await;
    assert_eq!(seen, "error ErrorCode::TlsCertificateError");
}
