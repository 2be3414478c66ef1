//! The example handlers, built for WebAssembly from their sources, on the real host, with the shipped inputs.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use std::{collections::BTreeMap, fs};

use harness::{
    host::{Host, Place},
    repository, wait_for,
};
use sandhog_demo::guests::{Progress, build};
use serde_json::{Value, json};

/// A host that runs one example with its own manifest.
fn start(name: &str) -> (Place, Host) {
    let components = build(Progress::Hidden).unwrap();
    let place = Place::new();
    let manifest = repository().join("examples").join(name).join(format!("{name}.toml"));
    place.install(
        name,
        &fs::read(components.get(name).unwrap()).unwrap(),
        &fs::read_to_string(manifest).unwrap(),
    );
    let host = place.start();
    host.wait_ready();
    (place, host)
}

/// Sends every shipped input, waits, and returns the file names by the ids of their messages.
fn send_inputs(host: &Host, example: &str) -> BTreeMap<String, String> {
    let directory = repository().join("examples").join(example).join("input");
    let sent = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let id = host.send(example, &fs::read(&path).unwrap());
        (id, path.file_name().unwrap().to_str().unwrap().to_owned())
    });
    let sent = sent.collect();
    host.wait_empty(example);
    sent
}

/// What waits in a queue, with its attributes and its body in base64 if it is not text.
fn received(host: &Host, queue: &str) -> Vec<Value> {
    let answer = host.post(&format!("/queues/{queue}/receive?max=10&wait=0s"), &Value::Null);
    answer["messages"].as_array().unwrap().clone()
}

/// The reasons of the dead letters, by file name.
fn rejected(host: &Host, queue: &str, names: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let letters = host.dead(queue).into_iter();
    letters
        .map(|letter| (names[&text(&letter["id"])].clone(), text(&letter["failure"]["reason"])))
        .collect()
}

fn number(message: &Value, name: &str) -> u32 {
    message["attributes"][name]["number"]
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {message}"))
        .parse()
        .unwrap()
}

#[test]
fn thumbnail_turns_images_into_small_ones_and_rejects_what_is_none() {
    let (_place, host) = start("thumbnail");
    let names = send_inputs(&host, "thumbnail");
    let thumbnails = received(&host, "thumbnails");
    assert_eq!(thumbnails.len(), 4);
    for thumbnail in &thumbnails {
        let (width, height) = (number(thumbnail, "width"), number(thumbnail, "height"));
        assert!(width.max(height) == 128 && width.min(height) > 0, "{width} x {height}");
        // The first bytes of a JPEG and of a PNG, in base64.
        let body = thumbnail["body-base64"].as_str().unwrap();
        assert!(
            body.starts_with("/9j/") || body.starts_with("iVBORw0KGgo"),
            "{}",
            &body[..20]
        );
        let source = thumbnail["attributes"]["source"]["text"].as_str().unwrap();
        assert_ne!(names[source], "not-an-image.png");
    }
    let rejected = rejected(&host, "thumbnail", &names);
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["not-an-image.png"]);
}

#[test]
fn orders_sends_invoices_rejects_mistakes_and_waits_for_the_warehouse() {
    let (_place, host) = start("orders");
    let names = send_inputs(&host, "orders");
    let mut invoices: Vec<Value> = received(&host, "invoices")
        .iter()
        .map(|invoice| serde_json::from_str(invoice["body"].as_str().unwrap()).unwrap())
        .collect();
    invoices.sort_by_key(|invoice| invoice["order"].as_str().unwrap().to_owned());
    let orders: Vec<_> = invoices
        .iter()
        .map(|invoice| invoice["order"].as_str().unwrap())
        .collect();
    assert_eq!(orders, ["A-1001", "A-1002", "A-1004"]);
    assert_eq!(invoices[0]["total_cents"], 9470, "{}", invoices[0]);
    let rejected = rejected(&host, "orders", &names);
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["cut-short.json", "mistakes.json"]);
    assert!(
        rejected["mistakes.json"].contains("email"),
        "{}",
        rejected["mistakes.json"]
    );
    assert!(
        rejected["cut-short.json"].contains("line"),
        "{}",
        rejected["cut-short.json"]
    );
    // The order whose warehouse was offline was retried, and the others were not.
    let retries = host.text("/metrics").1;
    assert!(
        retries.contains(r#"sandhog_settled_deliveries_total{queue="orders",settlement="retry"} 2"#),
        "{retries}"
    );
}

#[test]
fn report_turns_tables_into_pdf_files() {
    let (_place, host) = start("report");
    let names = send_inputs(&host, "report");
    let reports = received(&host, "reports");
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert!(
            report["body-base64"].as_str().unwrap().starts_with("JVBERi0"),
            "not a PDF"
        );
        assert_eq!(
            report["attributes"]["content-type"],
            json!({ "text": "application/pdf" })
        );
    }
    let rejected = rejected(&host, "report", &names);
    assert_eq!(rejected.keys().collect::<Vec<_>>(), ["ragged.csv"]);
}

#[test]
fn an_example_that_is_copied_while_the_host_runs_serves_soon() {
    let components = build(Progress::Hidden).unwrap();
    let place = Place::new();
    let host = place.start();
    host.wait_ready();
    place.install(
        "orders",
        &fs::read(components.get("orders").unwrap()).unwrap(),
        "[grant]\nsend = [\"invoices\"]\n",
    );
    let served = wait_for("the handler to serve", || host.events("serving").pop());
    assert_eq!(served["fields"]["queue"], "orders");
}
