//! The list of what a guest may link: WASI 0.2 with nothing behind it, and the host's own interfaces.

use wasmtime::{
    Engine,
    component::{HasSelf, Linker},
};

use super::{bindings, instance::GuestState};

pub(super) mod sender;

/// A linker with every import that the host offers. What an import reaches is decided per store.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker: Linker<GuestState> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    bindings::worker::sandhog::worker::sender::add_to_linker::<_, HasSelf<sender::Sends>>(&mut linker, |state| {
        &mut state.sends
    })?;
    Ok(linker)
}
