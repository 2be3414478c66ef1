//! What operators import: rules and a dashboard, which may name only what the page of metrics has.

use std::{collections::BTreeSet, fs};

use harness::{guests::no_op, host::Place, repository, wait_for};
use sandhog::metrics::Metrics;
use serde_json::Value;
use yaml_rust2::YamlLoader;

/// The names of samples that the page can have, with those that a histogram has.
fn samples() -> BTreeSet<String> {
    let metrics = Metrics::new();
    let names = metrics.families().iter().flat_map(|family| match family.kind {
        "histogram" => ["_bucket", "_sum", "_count"]
            .map(|suffix| format!("{}{suffix}", family.name))
            .to_vec(),
        _ => vec![family.name.clone()],
    });
    names.collect()
}

/// Fails with what an expression names that is no sample of the page. Returns how many samples it names.
fn check(expression: &str, known: &BTreeSet<String>) -> usize {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<_> = words
        .filter(|word| word.starts_with("sandhog_") || word.starts_with("process_"))
        .collect();
    for name in &named {
        assert!(
            known.contains(*name),
            "{name} in {expression} is not on the page of metrics"
        );
    }
    named.len()
}

#[test]
fn every_alert_names_metrics_that_exist_and_says_what_to_do() {
    let text = fs::read_to_string(repository().join("docs/reference/alerts.yml")).unwrap();
    let document = YamlLoader::load_from_str(&text).unwrap().remove(0);
    let known = samples();
    let mut alerts = BTreeSet::new();
    for group in document["groups"].as_vec().unwrap() {
        for rule in group["rules"].as_vec().unwrap() {
            let alert = rule["alert"].as_str().unwrap();
            assert!(alerts.insert(alert.to_owned()), "{alert} is there twice");
            assert!(
                check(rule["expr"].as_str().unwrap(), &known) > 0,
                "{alert} is about nothing"
            );
            assert!(
                ["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()),
                "{alert}"
            );
            // What is wrong, and behind the colon what to do.
            let summary = rule["annotations"]["summary"].as_str().unwrap();
            assert!(
                summary.split_once(": ").is_some_and(|(_, advice)| advice.len() > 20),
                "{alert}: {summary}"
            );
        }
    }
    assert!(alerts.len() > 10, "{alerts:?}");
}

#[test]
fn every_panel_of_the_dashboard_names_metrics_that_exist() {
    let text = fs::read_to_string(repository().join("docs/reference/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let known = samples();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            assert!(check(target["expr"].as_str().unwrap(), &known) > 0, "{panel}");
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        check(variable["query"]["query"].as_str().unwrap_or_default(), &known);
    }
}

#[test]
fn a_message_is_counted_from_its_door_to_what_its_handler_cost() {
    let place = Place::new();
    place.install("orders", &no_op(), "");
    place.configure("[queues.full]\nmax-messages = 1\n");
    let host = place.start();
    host.wait_ready();
    host.send("orders", b"x");
    host.send("full", b"x");
    assert_eq!(host.try_send("full", b"y", ""), None);
    assert_eq!(host.try_send("orders", b"y", "priority=10"), None);
    host.wait_empty("orders");
    let page = wait_for("the costs of the call", || {
        let page = host.text("/metrics").1;
        page.contains("sandhog_handler_memory_bytes_count{handler=\"orders\"} 1")
            .then_some(page)
    });
    for sample in [
        "sandhog_arrived_messages_total{queue=\"orders\",door=\"http\"} 1",
        "sandhog_arrived_messages_total{queue=\"full\",door=\"http\"} 1",
        "sandhog_refused_messages_total{queue=\"full\",door=\"http\",reason=\"full\"} 1",
        "sandhog_refused_messages_total{queue=\"orders\",door=\"http\",reason=\"invalid\"} 1",
        "sandhog_handler_wait_seconds_count{handler=\"orders\"} 1",
        "sandhog_build_info{version=",
    ] {
        assert!(page.contains(sample), "{sample} in {page}");
    }
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {page}"))
            .trim()
            .parse()
            .unwrap()
    };
    assert!(value("sandhog_handler_cpu_seconds_total{handler=\"orders\"}") > 0.0);
    assert!(value("sandhog_handler_wait_seconds_sum{handler=\"orders\"}") < 60.0);
    assert!(value("sandhog_store_uncopied_log_bytes") > 0.0);
    let process = [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ];
    assert!(process.iter().all(|name| value(name) > 0.0), "{page}");
    assert!(value("process_start_time_seconds ") > 1_600_000_000.0);
}
