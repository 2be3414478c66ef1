//! A filter of messages as a text: `reason ~ "timeout" and age > 1h`. Pure; no I/O, no clock.
//!
//! Invariant: a text either stands for a whole filter or is refused, with the place of the mistake and what is accepted there. The file does
//! not know which messages are looked at.

use std::fmt;

use winnow::{
    ModalResult, Parser as _,
    ascii::multispace0,
    combinator::{alt, delimited, preceded, repeat},
    token::{any, none_of, take_while},
};

use sandhog_queue::{
    FailureKind,
    message_filter::{
        AgeRelation, FilterClause, FilterField, MAX_CLAUSE_BYTES, MAX_CLAUSES, MessageFilter, MessageStanding,
        TextRelation,
    },
    printable::printable,
};

/// The longest text of a filter, in bytes.
const MAX_TEXT_BYTES: usize = 16 * 1024;
/// The longest part of a mistake that is repeated, in bytes.
const SHOWN_BYTES: usize = 40;

const FIELDS: &str = "a field: id, body, group, state, age, attr.NAME, reason, kind, handler or queue";
const TEXT_RELATIONS: &str = "=, != or ~ (contains)";
const AGE_RELATIONS: &str = "< or >";
const STANDING_RELATIONS: &str = "= or !=";
const VALUE: &str = "a value: a word, or a text in \"quotes\"";
const AGE: &str = "a duration such as 90s, 1h or \"1h 30m\"";
const STANDINGS: &str = "ready, held, in-flight, delayed, retry or damaged";
const KINDS: &str = "retry, reject, trap, timeout, memory, wrong-answer or host-stopped";
const AND: &str = "\"and\", or the end";

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FilterMistake {
    /// The place of the mistake, counted in characters from 1.
    pub at: usize,
    /// What is there; empty at the end of the text.
    pub found: String,
    /// What is accepted there.
    pub accepted: String,
}

impl fmt::Display for FilterMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, found, accepted } = self;
        if found.is_empty() {
            write!(f, "the filter ends at character {at}: use {accepted}")
        } else {
            write!(f, "character {at} of the filter, {found:?}: use {accepted}")
        }
    }
}

/// Returns the filter that a text stands for.
///
/// # Errors
///
/// [`FilterMistake`].
///
/// # Examples
///
/// ```
/// # use sandhog::filter_text::parse_filter;
/// assert!(parse_filter(r#"reason ~ "timeout" and age > 1h"#).is_ok());
/// assert_eq!(
///     parse_filter("age = 1h").unwrap_err().to_string(),
///     r#"character 5 of the filter, "= 1h": use < or >"#
/// );
/// ```
pub fn parse_filter(text: &str) -> Result<MessageFilter, FilterMistake> {
    let mut reader = FilterReader { text, rest: text };
    if text.len() > MAX_TEXT_BYTES {
        return Err(reader.mistake(text, &format!("at most {MAX_TEXT_BYTES} bytes")));
    }
    let mut clauses = vec![reader.clause()?];
    while reader.and()? {
        if clauses.len() == MAX_CLAUSES {
            return Err(reader.mistake(reader.rest, &format!("at most {MAX_CLAUSES} clauses")));
        }
        clauses.push(reader.clause()?);
    }
    MessageFilter::new(clauses).map_err(|error| reader.mistake(text, &error.to_string()))
}

/// The field at the beginning of a clause.
enum ClauseField {
    Text(FilterField),
    Age,
    Standing,
}

/// A text, and the part of it that was not read so far.
struct FilterReader<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> FilterReader<'t> {
    fn clause(&mut self) -> Result<FilterClause, FilterMistake> {
        let field = self.field()?;
        match field {
            ClauseField::Age => {
                let relation = self.relation(AGE_RELATIONS, |sign| match sign {
                    "<" => Some(AgeRelation::Younger),
                    ">" => Some(AgeRelation::Older),
                    _ => None,
                })?;
                let age = self.value(AGE, |value| humantime::parse_duration(value).ok())?;
                Ok(FilterClause::Age { relation, age })
            }
            ClauseField::Standing => {
                let is = self.relation(STANDING_RELATIONS, |sign| match sign {
                    "=" => Some(true),
                    "!=" => Some(false),
                    _ => None,
                })?;
                let standing = self.value(STANDINGS, MessageStanding::from_text)?;
                Ok(FilterClause::Standing { is, standing })
            }
            ClauseField::Text(field) => {
                let relation = self.relation(TEXT_RELATIONS, |sign| match sign {
                    "=" => Some(TextRelation::Is),
                    "!=" => Some(TextRelation::IsNot),
                    "~" => Some(TextRelation::Contains),
                    _ => None,
                })?;
                let is_kind = field == FilterField::Kind && relation != TextRelation::Contains;
                let accepted = if is_kind { KINDS } else { VALUE };
                let value = self.value(accepted, |value| {
                    let is_known = !is_kind || is_kind_of_failure(value);
                    (value.len() <= MAX_CLAUSE_BYTES && is_known).then(|| value.to_owned())
                })?;
                Ok(FilterClause::Text { field, relation, value })
            }
        }
    }

    fn field(&mut self) -> Result<ClauseField, FilterMistake> {
        self.skip_space();
        let at = self.rest;
        let word: ModalResult<&str> = take_while(1.., |c: char| c.is_ascii_alphabetic()).parse_next(&mut self.rest);
        Ok(match word.unwrap_or_default() {
            "age" => ClauseField::Age,
            "state" => ClauseField::Standing,
            "id" => ClauseField::Text(FilterField::Id),
            "body" => ClauseField::Text(FilterField::Body),
            "group" => ClauseField::Text(FilterField::Group),
            "reason" => ClauseField::Text(FilterField::Reason),
            "kind" => ClauseField::Text(FilterField::Kind),
            "handler" => ClauseField::Text(FilterField::Handler),
            "queue" => ClauseField::Text(FilterField::Queue),
            "attr" => {
                let name = preceded('.', alt((quoted, bare_name))).parse_next(&mut self.rest);
                let name = name.map_err(|_| self.mistake(at, "attr.NAME, or attr.\"NAME\""))?;
                ClauseField::Text(FilterField::Attribute(name))
            }
            _ => return Err(self.mistake(at, FIELDS)),
        })
    }

    fn relation<T>(&mut self, accepted: &str, known: impl Fn(&str) -> Option<T>) -> Result<T, FilterMistake> {
        self.skip_space();
        let at = self.rest;
        let sign: ModalResult<&str> = alt(("!=", "=", "~", "<", ">")).parse_next(&mut self.rest);
        let relation = sign.ok().and_then(known);
        relation.ok_or_else(|| self.mistake(at, accepted))
    }

    fn value<T>(&mut self, accepted: &str, known: impl Fn(&str) -> Option<T>) -> Result<T, FilterMistake> {
        self.skip_space();
        let at = self.rest;
        let text = alt((quoted, bare)).parse_next(&mut self.rest);
        let value = text.ok().and_then(|text| known(&text));
        value.ok_or_else(|| self.mistake(at, accepted))
    }

    /// Returns whether another clause follows.
    fn and(&mut self) -> Result<bool, FilterMistake> {
        self.skip_space();
        if self.rest.is_empty() {
            return Ok(false);
        }
        let at = self.rest;
        match bare.parse_next(&mut self.rest) {
            Ok(word) if word == "and" => Ok(true),
            Ok(_) | Err(_) => Err(self.mistake(at, AND)),
        }
    }

    fn skip_space(&mut self) {
        let skipped: ModalResult<&str> = multispace0.parse_next(&mut self.rest);
        debug_assert!(skipped.is_ok(), "no space is space enough");
    }

    /// Returns the mistake at the beginning of `rest`, a part of the text up to its end.
    fn mistake(&self, rest: &'t str, accepted: &str) -> FilterMistake {
        let before = self.text.len().saturating_sub(rest.len());
        let before = self.text.get(..before).unwrap_or_default();
        FilterMistake {
            at: before.chars().count() + 1,
            found: printable(rest, SHOWN_BYTES),
            accepted: accepted.to_owned(),
        }
    }
}

fn is_kind_of_failure(text: &str) -> bool {
    [
        FailureKind::Retry,
        FailureKind::Reject,
        FailureKind::Trap,
        FailureKind::Timeout,
        FailureKind::Memory,
        FailureKind::WrongAnswer,
        FailureKind::HostStopped,
    ]
    .iter()
    .any(|kind| kind.as_str() == text)
}

/// Reads a text in quotes, in which a backslash stands before a quote or a backslash.
fn quoted(input: &mut &str) -> ModalResult<String> {
    let escaped = preceded('\\', any.verify(|c| matches!(c, '"' | '\\')));
    let characters = repeat(0.., alt((none_of(['"', '\\']), escaped)));
    delimited('"', characters, '"').parse_next(input)
}

/// Reads a word without quotes.
fn bare(input: &mut &str) -> ModalResult<String> {
    take_while(1.., |c: char| !c.is_whitespace() && c != '"')
        .map(str::to_owned)
        .parse_next(input)
}

/// Reads the name of an attribute without quotes: up to the sign that follows.
fn bare_name(input: &mut &str) -> ModalResult<String> {
    take_while(1.., |c: char| {
        !c.is_whitespace() && !matches!(c, '"' | '=' | '!' | '~' | '<' | '>')
    })
    .map(str::to_owned)
    .parse_next(input)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(field: FilterField, relation: TextRelation, value: &str) -> FilterClause {
        FilterClause::Text {
            field,
            relation,
            value: value.to_owned(),
        }
    }

    fn check(written: &str, clauses: Vec<FilterClause>) {
        assert_eq!(
            parse_filter(written),
            Ok(MessageFilter::new(clauses).unwrap()),
            "{written}"
        );
    }

    #[test]
    fn a_filter_is_clauses_joined_by_and() {
        use TextRelation::{Contains, Is, IsNot};
        let hour = Duration::from_hours(1);
        check(
            r#"reason ~ "timeout" and age > 1h"#,
            vec![
                text(FilterField::Reason, Contains, "timeout"),
                FilterClause::Age {
                    relation: AgeRelation::Older,
                    age: hour,
                },
            ],
        );
        check("id=7", vec![text(FilterField::Id, Is, "7")]);
        check("  kind!=trap ", vec![text(FilterField::Kind, IsNot, "trap")]);
        check("kind ~ rap", vec![text(FilterField::Kind, Contains, "rap")]);
        check(
            r#"attr.tenant=acme and attr."a b" ~ "\"and\\""#,
            vec![
                text(FilterField::Attribute("tenant".to_owned()), Is, "acme"),
                text(FilterField::Attribute("a b".to_owned()), Contains, "\"and\\"),
            ],
        );
        check(
            r#"body ~ "" and age < "1h 30m" and state != in-flight"#,
            vec![
                text(FilterField::Body, Contains, ""),
                FilterClause::Age {
                    relation: AgeRelation::Younger,
                    age: hour + hour / 2,
                },
                FilterClause::Standing {
                    is: false,
                    standing: MessageStanding::InFlight,
                },
            ],
        );
        check(
            "handler = and and queue ~ \u{e9}",
            vec![
                text(FilterField::Handler, Is, "and"),
                text(FilterField::Queue, Contains, "\u{e9}"),
            ],
        );
    }

    #[test]
    fn a_mistake_says_where_it_is_and_what_is_accepted_there() {
        for (written, at, found, accepted) in [
            ("", 1, "", FIELDS),
            ("  ", 3, "", FIELDS),
            ("reson ~ x", 1, "reson ~ x", FIELDS),
            ("reason", 7, "", TEXT_RELATIONS),
            ("reason > x", 8, "> x", TEXT_RELATIONS),
            ("reason ~", 9, "", VALUE),
            ("reason ~ \"x", 10, "\"x", VALUE),
            ("reason ~ \"\\x\"", 10, "\"\\x\"", VALUE),
            ("age = 1h", 5, "= 1h", AGE_RELATIONS),
            ("age > soon", 7, "soon", AGE),
            ("state = gone", 9, "gone", STANDINGS),
            ("state ~ ready", 7, "~ ready", STANDING_RELATIONS),
            ("kind = oops", 8, "oops", KINDS),
            ("attr = x", 1, "attr = x", "attr.NAME, or attr.\"NAME\""),
            ("body ~ \u{e9} or id = 1", 10, "or id = 1", AND),
            ("id = 1 and", 11, "", FIELDS),
        ] {
            let mistake = parse_filter(written).unwrap_err();
            let expected = FilterMistake {
                at,
                found: found.to_owned(),
                accepted: accepted.to_owned(),
            };
            assert_eq!(mistake, expected, "{written}");
        }
    }

    #[test]
    fn a_filter_is_as_long_as_it_may_be_and_no_longer() {
        let many = |clauses: usize| vec!["id != 1"; clauses].join(" and ");
        assert!(parse_filter(&many(MAX_CLAUSES)).is_ok());
        let mistake = parse_filter(&many(MAX_CLAUSES + 1)).unwrap_err();
        assert_eq!(mistake.accepted, "at most 20 clauses");
        let long = format!("body ~ {}", "x".repeat(MAX_TEXT_BYTES));
        assert_eq!(parse_filter(&long).unwrap_err().accepted, "at most 16384 bytes");
    }
}
