//! What a person sees while a command waits: a picture that turns, and a text.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// The time between two pictures.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// Returns a spinner by a template of indicatif, in which `{seconds}` is how long the command has waited. Without `progress` it shows
/// nothing.
pub(crate) fn spinner(template: &str, progress: bool) -> ProgressBar {
    if !progress {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    let seconds = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        // The width of a terminal's line cuts it at worst.
        let _cut = write!(text, "{:.1} s", state.elapsed().as_secs_f64());
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        spinner.set_style(style.with_key("seconds", seconds));
    }
    spinner.enable_steady_tick(TURN_EVERY);
    spinner
}
