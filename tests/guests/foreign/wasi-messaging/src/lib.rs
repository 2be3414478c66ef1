//! `ok`, `error TEXT`, `crash`, `echo` (to queue `out`), `denied` (to queue `elsewhere`), `request` (to queue `out`), `flood`
//! (messages that are made and never sent), `hoard` (messages of many empty metadata), `churn` (messages that are made and
//! dropped), or `facts`, which fails with everything that it was given.

#[path = "bindings/generated.rs"]
mod bindings;

use bindings::{
    exports::wasi::messaging::incoming_handler::Guest,
    wasi::messaging::{
        producer, request_reply,
        types::{Client, Error, Message},
    },
};

struct Component;

bindings::export!(Component with_types_in bindings);

impl Guest for Component {
    fn handle(message: Message) -> Result<(), Error> {
        let data = message.data();
        let body = String::from_utf8_lossy(&data).into_owned();
        let client = Client::connect("default")?;
        match body.split_once(' ').unwrap_or((&body, "")) {
            ("ok", _) => Ok(()),
            ("error", text) => Err(Error::Other(text.to_owned())),
            ("crash", _) => panic!("as I was told"),
            ("echo", text) => {
                message.set_data(text.as_bytes());
                message.add_metadata("seen", "yes").unwrap();
                producer::send(&client, "out", message)
            }
            ("denied", _) => producer::send(&client, "elsewhere", Message::new(b"x")),
            ("request", _) => request_reply::request(&client, "out", &message, None).map(drop),
            ("flood", _) => {
                let mut kept = Vec::new();
                loop {
                    kept.push(Message::new(&vec![0; 1024 * 1024]));
                }
            }
            ("hoard", _) => {
                let mut kept = Vec::new();
                loop {
                    let message = Message::new(b"");
                    message
                        .set_metadata(&vec![(String::new(), String::new()); 1000])
                        .unwrap();
                    kept.push(message);
                }
            }
            ("churn", _) => {
                for _ in 0..16 {
                    drop(Message::new(&vec![0; 1024 * 1024]));
                }
                Ok(())
            }
            _ => Err(Error::Other(format!(
                "{:?} {:?} {:?}",
                message.topic(),
                message.content_type(),
                message.metadata()
            ))),
        }
    }
}
