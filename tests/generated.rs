//! Twenty thousand components that nobody wrote: generated ones, damaged ones, and damaged copies of real ones. Each is refused
//! or gets a verdict, in time, and leaves nothing behind.
//!
//! The description of its world that a module carries is left whole: the decoder of such descriptions can be sent into endless
//! recursion by a single bit, which takes the process down that decodes.

#![expect(clippy::indexing_slicing, reason = "positions are drawn from what is there")]
#![expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]

use std::{fs, sync::Mutex, time::Duration};

use arbitrary::Unstructured;
use harness::{
    bench::{Bench, policy, together},
    hostile::{Parts, encoded, of_the_world},
    process::{Resources, alone, tally},
};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::SmallRng};
use sandhog_demo::guests::{Progress, build};
use sandhog_executor::{CodeTiers, EngineOptions, Executor as _, GuestPolicy, LoadError, Verdict};
use sandhog_queue::FailureKind;
use wasm_smith::Config;

const CASES: u64 = 20_000;
/// After so many the process has what it needs, and should need no more.
const WARM_UP: u64 = 4000;
/// How many are under way at a time.
const AT_ONCE: u64 = 3;

/// The exports of a handler and nothing in them.
const SHAPE: &str = r#"(module (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "sandhog:worker/handler@0.1.0#handle")
        (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32) (result i32) unreachable))"#;

/// What a case is made of.
struct Material {
    shape: Vec<u8>,
    real: Vec<Vec<u8>>,
    examples: Vec<Vec<u8>>,
}

impl Material {
    fn new() -> Self {
        let handler = Parts::handle("(global.get $ok)");
        let real = vec![encoded(&handler.wasm()), encoded(&handler.sends().wasm())];
        let mut examples = Vec::new();
        for path in build(Progress::Hidden).unwrap().values() {
            let bytes = fs::read(path).unwrap();
            let is_module = bytes.starts_with(b"\0asm\x01");
            examples.push(if is_module { encoded(&bytes) } else { bytes });
        }
        Self {
            shape: wat::parse_str(SHAPE).unwrap(),
            real,
            examples,
        }
    }

    /// The kind of a case, and its bytes.
    fn case(&self, seed: u64) -> (&'static str, Vec<u8>) {
        let mut rng = SmallRng::seed_from_u64(seed);
        match seed % 20 {
            0..=8 => ("generated handler", of_the_world(self.handler(&mut rng))),
            9..=11 => {
                let module = damaged(self.handler(&mut rng), &self.real, &mut rng);
                ("damaged module of a handler", of_the_world(module))
            }
            12..=13 => {
                let component = encoded(&of_the_world(self.handler(&mut rng)));
                (
                    "damaged component of a handler",
                    damaged(component, &self.real, &mut rng),
                )
            }
            14..=15 => ("generated component", component(&mut rng)),
            16..=17 => {
                let bytes = component(&mut rng);
                ("damaged component", damaged(bytes, &self.real, &mut rng))
            }
            _ => {
                // Most are small ones: the compiler takes a hundred times longer for the examples.
                let among = if seed % 200 == 199 { &self.examples } else { &self.real };
                let bytes = among[rng.random_range(0..among.len())].clone();
                ("damaged real one", damaged(bytes, &self.real, &mut rng))
            }
        }
    }

    /// A core module with the exports of a handler, and random functions behind them.
    fn handler(&self, rng: &mut impl Rng) -> Vec<u8> {
        let config = Config {
            exports: Some(self.shape.clone()),
            max_imports: 0,
            max_memories: 2,
            max_types: 10,
            max_globals: 10,
            ..modest()
        };
        let module = wasm_smith::Module::new(config, &mut Unstructured::new(&entropy(rng, 2000)));
        module.map_or_else(|_| self.shape.clone(), |module| module.to_bytes())
    }
}

/// A component of random types, modules and instances.
fn component(rng: &mut impl Rng) -> Vec<u8> {
    let bytes = entropy(rng, 1000);
    let made = wasm_smith::Component::new(modest(), &mut Unstructured::new(&bytes));
    made.map_or_else(|_| b"\0asm\x0d\0\x01\0".to_vec(), |component| component.to_bytes())
}

/// What the host's engine is told to take, so that more than refusals are tried.
fn modest() -> Config {
    Config {
        exceptions_enabled: true,
        gc_enabled: true,
        memory64_enabled: false,
        reference_types_enabled: true,
        tail_call_enabled: true,
        threads_enabled: false,
        max_modules: 3,
        max_components: 3,
        max_instances: 3,
        max_funcs: 5,
        max_instructions: 40,
        max_memory32_bytes: 4 << 20,
        max_table_elements: 1000,
        ..Config::default()
    }
}

fn entropy(rng: &mut impl Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(50..most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Some bits turned around, an end cut off, or a piece of another one put in.
fn damaged(mut bytes: Vec<u8>, others: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    match rng.random_range(0..10) {
        0 => bytes.truncate(rng.random_range(0..bytes.len())),
        1 => {
            let other = &others[rng.random_range(0..others.len())];
            let from = rng.random_range(0..other.len());
            let to = (from + rng.random_range(1..200)).min(other.len());
            let at = rng.random_range(0..bytes.len());
            let end = (at + rng.random_range(0..200)).min(bytes.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        2 => {
            let at = rng.random_range(0..bytes.len());
            let end = (at + rng.random_range(1..100)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
        }
    }
    bytes
}

/// What became of a case, in a few words.
async fn outcome(bench: &Bench, policy: &GuestPolicy, wasm: Vec<u8>) -> Result<&'static str, String> {
    let bound = harness::PATIENCE;
    let loaded = tokio::time::timeout(bound, bench.load_with(wasm, policy)).await;
    let component = match loaded.map_err(|_| "no end to its load".to_owned())? {
        Ok(component) => component,
        Err(error) => return refusal(&error).ok_or_else(|| error.to_string()),
    };
    let bodies: Vec<&[u8]> = vec![b"body"];
    let ran = tokio::time::timeout(bound, bench.run_with(&component, &bodies, policy)).await;
    let report = ran.map_err(|_| "no end to its run".to_owned())?;
    let failure = match report.verdicts.as_slice() {
        [Verdict::Success] => return Ok("ran: success"),
        [Verdict::Failed(failure)] => failure,
        other => return Err(format!("{other:?}")),
    };
    match failure.kind {
        FailureKind::Trap => Ok("ran: trap"),
        FailureKind::Timeout => Ok("ran: timeout"),
        FailureKind::Memory => Ok("ran: memory"),
        FailureKind::Retry | FailureKind::Reject => Ok("ran: a failure of its own"),
        FailureKind::WrongAnswer | FailureKind::HostStopped => Err(failure.reason.clone()),
    }
}

/// Why it was refused, if that is final: nothing that a file says is a fault of the host.
fn refusal(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::NotWasm { .. } => Some("refused: not WebAssembly"),
        LoadError::NotAComponent { .. } => Some("refused: can't be made a component"),
        LoadError::Invalid { .. } => Some("refused: invalid"),
        LoadError::Flavour { .. } => Some("refused: no handler"),
        LoadError::Import { .. } | LoadError::NotGranted { .. } => Some("refused: imports"),
        LoadError::Start { .. } => Some("refused: does not start"),
        LoadError::TooLarge { .. } => Some("refused: too large"),
        LoadError::Host { .. } | _ => None,
    }
}

fn cases() -> Vec<u64> {
    let given = std::env::var_os("SANDHOG_SEED").map(|seed| seed.to_str().unwrap().parse().unwrap());
    given.map_or_else(|| (0..CASES).collect(), |seed| vec![seed])
}

async fn run(bench: &Bench, material: &Material, seeds: &[u64]) -> Vec<(&'static str, &'static str)> {
    let mut policy = policy();
    policy.timeout = Duration::from_millis(10);
    policy.limits.memory = 8 << 20;
    let seeds = Mutex::new(seeds.iter());
    let (seeds, policy) = (&seeds, &policy);
    let all = together((0..AT_ONCE).map(|_| async move {
        let mut outcomes = Vec::new();
        loop {
            let Some(seed) = seeds.lock().unwrap().next() else {
                return outcomes;
            };
            let (kind, wasm) = material.case(*seed);
            let outcome = outcome(bench, policy, wasm).await;
            outcomes.push((
                kind,
                outcome.unwrap_or_else(|error| panic!("SANDHOG_SEED={seed}, a {kind}: {error}")),
            ));
        }
    }))
    .await;
    all.into_iter().flatten().collect()
}

async fn nothing_is_left() {
    let bench = Bench::with(EngineOptions {
        max_live_instances: 4,
        threads: 2,
        tiers: CodeTiers::Fast,
        ..EngineOptions::default()
    });
    let material = Material::new();
    let seeds = cases();
    let (first, rest) = seeds.split_at(seeds.len().min(usize::try_from(WARM_UP).unwrap()));
    let started = std::time::Instant::now();
    let mut outcomes = run(&bench, &material, first).await;
    let before = Resources::own();
    outcomes.extend(run(&bench, &material, rest).await);
    assert_eq!(bench.executor.live_instances(), 0);
    let after = Resources::own();
    println!(
        "{} cases in {:?}; {before:?}, then {after:?}",
        outcomes.len(),
        started.elapsed()
    );
    for ((kind, outcome), count) in tally(outcomes) {
        println!("{count:>6} {kind}: {outcome}");
    }
    let slack = Resources {
        memory: 64 << 10,
        mappings: 64,
        files: 0,
        threads: 2,
    };
    let grown = after.grown_since(&before, &slack);
    assert!(grown.is_empty(), "{grown}");
    bench.check_neighbour().await;
}

#[test]
fn twenty_thousand_generated_and_damaged_components_get_a_verdict_and_leave_nothing() {
    alone(
        "generated::twenty_thousand_generated_and_damaged_components_get_a_verdict_and_leave_nothing",
        || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(nothing_is_left());
        },
    );
}
