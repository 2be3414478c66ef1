//! Colours for people: of states and verdicts, and dim for what is secondary. Whoever pipes the output never gets one.

use anstyle::{AnsiColor, Style};

/// Whether colours are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paint {
    is_on: bool,
}

/// Words that say that all is well.
const GOOD: [&str; 5] = ["ok", "proven", "ready", "serving", "success"];
/// Words for what failed, or was turned down.
const BAD: [&str; 12] = [
    "damaged",
    "failed",
    "host-stopped",
    "memory",
    "not-run",
    "quarantined",
    "refused",
    "reject",
    "timeout",
    "trap",
    "wrong-answer",
    "?",
];
/// Words for what waits, or goes on after a while.
const WAITING: [&str; 16] = [
    "conflict",
    "delayed",
    "doubt",
    "draining",
    "held",
    "in-flight",
    "interrupted",
    "loading",
    "lost",
    "paused",
    "probation",
    "release",
    "retry",
    "set-aside",
    "stopping",
    "watching",
];
/// Words for what is over.
const PAST: [&str; 2] = ["accepted", "retired"];

impl Paint {
    /// Paints if `is_on`.
    pub fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Paints a text by the state or verdict that it begins with; one that is none stays as it is.
    pub(crate) fn state(self, text: &str) -> String {
        let word = text.trim_start().split([' ', ',', ':']).next().unwrap_or_default();
        self.state_of(word, text)
    }

    /// Paints a text as that of something in this state.
    pub(crate) fn state_of(self, word: &str, text: &str) -> String {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        let style = if GOOD.contains(&word) {
            colour(AnsiColor::Green)
        } else if BAD.contains(&word) {
            colour(AnsiColor::Red)
        } else if WAITING.contains(&word) {
            colour(AnsiColor::Yellow)
        } else if PAST.contains(&word) {
            Style::new().dimmed()
        } else {
            return text.to_owned();
        };
        self.with(style, text)
    }

    /// Paints what is secondary.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.is_on && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_its_colour_and_only_where_colours_are_wanted() {
        let paint = Paint::new(true);
        assert_eq!(
            paint.state("serving, stands by"),
            "\u{1b}[32mserving, stands by\u{1b}[0m"
        );
        assert_eq!(paint.state("trap"), "\u{1b}[31mtrap\u{1b}[0m");
        assert_eq!(paint.state("paused"), "\u{1b}[33mpaused\u{1b}[0m");
        assert_eq!(paint.state("orders"), "orders");
        assert_eq!(paint.dim("x"), "\u{1b}[2mx\u{1b}[0m");
        for text in ["serving", "trap", "paused"] {
            assert_eq!(Paint::default().state(text), text);
        }
    }
}
