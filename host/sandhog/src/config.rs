//! Reads the configuration: `sandhog.toml`, the manifests beside the components, and the environment.
//!
//! Invariant: one run reports every mistake with its place and the accepted values, and no default replaces a value that
//! did not parse. Only this file reads the environment.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    access::read_keys,
    dashboard::{DEPLOY_KEY, read_dashboard},
    queues::read_queues,
    secret::read_secret_file,
    section::{TomlDocument, TomlSection},
};
use crate::journal::{JournalLimits, JournalSettings};
use sandhog_queue::message::{MAX_DELAY, QueueName};
use sandhog_simple::ProcessedMessageSettings;
use sandhog_traces::TraceSettings;

mod access;
mod dashboard;
mod exit_codes;
mod grants;
mod limits;
mod manifest;
mod mistake;
mod queues;
mod rollout;
mod secret;
mod section;
mod supervisor;

pub use self::{
    access::{AccessKey, AccessRight, OWNER, QueuePattern},
    dashboard::{DashboardSettings, RedactedPath, Redaction},
    limits::limit_rows,
    manifest::{DevSettings, Manifest, RetryDelays},
    mistake::{ConfigErrors, ConfigMistake},
    queues::QueueSettings,
    secret::{BadSecret, ListenerSecret},
    supervisor::SupervisorSettings,
};

/// The default address of the listener. Other stand-ins for SQS use the same port.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9324);
/// The variable that holds the secret of the listener.
pub const SECRET_VARIABLE: &str = "SANDHOG_SECRET";
/// The variable that holds the secret of those who may look and change nothing.
pub const READER_VARIABLE: &str = "SANDHOG_READ_ONLY_SECRET";
/// The name of the host's own configuration file.
pub const FILE_NAME: &str = "sandhog.toml";

const DEFAULT_PLUGINS: &str = "plugins";
const DEFAULT_DATA: &str = ".sandhog";
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(30);
const DEFAULT_MAX_LIVE_INSTANCES: usize = 256;
const DEFAULT_VERSIONS_KEEP: usize = 10;
/// The one that serves and its predecessor are always kept. A hundred of the largest components take 6.4 GB of the disk.
const VERSIONS_KEEP: RangeInclusive<u64> = 2..=100;
const JOURNAL_SIZE: RangeInclusive<u64> = 64 << 10..=1 << 30;
const MEMORY_BUDGET: RangeInclusive<u64> = 64 << 20..=16 << 40;
/// The longest window of the ledger: no SQS queue keeps a message for longer.
const MAX_LEDGER_WINDOW: Duration = Duration::from_hours(14 * 24);

/// Looks up a variable of the environment. Tests pass a function of their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The configuration of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory with the components and their manifests, which exists. Key `plugins`.
    pub plugins: PathBuf,
    /// The directory that keeps the queues and the compiled components; `None` keeps all of them in memory. Key `data`.
    pub data: Option<PathBuf>,
    /// The address of the listener. Without a secret it is a loopback address. Key `listen`.
    pub listen: SocketAddr,
    /// The secret that requests carry: `SANDHOG_SECRET`, or else the content of the file that the key `secret-file` names.
    pub secret: Option<ListenerSecret>,
    /// What people may see and do: the keys `read-only-secret-file` and `dashboard-deploy`, and the table `[redact]`.
    pub dashboard: DashboardSettings,
    /// The access keys of SQS clients, by name. Tables `keys.NAME`.
    pub keys: BTreeMap<String, AccessKey>,
    /// The time that attempts under way get to end when the host stops. Key `grace-period`: 0 to 12 h, default 30 s.
    pub grace_period: Duration,
    /// The most instances of all handlers at a time. Key `max-live-instances`: 1 to 4096, default 256.
    pub max_live_instances: usize,
    /// The most bytes that all live instances may take by their limits. Key `memory-budget`: 64 MiB to 16 TiB; `None`, the
    /// default, is half of the memory that the process may have.
    pub memory_budget: Option<u64>,
    /// The settings of the configured queues. Tables `[queues.NAME]`.
    pub queues: BTreeMap<QueueName, QueueSettings>,
    /// The bounds of the record of handled messages. Table `[ledger]`.
    pub ledger: ProcessedMessageSettings,
    /// The most versions of a handler that are kept. Key `keep` of the table `[versions]`: 2 to 100, default 10.
    pub versions_keep: usize,
    /// What the journal keeps of each handler, and where. Table `[journal]`: `keep`, 0 to 100,000 attempts, default 1000; `size`, 64 KiB to
    /// 1 GiB, default 1 MiB; `durable`, default false.
    pub journal: JournalSettings,
    /// What the standard variables of OpenTelemetry say about traces.
    pub traces: TraceSettings,
    /// The context of a message is the parent of the span of its attempt, and not only linked. Key `parent` of the table `[traces]`:
    /// default true.
    pub trace_parents: bool,
    /// Tests may spy on the host, which keeps nothing. Only the command line sets it.
    pub spy: bool,
    /// The directory that paths in manifests are relative to; `None` is `plugins`. Only `sandhog dev` sets it.
    pub manifest_base: Option<PathBuf>,
}

/// The options of the command line, which win over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigOverrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--ephemeral`: the host has no data directory, even if the file names one.
    pub ephemeral: bool,
    /// `--spy`: tests may ask what no host with messages of worth does.
    pub spy: bool,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--grace-period`.
    pub grace_period: Option<Duration>,
    /// Of `sandhog dev`: see [`Config::manifest_base`].
    pub manifest_base: Option<PathBuf>,
}

/// Reads a variable of the process's environment. Bytes that are not Unicode read as U+FFFD, so that the reader refuses the
/// value where that character can't stand, and does not take the variable for absent.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Returns the directory in which this user's programs keep what they can make again: `sandhog` below `XDG_CACHE_HOME`, or else below
/// `.cache` in the home directory. `None` if the environment names neither.
pub fn cache_directory(environment: Environment<'_>) -> Option<PathBuf> {
    let absolute = |name| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("sandhog"))
}

/// Reads the secret from the environment, for a client of the host.
///
/// # Errors
///
/// The variable exists, and its value can't be a secret.
pub fn secret_from(environment: Environment<'_>) -> Result<Option<ListenerSecret>, ConfigErrors> {
    secret_of(environment, SECRET_VARIABLE)
}

fn secret_of(environment: Environment<'_>, variable: &str) -> Result<Option<ListenerSecret>, ConfigErrors> {
    let Some(text) = environment(variable) else {
        return Ok(None);
    };
    ListenerSecret::new(&text)
        .map(Some)
        .map_err(|why| ConfigErrors::one(variable, why.to_string()))
}

/// Parses an address of a listener: an IP address, or `localhost`, and a port.
pub fn parse_listen(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

impl Config {
    /// Finds and reads the configuration.
    ///
    /// `source` is a `sandhog.toml`, a directory that has one, or a directory of components. Without a source it's
    /// `./sandhog.toml`, or else `./plugins`. Paths in a file are relative to that file's directory.
    ///
    /// # Errors
    ///
    /// Every mistake in the file, the environment and the overrides.
    pub fn load(
        source: Option<&Path>,
        overrides: ConfigOverrides,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigErrors> {
        let noted = Cell::new(ListenerNote::default());
        let file = Self::load_file(source, &noted);
        let secret = secret_from(environment);
        let (mut config, secret) = match (file, secret) {
            (Ok(config), Ok(secret)) => (config, secret),
            (file, secret) => {
                let note = noted.get();
                // A wrong secret is reported once, and not a second time as a missing one.
                let has_secret = note.has_secret || !matches!(secret, Ok(None));
                let address = overrides.listen.or(note.address).unwrap_or(DEFAULT_LISTEN);
                let listen = check_listen(address, has_secret);
                return Err(together([file.err(), secret.err(), listen.err()]));
            }
        };
        if let Some(secret) = secret {
            config.secret = Some(secret);
        }
        config.take_reader(secret_of(environment, READER_VARIABLE)?)?;
        if let Some(listen) = overrides.listen {
            config.listen = listen;
        }
        if let Some(grace_period) = overrides.grace_period {
            config.grace_period = grace_period;
        }
        if let Some(data) = overrides.data {
            config.data = Some(data);
        }
        if overrides.ephemeral {
            config.data = None;
        }
        config.traces = TraceSettings::read(environment);
        config.spy = overrides.spy && config.data.is_none();
        config.manifest_base = overrides.manifest_base;
        check_listen(config.listen, config.secret.is_some())?;
        config.check_deploy()?;
        Ok(config)
    }

    /// Refuses a dashboard that takes components from everybody. Who reaches a listener without a secret can do with messages what
    /// they like, but the code of handlers is guarded by the rights of the plugin directory, and runs with what manifests grant.
    fn check_deploy(&self) -> Result<(), ConfigErrors> {
        if !self.dashboard.deploy || self.secret.is_some() {
            return Ok(());
        }
        let why = format!(
            "without a secret every process on this machine could replace the code of handlers: set {SECRET_VARIABLE} or the key secret-file, or leave this key out"
        );
        Err(ConfigErrors::one(DEPLOY_KEY, why))
    }

    /// Takes the read-only secret of the environment, and checks the one that there is then.
    fn take_reader(&mut self, secret: Option<ListenerSecret>) -> Result<(), ConfigErrors> {
        if let Some(secret) = secret {
            self.dashboard.reader_secret = Some(secret);
        }
        let why = match (&self.dashboard.reader_secret, &self.secret) {
            (Some(_), None) => {
                "without a secret of the listener everybody on this machine may do everything: set that one too"
            }
            (Some(reader), Some(secret)) if reader == secret => {
                "it is the secret of the listener, which may do everything: take another"
            }
            (Some(reader), _) if self.keys.values().any(|key| key.secret == *reader) => {
                "it is the secret of an access key, which may do more: take another"
            }
            (Some(_) | None, _) => return Ok(()),
        };
        Err(ConfigErrors::one("the read-only secret", why.to_owned()))
    }

    /// Returns the `sandhog.toml` that [`Config::load`] reads, if there is one.
    pub fn file_of(source: Option<&Path>) -> Option<PathBuf> {
        let file = match source {
            Some(source) if source.is_dir() => source.join(FILE_NAME),
            Some(source) => {
                let is_toml = source.extension().is_some_and(|extension| extension == "toml");
                is_toml.then(|| source.to_owned())?
            }
            None => PathBuf::from(FILE_NAME),
        };
        file.exists().then_some(file)
    }

    fn load_file(source: Option<&Path>, noted: &Cell<ListenerNote>) -> Result<Self, ConfigErrors> {
        if let Some(file) = Self::file_of(source) {
            return Self::read(&file, noted);
        }
        let Some(source) = source else {
            let plugins = Path::new(DEFAULT_PLUGINS);
            if plugins.is_dir() {
                return Ok(Self::zero(plugins));
            }
            let text = "neither sandhog.toml nor a directory plugins is here: name one, or make one".to_owned();
            return Err(ConfigErrors::one("the current directory", text));
        };
        let place = source.display().to_string();
        match fs::metadata(source) {
            Ok(metadata) if metadata.is_dir() => Ok(Self::zero(source)),
            Ok(_) => Err(ConfigErrors::one(
                &place,
                "neither a directory nor a sandhog.toml".to_owned(),
            )),
            Err(error) => Err(ConfigErrors::one(&place, format!("cannot be read: {error}"))),
        }
    }

    /// Returns the configuration of a directory of components without a file.
    fn zero(plugins: &Path) -> Self {
        Self {
            plugins: plugins.to_owned(),
            data: Some(DEFAULT_DATA.into()),
            listen: DEFAULT_LISTEN,
            secret: None,
            grace_period: DEFAULT_GRACE_PERIOD,
            max_live_instances: DEFAULT_MAX_LIVE_INSTANCES,
            memory_budget: None,
            queues: BTreeMap::new(),
            keys: BTreeMap::new(),
            dashboard: DashboardSettings::default(),
            ledger: ProcessedMessageSettings::default(),
            versions_keep: DEFAULT_VERSIONS_KEEP,
            journal: JournalSettings::default(),
            traces: TraceSettings::default(),
            trace_parents: true,
            spy: false,
            manifest_base: None,
        }
    }

    fn read(file: &Path, noted: &Cell<ListenerNote>) -> Result<Self, ConfigErrors> {
        let place = file.display().to_string();
        let text =
            fs::read_to_string(file).map_err(|error| ConfigErrors::one(&place, format!("cannot be read: {error}")))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        Self::parse_noting(&text, &place, directory, noted)
    }

    /// Reads the text of a `sandhog.toml`; `place` is its name in messages, and paths are relative to `directory`.
    ///
    /// # Errors
    ///
    /// Every mistake. A missing directory of components is one.
    pub fn parse(text: &str, place: &str, directory: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_noting(text, place, directory, &Cell::default())
    }

    /// As [`Config::parse`]. Writes the keys of the listener to `noted` even if the text has mistakes.
    fn parse_noting(
        text: &str,
        place: &str,
        directory: &Path,
        noted: &Cell<ListenerNote>,
    ) -> Result<Self, ConfigErrors> {
        let path = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| directory.join(text));
        TomlDocument::read(place, text, |root| {
            let mut config = Self::zero(&directory.join(DEFAULT_PLUGINS));
            config.plugins = root
                .text("plugins", "the path of a directory", path)
                .unwrap_or(config.plugins);
            if !config.plugins.is_dir() {
                root.refuse("plugins", &format!("{} is not a directory", config.plugins.display()));
            }
            let data = root.text("data", "the path of a directory", path);
            config.data = Some(data.unwrap_or_else(|| directory.join(DEFAULT_DATA)));
            let accepted = "an address and a port, such as \"127.0.0.1:9324\"";
            config.listen = root.text("listen", accepted, parse_listen).unwrap_or(config.listen);
            config.secret = read_secret_file(root, "secret-file", directory);
            noted.set(ListenerNote {
                address: Some(config.listen),
                has_secret: root.has("secret-file"),
            });
            config.grace_period = root
                .duration("grace-period", Duration::ZERO..=MAX_DELAY)
                .unwrap_or(config.grace_period);
            let max_live = root
                .number("max-live-instances", 1..=4096)
                .and_then(|number| usize::try_from(number).ok());
            config.max_live_instances = max_live.unwrap_or(config.max_live_instances);
            config.memory_budget = root.size("memory-budget", MEMORY_BUDGET);
            config.queues = read_queues(root);
            config.keys = read_keys(root, directory);
            config.dashboard = read_dashboard(root, directory);
            config.ledger = read_ledger(root, config.ledger);
            config.versions_keep = read_versions_keep(root).unwrap_or(config.versions_keep);
            config.journal = read_journal(root, config.journal);
            config.trace_parents = read_trace_parents(root).unwrap_or(config.trace_parents);
            config
        })
    }
}

/// The keys of a file about the listener.
#[derive(Debug, Clone, Copy, Default)]
struct ListenerNote {
    address: Option<SocketAddr>,
    /// The file names a secret, which may be a wrong one.
    has_secret: bool,
}

fn check_listen(address: SocketAddr, has_secret: bool) -> Result<(), ConfigErrors> {
    if address.ip().is_loopback() || has_secret {
        return Ok(());
    }
    let text = format!(
        "{address} can be reached from other machines, so it needs a secret: set {SECRET_VARIABLE} or the key secret-file, or listen on 127.0.0.1"
    );
    Err(ConfigErrors::one("listen", text))
}

fn together(errors: [Option<ConfigErrors>; 3]) -> ConfigErrors {
    ConfigErrors(errors.into_iter().flatten().flat_map(|errors| errors.0).collect())
}

fn read_ledger(root: &mut TomlSection<'_>, defaults: ProcessedMessageSettings) -> ProcessedMessageSettings {
    let mut section = root.section("ledger");
    let max_entries = section
        .number("max-entries", 0..=10_000_000)
        .and_then(|number| usize::try_from(number).ok());
    let ledger = ProcessedMessageSettings {
        window: section
            .duration("window", Duration::ZERO..=MAX_LEDGER_WINDOW)
            .unwrap_or(defaults.window),
        max_entries: max_entries.unwrap_or(defaults.max_entries),
    };
    section.finish();
    ledger
}

fn read_journal(root: &mut TomlSection<'_>, defaults: JournalSettings) -> JournalSettings {
    let mut section = root.section("journal");
    let entries = section.number("keep", 0..=100_000).map(usize::try_from);
    let bytes = section.size("size", JOURNAL_SIZE).map(usize::try_from);
    let durable = section.flag("durable");
    section.finish();
    let JournalSettings { limits, .. } = defaults;
    JournalSettings {
        limits: JournalLimits {
            entries: entries.and_then(Result::ok).unwrap_or(limits.entries),
            bytes: bytes.and_then(Result::ok).unwrap_or(limits.bytes),
        },
        durable: durable.unwrap_or(defaults.durable),
    }
}

fn read_trace_parents(root: &mut TomlSection<'_>) -> Option<bool> {
    let mut section = root.section("traces");
    let parents = section.flag("parent");
    section.finish();
    parents
}

fn read_versions_keep(root: &mut TomlSection<'_>) -> Option<usize> {
    let mut section = root.section("versions");
    let keep = section.number("keep", VERSIONS_KEEP);
    section.finish();
    usize::try_from(keep?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_directory_is_known_by_name_so_that_it_is_missed_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Config::file_of(Some(directory.path())), None);
        let file = directory.path().join(FILE_NAME);
        fs::write(&file, "").unwrap();
        assert_eq!(Config::file_of(Some(directory.path())).as_deref(), Some(&*file));
        assert_eq!(Config::file_of(Some(&file)).as_deref(), Some(&*file));
        fs::remove_file(&file).unwrap();
        let overrides = ConfigOverrides::default();
        let gone = Config::load(Some(&file), overrides, &|_| None).unwrap_err().to_string();
        assert!(gone.contains("cannot be read"), "{gone}");
    }
}
