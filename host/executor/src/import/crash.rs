//! `sandhog:worker/crash`: what a guest says about why it is about to break.
//!
//! The interface has no grant, and every flavour may import it. The note is bounded, however much a guest says, and it belongs
//! to one call.

use wasmtime::component::{Linker, WasmStr};

use crate::{Verdict, policy::Limits};
use sandhog_queue::{
    FailureKind,
    printable::{MAX_REASON_BYTES, printable_lines},
};

const NAME: &str = "sandhog:worker/crash@0.1.0";

/// The last report of a call, and the bound of its stack.
pub(crate) struct CrashNote {
    stack_bytes: usize,
    report: Option<CrashReport>,
}

/// Why a guest broke, in its own words: cut and escaped, with real ends of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CrashReport {
    pub(crate) reason: String,
    /// The guest's stack, innermost frame first; empty if it gave none.
    pub(crate) stack: String,
}

impl CrashNote {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            stack_bytes: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX),
            report: None,
        }
    }

    /// Returns the last report, unless its reason is blank.
    pub(crate) fn report(&self) -> Option<&CrashReport> {
        self.report.as_ref().filter(|report| !report.reason.is_empty())
    }
}

impl CrashReport {
    /// Returns the verdict of a call that broke for this reason. `frames` is the stack as the engine sees it.
    pub(crate) fn verdict(&self, frames: Option<String>) -> Verdict {
        let told = Some(&self.stack).filter(|stack| !stack.is_empty());
        Verdict::failed(FailureKind::Trap, &self.reason, told.cloned().or(frames))
    }
}

/// Links the interface.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    note: fn(&mut T) -> &mut CrashNote,
) -> wasmtime::Result<()> {
    linker
        .instance(NAME)?
        // The texts are read where they lie in the guest's memory: they can be as large as that.
        .func_wrap("report", move |mut store, (reason, stack): (WasmStr, WasmStr)| {
            let stack_bytes = note(store.data_mut()).stack_bytes;
            let report = CrashReport {
                reason: bounded(&reason.to_str(&store)?, MAX_REASON_BYTES),
                stack: bounded(&stack.to_str(&store)?, stack_bytes),
            };
            note(store.data_mut()).report = Some(report);
            Ok(())
        })?;
    Ok(())
}

/// Cuts a text before it is copied. The first line keeps its indentation.
fn bounded(text: &str, max_bytes: usize) -> String {
    let text = text.trim_end().trim_start_matches(['\r', '\n']);
    // Twice the bound is enough to see that there was more: nothing gets shorter but ends of lines of two bytes.
    let end = text.floor_char_boundary(max_bytes.saturating_mul(2).saturating_add(4));
    printable_lines(text.get(..end).unwrap_or(text), max_bytes)
}
