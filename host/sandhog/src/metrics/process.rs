//! The metrics that every process has by Prometheus' conventions, and what this program is.
//!
//! They are read from `/proc` when the page is read. Elsewhere than on Linux only those are there that are known.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
};

use sandhog_queue::metric_series::{LivingNames, MetricFamilies, MetricSeries, SeriesLabels};

/// The major version of the engine.
const WASMTIME: &str = "48";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
    wasmtime: &'static str,
}

impl SeriesLabels for BuildLabel {
    const NAMES: &'static [&'static str] = &["version", "wasmtime"];

    fn live(&self, _living: &LivingNames) -> bool {
        true
    }
}

/// The families of the process.
#[derive(Debug, Default)]
pub(crate) struct ProcessMetrics {
    build: MetricSeries<BuildLabel, Gauge>,
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open: Gauge,
    most_open: Gauge,
    start: Gauge<f64, AtomicU64>,
}

impl ProcessMetrics {
    pub(crate) fn register(&self, families: &mut MetricFamilies) {
        families.series(
            "build_info",
            "1, with the version of sandhog and of its engine",
            &self.build,
        );
        let label = BuildLabel {
            version: env!("CARGO_PKG_VERSION"),
            wasmtime: WASMTIME,
        };
        self.build.with(&label, |metric| metric.set(1));
        let help = "Processor time of the process";
        families.process("process_cpu_seconds", help, self.cpu.clone());
        let help = "Memory of the process that is in the machine's";
        families.process("process_resident_memory_bytes", help, self.resident.clone());
        families.process("process_open_fds", "Open files of the process", self.open.clone());
        let help = "The most files that the process may have open";
        families.process("process_max_fds", help, self.most_open.clone());
        let help = "When the process started, since 1970-01-01T00:00:00Z";
        families.process("process_start_time_seconds", help, self.start.clone());
    }

    /// Reads what the system says now. What it does not say stays as it was.
    pub(crate) fn look(&self) {
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).map_or(100.0, f64::from);
        let text = |path| fs::read_to_string(path).ok();
        if let Some(times) = text("/proc/self/stat").as_deref().and_then(ProcessTimes::read) {
            // The clock only goes on, so this is the counter that it is to be.
            self.cpu.inner().store((times.cpu_ticks / ticks).to_bits(), Relaxed);
            if let Some(booted) = text("/proc/stat").as_deref().and_then(boot_seconds) {
                self.start.set(booted + times.start_ticks / ticks);
            }
        }
        if let Some(pages) = text("/proc/self/statm").as_deref().and_then(|text| word(text, 1)) {
            let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.resident.set(whole(pages.saturating_mul(page)));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // The look itself has one open.
            self.open
                .set(i64::try_from(files.count().saturating_sub(1)).unwrap_or(i64::MAX));
        }
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.most_open.set(most.map_or(i64::MAX, whole));
    }
}

/// What `/proc/self/stat` says about times, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ProcessTimes {
    cpu_ticks: f64,
    /// Since the machine started.
    start_ticks: f64,
}

impl ProcessTimes {
    fn read(text: &str) -> Option<Self> {
        // The name of the program may have spaces and brackets of its own. The third field comes after it.
        let (_, rest) = text.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
        })
    }
}

fn boot_seconds(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn word(text: &str, at: usize) -> Option<u64> {
    text.split_whitespace().nth(at)?.parse().ok()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_any_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        let expected = ProcessTimes {
            cpu_ticks: 300.0,
            start_ticks: 12345.0,
        };
        assert_eq!(ProcessTimes::read(text), Some(expected));
        assert_eq!(ProcessTimes::read("7 (a) S"), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_knows_what_it_has() {
        let metrics = ProcessMetrics::default();
        metrics.look();
        assert!(metrics.resident.get() > 1_000_000 && metrics.open.get() >= 3);
        assert!(metrics.most_open.get() >= metrics.open.get());
        assert!(metrics.start.get() > 1_600_000_000.0);
    }
}
