//! Reads the tables `[queues.NAME]` of `sandhog.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use super::section::Section;
use crate::{
    message::{MAX_DELAY, QueueName},
    queue::{
        simple::settings::{Order, Settings},
        sqs::settings::{Location, SqsSettings},
    },
};

/// As `humantime` counts years.
const TEN_YEARS: Duration = Duration::from_hours(87_660);
const SECOND: Duration = Duration::from_secs(1);
/// Keys that an SQS queue has no use for: what they say is decided by the owner of the queue.
const SIMPLE_ONLY: [&str; 3] = ["order", "time-to-live", "max-messages"];

/// The settings of one queue, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueSettings {
    /// A queue of this host.
    Simple(Settings),
    /// A queue with a `url`.
    Sqs(SqsSettings),
}

impl QueueSettings {
    /// Where its dead letters go, as far as this host decides.
    pub fn dead_letter(&self) -> Option<&QueueName> {
        match self {
            Self::Simple(settings) => Some(&settings.dead_letter),
            Self::Sqs(settings) => settings.dead_letter.as_ref(),
        }
    }
}

pub(super) fn read_queues(root: &mut Section<'_>) -> BTreeMap<QueueName, QueueSettings> {
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
    sections.into_values().for_each(Section::finish);
    queues
}

/// Reads a queue that can't be one for its name, for the sake of what else is wrong with it.
fn note_mistakes(mut section: Section<'_>) {
    if section.has("url") {
        drop(read_sqs(&mut section));
    } else if let Ok(other) = QueueName::new("other") {
        drop(read_simple(&other, &mut section));
    }
    section.finish();
}

fn read_visibility_timeout(section: &mut Section<'_>) -> Option<Duration> {
    section.duration("visibility-timeout", SECOND..=MAX_DELAY)
}

fn read_max_receives(section: &mut Section<'_>) -> Option<NonZeroU32> {
    let number = section.number("max-receives", 1..=1000);
    number
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new)
}

fn read_simple(name: &QueueName, section: &mut Section<'_>) -> Settings {
    let defaults = Settings::defaults(name);
    Settings {
        visibility_timeout: read_visibility_timeout(section).unwrap_or(defaults.visibility_timeout),
        max_receives: read_max_receives(section).unwrap_or(defaults.max_receives),
        dead_letter: section.queue_name("dead-letter").unwrap_or(defaults.dead_letter),
        order: section
            .text("order", "\"group\" or \"queue\"", |text| match text {
                "group" => Some(Order::Group),
                "queue" => Some(Order::Queue),
                _ => None,
            })
            .unwrap_or(defaults.order),
        time_to_live: section.duration("time-to-live", SECOND..=TEN_YEARS),
        max_messages: section
            .number("max-messages", 1..=1_000_000_000)
            .unwrap_or(defaults.max_messages),
    }
}

/// The settings of a queue with a `url`; `None` if that is none, which was noted.
fn read_sqs(section: &mut Section<'_>) -> Option<SqsSettings> {
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

/// A dead letter stays with the kind of queue that it came from, where it can be listed and redriven.
fn refuse_mixed_dead_letters(queues: &BTreeMap<QueueName, QueueSettings>, sections: &BTreeMap<QueueName, Section<'_>>) {
    for (name, settings) in queues {
        let (Some(section), Some(dead_letter)) = (sections.get(name), settings.dead_letter()) else {
            continue;
        };
        let is_sqs = |settings: &QueueSettings| matches!(settings, QueueSettings::Sqs(_));
        // One whose own table is wrong is reported there.
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

/// Two names for one queue: its dead letters could come back to it, and what one handler does the other does not know.
fn refuse_twins(queues: &BTreeMap<QueueName, QueueSettings>, sections: &BTreeMap<QueueName, Section<'_>>) {
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

/// A dead letter that failed in its dead-letter queue moves on; in a cycle it would do so for ever.
fn refuse_cycles(queues: &BTreeMap<QueueName, QueueSettings>, sections: &BTreeMap<QueueName, Section<'_>>) {
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
