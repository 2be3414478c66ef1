//! Small charts as SVG, drawn here. They have no style of their own: the style sheet colours their classes.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::{journal::JournalEntry, metrics::MinuteCounts};

const WIDTH: u32 = 120;
const HEIGHT: u32 = 22;

/// Returns the last minute of a handler or a queue as bars, a second each: what was handled, and above it what failed.
pub(super) fn minute(seconds: &[MinuteCounts], label: &str) -> Markup {
    let most = seconds
        .iter()
        .map(|second| second.handled + second.failed)
        .max()
        .unwrap_or(0);
    let (mut handled, mut failed) = (String::new(), String::new());
    for (index, second) in seconds.iter().enumerate() {
        let x = u32::try_from(index).unwrap_or(0) * 2;
        let low = scaled(second.handled, most);
        let high = scaled(second.handled + second.failed, most);
        bar(&mut handled, x, 0, low);
        bar(&mut failed, x, low, high);
    }
    html! {
        svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            path.axis d={ "M0 " (HEIGHT) "H" (WIDTH) } {}
            path.ok d=(handled) {}
            path.bad d=(failed) {}
        }
    }
}

fn scaled(value: u64, most: u64) -> u32 {
    if most == 0 {
        return 0;
    }
    let height = u64::from(HEIGHT - 1);
    // What is not nothing is seen.
    let scaled = (value * height).div_ceil(most);
    u32::try_from(scaled).unwrap_or(HEIGHT)
}

fn bar(path: &mut String, x: u32, from: u32, to: u32) {
    if to > from {
        let (top, height) = (HEIGHT - to, to - from);
        write!(path, "M{x} {top}h1.6v{height}h-1.6z").expect("writing to a string cannot fail");
    }
}

const CHART_WIDTH: f64 = 1000.0;
const CHART_HEIGHT: f64 = 150.0;
/// The room above and below the dots of a chart.
const MARGIN: f64 = 14.0;

/// Returns how long attempts took, oldest first, as dots over a scale of powers of ten.
pub(super) fn durations(attempts: &[JournalEntry]) -> Markup {
    let power = |ms: f64| ms.max(0.001).log10();
    let all = || attempts.iter().map(|entry| power(entry.duration_ms));
    let low = all().fold(f64::INFINITY, f64::min).floor();
    let high = all().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0);
    let y = |power: f64| CHART_HEIGHT - MARGIN - (power - low) / (high - low) * (CHART_HEIGHT - 2.0 * MARGIN);
    let step = CHART_WIDTH / f64::from(u32::try_from(attempts.len().max(1)).unwrap_or(u32::MAX));
    let (mut handled, mut failed, mut x) = (String::new(), String::new(), step / 2.0);
    for entry in attempts {
        let path = if entry.is_handled() { &mut handled } else { &mut failed };
        let y = y(power(entry.duration_ms));
        write!(path, "M{:.1} {:.1}h4v4h-4z", x - 2.0, y - 2.0).expect("writing to a string cannot fail");
        x += step;
    }
    let lines = (0_u32..=9)
        .map(|index| low + f64::from(index))
        .take_while(|power| *power <= high);
    html! {
        svg.chart viewBox={ "0 0 " (CHART_WIDTH) " " (CHART_HEIGHT) } preserveAspectRatio="none" role="img" aria-label="How long the attempts below took, oldest first" {
            @for power in lines { path.axis d={ "M0 " (y(power)) "H" (CHART_WIDTH) } {} }
            path.ok d=(handled) {}
            path.bad d=(failed) {}
        }
        p.dim.scale { "from " (super::shown::millis(10_f64.powf(low))) " at the bottom to " (super::shown::millis(10_f64.powf(high))) " at the top, each line ten times the one below" }
    }
}

/// Returns a share as a bar, a whole being green.
pub(super) fn share(good: u64, all: u64) -> Markup {
    let parts = if all == 0 {
        0
    } else {
        u128::from(good.min(all)) * 80 / u128::from(all)
    };
    let bad = if all > 0 { 80 - parts } else { 0 };
    html! {
        svg.meter viewBox="0 0 80 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.axis width="80" height="8" {}
            rect.ok width=(parts) height="8" {}
            rect.bad x=(parts) width=(bad) height="8" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_in_which_little_happened_is_seen() {
        let second = |handled, failed| MinuteCounts {
            arrived: 0,
            handled,
            failed,
        };
        let svg = minute(&[second(100_000, 0), second(1, 1), second(0, 0)], "x").into_string();
        assert!(svg.contains("M0 1h1.6v21h-1.6z"), "{svg}");
        assert!(svg.contains("M2 21h1.6v1h-1.6z"), "{svg}");
        assert!(!svg.contains("M4"), "{svg}");
    }
}
