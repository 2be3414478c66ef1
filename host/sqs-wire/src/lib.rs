#![forbid(unsafe_code)]
//! The wire protocol of Amazon SQS, as a server speaks it: AWS JSON 1.0 and the query protocol.
//!
//! A server finds the protocol of a request with [`WireProtocol::of`], verifies its signature with
//! [`signature::verify`] if it wants to, reads it with [`parse()`], does the work, and writes the answer with [`render()`].
//! Everything here is a pure function: the package knows no queue, no store, no HTTP server and no clock.
//!
//! ```
//! use sandhog_sqs_wire::{
//!     OutgoingMessage, SendRules, SqsError, SqsRequest, SqsResponse, WireProtocol, WireRequest, output::SendMessageOutput,
//!     parse, render,
//! };
//!
//! fn answer(request: SqsRequest) -> Result<SqsResponse, SqsError> {
//!     let SqsRequest::SendMessage(input) = request else {
//!         return Err(SqsError::internal_failure());
//!     };
//!     let rules = SendRules { is_fifo: false, content_based_deduplication: false, maximum_message_size: 1_048_576 };
//!     let checked = OutgoingMessage::of_input(&input).check(rules).map_err(|refusal| refusal.into_error())?;
//!     Ok(SqsResponse::SendMessage(SendMessageOutput {
//!         md5_of_message_body: checked.md5_of_body,
//!         message_id: "1".to_owned(),
//!         ..SendMessageOutput::default()
//!     }))
//! }
//!
//! let request = WireRequest {
//!     method: "POST",
//!     path: "/000000000000/orders",
//!     content_type: Some("application/x-www-form-urlencoded"),
//!     body: b"Action=SendMessage&MessageBody=hello",
//!     ..WireRequest::default()
//! };
//! let protocol = WireProtocol::of(&request);
//! let response = render(protocol, "7a62c49f", &parse(protocol, &request).and_then(answer));
//! assert_eq!(response.status, 200);
//! ```

mod action;
mod address;
mod batch;
mod check;
mod digest;
mod error;
mod form;
pub mod input;
mod limits;
mod message;
#[cfg(test)]
mod model;
mod names;
pub mod output;
mod page;
mod parse;
mod policy;
mod protocol;
mod render;
mod request;
mod response;
mod selection;
mod settings;
mod shape;
pub mod signature;
mod task_handle;
mod value;
mod wishes;
mod xml;

pub use action::SqsAction;
pub use address::{QueueArn, WireQueueName, queue_url};
pub use digest::{md5_of_attributes, md5_of_body};
pub use error::{SqsError, SqsErrorCode};
pub use limits::{check_tags, listed_tasks, page_size, visibility_timeout};
pub use message::{CheckedSend, OutgoingMessage, SendRefusal, SendRules};
pub use names::{MessageSystemName, QueueAttributeName};
pub use page::{decode_token, encode_token};
pub use parse::parse;
pub use policy::{add_permission, remove_permission};
pub use protocol::{WireProtocol, WireRequest};
pub use render::{WireResponse, render};
pub use request::SqsRequest;
pub use response::SqsResponse;
pub use selection::{AttributeSelection, SystemSelection, selected_queue_attributes};
pub use settings::{
    DeduplicationScope, FifoThroughputLimit, QueueSettingsPatch, RedriveAllowPolicy, RedrivePermission, RedrivePolicy,
    SettingChange, WantedQueue, check_throughput_rule,
};
pub use task_handle::MoveTaskHandle;
pub use value::{BinaryValue, StatedList};
pub use wishes::ReceiveWishes;
