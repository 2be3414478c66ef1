//! The route that deletes a queue which nothing declares.

use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode};

use super::{
    AdminState,
    audit::DryRun,
    parameters::{Path, QueryParameters},
    refused::RefusedRequest,
    wire::{self, DeletedQueue},
};
use crate::{
    endpoint::SqsEndpoint,
    halts::HaltTarget,
    handler_status::HandlerStatus,
    queue_set::{DeletedMessages, QueueChangeRefused},
};
use sandhog_queue::{Queue as _, message::QueueName};

type AnswerOfDeletion = Result<(Option<Extension<DryRun>>, Json<DeletedQueue>), RefusedRequest>;

#[utoipa::path(
    delete,
    path = "/queues/{name}",
    operation_id = "delete_queue",
    tag = "queues",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("with-messages" = Option<bool>, Query, description = "true deletes a queue that has messages or dead letters, with them"),
        ("dry-run" = Option<bool>, Query, description = "true says what would go, or why it can't, and changes nothing"),
    ),
    responses(
        (status = 200, body = DeletedQueue, description = "The queue is deleted, and its dead-letter queue if that was made for it and is empty"),
        (status = 400, body = wire::ErrorAnswer, description = "The request is wrong"),
        (status = 404, body = wire::ErrorAnswer, description = "There is no such queue"),
        (status = 409, body = wire::ErrorAnswer, description = "Something declares the queue, or it has messages; the error says which"),
        (status = 503, body = wire::ErrorAnswer, description = "The queue is unavailable"),
    ),
)]
pub(crate) async fn delete(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Extension(endpoint): Extension<Arc<SqsEndpoint>>,
    mut parameters: QueryParameters,
) -> AnswerOfDeletion {
    let with_messages = parameters.flag("with-messages")?;
    let dry_run = parameters.flag("dry-run")?;
    parameters.finish()?;
    let queue = state.find(&name)?.name().clone();
    if let Some(need) = state.need_of(&queue, None) {
        let why = format!("queue {queue} can't be deleted: {need}");
        return Err(RefusedRequest::new(StatusCode::CONFLICT, why));
    }
    if dry_run {
        let messages = state.messages_to_delete(&queue, with_messages).await?;
        let queues = vec![queue.to_string()];
        return Ok((Some(Extension(DryRun)), Json(DeletedQueue { queues, messages })));
    }
    let dead_letter_queue = state.queues.made_dead_letter_queue(&queue);
    let messages = state.delete_one(&endpoint, &queue, with_messages).await?;
    let mut deleted = DeletedQueue {
        queues: vec![queue.to_string()],
        messages,
    };
    if let Some(target) = dead_letter_queue.filter(|target| state.need_of(target, Some(&queue)).is_none()) {
        // Anything that is in it keeps it.
        if state.delete_one(&endpoint, &target, false).await.is_ok() {
            deleted.queues.push(target.to_string());
        }
    }
    Ok((None, Json(deleted)))
}

impl AdminState {
    /// Returns what keeps a queue from being deleted, for people.
    fn need_of(&self, queue: &QueueName, beside: Option<&QueueName>) -> Option<String> {
        let of_handler = |handler: &HandlerStatus| {
            let name = &handler.name;
            if handler.queue.as_ref() == Some(queue) {
                Some(format!("handler {name} takes it"))
            } else if handler.sends_to.contains(queue) {
                Some(format!("handler {name} may send to it (grant.send)"))
            } else {
                None
            }
        };
        let handlers = self.handlers.list();
        let of_handlers = handlers.iter().find_map(of_handler);
        of_handlers.or_else(|| self.queues.need_of(queue, beside))
    }

    /// Returns the number of messages and dead letters that would go with a queue.
    async fn messages_to_delete(&self, name: &QueueName, with_messages: bool) -> Result<u64, RefusedRequest> {
        let counts = self.find(name.as_str())?.counts().await?;
        let messages = counts.ready + counts.in_flight + counts.delayed + counts.damaged + counts.dead;
        if messages > 0 && !with_messages {
            let queue = name.clone();
            return Err(QueueChangeRefused::HasMessages { queue, messages }.into());
        }
        Ok(messages)
    }

    /// Deletes one queue, and returns the number of messages that went with it.
    async fn delete_one(
        &self,
        endpoint: &SqsEndpoint,
        name: &QueueName,
        with_messages: bool,
    ) -> Result<u64, RefusedRequest> {
        let Some(simple) = self.queues.simple(name) else {
            return Err(RefusedRequest::new(StatusCode::NOT_FOUND, format!("no queue {name}")));
        };
        let queue = simple.queue;
        let (which, messages) = if with_messages {
            let counts = queue.counts().await?;
            let dead = queue.purge_dead().await?;
            let here = counts.ready + counts.in_flight + counts.delayed + counts.damaged;
            (DeletedMessages::All, here + dead)
        } else {
            (DeletedMessages::None, 0)
        };
        endpoint.delete_unneeded(queue, which).await?;
        // A queue of the same name that comes later has nothing to do with the order about this one.
        self.halts.resume(HaltTarget::Queue(name.clone())).await?;
        Ok(messages)
    }
}
