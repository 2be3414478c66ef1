//! Does what each body of a batch says: `reject`, `retry`, or it is sent on.

use sandhog_guest::{Failure, Message, Outgoing, send};

sandhog_guest::batch_handler!(handle_batch);

fn handle_batch(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
    messages.into_iter().map(handle).collect()
}

fn handle(message: Message) -> Result<(), Failure> {
    match message.body.as_slice() {
        b"reject" => Err(Failure::reject("never")),
        b"retry" => Err(Failure::retry("later")),
        _ => Ok(send("out", Outgoing::new(message.body))?),
    }
}
