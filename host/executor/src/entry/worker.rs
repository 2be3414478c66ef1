//! `sandhog:worker`: the contract that passes on every part of a message.

use std::time::Duration;

use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, Instance, TypedFunc},
};

use crate::{
    CallMessage, Flavour, GuestFailure, Verdict,
    bindings::{
        batch_worker::exports::sandhog::worker::batch_handler,
        worker::{exports::sandhog::worker::handler, sandhog::worker::types},
    },
    guest_state::GuestState,
};
use sandhog_queue::{
    FailureKind,
    message::{AttributeValue, MAX_DELAY},
    printable::{MAX_REASON_BYTES, printable_lines},
};

pub(crate) async fn handle(
    indices: &handler::GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
    message: CallMessage,
) -> wasmtime::Result<Verdict> {
    let handler = indices.load(&mut *store, instance)?;
    let answer = handler.call_handle(&mut *store, &lowered(message)).await?;
    Ok(verdict(answer))
}

type HandleAsync = TypedFunc<(types::Message,), (Result<(), types::Failure>,)>;

/// Finds the asynchronous function.
///
/// # Errors
///
/// The component does not export it.
pub(crate) fn async_export(component: &Component) -> wasmtime::Result<ComponentExportIndex> {
    let (name, version) = Flavour::AsyncHandler.export();
    let interface = component.get_export_index(None, format!("{name}@{version}0"));
    let export = interface.and_then(|interface| component.get_export_index(Some(&interface), "handle"));
    export.ok_or_else(|| wasmtime::Error::msg(format!("it does not export the function handle of {name}")))
}

pub(crate) fn load_async(
    export: ComponentExportIndex,
    store: &mut Store<GuestState>,
    instance: &Instance,
) -> wasmtime::Result<HandleAsync> {
    instance.get_typed_func(store, export)
}

/// What the guest leaves under way is dropped with the engine's store: an asynchronous component is never reused.
pub(crate) async fn handle_async(
    export: ComponentExportIndex,
    store: &mut Store<GuestState>,
    instance: &Instance,
    message: CallMessage,
) -> wasmtime::Result<Verdict> {
    let function = load_async(export, store, instance)?;
    let (answer,) = function.call_async(&mut *store, (lowered(message),)).await?;
    Ok(verdict(answer))
}

pub(crate) async fn handle_batch(
    indices: &batch_handler::GuestIndices,
    store: &mut Store<GuestState>,
    instance: &Instance,
    messages: Vec<CallMessage>,
) -> wasmtime::Result<Vec<Verdict>> {
    let handler = indices.load(&mut *store, instance)?;
    let messages: Vec<_> = messages.into_iter().map(lowered).collect();
    let answers = handler.call_handle_batch(&mut *store, &messages).await?;
    Ok(answers.into_iter().map(verdict).collect())
}

fn lowered(call: CallMessage) -> types::Message {
    let CallMessage {
        message,
        queue,
        receive_count,
    } = call;
    let attributes = message
        .attributes
        .pairs()
        .iter()
        .map(|(name, value)| {
            let value = match value {
                AttributeValue::Text(text) => types::AttributeValue::Text(text.clone()),
                AttributeValue::Number(number) => types::AttributeValue::Number(number.clone()),
                AttributeValue::Binary(bytes) => types::AttributeValue::Binary(bytes.clone()),
            };
            (name.clone(), value)
        })
        .collect();
    types::Message {
        id: message.id.as_str().to_owned(),
        body: message.body.into(),
        attributes,
        queue: queue.as_str().to_owned(),
        receive_count,
        sent_at_ms: message.sent_at_ms,
        group_id: message.group_id,
    }
}

fn verdict(answer: Result<(), types::Failure>) -> Verdict {
    match answer {
        Ok(()) => Verdict::Success,
        Err(types::Failure::Retry(reason)) => Verdict::failed(FailureKind::Retry, reason, None),
        Err(types::Failure::RetryAfter((reason, seconds))) => {
            let asked = Duration::from_secs(seconds.into());
            if asked > MAX_DELAY {
                tracing::warn!(
                    seconds,
                    limit = MAX_DELAY.as_secs(),
                    "retry-after is past the limit, which is used instead"
                );
            }
            let reason = printable_lines(reason.trim_end(), MAX_REASON_BYTES);
            let retry_after = Some(asked.min(MAX_DELAY));
            Verdict::Failed(GuestFailure {
                kind: FailureKind::Retry,
                reason,
                retry_after,
                stack: None,
            })
        }
        Err(types::Failure::Reject(reason)) => Verdict::failed(FailureKind::Reject, reason, None),
    }
}
