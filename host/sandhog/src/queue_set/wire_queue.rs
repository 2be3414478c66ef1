//! A queue that was created over the wire: its settings, as clients name them, and what they mean for a Simple queue.
//!
//! The store keeps the settings as JSON with the queue. Fields may be added; one that is absent has its default.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use sandhog_queue::message::QueueName;
use sandhog_simple::{
    QueueMaker, QueueRecord,
    settings::{DeduplicationScope, Order, Settings},
};
use sandhog_sqs_wire::{FifoThroughputLimit, QueueSettingsPatch, RedriveAllowPolicy, RedrivePolicy, SettingChange};

/// The suffix of the names of FIFO queues.
const FIFO_SUFFIX: &str = ".fifo";

/// Returns whether a queue of this name is FIFO.
pub fn is_fifo(name: &QueueName) -> bool {
    name.as_str().ends_with(FIFO_SUFFIX)
}

/// The settings of a queue in the words of SQS. Durations in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "SQS has as many attributes that are true or false"
)]
pub struct WireQueueSettings {
    /// 0 to 43,200.
    pub visibility_timeout_s: u64,
    /// 0 to 900.
    pub delay_s: u64,
    /// 60 to 1,209,600.
    pub retention_s: u64,
    /// Body and attributes: 1,024 to 1,048,576.
    pub max_message_bytes: u32,
    /// How long a receive waits that says nothing else: 0 to 20.
    pub receive_wait_s: u64,
    /// Where dead letters go: the attribute `RedrivePolicy`.
    pub redrive: Option<String>,
    /// The name of the queue of `redrive`.
    pub dead_letter: Option<String>,
    /// The receive count of `redrive`.
    pub max_receives: Option<NonZeroU32>,
    /// Whose dead letters the queue takes: the attribute `RedriveAllowPolicy`.
    pub redrive_allow: Option<String>,
    /// The body stands for the deduplication id where a message has none.
    pub content_based_deduplication: bool,
    /// A deduplication id counts within its message group.
    pub deduplicates_by_group: bool,
    /// The limit of throughput counts for each message group. It has no effect here.
    pub throughput_by_group: bool,
    /// The attribute `Policy`. It has no effect here.
    pub policy: Option<String>,
    /// The attribute `KmsMasterKeyId`. It has no effect here.
    pub kms_master_key: Option<String>,
    /// The attribute `KmsDataKeyReusePeriodSeconds`. It has no effect here.
    pub kms_data_key_reuse_s: u64,
    /// The attribute `SqsManagedSseEnabled`. It has no effect here.
    pub sqs_managed_sse: bool,
}

impl Default for WireQueueSettings {
    /// The defaults of SQS.
    fn default() -> Self {
        Self {
            visibility_timeout_s: 30,
            delay_s: 0,
            retention_s: 345_600,
            max_message_bytes: 1_048_576,
            receive_wait_s: 0,
            redrive: None,
            dead_letter: None,
            max_receives: None,
            redrive_allow: None,
            content_based_deduplication: false,
            deduplicates_by_group: false,
            throughput_by_group: false,
            policy: None,
            kms_master_key: None,
            kms_data_key_reuse_s: 300,
            sqs_managed_sse: true,
        }
    }
}

impl WireQueueSettings {
    /// Changes what a client named.
    pub fn apply(&mut self, patch: QueueSettingsPatch) {
        let seconds = |slot: &mut u64, wanted: Option<Duration>| {
            if let Some(wanted) = wanted {
                *slot = wanted.as_secs();
            }
        };
        seconds(&mut self.visibility_timeout_s, patch.visibility_timeout);
        seconds(&mut self.delay_s, patch.delay);
        seconds(&mut self.retention_s, patch.retention);
        seconds(&mut self.receive_wait_s, patch.receive_wait);
        seconds(&mut self.kms_data_key_reuse_s, patch.kms_data_key_reuse);
        self.max_message_bytes = patch.maximum_message_size.unwrap_or(self.max_message_bytes);
        self.content_based_deduplication = patch
            .content_based_deduplication
            .unwrap_or(self.content_based_deduplication);
        if let Some(scope) = patch.deduplication_scope {
            self.deduplicates_by_group = scope == sandhog_sqs_wire::DeduplicationScope::MessageGroup;
        }
        if let Some(limit) = patch.fifo_throughput_limit {
            self.throughput_by_group = limit == FifoThroughputLimit::PerMessageGroupId;
        }
        change(&mut self.policy, patch.policy, |policy| policy);
        change(
            &mut self.redrive_allow,
            patch.redrive_allow,
            |policy: RedriveAllowPolicy| policy.to_string(),
        );
        self.redirect(patch.redrive);
        if let SettingChange::Set(_) = patch.kms_master_key {
            self.sqs_managed_sse = false;
        }
        change(&mut self.kms_master_key, patch.kms_master_key, |key| key);
        if let Some(managed) = patch.sqs_managed_sse {
            self.sqs_managed_sse = managed;
            self.kms_master_key = self.kms_master_key.take().filter(|_| !managed);
        }
    }

    /// The queue has no dead-letter queue.
    pub(crate) fn forget_dead_letters(&mut self) {
        self.redrive = None;
        self.dead_letter = None;
        self.max_receives = None;
    }

    fn redirect(&mut self, redrive: SettingChange<RedrivePolicy>) {
        match redrive {
            SettingChange::Keep => {}
            SettingChange::Clear => self.forget_dead_letters(),
            SettingChange::Set(policy) => {
                self.redrive = Some(policy.to_string());
                self.dead_letter = Some(policy.dead_letter_target.name.as_str().to_owned());
                self.max_receives = NonZeroU32::new(policy.max_receive_count);
            }
        }
    }

    /// Returns what the settings mean for the Simple queue of this name. A queue without a redrive policy has no dead-letter queue: its
    /// messages are never received too often.
    pub fn simple(&self, name: &QueueName) -> Settings {
        let dead_letter = self.dead_letter.as_deref().and_then(|name| QueueName::new(name).ok());
        Settings {
            visibility_timeout: Duration::from_secs(self.visibility_timeout_s),
            max_receives: self
                .max_receives
                .filter(|_| dead_letter.is_some())
                .unwrap_or(NonZeroU32::MAX),
            dead_letter: dead_letter.unwrap_or_else(|| name.clone()),
            order: if is_fifo(name) { Order::Group } else { Order::Ungrouped },
            makes_dead_letter_queue: false,
            time_to_live: Some(Duration::from_secs(self.retention_s)),
            delay: Duration::from_secs(self.delay_s),
            content_based_deduplication: self.content_based_deduplication,
            deduplication_scope: if self.deduplicates_by_group {
                DeduplicationScope::Group
            } else {
                DeduplicationScope::Queue
            },
            ..Settings::defaults(name)
        }
    }

    /// Returns the same for a queue that a handler takes. Without a redrive policy it has the dead-letter queue of every handler's queue,
    /// so that a message that fails again and again ends somewhere.
    pub fn simple_for_handler(&self, name: &QueueName) -> Settings {
        let mut settings = self.simple(name);
        // A lease of no time at all would have ended before the handler began.
        settings.visibility_timeout = settings.visibility_timeout.max(Duration::from_secs(1));
        if self.dead_letter.is_some() {
            return settings;
        }
        let defaults = Settings::defaults(name);
        Settings {
            max_receives: defaults.max_receives,
            dead_letter: defaults.dead_letter,
            makes_dead_letter_queue: true,
            ..settings
        }
    }

    /// Returns how the settings of a queue that the host declares look to clients.
    pub fn of_simple(settings: &Settings, name: &QueueName) -> Self {
        let defaults = Self::default();
        Self {
            visibility_timeout_s: settings.visibility_timeout.as_secs(),
            delay_s: settings.delay.as_secs(),
            retention_s: settings.time_to_live.map_or(1_209_600, |limit| limit.as_secs()),
            dead_letter: Some(settings.dead_letter.to_string()).filter(|dead_letter| dead_letter != name.as_str()),
            max_receives: Some(settings.max_receives),
            content_based_deduplication: settings.content_based_deduplication,
            deduplicates_by_group: settings.deduplication_scope == DeduplicationScope::Group,
            ..defaults
        }
    }
}

fn change<T>(slot: &mut Option<String>, wanted: SettingChange<T>, write: impl FnOnce(T) -> String) {
    match wanted {
        SettingChange::Keep => {}
        SettingChange::Clear => *slot = None,
        SettingChange::Set(value) => *slot = Some(write(value)),
    }
}

/// A queue as clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WireQueue {
    /// Its settings.
    pub settings: WireQueueSettings,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Milliseconds since 1970-01-01T00:00:00Z; 0 if that is not known.
    pub created_at_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z at the last change of the settings; 0 if that is not known.
    pub modified_at_ms: u64,
}

impl WireQueue {
    /// Reads what the store keeps of a queue that a client created. What can't be read counts as absent, and is logged: a queue whose
    /// settings are damaged goes on with the defaults.
    pub(crate) fn of_record(name: &QueueName, record: &QueueRecord) -> Self {
        let damaged = |what: &str, error: &serde_json::Error| {
            tracing::error!(queue = %name, %error, "the {what} of a queue can't be read: it goes on without");
        };
        let settings = record.settings.as_deref().map(serde_json::from_str);
        let tags = record.tags.as_deref().map(serde_json::from_str);
        Self {
            settings: settings
                .transpose()
                .inspect_err(|error| damaged("settings", error))
                .unwrap_or_default()
                .unwrap_or_default(),
            tags: tags
                .transpose()
                .inspect_err(|error| damaged("tags", error))
                .unwrap_or_default()
                .unwrap_or_default(),
            created_at_ms: record.created_at_ms.unwrap_or_default(),
            modified_at_ms: record.modified_at_ms.unwrap_or_default(),
        }
    }

    /// Returns what the store keeps of a queue that a client created.
    pub(crate) fn record(&self) -> QueueRecord {
        let json = |value: Result<String, serde_json::Error>| value.expect("texts and numbers always have a JSON form");
        QueueRecord {
            made_by: QueueMaker::Client,
            settings: Some(json(serde_json::to_string(&self.settings))),
            tags: Some(json(serde_json::to_string(&self.tags))),
            created_at_ms: Some(self.created_at_ms),
            modified_at_ms: Some(self.modified_at_ms),
            ..QueueRecord::default()
        }
    }

    /// Returns the bytes that the store keeps of the settings and tags.
    pub fn record_bytes(&self) -> usize {
        let record = self.record();
        [record.settings, record.tags].iter().flatten().map(String::len).sum()
    }

    /// Returns how a queue that the host declares looks to clients.
    pub(crate) fn of_host(name: &QueueName, settings: &Settings, record: Option<&QueueRecord>) -> Self {
        let at = |read: fn(&QueueRecord) -> Option<u64>| record.and_then(read).unwrap_or_default();
        Self {
            settings: WireQueueSettings::of_simple(settings, name),
            tags: BTreeMap::new(),
            created_at_ms: at(|record| record.created_at_ms),
            modified_at_ms: at(|record| record.modified_at_ms.or(record.created_at_ms)),
        }
    }
}
