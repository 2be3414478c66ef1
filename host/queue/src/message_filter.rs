//! A filter of messages: which of them an operator means. Pure; no I/O, no clock.
//!
//! Invariant: a filter has a bounded number of clauses, each of a bounded length, and a message passes if it passes all of them. The file
//! does not know where messages are kept, nor how a filter is written down.
//! A search in a text takes time that grows with the text and not with what is looked for.

use std::time::Duration;

use memchr::memmem::Finder;

use crate::{
    FailureRecord,
    message::{AttributeValue, Attributes},
};

/// The most clauses of a filter.
pub const MAX_CLAUSES: usize = 20;
/// The longest text that a clause compares with, in bytes.
pub const MAX_CLAUSE_BYTES: usize = 4096;

/// The thing that a message waits for, as an operator is shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageStanding {
    /// A receiver.
    Ready,
    /// Its turn in its group.
    Held,
    /// Its settlement.
    InFlight,
    /// The end of the delay that it was sent with.
    Delayed,
    /// The end of its retry delay.
    Retry,
    /// A person: its stored form is damaged.
    Damaged,
}

impl MessageStanding {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Held,
        Self::InFlight,
        Self::Delayed,
        Self::Retry,
        Self::Damaged,
    ];

    /// Returns the shown form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Held => "held",
            Self::InFlight => "in-flight",
            Self::Delayed => "delayed",
            Self::Retry => "retry",
            Self::Damaged => "damaged",
        }
    }

    /// Returns the one with this shown form.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == text)
    }
}

/// A text of a message that a clause is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterField {
    /// The id.
    Id,
    /// The message group.
    Group,
    /// The body, as bytes.
    Body,
    /// The value of the attribute of this name.
    Attribute(String),
    /// For a dead letter: why it became one.
    Reason,
    /// For a dead letter: the kind of the failure.
    Kind,
    /// For a dead letter: the handler that failed.
    Handler,
    /// For a dead letter: the queue that it came from.
    Queue,
}

/// How a clause compares a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextRelation {
    /// The text is the same. An absent text is not.
    Is,
    /// The text is another one, or absent.
    IsNot,
    /// The text is in it, byte for byte.
    Contains,
}

/// How a clause compares an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeRelation {
    /// The message is older.
    Older,
    /// The message is younger.
    Younger,
}

/// One condition on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterClause {
    /// What the message waits for.
    Standing {
        /// Whether it waits for that, or for something else.
        is: bool,
        /// The state.
        standing: MessageStanding,
    },
    /// A text of the message.
    Text {
        /// Which.
        field: FilterField,
        /// How it compares.
        relation: TextRelation,
        /// With what.
        value: String,
    },
    /// The time since the message became a dead letter, or if it is none, since it was sent.
    Age {
        /// How it compares.
        relation: AgeRelation,
        /// With what.
        age: Duration,
    },
}

/// The parts of a message that a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct FilterSubject<'m> {
    /// The state.
    pub standing: MessageStanding,
    /// The id.
    pub id: &'m str,
    /// The message group.
    pub group: Option<&'m str>,
    /// The attributes.
    pub attributes: &'m Attributes,
    /// The whole body.
    pub body: &'m [u8],
    /// For a dead letter: how it failed.
    pub failure: Option<&'m FailureRecord>,
    /// For a dead letter: where it came from.
    pub origin: Option<&'m str>,
    /// See [`FilterClause::Age`].
    pub age: Duration,
}

/// Why clauses make no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// There are too many.
    #[error("a filter of {0} clauses: at most {MAX_CLAUSES}")]
    TooMany(usize),
    /// One has too long a text.
    #[error("a filter with a text of {0} bytes: at most {MAX_CLAUSE_BYTES}")]
    TooLong(usize),
}

/// Clauses that a message passes together. One without clauses passes every message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    clauses: Vec<CheckedClause>,
}

/// A clause of a filter, with what makes it quick.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CheckedClause {
    clause: FilterClause,
    /// For a clause that looks for a text in another one.
    sought: Option<SoughtText>,
}

/// A text that is looked for in many others. It is prepared once for all of them.
#[derive(Debug, Clone)]
struct SoughtText(Finder<'static>);

impl PartialEq for SoughtText {
    fn eq(&self, other: &Self) -> bool {
        self.0.needle() == other.0.needle()
    }
}

impl Eq for SoughtText {}

impl MessageFilter {
    /// Checks the bounds of a filter.
    ///
    /// # Errors
    ///
    /// [`InvalidFilter`].
    pub fn new(clauses: Vec<FilterClause>) -> Result<Self, InvalidFilter> {
        if clauses.len() > MAX_CLAUSES {
            return Err(InvalidFilter::TooMany(clauses.len()));
        }
        for clause in &clauses {
            if let FilterClause::Text { value, .. } = clause
                && value.len() > MAX_CLAUSE_BYTES
            {
                return Err(InvalidFilter::TooLong(value.len()));
            }
        }
        let clauses = clauses.into_iter().map(CheckedClause::new).collect();
        Ok(Self { clauses })
    }

    /// Takes the filter apart.
    pub fn into_clauses(self) -> Vec<FilterClause> {
        self.clauses.into_iter().map(|checked| checked.clause).collect()
    }

    /// The filter that the message with this id passes alone.
    pub fn of_id(id: &str) -> Self {
        Self {
            clauses: vec![CheckedClause::new(FilterClause::Text {
                field: FilterField::Id,
                relation: TextRelation::Is,
                value: id.to_owned(),
            })],
        }
    }

    /// Returns whether a message that waits for this may pass.
    pub fn admits(&self, standing: MessageStanding) -> bool {
        self.clauses().all(|clause| match clause {
            FilterClause::Standing { is, standing: wanted } => *is == (*wanted == standing),
            FilterClause::Text { .. } | FilterClause::Age { .. } => true,
        })
    }

    /// Returns the only id that passes, if the filter names one.
    pub fn only_id(&self) -> Option<&str> {
        self.clauses().find_map(|clause| match clause {
            FilterClause::Text {
                field: FilterField::Id,
                relation: TextRelation::Is,
                value,
            } => Some(value.as_str()),
            FilterClause::Text { .. } | FilterClause::Standing { .. } | FilterClause::Age { .. } => None,
        })
    }

    /// Returns whether a message passes of which nothing but its standing and its id can be read. Of the rest nobody knows what a clause
    /// would say, so it passes none.
    pub fn passes_unreadable(&self, standing: MessageStanding, id: &str) -> bool {
        self.clauses().all(|clause| match clause {
            FilterClause::Standing { is, standing: wanted } => *is == (*wanted == standing),
            FilterClause::Text {
                field: FilterField::Id,
                relation: TextRelation::Is,
                value,
            } => value == id,
            FilterClause::Text { .. } | FilterClause::Age { .. } => false,
        })
    }

    /// Returns whether a message passes.
    pub fn passes(&self, subject: &FilterSubject<'_>) -> bool {
        // Most clauses cost nothing beside a search in the body, which comes last.
        let those = |costly: bool| self.clauses.iter().filter(move |checked| checked.is_costly() == costly);
        those(false).chain(those(true)).all(|checked| checked.passes(subject))
    }

    fn clauses(&self) -> impl Iterator<Item = &FilterClause> {
        self.clauses.iter().map(|checked| &checked.clause)
    }
}

impl CheckedClause {
    fn new(clause: FilterClause) -> Self {
        let sought = match &clause {
            FilterClause::Text {
                relation: TextRelation::Contains,
                value,
                ..
            } => Some(SoughtText(Finder::new(value).into_owned())),
            FilterClause::Text { .. } | FilterClause::Standing { .. } | FilterClause::Age { .. } => None,
        };
        Self { clause, sought }
    }

    fn is_costly(&self) -> bool {
        matches!(
            self.clause,
            FilterClause::Text {
                field: FilterField::Body,
                ..
            }
        )
    }

    fn passes(&self, subject: &FilterSubject<'_>) -> bool {
        match &self.clause {
            FilterClause::Standing { is, standing } => *is == (*standing == subject.standing),
            FilterClause::Text { field, relation, value } => {
                let text = field.of(subject);
                let sought = self.sought.as_ref();
                match relation {
                    TextRelation::Is => text == Some(value.as_bytes()),
                    TextRelation::IsNot => text != Some(value.as_bytes()),
                    TextRelation::Contains => text
                        .zip(sought)
                        .is_some_and(|(text, SoughtText(sought))| sought.find(text).is_some()),
                }
            }
            FilterClause::Age { relation, age } => match relation {
                AgeRelation::Older => subject.age > *age,
                AgeRelation::Younger => subject.age < *age,
            },
        }
    }
}

impl FilterField {
    fn of<'m>(&self, subject: &FilterSubject<'m>) -> Option<&'m [u8]> {
        let failure = subject.failure;
        match self {
            Self::Id => Some(subject.id.as_bytes()),
            Self::Group => subject.group.map(str::as_bytes),
            Self::Body => Some(subject.body),
            Self::Attribute(name) => {
                let pairs = subject.attributes.pairs();
                let (_, value) = pairs.iter().find(|(known, _)| known == name)?;
                Some(match value {
                    AttributeValue::Text(text) | AttributeValue::Number(text) => text.as_bytes(),
                    AttributeValue::Binary(bytes) => bytes,
                })
            }
            Self::Reason => failure.map(|failure| failure.reason.as_bytes()),
            Self::Kind => failure.map(|failure| failure.kind.as_str().as_bytes()),
            Self::Handler => failure.map(|failure| failure.handler.as_bytes()),
            Self::Queue => subject.origin.map(str::as_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind;

    const HOUR: Duration = Duration::from_hours(1);

    fn text(field: FilterField, relation: TextRelation, value: &str) -> FilterClause {
        FilterClause::Text {
            field,
            relation,
            value: value.to_owned(),
        }
    }

    fn passes(clause: FilterClause) -> bool {
        let attributes = Attributes::new(vec![
            ("tenant".to_owned(), AttributeValue::Text("acme".to_owned())),
            ("raw".to_owned(), AttributeValue::Binary(vec![0, 255])),
        ])
        .unwrap();
        let failure = FailureRecord {
            kind: FailureKind::Timeout,
            reason: "the timeout of 30s passed".to_owned(),
            handler: "orders".to_owned(),
            component: String::new(),
        };
        let subject = FilterSubject {
            standing: MessageStanding::Held,
            id: "7",
            group: None,
            attributes: &attributes,
            body: b"aab\xff aabc",
            failure: Some(&failure),
            origin: Some("orders"),
            age: HOUR,
        };
        MessageFilter::new(vec![clause]).unwrap().passes(&subject)
    }

    #[test]
    fn a_text_is_found_wherever_it_begins() {
        use TextRelation::{Contains, Is, IsNot};
        let tenant = || FilterField::Attribute("tenant".to_owned());
        let other = || FilterField::Attribute("other".to_owned());
        let cases = [
            (FilterField::Body, Contains, "aabc", true),
            (FilterField::Body, Contains, "aab", true),
            (FilterField::Body, Contains, "", true),
            (FilterField::Body, Contains, "AAB", false),
            (FilterField::Body, Contains, "aabcd", false),
            (FilterField::Body, Is, "aab", false),
            (FilterField::Id, Is, "7", true),
            (FilterField::Group, Is, "", false),
            (FilterField::Group, IsNot, "g", true),
            (tenant(), Is, "acme", true),
            (tenant(), IsNot, "acme", false),
            (tenant(), Contains, "cm", true),
            (other(), Is, "", false),
            (other(), IsNot, "acme", true),
            (other(), Contains, "", false),
            (FilterField::Reason, Contains, "timeout", true),
            (FilterField::Kind, Is, "timeout", true),
            (FilterField::Handler, IsNot, "orders", false),
            (FilterField::Queue, Is, "orders", true),
        ];
        for (field, relation, value, expected) in cases {
            let clause = text(field, relation, value);
            assert_eq!(passes(clause.clone()), expected, "{clause:?}");
        }
    }

    #[test]
    fn a_long_text_that_a_body_nearly_has_at_every_place_is_found_only_where_it_is() {
        let body = vec![b'a'; 1024 * 1024];
        let attributes = Attributes::default();
        let subject = FilterSubject {
            standing: MessageStanding::Ready,
            id: "7",
            group: None,
            attributes: &attributes,
            body: &body,
            failure: None,
            origin: None,
            age: HOUR,
        };
        let (near, there) = ("a".repeat(MAX_CLAUSE_BYTES - 1), "a".repeat(MAX_CLAUSE_BYTES));
        let finds = |part: &str| {
            let clause = text(FilterField::Body, TextRelation::Contains, part);
            MessageFilter::new(vec![clause]).unwrap().passes(&subject)
        };
        assert!(finds(&there) && !finds(&format!("{near}b")) && !finds(&format!("b{near}")));
    }

    #[test]
    fn an_age_and_a_state_are_compared() {
        let age = |relation, age| passes(FilterClause::Age { relation, age });
        assert!(age(AgeRelation::Older, HOUR / 2) && !age(AgeRelation::Older, HOUR));
        assert!(age(AgeRelation::Younger, HOUR * 2) && !age(AgeRelation::Younger, HOUR));
        let standing = |is, standing| passes(FilterClause::Standing { is, standing });
        assert!(standing(true, MessageStanding::Held) && !standing(true, MessageStanding::Ready));
        assert!(!standing(false, MessageStanding::Held) && standing(false, MessageStanding::Ready));
    }

    #[test]
    fn a_filter_is_bounded() {
        let clause = || text(FilterField::Id, TextRelation::Is, "1");
        assert_eq!(
            MessageFilter::new(vec![clause(); MAX_CLAUSES + 1]),
            Err(InvalidFilter::TooMany(MAX_CLAUSES + 1))
        );
        let long = text(FilterField::Id, TextRelation::Is, &"x".repeat(MAX_CLAUSE_BYTES + 1));
        assert_eq!(
            MessageFilter::new(vec![long]),
            Err(InvalidFilter::TooLong(MAX_CLAUSE_BYTES + 1))
        );
    }
}
