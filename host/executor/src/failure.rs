//! The verdict that follows from an error of the engine: how a guest broke, or why the host could not run it.

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    GuestPolicy, Verdict,
    console::Console,
    guest_state::GuestState,
    random::RandomUsedUp,
    time_limits::{CpuTimePassed, DeadlinePassed},
};
use sandhog_queue::{FailureKind, printable::printable};

/// The most frames of a stack.
const MAX_FRAMES: usize = 32;
/// The most bytes of the name of a function in a stack.
const MAX_FUNCTION_NAME_BYTES: usize = 128;

/// The engine could not make an instance.
#[derive(Debug, thiserror::Error)]
#[error("no instance could be made")]
pub(crate) struct NotInstantiated;

/// Returns the verdict that an error of the engine means. The order matters: the host's own reasons come before the
/// guest's.
pub(crate) fn verdict(error: &wasmtime::Error, state: &GuestState, policy: &GuestPolicy) -> Verdict {
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames);
    if error.is::<PoolConcurrencyLimitError>() {
        return Verdict::NotRun("no instance is free".to_owned());
    }
    let report = state.crash.report.as_ref();
    if let Some((kind, reason)) = used_up(error, state, policy) {
        return match report {
            Some(report) => {
                let reason = format!("{reason}; it reported: {}", report.reason);
                Verdict::failed(kind, reason, report.stack_or(frames))
            }
            None => Verdict::failed(kind, reason, frames),
        };
    }
    // With frames of the guest it was its start function that broke, also where the host refused it something.
    if error.is::<NotInstantiated>() && !error.is::<Trap>() && !error.is::<I32Exit>() && frames.is_none() {
        return Verdict::NotRun(format!("no instance could be made: {}", error.root_cause()));
    }
    if let Some(report) = report {
        return report.verdict(frames);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let reason = format!("the handler exited with code {}", exit.0);
        return Verdict::failed(FailureKind::Trap, reason, frames);
    }
    let reason = match error.downcast_ref::<Trap>() {
        Some(trap) => format!("the handler trapped: {trap}"),
        None => format!("the handler broke: {}", error.root_cause()),
    };
    // Programs of many languages print the reason before they trap.
    let last_line = state.console.as_ref().and_then(Console::last_line);
    let reason = last_line.map_or_else(|| reason.clone(), |line| format!("{reason}: {line}"));
    Verdict::failed(FailureKind::Trap, reason, frames)
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

/// Returns the frames of a backtrace, innermost first. The names are the guest's own: they are cut, escaped, and never
/// demangled, since a short mangled name can stand for gigabytes.
fn frames(trace: &WasmBacktrace) -> String {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => printable(name, MAX_FUNCTION_NAME_BYTES),
        None => format!("function {}", frame.func_index()),
    };
    let names: Vec<_> = trace.frames().iter().take(MAX_FRAMES).map(name).collect();
    names.join("\n")
}
