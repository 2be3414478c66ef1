//! `sandhog invoke`: one message through a component, and what became of it.

use std::io;

use serde_json::{Number, Value, json};

use super::{
    super::{CommandStreams, InvokeArgs, Paint, read_body, write_json},
    LocalError, SHOWN_BYTES, kept_artifacts, spinner,
};
use crate::{
    admin::wire,
    config::Environment,
    exit_code::ExitCode,
    rehearsal::RehearsedCall,
    trial::{ComponentTrial, TrialCode},
};
use sandhog_executor::{CallReport, CodeTiers, Verdict};
use sandhog_queue::{
    EffectSend,
    keyvalue::{Change, KeyValueWrite},
    message::{AttributeValue, Attributes, Outgoing},
    printable::printable,
};

/// `sandhog invoke`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn invoke(
    args: &InvokeArgs,
    environment: Environment<'_>,
    streams: &mut CommandStreams<'_>,
) -> Result<ExitCode, LocalError> {
    let body = read_body(args.body.as_deref().unwrap_or_default(), streams.input)?;
    let text = |(name, value): &(String, String)| (name.clone(), AttributeValue::Text(value.clone()));
    let attributes = Attributes::new(args.attributes.iter().map(text).collect())?;
    let outgoing = Outgoing {
        body: body.into(),
        attributes,
        group_id: args.group.clone(),
        ..Outgoing::default()
    };
    let message = outgoing.check()?;
    let (tiers, tier) = if args.optimised {
        (CodeTiers::Optimised, "optimised")
    } else {
        (CodeTiers::Fast, "fast")
    };
    let what = format!("compiling {} ({tier})", args.file.display());
    let spinner = spinner(what, streams.progress);
    let code = TrialCode {
        tiers,
        artifacts: kept_artifacts(environment),
        urgent: true,
    };
    let trial = ComponentTrial::load(&args.file, args.manifest.as_deref(), code);
    spinner.finish_and_clear();
    let trial = trial?;
    let invocation = trial.invoke(message, args.receive_count);
    let info = trial.info();
    if args.json {
        let mut json = as_json(&invocation);
        if let Some(fields) = json.as_object_mut() {
            fields.insert("compile-seconds".to_owned(), json!(info.compile_time.as_secs_f64()));
            fields.insert("compiled-before".to_owned(), json!(info.from_cache));
        }
        write_json(streams.output, &json)?;
    } else {
        write_text(&invocation, streams.paint, streams.output)?;
        let code = if info.from_cache {
            "compiled before".to_owned()
        } else {
            format!("compiled in {:.1} s ({tier})", info.compile_time.as_secs_f64())
        };
        InvokeLines {
            output: streams.output,
            paint: streams.paint,
        }
        .line("code", &code)?;
    }
    Ok(match invocation.report.verdicts.first() {
        Some(Verdict::Success) => ExitCode::Ok,
        Some(Verdict::Failed(_)) => ExitCode::Refused,
        Some(Verdict::NotRun(_)) | None => ExitCode::Internal,
    })
}

fn as_json(invocation: &RehearsedCall) -> Value {
    let CallReport {
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
            "stack": failure.stack.as_deref(),
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
        .map(|write| {
            let (change, bytes, added) = match &write.change {
                Change::Set(value) => ("set", Some(value.len()), None),
                Change::Delete => ("delete", None, None),
                Change::Add(delta) => ("add", None, Number::from_i128(*delta)),
            };
            json!({
                "bucket": *write.bucket,
                "key": *write.key,
                "change": change,
                "value-bytes": bytes,
                "added": added,
                "conditional": write.condition.is_some(),
            })
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

pub(super) fn write_text(invocation: &RehearsedCall, paint: Paint, output: &mut dyn io::Write) -> io::Result<()> {
    let CallReport {
        verdicts,
        sends,
        writes,
        usage,
    } = &invocation.report;
    let mut lines = InvokeLines { output, paint };
    for entry in &invocation.log {
        lines.lines(entry.stream.as_str(), &entry.text)?;
    }
    for send in sends {
        lines.send(send)?;
    }
    for write in writes {
        lines.write(write)?;
    }
    // In the order of the messages.
    for verdict in verdicts {
        lines.verdict(verdict)?;
    }
    let time = format!("{:?}, of which {:?} on a processor", usage.wall, usage.cpu);
    lines.line("time", &time)?;
    lines.line("memory", &bytesize::ByteSize::b(usage.memory_peak).to_string())?;
    if usage.log_lines_dropped > 0 {
        let dropped = format!("{} lines of output past the limit", usage.log_lines_dropped);
        lines.line("dropped", &dropped)?;
    }
    Ok(())
}

/// Writes lines with a name in front.
struct InvokeLines<'o> {
    output: &'o mut dyn io::Write,
    paint: Paint,
}

impl InvokeLines<'_> {
    fn line(&mut self, name: &str, value: &str) -> io::Result<()> {
        writeln!(self.output, "{name:<10} {value}")
    }

    /// Writes the lines of a text, each below the first.
    fn lines(&mut self, name: &str, text: &str) -> io::Result<()> {
        for (number, line) in text.lines().enumerate() {
            self.line(if number == 0 { name } else { "" }, line)?;
        }
        Ok(())
    }

    fn send(&mut self, send: &EffectSend) -> io::Result<()> {
        let body = printable(&String::from_utf8_lossy(&send.message.body), SHOWN_BYTES);
        let line = format!("to {}, {} bytes: {body}", send.queue, send.message.body.len());
        self.line("sent", &line)?;
        for (name, value) in send.message.attributes.pairs() {
            let attribute = format!("{} = {}", printable(name, SHOWN_BYTES), shown_attribute(value));
            self.line("", &attribute)?;
        }
        Ok(())
    }

    fn write(&mut self, write: &KeyValueWrite) -> io::Result<()> {
        let change = match &write.change {
            Change::Set(value) => format!("{} bytes", value.len()),
            Change::Delete => "deleted".to_owned(),
            Change::Add(delta @ 0..) => format!("plus {delta}"),
            Change::Add(delta) => format!("minus {}", delta.unsigned_abs()),
        };
        let condition = match write.condition {
            Some(_) => ", if it is what was compared",
            None => "",
        };
        let bucket = printable(&write.bucket, SHOWN_BYTES);
        let key = printable(&write.key, SHOWN_BYTES);
        self.line("wrote", &format!("{key} of bucket {bucket}: {change}{condition}"))
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        match verdict {
            Verdict::Success => self.line("verdict", &self.paint.state("success")),
            Verdict::Failed(failure) => {
                self.line("verdict", &self.paint.state(failure.kind.as_str()))?;
                self.lines("reason", &failure.reason)?;
                if let Some(after) = failure.retry_after {
                    self.line("again in", &humantime::format_duration(after).to_string())?;
                }
                failure.stack.iter().try_for_each(|stack| self.lines("stack", stack))
            }
            Verdict::NotRun(reason) => self.line("not run", reason),
        }
    }
}

fn shown_attribute(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) | AttributeValue::Number(text) => printable(text, SHOWN_BYTES),
        AttributeValue::Binary(bytes) => format!("{} bytes that are not text; --json shows them", bytes.len()),
    }
}
