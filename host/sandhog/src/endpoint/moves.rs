//! `StartMessageMoveTask`, `CancelMessageMoveTask` and `ListMessageMoveTasks`.

use super::{
    ClientView, SqsEndpoint, failed,
    move_tasks::{MoveStart, MoveTask},
};
use crate::queue_set::SimpleQueueEntry;
use sandhog_queue::Queue as _;
use sandhog_sqs_wire::{
    MoveTaskHandle, QueueArn, SqsError, SqsResponse,
    input::{CancelMessageMoveTaskInput, ListMessageMoveTasksInput, StartMessageMoveTaskInput},
    listed_tasks,
    output::{CancelMessageMoveTaskOutput, ListMessageMoveTasksOutput, MoveTaskEntry, StartMessageMoveTaskOutput},
};

impl SqsEndpoint {
    pub(super) async fn start_move(
        &self,
        input: &StartMessageMoveTaskInput,
        view: &ClientView,
    ) -> Result<SqsResponse, SqsError> {
        let source = self.of_arn(&input.source_arn, "SourceArn")?;
        let sources = self.sources_of(source.queue.name());
        if sources.is_empty() {
            return Err(SqsError::source_is_no_dead_letter_queue());
        }
        if input.destination_arn.is_none() {
            view.caller.check_move_to(&sources)?;
        }
        let destination = input.destination_arn.as_deref();
        let destination = destination.map(|arn| self.of_arn(arn, "DestinationArn")).transpose()?;
        if let Some(destination) = &destination {
            check_destination(
                &source,
                destination,
                input.destination_arn.as_deref().unwrap_or_default(),
            )?;
        }
        let counts = source.queue.counts().await.map_err(|error| failed(&error))?;
        let started = self.moves.start(MoveStart {
            source: source.queue,
            source_arn: arn_of(&input.source_arn, "SourceArn")?,
            destination: destination.map(|queue| queue.queue),
            destination_arn: input.destination_arn.clone(),
            rate: input
                .max_number_of_messages_per_second
                .and_then(|rate| u32::try_from(rate).ok()),
            to_move: counts.ready,
        });
        let handle = started.ok_or_else(SqsError::move_task_runs)?;
        Ok(SqsResponse::StartMessageMoveTask(StartMessageMoveTaskOutput {
            task_handle: handle,
        }))
    }

    fn of_arn(&self, arn: &str, parameter: &str) -> Result<SimpleQueueEntry, SqsError> {
        let name = arn_of(arn, parameter)?.name;
        let queue = self.named(name.as_str());
        queue.map_err(|_| SqsError::resource_not_found(parameter))
    }

    pub(super) fn cancel_move(&self, input: &CancelMessageMoveTaskInput) -> Result<SqsResponse, SqsError> {
        let handle = MoveTaskHandle::decode(&input.task_handle)?;
        self.of_arn(&handle.source.to_string(), "SourceArn")?;
        let moved = self
            .moves
            .cancel(&input.task_handle)
            .ok_or_else(SqsError::task_does_not_exist)?;
        Ok(SqsResponse::CancelMessageMoveTask(CancelMessageMoveTaskOutput {
            approximate_number_of_messages_moved: count(moved),
        }))
    }

    pub(super) fn list_moves(&self, input: &ListMessageMoveTasksInput) -> Result<SqsResponse, SqsError> {
        let limit = listed_tasks(input)?;
        let source = self.of_arn(&input.source_arn, "SourceArn")?;
        let tasks = self.moves.of_source(source.queue.name(), limit);
        Ok(SqsResponse::ListMessageMoveTasks(ListMessageMoveTasksOutput {
            results: tasks.iter().map(|task| entry(task)).collect(),
        }))
    }
}

/// Refuses a move that would go round for ever, or to a queue that can't hold what it gets.
fn check_destination(source: &SimpleQueueEntry, destination: &SimpleQueueEntry, arn: &str) -> Result<(), SqsError> {
    let why = if source.queue.name() == destination.queue.name() {
        "It is the source of the messages."
    } else if source.is_fifo() != destination.is_fifo() {
        "Messages move between queues of one type only."
    } else {
        return Ok(());
    };
    Err(SqsError::invalid_value(arn, "DestinationArn", why))
}

fn arn_of(arn: &str, parameter: &str) -> Result<QueueArn, SqsError> {
    QueueArn::parse(arn).ok_or_else(|| SqsError::resource_not_found(parameter))
}

fn entry(task: &MoveTask) -> MoveTaskEntry {
    let status = task.status();
    MoveTaskEntry {
        task_handle: status.is_running().then(|| task.handle().to_owned()),
        status: status.name().to_owned(),
        source_arn: task.start().source_arn.to_string(),
        destination_arn: task.start().destination_arn.clone(),
        max_number_of_messages_per_second: task.start().rate.map(i64::from),
        approximate_number_of_messages_moved: count(task.moved()),
        approximate_number_of_messages_to_move: Some(count(task.start().to_move)),
        failure_reason: status.failure_reason(),
        started_timestamp: count(task.started_ms()),
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
