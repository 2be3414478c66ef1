//! The guests in `tests/guests` and the example `orders`: real ones, in Rust, each built once, by cargo, if something has changed.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, sync::OnceLock};

use sandhog_demo::guests::{self, Progress, build_workspace};

use crate::{announce::announced, repository};

/// Sends the requests that its message asks for.
pub fn http_guest() -> Vec<u8> {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    read(FILES.get_or_init(|| build("http")), "http")
}

/// Does what the lines of its message say, all at once.
pub fn asynchronous_guest() -> Vec<u8> {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    read(FILES.get_or_init(|| build("asynchronous")), "asynchronous")
}

/// Does what its message says, in the way of another host's interface: `spin_sqs_2`, `spin_sqs_3`, `wasi_messaging` or
/// `wasmcloud_messaging`.
pub fn foreign_guest(name: &str) -> Vec<u8> {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    read(FILES.get_or_init(|| build("foreign")), name)
}

/// Does what a text among its bytes says (`tests/guests/versioned`): `plain`, `batch`, `calling` or `keeping`.
pub fn versioned_guest(name: &str) -> Vec<u8> {
    static FILES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    read(FILES.get_or_init(|| build("versioned")), &format!("versioned_{name}"))
}

/// The example `orders`: parses JSON, sends one message to `invoices`.
pub fn orders() -> PathBuf {
    let mut files = announced("building the example handlers", || {
        guests::build(Progress::Hidden).unwrap()
    });
    files.remove("orders").unwrap()
}

/// An order for it. Each number has one invoice, which goes out once.
pub fn order(number: impl fmt::Display) -> String {
    format!(
        r#"{{"id": "A-{number}", "customer": {{"name": "Ada Byron", "email": "ada@example.com"}}, "currency": "EUR",
        "items": [{{"sku": "SPADE-ASH", "quantity": 2, "unit_cents": 2490}}], "total_cents": 4980}}"#
    )
}

fn build(workspace: &str) -> BTreeMap<String, PathBuf> {
    announced(&format!("building the guests in tests/guests/{workspace}"), || {
        build_workspace(&repository().join("tests/guests").join(workspace), Progress::Hidden).unwrap()
    })
}

fn read(files: &BTreeMap<String, PathBuf>, name: &str) -> Vec<u8> {
    fs::read(files.get(name).unwrap_or_else(|| panic!("{name} is not in {files:?}"))).unwrap()
}
