//! What an action has done, for the page after it: kept here under a number, so that no link can put words into a page.
//!
//! Invariant: there are at most [`MOST`] notices; the oldest make room.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The most notices.
const MOST: usize = 256;

/// The notices that pages may show.
#[derive(Debug, Default)]
pub(super) struct UiNotices(Mutex<VecDeque<(u64, String)>>);

impl UiNotices {
    /// Keeps a notice, and returns its number.
    pub(super) fn keep(&self, text: String) -> String {
        let number: u64 = rand::random();
        let mut kept = self.0.lock();
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back((number, text));
        format!("{number:016x}")
    }

    /// Returns the notice with a number, if it is still there.
    pub(super) fn find(&self, number: &str) -> Option<String> {
        let number = u64::from_str_radix(number, 16).ok()?;
        let kept = self.0.lock();
        kept.iter()
            .find(|(other, _)| *other == number)
            .map(|(_, text)| text.clone())
    }
}
