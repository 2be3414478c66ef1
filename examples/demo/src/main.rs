//! `cargo demo`: builds the example handlers, runs the host on them, and shows what came out. `cargo demo sqs` does so on
//! queues of an SQS server on this machine.
//!
//! Everything happens in `target/demo` or `target/demo-sqs`, which is emptied first.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the demo speaks to a person")]

mod http;
mod process;
mod sqs;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sandhog_demo::guests::{self, Progress};
use serde_json::Value;

use crate::http::{Host, Received};
use crate::process::Process;
use crate::sqs::SqsServer;

const USAGE: &str = "usage: cargo demo [sqs]

  cargo demo       runs the example handlers on queues of the host's own
  cargo demo sqs   runs them on queues of Amazon SQS, as a small server on this machine plays it; no account is needed";

/// The example handlers, which are the names of their queues, and where each sends its results.
const EXAMPLES: [(&str, &str); 3] = [
    ("thumbnail", "thumbnails"),
    ("orders", "invoices"),
    ("report", "reports"),
];
/// The first start compiles the handlers.
const READY_TIME_MAX: Duration = Duration::from_mins(2);
const HANDLED_TIME_MAX: Duration = Duration::from_mins(2);

/// What keeps the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queues {
    /// The host itself.
    Simple,
    /// A server that speaks the protocol of Amazon SQS.
    Sqs,
}

impl Queues {
    /// Where the demo happens, below `target/`.
    fn directory(self) -> &'static str {
        match self {
            Self::Simple => "demo",
            Self::Sqs => "demo-sqs",
        }
    }

    /// The programs that it needs.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Simple => &["sandhog"],
            Self::Sqs => &["sandhog", "sqs-server"],
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).map(OsStr::to_str).collect();
    match arguments.as_slice() {
        [] => run(Queues::Simple)?,
        [Some("sqs")] => run(Queues::Sqs)?,
        [Some("--help" | "-h" | "help")] => println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(queues: Queues) -> Result<()> {
    let directory = guests::target().join(queues.directory());
    let _alone = lock(&directory)?;
    prepare(&directory)?;
    let programs = build_programs(queues.programs())?;
    let sandhog = program(&programs, "sandhog")?;

    let (mut process, _server) = match queues {
        Queues::Simple => {
            println!("Starting sandhog on {}.", shown(&directory.join("plugins")));
            (Process::start(sandhog, &directory, "plugins", &[])?, None)
        }
        Queues::Sqs => {
            fs::copy(example("sqs").join("sandhog.toml"), directory.join("sandhog.toml"))?;
            let server = start_sqs(program(&programs, "sqs-server")?, &directory)?;
            println!("Starting sandhog on {}.", shown(&directory.join("sandhog.toml")));
            let environment = server.environment();
            let process = Process::start(sandhog, &directory, "sandhog.toml", &environment)?;
            (process, Some(server))
        }
    };
    let host = Host::new(&process.address);
    process.wait_until("the host is ready", READY_TIME_MAX, || Ok(host.is_ready()))?;
    println!("It listens on {}.\n", host.url);

    let started = Instant::now();
    let sources = send_inputs(&host)?;
    process.wait_until("all messages are handled", HANDLED_TIME_MAX, || is_settled(&host))?;
    println!(
        "All {} messages are handled, in {:.1} s.\n",
        sources.len(),
        started.elapsed().as_secs_f64()
    );

    show_results(&host, &directory.join("out"), &sources)?;
    show_dead_letters(&host, &sources)?;
    process.stop()?;
    println!(
        "The host has stopped. Its log is {}.\n",
        shown(&directory.join("host.log"))
    );
    match queues {
        Queues::Simple => show_what_is_next(sandhog, &directory),
        Queues::Sqs => show_what_is_next_on_sqs(sandhog, &directory),
    }
    Ok(())
}

/// Waits until no other demo is in the directory, and keeps others out until it is dropped.
fn lock(directory: &Path) -> Result<File> {
    fs::create_dir_all(guests::target())?;
    let lock = File::create(directory.with_extension("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Starts the SQS server, with the queues that the configuration names.
fn start_sqs(program: &Path, directory: &Path) -> Result<SqsServer> {
    println!("Starting an SQS server.");
    let server = SqsServer::start(program, &directory.join("sqs-server.log"))?;
    let configuration = fs::read_to_string(directory.join("sandhog.toml"))?;
    let names = sqs::queue_names(&configuration)?;
    for name in &names {
        server.create_queue(name)?;
    }
    println!("It listens on {}, and has the queues {}.", server.url, names.join(", "));
    Ok(server)
}

/// Builds the handlers and makes an empty directory with them as plugins.
fn prepare(directory: &Path) -> Result<()> {
    println!("Building the example handlers. (The first time can take two minutes, later ones take no time.)");
    let files = guests::build(Progress::Shown)?;
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| shown(directory))?;
    }
    let plugins = directory.join("plugins");
    fs::create_dir_all(&plugins)?;
    for (name, _) in EXAMPLES {
        let wasm = files.get(name).with_context(|| format!("the build has no {name}"))?;
        fs::copy(wasm, plugins.join(format!("{name}.wasm")))?;
        let manifest = format!("{name}.toml");
        fs::copy(example(name).join(&manifest), plugins.join(manifest))?;
    }
    Ok(())
}

/// Builds programs of this repository in the profile that this program was built in, and returns their files.
fn build_programs(names: &[&str]) -> Result<Vec<PathBuf>> {
    println!("Building {}.", names.join(" and "));
    let this = std::env::current_exe()?;
    let profile = match this.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
        None | Some("debug" | "deps") => "dev",
        Some(directory) => directory,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // No package is named: cargo then unites the features of the same packages as in `cargo run --bin demo`,
    // and nothing is built twice.
    let output = Command::new(cargo)
        .current_dir(guests::repository())
        .args([
            "build",
            "--profile",
            profile,
            "--message-format=json-render-diagnostics",
        ])
        .args(names.iter().flat_map(|name| ["--bin", name]))
        .stdin(Stdio::null())
        .stderr(if std::io::stderr().is_terminal() {
            Stdio::inherit()
        } else {
            Stdio::piped()
        })
        .output()?;
    if !output.status.success() {
        bail!(
            "building {} failed: {}\n{}",
            names.join(" and "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let messages = String::from_utf8(output.stdout)?;
    let files = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    Ok(files.collect())
}

/// Returns the file of one of the programs that were built.
fn program<'a>(files: &'a [PathBuf], name: &str) -> Result<&'a Path> {
    let file = files.iter().find(|file| file.file_stem() == Some(name.as_ref()));
    Ok(file.with_context(|| format!("cargo named no file for {name}"))?)
}

/// Sends all inputs to their queues, and returns the inputs' names by the messages' ids.
fn send_inputs(host: &Host) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    for (queue, _) in EXAMPLES {
        let mut inputs = fs::read_dir(example(queue).join("input"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        inputs.sort();
        println!("Sending to queue {queue}:");
        for input in inputs {
            let name = input.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let body = fs::read(&input)?;
            let id = host.send(queue, &body, &[("title", &title(&input))])?;
            println!("  {name:<24} {:>7} bytes   message {id}", body.len());
            sources.insert(id, name);
        }
    }
    println!();
    Ok(sources)
}

/// Tells whether every message sent to the handlers is deleted or dead.
fn is_settled(host: &Host) -> Result<bool> {
    let unsettled = host.unsettled()?;
    Ok(EXAMPLES.iter().all(|(queue, _)| unsettled.get(*queue) == Some(&0)))
}

/// Takes what the handlers sent off their queues, into files.
fn show_results(host: &Host, out: &Path, sources: &BTreeMap<String, String>) -> Result<()> {
    for (_, queue) in EXAMPLES {
        let directory = out.join(queue);
        fs::create_dir_all(&directory)?;
        println!("Queue {queue}, now in {}:", shown(&directory));
        let mut n_messages = 0;
        host.take(queue, |message| {
            let name = file_name(queue, &message, sources)?;
            println!(
                "  {name:<24} {:>7} bytes   {}",
                message.body.len(),
                description(&message)
            );
            fs::write(directory.join(name), &message.body)?;
            n_messages += 1;
            Ok(())
        })?;
        ensure!(n_messages > 0, "nothing came out of queue {queue}");
        println!();
    }
    Ok(())
}

/// Returns a name for a result: an invoice is named for its order, the others for their source.
fn file_name(queue: &str, message: &Received, sources: &BTreeMap<String, String>) -> Result<String> {
    if let Some(order) = message.attributes.get("order") {
        return Ok(format!("{order}.json"));
    }
    let source = message.attributes.get("source").and_then(|id| sources.get(id));
    let name = Path::new(source.with_context(|| format!("a message on {queue} names no source of ours"))?);
    let is_pdf = message
        .attributes
        .get("content-type")
        .is_some_and(|kind| kind == "application/pdf");
    Ok(if is_pdf {
        name.with_extension("pdf")
    } else {
        name.to_owned()
    }
    .display()
    .to_string())
}

/// Returns what a handler says about a result.
fn description(message: &Received) -> String {
    let shown = message
        .attributes
        .iter()
        .filter(|(name, _)| *name != "source" && *name != "order");
    shown
        .map(|(name, value)| format!("{name} {value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Lists the messages that the handlers rejected, with their reasons.
fn show_dead_letters(host: &Host, sources: &BTreeMap<String, String>) -> Result<()> {
    println!("Dead letters, which stay until they are put back or deleted:");
    for (queue, _) in EXAMPLES {
        for letter in host.dead_letters(queue)? {
            let name = sources.get(&letter.id).unwrap_or(&letter.id);
            println!("  {name:<24} {}", letter.reason);
        }
    }
    println!();
    Ok(())
}

fn show_what_is_next(sandhog: &Path, directory: &Path) {
    let (sandhog, plugins) = (shown(sandhog), shown(&directory.join("plugins")));
    let data = shown(&directory.join("data"));
    println!("Next, run the host yourself, on the same queues:");
    println!("  {sandhog} run {plugins} --data {data}");
    println!("and in another terminal:");
    println!("  {sandhog} send orders - < examples/orders/input/garden.json");
    println!("  {sandhog} queues");
    println!("  {sandhog} dead list orders");
    println!("While it runs, copy another handler to {plugins}: it is loaded, or replaces the one before.");
}

fn show_what_is_next_on_sqs(sandhog: &Path, directory: &Path) {
    let (sandhog, directory) = (shown(sandhog), shown(directory));
    println!("The SQS server ends with this demo. Next, do the same on AWS, with the same files:");
    println!("  1. Create the queues, with the commands in examples/sqs/README.md.");
    println!("  2. Run the host, with the region and the credentials that the aws command line uses:");
    println!("       {sandhog} run {directory}/sandhog.toml");
    println!("  3. In another terminal, send an order, and read what becomes of it:");
    println!("       {sandhog} send orders - < examples/orders/input/garden.json");
    println!("       {sandhog} queues");
    println!("       {sandhog} dead list orders");
    println!("docs/how-to/sqs.md has the permissions that the host needs, and the numbers that belong together.");
}

/// Returns a report's title for an input: `stations.csv` is `Stations`.
fn title(input: &Path) -> String {
    let stem = input
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .replace('-', " ");
    let mut characters = stem.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn example(name: &str) -> PathBuf {
    guests::repository().join("examples").join(name)
}

/// Returns a path as a person in the repository would type it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
