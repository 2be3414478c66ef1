//! Does what its bytes say with each message of a batch.

use behaviour::Behaviour;
use sandhog_guest::{Failure, Message};

sandhog_guest::batch_handler!(handle);

fn handle(messages: Vec<Message>) -> Vec<Result<(), Failure>> {
    let behaviour = Behaviour::of_this_component();
    let mut answers: Vec<_> = messages.iter().map(|message| behaviour.handle(message)).collect();
    if behaviour.is_short() {
        answers.pop();
    }
    answers
}
