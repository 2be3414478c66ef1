//! Why a guest broke, in its own words: cut, escaped, and with real ends of lines.

use std::sync::Arc;

use crate::Verdict;
use sandhog_queue::{
    FailureKind,
    printable::{MAX_REASON_BYTES, printable_lines},
};

/// The reason and the stack of a guest that breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CrashReport {
    /// Never blank.
    pub(crate) reason: String,
    /// Empty if the guest gave none.
    stack: Arc<str>,
}

impl CrashReport {
    /// Makes a report of texts of any size; `None` if the reason is blank.
    pub(crate) fn new(reason: &str, stack: &str, stack_bytes: usize) -> Option<Self> {
        let reason = bounded(reason.trim_start(), MAX_REASON_BYTES);
        (!reason.is_empty()).then(|| Self {
            reason,
            stack: bounded(stack, stack_bytes).into(),
        })
    }

    /// Returns the stack, or else that of the engine.
    pub(crate) fn stack_or(&self, frames: Option<Arc<str>>) -> Option<Arc<str>> {
        let told = Some(&self.stack).filter(|stack| !stack.is_empty());
        told.cloned().or(frames)
    }

    /// Returns the verdict of a call that broke for this reason. `frames` is the stack as the engine sees it.
    pub(crate) fn verdict(&self, frames: Option<Arc<str>>) -> Verdict {
        Verdict::failed(FailureKind::Trap, &self.reason, self.stack_or(frames))
    }
}

/// Cuts a text before it is copied. The first line keeps its indentation.
fn bounded(text: &str, max_bytes: usize) -> String {
    let text = text.trim_end().trim_start_matches(['\r', '\n']);
    // Twice the bound is enough to see that there was more: nothing gets shorter but ends of lines of two bytes.
    let end = text.floor_char_boundary(max_bytes.saturating_mul(2).saturating_add(4));
    printable_lines(text.get(..end).unwrap_or(text), max_bytes)
}
