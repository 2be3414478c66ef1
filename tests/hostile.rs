//! Guests with one fault each, by family: the verdict, the reason that a person reads, an end in time, and afterwards no
//! instance alive, a neighbour that works, and memory that stays flat.

use std::time::Duration;

use harness::{
    PATIENCE,
    bench::{Bench, policy},
    process::{Resources, alone},
};
use sandhog_executor::{CodeTiers, Component, EngineOptions, Executor as _, GuestPolicy, LogLine, Verdict};
use sandhog_queue::FailureKind;

mod answers;
mod collected;
mod compiling;
mod computing;
mod files;
mod host_calls;
mod memory;
mod output;
mod sends;

/// One guest with one fault.
struct Hostile {
    wasm: Vec<u8>,
    policy: GuestPolicy,
    expect: Expect,
    /// What must hold of the lines that it printed.
    lines: fn(&[LogLine]),
}

/// What becomes of a guest.
#[derive(Debug)]
enum Expect {
    /// The attempt fails in this way, for a reason with these words.
    Fails(FailureKind, &'static str),
    /// It is not loaded, for a reason with these words.
    Refused(&'static str),
    /// It does what it wants and harms nobody.
    Harmless,
}

/// A name and a guest.
type Row = (&'static str, fn() -> Hostile);

/// Makes a test of each row, and a table of all rows.
macro_rules! hostile {
    ($($name:ident: $guest:expr;)*) => {
        pub(super) const TABLE: &[$crate::hostile::Row] = &[$((stringify!($name), || $guest)),*];
        $(
            #[tokio::test]
            async fn $name() {
                $crate::hostile::check($guest).await;
            }
        )*
    };
}
use hostile;

impl Hostile {
    fn new(wasm: Vec<u8>, expect: Expect) -> Self {
        Self {
            wasm,
            policy: policy(),
            expect,
            lines: |_| {},
        }
    }

    /// It would go on for ever.
    fn endless(wasm: Vec<u8>) -> Self {
        let mut guest = Self::new(
            wasm,
            Expect::Fails(FailureKind::Timeout, "did not answer within its timeout"),
        );
        guest.policy.timeout = Duration::from_millis(100);
        guest
    }

    fn traps(wasm: Vec<u8>, reason: &'static str) -> Self {
        Self::new(wasm, Expect::Fails(FailureKind::Trap, reason))
    }

    fn exhausts(wasm: Vec<u8>) -> Self {
        let mut guest = Self::new(
            wasm,
            Expect::Fails(FailureKind::Memory, "more than its limit of 16777216 bytes"),
        );
        guest.policy.limits.memory = 16 << 20;
        guest
    }

    fn rejects(wasm: Vec<u8>, reason: &'static str) -> Self {
        Self::new(wasm, Expect::Fails(FailureKind::Reject, reason))
    }

    fn refused(wasm: Vec<u8>, reason: &'static str) -> Self {
        Self::new(wasm, Expect::Refused(reason))
    }

    fn harmless(wasm: Vec<u8>) -> Self {
        Self::new(wasm, Expect::Harmless)
    }

    fn with(mut self, change: impl FnOnce(&mut GuestPolicy)) -> Self {
        change(&mut self.policy);
        self
    }

    fn prints(mut self, lines: fn(&[LogLine])) -> Self {
        self.lines = lines;
        self
    }

    /// Loads it; none if it was refused as expected. What was not as expected, in words.
    async fn load(&self, bench: &Bench) -> Result<Option<Component>, String> {
        let loaded = in_time(bench.load_with(self.wasm.clone(), &self.policy)).await?;
        match (loaded, &self.expect) {
            (Err(error), Expect::Refused(reason)) if error.to_string().contains(reason) && !error.is_transient() => {
                Ok(None)
            }
            (Err(error), _) => Err(format!("it was refused: {error}")),
            (Ok(_), Expect::Refused(_)) => Err("it was not refused".to_owned()),
            (Ok(component), _) => Ok(Some(component)),
        }
    }

    /// Runs it once; what was not as expected, in words.
    async fn run(&self, bench: &Bench, component: &Component) -> Result<(), String> {
        bench.lines.lock().unwrap().clear();
        let report = in_time(bench.run_with(component, &[b"body"], &self.policy)).await?;
        match (report.verdicts.as_slice(), &self.expect) {
            ([Verdict::Failed(failure)], Expect::Fails(kind, reason)) => {
                if failure.kind != *kind || !failure.reason.contains(reason) {
                    return Err(format!("it failed otherwise: {failure:?}"));
                }
                if !report.sends.is_empty() {
                    return Err("what a failed attempt sent was kept".to_owned());
                }
            }
            ([Verdict::Success], Expect::Harmless) => {}
            (verdicts, _) => return Err(format!("it came to {verdicts:?}")),
        }
        (self.lines)(&bench.lines.lock().unwrap());
        Ok(())
    }

    /// Runs it `times` times, or loads it as often if it is refused.
    async fn attempts(&self, bench: &Bench, component: Option<&Component>, times: usize) -> Result<(), String> {
        for _ in 0..times {
            match component {
                Some(component) => self.run(bench, component).await?,
                None => drop(self.load(bench).await?),
            }
        }
        Ok(())
    }
}

/// Every single step has a bound. Nothing is measured: it tells slow from never.
async fn in_time<F: Future>(step: F) -> Result<F::Output, String> {
    tokio::time::timeout(PATIENCE, step)
        .await
        .map_err(|_| format!("no end within {PATIENCE:?}"))
}

async fn check(guest: Hostile) {
    let bench = Bench::new();
    let attempt = async {
        let component = guest.load(&bench).await?;
        guest.attempts(&bench, component.as_ref(), 1).await
    };
    assert_eq!(attempt.await, Ok(()), "expected: {:?}", guest.expect);
    assert_eq!(bench.executor.live_instances(), 0);
    bench.check_neighbour().await;
}

#[test]
fn the_tables_have_more_than_a_hundred_and_fifty_guests() {
    assert!(table().count() > 150, "only {} guests", table().count());
}

fn table() -> impl Iterator<Item = &'static Row> {
    [
        answers::TABLE,
        collected::TABLE,
        compiling::TABLE,
        computing::TABLE,
        host_calls::TABLE,
        memory::TABLE,
        output::TABLE,
        sends::TABLE,
    ]
    .into_iter()
    .flatten()
}

/// In a process of its own. The slack is what allocators keep and threads that sleep for a while take, and less than what
/// twenty attempts of a guest that leaked a page of its memory would cost.
#[test]
fn memory_stays_flat_when_a_hostile_guest_runs_again_and_again() {
    alone(
        "hostile::memory_stays_flat_when_a_hostile_guest_runs_again_and_again",
        || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let grown = runtime.unwrap().block_on(grown());
            assert!(grown.is_empty(), "{grown:#?}");
        },
    );
}

/// Those that are not as expected when they run twenty times, or take more of the process each time.
async fn grown() -> Vec<String> {
    let slack = Resources {
        memory: 4096,
        mappings: 16,
        files: 0,
        threads: 2,
    };
    let bench = Bench::with(EngineOptions {
        max_live_instances: 1,
        threads: 1,
        tiers: CodeTiers::Fast,
        ..EngineOptions::default()
    });
    let mut grown = Vec::new();
    // A collected heap takes a slot of the pool that was not used before, until a hundred are warm. What these keep is bounded and no
    // leak, but looks like one here.
    let collected: Vec<_> = collected::TABLE.iter().map(|(name, _)| *name).collect();
    for (name, guest) in table().filter(|(name, _)| !collected.contains(name)) {
        let mut guest = guest();
        if matches!(guest.expect, Expect::Fails(FailureKind::Timeout, _)) {
            guest.policy.timeout = Duration::from_millis(5);
        }
        let mut growth = String::new();
        let attempts = async {
            let component = guest.load(&bench).await?;
            guest.attempts(&bench, component.as_ref(), 4).await?;
            // What a busy machine adds once, such as threads that read files, is no leak: a leak adds to it the next time, too.
            for _ in 0..3 {
                let before = Resources::own();
                guest.attempts(&bench, component.as_ref(), 20).await?;
                growth = Resources::own().grown_since(&before, &slack);
                if growth.is_empty() {
                    break;
                }
            }
            Ok::<(), String>(())
        };
        let attempts = attempts.await;
        bench.check_neighbour().await;
        if attempts.is_err() || !growth.is_empty() || bench.executor.live_instances() != 0 {
            grown.push(format!("{name}: {attempts:?} {growth}"));
        }
    }
    grown
}
