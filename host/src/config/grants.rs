//! What a handler may reach: the table `[grant]` of its manifest. Nothing is granted that is not said there.
//!
//! A key that is absent means that a component which imports the interface is refused. An empty list means that it may
//! import it and reach nothing, for toolchains that import what the handler never calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{Uri, uri::Scheme};
use ipnet::IpNet;

use super::{
    Environment,
    exit_codes::ExitCodes,
    section::{Section, TextOrSection},
};
use crate::{
    message::QueueName,
    plugin_dir::{self, Unread},
};

/// The largest file that a value may come from, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The most patterns, addresses or directories of one grant.
const MAX_ITEMS: usize = 256;

/// What a handler may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The queues that it may send to; `None` if it may not import `sandhog:worker/sender`. Key `send`.
    pub send: Option<BTreeSet<QueueName>>,
    /// Its environment. Table `env`.
    pub env: BTreeMap<String, Value>,
    /// What `wasi:config/store` answers; `None` if it may not import it. Table `config`.
    pub config: Option<BTreeMap<String, Value>>,
    /// Where outgoing HTTP requests may go; `None` if it may not import `wasi:http`. Keys `http`, `http-addresses`.
    pub http: Option<HttpGrant>,
    /// The directories that it sees. Key `dirs`.
    pub dirs: Vec<DirGrant>,
    /// Whether it may import `wasi:keyvalue`: a store of its own, kept with the Simple queues. Key `keyvalue`.
    pub keyvalue: bool,
    /// The least severe level of `wasi:logging` that is passed on. Key `log`, default `info`.
    pub log: LogLevel,
    /// The queue that a command's lines of standard output are sent to, each as a message. Key `stdout` of the manifest.
    pub stdout: Option<QueueName>,
    /// What a command is started with behind its name. Key `args` of the manifest.
    pub args: Vec<String>,
    /// What the exit codes of a command mean. Table `exit-codes` of the manifest.
    pub exit_codes: ExitCodes,
}

/// What the manifest says beside its table `[grant]`.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) stdout: Option<QueueName>,
    pub(super) args: Vec<String>,
    pub(super) exit_codes: ExitCodes,
}

impl Beside {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let accepted = "a text of at most 4096 bytes without NUL";
        let arg = |text: &str| (text.len() <= 4096 && !text.contains('\0')).then(|| text.to_owned());
        Self {
            stdout: root.queue_name("stdout"),
            args: root.list("args", accepted, MAX_ITEMS, arg).unwrap_or_default(),
            exit_codes: ExitCodes::read(root.section("exit-codes")),
        }
    }
}

/// A text that may be a secret: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<str>);

impl Value {
    /// The text, for the guest that it was granted to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

/// Where outgoing HTTP requests may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpGrant {
    /// The origins that may be asked for.
    pub origins: Vec<OriginPattern>,
    /// Networks that are granted although they are private. An origin that is an address grants that address too.
    pub addresses: Vec<IpNet>,
}

/// One origin, or every subdomain of one: `https://api.example.com`, `http://*.example.com:8080`, `https://192.0.2.7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Scheme,
    /// In lower case; without the brackets of an IPv6 address, without `*.`.
    host: String,
    port: u16,
    subdomains: bool,
}

impl OriginPattern {
    /// Reads a pattern. The port is that of the scheme unless it is given.
    pub fn new(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri
            .scheme()
            .filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme))?;
        let authority = uri.authority()?;
        if authority.as_str().contains('@')
            || !matches!(uri.path_and_query().map_or("/", |path| path.as_str()), "/" | "")
        {
            return None;
        }
        let host = bare_host(authority.host());
        let (host, subdomains) = match host.strip_prefix("*.") {
            Some(parent) => (parent.to_owned(), true),
            None => (host, false),
        };
        let address = host.parse::<std::net::IpAddr>().is_ok();
        let name = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !(name || address) || (subdomains && (address || !host.contains('.'))) {
            return None;
        }
        Some(Self {
            scheme: scheme.clone(),
            host,
            port: authority.port_u16().or_else(|| {
                // A port that is there and no number is a mistake, not the default.
                let ported = authority
                    .as_str()
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| !port.ends_with(']'));
                (!ported).then(|| default_port(scheme))
            })?,
            subdomains,
        })
    }

    /// Whether a request of this scheme, host (as in a URL, brackets and case included) and port is of this origin.
    pub fn allows(&self, scheme: &Scheme, host: &str, port: u16) -> bool {
        let host = bare_host(host);
        let same = if self.subdomains {
            host.strip_suffix(&self.host)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty())
        } else {
            host == self.host
        };
        same && *scheme == self.scheme && port == self.port
    }

    /// The address that the pattern names, if it is one.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = if self.subdomains { "*." } else { "" };
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port)
        } else {
            write!(f, "{}://{wildcard}{}:{}", self.scheme, self.host, self.port)
        }
    }
}

/// The port of a scheme, if none is given.
pub fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

fn bare_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).to_ascii_lowercase()
}

/// One directory that a guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// Where it is. Key `host`; relative to the manifest's directory.
    pub host: PathBuf,
    /// What the guest calls it. Key `guest`; absolute.
    pub guest: String,
    /// Whether the guest may change it. Key `write`, default `false`.
    pub write: bool,
}

/// How severe a line of `wasi:logging` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace`.
    Trace,
    /// `debug`.
    Debug,
    /// `info`.
    #[default]
    Info,
    /// `warn`.
    Warn,
    /// `error`.
    Error,
    /// `critical`.
    Critical,
}

impl LogLevel {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Trace, "trace"),
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warn, "warn"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
    ];

    /// How it is written.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(level, _)| *level == self)
            .map_or("info", |(_, name)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, name)| *name == text)
            .map(|(level, _)| level)
    }
}

/// Where relative paths and references to the host's environment in a manifest lead.
pub(super) struct Origin<'o> {
    pub(super) directory: &'o Path,
    pub(super) environment: Environment<'o>,
}

impl Grants {
    /// The same, and every import that needs a grant, with nothing behind those that are not in it.
    #[must_use]
    pub fn with_every_import(mut self) -> Self {
        self.send.get_or_insert_default();
        self.config.get_or_insert_default();
        self.http.get_or_insert_default();
        self.keyvalue = true;
        self
    }

    pub(super) fn read(mut section: Section<'_>, beside: Beside, origin: &Origin<'_>) -> Self {
        let Beside {
            stdout,
            args,
            exit_codes,
        } = beside;
        let env = read_values(&mut section, "env", origin).unwrap_or_default();
        let config = read_values(&mut section, "config", origin);
        let mut send: Option<BTreeSet<QueueName>> =
            section.queue_names("send").map(|names| names.into_iter().collect());
        // To name the queue is to grant it.
        send = stdout.iter().fold(send, |send, queue| {
            let mut send = send.unwrap_or_default();
            send.insert(queue.clone());
            Some(send)
        });
        let log = section.text("log", "trace, debug, info, warn, error or critical", LogLevel::parse);
        let grants = Self {
            send,
            env,
            config,
            http: read_http(&mut section),
            dirs: read_dirs(&mut section, origin),
            keyvalue: section.flag("keyvalue").unwrap_or_default(),
            log: log.unwrap_or_default(),
            stdout,
            args,
            exit_codes,
        };
        section.finish();
        grants
    }
}

fn read_http(section: &mut Section<'_>) -> Option<HttpGrant> {
    let accepted =
        "an origin such as \"https://api.example.com\", \"https://*.example.com\" or \"http://192.0.2.7:8080\"";
    let origins = section.list("http", accepted, MAX_ITEMS, OriginPattern::new);
    let accepted = "an address or a network such as \"10.1.0.0/16\"";
    let network = |text: &str| {
        text.parse()
            .ok()
            .or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
    };
    let addresses = section.list("http-addresses", accepted, MAX_ITEMS, network);
    if origins.is_none() && addresses.is_some() {
        section.refuse("http-addresses", "it needs http, which says what may be asked for");
    }
    Some(HttpGrant {
        origins: origins?,
        addresses: addresses.unwrap_or_default(),
    })
}

/// How a directory is granted.
const DIRECTORY: &str = "{ host = \"PATH\", guest = \"/NAME\", write = false }";

fn read_dirs(section: &mut Section<'_>, origin: &Origin<'_>) -> Vec<DirGrant> {
    let mut dirs: Vec<DirGrant> = Vec::new();
    for mut entry in section.section_list("dirs", DIRECTORY, MAX_ITEMS) {
        let host = entry.text("host", "the path of a directory", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| origin.directory.join(text))
        });
        let guest = entry.text("guest", "an absolute path such as \"/models\"", |text| {
            let plain = text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..");
            plain.then(|| text.to_owned())
        });
        let write = entry.flag("write").unwrap_or_default();
        for (key, missing) in [("host", host.is_none()), ("guest", guest.is_none())] {
            if missing && !entry.has(key) {
                entry.refuse_section(&format!("it needs {key}"));
            }
        }
        if let Some(host) = &host
            && !host.is_dir()
        {
            entry.refuse_for_now("host", &format!("{} is not a directory", host.display()));
        }
        if let (Some(host), Some(guest)) = (host, guest) {
            if dirs.iter().any(|dir| dir.guest == guest) {
                entry.refuse("guest", "another directory has this name already");
            }
            dirs.push(DirGrant { host, guest, write });
        }
        entry.finish();
    }
    dirs
}

/// A table of values, each a text, `{ from-env = "NAME" }` or `{ from-file = "PATH" }`.
fn read_values(section: &mut Section<'_>, key: &'static str, origin: &Origin<'_>) -> Option<BTreeMap<String, Value>> {
    let accepted = "a text, { from-env = \"NAME\" } or { from-file = \"PATH\" }";
    let mut values = BTreeMap::new();
    let is_name =
        |name: &str| (1..=256).contains(&name.len()) && !name.contains('=') && !name.chars().any(char::is_control);
    let names = ("a name of 1 to 256 bytes without '=' and control characters", is_name);
    for (name, value) in section.texts_or_sections(key, names, accepted)? {
        let value = match value {
            TextOrSection::Text(text) => Some(Value::from(text.as_str())),
            TextOrSection::Section(reference) => read_reference(reference, origin),
        };
        if let Some(value) = value {
            values.insert(name, value);
        }
    }
    Some(values)
}

fn read_reference(mut reference: Section<'_>, origin: &Origin<'_>) -> Option<Value> {
    let variable = reference.text("from-env", "the name of a variable", |name| Some(name.to_owned()));
    let file = reference.text("from-file", "the path of a file", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| origin.directory.join(text))
    });
    let value = match (variable, file) {
        (Some(name), None) => match (origin.environment)(&name) {
            Some(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Some(without_line_end(&text)),
            Some(_) => {
                reference.refuse("from-env", "the variable is not UTF-8");
                None
            }
            None => {
                reference.refuse("from-env", "the host's environment has no such variable");
                None
            }
        },
        (None, Some(file)) => match read_value_file(&file) {
            Ok(value) => Some(value),
            Err(error) => {
                reference.refuse_for_now("from-file", &format!("{} can't be read: {error}", file.display()));
                None
            }
        },
        _ => {
            reference.refuse_section("name one of from-env and from-file");
            None
        }
    };
    reference.finish();
    value
}

/// The text of a file.
fn read_value_file(file: &Path) -> io::Result<Value> {
    // Of any kind of entry this waits for nobody, as opening a FIFO would.
    let content = match plugin_dir::read(file, MAX_VALUE_BYTES) {
        Ok(content) => content,
        Err(Unread::Gone) => return Err(rustix::io::Errno::NOENT.into()),
        Err(Unread::Written) => return Err(io::Error::other("somebody is writing it")),
        Err(Unread::Trouble(trouble)) => return Err(io::Error::other(trouble)),
    };
    let text =
        String::from_utf8(content.bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has a NUL character"));
    }
    Ok(without_line_end(&text))
}

/// What tools put behind a value is no part of it.
fn without_line_end(text: &str) -> Value {
    Value(text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, scheme: &Scheme, host: &str, port: u16, expected: bool) {
        let pattern = OriginPattern::new(pattern).unwrap();
        assert_eq!(
            pattern.allows(scheme, host, port),
            expected,
            "{pattern} {scheme} {host} {port}"
        );
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let (http, https) = (&Scheme::HTTP, &Scheme::HTTPS);
        check("https://api.example.com", https, "api.example.com", 443, true);
        check("https://API.example.com/", https, "Api.Example.COM", 443, true);
        check("https://api.example.com", http, "api.example.com", 443, false);
        check("https://api.example.com", https, "api.example.com", 8443, false);
        check("https://api.example.com", https, "api.example.com.", 443, false);
        check("https://api.example.com", https, "api.example.com.evil.com", 443, false);
        check("http://[::1]:80", http, "[::1]", 80, true);
        check("http://127.0.0.1:8080", http, "127.0.0.1", 8080, true);
        check("http://127.0.0.1:8080", http, "2130706433", 8080, false);
    }

    #[test]
    fn a_wildcard_stands_for_subdomains_only() {
        let https = &Scheme::HTTPS;
        check("https://*.example.com", https, "a.example.com", 443, true);
        check("https://*.example.com", https, "a.b.example.com", 443, true);
        check("https://*.example.com", https, "example.com", 443, false);
        check("https://*.example.com", https, ".example.com", 443, false);
        check("https://*.example.com", https, "evilexample.com", 443, false);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "api.example.com",
            "ftp://example.com",
            "https://",
            "https://*",
            "https://*.com",
            "https://a.*.com",
            "https://user@example.com",
            "https://example.com/path",
            "https://example.com?q",
            "https://example.com:port",
            "https://example.com:99999",
            "https://*.127.0.0.1",
        ] {
            assert_eq!(OriginPattern::new(text), None, "{text}");
        }
    }
}
