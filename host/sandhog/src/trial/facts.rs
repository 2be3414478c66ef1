//! The facts about a file that was tried, as people read them: for `sandhog check`, and for a page that shows the same.
//!
//! Invariant: no fact has the value of a variable or of a configuration, because it may be a secret.

use std::time::Duration;

use serde_json::{Value, json};

use super::ComponentInspection;
use sandhog_executor::{
    ComponentImport, ComponentInfo, ImportGrant, ImportOffer,
    policy::{DirGrant, Grants, LimitEntry, LimitQuantity, Limits, Reuse},
};
use sandhog_queue::printable::printable;

/// The longest line of a fact, in bytes.
const SHOWN_BYTES: usize = 200;

/// Lines of a verdict: a name and a value.
pub(crate) type Facts = Vec<(&'static str, Value)>;

impl ComponentInspection {
    /// Returns what there is to say about the file besides the verdict.
    pub(crate) fn facts(&self) -> Facts {
        facts(self)
    }
}

fn facts(inspection: &ComponentInspection) -> Facts {
    let manifest = &inspection.manifest;
    let mut facts = Vec::new();
    if let Some(info) = &inspection.info {
        facts.extend(facts_of_component(info, &manifest.grants));
    }
    let info = inspection.info.iter();
    let unused = info.flat_map(|info| info.unused_grants(&manifest.grants));
    let warnings: Vec<_> = unused.map(ImportGrant::unused).collect();
    facts.extend([
        ("warnings", json!(warnings)),
        ("queue", json!(manifest.queue.as_str())),
        ("concurrency", json!(manifest.concurrency)),
        ("timeout", duration(manifest.timeout)),
        ("instance", json!(instance(manifest.reuse))),
    ]);
    facts.extend(facts_of_limits(&manifest.limits));
    facts.extend(facts_of_grants(&manifest.grants));
    if let Some(info) = &inspection.info {
        facts.extend(facts_of_sizes(info));
    }
    if let Some(dry_run) = inspection.dry_run {
        facts.push(("dry-run-ms", json!(dry_run.as_secs_f64() * 1000.0)));
    }
    facts.extend([
        ("size-bytes", json!(inspection.size)),
        ("digest", json!(inspection.digest)),
    ]);
    facts
}

fn instance(reuse: Option<Reuse>) -> String {
    reuse.map_or_else(
        || "fresh".to_owned(),
        |Reuse { max, idle }| {
            let idle = humantime::format_duration(idle);
            format!("reuse, at most {max} times, and given up after {idle} without a message")
        },
    )
}

fn facts_of_component(info: &ComponentInfo, grants: &Grants) -> Facts {
    let import = |import: &ComponentImport| match import.offer {
        ImportOffer::Always => import.name.clone(),
        ImportOffer::With(grant) if grant.is_in(grants) => {
            format!("{} (granted by grant.{})", import.name, grant.key())
        }
        ImportOffer::With(grant) => format!("{} (needs grant.{})", import.name, grant.key()),
        ImportOffer::Never => format!("{} (not offered)", import.name),
    };
    let form = if info.core_module { "core module" } else { "component" };
    let made_by = [&info.toolchain.languages, &info.toolchain.tools, &info.toolchain.sdks];
    vec![
        ("flavour", json!(info.flavour.as_str())),
        ("imports", json!(info.imports.iter().map(import).collect::<Vec<_>>())),
        ("form", json!(form)),
        ("made-by", json!(made_by.into_iter().flatten().collect::<Vec<_>>())),
    ]
}

fn facts_of_sizes(info: &ComponentInfo) -> Facts {
    vec![
        ("memories", json!(info.needs.memories)),
        ("largest-memory", size(info.needs.memory_bytes)),
        ("tables", json!(info.needs.tables)),
        ("largest-table", json!(info.needs.table_elements)),
        ("compile-ms", json!(info.compile_time.as_secs_f64() * 1000.0)),
    ]
}

fn facts_of_limits(limits: &Limits) -> Facts {
    let fact = |entry: &'static LimitEntry| {
        let value = match &entry.quantity {
            LimitQuantity::Count(field) => json!((field.get)(limits)),
            LimitQuantity::Bytes(field) => size((field.get)(limits)),
            LimitQuantity::Time(field) => duration((field.get)(limits)),
        };
        (entry.key.strip_prefix("limits.").unwrap_or(entry.key), value)
    };
    Limits::TABLE.iter().map(fact).collect()
}

/// Returns the grants. Of the environment and the configuration it has the names alone, because a value may be a secret.
fn facts_of_grants(grants: &Grants) -> Facts {
    let sends: Vec<_> = grants.send.iter().flatten().map(ToString::to_string).collect();
    let http = grants.http.iter();
    let origins: Vec<_> = http
        .clone()
        .flat_map(|http| &http.origins)
        .map(ToString::to_string)
        .collect();
    let addresses: Vec<_> = http.flat_map(|http| &http.addresses).map(ToString::to_string).collect();
    let dir = |dir: &DirGrant| {
        let how = if dir.write { "writable" } else { "read-only" };
        format!("{} as {}, {how}", dir.host.display(), dir.guest)
    };
    vec![
        ("grant.send", json!(sends)),
        ("grant.env", json!(grants.env.keys().collect::<Vec<_>>())),
        (
            "grant.config",
            json!(grants.config.iter().flatten().map(|(name, _)| name).collect::<Vec<_>>()),
        ),
        ("grant.http", json!(origins)),
        ("grant.http-addresses", json!(addresses)),
        ("grant.dirs", json!(grants.dirs.iter().map(dir).collect::<Vec<_>>())),
        ("grant.keyvalue", json!(grants.keyvalue)),
        ("grant.log", json!(grants.log.as_str())),
        (
            "stdout",
            json!(grants.stdout.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ),
        ("args", json!(grants.args)),
        ("exit-codes.success", json!(grants.exit_codes.success)),
        ("exit-codes.reject", json!(grants.exit_codes.reject)),
        ("exit-codes.retry", json!(grants.exit_codes.retry)),
    ]
}

fn size(bytes: u64) -> Value {
    json!(bytesize::ByteSize::b(bytes).to_string())
}

fn duration(duration: Duration) -> Value {
    json!(humantime::format_duration(duration).to_string())
}

/// Returns the lines of a value, as a person reads them.
pub(crate) fn shown_lines(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![printable(text, SHOWN_BYTES)],
        Value::Array(values) if values.is_empty() => vec!["nothing".to_owned()],
        Value::Array(values) => values.iter().flat_map(shown_lines).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![value.to_string()],
    }
}
