//! Reads the grants of a handler: the table `[grant]` of its manifest, and the keys for commands beside that table.
//!
//! Invariant: a handler reaches nothing that its manifest does not name.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use ipnet::IpNet;

use super::{
    Environment,
    exit_codes::read_exit_codes,
    section::{SecretForm, TextOrTable, TomlSection},
};
use crate::plugin_dir::{self, FileReadError};
use sandhog_executor::policy::{DirGrant, ExitCodes, GrantedValue, Grants, HttpGrant, LogLevel, OriginPattern};
use sandhog_queue::message::QueueName;

/// The largest file that a value may come from, in bytes.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The most patterns, addresses or directories of one grant.
const MAX_ITEMS: usize = 256;

/// The keys for commands, which stand at the top of a manifest.
#[derive(Debug, Default)]
pub(crate) struct CommandSettings {
    pub(crate) stdout: Option<QueueName>,
    pub(crate) args: Vec<String>,
    pub(crate) exit_codes: ExitCodes,
}

impl CommandSettings {
    pub(crate) fn read(root: &mut TomlSection<'_>) -> Self {
        let accepted = "a text of at most 4096 bytes without NUL";
        let arg = |text: &str| (text.len() <= 4096 && !text.contains('\0')).then(|| text.to_owned());
        Self {
            stdout: root.queue_name("stdout"),
            args: root.list("args", accepted, MAX_ITEMS, arg).unwrap_or_default(),
            exit_codes: read_exit_codes(root.section("exit-codes")),
        }
    }
}

/// Resolves the relative paths of a manifest, and its references to the host's environment.
pub(crate) struct ReferenceContext<'o> {
    pub(crate) directory: &'o Path,
    pub(crate) environment: Environment<'o>,
}

pub(crate) fn read_grants(
    mut section: TomlSection<'_>,
    command: CommandSettings,
    context: &ReferenceContext<'_>,
) -> Grants {
    let env = read_values(&mut section, "env", context).unwrap_or_default();
    let config = read_values(&mut section, "config", context);
    let names = section.queue_names("send");
    let mut send: Option<BTreeSet<QueueName>> = names.map(|names| names.into_iter().collect());
    // A manifest that names the queue of standard output grants it.
    if let Some(queue) = &command.stdout {
        send.get_or_insert_default().insert(queue.clone());
    }
    let log = section.text("log", "trace, debug, info, warn, error or critical", LogLevel::parse);
    let grants = Grants {
        send,
        env,
        config,
        http: read_http(&mut section),
        dirs: read_dirs(&mut section, context),
        keyvalue: section.flag("keyvalue").unwrap_or_default(),
        log: log.unwrap_or_default(),
        stdout: command.stdout,
        args: command.args,
        exit_codes: command.exit_codes,
    };
    section.finish();
    grants
}

fn read_http(section: &mut TomlSection<'_>) -> Option<HttpGrant> {
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

/// The form of one entry of `dirs`.
const DIRECTORY: &str = "{ host = \"PATH\", guest = \"/NAME\", write = false }";

fn read_dirs(section: &mut TomlSection<'_>, context: &ReferenceContext<'_>) -> Vec<DirGrant> {
    let mut dirs: Vec<DirGrant> = Vec::new();
    for mut entry in section.section_list("dirs", DIRECTORY, MAX_ITEMS) {
        let host = entry.text("host", "the path of a directory", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| context.directory.join(text))
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

/// Reads a table of values, each a text, `{ from-env = "NAME" }` or `{ from-file = "PATH" }`.
fn read_values(
    section: &mut TomlSection<'_>,
    key: &'static str,
    context: &ReferenceContext<'_>,
) -> Option<BTreeMap<String, GrantedValue>> {
    let form = SecretForm {
        is_name: |name| (1..=256).contains(&name.len()) && !name.contains('=') && !name.chars().any(char::is_control),
        names: "a name of 1 to 256 bytes without '=' and control characters",
        values: "a text, { from-env = \"NAME\" } or { from-file = \"PATH\" }",
    };
    let mut values = BTreeMap::new();
    for (name, value) in section.secrets(key, &form)? {
        let value = match value {
            TextOrTable::Text(text) => Some(GrantedValue::from(text.as_str())),
            TextOrTable::Table(reference) => read_reference(reference, context),
        };
        if let Some(value) = value {
            values.insert(name, value);
        }
    }
    Some(values)
}

fn read_reference(mut reference: TomlSection<'_>, context: &ReferenceContext<'_>) -> Option<GrantedValue> {
    let variable = reference.text("from-env", "the name of a variable", |name| Some(name.to_owned()));
    let file = reference.text("from-file", "the path of a file", |text| {
        (!text.is_empty() && !text.contains('\0')).then(|| context.directory.join(text))
    });
    let value = match (variable, file) {
        (Some(name), None) => match (context.environment)(&name) {
            Some(text) if !text.contains(char::REPLACEMENT_CHARACTER) => Some(without_line_end(&text)),
            Some(_) => {
                reference.refuse("from-env", "the variable is not UTF-8");
                None
            }
            None => {
                reference.refuse("from-env", &format!("the environment has no variable {name}: set it"));
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

/// Reads the text of a file.
fn read_value_file(file: &Path) -> io::Result<GrantedValue> {
    // Opening a FIFO would wait for its writer; this read waits for no process, whatever the entry is.
    let content = match plugin_dir::read(file, MAX_VALUE_BYTES) {
        Ok(content) => content,
        Err(FileReadError::Gone) => return Err(rustix::io::Errno::NOENT.into()),
        Err(FileReadError::BeingWritten) => return Err(io::Error::other("somebody is writing it")),
        Err(FileReadError::Trouble(trouble)) => return Err(io::Error::other(trouble)),
    };
    let text =
        String::from_utf8(content.bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has a NUL character"));
    }
    Ok(without_line_end(&text))
}

/// Returns the value without the line end that tools put behind it.
fn without_line_end(text: &str) -> GrantedValue {
    GrantedValue::from(text.trim_end_matches(['\r', '\n']))
}
