//! Reads the limits of a manifest by the table that describes them.

use super::section::{TomlSection, shown_size};
use sandhog_executor::policy::{LimitEntry, LimitField, LimitQuantity, Limits};

/// The table of a manifest that has most limits.
const TABLE_NAME: &str = "limits";
/// The start of a key that stands in that table.
const TABLE_PREFIX: &str = "limits.";

pub(crate) fn read_limits(root: &mut TomlSection<'_>) -> Limits {
    let mut limits = Limits::default();
    let at_root = |entry: &&LimitEntry| !entry.key.starts_with(TABLE_PREFIX);
    for entry in Limits::TABLE.iter().filter(at_root) {
        read_limit(root, entry.key, &entry.quantity, &mut limits);
    }
    let mut section = root.section(TABLE_NAME);
    for entry in Limits::TABLE {
        if let Some(key) = entry.key.strip_prefix(TABLE_PREFIX) {
            read_limit(&mut section, key, &entry.quantity, &mut limits);
        }
    }
    section.finish();
    limits
}

fn read_limit(section: &mut TomlSection<'_>, key: &'static str, quantity: &LimitQuantity, limits: &mut Limits) {
    match quantity {
        LimitQuantity::Count(field) => {
            if let Some(count) = section.number(key, field.range.clone()) {
                (field.set)(limits, count);
            }
        }
        LimitQuantity::Bytes(field) => {
            if let Some(bytes) = section.size(key, field.range.clone()) {
                (field.set)(limits, bytes);
            }
        }
        LimitQuantity::Time(field) => {
            if let Some(time) = section.duration(key, field.range.clone()) {
                (field.set)(limits, time);
            }
        }
    }
}

/// Returns the first cells of each row of the table of limits in the documentation: the key, the default, the accepted
/// values in the notation of a manifest, and the sentence that says what the limit bounds.
pub fn limit_rows() -> Vec<String> {
    let row = |entry: &LimitEntry| {
        let (default, accepted) = match &entry.quantity {
            LimitQuantity::Count(field) => shown(field, |count| count.to_string()),
            LimitQuantity::Bytes(field) => shown(field, shown_size),
            LimitQuantity::Time(field) => shown(field, |time| humantime::format_duration(time).to_string()),
        };
        format!("| `{}` | {default} | {accepted} | {} |", entry.key, entry.bounds)
    };
    Limits::TABLE.iter().map(row).collect()
}

/// Returns the default and the range of a limit.
fn shown<T: Copy>(field: &LimitField<T>, show: impl Fn(T) -> String) -> (String, String) {
    let accepted = format!("{} to {}", show(*field.range.start()), show(*field.range.end()));
    (show(field.default), accepted)
}
