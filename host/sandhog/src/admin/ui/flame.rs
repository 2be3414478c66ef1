//! A flame graph as SVG: the stacks of a profile, whose frames are as wide as their share of the samples. Pure.
//!
//! Callers are above what they call, and of those that one function calls the most frequent is at the left. The names of functions are words of
//! guests.
//!
//! Invariants: a graph has at most [`MOST`] frames with a name and as many without one, and at most [`ROWS`] rows and one more. What is too thin
//! to be seen, too deep, or beyond the bound is a frame "…" with the samples of all of them, so that no sample is missing.

use std::{collections::BinaryHeap, ops::Range};

use maud::{Markup, html};

use super::shown::{number, of, percent};
use crate::admin::wire::{ProfileForm, StackForm};
use sandhog_queue::printable::printable;

/// The most frames with a name.
const MOST: usize = 300;
/// The most rows of frames with a name.
const ROWS: usize = 64;
/// The width of the graph, in pixels.
const WIDTH: u64 = 1200;
/// The height of a row, in pixels.
const ROW: usize = 18;
/// The width below which frames become one frame "…", in pixels.
const THIN: u64 = 3;
/// The room that a character takes, in pixels: a little more than it needs.
const CHARACTER: u64 = 7;
/// The room beside the text of a frame, in pixels.
const BESIDE: u64 = 6;
/// The most bytes of a name.
const NAME_BYTES: usize = 300;
/// The number of colours, which are classes of the style sheet.
const COLOURS: u32 = 5;

/// Stacks that have the same functions up to a depth.
///
/// The order is that in which they are looked at: the most samples first, so that the bound is reached by the least ones.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StackGroup {
    samples: u64,
    /// The number of functions that all of them have.
    depth: usize,
    /// The samples at the left of the group.
    left: u64,
    /// Their places among the sorted stacks.
    from: usize,
    to: usize,
}

/// The stacks of a group that go on with the same function.
#[derive(Debug)]
struct Callee {
    function: usize,
    samples: u64,
    stacks: Range<usize>,
}

/// What a frame stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// All samples.
    All,
    /// A function.
    Function(usize),
    /// So many functions.
    Merged(usize),
}

/// One frame. Its place is counted in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlameFrame {
    kind: FrameKind,
    row: usize,
    left: u64,
    samples: u64,
}

/// Returns the graph of a profile that has stacks.
pub(super) fn flame_graph(form: &ProfileForm) -> Markup {
    let frames = frames(&form.stacks);
    let all = frames.first().map_or(0, |frame| frame.samples);
    let rows = frames.iter().map(|frame| frame.row + 1).max().unwrap_or(0);
    let label = format!(
        "Flame graph of {}. The table below has the same functions with their shares.",
        of(all, "sample", "samples")
    );
    html! {
        div.flame role="region" tabindex="0" aria-label="Flame graph" {
            svg width=(WIDTH) height=(rows * ROW) role="img" aria-label=(label) {
                @for frame in &frames { (drawn(frame, form, all)) }
            }
        }
    }
}

/// Returns the frames of these stacks, the one of all samples first.
fn frames(stacks: &[StackForm]) -> Vec<FlameFrame> {
    let mut sorted: Vec<&StackForm> = stacks.iter().filter(|stack| stack.samples > 0).collect();
    sorted.sort_by(|one, other| one.functions.cmp(&other.functions));
    let all = sorted.iter().map(|stack| stack.samples).sum();
    let mut frames = vec![FlameFrame {
        kind: FrameKind::All,
        row: 0,
        left: 0,
        samples: all,
    }];
    let mut groups = BinaryHeap::from([StackGroup {
        samples: all,
        depth: 0,
        left: 0,
        from: 0,
        to: sorted.len(),
    }]);
    let (mut named, mut merged) = (0, 0);
    while let Some(group) = groups.pop() {
        let callees = callees(&sorted, &group);
        let shown = if group.depth == ROWS { 0 } else { MOST - named };
        let is_wide = |callee: &&Callee| pixels(callee.samples, all) >= THIN;
        let wide = callees.iter().take(shown).take_while(is_wide).count();
        let (wide, thin) = callees.split_at(wide);
        let mut left = group.left;
        for callee in wide {
            frames.push(FlameFrame {
                kind: FrameKind::Function(callee.function),
                row: group.depth + 1,
                left,
                samples: callee.samples,
            });
            groups.push(StackGroup {
                samples: callee.samples,
                depth: group.depth + 1,
                left,
                from: callee.stacks.start,
                to: callee.stacks.end,
            });
            left += callee.samples;
        }
        named += wide.len();
        let rest = thin.iter().map(|callee| callee.samples).sum();
        if pixels(rest, all) > 0 && merged < MOST {
            merged += 1;
            frames.push(FlameFrame {
                kind: FrameKind::Merged(thin.len()),
                row: group.depth + 1,
                left,
                samples: rest,
            });
        }
    }
    frames
}

/// Returns the functions with which the stacks of a group go on, the most samples first.
fn callees(sorted: &[&StackForm], group: &StackGroup) -> Vec<Callee> {
    let mut callees: Vec<Callee> = Vec::new();
    for index in group.from..group.to {
        let Some((function, samples)) = sorted
            .get(index)
            .and_then(|stack| Some((*stack.functions.get(group.depth)?, stack.samples)))
        else {
            continue;
        };
        match callees.last_mut().filter(|callee| callee.function == function) {
            Some(callee) => {
                callee.samples += samples;
                callee.stacks.end = index + 1;
            }
            None => callees.push(Callee {
                function,
                samples,
                stacks: index..index + 1,
            }),
        }
    }
    callees.sort_by_key(|callee| (std::cmp::Reverse(callee.samples), callee.function));
    callees
}

/// Returns the width of so many samples, in whole pixels.
fn pixels(samples: u64, all: u64) -> u64 {
    tenths(samples, all) / 10
}

/// Returns the width of so many samples, in tenths of a pixel.
fn tenths(samples: u64, all: u64) -> u64 {
    let tenths = u128::from(samples) * u128::from(WIDTH * 10) / u128::from(all.max(1));
    u64::try_from(tenths).unwrap_or(u64::MAX)
}

fn drawn(frame: &FlameFrame, form: &ProfileForm, all: u64) -> Markup {
    let (from, to) = (tenths(frame.left, all), tenths(frame.left + frame.samples, all));
    let px = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
    let (x, width) = (px(from), px(to.saturating_sub(from)));
    let y = frame.row * ROW;
    let (name, class) = match frame.kind {
        FrameKind::All => ("all".to_owned(), "flame-all".to_owned()),
        FrameKind::Function(function) => {
            let name = form.name(function);
            (printable(name, NAME_BYTES), format!("flame-{}", colour(name)))
        }
        FrameKind::Merged(functions) => {
            let many = u64::try_from(functions).unwrap_or(u64::MAX);
            (
                format!("… {}", of(many, "function", "functions")),
                "flame-more".to_owned(),
            )
        }
    };
    let room = (to.saturating_sub(from) / 10).saturating_sub(BESIDE) / CHARACTER;
    let text = fitting(&name, usize::try_from(room).unwrap_or(usize::MAX));
    let share = format!(
        "{}, {}: ",
        percent(frame.samples, all),
        of(frame.samples, "sample", "samples")
    );
    html! {
        g {
            // The name can't change the order of what is around it.
            title { (share) "\u{2068}" (name) "\u{2069}" }
            rect.(class) x=(x) y=(y) width=(width) height=(ROW) {}
            // A character that is wider than others is cut off at the end of the frame.
            @if let Some(text) = text { svg x=(x) y=(y) width=(width) height=(ROW) { text x="4" y="13" { (text) } } }
        }
    }
}

/// Returns the part of a name that has room; `None` if too little would be left of it.
fn fitting(name: &str, room: usize) -> Option<String> {
    if name.chars().count() <= room {
        return Some(name.to_owned());
    }
    if room < 3 {
        return None;
    }
    // The last part of a path tells the most.
    let last = name.rsplit_once("::").map(|(_, last)| format!("…{last}"));
    let last = last.filter(|last| !last.contains('>') && last.chars().count() <= room);
    Some(last.unwrap_or_else(|| name.chars().take(room - 1).chain(['…']).collect()))
}

/// Returns the colour of a name, the same on every page.
fn colour(name: &str) -> u32 {
    let sum = name
        .bytes()
        .fold(17_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    (sum >> 8) % COLOURS
}

/// The functions that a table has.
const LISTED: usize = 50;

/// Returns the functions with their shares, the most expensive first.
pub(super) fn function_table(form: &ProfileForm) -> Markup {
    let costs = form.costs();
    let costs: Vec<_> = costs.iter().filter(|cost| cost.all > 0).collect();
    html! {
        table.rows {
            thead { tr { th.num scope="col" { "self" } th.num scope="col" { "total" } th scope="col" { "function" } th.num.w2 scope="col" { "samples in itself" } } }
            tbody { @for cost in costs.iter().take(LISTED) { tr {
                td.num { (percent(cost.own, form.samples)) }
                td.num { (percent(cost.all, form.samples)) }
                td.mono { (super::shown::short(form.name(cost.function), NAME_BYTES)) }
                td.num.w2 { (number(cost.own)) }
            } } }
        }
        @if costs.len() > LISTED { p.dim { (costs.len() - LISTED) " more functions have smaller shares in themselves." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &[usize], samples: u64) -> StackForm {
        StackForm {
            functions: functions.to_vec(),
            samples,
        }
    }

    fn form(functions: &[&str], stacks: Vec<StackForm>) -> ProfileForm {
        ProfileForm {
            handler: "in".to_owned(),
            time_ms: 1000,
            interval_ms: 5,
            samples: stacks.iter().map(|stack| stack.samples).sum(),
            uncounted: 0,
            functions: functions.iter().map(|&name| name.to_owned()).collect(),
            stacks,
        }
    }

    #[test]
    fn a_frame_is_below_its_caller_and_as_wide_as_its_samples() {
        let stacks = [stack(&[0, 1], 2), stack(&[0, 2, 1], 5), stack(&[0], 1), stack(&[3], 2)];
        let found: Vec<_> = frames(&stacks)
            .iter()
            .map(|frame| (frame.kind, frame.row, frame.left, frame.samples))
            .collect();
        let named = FrameKind::Function;
        assert_eq!(
            found,
            [
                (FrameKind::All, 0, 0, 10),
                (named(0), 1, 0, 8),
                (named(3), 1, 8, 2),
                (named(2), 2, 0, 5),
                (named(1), 2, 5, 2),
                (named(1), 3, 0, 5),
            ]
        );
    }

    #[test]
    fn what_is_too_thin_is_one_frame_with_all_its_samples() {
        let mut stacks = vec![stack(&[0], 100_000)];
        stacks.extend((1..=100).map(|function| stack(&[function], 10)));
        let frames = frames(&stacks);
        assert_eq!(frames.len(), 3, "{frames:?}");
        let merged = frames.last().unwrap();
        assert_eq!((merged.kind, merged.samples), (FrameKind::Merged(100), 1000));
        assert_eq!(merged.left, 100_000);
    }

    #[test]
    fn the_rows_and_the_frames_are_bounded_and_no_sample_is_missing() {
        let deep: Vec<usize> = (0..128).collect();
        let found = frames(&[stack(&deep, 7)]);
        assert_eq!(found.len(), ROWS + 2);
        let last = found.last().unwrap();
        assert_eq!((last.kind, last.row, last.samples), (FrameKind::Merged(1), ROWS + 1, 7));
        // As many stacks as a profile may have, each another one, and all of them deep.
        let wide = |number: usize| (0..128).map(|depth| (number >> (depth % 14)) * 128 + depth).collect();
        let stacks: Vec<StackForm> = (0..10_000)
            .map(|number| StackForm {
                functions: wide(number),
                samples: 1,
            })
            .collect();
        let found = frames(&stacks);
        assert!(found.len() <= 2 * MOST + 1, "{}", found.len());
        for row in 1..4 {
            let seen: u64 = found
                .iter()
                .filter(|frame| frame.row == row)
                .map(|frame| frame.samples)
                .sum();
            assert!(row > 1 || seen == 10_000, "row {row}: {seen}");
        }
    }

    #[test]
    fn the_name_of_a_function_is_neither_markup_nor_turns_what_is_around_it() {
        let hostile = "</title><script>alert(1)</script>\u{202e}\u{1b}[2J";
        let svg = flame_graph(&form(&[hostile], vec![stack(&[0], 3)])).into_string();
        assert!(
            !svg.contains("<script>") && !svg.contains(['\u{202e}', '\u{1b}']),
            "{svg}"
        );
        assert!(svg.contains("<title>100 %, 3 samples: \u{2068}&lt;/title&gt;"), "{svg}");
        let long = "x".repeat(100_000);
        assert!(flame_graph(&form(&[&long], vec![stack(&[0], 3)])).into_string().len() < 2000);
    }

    #[test]
    fn a_name_is_cut_to_its_room() {
        for (name, room, expected) in [
            ("main", 4, Some("main")),
            ("main", 2, None),
            ("orders::parse", 7, Some("…parse")),
            ("orders::parse", 5, Some("orde…")),
            ("<Vec<T> as orders::All>", 6, Some("<Vec<…")),
        ] {
            assert_eq!(fitting(name, room).as_deref(), expected, "{name} in {room}");
        }
    }
}
