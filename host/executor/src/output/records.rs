//! Splits what a guest writes to one of its streams into the records of the log: one for each event, rather than one for each
//! line.
//!
//! - On standard output a record is a line, with the indented lines that come in the same write. Standard output is buffered
//!   in most languages, so one write can bring many events.
//! - On standard error a record is what one write brings, or the writes up to the next end of a line: standard error is
//!   buffered in none. A dump is one record from its first line on, in however many writes it comes.
//!
//! Lines that may go on are held: for a while, or until the guest is done. A record has a bound, and a longer one is continued
//! in the next. Blank lines before and after a record, and advice of toolchains, are left out.

use std::{borrow::Cow, mem};

use crate::{
    crash_report::CrashReport,
    crash_text::{begins_dump, is_advice, read_dump, says_nothing},
};
use sandhog_queue::printable::{MAX_REASON_BYTES, printable_lines};

/// The most bytes of the last line that are kept: more than a reason may have.
const MAX_LAST_BYTES: usize = 2 * MAX_REASON_BYTES;

/// Which lines make a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordRule {
    /// A line, and indented ones behind it.
    Lines,
    /// A write, and a dump.
    Writes,
}

/// One stream of a guest, on its way to the log.
#[derive(Debug)]
pub(crate) struct RecordSplitter {
    rule: RecordRule,
    /// The most bytes of a line and of a record.
    max_bytes: usize,
    /// The line that has not ended.
    unfinished: Vec<u8>,
    /// The lines of the next record, with line ends between them.
    held: Vec<u8>,
    /// The bytes that they have in the log, where one byte can become six; 0 if nobody has counted.
    held_size: usize,
    dump: Dump,
    /// The last line that says something, of those that are no longer held.
    last: String,
}

/// What is known of a dump.
#[derive(Debug, Default)]
enum Dump {
    /// There is none.
    #[default]
    None,
    /// The lines that are held are a dump.
    Held,
    /// The dump was too long, or was held for too long: this is its beginning, which is in the log. More of it may come if
    /// `goes_on`.
    Logged { beginning: String, goes_on: bool },
}

impl RecordSplitter {
    pub(crate) fn new(rule: RecordRule, max_bytes: usize) -> Self {
        Self {
            rule,
            max_bytes,
            unfinished: Vec::new(),
            held: Vec::new(),
            held_size: 0,
            dump: Dump::None,
            last: String::new(),
        }
    }

    /// Takes what the guest writes in one go.
    pub(crate) fn write(&mut self, bytes: &[u8], log: &mut dyn FnMut(&str)) {
        if matches!(self.dump, Dump::Logged { goes_on: false, .. }) {
            self.dump = Dump::None;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            self.keep(line.unwrap_or(part));
            if line.is_some() {
                self.end_line(log);
            }
        }
        let may_go_on = match self.rule {
            RecordRule::Lines => false,
            RecordRule::Writes => !self.unfinished.is_empty() || !matches!(self.dump, Dump::None),
        };
        if !may_go_on {
            self.log_held(log);
        }
    }

    /// Returns whether lines are held that could be in the log.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Logs the lines that are held, and not an unfinished one.
    pub(crate) fn let_go(&mut self, log: &mut dyn FnMut(&str)) {
        self.log_held(log);
        if let Dump::Logged { goes_on, .. } = &mut self.dump {
            *goes_on = false;
        }
    }

    /// Logs everything, an unfinished line too. A dump that comes later is another one.
    pub(crate) fn end(&mut self, log: &mut dyn FnMut(&str)) {
        if !self.unfinished.is_empty() {
            self.end_line(log);
        }
        self.log_held(log);
        self.dump = Dump::None;
    }

    /// Forgets what earlier calls of the instance have left.
    pub(crate) fn begin_call(&mut self) {
        self.last.clear();
    }

    /// Takes the dump that the guest has printed before it broke. What is in the answer does not get into the log.
    pub(crate) fn take_dump(&mut self, log: &mut dyn FnMut(&str)) -> Option<CrashReport> {
        if !self.unfinished.is_empty() {
            self.end_line(log);
        }
        match mem::take(&mut self.dump) {
            Dump::None => None,
            Dump::Held => {
                let text = read_dump(&String::from_utf8_lossy(&self.held));
                let report = CrashReport::new(&text.reason, &text.stack, self.max_bytes);
                // Without a reason it is in no answer, and a long reason is not whole there.
                if report.is_none() || text.reason.len() > MAX_REASON_BYTES {
                    self.log_held(log);
                }
                self.clear_held();
                report
            }
            Dump::Logged { beginning, .. } => {
                self.log_held(log);
                // The traceback of an exception ends with what the reason begins with.
                let reason = Some(read_dump(&beginning).reason).filter(|reason| !reason.is_empty());
                CrashReport::new(reason.as_deref().unwrap_or(&self.last), "", self.max_bytes)
            }
        }
    }

    /// Returns the last line that says something; logs everything.
    pub(crate) fn last_line(&mut self, log: &mut dyn FnMut(&str)) -> Option<&str> {
        self.end(log);
        Some(self.last.as_str()).filter(|last| !last.is_empty())
    }

    /// Appends a part to the unfinished line. Keeps one byte more than the limit, so that the log shows that there was more.
    fn keep(&mut self, part: &[u8]) {
        let room = (self.max_bytes + 1).saturating_sub(self.unfinished.len());
        self.unfinished.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end_line(&mut self, log: &mut dyn FnMut(&str)) {
        let mut line = mem::take(&mut self.unfinished);
        if line.ends_with(b"\r") {
            line.pop();
        }
        let belongs = self.rule == RecordRule::Writes || line.starts_with(b" ") || line.starts_with(b"\t");
        if !belongs || !self.has_room(&line) {
            self.log_held(log);
        }
        if !self.held.is_empty() {
            self.held.push(b'\n');
            self.held.extend_from_slice(&line);
        } else if !line.trim_ascii().is_empty() {
            if self.rule == RecordRule::Writes && matches!(self.dump, Dump::None) && begins_dump(&line) {
                self.dump = Dump::Held;
            }
            self.held.extend_from_slice(&line);
        }
        // The next line reuses the allocation.
        line.clear();
        self.unfinished = line;
    }

    /// Returns whether the record has room for another line, and counts it.
    fn has_room(&mut self, line: &[u8]) -> bool {
        if self.held.is_empty() {
            return true;
        }
        if self.held_size == 0 {
            self.held_size = logged_size(&self.held);
        }
        let size = self.held_size + logged_size(line);
        self.held_size = size + 1;
        size < self.max_bytes
    }

    fn clear_held(&mut self) {
        self.held.clear();
        self.held_size = 0;
    }

    fn log_held(&mut self, log: &mut dyn FnMut(&str)) {
        if self.held.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.held);
        let text = without_advice(text.trim_end());
        if !text.is_empty() {
            log(&text);
        }
        let says_something = |line: &&str| self.rule == RecordRule::Writes && !says_nothing(line);
        if let Some(last) = text.lines().rev().find(says_something) {
            let last = last.trim();
            let last = last.get(..last.floor_char_boundary(MAX_LAST_BYTES)).unwrap_or(last);
            last.clone_into(&mut self.last);
        }
        if matches!(self.dump, Dump::Held) {
            self.dump = Dump::Logged {
                beginning: text.into_owned(),
                goes_on: true,
            };
        }
        self.clear_held();
    }
}

/// Returns the number of bytes that a text has in the log.
fn logged_size(text: &[u8]) -> usize {
    printable_lines(&String::from_utf8_lossy(text), usize::MAX).len()
}

fn without_advice(text: &str) -> Cow<'_, str> {
    if !text.lines().any(is_advice) {
        return text.into();
    }
    let lines: Vec<_> = text.lines().filter(|line| !is_advice(line)).collect();
    lines.join("\n").trim_end().to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records that these writes make, each taken out with what was held before it.
    fn records(rule: RecordRule, writes: &[&str]) -> Vec<String> {
        let mut records = Vec::new();
        let mut splitter = RecordSplitter::new(rule, 40);
        for bytes in writes {
            splitter.write(bytes.as_bytes(), &mut |record| records.push(record.to_owned()));
        }
        splitter.end(&mut |record| records.push(record.to_owned()));
        records
    }

    #[test]
    fn a_line_of_standard_output_is_a_record_with_the_indented_ones_of_its_write() {
        let check = |writes: &[&str], expected: &[&str]| assert_eq!(records(RecordRule::Lines, writes), expected);
        check(&["one\ntwo\n"], &["one", "two"]);
        check(&["one\r\n  a\r\n\tb\ntwo\n"], &["one\n  a\n\tb", "two"]);
        check(&["o", "ne\n", "  a\n"], &["one", "  a"]);
        check(&["\n\n  \none\n\n"], &["one"]);
        check(&["no end"], &["no end"]);
        check(&["panic: x\ngoroutine\n"], &["panic: x", "goroutine"]);
    }

    #[test]
    fn a_record_has_room_for_what_its_bytes_become() {
        let line = "\u{1b}[31mred\n";
        let records = records(RecordRule::Writes, &[&line.repeat(10)]);
        assert!(
            records.iter().all(|record| logged_size(record.as_bytes()) <= 40),
            "{records:?}"
        );
        let lines = records.iter().flat_map(|record| record.lines());
        assert_eq!(lines.count(), 10);
    }

    #[test]
    fn a_dump_without_a_reason_is_in_the_log() {
        let mut logged = Vec::new();
        let mut splitter = RecordSplitter::new(RecordRule::Writes, 4096);
        splitter.write(b"Unhandled exception:\n", &mut |record| logged.push(record.to_owned()));
        let report = splitter.take_dump(&mut |record| logged.push(record.to_owned()));
        assert_eq!(
            (report.is_none(), logged),
            (true, vec!["Unhandled exception:".to_owned()])
        );
    }

    #[test]
    fn a_dump_whose_reason_is_cut_is_in_the_log_as_a_whole() {
        let text = "x".repeat(2 * MAX_REASON_BYTES);
        let mut logged = Vec::new();
        let mut splitter = RecordSplitter::new(RecordRule::Writes, 4096);
        let dump = format!("panic: {text}\n\ngoroutine 1:\n");
        splitter.write(dump.as_bytes(), &mut |record| logged.push(record.to_owned()));
        let report = splitter.take_dump(&mut |record| logged.push(record.to_owned()));
        assert!(!report.unwrap().reason.contains(&text));
        assert!(logged.concat().contains(&text), "{logged:?}");
    }

    #[test]
    fn a_write_to_standard_error_is_a_record() {
        let check = |writes: &[&str], expected: &[&str]| assert_eq!(records(RecordRule::Writes, writes), expected);
        check(&["one\ntwo\n", "three\n"], &["one\ntwo", "three"]);
        check(&["one\ntw", "o\n", "three\n"], &["one\ntwo", "three"]);
        check(&["\n\none\n\ntwo\n\n"], &["one\n\ntwo"]);
        check(&["note: run with `RUST_BACKTRACE=1` to see\n"], &[]);
    }

    #[test]
    fn a_record_is_bounded_and_loses_no_line() {
        let line = "0123456789abcde\n";
        let long = line.repeat(5);
        let two = "0123456789abcde\n0123456789abcde";
        assert_eq!(records(RecordRule::Writes, &[&long]), [two, two, "0123456789abcde"]);
        let cut = records(RecordRule::Writes, &["a", &"b".repeat(100), "\nc\n"]);
        assert_eq!(cut, [format!("a{}", "b".repeat(40)), "c".to_owned()]);
        let dump = format!("panic: x\n{long}");
        let first = format!("panic: x\n{two}");
        assert_eq!(
            records(RecordRule::Writes, &[&dump]),
            [first.as_str(), two, "0123456789abcde"]
        );
    }

    /// A splitter of standard error, and what it has logged.
    fn dumped(writes: &[&str]) -> (Option<CrashReport>, Vec<String>) {
        let mut records = Vec::new();
        let mut splitter = RecordSplitter::new(RecordRule::Writes, 40);
        for bytes in writes {
            splitter.write(bytes.as_bytes(), &mut |record| records.push(record.to_owned()));
        }
        let crash = splitter.take_dump(&mut |record| records.push(record.to_owned()));
        splitter.end(&mut |record| records.push(record.to_owned()));
        (crash, records)
    }

    #[test]
    fn a_dump_is_taken_whole_and_does_not_get_into_the_log() {
        let writes = ["working\n", "panic: ", "no", "\n", "\ngoroutine 1:\n", "main()"];
        let (crash, records) = dumped(&writes);
        assert_eq!(crash, CrashReport::new("panic: no", "goroutine 1:\nmain()", 40));
        assert_eq!(records, ["working"]);
        assert_eq!(dumped(&["no panic\n"]), (None, vec!["no panic".to_owned()]));
    }

    #[test]
    fn the_rest_of_a_dump_that_is_too_long_is_in_the_log() {
        let (crash, records) = dumped(&["panic: no\n\n", "0123456789abcdef\n", "0123456789abcdef\n", "end\n"]);
        assert_eq!(crash, CrashReport::new("panic: no", "", 40));
        assert_eq!(records, ["panic: no\n\n0123456789abcdef", "0123456789abcdef\nend"]);
    }

    #[test]
    fn a_dump_that_was_let_go_is_the_reason_unless_the_guest_prints_more() {
        let mut records = Vec::new();
        let mut splitter = RecordSplitter::new(RecordRule::Writes, 40);
        let mut log = |record: &str| records.push(record.to_owned());
        splitter.write(b"panic: no\n", &mut log);
        assert!(splitter.holds());
        splitter.let_go(&mut log);
        assert!(!splitter.holds());
        assert_eq!(splitter.take_dump(&mut log), CrashReport::new("panic: no", "", 40));
        splitter.write(b"panic: again\n", &mut log);
        splitter.let_go(&mut log);
        splitter.write(b"recovered\n", &mut log);
        assert_eq!(splitter.take_dump(&mut log), None);
        assert_eq!(splitter.last_line(&mut log), Some("recovered"));
        splitter.begin_call();
        assert_eq!(splitter.last_line(&mut log), None);
        assert_eq!(records, ["panic: no", "panic: again", "recovered"]);
    }
}
