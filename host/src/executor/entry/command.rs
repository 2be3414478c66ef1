//! Programs: the body on standard input, the rest of the message in the environment, the verdict in the exit code.
//!
//! The codes are those of `sysexits.h`: a program that crashes in the way of its language ends with 1, 2 or 255, so only
//! codes that nothing ends with by accident mean more than a failure.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmtime::{Store, component::Instance};
pub(in crate::executor) use wasmtime_wasi::p2::bindings::exports::wasi::cli::run::GuestIndices;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder, p2::pipe::MemoryInputPipe};

use crate::{
    executor::{
        CallMessage, Policy, Verdict,
        instance::GuestState,
        output::GuestOutput,
        policy::{ExitCodes, Limits},
    },
    message::{AttributeValue, Outgoing, QueueName},
    queue::FailureKind,
};

/// `EX_TEMPFAIL`: another time may do.
const TRY_LATER: i32 = 75;
/// `EX_DATAERR`: the message is bad and stays bad.
const BAD_DATA: i32 = 65;
/// How the names of all variables begin that a program finds its message in.
pub(in crate::executor) const VARIABLES: &str = "SANDHOG_";
/// What a program is called, as its first argument.
const PROGRAM: &str = "handler";

/// What is remembered of a program's output.
pub(in crate::executor) struct Console {
    stderr: GuestOutput,
    /// Where the lines of standard output go, if not to the log.
    stdout: Option<(QueueName, GuestOutput)>,
}

impl Console {
    /// Gives a program its message, and keeps hold of what it prints.
    pub(in crate::executor) fn new(
        wasi: &mut WasiCtxBuilder,
        call: &CallMessage,
        policy: &Policy,
        stderr: &GuestOutput,
    ) -> Self {
        wasi.arg(PROGRAM).args(&policy.grants.args);
        wasi.stdin(MemoryInputPipe::new(call.message.body.clone()));
        for (name, value) in environment(call) {
            wasi.env(name, value);
        }
        let stdout = policy.grants.stdout.as_ref().map(|queue| {
            let lines = collected(&policy.limits);
            wasi.stdout(lines.clone());
            (queue.clone(), lines)
        });
        Self {
            stderr: stderr.clone(),
            stdout,
        }
    }

    /// The last line of standard error that is not blank.
    pub(in crate::executor) fn last_line(&self) -> Option<String> {
        self.stderr.last_line()
    }

    /// The messages that a program printed, or why they can't be sent.
    fn messages(&self) -> Option<Result<(&QueueName, Vec<Outgoing>), String>> {
        let (queue, lines) = self.stdout.as_ref()?;
        let lines = lines.take_collected();
        Some(lines.map(|lines| (queue, lines.into_iter().map(Outgoing::new).collect())))
    }
}

fn collected(limits: &Limits) -> GuestOutput {
    GuestOutput::collecting(limits.sends, limits.send_bytes)
}

/// Nothing that the C library of a guest could not hold: no NUL, and text only.
fn environment(call: &CallMessage) -> Vec<(String, String)> {
    let message = &call.message;
    let mut variables = vec![
        ("SANDHOG_MESSAGE_ID".to_owned(), message.id.as_str().to_owned()),
        ("SANDHOG_QUEUE".to_owned(), call.queue.as_str().to_owned()),
        ("SANDHOG_RECEIVE_COUNT".to_owned(), call.receive_count.to_string()),
        ("SANDHOG_SENT_AT_MS".to_owned(), message.sent_at_ms.to_string()),
    ];
    if let Some(group) = &message.group_id {
        variables.push(("SANDHOG_GROUP_ID".to_owned(), group.clone()));
    }
    for (name, value) in message.attributes.pairs() {
        let value = match value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => text.clone(),
            AttributeValue::Binary(bytes) => STANDARD.encode(bytes),
        };
        let name = format!("{VARIABLES}ATTR_{}", variable(name));
        // Of two attributes that differ in nothing a variable can show, the first.
        if variables.iter().all(|(earlier, _)| *earlier != name) {
            variables.push((name, value));
        }
    }
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

/// As the names of variables are written: in capitals, and everything but letters and digits an underscore.
fn variable(attribute: &str) -> String {
    attribute
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

pub(super) async fn run(
    indices: &GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
) -> wasmtime::Result<Verdict> {
    let program = indices.load(&mut *store, instance)?;
    let code = match program.call_run(&mut *store).await {
        Ok(Ok(())) => 0,
        // A component has no other way to say it.
        Ok(Err(())) => 1,
        Err(error) => error.downcast::<I32Exit>()?.0,
    };
    let state = store.data_mut();
    let Some(console) = &state.console else {
        return Err(wasmtime::Error::msg("a program was started without a message"));
    };
    if let Some(failed) = failure(code, &state.policy.grants.exit_codes, || console.last_line()) {
        return Ok(failed);
    }
    let sent = match console.messages() {
        None => Ok(()),
        Some(Ok((queue, messages))) => state
            .sends
            .add(queue.as_str(), messages)
            .map_err(|error| format!("{error:?}")),
        Some(Err(reason)) => Err(reason),
    };
    Ok(match sent {
        Ok(()) => Verdict::Success,
        Err(reason) => Verdict::failed(
            FailureKind::WrongAnswer,
            format!("its output can't be sent: {reason}"),
            None,
        ),
    })
}

/// What an exit code means, as the manifest says or as it does for every program; `None` for success.
fn failure(code: i32, codes: &ExitCodes, last_line: impl FnOnce() -> Option<String>) -> Option<Verdict> {
    let is_in = |codes: &BTreeSet<u8>| u8::try_from(code).is_ok_and(|code| codes.contains(&code));
    let is_named = is_in(&codes.success) || is_in(&codes.reject) || is_in(&codes.retry);
    let means = |named: &BTreeSet<u8>, usual: i32| is_in(named) || (!is_named && code == usual);
    if means(&codes.success, 0) {
        return None;
    }
    let (kind, said) = if means(&codes.reject, BAD_DATA) {
        (FailureKind::Reject, "the program rejected the message")
    } else if means(&codes.retry, TRY_LATER) {
        (FailureKind::Retry, "the program asked for another attempt")
    } else {
        let reason = match last_line() {
            Some(line) => format!("the program exited with code {code}: {line}"),
            None => format!("the program exited with code {code}"),
        };
        return Some(Verdict::failed(FailureKind::Trap, reason, None));
    };
    let reason = last_line().unwrap_or_else(|| format!("{said} (exit code {code})"));
    Some(Verdict::failed(kind, reason, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_the_name_of_a_variable() {
        assert_eq!(variable("content-type"), "CONTENT_TYPE");
        assert_eq!(variable("größe 1"), "GR__E_1");
    }

    #[test]
    fn an_exit_code_that_is_no_accident_is_a_verdict() {
        let kind = |code| match failure(code, &ExitCodes::default(), || Some("why".to_owned())) {
            Some(Verdict::Failed(failure)) => (failure.kind, failure.reason),
            Some(Verdict::Success | Verdict::NotRun(_)) | None => panic!("{code}"),
        };
        assert_eq!(kind(75), (FailureKind::Retry, "why".to_owned()));
        assert_eq!(kind(65), (FailureKind::Reject, "why".to_owned()));
        for code in [1, 2, 101, 127, 255] {
            let reason = format!("the program exited with code {code}: why");
            assert_eq!(kind(code), (FailureKind::Trap, reason));
        }
    }

    #[test]
    fn an_exit_code_means_what_the_manifest_says() {
        let codes = ExitCodes {
            success: [10, 20].into(),
            reject: [1, 75].into(),
            retry: [0, 2].into(),
        };
        let kind = |code| match failure(code, &codes, || None) {
            Some(Verdict::Failed(failure)) => Some(failure.kind),
            Some(Verdict::Success | Verdict::NotRun(_)) => panic!("{code}"),
            None => None,
        };
        // A solver that says 10 for "satisfiable" was a crash, and its output was dropped.
        for code in [10, 20] {
            assert_eq!(kind(code), None, "{code}");
        }
        for (code, expected) in [
            (0, FailureKind::Retry),
            (1, FailureKind::Reject),
            (2, FailureKind::Retry),
            (65, FailureKind::Reject),
            (75, FailureKind::Reject),
            (101, FailureKind::Trap),
            (266, FailureKind::Trap),
        ] {
            assert_eq!(kind(code), Some(expected), "{code}");
        }
    }
}
