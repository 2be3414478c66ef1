//! A version of a handler as it is recorded, with what happened to it.
//!
//! Plain data: the history keeps the invariants.

use serde::{Deserialize, Serialize};

use super::tally::VersionTally;

/// The digests of a component and of its manifest: what makes a version the same version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDigests {
    /// The SHA-256 of the component, in hexadecimal.
    pub component: String,
    /// That of the manifest; `None` if the handler had no manifest.
    pub manifest: Option<String>,
}

impl VersionDigests {
    /// Returns the digests, which are the names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&self.component), self.manifest.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Returns whether both can be the names of files.
    pub(super) fn are_digests(&self) -> bool {
        self.names().all(is_digest)
    }
}

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It passed all checks, and waits to serve. At most one version of a handler does.
    Accepted,
    /// It serves, and is compared with its predecessor.
    Probation,
    /// It serves: it has proven itself, or had nothing to be compared with.
    Serving,
    /// A later version took its place.
    Retired,
    /// The host went back from its component by itself.
    Quarantined,
    /// Somebody rolled back from its component.
    SetAside,
}

impl VersionState {
    /// Returns the stored and shown form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Probation => "probation",
            Self::Serving => "serving",
            Self::Retired => "retired",
            Self::Quarantined => "quarantined",
            Self::SetAside => "set-aside",
        }
    }

    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Probation | Self::Serving)
    }

    pub(super) fn is_barred(self) -> bool {
        matches!(self, Self::Quarantined | Self::SetAside)
    }
}

/// One version of a handler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Counts from 1 for each handler.
    pub number: u64,
    /// What makes it this version.
    #[serde(flatten)]
    pub digests: VersionDigests,
    /// The path that the component came from; empty if it is not known.
    pub file: String,
    /// When it was first accepted: milliseconds since 1970-01-01T00:00:00Z.
    pub accepted_at_ms: u64,
    /// Its state.
    pub state: VersionState,
    /// Why it is quarantined or set aside, for people.
    pub reason: Option<String>,
    /// How long it has served in total, in milliseconds, without the times in which the host was down.
    pub served_ms: u64,
    /// When it last served: milliseconds since 1970-01-01T00:00:00Z. `None` if it never did.
    pub last_served_at_ms: Option<u64>,
    /// It has served without being on probation, and nobody has gone back from it since.
    #[serde(default)]
    pub is_proven: bool,
    /// The older version whose component this is, under a newer manifest.
    pub rollback_of: Option<u64>,
    /// What its calls came to.
    #[serde(default)]
    pub tally: VersionTally,
    /// How far its probation is.
    #[serde(default)]
    pub progress: Option<serde_json::Value>,
}

/// What happened to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionEventKind {
    /// It passed all checks.
    Accepted,
    /// The files were refused that would have become a version.
    Refused,
    /// It began to serve.
    Began,
    /// It seems to be worse than its predecessor, which gets a share of the deliveries again.
    Doubtful,
    /// It is not worse than its predecessor after all.
    Cleared,
    /// It has proven itself.
    Proven,
    /// The host went back from it.
    Quarantined,
    /// Somebody rolled back from it.
    RolledBack,
    /// Somebody promoted it.
    Promoted,
}

impl VersionEventKind {
    /// Returns the stored and shown form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Began => "began",
            Self::Doubtful => "doubtful",
            Self::Cleared => "cleared",
            Self::Proven => "proven",
            Self::Quarantined => "quarantined",
            Self::RolledBack => "rolled-back",
            Self::Promoted => "promoted",
        }
    }
}

/// An event in the history of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEvent {
    /// When: milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: u64,
    /// The number of the version; `None` if the files never became one.
    pub number: Option<u64>,
    /// What happened.
    pub what: VersionEventKind,
    /// Why, for people.
    pub why: Option<String>,
}

/// A component that does not serve until somebody promotes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarredComponent {
    /// The digest of the component.
    pub component: String,
    /// The number of the version that it was.
    pub number: u64,
    /// Quarantined or set aside.
    pub state: VersionState,
    /// Why, for people.
    pub reason: String,
}

/// Returns whether a text is a digest. Digests become the names of files.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
