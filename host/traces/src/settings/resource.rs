//! What is said about this process: the resource of its spans.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::Variables;

/// The most attributes that a variable can name.
const MAX_PAIRS: usize = 128;

/// Returns the attributes: those of the variables, and what the host knows by itself.
pub(crate) fn read(variables: &mut Variables<'_>) -> BTreeMap<String, String> {
    let mut attributes: BTreeMap<String, String> = [
        ("service.name", "sandhog".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", Uuid::new_v4().to_string()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.name", "sandhog".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let accepted = "pairs such as key=value,other=value";
    let given = variables.text("OTEL_RESOURCE_ATTRIBUTES", accepted, "none of them is used", pairs);
    attributes.extend(given.into_iter().flatten());
    if let Some(name) = variables.value("OTEL_SERVICE_NAME") {
        attributes.insert("service.name".to_owned(), name);
    }
    attributes
}

/// Reads pairs in the form of W3C baggage: `key=value,other=value`, with percent signs before what can't stand for itself.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let decoded = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
        let (name, value) = (decoded(name)?, decoded(value)?);
        if name.is_empty() || pairs.len() == MAX_PAIRS {
            return None;
        }
        pairs.push((name, value));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(attributes: &str, name: &str) -> BTreeMap<String, String> {
        let environment = |variable: &str| match variable {
            "OTEL_RESOURCE_ATTRIBUTES" => Some(attributes.to_owned()),
            "OTEL_SERVICE_NAME" => Some(name.to_owned()),
            _ => None,
        };
        read(&mut Variables::new(&environment))
    }

    #[test]
    fn the_name_of_the_service_wins_over_that_among_the_attributes() {
        let named = resource("service.name=one,deployment.environment.name=a%20b", "two");
        assert_eq!(named["service.name"], "two");
        assert_eq!(named["deployment.environment.name"], "a b");
        assert_eq!(resource("service.name=one", "")["service.name"], "one");
        assert_eq!(resource("", "")["service.name"], "sandhog");
    }

    #[test]
    fn attributes_that_are_no_pairs_are_none() {
        assert_eq!(pairs("a=1,b"), None);
        assert_eq!(pairs("=1"), None);
        assert_eq!(pairs("a=1,,b=,").unwrap().len(), 2);
    }
}
