//! The verdict that follows from an error of the engine: how a guest broke, or why the host could not run it.

use std::sync::Arc;

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    GuestPolicy, Verdict,
    frames::frame_name,
    guest_state::GuestState,
    random::RandomUsedUp,
    time_limits::{CpuTimePassed, DeadlinePassed},
};
use sandhog_queue::FailureKind;

/// The most frames of a stack.
const MAX_FRAMES: usize = 32;

/// The engine could not make an instance.
#[derive(Debug, thiserror::Error)]
#[error("no instance could be made")]
pub(crate) struct NotInstantiated;

/// Returns the verdict that an error of the engine means. The order matters: the host's own reasons come before the
/// guest's.
pub(crate) fn verdict(error: &wasmtime::Error, state: &mut GuestState, policy: &GuestPolicy) -> Verdict {
    let frames = error.downcast_ref::<WasmBacktrace>().and_then(frames).map(Arc::from);
    if error.is::<PoolConcurrencyLimitError>() {
        return Verdict::NotRun("no instance is free".to_owned());
    }
    if let Some((kind, reason)) = used_up(error, state, policy) {
        // A guest that is interrupted does not break: what it has printed is no reason.
        let crash = if kind == FailureKind::Timeout {
            state.crash.report.take()
        } else {
            state.take_crash()
        };
        return match crash {
            Some(crash) => {
                let reason = format!("{reason}; it reported: {}", crash.reason);
                Verdict::failed(kind, reason, crash.stack_or(frames))
            }
            None => Verdict::failed(kind, reason, frames),
        };
    }
    // With frames of the guest it was its start function that broke, also where the host refused it something.
    let is_exit = error.is::<I32Exit>();
    if error.is::<NotInstantiated>() && !error.is::<Trap>() && !is_exit && frames.is_none() {
        return Verdict::NotRun(format!("no instance could be made: {}", error.root_cause()));
    }
    let reason = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("the handler exited with code {}", exit.0)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        format!("the handler trapped: {}", plain(*trap))
    } else {
        // The host refused the guest something, and that is the reason.
        let reason = format!("the handler broke: {}", error.root_cause());
        return Verdict::failed(FailureKind::Trap, reason, frames);
    };
    if let Some(crash) = state.take_crash() {
        return crash.verdict(frames);
    }
    // It may say something about the reason.
    let last_line = state.stderr().last_line();
    let reason = last_line.map_or_else(|| reason.clone(), |line| format!("{reason}: {line}"));
    Verdict::failed(FailureKind::Trap, reason, frames)
}

/// Returns what a trap is called, for somebody who has not heard of WebAssembly.
fn plain(trap: Trap) -> String {
    if trap == Trap::UnreachableCodeReached {
        return "it aborted (`unreachable`)".to_owned();
    }
    trap.to_string().trim_start_matches("wasm trap: ").to_owned()
}

/// Returns the limit of the policy that the guest has used up, if that is what the error means.
fn used_up(error: &wasmtime::Error, state: &GuestState, policy: &GuestPolicy) -> Option<(FailureKind, String)> {
    let limits = &policy.limits;
    if error.is::<DeadlinePassed>() {
        let reason = format!("the handler did not answer within its timeout of {:?}", policy.timeout);
        return Some((FailureKind::Timeout, reason));
    }
    if error.is::<CpuTimePassed>() {
        let limit = limits.cpu_time;
        let reason = format!("the handler used up its processor time of {limit:?} (limits.cpu-time)");
        return Some((FailureKind::Timeout, reason));
    }
    if error.is::<RandomUsedUp>() {
        let limit = limits.random_bytes;
        let reason = format!("the handler drew more than its limit of {limit} random bytes (limits.random-bytes)");
        return Some((FailureKind::Trap, reason));
    }
    if state.memory.refused {
        let limit = limits.memory;
        let reason = format!("the handler needs more than its limit of {limit} bytes of memory (or of table elements)");
        return Some((FailureKind::Memory, reason));
    }
    // The engine has no type for the limits that `MemoryAccount` gives it as numbers.
    if error.root_cause().to_string().starts_with("resource limit exceeded") {
        let limit = limits.instances;
        let reason =
            format!("the handler needs more than its limit of {limit} instances (or as many memories or tables)");
        return Some((FailureKind::Memory, reason));
    }
    None
}

/// Returns the frames of a backtrace, innermost first; `None` if no name says more than that there are frames. The names are the
/// guest's own: they are cut, escaped, and never demangled, since a short mangled name can stand for gigabytes.
fn frames(trace: &WasmBacktrace) -> Option<String> {
    let names: Vec<_> = trace.frames().iter().take(MAX_FRAMES).map(frame_name).collect();
    (!names.is_empty()).then(|| names.join("\n"))
}
