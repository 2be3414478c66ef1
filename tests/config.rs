//! The configuration: every mistake is reported in one run, with its place and what is accepted.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use harness::repository;
use sandhog::config::{Config, ConfigOverrides, Manifest, QueueSettings, RetryDelays, limit_rows};
use sandhog::rollout::RolloutTerms;
use sandhog_executor::policy::{Grants, LimitField, LimitQuantity, Limits};
use sandhog_queue::message::QueueName;
use sandhog_simple::settings::{DeduplicationScope, Order};
use sandhog_sqs::settings::Location;

/// A directory with a `sandhog.toml` and an empty `plugins`.
fn host_directory(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("plugins")).expect("plugins");
    fs::write(directory.path().join("sandhog.toml"), text).expect("sandhog.toml");
    directory
}

fn load(directory: &Path, overrides: ConfigOverrides, secret: Option<&str>) -> Result<Config, String> {
    let environment = |name: &str| secret.filter(|_| name == "SANDHOG_SECRET").map(str::to_owned);
    Config::load(Some(directory), overrides, &environment)
        .map_err(|errors| errors.to_string().replace(&*directory.to_string_lossy(), "DIR"))
}

fn check_host(text: &str, expected: &str) {
    let directory = host_directory(text);
    let errors = load(directory.path(), ConfigOverrides::default(), None).expect_err("mistakes");
    assert_eq!(errors, expected.trim());
}

fn check_manifest(text: &str, expected: &str) {
    let errors = Manifest::parse(text, "resize").expect_err("mistakes");
    assert_eq!(errors.to_string(), expected.trim());
}

fn name(name: &str) -> QueueName {
    QueueName::new(name).expect("a name")
}

#[test]
fn every_mistake_of_a_host_configuration_is_reported_in_one_run() {
    check_host(
        r#"
plugins = "nowhere"
grace-perod = "30s"
listen = "here"
max-live-instances = 0
colour = "red"

[queues.orders]
visibility-timeout = "soon"
max-receives = "five"
order = "chaos"
dead-letter = ".hidden"
time-to-live = "1ms"
max-messages = -1
delay = "13h"
deduplication-scope = "host"

[queues."not a name"]
max-receives = 3

[queues.invoices]
url = "invoices"

[queues.parcels]
url = "sqs:parcels.fifo"
order = "queue"
dead-letter = "orders"

[queues.lost]
dead-letter = "parcels"

[queues.twin]
url = "sqs:parcels.fifo"

[ledger]
window = "15days"

[versions]
keep = 1
"#,
        r#"
21 mistakes in the configuration
  DIR/sandhog.toml:2: plugins = "nowhere": DIR/nowhere is not a directory
  DIR/sandhog.toml:3: grace-perod: unknown key; did you mean grace-period?
  DIR/sandhog.toml:4: listen = "here": use an address and a port, such as "127.0.0.1:9324"
  DIR/sandhog.toml:5: max-live-instances = 0: use a whole number from 1 to 4096
  DIR/sandhog.toml:6: colour: unknown key; known here: plugins, data, listen, secret-file, grace-period, max-live-instances, memory-budget, queues, keys, read-only-secret-file, dashboard-deploy, redact, ledger, versions, journal, traces
  DIR/sandhog.toml:9: queues.orders.visibility-timeout = "soon": use a duration from 1s to 12h, such as "30s"
  DIR/sandhog.toml:10: queues.orders.max-receives = "five": use a whole number from 1 to 1000
  DIR/sandhog.toml:11: queues.orders.order = "chaos": use "group" or "queue"
  DIR/sandhog.toml:12: queues.orders.dead-letter = ".hidden": use the name of a queue: 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'
  DIR/sandhog.toml:13: queues.orders.time-to-live = "1ms": use a duration from 1s to 10years, such as "30s"
  DIR/sandhog.toml:14: queues.orders.max-messages = -1: use a whole number from 1 to 1000000000
  DIR/sandhog.toml:15: queues.orders.delay = "13h": use a duration from 0s to 12h, such as "30s"
  DIR/sandhog.toml:16: queues.orders.deduplication-scope = "host": use "queue" or "group"
  DIR/sandhog.toml:19: queues.not a name: "not a name" is not a queue name: use 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'
  DIR/sandhog.toml:22: queues.invoices.url = "invoices": use the URL of an SQS queue, such as "https://sqs.eu-west-1.amazonaws.com/123456789012/invoices", or "sqs:NAME"
  DIR/sandhog.toml:26: queues.parcels.order = "queue": a queue with a url has no such setting here; change it where the queue is
  DIR/sandhog.toml:27: queues.parcels.dead-letter = "orders": orders has to be an SQS queue too: add a table [queues.orders] with its url, or leave the key out if the queue has a redrive policy
  DIR/sandhog.toml:30: queues.lost.dead-letter = "parcels": parcels is an SQS queue; the dead letters of a Simple queue go to a Simple queue
  DIR/sandhog.toml:33: queues.twin.url = "sqs:parcels.fifo": queue parcels has this url already
  DIR/sandhog.toml:36: ledger.window = "15days": use a duration from 0s to 14days, such as "30s"
  DIR/sandhog.toml:39: versions.keep = 1: use a whole number from 2 to 100
"#,
    );
}

#[test]
fn every_mistake_of_a_manifest_is_reported_in_one_run() {
    check_manifest(
        r#"
queue = "no/slash"
concurrency = 0
tiemout = "30s"
timeout = "13h"
memory = "1GiB"
instance = "pooled"
batch-size = 101
[retry]
min = "1h"
max = "1m"
[limits]
sends = 1.5
log-bytes = "lots"
[grant]
send = ["thumbnails", 7, "a b"]
http = ["https://api.example.com/v1", "*.example.com"]
env = { MODE = 1, "A=B" = "x", TOKEN = { from-env = "NO_SUCH_VARIABLE" } }
config = { bucket = { from-file = "no/such/file" }, other = { from-env = "A", from-file = "b" } }
dirs = [{ host = "no/such/directory", guest = "/models" }, { guest = "../up", write = "yes" }]
log = "loud"
keyvalue = 1
[rollout]
attempts = 0
time = "25h"
canary = 1.5
slower = 1
automatic = "no"
share = 0.1
"#,
        r#"
31 mistakes in the configuration
  resize.toml:2: queue = "no/slash": use the name of a queue: 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'
  resize.toml:3: concurrency = 0: use a whole number from 1 to 1024
  resize.toml:4: tiemout: unknown key; did you mean timeout?
  resize.toml:5: timeout = "13h": use a duration from 1ms to 12h, such as "30s"
  resize.toml:6: memory = "1GiB": use a size from 1MiB to 512MiB, such as "1MiB"
  resize.toml:7: instance = "pooled": use "fresh" or "reuse"
  resize.toml:8: batch-size = 101: use a whole number from 1 to 100
  resize.toml:10: retry: min is 1h, which is more than max, 1m
  resize.toml:13: limits.sends = 1.5: use a whole number from 0 to 100000
  resize.toml:14: limits.log-bytes = "lots": use a size from 0B to 64MiB, such as "1MiB"
  resize.toml:16: grant.send[1] = 7: use the name of a queue: 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'
  resize.toml:16: grant.send[2] = "a b": use the name of a queue: 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'
  resize.toml:17: grant.http[0] = "https://api.example.com/v1": use an origin such as "https://api.example.com", "https://*.example.com" or "http://192.0.2.7:8080"
  resize.toml:17: grant.http[1] = "*.example.com": use an origin such as "https://api.example.com", "https://*.example.com" or "http://192.0.2.7:8080"
  resize.toml:18: grant.env.A=B: use a name of 1 to 256 bytes without '=' and control characters
  resize.toml:18: grant.env.MODE: use a text, { from-env = "NAME" } or { from-file = "PATH" }
  resize.toml:18: grant.env.TOKEN.from-env: the environment has no variable NO_SUCH_VARIABLE: set it
  resize.toml:19: grant.config.bucket.from-file: no/such/file can't be read: No such file or directory (os error 2)
  resize.toml:19: grant.config.other: name one of from-env and from-file
  resize.toml:20: grant.dirs[0].host = "no/such/directory": no/such/directory is not a directory
  resize.toml:20: grant.dirs[1].guest = "../up": use an absolute path such as "/models"
  resize.toml:20: grant.dirs[1].write = "yes": use true or false
  resize.toml:20: grant.dirs[1]: it needs host
  resize.toml:21: grant.log = "loud": use trace, debug, info, warn, error or critical
  resize.toml:22: grant.keyvalue = 1: use true or false
  resize.toml:24: rollout.attempts = 0: use a whole number from 1 to 1000000
  resize.toml:25: rollout.time = "25h": use a duration from 0s to 1day, such as "30s"
  resize.toml:26: rollout.canary = 1.5: use a number that is more than 0 and up to 1, such as 0.1
  resize.toml:27: rollout.slower = 1: use a number that is more than 1 and up to 1000, such as 3
  resize.toml:28: rollout.automatic = "no": use true or false
  resize.toml:29: rollout.share: unknown key; known here: attempts, time, canary, slower, automatic
"#,
    );
}

#[test]
fn a_broken_file_is_reported_with_the_parsers_words() {
    check_manifest(
        "queue = \"orders\"\ntimeout = \n",
        "resize.toml:2: not TOML: string values must be quoted, expected literal string",
    );
    check_manifest(
        "memory = \"1MiB\"\nmemory = \"2MiB\"\n",
        "resize.toml:2: not TOML: duplicate key",
    );
}

#[test]
fn a_key_that_needs_a_table_refuses_a_text() {
    check_manifest("grant = \"all\"", "resize.toml:1: grant = \"all\": use a table");
    check_manifest(
        "[limits]\nsends = { a = 1 }",
        "resize.toml:2: limits.sends: use a whole number from 0 to 100000",
    );
}

#[test]
fn the_defaults_of_a_manifest_are_those_of_the_handbook() {
    let manifest = Manifest::defaults("resize").expect("defaults");
    assert_eq!(manifest.queue, name("resize"));
    assert_eq!((manifest.concurrency.get(), manifest.batch_size.get()), (16, 10));
    assert_eq!(manifest.timeout, Duration::from_secs(30));
    assert_eq!(
        manifest.retry,
        RetryDelays {
            min: Duration::from_secs(1),
            max: Duration::from_mins(15)
        }
    );
    assert_eq!(manifest.limits, Limits::default());
    assert_eq!(manifest.limits.memory, 128 * 1024 * 1024);
    assert_eq!(manifest.grants, Grants::default());
    let rollout = manifest.rollout;
    assert_eq!((rollout.attempts, rollout.time), (300, Duration::from_mins(10)));
    assert_eq!((rollout.canary, rollout.slower, rollout.automatic), (1.0, None, true));
}

fn rollout(keys: &str) -> Result<RolloutTerms, String> {
    let manifest = Manifest::parse(&format!("[rollout]\n{keys}"), "resize");
    manifest
        .map(|manifest| manifest.rollout)
        .map_err(|errors| errors.to_string())
}

#[test]
fn a_rollout_says_what_its_keys_say() {
    let expected = RolloutTerms {
        attempts: 1_000_000,
        time: Duration::ZERO,
        canary: 0.05,
        slower: Some(3.0),
        automatic: false,
    };
    let keys = "attempts = 1000000\ntime = \"0s\"\ncanary = 0.05\nslower = 3\nautomatic = false";
    assert_eq!(rollout(keys), Ok(expected));
    for keys in [
        "canary = 1",
        "canary = 1.0",
        "canary = 1e0",
        "attempts = 1",
        "time = \"24h\"",
        "slower = 1000",
    ] {
        rollout(keys).expect(keys);
    }
    for keys in [
        "canary = 0",
        "canary = 0.0",
        "canary = -0.1",
        "canary = nan",
        "canary = \"half\"",
        "slower = inf",
    ] {
        rollout(keys).expect_err(keys);
    }
}

#[test]
fn a_rollout_that_compares_times_gives_both_versions_a_share() {
    let settings = rollout("slower = 3").expect("settings");
    assert_eq!((settings.canary, settings.slower), (0.5, Some(3.0)));
    let settings = rollout("slower = 2.5\ncanary = 0.1").expect("settings");
    assert_eq!((settings.canary, settings.slower), (0.1, Some(2.5)));
    let expected = "resize.toml:3: rollout.canary = 1: with slower, the version before it needs a share of the messages, too: use less than 1, or leave it out";
    assert_eq!(rollout("slower = 3\ncanary = 1"), Err(expected.to_owned()));
}

#[test]
fn a_host_keeps_ten_versions_of_a_handler_unless_it_is_told_otherwise() {
    let keep = |text: &str| {
        let directory = host_directory(text);
        let config = load(directory.path(), ConfigOverrides::default(), None);
        config.expect("a configuration").versions_keep
    };
    assert_eq!(keep(""), 10);
    assert_eq!(keep("[versions]\nkeep = 2"), 2);
    assert_eq!(keep("[versions]\nkeep = 100"), 100);
}

#[test]
fn a_manifest_says_what_its_keys_say() {
    let text = r#"
queue = "orders"
concurrency = 4
timeout = "1m 30s"
memory = "64MiB"
instance = "fresh"
[retry]
min = "500ms"
[limits]
sends = 5
[grant]
send = ["thumbnails", "audit"]
env = { MODE = "fast" }
"#;
    let manifest = Manifest::parse(text, "resize").expect("a manifest");
    assert_eq!(manifest.queue, name("orders"));
    assert_eq!(manifest.concurrency.get(), 4);
    assert_eq!(manifest.timeout, Duration::from_secs(90));
    assert_eq!(
        manifest.limits,
        Limits {
            memory: 64 << 20,
            sends: 5,
            ..Limits::default()
        }
    );
    assert_eq!(
        manifest.retry,
        RetryDelays {
            min: Duration::from_millis(500),
            ..RetryDelays::default()
        }
    );
    assert_eq!(manifest.grants.send, Some([name("audit"), name("thumbnails")].into()));
    assert_eq!(manifest.grants.env, [("MODE".to_owned(), "fast".into())].into());
}

#[test]
fn the_page_about_security_has_every_limit_as_the_host_accepts_it() {
    let page = fs::read_to_string(repository().join("docs/explanation/security.md")).expect("the page");
    let documented: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `memory` ") || line.starts_with("| `limits."))
        .collect();
    let rows = limit_rows();
    for row in &rows {
        assert!(
            documented.iter().any(|line| line.starts_with(row)),
            "not on the page: {row}"
        );
    }
    assert_eq!(
        documented.len(),
        rows.len(),
        "the page has other limits: {documented:#?}"
    );
}

#[test]
fn a_limit_is_accepted_from_its_least_value_to_its_most() {
    let manifest = |key: &str, value: &str| match key.strip_prefix("limits.") {
        Some(key) => Manifest::parse(&format!("[limits]\n{key} = {value}"), "resize"),
        None => Manifest::parse(&format!("{key} = {value}"), "resize"),
    };
    let count = |key, field: &LimitField<u64>| {
        for bound in [*field.range.start(), *field.range.end()] {
            let limits = manifest(key, &bound.to_string()).expect("a bound").limits;
            assert_eq!((field.get)(&limits), bound, "{key}");
        }
        let beyond = manifest(key, &(field.range.end() + 1).to_string()).expect_err("beyond the range");
        assert!(beyond.to_string().contains(key), "{beyond}");
        if let Some(below) = field.range.start().checked_sub(1) {
            manifest(key, &below.to_string()).expect_err("below the range");
        }
    };
    for entry in Limits::TABLE {
        match &entry.quantity {
            LimitQuantity::Count(field) | LimitQuantity::Bytes(field) => count(entry.key, field),
            LimitQuantity::Time(field) => {
                for bound in [*field.range.start(), *field.range.end()] {
                    let text = format!("\"{}ms\"", bound.as_millis());
                    let limits = manifest(entry.key, &text).expect("a bound").limits;
                    assert_eq!((field.get)(&limits), bound, "{}", entry.key);
                    let beyond = format!("\"{}ms\"", field.range.end().as_millis() + 1);
                    manifest(entry.key, &beyond).expect_err("beyond the range");
                }
            }
        }
    }
}

#[test]
fn a_file_whose_name_is_no_queues_name_needs_a_manifest_that_names_one() {
    let expected = "my handler.toml: queue: name the queue here, since the file's name does not do: \"my handler\" is not a queue name: use 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'";
    assert_eq!(
        Manifest::defaults("my handler").expect_err("no queue").to_string(),
        expected
    );
    let manifest = Manifest::parse("queue = \"orders\"", "my handler").expect("a manifest");
    assert_eq!(manifest.queue, name("orders"));
}

#[test]
fn a_directory_of_components_needs_no_configuration() {
    let plugins = tempfile::tempdir().expect("a temporary directory");
    let config = load(plugins.path(), ConfigOverrides::default(), None).expect("defaults");
    assert_eq!(config.plugins, plugins.path());
    assert_eq!(config.data.as_deref(), Some(Path::new(".sandhog")));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9324");
    assert_eq!(config.grace_period, Duration::from_secs(30));
    assert!(config.secret.is_none() && config.queues.is_empty());
}

#[test]
fn a_host_configuration_says_what_its_keys_say() {
    let text = r#"
data = "state"
listen = "localhost:0"
grace-period = "5s"
[queues.orders]
visibility-timeout = "1m"
max-receives = 2
order = "queue"
time-to-live = "1day"
max-messages = 10
delay = "5m"
deduplication-scope = "group"
"#;
    let directory = host_directory(text);
    let config = load(directory.path(), ConfigOverrides::default(), None).expect("a configuration");
    assert_eq!(
        config.data,
        Some(directory.path().join("state")),
        "relative to the file"
    );
    assert_eq!(config.plugins, directory.path().join("plugins"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.grace_period, Duration::from_secs(5));
    let QueueSettings::Simple(orders) = &config.queues[&name("orders")] else {
        panic!("a queue without a url is a Simple one");
    };
    assert_eq!(orders.visibility_timeout, Duration::from_mins(1));
    assert_eq!(
        (orders.max_receives.get(), orders.order, orders.max_messages),
        (2, Order::Queue, 10)
    );
    assert_eq!(orders.time_to_live, Some(Duration::from_hours(24)));
    assert_eq!(orders.delay, Duration::from_mins(5));
    assert_eq!(orders.deduplication_scope, DeduplicationScope::Group);
    assert_eq!(orders.dead_letter, name("orders-dead"));
}

#[test]
fn a_queue_with_a_url_is_an_sqs_queue() {
    let text = r#"
[queues.orders]
url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
[queues.invoices]
url = "sqs:invoices.fifo"
visibility-timeout = "1m"
max-receives = 2
dead-letter = "orders"
[ledger]
window = "2h"
max-entries = 7
"#;
    let config = load(host_directory(text).path(), ConfigOverrides::default(), None).expect("a configuration");
    let sqs = |queue: &str| match &config.queues[&name(queue)] {
        QueueSettings::Sqs(settings) => settings.clone(),
        QueueSettings::Simple(settings) => panic!("{settings:?}"),
    };
    let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders";
    assert_eq!(sqs("orders").location, Location::Url(url.to_owned()));
    assert_eq!(
        (sqs("orders").visibility_timeout, sqs("orders").dead_letter),
        (None, None)
    );
    let invoices = sqs("invoices");
    assert_eq!(invoices.location, Location::Name("invoices.fifo".to_owned()));
    assert!(invoices.location.is_fifo() && !sqs("orders").location.is_fifo());
    assert_eq!(
        (invoices.visibility_timeout, invoices.max_receives.get()),
        (Some(Duration::from_mins(1)), 2)
    );
    assert_eq!(invoices.dead_letter, Some(name("orders")));
    assert_eq!(
        (config.ledger.window, config.ledger.max_entries),
        (Duration::from_hours(2), 7)
    );
}

#[test]
fn the_command_line_wins_over_the_file() {
    let directory = host_directory("data = \"state\"\nlisten = \"127.0.0.1:1\"\ngrace-period = \"5s\"");
    let overrides = ConfigOverrides {
        data: Some("elsewhere".into()),
        ephemeral: false,
        spy: false,
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 2))),
        grace_period: Some(Duration::ZERO),
        ..ConfigOverrides::default()
    };
    let config = load(directory.path(), overrides, None).expect("a configuration");
    assert_eq!(config.data.as_deref(), Some(Path::new("elsewhere")));
    assert_eq!((config.listen.port(), config.grace_period), (2, Duration::ZERO));
    let ephemeral = ConfigOverrides {
        ephemeral: true,
        ..ConfigOverrides::default()
    };
    assert_eq!(
        load(directory.path(), ephemeral, None).expect("a configuration").data,
        None
    );
}

#[test]
fn an_address_that_others_can_reach_needs_a_secret() {
    let directory = host_directory("listen = \"0.0.0.0:9324\"");
    let expected = "listen: 0.0.0.0:9324 can be reached from other machines, so it needs a secret: set SANDHOG_SECRET or the key secret-file, or listen on 127.0.0.1";
    assert_eq!(
        load(directory.path(), ConfigOverrides::default(), None).expect_err("no secret"),
        expected
    );
    let config = load(directory.path(), ConfigOverrides::default(), Some("0123456789abcdef")).expect("a configuration");
    assert!(config.secret.expect("the secret").matches(b"0123456789abcdef"));
}

#[test]
fn a_dashboard_that_takes_components_needs_a_secret() {
    let directory = host_directory("dashboard-deploy = true");
    let expected = "dashboard-deploy: without a secret every process on this machine could replace the code of handlers: set SANDHOG_SECRET or the key secret-file, or leave this key out";
    assert_eq!(
        load(directory.path(), ConfigOverrides::default(), None).expect_err("no secret"),
        expected
    );
    let config = load(directory.path(), ConfigOverrides::default(), Some("0123456789abcdef")).expect("accepted");
    assert!(config.dashboard.deploy);
    let usual = host_directory("");
    let config = load(usual.path(), ConfigOverrides::default(), None).expect("accepted");
    assert!(!config.dashboard.deploy, "it is on by default");
}

#[test]
fn a_missing_secret_is_among_the_other_mistakes() {
    // It was found when everything else was right.
    let directory = host_directory("listen = \"0.0.0.0:9324\"\ncolour = 1\n[queues.\"Orders X\"]\nmax-receives = 0\n");
    let errors = load(directory.path(), ConfigOverrides::default(), None).expect_err("mistakes");
    assert!(errors.starts_with("4 mistakes"), "{errors}");
    for said in [
        "colour: unknown key",
        "queues.Orders X: \"Orders X\" is not a queue name",
        "queues.Orders X.max-receives = 0: use a whole number",
        "listen: 0.0.0.0:9324 can be reached from other machines, so it needs a secret",
    ] {
        assert!(errors.contains(said), "{said} in {errors}");
    }
    let with_secret =
        load(directory.path(), ConfigOverrides::default(), Some("0123456789abcdef")).expect_err("mistakes");
    assert!(with_secret.starts_with("3 mistakes"), "{with_secret}");
}

#[test]
fn the_exit_codes_of_a_command_can_be_answers() {
    let manifest = Manifest::parse("[exit-codes]\nsuccess = [10, 20]\nreject = [1]", "solver").expect("a manifest");
    let codes = manifest.grants.exit_codes;
    assert_eq!((codes.success, codes.reject), ([10, 20].into(), [1].into()));
    check_manifest(
        "[exit-codes]\nsuccess = [1, 256]\nretry = [1]\nreject = \"no\"\n[grant]\ndirs = [\"/srv\"]",
        r#"
4 mistakes in the configuration
  resize.toml:2: exit-codes.success[1] = 256: use a whole number from 0 to 255
  resize.toml:3: exit-codes.retry = [1]: 1 is in success already
  resize.toml:4: exit-codes.reject = "no": use a list of at most 256, each a whole number from 0 to 255
  resize.toml:6: grant.dirs[0] = "/srv": use a table such as { host = "PATH", guest = "/NAME", write = false }
"#,
    );
}

#[test]
fn a_secret_can_stand_in_a_file() {
    let directory = host_directory("listen = \"0.0.0.0:9324\"\nsecret-file = \"secret\"");
    fs::write(directory.path().join("secret"), "fedcba9876543210\n").expect("the secret");
    let config = load(directory.path(), ConfigOverrides::default(), None).expect("a configuration");
    assert!(config.secret.expect("the secret").matches(b"fedcba9876543210"));
}

#[test]
fn a_line_end_behind_a_secret_is_no_part_of_it_wherever_it_stands() {
    // The variable was compared with its line end, unlike the file.
    let directory = host_directory("secret-file = \"secret\"");
    fs::write(directory.path().join("secret"), " fedcba9876543210 \r\n").expect("the secret");
    for (variable, expected) in [
        (None, "fedcba9876543210"),
        (Some("0123456789abcdef\n"), "0123456789abcdef"),
        (Some(" 0123456789abcdef\r\n"), "0123456789abcdef"),
    ] {
        let config = load(directory.path(), ConfigOverrides::default(), variable).expect("a configuration");
        assert_eq!(config.secret.expect("the secret").expose(), expected);
    }
    let rule = "a secret has 16 or more visible ASCII characters without spaces";
    for (variable, why) in [("", "it is empty"), ("0123456789 abcdef", "it has a space inside")] {
        let error = load(directory.path(), ConfigOverrides::default(), Some(variable)).expect_err("no secret");
        assert_eq!(error, format!("SANDHOG_SECRET: {why}: {rule}"));
    }
}

#[test]
fn a_short_secret_is_refused_together_with_the_mistakes_of_the_file() {
    let directory = host_directory("grace-period = 30");
    let expected = "2 mistakes in the configuration
  DIR/sandhog.toml:1: grace-period = 30: use a duration from 0s to 12h, such as \"30s\"
  SANDHOG_SECRET: a secret has 16 or more visible ASCII characters without spaces";
    assert_eq!(
        load(directory.path(), ConfigOverrides::default(), Some("short")).expect_err("mistakes"),
        expected
    );
}

#[test]
fn a_secret_is_never_shown() {
    let directory = host_directory("");
    let config = load(directory.path(), ConfigOverrides::default(), Some("0123456789abcdef")).expect("a configuration");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_cycle_of_dead_letter_queues_is_refused() {
    check_host(
        "[queues.a]\ndead-letter = \"b\"\n[queues.b]\ndead-letter = \"c\"\n[queues.c]\ndead-letter = \"a\"\n[queues.self]\ndead-letter = \"self\"",
        r#"
2 mistakes in the configuration
  DIR/sandhog.toml:2: queues.a.dead-letter = "b": a cycle of dead-letter queues: a -> b -> c -> a
  DIR/sandhog.toml:8: queues.self.dead-letter = "self": a cycle of dead-letter queues: self -> self
"#,
    );
}

#[test]
fn a_source_that_does_not_exist_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let errors = load(&directory.path().join("nowhere"), ConfigOverrides::default(), None).expect_err("nothing there");
    assert_eq!(errors, "DIR: cannot be read: No such file or directory (os error 2)");
    fs::write(directory.path().join("orders.wasm"), "").expect("a file");
    let errors =
        load(&directory.path().join("orders.wasm"), ConfigOverrides::default(), None).expect_err("not a source");
    assert_eq!(errors, "DIR: neither a directory nor a sandhog.toml");
}
