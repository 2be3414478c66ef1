//! The labels of series about handlers and about the settlements of a queue.
//!
//! Invariant: a label is the name of a handler or of a queue, or one of a few fixed words.

use prometheus_client::encoding::EncodeLabelSet;

use sandhog_queue::metric_series::{LivingNames, SeriesLabels};

/// The label of a series about one handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandlerLabel {
    handler: String,
}

impl HandlerLabel {
    pub(crate) fn new(handler: &str) -> Self {
        Self {
            handler: handler.to_owned(),
        }
    }
}

/// The labels of a series about one result of a load of one handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HandlerResultLabel {
    handler: String,
    result: &'static str,
}

impl HandlerResultLabel {
    pub(crate) fn new(handler: &str, result: &'static str) -> Self {
        Self {
            handler: handler.to_owned(),
            result,
        }
    }
}

/// The labels of a series about one outcome of the attempts of one handler.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    handler: String,
    outcome: &'static str,
}

impl OutcomeLabel {
    pub(crate) fn new(handler: &str, outcome: &'static str) -> Self {
        Self {
            handler: handler.to_owned(),
            outcome,
        }
    }
}

/// The labels of a series about one kind of settlement in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SettlementLabel {
    queue: String,
    settlement: &'static str,
}

impl SettlementLabel {
    pub(crate) fn new(queue: &str, settlement: &'static str) -> Self {
        Self {
            queue: queue.to_owned(),
            settlement,
        }
    }
}

macro_rules! live_with {
    ($field:ident, $names:ident: $($labels:ty $([$other:literal])?),*) => {
        $(impl SeriesLabels for $labels {
            const NAMES: &'static [&'static str] = &[stringify!($field) $(, $other)?];

            fn live(&self, living: &LivingNames) -> bool {
                living.$names.contains(&self.$field)
            }
        })*
    };
}
live_with!(handler, handlers: HandlerLabel, HandlerResultLabel ["result"], OutcomeLabel ["outcome"]);
live_with!(queue, queues: SettlementLabel ["settlement"]);
