//! `wasi:messaging/incoming-handler@0.2.0-draft`: a message as a resource that the handler owns.

use wasmtime::{Store, component::Instance};

use crate::{
    CallMessage, Verdict,
    bindings::wasi_messaging::{exports::wasi::messaging::incoming_handler, wasi::messaging::types::Error},
    guest_state::GuestState,
    import::messaging::resources::WasiMessage,
};
use sandhog_queue::FailureKind;

pub(crate) async fn handle(
    indices: &incoming_handler::GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
    call: CallMessage,
) -> wasmtime::Result<Verdict> {
    let handler = indices.load(&mut *store, instance)?;
    let state = store.data_mut();
    let mut received = WasiMessage::received(call);
    state.wasi_messages.charge_message(&mut received)?;
    let message = state.table.push(received)?;
    Ok(match handler.call_handle(&mut *store, message).await? {
        Ok(()) => Verdict::Success,
        Err(error) => Verdict::failed(FailureKind::Retry, reason(error), None),
    })
}

fn reason(error: Error) -> String {
    match error {
        Error::Timeout => "the handler reports a timeout".to_owned(),
        Error::Connection(reason) => format!("the handler reports a failed connection: {reason}"),
        Error::PermissionDenied(reason) => format!("the handler reports a denied permission: {reason}"),
        Error::Other(reason) => reason,
    }
}
