//! One entry of the journal: how an attempt came out for one message. Plain data, as the listener shows it.

use std::{borrow::Cow, collections::VecDeque};

use sandhog_queue::{Effects, printable::printable_lines};

/// The most sends that an entry names.
const MAX_SENDS: usize = 100;
/// The most lines that an entry keeps of what the guest printed: the last ones.
const MAX_LINES: usize = 100;
/// The most bytes of these lines together; a longer one is cut.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// The most bytes that an entry keeps of a stack.
const MAX_STACK_BYTES: usize = 8 * 1024;

/// How an attempt came out for one message.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JournalEntry {
    /// The number of the entry. A later one has a higher number, also after the host was started again.
    pub attempt: u64,
    /// The name of the handler.
    pub handler: String,
    /// The number of the version that ran.
    pub version: u64,
    /// The queue that the message came from.
    pub queue: String,
    /// The id of the message.
    pub message: String,
    /// How often the message had been received, this time included.
    pub receive_count: u32,
    /// How many messages the call was for.
    pub batch: usize,
    /// The word for the outcome: success, already-handled, retry, reject, trap, timeout, memory, wrong-answer, conflict, host-fault,
    /// interrupted or lease-lost.
    #[schema(value_type = String)]
    pub outcome: Cow<'static, str>,
    /// The version before was asked for a second opinion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disputed: bool,
    /// What became of the delivery: delete, retry, dead-letter or release. Nothing if the lease was lost, or goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub settlement: Option<Cow<'static, str>>,
    /// The wait before the message comes back, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// Why the message was not handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stack of a guest that broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// When the message was first sent: milliseconds since 1970-01-01T00:00:00Z.
    pub sent_at_ms: u64,
    /// When the attempt began: milliseconds since 1970-01-01T00:00:00Z.
    pub began_at_ms: u64,
    /// How long the guest took, in milliseconds.
    pub duration_ms: f64,
    /// The processor time of the call, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
    /// The most bytes that the guest's memories had together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// What the call sent, in order; with the first message of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sends: Vec<JournalSend>,
    /// How many sends are not named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_sends: usize,
    /// The last lines that the guest printed; with the first message of a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<JournalLine>,
    /// How many earlier lines are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier_lines: usize,
}

/// A message that an attempt sent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JournalSend {
    /// The destination.
    pub queue: String,
    /// The id of the message. With a deduplication id the queue may have kept an earlier message in its place.
    pub message: String,
    /// The bytes of its body.
    pub bytes: usize,
    /// Its deduplication id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication_id: Option<String>,
}

/// A line that a guest printed, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JournalLine {
    /// Where it was printed: stdout, stderr or log.
    pub stream: String,
    /// The text.
    pub text: String,
}

/// The last lines that the guest of one call printed.
#[derive(Debug, Default)]
pub(crate) struct PrintedLines {
    lines: VecDeque<JournalLine>,
    bytes: usize,
    earlier: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl JournalEntry {
    /// Returns roughly how many bytes of memory the entry takes.
    pub(crate) fn size(&self) -> usize {
        const SEND_BYTES: usize = 128;
        let texts = [&self.handler, &self.queue, &self.message];
        let some = [&self.reason, &self.stack];
        let lines: usize = self.log.iter().map(|line| line.text.len() + 64).sum();
        size_of::<Self>()
            + texts.into_iter().map(String::len).sum::<usize>()
            + some.into_iter().flatten().map(String::len).sum::<usize>()
            + self.sends.len() * SEND_BYTES
            + lines
    }

    /// Whether the message was handled, now or before.
    pub fn is_handled(&self) -> bool {
        matches!(&*self.outcome, "success" | "already-handled")
    }

    /// Takes what the call sent and printed.
    pub(crate) fn with_call(mut self, sends: Vec<JournalSend>, printed: PrintedLines) -> Self {
        self.more_sends = sends.len().saturating_sub(MAX_SENDS);
        self.sends = sends;
        self.sends.truncate(MAX_SENDS);
        self.earlier_lines = printed.earlier;
        self.log = printed.lines.into();
        self
    }
}

impl JournalSend {
    /// Returns the sends of effects that the store commits, with the ids that it gives them.
    pub(crate) fn of(effects: &Effects) -> Vec<Self> {
        let ids = effects.origin.as_ref().map(|origin| origin.ids);
        let sends = effects.sends.iter().enumerate();
        sends
            .map(|(index, send)| Self {
                queue: send.queue.as_str().to_owned(),
                message: ids.map_or_else(String::new, |ids| ids.id(index).as_str().to_owned()),
                bytes: send.message.body.len(),
                deduplication_id: send.message.deduplication_id.clone(),
            })
            .collect()
    }
}

impl PrintedLines {
    /// Adds a line, and forgets the first ones if there are too many.
    pub(crate) fn add(&mut self, stream: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(MAX_LINE_BYTES)];
        self.bytes += text.len();
        self.lines.push_back(JournalLine {
            stream: stream.to_owned(),
            text: text.to_owned(),
        });
        while self.lines.len() > 1 && (self.lines.len() > MAX_LINES || self.bytes > MAX_LINE_BYTES) {
            if let Some(first) = self.lines.pop_front() {
                self.bytes -= first.text.len();
                self.earlier += 1;
            }
        }
    }
}

/// Returns a stack that is short enough for an entry.
pub(crate) fn short_stack(stack: &str) -> String {
    printable_lines(stack, MAX_STACK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_guest_that_prints_much_the_last_lines_are_kept_and_the_others_counted() {
        let mut printed = PrintedLines::default();
        for number in 0..250 {
            printed.add("stdout", &number.to_string());
        }
        assert_eq!((printed.lines.len(), printed.earlier), (MAX_LINES, 150));
        assert_eq!(printed.lines.back().unwrap().text, "249");
        printed.add("stderr", &"x".repeat(2 * MAX_LINE_BYTES));
        assert_eq!((printed.lines.len(), printed.earlier), (1, 250));
        assert_eq!(printed.lines[0].text.len(), MAX_LINE_BYTES);
    }
}
