//! How long a handler takes from its file to its first message, and how long a host takes to be ready, as ratios to what the
//! engine takes by itself for the same component.
//!
//! The bare loop has the host's settings: it compiles the component without optimisation, as the host does first, or maps
//! optimised code that was compiled before; then it links, makes an instance and calls it. The host also waits until the file is quiet,
//! starts a compiler, checks and tries what comes out, and receives and settles a message that waits already. A host that
//! is ready has loaded every handler.
//!
//! Two bounds are in milliseconds, because that is what is promised.
//!
//! `cargo bench --workspace --bench startup`; with `-- NAME..` for some of the components: `rust`, `javascript`, `go`,
//! `spidermonkey`, `python`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark speaks to a person"
)]

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use harness::{
    bare::{Forgetful, component, link, message, worker},
    built::{order, orders},
    conformance,
    guests::edited,
    host::{Host, Place},
    ratios::{Bound, Figures, Row, compare, machine, print_row},
    toolchains, wait_closely, wait_for,
};
use sandhog_executor::digest;
use serde_json::{Value, json};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// From a file that is written to its first message, for a component of some 100 KB.
const FIRST_MESSAGE: Bound = Bound::FigureAtMost(1000.0);
/// From the start of a process to its readiness, with a component of 12 MB that was compiled before.
const READY: Bound = Bound::FigureAtMost(300.0);
/// Does nothing of what the conformance handlers know as a command, so they send its length.
const WORDS: &str = "a body of some words, which is not a command";

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|each| each != "--bench").collect();
    println!("{}", machine());
    for (name, subject) in SUBJECTS {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            measure(&subject());
        }
    }
}

/// A name on the command line, and what makes it.
type Named = (&'static str, fn() -> Subject);

const SUBJECTS: [Named; 5] = [
    ("rust", || Subject {
        to: "invoices",
        body: order,
        rounds: 7,
        ..Subject::new("Rust", &orders())
    }),
    ("javascript", || {
        Subject::new("JavaScript on QuickJS", &conformance::javascript().wasm)
    }),
    ("go", || Subject::new("Go", &conformance::go().wasm)),
    ("spidermonkey", || {
        Subject::new("JavaScript on SpiderMonkey", &toolchains::spidermonkey())
    }),
    ("python", || Subject::new("Python", &conformance::python().wasm)),
];

/// A component, and what makes it send one message.
struct Subject {
    name: String,
    wasm: Vec<u8>,
    body: fn(u32) -> String,
    to: &'static str,
    rounds: usize,
}

impl Subject {
    fn new(language: &str, file: &Path) -> Self {
        let wasm = fs::read(file).unwrap();
        Self {
            name: format!("{language}, {} KB", wasm.len() / 1000),
            wasm,
            body: |_| WORDS.to_owned(),
            to: "out",
            rounds: 3,
        }
    }

    /// A row that is bounded for small components.
    fn first_message<'a>(&self, row: Row<'a>) -> Row<'a> {
        if self.wasm.len() < 500_000 {
            row.bound(FIRST_MESSAGE)
        } else {
            row
        }
    }

    /// A place without handlers.
    fn place(&self) -> Place {
        let place = Place::new();
        place.configure(&format!("[queues.in]\n[queues.{}]\n", self.to));
        let manifest = format!("[grant]\nsend = [\"{}\"]\n[limits]\ncompile-time = \"30m\"\n", self.to);
        fs::write(place.plugin("in.toml"), manifest).unwrap();
        place
    }

    /// A place whose host has compiled the component as well as it can, and how long it took for that.
    fn kept(&self) -> (Place, f64) {
        let place = self.place();
        let host = place.start();
        host.wait_ready();
        let start = put(&place, &self.wasm);
        // The largest takes longer than a test would wait.
        while host.events("compiled (optimised)").is_empty() {
            harness::pause();
        }
        let took = ms(start);
        wait_for("the artifact", || {
            let mut files = fs::read_dir(place.data().join("artifacts")).unwrap();
            files
                .any(|file| file.unwrap().file_name().to_str().unwrap().ends_with("-optimised"))
                .then_some(())
        });
        host.terminate();
        (place, took)
    }

    fn send(&self, host: &Host) {
        host.send("in", (self.body)(next()).as_bytes());
    }

    /// Waits until a message was handled: what it sent goes out with its deletion.
    fn wait_handled(&self, host: &Host) {
        let start = Instant::now();
        let message = loop {
            assert!(start.elapsed() < Duration::from_mins(10), "{:#?}", host.log());
            let path = format!("/queues/{}/receive?max=1&wait=20s", self.to);
            let answer = host.post(&path, &Value::Null);
            if let Some(message) = answer["messages"].as_array().unwrap().first() {
                break message.clone();
            }
        };
        let settle = json!({ "receipt": message["receipt"], "action": "delete" });
        host.post(&format!("/queues/{}/settle", self.to), &settle);
    }

    /// From the rename of a file to the end of a message that waits for it. In ms.
    fn drop_in(&self, place: &Place, host: &Host) -> f64 {
        self.send(host);
        let start = put(place, &self.wasm);
        self.wait_handled(host);
        ms(start)
    }

    /// From the rename of another version to the end of the first message that it handles. In ms.
    fn replace(&self, place: &Place, host: &Host) -> f64 {
        let changed = edited(&self.wasm, next());
        let digest = digest(&changed);
        let start = put(place, &changed);
        wait_closely("the new version", || {
            (host.get("/handlers")["handlers"][0]["digest"] == *digest).then_some(())
        });
        self.send(host);
        self.wait_handled(host);
        ms(start)
    }
}

/// A number that was not there before.
fn next() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// Puts a file there by a rename; since when.
fn put(place: &Place, wasm: &[u8]) -> Instant {
    fs::write(place.plugin(".in.wasm"), wasm).unwrap();
    let start = Instant::now();
    fs::rename(place.plugin(".in.wasm"), place.plugin("in.wasm")).unwrap();
    start
}

/// A host that is ready, and how long it took. In ms.
fn ready(place: &Place) -> (Host, f64) {
    let start = Instant::now();
    let host = place.start();
    wait_closely("readiness", || (host.text("/ready").0 == 200).then_some(()));
    let took = ms(start);
    (host, took)
}

fn measure(subject: &Subject) {
    let bare = Bare::new(&subject.wasm, (subject.body)(next()).as_bytes());
    let (kept, optimised) = subject.kept();
    with_code_kept(subject, &bare, &kept);
    with_nothing_kept(subject, &bare, &kept);
    print_row(
        "(one round) bare loop, optimised code",
        &Figures::new(vec![bare.optimised]),
        &Figures::new(vec![bare.optimised]),
        None,
    );
    print_row(
        "(one round) host, dropped in, to optimised code, behind the first",
        &Figures::new(vec![optimised]),
        &Figures::new(vec![bare.optimised]),
        None,
    );
}

fn with_code_kept(subject: &Subject, bare: &Bare, kept: &Place) {
    let empty = subject.place();
    let running = RefCell::new(None);
    let to_ready = Row::new("host, start to ready", || {
        let (host, took) = ready(kept);
        assert!(host.events("compiled (").is_empty());
        running.replace(Some(host));
        took
    });
    let dropped_in = Row::new("host, file dropped in to its first message", || {
        let host: Host = running.take().unwrap();
        fs::remove_file(kept.plugin("in.wasm")).unwrap();
        wait_for("the handler to be gone", || {
            let handlers = host.get("/handlers");
            handlers["handlers"].as_array().unwrap().is_empty().then_some(())
        });
        let took = subject.drop_in(kept, &host);
        assert!(host.events("compiled (").is_empty());
        host.terminate();
        took
    });
    let figures = compare(
        &format!("{}: compiled before", subject.name),
        "ms",
        subject.rounds,
        vec![
            Row::new("bare loop: code mapped, an instance, a call", || bare.mapped()),
            Row::new("host without handlers, start to ready", || {
                let (host, took) = ready(&empty);
                host.terminate();
                took
            }),
            if subject.wasm.len() > 10_000_000 {
                to_ready.bound(READY)
            } else {
                to_ready
            },
            subject.first_message(dropped_in),
        ],
    );
    print_row(
        "host, start to ready, to a host without handlers",
        &figures[2],
        &figures[1],
        None,
    );
}

fn with_nothing_kept(subject: &Subject, bare: &Bare, kept: &Place) {
    compare(
        &format!("{}: never compiled before", subject.name),
        "ms",
        subject.rounds,
        vec![
            Row::new("bare loop: compiled, an instance, a call", || bare.compiled()),
            Row::new("host, start to ready", || {
                let place = subject.place();
                put(&place, &subject.wasm);
                let (host, took) = ready(&place);
                host.kill();
                took
            }),
            subject.first_message(Row::new("host, file dropped in to its first message", || {
                let place = subject.place();
                let (host, _) = ready(&place);
                let took = subject.drop_in(&place, &host);
                host.kill();
                took
            })),
            subject.first_message(Row::new(
                "host, file replaced to the new version's first message",
                || {
                    put(kept, &subject.wasm);
                    let (host, _) = ready(kept);
                    let took = subject.replace(kept, &host);
                    host.terminate();
                    took
                },
            )),
        ],
    );
}

/// The engine with the settings of the host, and nothing else of it.
struct Bare {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    component: Vec<u8>,
    /// Optimised code, as the engine keeps it.
    code: PathBuf,
    /// How long it took to compile that, in ms.
    optimised: f64,
    message: worker::sandhog::worker::types::Message,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

struct State {
    sends: Forgetful,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

fn engine(level: wasmtime::OptLevel) -> wasmtime::Engine {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    config.wasm_memory64(false);
    config.wasm_custom_page_sizes(false);
    config.native_unwind_info(false);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.cranelift_opt_level(level);
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.max_memory_size(512 << 20).table_elements(100_000);
    pool.max_core_instances_per_component(128)
        .max_memories_per_component(32)
        .max_tables_per_component(64);
    pool.max_component_instance_size(16 << 20)
        .max_core_instance_size(16 << 20);
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&config).unwrap()
}

impl Bare {
    fn new(wasm: &[u8], body: &[u8]) -> Self {
        // What is compiled first is not optimised, and what is kept is.
        let quick = engine(wasmtime::OptLevel::None);
        let component = component(wasm);
        let start = Instant::now();
        let optimised = engine(wasmtime::OptLevel::Speed);
        let code = optimised.precompile_component(&component).unwrap();
        let took = ms(start);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("code");
        fs::write(&file, code).unwrap();
        let mut linker = Linker::<State>::new(&quick);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        link(&mut linker, |state| &mut state.sends);
        // They link a log, and write nothing.
        let mut log = linker.instance("wasi:logging/logging@0.1.0-draft").unwrap();
        log.func_new("log", |_, _, _, _| Ok(())).unwrap();
        Self {
            engine: quick,
            linker,
            component,
            code: file,
            optimised: took,
            message: message(body),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _directory: directory,
        }
    }

    fn compiled(&self) -> f64 {
        let start = Instant::now();
        self.call(&Component::from_binary(&self.engine, &self.component).unwrap());
        ms(start)
    }

    fn mapped(&self) -> f64 {
        let start = Instant::now();
        self.call(&map(&self.engine, &self.code));
        ms(start)
    }

    fn call(&self, component: &Component) {
        let pre = worker::WorkerPre::new(self.linker.instantiate_pre(component).unwrap()).unwrap();
        let state = State {
            sends: Forgetful,
            wasi: WasiCtxBuilder::new().build(),
            table: ResourceTable::new(),
        };
        let mut store = wasmtime::Store::new(&self.engine, state);
        store.set_epoch_deadline(1);
        self.runtime.block_on(async {
            let worker = pre.instantiate_async(&mut store).await.unwrap();
            let handler = worker.sandhog_worker_handler();
            handler.call_handle(&mut store, &self.message).await.unwrap().unwrap();
        });
    }
}

fn map(engine: &wasmtime::Engine, code: &Path) -> Component {
    #[expect(unsafe_code, reason = "the engine can't check machine code")]
    // SAFETY: this process has written the file, from the engine's own answer, into a directory of its own.
    unsafe { Component::deserialize_file(engine, code) }.unwrap()
}
