//! A line of standard input as the body of a message, read within the bound of a body.

use std::io::{self, BufRead, Read as _};

use sandhog_queue::message::MAX_BODY_BYTES;

/// A line without its end, LF or CRLF.
#[derive(Debug)]
pub(super) struct BodyLine {
    /// The bytes; of a line that is too long not all of them.
    pub(super) body: Vec<u8>,
    /// The line was read to its end, which the input may lack at its own.
    pub(super) has_end: bool,
}

impl BodyLine {
    /// Reads the next line; `None` at the end of the input. Of a longer line than a body may be, as much is read as shows that.
    ///
    /// # Errors
    ///
    /// The input can't be read.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        // A body, and a line end of two bytes, or one byte and a line end.
        let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX).saturating_add(2);
        let mut body = Vec::new();
        if input.take(limit).read_until(b'\n', &mut body)? == 0 {
            return Ok(None);
        }
        let has_end = body.pop_if(|last| *last == b'\n').is_some();
        if has_end {
            body.pop_if(|last| *last == b'\r');
        }
        Ok(Some(Self { body, has_end }))
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.body.len() > MAX_BODY_BYTES
    }
}
