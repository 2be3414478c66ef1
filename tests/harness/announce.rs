//! Tells whoever runs the tests about a long step while it lasts.

use std::{io::Write as _, time::Instant};

/// Runs a step that can take minutes, and says so on standard error before and after it.
pub fn announced<T>(step: &str, run: impl FnOnce() -> T) -> T {
    // Past the capture of the test runner, which shows the output of failed tests only.
    let tell = |text: String| drop(std::io::stderr().write_all(text.as_bytes()));
    let started = Instant::now();
    tell(format!("... {step}\n"));
    let made = run();
    tell(format!("... {step}: done after {} s\n", started.elapsed().as_secs()));
    made
}
