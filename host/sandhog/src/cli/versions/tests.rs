//! What `sandhog versions` and its siblings write.

use serde_json::json;

use super::*;
use crate::cli::test_streams::written;

fn list() -> VersionList {
    serde_json::from_value(json!({
        "handler": "orders",
        "serving": 7,
        "predecessor": 6,
        "state": "probation",
        "probation": {
            "stage": "probation",
            "calls": 120,
            "calls-wanted": 300,
            "elapsed-ms": 182_000,
            "time-ms": 600_000,
            "share": 0.1,
            "newer-calls": 118,
            "newer-breaks": 2,
            "predecessor-calls": 1100,
            "predecessor-breaks": 1,
            "second-opinions": 4,
        },
        "note": null,
        "versions": [version(7, "probation", None), version(6, "retired", None), version(5, "quarantined", Some("it broke\u{1b}[2J"))],
        "barred": [],
        "events": [],
    }))
    .unwrap()
}

fn version(number: u64, state: &str, reason: Option<&str>) -> serde_json::Value {
    json!({
        "number": number,
        "component": "ab",
        "manifest": null,
        "file": "plugins/orders.wasm",
        "accepted-at-ms": 1_700_000_000_000_u64,
        "state": state,
        "reason": reason,
        "rollback-of": if number == 6 { json!(3) } else { json!(null) },
        "served-ms": 3_600_000,
        "last-served-at-ms": null,
        "calls": 1200,
        "breaks": 3,
        "outcomes": { "success": 1197, "trap": 3 },
        "p50-ms": 4.25,
        "p99-ms": if number == 5 { json!(null) } else { json!(812.0) },
        "cpu-ms-total": 4800.0,
        "cpu-ms-mean": 4.0,
        "memory-peak-bytes": 5_242_880,
    })
}

#[test]
fn the_versions_are_a_table_with_the_reasons_and_the_probation_below() {
    let expected = "\
VERSION  STATE                      ACCEPTED              SERVED  CALLS  BROKE    P50    P99    CPU   MEMORY  FILE
      7  probation                  2023-11-14T22:13:20Z      1h   1200      3  4.2ms  812ms  4.0ms  5.0 MiB  plugins/orders.wasm
      6  retired, stands by (as 3)  2023-11-14T22:13:20Z      1h   1200      3  4.2ms  812ms  4.0ms  5.0 MiB  plugins/orders.wasm
      5  quarantined                2023-11-14T22:13:20Z      1h   1200      3  4.2ms      -  4.0ms  5.0 MiB  plugins/orders.wasm
version 5 (quarantined): it broke\\u{1b}[2J
version 7 is on probation: 120 of 300 calls, 3m 2s of 10m; 2 of its 118 calls broke, and 1 of 1100 of version 6; it gets 10 % of the messages
";
    assert_eq!(written(None, |streams| write_versions(&list(), streams)), expected);
}

#[test]
fn a_handler_without_a_version_has_no_table() {
    let mut none = VersionList::none("orders");
    none.note = Some("the files are refused".to_owned());
    let expected = "No version of orders has been accepted yet: `sandhog handlers` says why.\nthe files are refused\n";
    assert_eq!(written(None, |streams| write_versions(&none, streams)), expected);
}

#[test]
fn one_sentence_says_what_serves() {
    let mut list = list();
    assert_eq!(serving_sentence(&list), "version 7 serves orders, on probation");
    (list.serving, list.state) = (Some(6), Some("serving".to_owned()));
    let expected = "version 6 (the component of version 3, under the newest manifest) serves orders";
    assert_eq!(serving_sentence(&list), expected);
    list.serving = None;
    assert_eq!(serving_sentence(&list), "no version serves orders");
}

#[test]
fn each_stage_has_a_sentence() {
    let list = list();
    let sentence = |stage: &str, share| {
        let probation = list.probation.clone().unwrap();
        let probation = ProbationForm {
            stage: stage.to_owned(),
            share,
            ..probation
        };
        probation_sentence(&list, &probation)
    };
    let doubt =
        "version 7 is in doubt: 2 of its 118 calls broke, and 1 of 1100 of version 6; it gets 50 % of the messages";
    assert_eq!(sentence("doubt", 0.5), doubt);
    let watching = "version 7 is proven, and watched: 2 of its 118 calls broke, and 1 of 1100 of version 6; version 6 is still kept";
    assert_eq!(sentence("watching", 1.0), watching);
}

#[test]
fn the_handlers_have_one_line_each() {
    let handlers = serde_json::from_value(json!({
        "plugins": "/srv/plugins",
        "handlers": [
            {
                "name": "orders", "queue": "orders", "state": "serving", "digest": "0123456789abcdef", "version": 7,
                "version-state": "probation", "probation": "doubt", "in-flight": 0,
            },
            { "name": "resize", "queue": null, "state": "refused", "version": 0, "in-flight": 0 },
        ],
    }));
    let expected = "\
HANDLER  QUEUE   HANDLER STATE  VERSION  STATE      PROBATION  COMPONENT
orders   orders  serving              7  probation  doubt      0123456789ab
resize   -       refused              -  -          -          -
";
    assert_eq!(
        written(None, |streams| write_handlers(&handlers.unwrap(), streams)),
        expected
    );
}
