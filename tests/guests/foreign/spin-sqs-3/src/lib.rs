//! `ok`, `leave`, `error TEXT`, `crash`, or `attributes`, which fails with everything that it was given. Every answer waits for
//! its own task first.

#[path = "bindings/generated.rs"]
mod bindings;

use bindings::{Error, Guest, Message, MessageAction};

struct Component;

bindings::export!(Component with_types_in bindings);

impl Guest for Component {
    async fn handle_queue_message(message: Message) -> Result<MessageAction, Error> {
        wit_bindgen::yield_async().await;
        let body = message.body.clone().unwrap_or_default();
        match body.split_once(' ').unwrap_or((&body, "")) {
            ("ok", _) => Ok(MessageAction::Delete),
            ("leave", _) => Ok(MessageAction::Leave),
            ("error", text) => Err(Error::Other(text.to_owned())),
            ("crash", _) => panic!("as I was told"),
            _ => Err(Error::Other(format!(
                "{:?} {:?}",
                message.id, message.message_attributes
            ))),
        }
    }
}
