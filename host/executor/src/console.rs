//! A program's view of its message: the body on standard input, the rest in the environment.
//!
//! The console also remembers the lines of standard output if the manifest sends them to a queue.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmtime_wasi::{WasiCtxBuilder, p2::pipe::MemoryInputPipe};

use super::{CallMessage, GuestPolicy, output::GuestOutput};
use sandhog_queue::message::{AttributeValue, Outgoing, QueueName};

/// The prefix of every environment variable that describes the message.
pub(crate) const VARIABLE_PREFIX: &str = "SANDHOG_";
/// The program's name, which is its first argument.
const PROGRAM: &str = "handler";

/// The standard streams of a program that has a message.
pub(crate) struct Console {
    /// The queue that the lines of standard output are sent to, and the lines; `None` if they go to the log.
    stdout: Option<(QueueName, GuestOutput)>,
}

impl Console {
    /// Writes the message into the program's arguments, environment and standard input, and collects its output.
    pub(crate) fn new(wasi: &mut WasiCtxBuilder, call: &CallMessage, policy: &GuestPolicy) -> Self {
        wasi.arg(PROGRAM).args(&policy.grants.args);
        wasi.stdin(MemoryInputPipe::new(call.message.body.clone()));
        for (name, value) in environment(call) {
            wasi.env(name, value);
        }
        let stdout = policy.grants.stdout.as_ref().map(|queue| {
            let lines = GuestOutput::collecting(policy.limits.sends, policy.limits.send_bytes);
            wasi.stdout(lines.clone());
            (queue.clone(), lines)
        });
        Self { stdout }
    }

    /// Returns the queue that standard output is sent to, with one message for each printed line. `None` if standard output
    /// goes to the log.
    ///
    /// # Errors
    ///
    /// The program printed more than it may send.
    pub(crate) fn printed_messages(&self) -> Option<Result<(&QueueName, Vec<Outgoing>), String>> {
        let (queue, lines) = self.stdout.as_ref()?;
        let lines = lines.take_collected();
        Some(lines.map(|lines| (queue, lines.into_iter().map(Outgoing::new).collect())))
    }
}

/// Returns the variables that describe the message. A value with a NUL is left out: the C library of a guest could not hold
/// it.
fn environment(call: &CallMessage) -> Vec<(String, String)> {
    let message = &call.message;
    let mut variables = vec![
        ("SANDHOG_MESSAGE_ID".to_owned(), message.id.as_str().to_owned()),
        ("SANDHOG_QUEUE".to_owned(), call.queue.as_str().to_owned()),
        ("SANDHOG_RECEIVE_COUNT".to_owned(), call.receive_count.to_string()),
        ("SANDHOG_SENT_AT_MS".to_owned(), message.sent_at_ms.to_string()),
    ];
    if let Some(group) = &message.group_id {
        variables.push(("SANDHOG_GROUP_ID".to_owned(), group.clone()));
    }
    for (name, value) in message.attributes.pairs() {
        let value = match value {
            AttributeValue::Text(text) | AttributeValue::Number(text) => text.clone(),
            AttributeValue::Binary(bytes) => STANDARD.encode(bytes),
        };
        let name = format!("{VARIABLE_PREFIX}ATTR_{}", variable_name(name));
        // Two attributes can come to the same name of a variable. The first one wins.
        if variables.iter().all(|(earlier, _)| *earlier != name) {
            variables.push((name, value));
        }
    }
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

/// Writes an attribute's name as variables are written: in capitals, with an underscore for everything but letters and
/// digits.
fn variable_name(attribute: &str) -> String {
    attribute
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_the_name_of_a_variable() {
        assert_eq!(variable_name("content-type"), "CONTENT_TYPE");
        assert_eq!(variable_name("größe 1"), "GR__E_1");
    }
}
