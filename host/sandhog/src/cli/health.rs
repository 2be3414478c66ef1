//! `sandhog health`: the readiness of the running host as an exit code, for probes without a shell and without the secret.
//!
//! A probe runs every few seconds, so the command starts neither a runtime nor the log.

use std::io::Write;

use serde::Serialize;

use super::{CliError, HealthArgs, write_answer};
use crate::{admin::wire::ReadinessAnswer, client::HostClient, exit_code::ExitCode};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable};

/// The answer of `--live`.
#[derive(Serialize)]
struct Liveness {
    live: bool,
}

pub(crate) fn health(args: &HealthArgs, client: &HostClient, output: &mut dyn Write) -> Result<ExitCode, CliError> {
    if args.live {
        client.live()?;
        write_answer(output, args.json, &Liveness { live: true }, |_| "live".to_owned())?;
        return Ok(ExitCode::Ok);
    }
    let answer = client.readiness()?;
    write_answer(output, args.json, &answer, sentence)?;
    Ok(if answer.ready { ExitCode::Ok } else { ExitCode::Refused })
}

/// Says all of it in one line, which is what an orchestrator shows of a probe.
fn sentence(answer: &ReadinessAnswer) -> String {
    let reasons = answer.reasons.iter().map(|reason| printable(reason, MAX_REASON_BYTES));
    match (answer.ready, answer.reasons.is_empty()) {
        (true, _) => "ready".to_owned(),
        (false, true) => "not ready; the host says why to those that have its secret in SANDHOG_SECRET".to_owned(),
        (false, false) => format!("not ready: {}", reasons.collect::<Vec<_>>().join("; ")),
    }
}
