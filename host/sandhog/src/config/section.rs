//! Reads TOML key by key, and collects every mistake.
//!
//! A reader asks a [`TomlSection`] for each key that it knows, with the accepted range. The section notes a value that does
//! not fit, and the value reads as absent. [`TomlSection::finish`] then notes every key that the reader did not ask for.
//!
//! Invariant: no default replaces a value that did not parse, because [`TomlDocument::read`] fails if a section noted a
//! mistake. This module knows no key by name: a caller says which values may be secrets.

use std::{
    cell::RefCell,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use bytesize::ByteSize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::mistake::{ConfigErrors, ConfigMistake};
use sandhog_queue::message::QueueName;

/// The longest part of a wrong value that a message repeats, in characters.
const SHOWN_CHARS: usize = 60;

/// A file that is being read, and the mistakes found in it so far.
pub(crate) struct TomlDocument<'d> {
    place: &'d str,
    text: &'d str,
    mistakes: RefCell<Vec<ConfigMistake>>,
}

impl<'d> TomlDocument<'d> {
    /// Reads the text of the file `place` with `read`. Fails if `read` noted a mistake.
    pub(crate) fn read<T>(
        place: &'d str,
        text: &'d str,
        read: impl FnOnce(&mut TomlSection<'_>) -> T,
    ) -> Result<T, ConfigErrors> {
        let document = Self {
            place,
            text,
            mistakes: RefCell::default(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // The parser guesses at the keys of a broken file, so they are not judged.
            for error in errors {
                document.note(
                    error.span().map(|span| span.start),
                    format!("not TOML: {}", one_line(error.message())),
                );
            }
            return Err(document.into_errors());
        }
        let mut section = TomlSection {
            document: &document,
            path: String::new(),
            table: Some(root.get_ref()),
            known: vec![],
            is_secret: false,
        };
        let value = read(&mut section);
        section.finish();
        if document.mistakes.borrow().is_empty() {
            Ok(value)
        } else {
            Err(document.into_errors())
        }
    }

    fn into_errors(self) -> ConfigErrors {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        ConfigErrors(mistakes)
    }

    fn note(&self, offset: Option<usize>, text: String) {
        self.note_of(offset, text, false);
    }

    fn note_of(&self, offset: Option<usize>, text: String, is_transient: bool) {
        let before = offset.and_then(|offset| self.text.get(..offset));
        let line = before.map(|before| before.matches('\n').count() + 1);
        self.mistakes.borrow_mut().push(ConfigMistake {
            place: self.place.to_owned(),
            line,
            text,
            is_transient,
        });
    }
}

/// An entry of a table whose values have two forms.
pub(crate) enum TextOrTable<'d> {
    Text(String),
    Table(TomlSection<'d>),
}

/// The form of a table whose values may be secrets.
pub(crate) struct SecretForm {
    /// The accepted names.
    pub(crate) is_name: fn(&str) -> bool,
    /// Describes the accepted names in a message.
    pub(crate) names: &'static str,
    /// Describes the accepted values in a message.
    pub(crate) values: &'static str,
}

/// One table of a file. A table that the file does not have is empty.
pub(crate) struct TomlSection<'d> {
    document: &'d TomlDocument<'d>,
    /// The dotted path of the table; empty for the file itself.
    path: String,
    table: Option<&'d DeTable<'d>>,
    /// The keys that the reader asked for.
    known: Vec<&'static str>,
    /// The values of the table may be secrets, so no message repeats them.
    is_secret: bool,
}

impl<'d> TomlSection<'d> {
    /// Reads a whole number.
    pub(crate) fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(key, &accepted, |value| {
            whole(value).filter(|number| range.contains(number))
        })
    }

    /// Reads a number, which may have a fraction. `accepted` describes the numbers that `fits` accepts in a message.
    pub(crate) fn decimal(&mut self, key: &'static str, accepted: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        self.value(key, accepted, |value| {
            let number = match value.as_float() {
                Some(float) => float.as_str().parse().ok()?,
                None => f64::from(u32::try_from(whole(value)?).ok()?),
            };
            Some(number).filter(|number| fits(*number))
        })
    }

    /// Reads a duration, such as `"30s"` or `"1h 30m"`.
    pub(crate) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let show = humantime::format_duration;
        let accepted = format!(
            "a duration from {} to {}, such as \"30s\"",
            show(*range.start()),
            show(*range.end())
        );
        self.value(key, &accepted, |value| {
            humantime::parse_duration(value.as_str()?)
                .ok()
                .filter(|duration| range.contains(duration))
        })
    }

    /// Reads a number of bytes: a size such as `"64MiB"`, or a plain number.
    pub(crate) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let accepted = format!(
            "a size from {} to {}, such as \"1MiB\"",
            shown_size(*range.start()),
            shown_size(*range.end())
        );
        self.value(key, &accepted, |value| {
            let bytes = match value.as_str() {
                Some(text) => text.parse::<ByteSize>().ok()?.as_u64(),
                None => whole(value)?,
            };
            Some(bytes).filter(|bytes| range.contains(bytes))
        })
    }

    /// Reads a text that `parse` accepts. `accepted` describes such a text in a message.
    pub(crate) fn text<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.value(key, accepted, |value| parse(value.as_str()?))
    }

    /// Reads the name of a queue.
    pub(crate) fn queue_name(&mut self, key: &'static str) -> Option<QueueName> {
        self.text(key, QUEUE_NAME, |text| QueueName::new(text).ok())
    }

    /// Reads `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.value(key, "true or false", DeValue::as_bool)
    }

    /// Reads a list of names of queues.
    pub(crate) fn queue_names(&mut self, key: &'static str) -> Option<Vec<QueueName>> {
        self.list(key, QUEUE_NAME, 1000, |text| QueueName::new(text).ok())
    }

    /// Reads a list of at most `max` texts that `parse` accepts. `accepted` describes such a text in a message.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        max: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = format!("a list of at most {max}, each {accepted}");
        let items = self.value(key, &list, |value| value.as_array().filter(|items| items.len() <= max))?;
        let mut values = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref().as_str().and_then(&parse) {
                Some(value) => values.push(value),
                None => self.note_value(&format!("{key}[{index}]"), item, accepted),
            }
        }
        Some(values)
    }

    /// Reads a list of at most `max` whole numbers.
    pub(crate) fn numbers(&mut self, key: &'static str, range: RangeInclusive<u64>, max: usize) -> Option<Vec<u64>> {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        let list = format!("a list of at most {max}, each {accepted}");
        let items = self.value(key, &list, |value| value.as_array().filter(|items| items.len() <= max))?;
        let mut numbers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match whole(item.get_ref()).filter(|number| range.contains(number)) {
                Some(number) => numbers.push(number),
                None => self.note_value(&format!("{key}[{index}]"), item, &accepted),
            }
        }
        Some(numbers)
    }

    /// Reads a list of at most `max` tables. `accepted` describes such a table in a message. The caller reads the tables and
    /// finishes them.
    pub(crate) fn section_list(&mut self, key: &'static str, accepted: &str, max: usize) -> Vec<Self> {
        let list = format!("a list of at most {max} tables such as {accepted}");
        let items = self.value(key, &list, |value| value.as_array().filter(|items| items.len() <= max));
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().flatten().enumerate() {
            let path = format!("{key}[{index}]");
            match item.get_ref().as_table() {
                Some(table) => sections.push(self.below(&path, Some(table))),
                None => self.note_value(&path, item, &format!("a table such as {accepted}")),
            }
        }
        sections
    }

    /// Reads the entries of the table `key`, each a text or a table. The values may be secrets, so no message repeats one of them,
    /// or a value in one of the tables.
    pub(crate) fn secrets(&mut self, key: &'static str, form: &SecretForm) -> Option<Vec<(String, TextOrTable<'d>)>> {
        self.known.push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.note_secret(key, name.span(), "a table");
            return None;
        };
        let mut entries = Vec::new();
        for (name, value) in table {
            let path = format!("{key}.{}", name.get_ref());
            if !(form.is_name)(name.get_ref()) {
                self.note_secret(&path, name.span(), form.names);
            }
            let text = value.get_ref().as_str().filter(|text| !text.contains('\0'));
            let entry = match (text, value.get_ref().as_table()) {
                (Some(text), _) => TextOrTable::Text(text.to_owned()),
                (None, Some(table)) => TextOrTable::Table(TomlSection {
                    is_secret: true,
                    ..self.below(&path, Some(table))
                }),
                (None, None) => {
                    self.note_secret(&path, value.span(), form.values);
                    continue;
                }
            };
            entries.push((name.get_ref().to_string(), entry));
        }
        Some(entries)
    }

    fn note_secret(&self, path: &str, span: Range<usize>, accepted: &str) {
        let text = format!("{}: use {accepted}", self.full(path));
        self.document.note(Some(span.start), text);
    }

    /// Returns the table `key`. The caller reads it and finishes it.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let table = self.value(key, "a table", DeValue::as_table);
        self.below(key, table)
    }

    fn below(&self, path: &str, table: Option<&'d DeTable<'d>>) -> Self {
        TomlSection {
            document: self.document,
            path: self.full(path),
            table,
            known: vec![],
            is_secret: self.is_secret,
        }
    }

    /// Returns the tables in the table `key`, with their names. The caller reads the tables and finishes them.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let mut sections = Vec::new();
        for (name, value) in self.value(key, "a table", DeValue::as_table).into_iter().flatten() {
            let path = format!("{key}.{}", name.get_ref());
            let Some(table) = value.get_ref().as_table() else {
                self.note_value(&path, value, "a table");
                continue;
            };
            sections.push((name.get_ref().to_string(), self.below(&path, Some(table))));
        }
        sections
    }

    /// Returns whether the table has the key, with a right value or a wrong one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Notes a mistake if the table has a key that means nothing in it.
    pub(crate) fn not_for(&mut self, key: &'static str, why: &str) {
        if self.value(key, "", |_| Some(())).is_some() {
            self.refuse(key, why);
        }
    }

    /// Notes that the value of `key` does not go together with others.
    pub(crate) fn refuse(&self, key: &str, why: &str) {
        self.refuse_of(key, why, false);
    }

    /// Notes that a value names a file or directory that can't be used now.
    pub(crate) fn refuse_for_now(&self, key: &str, why: &str) {
        self.refuse_of(key, why, true);
    }

    fn refuse_of(&self, key: &str, why: &str, is_transient: bool) {
        let (offset, shown) = match self.table.and_then(|table| table.get_key_value(key)) {
            Some((name, value)) => (Some(name.span().start), self.shown(value)),
            None => (None, String::new()),
        };
        let text = format!("{}{shown}: {why}", self.full(key));
        self.document.note_of(offset, text, is_transient);
    }

    /// Notes a mistake of the table itself.
    pub(crate) fn refuse_section(&self, why: &str) {
        let first = self
            .table
            .and_then(|table| table.keys().map(|key| key.span().start).min());
        self.document.note(first, format!("{}: {why}", self.path));
    }

    /// Notes every key that the reader did not ask for.
    pub(crate) fn finish(self) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let hint = match closest(name, &self.known) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.document.note(
                Some(key.span().start),
                format!("{}: unknown key; {hint}", self.full(name)),
            );
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        convert: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        let converted = convert(value.get_ref());
        if converted.is_none() {
            self.note_value(key, value, accepted);
        }
        converted
    }

    fn note_value(&self, key: &str, value: &Spanned<DeValue<'_>>, accepted: &str) {
        let text = format!("{}{}: use {accepted}", self.full(key), self.shown(value));
        self.document.note(Some(value.span().start), text);
    }

    /// Returns the value as the file has it, shortened.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        // A table's span is only its header.
        if value.get_ref().is_table() || self.is_secret {
            return String::new();
        }
        let source = one_line(self.document.text.get(value.span()).unwrap_or_default());
        let shortened: String = source.chars().take(SHOWN_CHARS).collect();
        let dots = if shortened.len() < source.len() { "..." } else { "" };
        format!(" = {shortened}{dots}")
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// Returns a number of bytes as a manifest has it, such as `1MiB`.
pub(crate) fn shown_size(bytes: u64) -> String {
    let size = ByteSize::b(bytes).display().iec().to_string();
    size.replace(".0 ", "").replace(' ', "")
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

const QUEUE_NAME: &str = "the name of a queue: 1 to 80 letters, digits, '-', '_' and '.', not starting with '.'";

/// Returns the text as one line without control characters, which a terminal might obey.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns the known key that the writer probably meant: at most a third of it is wrong.
fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distances = known.iter().map(|known| (strsim::levenshtein(name, known), *known));
    let (distance, known) = distances.min()?;
    (distance <= (known.len() / 3).max(1)).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unrelated_key_is_not_taken_for_a_known_one() {
        assert_eq!(closest("colour", &["timeout", "memory", "queue"]), None);
        assert_eq!(closest("tiemout", &["timeout", "memory", "queue"]), Some("timeout"));
        assert_eq!(closest("concurency", &["timeout", "concurrency"]), Some("concurrency"));
    }
}
