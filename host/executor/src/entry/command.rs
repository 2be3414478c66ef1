//! Programs: the body on standard input, the rest of the message in the environment, the verdict in the exit code.
//!
//! The codes are those of `sysexits.h`. A program that crashes in the way of its language ends with 1, 2 or 255, so only codes
//! that no program ends with by accident mean more than a failure.

use std::collections::BTreeSet;

use wasmtime::{Store, component::Instance};
use wasmtime_wasi::I32Exit;
pub(crate) use wasmtime_wasi::p2::bindings::exports::wasi::cli::run::GuestIndices;

use crate::policy::ExitCodes;
use crate::{Verdict, guest_state::GuestState};
use sandhog_queue::FailureKind;

/// `EX_TEMPFAIL`: another attempt may succeed.
const TRY_LATER: i32 = 75;
/// `EX_DATAERR`: the message is bad and stays bad.
const BAD_DATA: i32 = 65;

pub(crate) async fn run(
    indices: &GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
) -> wasmtime::Result<Verdict> {
    let program = indices.load(&mut *store, instance)?;
    let code = match program.call_run(&mut *store).await {
        Ok(Ok(())) => 0,
        // A component has no other code to fail with.
        Ok(Err(())) => 1,
        Err(error) => error.downcast::<I32Exit>()?.0,
    };
    let state = store.data_mut();
    if let Some(kind) = kind(code, &state.policy.grants.exit_codes) {
        let crash = (kind == FailureKind::Trap).then(|| state.take_crash()).flatten();
        return Ok(match crash {
            Some(crash) => crash.verdict(None),
            None => Verdict::failed(kind, reason(code, kind, state.stderr().last_line()), None),
        });
    }
    let console = state.console.as_ref();
    let console = console.expect("the store of a program that is called was made with its message");
    let sent = match console.printed_messages() {
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

/// Returns the failure that an exit code means, by the manifest or else by the usual meaning; `None` for success.
fn kind(code: i32, codes: &ExitCodes) -> Option<FailureKind> {
    let is_in = |codes: &BTreeSet<u8>| u8::try_from(code).is_ok_and(|code| codes.contains(&code));
    let is_named = is_in(&codes.success) || is_in(&codes.reject) || is_in(&codes.retry);
    let means = |named: &BTreeSet<u8>, usual: i32| is_in(named) || (!is_named && code == usual);
    if means(&codes.success, 0) {
        None
    } else if means(&codes.reject, BAD_DATA) {
        Some(FailureKind::Reject)
    } else if means(&codes.retry, TRY_LATER) {
        Some(FailureKind::Retry)
    } else {
        Some(FailureKind::Trap)
    }
}

/// Returns the reason of a failure: what the program said last, if it said anything.
fn reason(code: i32, kind: FailureKind, last_line: Option<String>) -> String {
    if kind == FailureKind::Trap {
        let exited = format!("the program exited with code {code}");
        return last_line.map_or_else(|| exited.clone(), |line| format!("{exited}: {line}"));
    }
    last_line.unwrap_or_else(|| {
        let meaning = if kind == FailureKind::Reject {
            "the program rejected the message"
        } else {
            "the program asked for another attempt"
        };
        format!("{meaning} (exit code {code})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_that_is_no_accident_is_a_verdict() {
        let usual = |code| {
            let kind = kind(code, &ExitCodes::default()).unwrap();
            (kind, reason(code, kind, Some("why".to_owned())))
        };
        assert_eq!(usual(75), (FailureKind::Retry, "why".to_owned()));
        assert_eq!(usual(65), (FailureKind::Reject, "why".to_owned()));
        for code in [1, 2, 101, 127, 255] {
            let reason = format!("the program exited with code {code}: why");
            assert_eq!(usual(code), (FailureKind::Trap, reason));
        }
        assert_eq!(
            reason(75, FailureKind::Retry, None),
            "the program asked for another attempt (exit code 75)"
        );
    }

    #[test]
    fn an_exit_code_means_what_the_manifest_says() {
        let codes = ExitCodes {
            success: [10, 20].into(),
            reject: [1, 75].into(),
            retry: [0, 2].into(),
        };
        let kind = |code| kind(code, &codes);
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
