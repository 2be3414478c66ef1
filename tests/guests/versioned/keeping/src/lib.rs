//! Counts the messages that it handles in the key-value store, for which it needs a grant.

use behaviour::Behaviour;
use sandhog_guest::{Failure, Message, keyvalue};

sandhog_guest::handler!(handle);

fn handle(message: Message) -> Result<(), Failure> {
    keyvalue::open("default")?.increment("handled", 1)?;
    Behaviour::of_this_component().handle(&message)
}
