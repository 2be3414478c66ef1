//! What a receive asks for, as typed values.

use std::time::Duration;

use crate::{
    error::SqsError,
    input::ReceiveMessageInput,
    limits::visibility_timeout,
    message::check_token,
    selection::{AttributeSelection, SystemSelection},
};

/// The most messages of one receive.
const MAX_MESSAGES: i64 = 10;
/// The longest wait, in seconds.
const MAX_WAIT: u64 = 20;

/// What a receive asks for. What is `None` is as the queue says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveWishes {
    /// The most messages: 1 to 10.
    pub max_messages: usize,
    /// How long the messages are hidden: 0 to 43,200 seconds.
    pub visibility_timeout: Option<Duration>,
    /// How long to wait for a message: 0 to 20 seconds.
    pub wait: Option<Duration>,
    /// The attributes to give.
    pub attributes: AttributeSelection,
    /// The system attributes to give.
    pub system_attributes: SystemSelection,
    /// The id of this attempt. Only a FIFO queue takes one: see [`Self::check_kind`].
    pub attempt_id: Option<String>,
}

impl ReceiveWishes {
    /// Returns what `input` asks for.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` for a number out of its range and for an attempt id that is none,
    /// `InvalidAttributeName` for a system attribute that is none.
    pub fn of(input: &ReceiveMessageInput) -> Result<Self, SqsError> {
        let count = input.max_number_of_messages.unwrap_or(1);
        let in_range = usize::try_from(count)
            .ok()
            .filter(|_| (1..=MAX_MESSAGES).contains(&count));
        let max_messages = in_range.ok_or_else(|| {
            SqsError::invalid_value(count, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")
        })?;
        let wait = input.wait_time_seconds.map(wait_time).transpose()?;
        if let Some(id) = &input.receive_request_attempt_id {
            check_token(id, "ReceiveRequestAttemptId")?;
        }
        Ok(Self {
            max_messages,
            visibility_timeout: input
                .visibility_timeout
                .map(|seconds| visibility_timeout(Some(seconds)))
                .transpose()?,
            wait,
            attributes: AttributeSelection::of(&input.message_attribute_names),
            system_attributes: SystemSelection::of(input)?,
            attempt_id: input.receive_request_attempt_id.clone(),
        })
    }

    /// Refuses an attempt id on a standard queue.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue`.
    pub fn check_kind(&self, is_fifo: bool) -> Result<(), SqsError> {
        match &self.attempt_id {
            Some(id) if !is_fifo => Err(SqsError::not_valid_for_queue_type(id, "ReceiveRequestAttemptId")),
            _ => Ok(()),
        }
    }
}

fn wait_time(seconds: i64) -> Result<Duration, SqsError> {
    let wait = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_WAIT);
    wait.map(Duration::from_secs)
        .ok_or_else(|| SqsError::invalid_value(seconds, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(input: &ReceiveMessageInput) -> String {
        let error = ReceiveWishes::of(input).unwrap_err();
        assert_eq!(error.code().query_code(), "InvalidParameterValue");
        error.message().to_owned()
    }

    #[test]
    fn a_receive_that_says_nothing_takes_one_message_as_the_queue_says() {
        let wishes = ReceiveWishes::of(&ReceiveMessageInput::default()).unwrap();
        assert_eq!(
            (wishes.max_messages, wishes.visibility_timeout, wishes.wait),
            (1, None, None)
        );
    }

    #[test]
    fn numbers_out_of_range_are_refused_as_aws_does() {
        for count in [0, 11, -1] {
            let text = format!(
                "Value {count} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
            );
            let max_number_of_messages = Some(count);
            assert_eq!(
                refusal(&ReceiveMessageInput {
                    max_number_of_messages,
                    ..ReceiveMessageInput::default()
                }),
                text
            );
        }
        for seconds in [-1, 21] {
            let text = format!(
                "Value {seconds} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."
            );
            let wait_time_seconds = Some(seconds);
            assert_eq!(
                refusal(&ReceiveMessageInput {
                    wait_time_seconds,
                    ..ReceiveMessageInput::default()
                }),
                text
            );
        }
        let visibility_timeout = Some(43_201);
        assert!(
            ReceiveWishes::of(&ReceiveMessageInput {
                visibility_timeout,
                ..ReceiveMessageInput::default()
            })
            .is_err()
        );
    }

    #[test]
    fn only_a_fifo_queue_takes_an_attempt_id() {
        let with = |id: &str| ReceiveMessageInput {
            receive_request_attempt_id: Some(id.to_owned()),
            ..ReceiveMessageInput::default()
        };
        let wishes = ReceiveWishes::of(&with("attempt-1")).unwrap();
        assert_eq!(wishes.check_kind(true), Ok(()));
        assert!(wishes.check_kind(false).is_err());
        assert!(ReceiveWishes::of(&with("")).is_err());
        assert!(ReceiveWishes::of(&with("a b")).is_err());
    }
}
