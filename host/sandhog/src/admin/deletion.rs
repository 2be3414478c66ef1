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
    handler_status::HandlerStatus,
    queue_set::{DeletedMessages, QueueChangeRefused, handler_need},
};
use sandhog_queue::message::QueueName;

type AnswerOfDeletion = Result<(Option<Extension<DryRun>>, Json<DeletedQueue>), RefusedRequest>;

#[utoipa::path(
    delete,
    path = "/queues/{name}",
    operation_id = "delete_queue",
    tag = "queues",
    params(
        ("name" = String, Path, description = "The name of the queue"),
        ("with-messages" = Option<bool>, Query, description = "true deletes a queue that has messages or dead letters, with them"),
        ("dry-run" = Option<bool>, Query, description = "true says how many messages would go, or why the queue can't, and changes nothing"),
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
    let messages = if with_messages {
        DeletedMessages::All
    } else {
        DeletedMessages::None
    };
    let queue = state.find(&name)?.name().clone();
    if dry_run {
        let messages = state.messages_to_delete(&queue, messages).await?;
        let queues = vec![queue.to_string()];
        return Ok((Some(Extension(DryRun)), Json(DeletedQueue { queues, messages })));
    }
    let dead_letter_queue = state.queues.made_dead_letter_queue(&queue);
    let messages = state.delete_one(&endpoint, &queue, messages).await?;
    let mut deleted = DeletedQueue {
        queues: vec![queue.to_string()],
        messages,
    };
    if let Some(target) = dead_letter_queue {
        // Anything that is in it, or needs it, keeps it.
        if state
            .delete_one(&endpoint, &target, DeletedMessages::None)
            .await
            .is_ok()
        {
            deleted.queues.push(target.to_string());
        }
    }
    Ok((None, Json(deleted)))
}

impl AdminState {
    /// Refuses to delete a queue that something needs.
    fn check_unneeded(&self, name: &QueueName) -> Result<(), RefusedRequest> {
        // A version that serves may need another queue than the newest one, which the deletion itself asks.
        let of_handler = |handler: &HandlerStatus| {
            let queues = handler.queue.iter().chain(&handler.sends_to);
            handler_need(&handler.name, queues, name)
        };
        let of_handlers = self.handlers.list().iter().find_map(of_handler);
        match of_handlers.or_else(|| self.queues.need_of(name)) {
            Some(need) => {
                let queue = name.clone();
                Err(QueueChangeRefused::Needed { queue, need }.into())
            }
            None => Ok(()),
        }
    }

    /// Returns the number of messages and dead letters that would go with a queue.
    async fn messages_to_delete(&self, name: &QueueName, which: DeletedMessages) -> Result<u64, RefusedRequest> {
        self.check_unneeded(name)?;
        let counts = self.find(name.as_str())?.counts().await?;
        let messages = counts.ready + counts.in_flight + counts.delayed + counts.damaged + counts.dead;
        if messages > 0 && which == DeletedMessages::None {
            let queue = name.clone();
            return Err(QueueChangeRefused::HasMessages { queue, messages }.into());
        }
        Ok(messages)
    }

    /// Deletes one queue that nothing needs, and returns the number of messages that went with it.
    async fn delete_one(
        &self,
        endpoint: &SqsEndpoint,
        name: &QueueName,
        messages: DeletedMessages,
    ) -> Result<u64, RefusedRequest> {
        self.check_unneeded(name)?;
        let Some(simple) = self.queues.simple(name) else {
            return Err(RefusedRequest::new(StatusCode::NOT_FOUND, format!("no queue {name}")));
        };
        Ok(endpoint.delete_unneeded(simple.queue, messages).await?)
    }
}
