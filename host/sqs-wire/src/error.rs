//! An error of SQS: its code under the names of both protocols, its status, whose fault it is, and its text.
//!
//! The texts that AWS gives are in `error/texts.rs`.

use std::fmt;

mod texts;

/// The longest text of an error, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// An error as a client of SQS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsError {
    code: SqsErrorCode,
    message: String,
}

impl SqsError {
    /// Returns an error with a text of the caller's own. An empty text is left out of the answer.
    /// A text of more than 4 KiB is cut: it may repeat words of the client.
    pub fn new(code: SqsErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        }
        Self { code, message }
    }

    /// Returns the code.
    pub fn code(&self) -> SqsErrorCode {
        self.code
    }

    /// Returns the text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for SqsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.query_code(), self.message)
    }
}

impl std::error::Error for SqsError {}

/// What is to be known of a code.
#[derive(Clone, Copy, Debug)]
struct CodeFacts {
    namespace: &'static str,
    shape: &'static str,
    query_code: &'static str,
    status: u16,
}

/// The namespace of errors that the model of SQS names.
const MODEL: &str = "com.amazonaws.sqs";
/// The namespace of errors that every service of AWS has.
const CORAL: &str = "com.amazon.coral.service";

/// Makes the enum of the codes with their facts: namespace, shape in JSON, code in the query protocol, status.
macro_rules! codes {
    ($($code:ident: $namespace:ident, $shape:literal, $query:literal, $status:literal;)*) => {
        /// The code of an error of SQS.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "a variant is the error of its name, and AWS documents it")]
        #[non_exhaustive]
        pub enum SqsErrorCode {
            $($code),*
        }

        impl SqsErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            fn facts(self) -> CodeFacts {
                match self {
                    $(Self::$code => CodeFacts {
                        namespace: $namespace,
                        shape: $shape,
                        query_code: $query,
                        status: $status,
                    }),*
                }
            }
        }
    };
}

codes! {
    AccessDenied: CORAL, "AccessDeniedException", "AccessDenied", 403;
    BatchEntryIdsNotDistinct: MODEL, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400;
    BatchRequestTooLong: MODEL, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400;
    EmptyBatchRequest: MODEL, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400;
    IncompleteSignature: CORAL, "IncompleteSignatureException", "IncompleteSignature", 400;
    InternalFailure: CORAL, "InternalFailure", "InternalFailure", 500;
    InvalidAction: CORAL, "InvalidAction", "InvalidAction", 400;
    InvalidAddress: MODEL, "InvalidAddress", "InvalidAddress", 404;
    InvalidAttributeName: MODEL, "InvalidAttributeName", "InvalidAttributeName", 400;
    InvalidAttributeValue: MODEL, "InvalidAttributeValue", "InvalidAttributeValue", 400;
    InvalidBatchEntryId: MODEL, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400;
    InvalidClientTokenId: CORAL, "UnrecognizedClientException", "InvalidClientTokenId", 403;
    InvalidIdFormat: MODEL, "InvalidIdFormat", "InvalidIdFormat", 400;
    InvalidMessageContents: MODEL, "InvalidMessageContents", "InvalidMessageContents", 400;
    InvalidParameterValue: CORAL, "InvalidParameterValueException", "InvalidParameterValue", 400;
    InvalidSecurity: MODEL, "InvalidSecurity", "InvalidSecurity", 403;
    KmsAccessDenied: MODEL, "KmsAccessDenied", "KMS.AccessDeniedException", 400;
    KmsDisabled: MODEL, "KmsDisabled", "KMS.DisabledException", 400;
    KmsInvalidKeyUsage: MODEL, "KmsInvalidKeyUsage", "KMS.InvalidKeyUsageException", 400;
    KmsInvalidState: MODEL, "KmsInvalidState", "KMS.InvalidStateException", 400;
    KmsNotFound: MODEL, "KmsNotFound", "KMS.NotFoundException", 400;
    KmsOptInRequired: MODEL, "KmsOptInRequired", "KMS.OptInRequired", 403;
    KmsThrottled: MODEL, "KmsThrottled", "KMS.ThrottlingException", 400;
    MalformedQueryString: CORAL, "MalformedQueryString", "MalformedQueryString", 404;
    MessageNotInflight: MODEL, "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400;
    MissingAction: CORAL, "MissingAction", "MissingAction", 400;
    MissingAuthenticationToken: CORAL, "MissingAuthenticationTokenException", "MissingAuthenticationToken", 403;
    MissingParameter: CORAL, "MissingRequiredParameterException", "MissingParameter", 400;
    OverLimit: MODEL, "OverLimit", "OverLimit", 403;
    PurgeQueueInProgress: MODEL, "PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403;
    QueueDeletedRecently: MODEL, "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400;
    QueueDoesNotExist: MODEL, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400;
    QueueNameExists: MODEL, "QueueNameExists", "QueueAlreadyExists", 400;
    ReceiptHandleIsInvalid: MODEL, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404;
    RequestExpired: CORAL, "RequestExpired", "RequestExpired", 400;
    RequestThrottled: MODEL, "RequestThrottled", "RequestThrottled", 403;
    ResourceNotFound: MODEL, "ResourceNotFoundException", "ResourceNotFoundException", 404;
    Serialization: CORAL, "SerializationException", "SerializationException", 400;
    ServiceUnavailable: CORAL, "ServiceUnavailableException", "ServiceUnavailable", 503;
    SignatureDoesNotMatch: CORAL, "InvalidSignatureException", "SignatureDoesNotMatch", 403;
    TooManyEntriesInBatchRequest: MODEL, "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400;
    UnknownOperation: CORAL, "UnknownOperationException", "UnknownOperationException", 404;
    UnsupportedOperation: MODEL, "UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400;
}

impl SqsErrorCode {
    /// Returns the name of the shape in the JSON protocol, such as `QueueDoesNotExist`.
    pub fn shape(self) -> &'static str {
        self.facts().shape
    }

    /// Returns the value of `__type` in the JSON protocol, such as `com.amazonaws.sqs#QueueDoesNotExist`.
    pub fn json_type(self) -> String {
        let facts = self.facts();
        format!("{}#{}", facts.namespace, facts.shape)
    }

    /// Returns the code in the query protocol and in the entries of batches, such as
    /// `AWS.SimpleQueueService.NonExistentQueue`.
    pub fn query_code(self) -> &'static str {
        self.facts().query_code
    }

    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        self.facts().status
    }

    /// Returns whether the client is to blame, so that sending the same again helps nobody.
    pub fn is_sender_fault(self) -> bool {
        self.status() < 500
    }
}
