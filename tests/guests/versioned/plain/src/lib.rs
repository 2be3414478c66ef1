//! Does what its bytes say with each message.

use behaviour::Behaviour;
use sandhog_guest::{Failure, Message};

sandhog_guest::handler!(handle);

fn handle(message: Message) -> Result<(), Failure> {
    Behaviour::of_this_component().handle(&message)
}
