//! The names of the functions on a guest's stack. They are the guest's own.

use sandhog_queue::printable::printable;

/// The most bytes of the name of a function or a module.
const MAX_NAME_BYTES: usize = 128;

/// Returns the name of a frame's function, cut and escaped, or else its number.
pub(crate) fn frame_name(frame: &wasmtime::FrameInfo) -> String {
    match (frame.func_name(), frame.module().name()) {
        (Some(name), _) => printable(name, MAX_NAME_BYTES),
        (None, Some(module)) => format!("{}!function {}", printable(module, MAX_NAME_BYTES), frame.func_index()),
        (None, None) => format!("function {}", frame.func_index()),
    }
}
