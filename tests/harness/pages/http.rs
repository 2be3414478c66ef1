//! The page of the HTTP routes, made from the document that `GET /openapi.json` answers.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value};

const INTRODUCTION: &str = "# HTTP routes

What each route takes and answers, from the document that a host answers to `GET /openapi.json`. [The listener](listener.md) has the routes on one page, with limits,
errors and access keys; [the SQS endpoint](sqs-endpoint.md) is on the same port.
";

/// The groups of routes in the order of the page, by their tags, with their headings.
const GROUPS: [(&str, &str); 5] = [
    ("host", "The host"),
    ("queues", "Queues"),
    ("messages", "Messages"),
    ("dead letters", "Dead letters"),
    ("handlers", "Handlers"),
];

pub(super) fn page() -> String {
    let document = serde_json::to_value(sandhog::admin::openapi()).unwrap();
    let mut page = INTRODUCTION.to_owned();
    let mut groups: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (path, methods) in sorted(at(&document, "/paths")) {
        for (method, operation) in sorted(methods) {
            let tag = text(operation, "/tags/0");
            let group = GROUPS.iter().position(|(name, _)| *name == tag);
            let group = group.unwrap_or_else(|| panic!("{path}: name the tag {tag:?} in GROUPS"));
            let title = format!("{} {path}", method.to_uppercase());
            groups.entry(group).or_default().push(route(&title, operation));
        }
    }
    for ((_, heading), routes) in GROUPS.iter().zip(groups.values()) {
        write!(page, "\n## {heading}\n{}", routes.concat()).unwrap();
    }
    page.push_str("\n## Forms\n\nThe JSON of requests and answers.\n");
    for (name, schema) in sorted(at(&document, "/components/schemas")) {
        page.push_str(&form(name, schema));
    }
    page
}

fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    at(value, pointer).as_str().unwrap_or_default()
}

/// The entries of an object by their names, whatever the order in which it has them.
fn sorted(object: &Value) -> BTreeMap<&String, &Value> {
    object.as_object().into_iter().flat_map(Map::iter).collect()
}

/// A text that may stand in a cell of a table.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

fn route(title: &str, operation: &Value) -> String {
    let mut page = format!("\n### `{title}`\n");
    for words in ["/summary", "/description"] {
        let words = text(operation, words);
        if !words.is_empty() {
            write!(page, "\n{words}\n").unwrap();
        }
    }
    let parameters = at(operation, "/parameters").as_array();
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        page.push_str("\n| parameter | in | type | what |\n| --- | --- | --- | --- |\n");
        for each in parameters {
            let (name, place) = (text(each, "/name"), text(each, "/in"));
            let (kind, what) = (kind(at(each, "/schema")), cell(text(each, "/description")));
            writeln!(page, "| `{name}` | {place} | {kind} | {what} |").unwrap();
        }
    }
    let body = at(operation, "/requestBody");
    for (media, content) in sorted(at(body, "/content")) {
        let what = cell(text(body, "/description"));
        let what = if what.is_empty() {
            String::new()
        } else {
            format!(": {what}")
        };
        let schema = at(content, "/schema");
        let kind = if schema.is_null() {
            String::new()
        } else {
            format!(", {}", kind(schema))
        };
        write!(page, "\nThe body is `{media}`{kind}{what}.\n").unwrap();
    }
    page.push_str("\n| status | answer | what |\n| --- | --- | --- |\n");
    for (status, answer) in sorted(at(operation, "/responses")) {
        let contents: Vec<_> = sorted(at(answer, "/content"))
            .into_iter()
            .map(|(media, content)| match media.as_str() {
                "application/json" => kind(at(content, "/schema")),
                media => format!("`{media}`"),
            })
            .collect();
        let what = cell(text(answer, "/description"));
        writeln!(page, "| {status} | {} | {what} |", contents.join(" or ")).unwrap();
    }
    page
}

/// The type that a schema describes.
fn kind(schema: &Value) -> String {
    if let Some(name) = text(schema, "/$ref").rsplit('/').next().filter(|name| !name.is_empty()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for alternatives in ["/oneOf", "/anyOf", "/allOf"] {
        if let Some(alternatives) = at(schema, alternatives).as_array() {
            let kinds: Vec<_> = alternatives.iter().map(kind).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(words) = at(schema, "/enum").as_array() {
        let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    let written = at(schema, "/type");
    let names: Vec<_> = match (written.as_str(), written.as_array()) {
        (Some(name), _) => vec![name],
        (None, Some(names)) => names.iter().filter_map(Value::as_str).collect(),
        (None, None) => vec!["any"],
    };
    let kinds = names.into_iter().map(|name| match name {
        "array" => format!("list of {}", kind(at(schema, "/items"))),
        "object" if schema.get("additionalProperties").is_some() => {
            format!("{} by name", kind(at(schema, "/additionalProperties")))
        }
        "object" => match properties(schema).as_slice() {
            [] => "object".to_owned(),
            fields => fields.join(", "),
        },
        name => name.to_owned(),
    });
    kinds.collect::<Vec<_>>().join(" or ")
}

/// The fields of an object without a name, as one line.
fn properties(schema: &Value) -> Vec<String> {
    sorted(at(schema, "/properties"))
        .into_iter()
        .map(|(name, schema)| format!("`{name}`: {}", kind(schema)))
        .collect()
}

fn form(name: &str, schema: &Value) -> String {
    let mut page = format!("\n### {name}\n");
    let what = text(schema, "/description");
    if !what.is_empty() {
        write!(page, "\n{what}\n").unwrap();
    }
    let fields = sorted(at(schema, "/properties"));
    if fields.is_empty() {
        write!(page, "\n{}\n", alternatives(schema)).unwrap();
        return page;
    }
    let required: Vec<_> = at(schema, "/required").as_array().into_iter().flatten().collect();
    page.push_str("\n| field | type | what |\n| --- | --- | --- |\n");
    for (name, field) in fields {
        let optional = if required.iter().any(|other| *other == name) {
            ""
        } else {
            ", may be absent"
        };
        let what = cell(text(field, "/description"));
        writeln!(page, "| `{name}` | {}{optional} | {what} |", kind(field)).unwrap();
    }
    page
}

/// A form that is one of several: each with what it means.
fn alternatives(schema: &Value) -> String {
    let Some(each) = at(schema, "/oneOf").as_array() else {
        return kind(schema);
    };
    let lines = each.iter().map(|each| {
        let what = text(each, "/description");
        let what = if what.is_empty() {
            String::new()
        } else {
            format!(": {what}")
        };
        format!("- {}{what}", kind(each))
    });
    lines.collect::<Vec<_>>().join("\n")
}
