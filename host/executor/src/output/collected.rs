//! The lines of standard output that are sent to a queue: bounded, and all of them or none.

use bytes::Bytes;

use super::LINE_COST;
use sandhog_queue::message::MAX_BODY_BYTES;

/// What a program has printed, as the bodies of messages.
#[derive(Debug, Default)]
pub(crate) struct CollectedLines {
    unfinished: Vec<u8>,
    collected: Vec<Bytes>,
    lines_left: u64,
    bytes_left: u64,
    /// The reason that no line can be sent.
    overflow: Option<String>,
}

impl CollectedLines {
    pub(crate) fn new(lines: u64, bytes: u64) -> Self {
        Self {
            lines_left: lines,
            bytes_left: bytes,
            ..Self::default()
        }
    }

    /// Takes the lines so far, an unfinished one included.
    ///
    /// # Errors
    ///
    /// There were more lines, or longer ones, than may be collected.
    pub(crate) fn take(&mut self) -> Result<Vec<Bytes>, String> {
        if !self.unfinished.is_empty() {
            self.end_line();
        }
        match self.overflow.take() {
            Some(overflow) => Err(overflow),
            None => Ok(std::mem::take(&mut self.collected)),
        }
    }

    /// Takes what the program writes in one go.
    ///
    /// # Errors
    ///
    /// The program has printed more than it may send.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            let text = line.unwrap_or(part);
            // One byte more than the limit shows that there was more.
            let room = (MAX_BODY_BYTES + 1).saturating_sub(self.unfinished.len());
            self.unfinished.extend_from_slice(text.get(..room).unwrap_or(text));
            if line.is_some() || self.unfinished.len() > MAX_BODY_BYTES {
                self.end_line();
            }
        }
        self.overflow.clone().map_or(Ok(()), Err)
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.unfinished);
        if line.ends_with(b"\r") {
            line.pop();
        }
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(LINE_COST);
        let lines_left = self.lines_left.checked_sub(1);
        let bytes_left = self.bytes_left.checked_sub(bytes);
        if line.len() > MAX_BODY_BYTES {
            self.overflow = Some(format!("a line has more than the {MAX_BODY_BYTES} bytes of a message"));
        } else if let (Some(lines_left), Some(bytes_left)) = (lines_left, bytes_left) {
            self.lines_left = lines_left;
            self.bytes_left = bytes_left;
            self.collected.push(line.into());
        } else {
            let limit = lines_left.map_or("limits.sends", |_| "limits.send-bytes");
            self.overflow = Some(format!("the program printed more than it may send ({limit})"));
        }
        if self.overflow.is_some() {
            self.collected.clear();
        }
    }
}
