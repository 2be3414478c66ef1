//! The screen of a session: plain lines on standard output, and what is under way on standard error if a person sees it.

use std::io::{self, Write};

use indicatif::ProgressBar;

use super::{
    super::{invoke, spinner},
    observed::ObservedCall,
};
use crate::cli::Paint;
use sandhog_queue::printable::printable_lines;

/// The most lines of a guest's output that are shown of one call.
const MAX_LOG_LINES: usize = 100;
/// The most lines of a build that went well.
const MAX_GOOD_LINES: usize = 20;
/// The most lines of a build or a test that failed.
const MAX_BAD_LINES: usize = 200;

pub(super) struct Screen<'o> {
    output: &'o mut dyn Write,
    progress: bool,
    spinner: ProgressBar,
}

impl std::fmt::Debug for Screen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl<'o> Screen<'o> {
    pub(super) fn new(output: &'o mut dyn Write, progress: bool) -> Self {
        Self {
            output,
            progress,
            spinner: ProgressBar::hidden(),
        }
    }

    /// Shows what is under way, and for how long.
    pub(super) fn under_way(&mut self, what: &str) {
        self.spinner.finish_and_clear();
        self.spinner = spinner(what.to_owned(), self.progress);
    }

    /// Nothing is under way.
    pub(super) fn idle(&mut self) {
        self.spinner.finish_and_clear();
        self.spinner = ProgressBar::hidden();
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(|output| writeln!(output, "{}", printable_lines(text, usize::MAX)))
    }

    /// Shows the end of what a command of the project printed: more of it if the command failed. It may colour its lines.
    pub(super) fn command_output(&mut self, text: &str, failed: bool) -> io::Result<()> {
        let most = if failed { MAX_BAD_LINES } else { MAX_GOOD_LINES };
        let lines: Vec<_> = text.trim_end().lines().collect();
        let shown = lines.get(lines.len().saturating_sub(most)..).unwrap_or_default();
        self.write(|output| {
            if shown.len() < lines.len() {
                writeln!(output, "  ({} lines before these)", lines.len() - shown.len())?;
            }
            shown.iter().try_for_each(|line| writeln!(output, "  {line}"))
        })
    }

    /// Shows one call as `sandhog invoke` does.
    pub(super) fn call(&mut self, call: &mut ObservedCall) -> io::Result<()> {
        let log = &mut call.invocation.log;
        let more = log.len().saturating_sub(MAX_LOG_LINES);
        log.truncate(MAX_LOG_LINES);
        let mut text = Vec::new();
        invoke::write_text(&call.invocation, Paint::default(), &mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        self.write(|output| {
            text.lines().try_for_each(|line| writeln!(output, "  {line}"))?;
            if more > 0 {
                writeln!(output, "  ({more} more lines of output)")?;
            }
            Ok(())
        })
    }

    fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let output = &mut *self.output;
        self.spinner.suspend(|| {
            write(output)?;
            output.flush()
        })
    }
}
