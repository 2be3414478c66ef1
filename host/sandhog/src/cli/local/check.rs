//! `sandhog check`: the facts about one component and its manifest.

use serde_json::json;

use super::{
    super::{CheckArgs, CommandStreams, write_json},
    LocalError, spinner,
};
use crate::{
    exit_code::ExitCode,
    trial::{ComponentTrial, TrialError, shown_lines},
};
use sandhog_queue::printable::{chain, printable_lines};

/// `sandhog check`.
///
/// # Errors
///
/// See [`LocalError`].
pub fn check(args: &CheckArgs, streams: &mut CommandStreams<'_>) -> Result<ExitCode, LocalError> {
    let spinner = spinner(format!("compiling {}", args.file.display()), streams.progress);
    let inspection = ComponentTrial::inspect(&args.file, args.manifest.as_deref());
    spinner.finish_and_clear();
    let mut inspection = inspection?;
    if let Some(refusal) = inspection.refusal.take_if(|refusal| refusal.is_transient()) {
        // The machine did not let it find out.
        return Err(TrialError::Refused(refusal).into());
    }
    let facts = inspection.facts();
    let refusal = inspection.refusal.as_ref().map(|refusal| chain(refusal));
    if args.json {
        let verdict = [
            ("accepted", json!(refusal.is_none())),
            ("refusal", json!(refusal.as_deref())),
        ];
        let facts: serde_json::Map<_, _> = verdict
            .into_iter()
            .chain(facts)
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        write_json(streams.output, &facts)?;
    } else {
        let verdict = streams.paint.state(if refusal.is_none() { "ok" } else { "refused" });
        let why = match &refusal {
            None => format!("the host would run {}", args.file.display()),
            Some(refusal) => refusal.clone(),
        };
        writeln!(streams.output, "{verdict}: {}", printable_lines(&why, usize::MAX))?;
        for (name, value) in &facts {
            let lines = shown_lines(value).join(&format!("\n{:<22} ", ""));
            writeln!(streams.output, "{name:<22} {lines}")?;
        }
    }
    Ok(if refusal.is_none() {
        ExitCode::Ok
    } else {
        ExitCode::Refused
    })
}
