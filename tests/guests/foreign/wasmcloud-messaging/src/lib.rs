//! `ok`, `error TEXT`, `crash`, `echo` (to queue `out`), `denied` (to queue `elsewhere`), `request` (to queue `out`), or `facts`,
//! which fails with everything that it was given.

#[path = "bindings/generated.rs"]
mod bindings;

use bindings::{
    exports::wasmcloud::messaging::handler::{BrokerMessage, Guest},
    wasmcloud::messaging::consumer,
};

struct Component;

bindings::export!(Component with_types_in bindings);

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let body = String::from_utf8_lossy(&message.body).into_owned();
        let to = |subject: &str, body: &str| BrokerMessage {
            subject: subject.to_owned(),
            body: body.as_bytes().to_vec(),
            reply_to: message.reply_to.clone(),
        };
        match body.split_once(' ').unwrap_or((&body, "")) {
            ("ok", _) => Ok(()),
            ("error", text) => Err(text.to_owned()),
            ("crash", _) => panic!("as I was told"),
            ("echo", text) => consumer::publish(&to("out", text)),
            ("denied", _) => consumer::publish(&to("elsewhere", "x")),
            ("request", _) => consumer::request("out", b"x", 1000).map(drop),
            _ => Err(format!("{} {:?}", message.subject, message.reply_to)),
        }
    }
}
