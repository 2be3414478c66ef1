//! What a process holds, read from `/proc`, and tests that need a process of their own for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Set for a test that runs in a process of its own, to its name.
const ALONE: &str = "SANDHOG_TEST_ALONE";

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Resident memory in KiB.
    pub memory: u64,
    /// Memory mappings.
    pub mappings: usize,
    /// Open descriptors.
    pub files: usize,
    pub threads: usize,
}

impl Resources {
    /// Of another process.
    pub fn of(process: u32) -> Self {
        Self::read(&PathBuf::from(format!("/proc/{process}")))
    }

    /// Of this process.
    pub fn own() -> Self {
        Self::read(Path::new("/proc/self"))
    }

    /// The most memory that this process has had at one time, in KiB.
    pub fn peak() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn read(process: &Path) -> Self {
        let status = fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        Self {
            memory: field("VmRSS:"),
            mappings: fs::read_to_string(process.join("maps")).unwrap().lines().count(),
            files: fs::read_dir(process.join("fd")).unwrap().count(),
            threads: usize::try_from(field("Threads:")).unwrap(),
        }
    }

    /// Which numbers are above those of `before` by more than `slack`, in words; empty if none is.
    pub fn grown_since(&self, before: &Self, slack: &Self) -> String {
        let pairs = [
            ("KiB resident", before.memory, self.memory, slack.memory),
            (
                "mappings",
                wide(before.mappings),
                wide(self.mappings),
                wide(slack.mappings),
            ),
            ("descriptors", wide(before.files), wide(self.files), wide(slack.files)),
            ("threads", wide(before.threads), wide(self.threads), wide(slack.threads)),
        ];
        let grown = pairs
            .iter()
            .filter(|(_, before, after, slack)| *after > before + slack)
            .map(|(what, before, after, _)| format!("{what}: {before} grew to {after}"));
        grown.collect::<Vec<_>>().join("; ")
    }
}

/// The most that a process has had resident at a time, in KiB.
pub fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

/// Processor time of a process, as exact as the kernel's ticks: its own, and that of the children that it has waited for. Zero
/// where the system does not say it.
pub fn ticked_time(process: &str) -> [Duration; 2] {
    // A hundred in a second, whatever the kernel is built for.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in brackets, which may contain anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = fields.map(|field| field.parse().unwrap_or(0));
    // In user mode and in the kernel.
    [(); 2].map(|()| TICK * ticks.by_ref().take(2).sum::<u32>())
}

/// Processor time of a process, to the nanosecond: the scheduler's account of each thread instead of the clock ticks of the whole.
#[derive(Debug)]
pub struct ProcessorTime {
    process: u32,
    /// What each thread had when it was last seen: what one does between that and its end is missed.
    threads: BTreeMap<String, Duration>,
}

impl ProcessorTime {
    /// Since the process started.
    pub fn of(process: u32) -> Self {
        let mut time = Self {
            process,
            threads: BTreeMap::new(),
        };
        time.look();
        time
    }

    /// Looks again, and returns the sum.
    pub fn look(&mut self) -> Duration {
        for thread in fs::read_dir(format!("/proc/{}/task", self.process)).unwrap() {
            let thread = thread.unwrap();
            // It may have ended meanwhile.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let ran = text.split_whitespace().next().unwrap().parse().unwrap();
            let name = thread.file_name().into_string().unwrap();
            self.threads.insert(name, Duration::from_nanos(ran));
        }
        self.threads.values().sum()
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap()
}

/// Runs a test in a process of its own, where no other test allocates or opens anything: `name` is its path, as in
/// `hostile::memory_stays_flat`. What it prints is passed on.
#[expect(clippy::print_stdout, reason = "a test's output is shown by whoever runs it")]
pub fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|alone| alone == name) {
        test();
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(ALONE, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}\n{said}\n{errors}",
        output.status
    );
    println!("{said}");
}

/// Counts how often each text is there.
pub fn tally<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_insert(0) += 1;
    }
    counts
}
