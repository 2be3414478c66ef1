//! The SQS endpoint: what the actions of SQS mean on the Simple queues of this host.
//!
//! It adds no rule of its own about visibility, order or dead letters: those are the store's. `sandhog-sqs-wire` reads
//! requests and writes answers; this module and those below it only connect the two. It knows no HTTP and never waits for a
//! guest.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{move_tasks::MoveTasks, purges::RecentPurges, replays::ReceiveReplays};
use crate::{
    config::ListenerSecret,
    halts::Halts,
    metrics::Metrics,
    queue_set::{QueueSet, SimpleQueueEntry},
    traces::HostTraces,
};
use sandhog_queue::{QueueError, message::QueueName, printable::chain};
use sandhog_sqs_wire::{QueueArn, SqsError, SqsRequest, SqsResponse, WireQueueName, queue_url};

mod access;
mod attributes;
mod change;
mod clearing;
mod move_tasks;
mod moves;
mod permissions;
mod purges;
mod queues;
mod receive;
mod replays;
mod send;
mod settle;
mod tags;

pub use self::access::{AccessKeys, NamedKeys, SqsCaller, queues_of};

/// The account of every queue. Clients may write another one.
pub const ACCOUNT: &str = "000000000000";
/// The region in ARNs, if the client signed for none.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Where a client reaches the endpoint, and what it signed for: the parts of URLs and ARNs.
#[derive(Debug, Clone)]
pub struct ClientView {
    /// The header `Host`.
    pub authority: String,
    /// The region that the client signed for, or [`DEFAULT_REGION`].
    pub region: String,
    /// Who it is.
    pub caller: SqsCaller,
    /// The header `X-Amzn-Trace-Id`, or else the context of the request in its form, which messages keep that have no trace header of
    /// their own.
    pub trace: Option<String>,
}

impl ClientView {
    fn url(&self, name: &QueueName) -> String {
        queue_url("http", &self.authority, ACCOUNT, name.as_str())
    }

    /// Returns the ARN as text. A queue of the host may have a name with a dot, which no name of SQS has.
    fn arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{ACCOUNT}:{name}", self.region)
    }

    fn queue_arn(&self, name: &str) -> Result<QueueArn, SqsError> {
        let name = WireQueueName::parse(name).ok_or_else(|| SqsError::invalid_address(name))?;
        Ok(QueueArn::new(&self.region, ACCOUNT, name))
    }
}

/// The parts of the host that the endpoint reads and changes.
#[derive(Debug)]
pub struct EndpointParts {
    /// All queues.
    pub queues: Arc<QueueSet>,
    /// What operators have halted.
    pub halts: Arc<Halts>,
    /// Where sends are counted.
    pub metrics: Arc<Metrics>,
    /// The secret of the listener, which is an access key, too.
    pub secret: Option<ListenerSecret>,
    /// The named access keys.
    pub keys: NamedKeys,
    /// The traces; `None` if the host has nothing to do with any.
    pub traces: Option<Arc<HostTraces>>,
}

/// The endpoint. It lives as long as the listener.
#[derive(Debug)]
pub struct SqsEndpoint {
    queues: Arc<QueueSet>,
    halts: Arc<Halts>,
    secret: Option<Arc<ListenerSecret>>,
    keys: NamedKeys,
    metrics: Arc<Metrics>,
    traces: Option<Arc<HostTraces>>,
    draining: CancellationToken,
    purges: RecentPurges,
    replays: ReceiveReplays,
    moves: MoveTasks,
    /// Joins what goes on when the request that asked for it has ended.
    work: TaskTracker,
}

impl SqsEndpoint {
    /// Returns the endpoint of these queues. Waiting receives, move tasks and deletions of many messages end when `draining` is
    /// cancelled; `tasks` joins the tasks.
    pub fn new(parts: EndpointParts, draining: CancellationToken, tasks: TaskTracker) -> Self {
        let EndpointParts {
            queues,
            halts,
            metrics,
            secret,
            keys,
            traces,
        } = parts;
        let moves = MoveTasks::new(draining.clone(), tasks.clone());
        Self {
            queues,
            halts,
            secret: secret.map(Arc::new),
            keys,
            metrics,
            traces,
            draining,
            purges: RecentPurges::default(),
            replays: ReceiveReplays::default(),
            moves,
            work: tasks,
        }
    }

    /// Returns the traces, if the host has to do with any.
    pub fn traces(&self) -> Option<&Arc<HostTraces>> {
        self.traces.as_ref()
    }

    /// Returns the access keys of now.
    pub fn keys(&self) -> AccessKeys {
        AccessKeys::new(self.secret.clone(), &self.keys)
    }

    /// Does what a request asks for.
    ///
    /// # Errors
    ///
    /// What SQS answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have done it, and never a part of it. What was received for a future that was dropped is
    /// released.
    pub async fn answer(&self, request: SqsRequest, view: &ClientView) -> Result<SqsResponse, SqsError> {
        view.caller.check(&request)?;
        match request {
            SqsRequest::AddPermission(input) => self.add_permission(input, view).await,
            SqsRequest::CancelMessageMoveTask(input) => self.cancel_move(&input),
            SqsRequest::ChangeMessageVisibility(input) => self.change_visibility(input).await,
            SqsRequest::ChangeMessageVisibilityBatch(input) => self.change_visibility_batch(input).await,
            SqsRequest::CreateQueue(input) => self.create_queue(&input, view).await,
            SqsRequest::DeleteMessage(input) => self.delete_message(input).await,
            SqsRequest::DeleteMessageBatch(input) => self.delete_batch(input).await,
            SqsRequest::DeleteQueue(input) => self.delete_queue(&input).await,
            SqsRequest::GetQueueAttributes(input) => self.get_attributes(&input, view).await,
            SqsRequest::GetQueueUrl(input) => self.get_url(&input, view),
            SqsRequest::ListDeadLetterSourceQueues(input) => self.list_sources(&input, view),
            SqsRequest::ListMessageMoveTasks(input) => self.list_moves(&input),
            SqsRequest::ListQueueTags(input) => self.list_tags(&input),
            SqsRequest::ListQueues(input) => self.list_queues(&input, view),
            SqsRequest::PurgeQueue(input) => self.purge_queue(&input).await,
            SqsRequest::ReceiveMessage(input) => self.receive_message(input, view).await,
            SqsRequest::RemovePermission(input) => self.remove_permission(input).await,
            SqsRequest::SendMessage(input) => self.send_message(input, view).await,
            SqsRequest::SendMessageBatch(input) => self.send_batch(input, view).await,
            SqsRequest::SetQueueAttributes(input) => self.set_attributes(&input).await,
            SqsRequest::StartMessageMoveTask(input) => self.start_move(&input, view).await,
            SqsRequest::TagQueue(input) => self.tag_queue(input).await,
            SqsRequest::UntagQueue(input) => self.untag_queue(input).await,
        }
    }

    /// Returns the queue of a URL. A URL that can't be that of a queue is answered as that of a queue that is not there.
    fn queue(&self, url: &str) -> Result<SimpleQueueEntry, SqsError> {
        let name = WireQueueName::from_url(url).map_err(|_| SqsError::queue_does_not_exist())?;
        self.named(name.as_str())
    }

    /// Returns the queue of this name.
    fn named(&self, name: &str) -> Result<SimpleQueueEntry, SqsError> {
        let found = QueueName::new(name).ok().and_then(|name| self.queues.simple(&name));
        found.ok_or_else(SqsError::queue_does_not_exist)
    }
}

/// Returns what SQS answers where the queue failed.
fn failed(error: &QueueError) -> SqsError {
    tracing::warn!(error = chain(error), "a request of an SQS client failed");
    match error {
        QueueError::Unavailable { .. } | QueueError::Failed { .. } => SqsError::service_unavailable(),
        QueueError::Unsupported { .. } => SqsError::internal_failure(),
    }
}
