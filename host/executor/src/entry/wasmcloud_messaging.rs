//! `wasmcloud:messaging/handler@0.2`: a subject, a body, and the queue for a reply.

use wasmtime::{Store, component::Instance};

use crate::{
    CallMessage, Verdict,
    bindings::wasmcloud_messaging::{
        exports::wasmcloud::messaging::handler, wasmcloud::messaging::types::BrokerMessage,
    },
    guest_state::GuestState,
    import::messaging::REPLY_TO,
};
use sandhog_queue::{FailureKind, message::AttributeValue};

pub(crate) async fn handle(
    indices: &handler::GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
    call: CallMessage,
) -> wasmtime::Result<Verdict> {
    let reply_to = match call.message.attributes.get(REPLY_TO) {
        Some(AttributeValue::Text(queue)) => Some(queue.clone()),
        Some(AttributeValue::Number(_) | AttributeValue::Binary(_)) | None => None,
    };
    let message = BrokerMessage {
        subject: call.queue.as_str().to_owned(),
        body: call.message.body.into(),
        reply_to,
    };
    let handler = indices.load(&mut *store, instance)?;
    Ok(match handler.call_handle_message(&mut *store, &message).await? {
        Ok(()) => Verdict::Success,
        Err(reason) => Verdict::failed(FailureKind::Retry, reason, None),
    })
}
