//! Asks the server that its bytes name before it handles a message.

use behaviour::{Behaviour, Dependency, Otherwise, wait};
use sandhog_guest::{Failure, Message, http};

sandhog_guest::handler!(handle);

/// How long it waits before it asks again, in milliseconds.
const AGAIN_AFTER_MS: u64 = 5;

fn handle(message: Message) -> Result<(), Failure> {
    let behaviour = Behaviour::of_this_component();
    if let Some(dependency) = behaviour.dependency() {
        ask(&dependency)?;
    }
    behaviour.handle(&message)
}

fn ask(dependency: &Dependency<'_>) -> Result<(), Failure> {
    loop {
        let answer = http::Request::get(dependency.url).body(()).map(http::send);
        match (answer, &dependency.otherwise) {
            (Ok(Ok(answer)), _) if answer.status().is_success() => return Ok(()),
            (_, Otherwise::Trap) => panic!("the server does not answer with a success"),
            (_, Otherwise::Retry) => return Err(Failure::retry("the server does not answer with a success")),
            (_, Otherwise::Again) => wait(AGAIN_AFTER_MS),
        }
    }
}
