//! The interfaces that the host offers to components, and the grants that some of them need.

use crate::policy::Grants;

/// One interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentImport {
    /// The name and version of the interface.
    pub name: String,
    /// The condition under which the host links it.
    pub offer: ImportOffer,
}

/// The condition under which the host links an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportOffer {
    /// The host always links it; grants decide what it reaches.
    Always,
    /// The host links it if the manifest has this grant.
    With(ImportGrant),
    /// The host does not know it.
    Never,
}

/// A grant without which an import is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImportGrant {
    /// `sandhog:worker/sender`, and the interfaces of other hosts that send.
    Send,
    /// `wasi:config`.
    Config,
    /// Outgoing `wasi:http`.
    Http,
    /// `wasi:keyvalue`.
    KeyValue,
}

impl ImportGrant {
    /// Every grant.
    pub const ALL: [Self; 4] = [Self::Send, Self::Config, Self::Http, Self::KeyValue];

    /// Returns whether the grants of a manifest include this one.
    pub fn is_in(self, grants: &Grants) -> bool {
        match self {
            Self::Send => grants.send.is_some(),
            Self::Config => grants.config.is_some(),
            Self::Http => grants.http.is_some(),
            Self::KeyValue => grants.keyvalue,
        }
    }

    /// Returns the key of the grant in the table `[grant]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Config => "config",
            Self::Http => "http",
            Self::KeyValue => "keyvalue",
        }
    }

    /// Returns the package or the interface that stands for the grant.
    fn import(self) -> &'static str {
        match self {
            Self::Send => "sandhog:worker/sender",
            Self::Config => "wasi:config",
            Self::Http => "wasi:http",
            Self::KeyValue => "wasi:keyvalue",
        }
    }

    /// Returns what to tell the operator of a component that has the grant and can't use it.
    pub fn unused(self) -> String {
        format!(
            "grant.{}: the component imports no {}; remove it, or build the handler with it",
            self.key(),
            self.import()
        )
    }

    /// Returns the line of the table `[grant]` that adds the grant, with an example of a value.
    pub fn line(self) -> &'static str {
        match self {
            Self::Send => "send = [\"QUEUE\"]                      # the queues that it may send to; [] for none",
            Self::Config => "config = { KEY = \"VALUE\" }            # the values that it may read; {} for none",
            Self::Http => "http = [\"https://api.example.com\"]    # the origins that it may ask; [] for none",
            Self::KeyValue => "keyvalue = true                       # a key-value store of its own",
        }
    }
}

impl ImportOffer {
    /// Returns the offer for an interface of this name, its version included.
    pub fn of(import: &str) -> Self {
        let (package, interface) = import.split_once('/').unwrap_or((import, ""));
        let interface = interface.split_once('@').map_or(interface, |(name, _)| name);
        match (package, interface) {
            ("sandhog:worker" | "wasi:messaging" | "wasmcloud:messaging", "types")
            | ("sandhog:worker", "crash")
            | ("wasi:logging", "logging")
            | (
                "fermyon:spin-sqs" | "spin:sqs" | "wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:cli"
                | "wasi:filesystem" | "wasi:sockets",
                _,
            ) => Self::Always,
            ("sandhog:worker", "sender")
            | ("wasi:messaging", "producer" | "request-reply")
            | ("wasmcloud:messaging", "consumer") => Self::With(ImportGrant::Send),
            ("wasi:config", _) => Self::With(ImportGrant::Config),
            ("wasi:http", "types" | "outgoing-handler" | "client") => Self::With(ImportGrant::Http),
            ("wasi:keyvalue", "store" | "atomics" | "batch") => Self::With(ImportGrant::KeyValue),
            _ => Self::Never,
        }
    }
}
