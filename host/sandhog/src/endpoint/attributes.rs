//! `GetQueueAttributes` and `SetQueueAttributes`.

use std::collections::BTreeMap;

use super::{ClientView, SqsEndpoint, failed};
use crate::queue_set::{SimpleQueueEntry, WireQueueSettings};
use sandhog_queue::{Counts, Queue as _};
use sandhog_sqs_wire::{
    DeduplicationScope, FifoThroughputLimit, QueueAttributeName, QueueSettingsPatch, SettingChange, SqsError,
    SqsResponse, check_throughput_rule,
    input::{GetQueueAttributesInput, SetQueueAttributesInput},
    output::GetQueueAttributesOutput,
    selected_queue_attributes,
};

impl SqsEndpoint {
    pub(super) async fn get_attributes(
        &self,
        input: &GetQueueAttributesInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let selected = selected_queue_attributes(&input.attribute_names)?;
        let mut attributes = BTreeMap::new();
        if !selected.is_empty() {
            let all = self.all_attributes(&queue, view).await?;
            let picked = all.into_iter().filter(|(name, _)| selected.contains(name));
            attributes.extend(picked.map(|(name, value)| (name.name().to_owned(), value)));
        }
        Ok(SqsResponse::GetQueueAttributes(GetQueueAttributesOutput { attributes }))
    }

    /// Returns every attribute that the queue has.
    pub(super) async fn all_attributes(
        &self,
        queue: &SimpleQueueEntry,
        view: &ClientView,
    ) -> Result<BTreeMap<QueueAttributeName, String>, SqsError> {
        let counts = queue.queue.counts().await.map_err(|error| failed(&error))?;
        let mut all = stated(queue, view);
        all.extend(counted(&counts));
        Ok(all)
    }

    pub(super) async fn set_attributes(&self, input: &SetQueueAttributesInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let patch = QueueSettingsPatch::of(&input.attributes, queue.is_fifo())?;
        let redirects = matches!(patch.redrive, SettingChange::Set(_));
        self.change(&queue, |wire| {
            wire.settings.apply(patch);
            check_throughput(&wire.settings)?;
            // The dead-letter queue of a policy that is there may be gone by now.
            if redirects {
                self.check_redrive(queue.queue.name(), &wire.settings)?;
            }
            Ok(())
        })
        .await?;
        Ok(SqsResponse::SetQueueAttributes)
    }
}

fn check_throughput(settings: &WireQueueSettings) -> Result<(), SqsError> {
    check_throughput_rule(Some(scope(settings)), Some(limit(settings)))
}

fn scope(settings: &WireQueueSettings) -> DeduplicationScope {
    if settings.deduplicates_by_group {
        DeduplicationScope::MessageGroup
    } else {
        DeduplicationScope::Queue
    }
}

fn limit(settings: &WireQueueSettings) -> FifoThroughputLimit {
    if settings.throughput_by_group {
        FifoThroughputLimit::PerMessageGroupId
    } else {
        FifoThroughputLimit::PerQueue
    }
}

/// Returns the attributes that somebody set, or that stand for a default.
fn stated(queue: &SimpleQueueEntry, view: &ClientView) -> BTreeMap<QueueAttributeName, String> {
    use QueueAttributeName as Name;
    let wire = &*queue.wire;
    let settings = &wire.settings;
    let mut stated = BTreeMap::from([
        (Name::VisibilityTimeout, settings.visibility_timeout_s.to_string()),
        (Name::DelaySeconds, settings.delay_s.to_string()),
        (Name::MessageRetentionPeriod, settings.retention_s.to_string()),
        (Name::MaximumMessageSize, settings.max_message_bytes.to_string()),
        (Name::ReceiveMessageWaitTimeSeconds, settings.receive_wait_s.to_string()),
        (Name::CreatedTimestamp, (wire.created_at_ms / 1000).to_string()),
        (Name::LastModifiedTimestamp, (wire.modified_at_ms / 1000).to_string()),
        (Name::QueueArn, view.arn(queue.queue.name().as_str())),
        (Name::SqsManagedSseEnabled, settings.sqs_managed_sse.to_string()),
    ]);
    let optional = [
        (Name::RedrivePolicy, redrive_policy(queue, view)),
        (Name::RedriveAllowPolicy, settings.redrive_allow.clone()),
        (Name::Policy, settings.policy.clone()),
        (Name::KmsMasterKeyId, settings.kms_master_key.clone()),
    ];
    stated.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    if settings.kms_master_key.is_some() {
        stated.insert(
            Name::KmsDataKeyReusePeriodSeconds,
            settings.kms_data_key_reuse_s.to_string(),
        );
    }
    if queue.is_fifo() {
        stated.insert(Name::FifoQueue, "true".to_owned());
        stated.insert(
            Name::ContentBasedDeduplication,
            settings.content_based_deduplication.to_string(),
        );
        stated.insert(Name::DeduplicationScope, scope(settings).name().to_owned());
        stated.insert(Name::FifoThroughputLimit, limit(settings).name().to_owned());
    }
    stated
}

/// Returns the policy as the client wrote it, or one that says what the host does.
fn redrive_policy(queue: &SimpleQueueEntry, view: &ClientView) -> Option<String> {
    let derived = || {
        let (target, count) = queue.dead_letter_queue()?;
        let target = view.arn(target.as_str());
        Some(serde_json::json!({ "deadLetterTargetArn": target, "maxReceiveCount": count }).to_string())
    };
    queue.wire.settings.redrive.clone().or_else(derived)
}

fn counted(counts: &Counts) -> [(QueueAttributeName, String); 3] {
    [
        (
            QueueAttributeName::ApproximateNumberOfMessages,
            counts.ready.to_string(),
        ),
        (
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            counts.in_flight.to_string(),
        ),
        (
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            counts.delayed.to_string(),
        ),
    ]
}
