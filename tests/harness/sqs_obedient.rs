//! Hosts on SQS whose handler does what its messages say.

use std::ops::Range;

use crate::{
    guests::obedient,
    host::{Host, Place},
    sqs_host::Stage,
};

/// On SQS the shortest retry delay but none is a second.
pub const GRANT: &str = "[grant]\nsend = [\"out\"]\n[retry]\nmin = \"1ms\"\nmax = \"10ms\"\n";
/// A visibility timeout that does not end during a test.
pub const NEVER: [(&str, &str); 1] = [("VisibilityTimeout", "600")];

pub fn visibility(seconds: &str) -> [(&str, &str); 1] {
    [("VisibilityTimeout", seconds)]
}

/// A place whose handler `in` does what its messages say, and sends to the queue `out`.
pub fn obeying(stage: &Stage, manifest: &str) -> Place {
    let place = stage.place();
    place.install("in", &obedient("out"), &format!("{manifest}{GRANT}"));
    place
}

/// Starts a host whose handler does what its messages say, and waits until it is ready.
pub fn begin(stage: &Stage, manifest: &str) -> (Place, Host) {
    let place = obeying(stage, manifest);
    let host = ready(&place);
    (place, host)
}

pub fn ready(place: &Place) -> Host {
    let host = place.start();
    host.wait_ready();
    host
}

pub fn numbered(command: &str, numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{command}-{number:04}")).collect()
}

pub fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort_unstable();
    bodies
}
