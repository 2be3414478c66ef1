//! The manifest of one handler: `plugins/NAME.toml` beside `plugins/NAME.wasm`.
//!
//! Invariant: no other module repeats a default of a key that is read here. The limits of an attempt have a table of their
//! own, in the executor's policy.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Environment, environment,
    grants::{CommandSettings, ReferenceContext, read_grants},
    limits::read_limits,
    mistake::ConfigErrors,
    section::{TomlDocument, TomlSection},
};
use crate::rollout::RolloutTerms;
use sandhog_executor::policy::{Grants, Limits, Reuse};
use sandhog_queue::message::{MAX_DELAY, QueueName};

/// The settings of one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The queue that the handler serves. Key `queue`; default: the file's name.
    pub queue: QueueName,
    /// The most messages that the handler handles at a time. Key `concurrency`: 1 to 1024, default 16.
    pub concurrency: NonZeroUsize,
    /// The longest time of one attempt. Key `timeout`: 1 ms to 12 h, default 30 s.
    pub timeout: Duration,
    /// The most messages that one call of a batch handler takes. Key `batch-size`: 1 to 100, default 10.
    pub batch_size: NonZeroUsize,
    /// The life of an instance that answers several calls; `None` makes an instance for each call. Key `instance`: `"fresh"`, the default, or `"reuse"`.
    pub reuse: Option<Reuse>,
    /// The bounds of the delay of a failed message. Table `[retry]`.
    pub retry: RetryDelays,
    /// How a new version proves itself. Table `[rollout]`.
    pub rollout: RolloutTerms,
    /// The limits of one attempt. Key `memory` and table `[limits]`.
    pub limits: Limits,
    /// Everything that the handler may reach. Table `[grant]`, and the keys `stdout`, `args` and `exit-codes`.
    pub grants: Grants,
    /// How `sandhog dev` builds the handler. Table `[dev]`; a host that runs handlers ignores it.
    pub dev: DevSettings,
}

/// How `sandhog dev` builds and tests a handler, where that does not follow from the files of its project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevSettings {
    /// The shell's command that builds the component. Key `build`.
    pub build: Option<String>,
    /// The shell's command that runs the tests. Key `test`.
    pub test: Option<String>,
    /// The component that the build leaves, relative to the manifest. Key `output`.
    pub output: Option<PathBuf>,
}

impl DevSettings {
    fn read(mut section: TomlSection<'_>) -> Self {
        let text = |text: &str| (!text.trim().is_empty() && !text.contains('\0')).then(|| text.to_owned());
        let settings = Self {
            build: section.text("build", "a command", text),
            test: section.text("test", "a command", text),
            output: section.text("output", "the path of a file", text).map(PathBuf::from),
        };
        section.finish();
        settings
    }
}

fn read_reuse(root: &mut TomlSection<'_>) -> Option<Reuse> {
    let instance = root.text("instance", "\"fresh\" or \"reuse\"", |text| match text {
        "fresh" => Some(false),
        "reuse" => Some(true),
        _ => None,
    });
    let why = "it needs instance = \"reuse\"";
    if instance == Some(true) {
        let max = root.number("reuse-max", 2..=1_000_000).unwrap_or(1000);
        let idle = root.duration("reuse-idle", Duration::from_millis(1)..=MAX_DELAY);
        let idle = idle.unwrap_or(Duration::from_mins(1));
        return Some(Reuse { max, idle });
    }
    root.not_for("reuse-max", why);
    root.not_for("reuse-idle", why);
    None
}

/// The bounds of the delay before a failed message is visible again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// The delay after the first failure. Key `min`: 1 ms to 12 h, default 1 s.
    pub min: Duration,
    /// The longest delay. Key `max`: 1 ms to 12 h, default 15 min.
    pub max: Duration,
}

impl Default for RetryDelays {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_mins(15),
        }
    }
}

impl Manifest {
    /// Returns the manifest of a component that has no file for it. `stem` is the name of the component's file without its
    /// extension.
    ///
    /// # Errors
    ///
    /// `stem` cannot be the name of a queue, so the handler needs a manifest that names one.
    pub fn defaults(stem: &str) -> Result<Self, ConfigErrors> {
        Self::parse("", stem)
    }

    /// Returns the queues that the handler needs: the one that it serves, then those that it may send to.
    pub fn queues(&self) -> Vec<QueueName> {
        let destinations = self.grants.send.iter().flatten().cloned();
        std::iter::once(self.queue.clone()).chain(destinations).collect()
    }

    /// Returns the queue that a manifest with mistakes names, as far as it can be read. The host declares it at once, so that
    /// senders find the queue while the handler is not accepted.
    pub fn queues_in(text: &str, stem: &str) -> Vec<QueueName> {
        let Ok(table) = text.parse::<toml::Table>() else {
            return Vec::new();
        };
        let queue = match table.get("queue") {
            Some(queue) => queue.as_str(),
            None => Some(stem),
        };
        queue.and_then(|name| QueueName::new(name).ok()).into_iter().collect()
    }

    /// Reads a manifest. `stem` is the name of the component's file without its extension. Paths are relative to the current
    /// directory.
    ///
    /// # Errors
    ///
    /// Every mistake.
    pub fn parse(text: &str, stem: &str) -> Result<Self, ConfigErrors> {
        Self::parse_in(text, stem, Path::new(""), &environment)
    }

    /// Reads a manifest whose paths are relative to `directory`, and whose references to variables are looked up in
    /// `environment`. Reads the files that values come from.
    ///
    /// # Errors
    ///
    /// Every mistake. A reference to a variable or a file that does not exist is one.
    pub fn parse_in(
        text: &str,
        stem: &str,
        directory: &Path,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigErrors> {
        let place = format!("{stem}.toml");
        let by_name = QueueName::new(stem);
        let manifest = TomlDocument::read(&place, text, |root| {
            let queue = root.queue_name("queue");
            if let (Err(why), false) = (&by_name, root.has("queue")) {
                root.refuse(
                    "queue",
                    &format!("name the queue here, since the file's name does not do: {why}"),
                );
            }
            let context = ReferenceContext { directory, environment };
            Self::read(root, queue.or_else(|| by_name.clone().ok()), &context)
        })?;
        // A manifest without a queue has a mistake, which `?` has returned above.
        manifest.ok_or_else(|| ConfigErrors::one(&place, "queue: name the queue".to_owned()))
    }

    fn read(root: &mut TomlSection<'_>, queue: Option<QueueName>, context: &ReferenceContext<'_>) -> Option<Self> {
        let concurrency = root.number("concurrency", 1..=1024).unwrap_or(16);
        let timeout = root
            .duration("timeout", Duration::from_millis(1)..=MAX_DELAY)
            .unwrap_or(Duration::from_secs(30));
        let batch_size = root.number("batch-size", 1..=100).unwrap_or(10);
        let reuse = read_reuse(root);
        let limits = read_limits(root);
        let retry = RetryDelays::read(root.section("retry"));
        let rollout = RolloutTerms::read(root.section("rollout"));
        let dev = DevSettings::read(root.section("dev"));
        let command = CommandSettings::read(root);
        let grants = read_grants(root.section("grant"), command, context);
        Some(Self {
            queue: queue?,
            concurrency: non_zero(concurrency)?,
            timeout,
            batch_size: non_zero(batch_size)?,
            reuse,
            retry,
            rollout,
            limits,
            grants,
            dev,
        })
    }
}

fn non_zero(number: u64) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(number).ok()?)
}

impl RetryDelays {
    fn read(mut section: TomlSection<'_>) -> Self {
        let defaults = Self::default();
        let range = Duration::from_millis(1)..=MAX_DELAY;
        let retry = Self {
            min: section.duration("min", range.clone()).unwrap_or(defaults.min),
            max: section.duration("max", range).unwrap_or(defaults.max),
        };
        if retry.min > retry.max {
            let min = humantime::format_duration(retry.min);
            let max = humantime::format_duration(retry.max);
            section.refuse_section(&format!("min is {min}, which is more than max, {max}"));
        }
        section.finish();
        retry
    }
}
