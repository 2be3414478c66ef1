//! Reads the tables `[queues.NAME]` of `sandhog.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use super::section::TomlSection;
use sandhog_queue::message::{MAX_DELAY, QueueName};
use sandhog_simple::settings::{DeduplicationScope, Order, Settings};
use sandhog_sqs::settings::{Location, SqsSettings};

/// Ten years, as `humantime` counts them.
const TEN_YEARS: Duration = Duration::from_hours(87_660);
const SECOND: Duration = Duration::from_secs(1);
/// The keys that an SQS queue does not have: the owner of the queue decides what they say.
const SIMPLE_ONLY: [&str; 6] = [
    "order",
    "time-to-live",
    "delay",
    "content-based-deduplication",
    "deduplication-scope",
    "max-messages",
];

/// The settings of one queue, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueSettings {
    /// A queue of this host.
    Simple(Settings),
    /// A queue with a `url`.
    Sqs(SqsSettings),
}

impl QueueSettings {
    /// Returns the dead-letter queue, if this host decides which one that is.
    pub fn dead_letter(&self) -> Option<&QueueName> {
        match self {
            Self::Simple(settings) => Some(&settings.dead_letter),
            Self::Sqs(settings) => settings.dead_letter.as_ref(),
        }
    }
}

pub(crate) fn read_queues(root: &mut TomlSection<'_>) -> BTreeMap<QueueName, QueueSettings> {
    let mut sections = BTreeMap::new();
    for (name, section) in root.sections("queues") {
        match QueueName::new(&name) {
            Ok(name) => drop(sections.insert(name, section)),
            Err(why) => {
                section.refuse_section(&why.to_string());
                note_mistakes(section);
            }
        }
    }
    let mut queues = BTreeMap::new();
    for (name, section) in &mut sections {
        let settings = if section.has("url") {
            read_sqs(section).map(QueueSettings::Sqs)
        } else {
            Some(QueueSettings::Simple(read_simple(name, section)))
        };
        if let Some(settings) = settings {
            queues.insert(name.clone(), settings);
        }
    }
    refuse_mixed_dead_letters(&queues, &sections);
    refuse_cycles(&queues, &sections);
    refuse_twins(&queues, &sections);
    sections.into_values().for_each(TomlSection::finish);
    queues
}

/// Reads the table of a queue with a wrong name, to note the other mistakes in it.
fn note_mistakes(mut section: TomlSection<'_>) {
    if section.has("url") {
        drop(read_sqs(&mut section));
    } else if let Ok(other) = QueueName::new("other") {
        drop(read_simple(&other, &mut section));
    }
    section.finish();
}

fn read_visibility_timeout(section: &mut TomlSection<'_>) -> Option<Duration> {
    section.duration("visibility-timeout", SECOND..=MAX_DELAY)
}

fn read_max_receives(section: &mut TomlSection<'_>) -> Option<NonZeroU32> {
    let number = section.number("max-receives", 1..=1000);
    number
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new)
}

fn read_simple(name: &QueueName, section: &mut TomlSection<'_>) -> Settings {
    let defaults = Settings::defaults(name);
    Settings {
        visibility_timeout: read_visibility_timeout(section).unwrap_or(defaults.visibility_timeout),
        max_receives: read_max_receives(section).unwrap_or(defaults.max_receives),
        dead_letter: section.queue_name("dead-letter").unwrap_or(defaults.dead_letter),
        makes_dead_letter_queue: defaults.makes_dead_letter_queue,
        order: section
            .text("order", "\"group\" or \"queue\"", |text| match text {
                "group" => Some(Order::Group),
                "queue" => Some(Order::Queue),
                _ => None,
            })
            .unwrap_or(defaults.order),
        time_to_live: section.duration("time-to-live", SECOND..=TEN_YEARS),
        delay: section
            .duration("delay", Duration::ZERO..=MAX_DELAY)
            .unwrap_or(defaults.delay),
        content_based_deduplication: section
            .flag("content-based-deduplication")
            .unwrap_or(defaults.content_based_deduplication),
        deduplication_scope: section
            .text("deduplication-scope", "\"queue\" or \"group\"", |text| match text {
                "queue" => Some(DeduplicationScope::Queue),
                "group" => Some(DeduplicationScope::Group),
                _ => None,
            })
            .unwrap_or(defaults.deduplication_scope),
        max_messages: section
            .number("max-messages", 1..=1_000_000_000)
            .unwrap_or(defaults.max_messages),
    }
}

/// Reads the settings of a queue with a `url`. Returns `None` if the URL is wrong, and has noted that mistake.
fn read_sqs(section: &mut TomlSection<'_>) -> Option<SqsSettings> {
    for key in SIMPLE_ONLY {
        section.not_for(
            key,
            "a queue with a url has no such setting here; change it where the queue is",
        );
    }
    let accepted = "the URL of an SQS queue, such as \"https://sqs.eu-west-1.amazonaws.com/123456789012/invoices\", or \"sqs:NAME\"";
    let location = section.text("url", accepted, Location::parse);
    let visibility_timeout = read_visibility_timeout(section);
    let max_receives = read_max_receives(section).unwrap_or(SqsSettings::DEFAULT_MAX_RECEIVES);
    let dead_letter = section.queue_name("dead-letter");
    Some(SqsSettings {
        location: location?,
        visibility_timeout,
        max_receives,
        dead_letter,
    })
}

/// Refuses a dead-letter queue of the other kind: a dead letter stays where it can be listed and redriven.
fn refuse_mixed_dead_letters(
    queues: &BTreeMap<QueueName, QueueSettings>,
    sections: &BTreeMap<QueueName, TomlSection<'_>>,
) {
    for (name, settings) in queues {
        let (Some(section), Some(dead_letter)) = (sections.get(name), settings.dead_letter()) else {
            continue;
        };
        let is_sqs = |settings: &QueueSettings| matches!(settings, QueueSettings::Sqs(_));
        // A dead-letter queue with mistakes of its own is reported at its own table.
        if sections.contains_key(dead_letter) && !queues.contains_key(dead_letter) {
            continue;
        }
        match (is_sqs(settings), queues.get(dead_letter).is_some_and(is_sqs)) {
            (true, false) => section.refuse(
                "dead-letter",
                &format!(
                    "{dead_letter} has to be an SQS queue too: add a table [queues.{dead_letter}] with its url, or leave the key out if the queue has a redrive policy"
                ),
            ),
            (false, true) => section.refuse(
                "dead-letter",
                &format!("{dead_letter} is an SQS queue; the dead letters of a Simple queue go to a Simple queue"),
            ),
            (true, true) | (false, false) => {}
        }
    }
}

/// Refuses two names for one queue: its dead letters could come back to it, and neither handler would know of the other.
fn refuse_twins(queues: &BTreeMap<QueueName, QueueSettings>, sections: &BTreeMap<QueueName, TomlSection<'_>>) {
    let mut first: Vec<(&Location, &QueueName)> = Vec::new();
    for (name, settings) in queues {
        let QueueSettings::Sqs(SqsSettings { location, .. }) = settings else {
            continue;
        };
        let twin = first.iter().find(|(other, _)| *other == location);
        if let (Some((_, twin)), Some(section)) = (twin, sections.get(name)) {
            section.refuse("url", &format!("queue {twin} has this url already"));
        }
        first.push((location, name));
    }
}

/// Refuses cycles of dead-letter queues: a dead letter that fails again moves on, and would move for ever.
fn refuse_cycles(queues: &BTreeMap<QueueName, QueueSettings>, sections: &BTreeMap<QueueName, TomlSection<'_>>) {
    let mut reported = BTreeSet::new();
    for (start, section) in sections {
        let mut path = vec![start];
        let next = |name: &QueueName| queues.get(name).and_then(QueueSettings::dead_letter);
        while let Some(name) = path.last().and_then(|last| next(last)) {
            if name == start {
                let cycle: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
                section.refuse(
                    "dead-letter",
                    &format!("a cycle of dead-letter queues: {} -> {start}", cycle.join(" -> ")),
                );
                reported.extend(path.iter().map(|name| (*name).clone()));
                break;
            }
            // A cycle that does not lead back to `start` is reported where it begins.
            if path.contains(&name) || reported.contains(name) {
                break;
            }
            path.push(name);
        }
    }
}
