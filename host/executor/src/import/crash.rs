//! `sandhog:worker/crash`: what a guest says about why it is about to break.
//!
//! The interface has no grant, and every flavour may import it. The note is bounded, however much a guest says, and it belongs
//! to one call.

use wasmtime::component::{Linker, WasmStr};

use crate::{crash_report::CrashReport, policy::Limits};

const NAME: &str = "sandhog:worker/crash@0.1.0";

/// The last report of a call, and the bound of its stack.
pub(crate) struct CrashNote {
    stack_bytes: usize,
    pub(crate) report: Option<CrashReport>,
}

impl CrashNote {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            stack_bytes: usize::try_from(limits.log_line_bytes).unwrap_or(usize::MAX),
            report: None,
        }
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
            let report = CrashReport::new(&reason.to_str(&store)?, &stack.to_str(&store)?, stack_bytes);
            note(store.data_mut()).report = report;
            Ok(())
        })?;
    Ok(())
}
