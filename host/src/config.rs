//! Reads the configuration: `sandhog.toml`, the manifests beside the components, and the environment.
//!
//! Every mistake is reported in one run, with its place and what is accepted, and nothing that did not parse
//! is replaced by a default. Only this file reads the environment.

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
    queues::read_queues,
    section::{Document, Section},
};
use crate::{
    message::{MAX_DELAY, QueueName},
    queue::simple::LedgerSettings,
};

mod exit_codes;
mod grants;
mod limits;
mod manifest;
mod mistake;
mod queues;
mod secret;
mod section;

pub use self::{
    limits::limit_rows,
    manifest::{Manifest, Retry},
    mistake::{ConfigErrors, Mistake},
    queues::QueueSettings,
    secret::{BadSecret, Secret},
};

/// Where the listener is unless it is configured otherwise. The port is that of other SQS look-alikes.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9324);
/// The variable that holds the secret of the listener.
pub const SECRET_VARIABLE: &str = "SANDHOG_SECRET";
/// The name of the host's own configuration file.
pub const FILE_NAME: &str = "sandhog.toml";

const DEFAULT_PLUGINS: &str = "plugins";
const DEFAULT_DATA: &str = ".sandhog";
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(30);
const DEFAULT_MAX_LIVE_INSTANCES: usize = 256;
const MEMORY_BUDGET: RangeInclusive<u64> = 64 << 20..=16 << 40;
/// The longest window of the ledger: no SQS queue keeps a message for longer.
const MAX_LEDGER_WINDOW: Duration = Duration::from_hours(14 * 24);

/// How variables of the environment are looked up; tests pass their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// The configuration of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory with the components and their manifests; it exists. Key `plugins`.
    pub plugins: PathBuf,
    /// The directory that keeps the queues and the compiled components; `None` keeps everything in memory. Key `data`.
    pub data: Option<PathBuf>,
    /// Where the listener binds: loopback, or there is a secret. Key `listen`.
    pub listen: SocketAddr,
    /// What a request has to bear. `SANDHOG_SECRET`, or else the content of the file that the key `secret-file` names.
    pub secret: Option<Secret>,
    /// How long attempts under way may go on once the host stops. Key `grace-period`: 0 to 12 h, default 30 s.
    pub grace_period: Duration,
    /// How many instances live at a time, over all handlers. Key `max-live-instances`: 1 to 4096, default 256.
    pub max_live_instances: usize,
    /// How many bytes all live instances may come to by their limits. Key `memory-budget`: 64 MiB to 16 TiB; `None`, the
    /// default, is half of the memory that the process may have.
    pub memory_budget: Option<u64>,
    /// The settings of the queues that have any. Tables `[queues.NAME]`.
    pub queues: BTreeMap<QueueName, QueueSettings>,
    /// What the ledger of handled messages remembers. Table `[ledger]`.
    pub ledger: LedgerSettings,
}

/// What the command line says, which wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--ephemeral`: no data directory, whatever the file says.
    pub ephemeral: bool,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--grace-period`.
    pub grace_period: Option<Duration>,
}

/// A variable of the process's environment. What is not Unicode in it reads as U+FFFD: it is refused where it can't stand, and
/// not taken for absent.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The secret in the environment, for a client of the host.
///
/// # Errors
///
/// It is there and cannot be a secret.
pub fn secret_from(environment: Environment<'_>) -> Result<Option<Secret>, ConfigErrors> {
    let Some(text) = environment(SECRET_VARIABLE) else {
        return Ok(None);
    };
    Secret::new(&text)
        .map(Some)
        .map_err(|why| ConfigErrors::one(SECRET_VARIABLE, why.to_string()))
}

/// An address to listen on: an IP address, or `localhost`, and a port.
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
        overrides: Overrides,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigErrors> {
        let noted = Cell::new(Listening::default());
        let (file, secret) = (Self::load_file(source, &noted), secret_from(environment));
        let (mut config, secret) = match (file, secret) {
            (Ok(config), Ok(secret)) => (config, secret),
            (file, secret) => {
                // A secret that is wrong is a mistake already, and not another one for being missing.
                let Listening { address, has_secret } = noted.get();
                let has_secret = has_secret || !matches!(secret, Ok(None));
                let address = overrides.listen.or(address).unwrap_or(DEFAULT_LISTEN);
                let listen = check_listen(address, has_secret);
                return Err(together([file.err(), secret.err(), listen.err()]));
            }
        };
        if let Some(secret) = secret {
            config.secret = Some(secret);
        }
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
        check_listen(config.listen, config.secret.is_some())?;
        Ok(config)
    }

    fn load_file(source: Option<&Path>, noted: &Cell<Listening>) -> Result<Self, ConfigErrors> {
        let Some(source) = source else {
            return match (Path::new(FILE_NAME), Path::new(DEFAULT_PLUGINS)) {
                (file, _) if file.exists() => Self::read(file, noted),
                (_, plugins) if plugins.is_dir() => Ok(Self::zero(plugins)),
                _ => {
                    let text = "neither sandhog.toml nor a directory plugins is here: name one, or make one".to_owned();
                    Err(ConfigErrors::one("the current directory", text))
                }
            };
        };
        let place = source.display().to_string();
        match fs::metadata(source) {
            Ok(metadata) if metadata.is_dir() => {
                let file = source.join(FILE_NAME);
                if file.exists() {
                    Self::read(&file, noted)
                } else {
                    Ok(Self::zero(source))
                }
            }
            Ok(_) if source.extension().is_some_and(|extension| extension == "toml") => Self::read(source, noted),
            Ok(_) => Err(ConfigErrors::one(
                &place,
                "neither a directory nor a sandhog.toml".to_owned(),
            )),
            Err(error) => Err(ConfigErrors::one(&place, format!("cannot be read: {error}"))),
        }
    }

    /// The configuration of a directory of components without a file.
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
            ledger: LedgerSettings::default(),
        }
    }

    fn read(file: &Path, noted: &Cell<Listening>) -> Result<Self, ConfigErrors> {
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
    /// Every mistake, a missing directory of components included.
    pub fn parse(text: &str, place: &str, directory: &Path) -> Result<Self, ConfigErrors> {
        Self::parse_noting(text, place, directory, &Cell::default())
    }

    /// The same. What it says about the listener is in `noted` even if other things are wrong.
    fn parse_noting(text: &str, place: &str, directory: &Path, noted: &Cell<Listening>) -> Result<Self, ConfigErrors> {
        let path = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| directory.join(text));
        Document::read(place, text, |root| {
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
            if let Some(secret_file) = root.text("secret-file", "the path of a file", path) {
                config.secret = read_secret(root, &secret_file);
            }
            noted.set(Listening {
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
            config.ledger = read_ledger(root, config.ledger);
            config
        })
    }
}

/// What a file says about the listener.
#[derive(Debug, Clone, Copy, Default)]
struct Listening {
    address: Option<SocketAddr>,
    /// A right one or a wrong one.
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

fn read_secret(root: &Section<'_>, file: &Path) -> Option<Secret> {
    let secret = match fs::read_to_string(file) {
        Ok(text) => Secret::new(&text).map_err(|why| why.to_string()),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    };
    secret.map_err(|why| root.refuse("secret-file", &why)).ok()
}

fn read_ledger(root: &mut Section<'_>, defaults: LedgerSettings) -> LedgerSettings {
    let mut section = root.section("ledger");
    let max_entries = section
        .number("max-entries", 0..=10_000_000)
        .and_then(|number| usize::try_from(number).ok());
    let ledger = LedgerSettings {
        window: section
            .duration("window", Duration::ZERO..=MAX_LEDGER_WINDOW)
            .unwrap_or(defaults.window),
        max_entries: max_entries.unwrap_or(defaults.max_entries),
    };
    section.finish();
    ledger
}
