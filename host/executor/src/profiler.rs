//! Samples what the guests of one handler compute.
//!
//! Each tick of the epoch is a sample of every guest that computes at that time. The guest notices the tick at the next entry of a
//! function or head of a loop, and its stack is counted there. A guest that was not computing at the tick notices it late, after a
//! wait or at the start of its call, and is not counted. So the samples of a function are in proportion to its processor time,
//! however short the calls are, and whether or not they wait. What the host computes for a guest counts to the function that asked.
//!
//! Invariants: one profile at a time; while there is none, a tick that a guest notices costs one load; everything that a guest can
//! make grow is bounded.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use wasmtime::{AsContext, FrameInfo, WasmBacktrace};

use super::{epoch::TICK, frames::frame_name};
use sandhog_queue::printable::printable;

/// The most frames of a stack; the outermost ones of a deeper stack are left out.
const MAX_DEPTH: usize = 128;
/// The most different stacks of a profile. Samples of further ones are only counted.
const MAX_STACKS: usize = 10_000;
/// The most functions of a profile. Samples with further ones are only counted.
const MAX_FUNCTIONS: usize = 10_000;
/// The most bytes of a name as tools write it.
const MAX_SYMBOL_BYTES: usize = 1000;
/// The most bytes of a name as it is shown.
const MAX_NAME_BYTES: usize = 200;

/// What the guests of a handler computed in some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestProfile {
    /// The time between two samples of a guest that computes without a pause.
    pub interval: Duration,
    /// The number of samples.
    pub samples: u64,
    /// The number of those samples that are in no stack, because there were too many different ones.
    pub uncounted: u64,
    /// The names of the functions, with control characters escaped.
    pub functions: Vec<String>,
    /// The stacks with their samples, the most frequent first.
    pub stacks: Vec<ProfiledStack>,
}

/// A stack of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfiledStack {
    /// The functions as indices into [`GuestProfile::functions`], outermost first.
    pub functions: Vec<usize>,
    /// The number of samples with this stack.
    pub samples: u64,
}

/// Another profile is being taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("handler {handler} is being profiled: one profile is taken at a time")]
pub struct ProfilerBusy {
    /// The handler.
    pub handler: String,
}

/// Takes one profile at a time.
#[derive(Debug)]
pub(crate) struct Profiler {
    is_on: AtomicBool,
    /// The last tick, as the time since `made_at` in nanoseconds.
    ticked: AtomicU64,
    made_at: Instant,
    // Never held across an await.
    running: Mutex<Option<RunningProfile>>,
}

#[derive(Debug)]
struct RunningProfile {
    handler: String,
    samples: u64,
    uncounted: u64,
    functions: HashMap<String, usize>,
    stacks: HashMap<Vec<usize>, u64>,
}

/// The turn of one profile; it ends with its drop at the latest.
#[derive(Debug)]
struct ProfileTurn {
    profiler: Arc<Profiler>,
    /// The next profile may have begun.
    is_over: bool,
}

impl Profiler {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_on: AtomicBool::new(false),
            ticked: AtomicU64::new(0),
            made_at: Instant::now(),
            running: Mutex::new(None),
        })
    }

    /// Takes a profile of the guests of a handler for this time.
    ///
    /// # Errors
    ///
    /// [`ProfilerBusy`]: another one is being taken.
    ///
    /// # Cancel safety
    ///
    /// Safe: a future that is dropped ends the profile.
    pub(crate) async fn profile(self: &Arc<Self>, handler: &str, time: Duration) -> Result<GuestProfile, ProfilerBusy> {
        let mut turn = self.begin(handler)?;
        tokio::time::sleep(time).await;
        Ok(turn.end().map(RunningProfile::finish).unwrap_or_default())
    }

    fn begin(self: &Arc<Self>, handler: &str) -> Result<ProfileTurn, ProfilerBusy> {
        let mut running = self.running.lock();
        if let Some(other) = &*running {
            return Err(ProfilerBusy {
                handler: other.handler.clone(),
            });
        }
        *running = Some(RunningProfile::new(handler));
        self.is_on.store(true, Ordering::Relaxed);
        Ok(ProfileTurn {
            profiler: Arc::clone(self),
            is_over: false,
        })
    }

    /// Notes that the epoch ticks now.
    pub(crate) fn tick(&self) {
        if self.is_on.load(Ordering::Relaxed) {
            self.ticked.store(self.since_made(Instant::now()), Ordering::Relaxed);
        }
    }

    /// Counts the stack of a guest of this handler, which has noticed a tick, and has computed without a pause since `computes_since`.
    pub(crate) fn sample(&self, handler: &str, computes_since: impl FnOnce() -> Instant, store: impl AsContext) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        if self.ticked.load(Ordering::Relaxed) < self.since_made(computes_since()) {
            return;
        }
        if let Some(running) = self
            .running
            .lock()
            .as_mut()
            .filter(|running| running.handler == handler)
        {
            running.count(&WasmBacktrace::force_capture(store));
        }
    }

    fn since_made(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.made_at).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl ProfileTurn {
    /// Ends the turn, once, and returns what was taken in it.
    fn end(&mut self) -> Option<RunningProfile> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let mut running = self.profiler.running.lock();
        self.profiler.is_on.store(false, Ordering::Relaxed);
        running.take()
    }
}

impl Drop for ProfileTurn {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl RunningProfile {
    fn new(handler: &str) -> Self {
        Self {
            handler: handler.to_owned(),
            samples: 0,
            uncounted: 0,
            functions: HashMap::new(),
            stacks: HashMap::new(),
        }
    }

    fn count(&mut self, trace: &WasmBacktrace) {
        let frames = trace.frames().iter().take(MAX_DEPTH).map(symbol);
        self.add(frames.collect());
    }

    /// Counts a stack, innermost function first.
    fn add(&mut self, innermost_first: Vec<String>) {
        self.samples += 1;
        let mut stack = Vec::with_capacity(innermost_first.len());
        for name in innermost_first.into_iter().rev() {
            let next = self.functions.len();
            let known = self.functions.get(&name).copied();
            let Some(index) = known.or((next < MAX_FUNCTIONS).then_some(next)) else {
                self.uncounted += 1;
                return;
            };
            if known.is_none() {
                self.functions.insert(name, index);
            }
            stack.push(index);
        }
        if self.stacks.len() < MAX_STACKS || self.stacks.contains_key(&stack) {
            *self.stacks.entry(stack).or_default() += 1;
        } else {
            self.uncounted += 1;
        }
    }

    fn finish(self) -> GuestProfile {
        let mut functions = vec![String::new(); self.functions.len()];
        for (name, index) in self.functions {
            if let Some(place) = functions.get_mut(index) {
                *place = source_name(&name);
            }
        }
        let stack = |(functions, samples)| ProfiledStack { functions, samples };
        let mut stacks: Vec<ProfiledStack> = self.stacks.into_iter().map(stack).collect();
        stacks.sort_by(|one, other| {
            let frequent_first = other.samples.cmp(&one.samples);
            frequent_first.then_with(|| one.functions.cmp(&other.functions))
        });
        GuestProfile {
            interval: TICK,
            samples: self.samples,
            uncounted: self.uncounted,
            functions,
            stacks,
        }
    }
}

/// Returns the name of a frame's function as its tools wrote it, or else its number.
fn symbol(frame: &FrameInfo) -> String {
    let whole = frame.func_name().filter(|name| name.len() <= MAX_SYMBOL_BYTES);
    whole.map_or_else(|| frame_name(frame), str::to_owned)
}

/// Returns the name as it is in the source, if it is that of a function in Rust; cut.
fn source_name(name: &str) -> String {
    let Ok(demangled) = rustc_demangle::try_demangle(name) else {
        return printable(name, MAX_NAME_BYTES);
    };
    // A short mangled name can stand for a very long one.
    let mut cut = CutText(String::new());
    match write!(cut, "{demangled:#}") {
        Ok(()) | Err(fmt::Error) => printable(&cut.0, MAX_NAME_BYTES),
    }
}

/// Takes no more text than is shown.
struct CutText(String);

impl fmt::Write for CutText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > MAX_NAME_BYTES {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(frames: &[&str]) -> Vec<String> {
        frames.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_profile_has_the_stacks_with_their_samples() {
        let mut running = RunningProfile::new("in");
        running.add(names(&["b", "a"]));
        running.add(names(&["c", "a"]));
        running.add(names(&["c", "a"]));
        let profile = running.finish();
        assert_eq!(profile.functions, ["a", "b", "c"]);
        let stack = |functions: &[usize], samples| ProfiledStack {
            functions: functions.to_vec(),
            samples,
        };
        assert_eq!(profile.stacks, [stack(&[0, 2], 2), stack(&[0, 1], 1)]);
        assert_eq!((profile.samples, profile.uncounted), (3, 0));
    }

    #[test]
    fn a_guest_can_not_make_a_profile_grow_without_an_end() {
        let mut running = RunningProfile::new("in");
        for number in 0..2 * MAX_FUNCTIONS {
            running.add(vec![number.to_string()]);
        }
        let (count, known) = (2 * MAX_FUNCTIONS, MAX_FUNCTIONS.min(MAX_STACKS));
        let profile = running.finish();
        assert_eq!(profile.functions.len(), known);
        assert_eq!(profile.stacks.len(), known);
        assert_eq!(profile.uncounted, u64::try_from(count - known).unwrap());
        let mut running = RunningProfile::new("in");
        let index = |number: usize| (number % 200).to_string();
        for number in 0..2 * MAX_STACKS {
            running.add(vec![index(number), index(number / 200)]);
        }
        let profile = running.finish();
        assert_eq!((profile.functions.len(), profile.stacks.len()), (200, MAX_STACKS));
        assert_eq!(profile.uncounted, u64::try_from(MAX_STACKS).unwrap());
    }

    #[test]
    fn names_of_rust_are_those_of_the_source_and_all_are_cut() {
        assert_eq!(source_name("_ZN6orders6handle17h0123456789abcdefE"), "orders::handle");
        assert_eq!(source_name("js_function\u{1b}"), "js_function\\u{1b}");
        assert!(source_name(&"x".repeat(1000)).len() <= MAX_NAME_BYTES + 3);
        // One that stands for a long text.
        let mut bomb = "_RMC0".to_owned();
        for _ in 0..20 {
            bomb.push_str("TTTTTTTTTTTTTTTTTTTTuEEEEEEEEEEEEEEEEEEEE");
        }
        assert!(source_name(&bomb).len() <= MAX_NAME_BYTES + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn one_profile_is_taken_at_a_time_and_one_that_is_given_up_is_over() {
        let profiler = Profiler::new();
        let mut first = std::pin::pin!(profiler.profile("in", Duration::from_secs(5)));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let busy = profiler.profile("other", Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(busy.handler, "in");
        assert_eq!(first.await.unwrap(), RunningProfile::new("in").finish());
        let second = profiler.profile("other", Duration::from_secs(5));
        assert!(tokio::time::timeout(Duration::from_secs(1), second).await.is_err());
        assert!(!profiler.is_on.load(Ordering::Relaxed));
        profiler.profile("in", Duration::ZERO).await.unwrap();
        let mut ended = profiler.begin("in").unwrap();
        assert!(ended.end().is_some());
        let next = profiler.begin("other").unwrap();
        drop(ended);
        assert_eq!(profiler.begin("in").unwrap_err().handler, "other");
        drop(next);
    }
}
