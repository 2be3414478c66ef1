//! The commands that need no running host: `run`, which is one, and `invoke` and `check`, which try one component.

use std::{io, path::Path, time::Duration};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{CheckArgs, CommandStreams, CompactArgs, InvokeArgs, RunArgs, read_body, write_json};
use crate::{
    admin::wire,
    app::{self, StartError},
    config::{Config, ConfigErrors, ConfigOverrides, Environment},
    executor::{
        ComponentInfo, Import, Offer, Report, Tiers, Verdict,
        policy::{DirGrant, Grants, LimitEntry, LimitQuantity, Limits, Reuse},
    },
    exit_code::ExitCode,
    keyvalue::{Change, KeyValueWrite},
    message::{AttributeValue, Attributes, InvalidMessage, Outgoing},
    printable::printable,
    queue::simple::{SimpleStore, StoreOptions},
    trial::{ComponentInspection, ComponentTrial, TrialError, TrialInvocation},
};

/// How much of a body is shown.
const SHOWN_BYTES: usize = 200;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The configuration has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The host could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The component is not accepted, or could not be tried.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The message breaks a limit.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// Standard input could not be read, or standard output not be written.
    #[error("standard input or output failed")]
    Io(#[from] io::Error),
}

impl LocalError {
    /// The exit code that stands for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            // What it leads to is not as it should be now, or somebody is writing the file.
            Self::Trial(TrialError::Manifest(errors)) if errors.is_transient() => ExitCode::Unavailable,
            Self::Trial(TrialError::BeingWritten { .. }) => ExitCode::Unavailable,
            Self::Config(_) | Self::Trial(TrialError::Manifest(_)) => ExitCode::Config,
            Self::Start(error) => error.exit_code(),
            Self::Trial(TrialError::Engine(_) | TrialError::Process(_) | TrialError::Denied { .. }) => {
                ExitCode::Internal
            }
            // The machine is the reason, and the file may be good.
            Self::Trial(TrialError::Refused(error)) if error.is_transient() => ExitCode::Internal,
            // Whoever read our output has seen enough.
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Ok,
            Self::Trial(TrialError::Read { .. } | TrialError::Refused(_)) | Self::Message(_) | Self::Io(_) => {
                ExitCode::Refused
            }
        }
    }
}

/// `sandhog run`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn run(args: &RunArgs, environment: Environment<'_>) -> Result<ExitCode, LocalError> {
    let config = Config::load(args.path.as_deref(), args.overrides(), environment)?;
    Ok(app::run(config, args.until_empty)?)
}

/// `sandhog compact`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn compact(
    args: &CompactArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, LocalError> {
    let overrides = ConfigOverrides {
        data: args.data.clone(),
        ..ConfigOverrides::default()
    };
    let config = Config::load(args.path.as_deref(), overrides, environment)?;
    let Some(directory) = config.data else {
        writeln!(streams.output, "the queues of this configuration are in memory only")?;
        return Ok(ExitCode::Ok);
    };
    let (before, after) = SimpleStore::compact(&StoreOptions::new(directory)).map_err(StartError::from)?;
    writeln!(streams.output, "{before} bytes before, {after} bytes now")?;
    Ok(ExitCode::Ok)
}

/// `sandhog check`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn check(args: &CheckArgs, streams: &mut CommandStreams<'_>) -> Result<ExitCode, LocalError> {
    let spinner = spinner(&args.file, streams.progress);
    let inspection = ComponentTrial::inspect(&args.file, args.manifest.as_deref());
    spinner.finish_and_clear();
    let inspection = inspection?;
    let facts = facts(&inspection);
    if args.json {
        let accepted = ("accepted", json!(inspection.refusal.is_none()));
        let facts: serde_json::Map<_, _> = facts
            .into_iter()
            .chain([accepted])
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        write_json(streams.output, &facts)?;
    } else {
        for (name, value) in &facts {
            writeln!(streams.output, "{name:<22} {}", shown(value))?;
        }
    }
    match inspection.refusal {
        Some(refusal) => Err(TrialError::Refused(refusal).into()),
        None if args.json => Ok(ExitCode::Ok),
        None => {
            writeln!(streams.output, "the host would accept it")?;
            Ok(ExitCode::Ok)
        }
    }
}

type Facts = Vec<(&'static str, Value)>;

fn facts(inspection: &ComponentInspection) -> Facts {
    let manifest = &inspection.manifest;
    let mut facts = vec![
        ("size-bytes", json!(inspection.size)),
        ("digest", json!(inspection.digest)),
    ];
    if let Some(info) = &inspection.info {
        facts.extend(facts_of_component(info));
    }
    if let Some(dry_run) = inspection.dry_run {
        facts.push(("dry-run-ms", json!(dry_run.as_secs_f64() * 1000.0)));
    }
    facts.extend([
        ("queue", json!(manifest.queue.as_str())),
        ("concurrency", json!(manifest.concurrency)),
        ("timeout", duration(manifest.timeout)),
        ("instance", json!(instance(manifest.reuse))),
    ]);
    facts.extend(facts_of_limits(&manifest.limits));
    facts.extend(facts_of_grants(&manifest.grants));
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

fn facts_of_component(info: &ComponentInfo) -> Facts {
    let import = |import: &Import| match import.offer {
        Offer::Always => import.name.clone(),
        Offer::With(grant) => format!("{} (needs grant.{})", import.name, grant.key()),
        Offer::Never => format!("{} (not offered)", import.name),
    };
    let form = if info.core_module { "core module" } else { "component" };
    let made_by = [&info.toolchain.languages, &info.toolchain.tools, &info.toolchain.sdks];
    vec![
        ("flavour", json!(info.flavour.as_str())),
        ("form", json!(form)),
        ("made-by", json!(made_by.into_iter().flatten().collect::<Vec<_>>())),
        ("imports", json!(info.imports.iter().map(import).collect::<Vec<_>>())),
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

/// Names only: a value may be a secret.
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

/// `sandhog invoke`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn invoke(args: &InvokeArgs, streams: &mut CommandStreams<'_>) -> Result<ExitCode, LocalError> {
    let body = read_body(args.body.as_deref().unwrap_or_default(), streams.input)?;
    let text = |(name, value): &(String, String)| (name.clone(), AttributeValue::Text(value.clone()));
    let attributes = Attributes::new(args.attributes.iter().map(text).collect())?;
    let outgoing = Outgoing {
        body: body.into(),
        attributes,
        group_id: args.group.clone(),
        ..Outgoing::default()
    };
    outgoing.check()?;
    let spinner = spinner(&args.file, streams.progress);
    let trial = ComponentTrial::load(&args.file, args.manifest.as_deref(), Tiers::Optimised);
    spinner.finish_and_clear();
    let invocation = trial?.invoke(outgoing, args.receive_count);
    if args.json {
        write_json(streams.output, &as_json(&invocation))?;
    } else {
        write_text(&invocation, streams.output)?;
    }
    Ok(match invocation.report.verdicts.first() {
        Some(Verdict::Success) => ExitCode::Ok,
        Some(Verdict::Failed(_)) => ExitCode::Refused,
        Some(Verdict::NotRun(_)) | None => ExitCode::Internal,
    })
}

/// Shows a person that compiling takes a while.
fn spinner(file: &Path, progress: bool) -> ProgressBar {
    let spinner = if progress {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    spinner.set_message(format!("compiling {}", file.display()));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn as_json(invocation: &TrialInvocation) -> Value {
    let Report {
        verdicts,
        sends,
        writes,
        usage,
    } = &invocation.report;
    let verdict = match verdicts.first() {
        Some(Verdict::Success) => json!({ "verdict": "success" }),
        Some(Verdict::Failed(failure)) => json!({
            "verdict": failure.kind.as_str(),
            "reason": failure.reason,
            "retry-after-seconds": failure.retry_after.map(|after| after.as_secs()),
            "backtrace": failure.backtrace,
        }),
        Some(Verdict::NotRun(reason)) => json!({ "verdict": "not-run", "reason": reason }),
        None => Value::Null,
    };
    let sends: Vec<_> = sends
        .iter()
        .map(|send| {
            json!({
                "queue": send.queue.as_str(),
                "body-bytes": send.message.body.len(),
                "body": std::str::from_utf8(&send.message.body).ok(),
                "attributes": wire::attribute_forms(&send.message.attributes),
                "group": send.message.group_id,
            })
        })
        .collect();
    let writes: Vec<_> = writes
        .iter()
        .map(|KeyValueWrite { bucket, key, change }| {
            let (change, bytes, added) = match change {
                Change::Set(value) => ("set", Some(value.len()), None),
                Change::Delete => ("delete", None, None),
                Change::Add(delta) => ("add", None, Some(delta)),
            };
            json!({ "bucket": **bucket, "key": **key, "change": change, "value-bytes": bytes, "added": added })
        })
        .collect();
    let log: Vec<_> = invocation
        .log
        .iter()
        .map(|line| json!({ "stream": line.stream.as_str(), "text": line.text }))
        .collect();
    json!({
        "outcome": verdict,
        "sends": sends,
        "writes": writes,
        "log": log,
        "log-lines-dropped": usage.log_lines_dropped,
        "wall-seconds": usage.wall.as_secs_f64(),
        "cpu-seconds": usage.cpu.as_secs_f64(),
        "memory-peak-bytes": usage.memory_peak,
        "http-requests": usage.http_requests,
    })
}

fn write_text(invocation: &TrialInvocation, output: &mut dyn io::Write) -> io::Result<()> {
    let Report {
        verdicts,
        sends,
        writes,
        usage,
    } = &invocation.report;
    let mut line = |name: &str, value: &str| writeln!(output, "{name:<10} {value}");
    for entry in &invocation.log {
        line(entry.stream.as_str(), &entry.text)?;
    }
    for send in sends {
        let body = printable(&String::from_utf8_lossy(&send.message.body), SHOWN_BYTES);
        line(
            "sent",
            &format!("to {}, {} bytes: {body}", send.queue, send.message.body.len()),
        )?;
        for (name, value) in send.message.attributes.pairs() {
            line(
                "",
                &format!("{} = {}", printable(name, SHOWN_BYTES), shown_attribute(value)),
            )?;
        }
    }
    for KeyValueWrite { bucket, key, change } in writes {
        let change = match change {
            Change::Set(value) => format!("{} bytes", value.len()),
            Change::Delete => "deleted".to_owned(),
            Change::Add(delta) => format!("plus {delta}"),
        };
        let (bucket, key) = (printable(bucket, SHOWN_BYTES), printable(key, SHOWN_BYTES));
        line("wrote", &format!("{key} of bucket {bucket}: {change}"))?;
    }
    match verdicts.first() {
        Some(Verdict::Success) => line("verdict", "success")?,
        Some(Verdict::Failed(failure)) => {
            line("verdict", failure.kind.as_str())?;
            for (number, text) in failure.reason.lines().enumerate() {
                line(if number == 0 { "reason" } else { "" }, text)?;
            }
            if let Some(after) = failure.retry_after {
                line("again in", &humantime::format_duration(after).to_string())?;
            }
            for frame in failure.backtrace.iter().flat_map(|trace| trace.lines()) {
                line("", frame)?;
            }
        }
        Some(Verdict::NotRun(reason)) => line("not run", reason)?,
        None => {}
    }
    line(
        "time",
        &format!("{:?}, of which {:?} on a processor", usage.wall, usage.cpu),
    )?;
    line("memory", &bytesize::ByteSize::b(usage.memory_peak).to_string())?;
    if usage.log_lines_dropped > 0 {
        line(
            "dropped",
            &format!("{} lines of output past the limit", usage.log_lines_dropped),
        )?;
    }
    Ok(())
}

fn shown_attribute(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) | AttributeValue::Number(text) => printable(text, SHOWN_BYTES),
        AttributeValue::Binary(bytes) => format!("{} bytes that are not text; --json shows them", bytes.len()),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text, SHOWN_BYTES),
        Value::Array(values) if values.is_empty() => "nothing".to_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join("\n                "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    // The file was refused for it, as if the next attempt could not go better.
    #[test]
    fn a_file_is_not_refused_for_what_the_machine_does() {
        let place = tempfile::tempdir().unwrap();
        let code = |file: &Path| LocalError::from(ComponentTrial::inspect(file, None).unwrap_err()).exit_code();
        assert_eq!(code(&place.path().join("missing.wasm")), ExitCode::Refused);
        assert_eq!(code(place.path()), ExitCode::Refused);
        let file = place.path().join("a.wasm");
        let source = io::Error::from_raw_os_error(24);
        let error = TrialError::Denied {
            file: file.clone(),
            source,
        };
        assert_eq!(LocalError::from(error).exit_code(), ExitCode::Internal);
        let writer = std::fs::File::create(&file).unwrap();
        assert_eq!(code(&file), ExitCode::Unavailable);
        drop(writer);
    }
}
