//! `CreateQueue`, `DeleteQueue`, `PurgeQueue`, `GetQueueUrl`, `ListQueues` and `ListDeadLetterSourceQueues`.

use std::{collections::BTreeMap, sync::Arc};

use super::{ClientView, SqsEndpoint, failed};
use crate::queue_set::{QueueChangeRefused, SimpleQueueEntry, WireQueue, WireQueueSettings};
use sandhog_queue::{Queue as _, machine_clock::wall_ms, message::QueueName};
use sandhog_sqs_wire::{
    QueueAttributeName, SqsError, SqsErrorCode, SqsResponse, StatedList, WantedQueue, decode_token, encode_token,
    input::{
        CreateQueueInput, DeleteQueueInput, GetQueueUrlInput, ListDeadLetterSourceQueuesInput, ListQueuesInput,
        PurgeQueueInput,
    },
    output::{CreateQueueOutput, GetQueueUrlOutput, ListDeadLetterSourceQueuesOutput, ListQueuesOutput},
    page_size,
};

/// One page of a list.
struct ListPage {
    urls: Vec<String>,
    next_token: Option<String>,
}

impl SqsEndpoint {
    pub(super) async fn create_queue(
        &self,
        input: &CreateQueueInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let wanted = WantedQueue::of(input)?;
        let name =
            QueueName::new(wanted.name.as_str()).map_err(|error| SqsError::invalid_parameter(error.to_string()))?;
        let url = view.url(&name);
        if let Some(queue) = self.queues.simple(&name) {
            self.check_same(&queue, &input.attributes, view).await?;
            return Ok(SqsResponse::CreateQueue(CreateQueueOutput { queue_url: url }));
        }
        let mut settings = WireQueueSettings::default();
        settings.apply(wanted.settings);
        self.check_redrive(&name, &settings)?;
        let now = wall_ms();
        let wire = WireQueue {
            settings,
            tags: wanted.tags,
            created_at_ms: now,
            modified_at_ms: now,
        };
        let (queues, new_name) = (Arc::clone(&self.queues), name.clone());
        match self
            .change_whole(async move { queues.create(&new_name, wire).await })
            .await
        {
            Ok(()) => Ok(SqsResponse::CreateQueue(CreateQueueOutput { queue_url: url })),
            // Somebody else was quicker.
            Err(QueueChangeRefused::Exists) => {
                let queue = self.named(name.as_str())?;
                self.check_same(&queue, &input.attributes, view).await?;
                Ok(SqsResponse::CreateQueue(CreateQueueOutput { queue_url: url }))
            }
            Err(refused) => Err(refused_change(&refused)),
        }
    }

    /// Refuses to create a queue that is there with another value of an attribute that the client named.
    async fn check_same(
        &self,
        queue: &SimpleQueueEntry,
        wanted: &BTreeMap<String, String>,
        view: &ClientView,
    ) -> Result<(), SqsError> {
        let has = self.all_attributes(queue, view).await?;
        for (name, value) in wanted {
            let known = QueueAttributeName::from_name(name).ok_or_else(|| SqsError::unknown_attribute(name))?;
            let is = has.get(&known).map(String::as_str).unwrap_or_default();
            if !means_same(is, value) {
                return Err(SqsError::queue_name_exists(name));
            }
        }
        Ok(())
    }

    pub(super) async fn delete_queue(&self, input: &DeleteQueueInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        self.delete_whole(queue.queue).await?;
        Ok(SqsResponse::DeleteQueue)
    }

    pub(super) async fn purge_queue(&self, input: &PurgeQueueInput) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let name = queue.queue.name();
        if !self.purges.begin(name) {
            return Err(SqsError::purge_queue_in_progress(name.as_str()));
        }
        self.purge(queue.queue).await?;
        Ok(SqsResponse::PurgeQueue)
    }

    pub(super) fn get_url(&self, input: &GetQueueUrlInput, view: &ClientView) -> Result<SqsResponse, SqsError> {
        let queue = self.named(input.queue_name.as_deref().unwrap_or_default())?;
        Ok(SqsResponse::GetQueueUrl(GetQueueUrlOutput {
            queue_url: view.url(queue.queue.name()),
        }))
    }

    pub(super) fn list_queues(&self, input: &ListQueuesInput, view: &ClientView) -> Result<SqsResponse, SqsError> {
        let prefix = input.queue_name_prefix.as_deref().unwrap_or_default();
        let names = self.queues.simple_names().into_iter();
        let names = names.filter(|name| name.as_str().starts_with(prefix) && view.caller.sees(name.as_str()));
        let page = page(names, input.next_token.as_deref(), input.max_results, view)?;
        Ok(SqsResponse::ListQueues(ListQueuesOutput {
            queue_urls: page.urls,
            next_token: page.next_token,
        }))
    }

    pub(super) fn list_sources(
        &self,
        input: &ListDeadLetterSourceQueuesInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let queue = self.queue(&input.queue_url)?;
        let sources = self.sources_of(queue.queue.name()).into_iter();
        let sources = sources.filter(|name| view.caller.sees(name.as_str()));
        let page = page(sources, input.next_token.as_deref(), input.max_results, view)?;
        Ok(SqsResponse::ListDeadLetterSourceQueues(
            ListDeadLetterSourceQueuesOutput {
                queue_urls: StatedList(page.urls),
                next_token: page.next_token,
            },
        ))
    }

    /// Returns the names of the queues whose dead letters go to this queue.
    pub(super) fn sources_of(&self, target: &QueueName) -> Vec<QueueName> {
        let names = self.queues.simple_names();
        let is_source = |name: &QueueName| {
            let queue = self.queues.simple(name);
            queue
                .and_then(|queue| queue.dead_letter_queue())
                .is_some_and(|(name, _)| name == *target)
        };
        names.into_iter().filter(is_source).collect()
    }

    /// Refuses a redrive policy whose dead-letter queue is not there, is of the other kind, or does not allow it.
    pub(super) fn check_redrive(&self, name: &QueueName, settings: &WireQueueSettings) -> Result<(), SqsError> {
        let (Some(policy), Some(target)) = (&settings.redrive, &settings.dead_letter) else {
            return Ok(());
        };
        let Ok(target) = self.named(target) else {
            return Err(SqsError::dead_letter_target_missing(policy));
        };
        if target.is_fifo() != crate::queue_set::is_fifo(name) {
            return Err(SqsError::dead_letter_target_of_other_type(policy));
        }
        if target.allows_dead_letters_of(name) {
            return Ok(());
        }
        let why = "The dead-letter queue's RedriveAllowPolicy does not allow this source queue.";
        Err(SqsError::invalid_value(policy, "RedrivePolicy", why))
    }
}

/// Returns whether two values of an attribute are the same, whatever the order of the members of JSON.
fn means_same(one: &str, other: &str) -> bool {
    let json = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .filter(serde_json::Value::is_object)
    };
    one.eq_ignore_ascii_case(other) || (json(one).is_some() && json(one).map(unquoted) == json(other).map(unquoted))
}

/// Clients write the numbers of policies with and without quotes.
fn unquoted(mut policy: serde_json::Value) -> serde_json::Value {
    if let Some(count) = policy.get_mut("maxReceiveCount")
        && let Some(number) = count.as_str().and_then(|text| text.parse::<u64>().ok())
    {
        *count = number.into();
    }
    policy
}

fn page(
    names: impl Iterator<Item = QueueName>,
    token: Option<&str>,
    max_results: Option<i64>,
    view: &ClientView,
) -> Result<ListPage, SqsError> {
    let after = token.filter(|token| !token.is_empty()).map(decode_token).transpose()?;
    let size = page_size(max_results)?;
    let mut rest = names.filter(|name| after.as_deref().is_none_or(|after| name.as_str() > after));
    let names: Vec<QueueName> = rest.by_ref().take(size).collect();
    let has_more = rest.next().is_some();
    let last = names.last().filter(|_| has_more && max_results.is_some());
    Ok(ListPage {
        next_token: last.map(|last| encode_token(last.as_str())),
        urls: names.iter().map(|name| view.url(name)).collect(),
    })
}

/// Returns what SQS answers where a queue can't be changed.
pub(super) fn refused_change(refused: &QueueChangeRefused) -> SqsError {
    match refused {
        QueueChangeRefused::Queue(error) => failed(error),
        QueueChangeRefused::Missing => SqsError::queue_does_not_exist(),
        QueueChangeRefused::Exists
        | QueueChangeRefused::Declared { .. }
        | QueueChangeRefused::Needed { .. }
        | QueueChangeRefused::TooMany { .. }
        | QueueChangeRefused::HasMessages { .. } => {
            SqsError::new(SqsErrorCode::UnsupportedOperation, refused.to_string())
        }
    }
}
