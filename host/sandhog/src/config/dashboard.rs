//! Reads what people may see and do: the read-only secret, whether a page takes components, and the table `[redact]`.

use std::path::Path;

use super::{
    secret::{ListenerSecret, read_secret_file},
    section::TomlSection,
};

/// The most paths, and the most names of attributes, that are hidden.
const MAX_ITEMS: usize = 100;
/// The longest of them, in bytes.
const MAX_BYTES: usize = 512;
/// The key that lets pages take components.
pub(super) const DEPLOY_KEY: &str = "dashboard-deploy";

/// What people may see and do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DashboardSettings {
    /// The secret of those who may look and change nothing: `SANDHOG_READ_ONLY_SECRET`, or else the content of the file that the key
    /// `read-only-secret-file` names.
    pub reader_secret: Option<ListenerSecret>,
    /// People with the secret of the listener may put components into the plugin directory. Key `dashboard-deploy`: default false.
    pub deploy: bool,
    /// What pages and those with the read-only secret are not shown. Table `[redact]`.
    pub redaction: Redaction,
}

/// What is hidden of messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redaction {
    /// All bodies. Key `bodies`: default false.
    pub bodies: bool,
    /// Values inside bodies of JSON. Key `paths`: at most 100.
    pub paths: Vec<RedactedPath>,
    /// The values of the attributes with these names. Key `attributes`: at most 100.
    pub attributes: Vec<String>,
}

/// A place in a body of JSON: the names and indexes that lead to a value; `*` stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedPath(Vec<String>);

impl RedactedPath {
    /// Returns the path that a JSON pointer (RFC 6901) such as `/items/*/card` stands for.
    pub fn new(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/').filter(|_| text.len() <= MAX_BYTES)?;
        let segment = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
        Some(Self(rest.split('/').map(segment).collect()))
    }

    /// Returns the names and indexes.
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl Redaction {
    /// Returns whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        !self.bodies && self.paths.is_empty() && self.attributes.is_empty()
    }
}

/// Reads the keys and the table.
pub(super) fn read_dashboard(root: &mut TomlSection<'_>, directory: &Path) -> DashboardSettings {
    let reader_secret = read_secret_file(root, "read-only-secret-file", directory);
    let deploy = root.flag(DEPLOY_KEY).unwrap_or_default();
    let mut section = root.section("redact");
    let name = |text: &str| (1..=MAX_BYTES).contains(&text.len()).then(|| text.to_owned());
    let redaction = Redaction {
        bodies: section.flag("bodies").unwrap_or_default(),
        paths: section
            .list(
                "paths",
                "a JSON pointer such as \"/items/*/card\"",
                MAX_ITEMS,
                RedactedPath::new,
            )
            .unwrap_or_default(),
        attributes: section
            .list("attributes", "the name of an attribute", MAX_ITEMS, name)
            .unwrap_or_default(),
    };
    section.finish();
    DashboardSettings {
        reader_secret,
        deploy,
        redaction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_json_pointer() {
        let segments = |text| RedactedPath::new(text).map(|path| path.0);
        assert_eq!(
            segments("/a/*/b~1c~0d"),
            Some(["a", "*", "b/c~d"].map(str::to_owned).into())
        );
        assert_eq!(segments("/"), Some(vec![String::new()]));
        assert_eq!(segments("a/b"), None);
        assert_eq!(segments(""), None);
        assert_eq!(segments(&format!("/{}", "a".repeat(MAX_BYTES))), None);
    }
}
