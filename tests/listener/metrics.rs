//! The metrics page: its formats, its families, and the series of what is gone.

use std::{collections::BTreeSet, fs};

use harness::{
    guests::no_op,
    host::{Host, Place},
    repository, wait_for,
};
use sandhog::metrics::Metrics;

use super::{
    host,
    served::{Served, patient},
};

fn page(served: &Served, accept: &str) -> String {
    let head = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{accept}connection: close\r\n\r\n");
    served.say(&head).rest()
}

#[test]
fn a_scraper_gets_the_format_that_it_asks_for() {
    let served = Served::new(patient());
    let prometheus =
        "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";
    for (accept, is_open) in [
        ("", false),
        ("accept: */*\r\n", false),
        ("accept: text/plain\r\n", false),
        (
            "accept: text/plain\r\naccept: application/openmetrics-text;q=0.5\r\n",
            false,
        ),
        (prometheus, true),
    ] {
        let answer = page(&served, accept);
        let media = if is_open {
            "content-type: application/openmetrics-text; version=1.0.0"
        } else {
            "content-type: text/plain; version=0.0.4"
        };
        assert!(answer.contains(media), "{accept:?}: {answer}");
        assert_eq!(answer.ends_with("# EOF\n"), is_open, "{accept:?}");
        let family = "# TYPE sandhog_listener_replaced_connections";
        let suffix = if is_open { "" } else { "_total" };
        assert!(answer.contains(&format!("{family}{suffix} counter\n")), "{accept:?}");
    }
}

#[test]
fn the_page_of_metrics_lists_every_family_and_no_other() {
    let text = fs::read_to_string(repository().join("docs/reference/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let described: BTreeSet<(String, String, String)> = rows
        .map(|row| {
            let mut cells = row.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`').to_owned();
            let kind = cells.next().unwrap().to_owned();
            (name, kind, cells.next().unwrap().to_owned())
        })
        .collect();
    let metrics = Metrics::new();
    let families = metrics.families().iter();
    let known: BTreeSet<_> = families
        .map(|family| {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            (family.name.clone(), family.kind.to_owned(), labels.join(", "))
        })
        .collect();
    assert_eq!(described, known);
}

fn series_of(host: &Host, name: &str) -> Vec<String> {
    let page = host.text("/metrics").1;
    let label = format!("=\"{name}\"");
    page.lines()
        .filter(|line| line.contains(&label))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_series_of_a_handler_go_with_it_and_begin_anew() {
    let place = Place::new();
    place.install("keep", &no_op(), "");
    place.install("gone", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    let handled = |name: &str| {
        let sample = format!("sandhog_attempts_total{{handler=\"{name}\",outcome=\"success\"}} 1");
        host.send(name, b"x");
        wait_for(&sample, || series_of(&host, name).contains(&sample).then_some(()));
    };
    handled("keep");
    handled("gone");
    host.wait_empty("gone");
    fs::remove_file(place.plugin("gone.wasm")).unwrap();
    // Counters and histograms stayed until the next start, some forty lines for every name that there ever was.
    wait_for("the series of the handler and its queue to end", || {
        [series_of(&host, "gone"), series_of(&host, "gone-dead")]
            .concat()
            .is_empty()
            .then_some(())
    });
    assert!(series_of(&host, "keep").len() > 30);
    fs::write(place.plugin("gone.wasm"), no_op()).unwrap();
    handled("gone");
}

#[test]
fn the_series_of_a_queue_stay_while_something_is_in_it() {
    let place = Place::new();
    place.install("gone", &no_op(), "");
    let host = place.start();
    host.wait_ready();
    fs::remove_file(place.plugin("gone.wasm")).unwrap();
    wait_for("the handler to be gone", || {
        series_of(&host, "gone").is_empty().then_some(())
    });
    host.send("gone", b"x");
    let sample = "sandhog_queue_ready_messages{queue=\"gone\"} 1".to_owned();
    assert!(series_of(&host, "gone").contains(&sample));
}

#[test]
fn a_configured_queue_has_its_series_without_a_handler() {
    let (_place, host) = host("[queues.orders]");
    let sample = "sandhog_queue_ready_messages{queue=\"orders\"} 0".to_owned();
    assert!(series_of(&host, "orders").contains(&sample));
    assert!(!series_of(&host, "orders-dead").is_empty());
}
