//! The handle of a move task: which task of which queue, in a form that a client need not understand.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{address::QueueArn, error::SqsError};

/// Which move task a client means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTaskHandle {
    /// The id of the task.
    pub task_id: String,
    /// The dead-letter queue that it empties.
    pub source: QueueArn,
}

#[derive(Serialize, Deserialize)]
struct HandleText {
    #[serde(rename = "taskId")]
    task_id: String,
    #[serde(rename = "sourceArn")]
    source_arn: String,
}

impl MoveTaskHandle {
    /// Returns the handle as a client gets it.
    pub fn encode(&self) -> String {
        let text = HandleText {
            task_id: self.task_id.clone(),
            source_arn: self.source.to_string(),
        };
        STANDARD.encode(serde_json::to_vec(&text).unwrap_or_default())
    }

    /// Reads a handle.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` for text that is no handle, and for one whose queue is none.
    pub fn decode(handle: &str) -> Result<Self, SqsError> {
        let bytes = STANDARD.decode(handle).ok();
        let text: Option<HandleText> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        text.and_then(|text| {
            let source = QueueArn::parse(&text.source_arn)?;
            let task_id = text.task_id;
            Some(Self { task_id, source })
        })
        .ok_or_else(SqsError::task_handle_is_invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_written_and_others_are_refused() {
        let handle = MoveTaskHandle {
            task_id: "10f6a3b4".to_owned(),
            source: QueueArn::parse("arn:aws:sqs:us-east-1:000000000000:dead").unwrap(),
        };
        assert_eq!(MoveTaskHandle::decode(&handle.encode()), Ok(handle));
        let of_aws = STANDARD.encode(r#"{"taskId":"t","sourceArn":"arn:aws:sqs:us-east-1:0:dead"}"#);
        assert_eq!(MoveTaskHandle::decode(&of_aws).unwrap().task_id, "t");
        for text in [
            "",
            "foobared",
            "e30=",
            &STANDARD.encode(r#"{"taskId":"a","sourceArn":"b"}"#),
        ] {
            let error = MoveTaskHandle::decode(text).unwrap_err();
            assert_eq!(error.message(), "Value for parameter TaskHandle is invalid.");
        }
    }
}
