//! Does what the body says, so that one set of claims can be checked against every language. It has no clock, so `wait` counts.

use std::{hint::black_box, time::Duration};

use sandhog_guest::{AttributeValue, Failure, Level, Message, Outgoing, SendError, log, send, send_many};
use serde_json::json;

sandhog_guest::handler!(handle);

fn handle(message: Message) -> Result<(), Failure> {
    let body = String::from_utf8(message.body.clone()).unwrap_or_default();
    match body.split_once(' ').unwrap_or((&body, "")) {
        ("ok", _) => Ok(()),
        ("retry", why) => Err(Failure::retry(why)),
        ("retry-after", rest) => {
            let (seconds, why) = rest.split_once(' ').unwrap_or((rest, ""));
            let seconds = seconds.parse().map_err(|_| Failure::reject("no number"))?;
            Err(Failure::retry_after(Duration::from_secs(seconds), why))
        }
        ("reject", why) => Err(Failure::reject(why)),
        ("crash", _) => panic!("told to crash"),
        ("wait", milliseconds) => {
            let milliseconds: u64 = milliseconds.parse().map_err(|_| Failure::reject("no number"))?;
            for step in 0..milliseconds * 3_000_000 {
                black_box(step);
            }
            Ok(())
        }
        ("log", text) => {
            log(Level::Info, text);
            Ok(())
        }
        ("echo", _) => {
            let mut outgoing = Outgoing::new(message.body);
            outgoing.attributes = message.attributes;
            outgoing.group_id = message.group_id;
            Ok(send("out", outgoing)?)
        }
        ("send-all", _) => {
            let one = Outgoing::new("one")
                .attribute("t", "täxt")
                .attribute("n", AttributeValue::number("-12.50"))
                .attribute("b", AttributeValue::Binary(vec![0, 255]));
            let two = Outgoing::new("two").delay(Duration::from_secs(1)).priority(9);
            let three = Outgoing::new("three").group("g").deduplication_id("d");
            Ok(send_many("out", [one, two, three])?)
        }
        ("facts", _) => {
            let facts = json!({
                "id": message.id,
                "queue": message.queue,
                "receive-count": message.receive_count,
                "group": message.group_id,
                "length": message.body.len(),
            });
            Ok(send("out", Outgoing::json(&facts)?)?)
        }
        ("denied", _) => match send("elsewhere", Outgoing::new("x")) {
            Err(SendError::NotGranted(_)) => Err(Failure::reject("not-granted")),
            other => Ok(other?),
        },
        _ => Ok(send("out", Outgoing::new(message.body.len().to_string()))?),
    }
}
