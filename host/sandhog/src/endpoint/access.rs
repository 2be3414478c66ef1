//! Who may do what: the rights that each action needs, and the caller of a request.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

use crate::config::{AccessKey, AccessRight, ListenerSecret, OWNER};
use sandhog_queue::message::QueueName;
use sandhog_sqs_wire::{
    MoveTaskHandle, QueueArn, QueueAttributeName, RedrivePolicy, SqsAction, SqsError, SqsRequest, WireQueueName,
};

/// The access keys of a listener.
#[derive(Debug, Clone, Default)]
pub struct AccessKeys {
    owner: Option<Arc<ListenerSecret>>,
    named: Arc<BTreeMap<String, AccessKey>>,
}

/// The named keys of a host, which a reload replaces. Clones are the same keys.
#[derive(Debug, Clone, Default)]
pub struct NamedKeys(Arc<RwLock<Arc<BTreeMap<String, AccessKey>>>>);

impl NamedKeys {
    /// Begins with these keys.
    pub fn new(keys: BTreeMap<String, AccessKey>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }

    /// Takes these keys in place of the ones before. A request that was begun has those before.
    pub fn replace(&self, keys: BTreeMap<String, AccessKey>) {
        *self.0.write() = Arc::new(keys);
    }
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub enum SqsCaller {
    /// Somebody who may do everything: the owner of the listener's secret, or anybody on this machine if there are no secrets.
    Owner,
    /// The access key of this name.
    Key(String, AccessKeys),
}

impl AccessKeys {
    /// Returns the listener's secret and the named keys of now as access keys. A request has one answer for all that it asks them.
    pub fn new(owner: Option<Arc<ListenerSecret>>, named: &NamedKeys) -> Self {
        Self {
            owner,
            named: Arc::clone(&named.0.read()),
        }
    }

    /// Returns whether there is no secret at all, so that any signature is accepted.
    pub fn is_open(&self) -> bool {
        self.owner.is_none() && self.named.is_empty()
    }

    /// Returns the secret of an access key.
    pub fn secret_of(&self, access_key: &str) -> Option<String> {
        let secret = match self.named.get(access_key) {
            Some(key) => Some(&key.secret),
            None if access_key == OWNER => self.owner.as_deref(),
            None => None,
        };
        secret.map(|secret| secret.expose().to_owned())
    }

    /// Returns the caller whose signature was verified.
    pub fn caller(&self, access_key: String) -> SqsCaller {
        if self.named.contains_key(&access_key) {
            SqsCaller::Key(access_key, self.clone())
        } else {
            SqsCaller::Owner
        }
    }
}

/// The rights that an action needs, one of them.
fn rights(action: SqsAction) -> &'static [AccessRight] {
    match action {
        SqsAction::SendMessage | SqsAction::SendMessageBatch => &[AccessRight::Send],
        SqsAction::ReceiveMessage
        | SqsAction::DeleteMessage
        | SqsAction::DeleteMessageBatch
        | SqsAction::ChangeMessageVisibility
        | SqsAction::ChangeMessageVisibilityBatch => &[AccessRight::Receive],
        SqsAction::GetQueueUrl
        | SqsAction::GetQueueAttributes
        | SqsAction::ListQueueTags
        | SqsAction::ListQueues
        | SqsAction::ListDeadLetterSourceQueues => &[AccessRight::Send, AccessRight::Receive, AccessRight::Manage],
        SqsAction::AddPermission
        | SqsAction::CancelMessageMoveTask
        | SqsAction::CreateQueue
        | SqsAction::DeleteQueue
        | SqsAction::ListMessageMoveTasks
        | SqsAction::PurgeQueue
        | SqsAction::RemovePermission
        | SqsAction::SetQueueAttributes
        | SqsAction::StartMessageMoveTask
        | SqsAction::TagQueue
        | SqsAction::UntagQueue => &[AccessRight::Manage],
    }
}

impl SqsCaller {
    /// Refuses a request that the caller has no right to.
    ///
    /// # Errors
    ///
    /// `AccessDenied`.
    pub(super) fn check(&self, request: &SqsRequest) -> Result<(), SqsError> {
        let Self::Key(name, keys) = self else { return Ok(()) };
        let action = request.action();
        if action == SqsAction::ListQueues {
            // The list has only the queues of the key.
            return Ok(());
        }
        let queues = queues_of(request);
        let denied = || SqsError::access_denied(name, action.name(), &queues.join(", "));
        let key = keys.named.get(name).ok_or_else(denied)?;
        let may = queues.iter().all(|queue| key.may(rights(action), queue));
        if may && !queues.is_empty() {
            Ok(())
        } else {
            Err(denied())
        }
    }

    /// Refuses a move to queues that the caller may not manage.
    ///
    /// # Errors
    ///
    /// `AccessDenied`.
    pub(super) fn check_move_to(&self, queues: &[QueueName]) -> Result<(), SqsError> {
        let Self::Key(name, keys) = self else { return Ok(()) };
        let action = SqsAction::StartMessageMoveTask;
        let may = |queue: &QueueName| {
            let key = keys.named.get(name);
            key.is_some_and(|key| key.may(rights(action), queue.as_str()))
        };
        match queues.iter().find(|queue| !may(queue)) {
            Some(queue) => Err(SqsError::access_denied(name, action.name(), queue.as_str())),
            None => Ok(()),
        }
    }

    /// Returns whether the caller may see the queue of this name.
    pub(super) fn sees(&self, queue: &str) -> bool {
        match self {
            Self::Owner => true,
            Self::Key(name, keys) => {
                let key = keys.named.get(name);
                key.is_some_and(|key| key.may(rights(SqsAction::ListQueues), queue))
            }
        }
    }
}

fn of_url(url: &str) -> Option<String> {
    WireQueueName::from_url(url).ok().map(|name| name.as_str().to_owned())
}

/// Returns the name of the queue to which dead letters are to go, if a policy among the attributes names one. A key that may not
/// send there must not do so in this way.
fn dead_letter_target(attributes: &BTreeMap<String, String>) -> Vec<Option<String>> {
    let policy = attributes.get(QueueAttributeName::RedrivePolicy.name());
    let policy = policy
        .filter(|policy| !policy.is_empty())
        .map(|policy| RedrivePolicy::parse(policy));
    let name = |policy: Result<RedrivePolicy, _>| Some(policy.ok()?.dead_letter_target.name.as_str().to_owned());
    policy.map(name).into_iter().collect()
}

/// Returns the names of the queues that a request is about. A task is known by its source, whose name its handle has.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others name one queue by its URL")]
pub fn queues_of(request: &SqsRequest) -> Vec<String> {
    let of_arn = |arn: &str| QueueArn::parse(arn).map(|arn| arn.name.as_str().to_owned());
    let found = match request {
        SqsRequest::CreateQueue(input) => {
            let mut queues = vec![input.queue_name.clone()];
            queues.extend(dead_letter_target(&input.attributes));
            queues
        }
        SqsRequest::SetQueueAttributes(input) => {
            let mut queues = vec![of_url(&input.queue_url)];
            queues.extend(dead_letter_target(&input.attributes));
            queues
        }
        SqsRequest::GetQueueUrl(input) => vec![input.queue_name.clone()],
        SqsRequest::StartMessageMoveTask(input) => {
            let mut queues = vec![of_arn(&input.source_arn)];
            queues.extend(input.destination_arn.as_deref().map(of_arn));
            queues
        }
        SqsRequest::ListMessageMoveTasks(input) => vec![of_arn(&input.source_arn)],
        SqsRequest::CancelMessageMoveTask(input) => {
            let handle = MoveTaskHandle::decode(&input.task_handle).ok();
            vec![handle.map(|handle| handle.source.name.as_str().to_owned())]
        }
        other => vec![other.queue_url().and_then(of_url)],
    };
    let all_known = found.iter().all(Option::is_some);
    found.into_iter().flatten().filter(|_| all_known).collect()
}
