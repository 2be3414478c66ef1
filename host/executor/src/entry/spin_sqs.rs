//! The SQS trigger of Spin: `handle-queue-message` of `fermyon:spin-sqs@2` and, asynchronous, of `spin:sqs@3`. The two have the
//! same types; the engine compares types by their structure.

use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, ComponentType, Instance, Lift, Lower, TypedFunc},
};

use crate::{CallMessage, Flavour, Verdict, guest_state::GuestState};
use sandhog_queue::{FailureKind, message::AttributeValue};

/// The names of the kinds of attributes, which are those of SQS.
const TEXT: &str = "String";
const NUMBER: &str = "Number";
const BINARY: &str = "Binary";
/// The system attributes of SQS that every queue knows.
const RECEIVE_COUNT: &str = "ApproximateReceiveCount";
const SENT_AT: &str = "SentTimestamp";
const GROUP: &str = "MessageGroupId";

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct SqsMessage {
    id: Option<String>,
    #[component(name = "message-attributes")]
    message_attributes: Vec<SqsAttribute>,
    body: Option<String>,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct SqsAttribute {
    name: String,
    #[component(name = "data-type")]
    data_type: Option<String>,
    value: SqsValue,
}

#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum SqsValue {
    #[component(name = "str")]
    Str(String),
    #[component(name = "binary")]
    Binary(Vec<u8>),
}

#[expect(dead_code, reason = "a guest makes the values, by number")]
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Action {
    #[component(name = "delete")]
    Delete,
    #[component(name = "leave")]
    Leave,
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum SqsError {
    #[component(name = "other")]
    Other(String),
}

type HandleQueueMessage = TypedFunc<(SqsMessage,), (Result<Action, SqsError>,)>;

/// Finds the function.
///
/// # Errors
///
/// The component does not export it.
pub(crate) fn export(component: &Component) -> wasmtime::Result<ComponentExportIndex> {
    let (name, _) = Flavour::SpinSqs.export();
    let export = component.get_export_index(None, name);
    export.ok_or_else(|| wasmtime::Error::msg(format!("it does not export the function {name}")))
}

pub(crate) fn load(
    export: ComponentExportIndex,
    store: &mut Store<GuestState>,
    instance: &Instance,
) -> wasmtime::Result<HandleQueueMessage> {
    instance.get_typed_func(store, export)
}

pub(crate) async fn handle(
    export: ComponentExportIndex,
    store: &mut Store<GuestState>,
    instance: &Instance,
    message: CallMessage,
) -> wasmtime::Result<Verdict> {
    let message = match sqs_message(message) {
        Ok(message) => message,
        Err(reason) => return Ok(Verdict::failed(FailureKind::Reject, reason, None)),
    };
    let function = load(export, store, instance)?;
    let (answer,) = function.call_async(&mut *store, (message,)).await?;
    Ok(match answer {
        Ok(Action::Delete) => Verdict::Success,
        Ok(Action::Leave) => Verdict::failed(FailureKind::Retry, "the handler left the message in the queue", None),
        Err(SqsError::Other(reason)) => Verdict::failed(FailureKind::Retry, reason, None),
    })
}

fn sqs_message(call: CallMessage) -> Result<SqsMessage, &'static str> {
    let body = String::from_utf8(call.message.body.into())
        .map_err(|_| "the body is not text (UTF-8), and components of this flavour take nothing else")?;
    let attribute = |(name, value): &(String, AttributeValue)| {
        let (data_type, value) = match value {
            AttributeValue::Text(text) => (TEXT, SqsValue::Str(text.clone())),
            AttributeValue::Number(number) => (NUMBER, SqsValue::Str(number.clone())),
            AttributeValue::Binary(bytes) => (BINARY, SqsValue::Binary(bytes.clone())),
        };
        SqsAttribute {
            name: name.clone(),
            data_type: Some(data_type.to_owned()),
            value,
        }
    };
    let system = |name: &str, value: String| SqsAttribute {
        name: name.to_owned(),
        data_type: Some(NUMBER.to_owned()),
        value: SqsValue::Str(value),
    };
    // A sender must not be able to imitate the attributes of the queue.
    let pairs = call.message.attributes.pairs().iter();
    let sent = pairs.filter(|(name, _)| ![RECEIVE_COUNT, SENT_AT, GROUP].contains(&name.as_str()));
    let mut attributes: Vec<_> = sent.map(attribute).collect();
    attributes.push(system(RECEIVE_COUNT, call.receive_count.to_string()));
    attributes.push(system(SENT_AT, call.message.sent_at_ms.to_string()));
    attributes.extend(call.message.group_id.map(|group| SqsAttribute {
        name: GROUP.to_owned(),
        data_type: Some(TEXT.to_owned()),
        value: SqsValue::Str(group),
    }));
    Ok(SqsMessage {
        id: Some(call.message.id.as_str().to_owned()),
        message_attributes: attributes,
        body: Some(body),
    })
}
