//! What SQS, or the way to it, answered instead of doing what was asked: sorted into classes, and in words that say what
//! to do.
//!
//! A text never holds a secret, nor a receipt handle: what a server says is shown only where neither can be in it.

use std::{error::Error, fmt, iter::successors, sync::Arc, time::Duration};

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{
    message::{InvalidMessage, QueueName},
    printable::printable,
    queue::{QueueError, SendError},
};

/// How much of a server's own words is shown.
const SHOWN_BYTES: usize = 300;

/// A call of the SQS API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    ReceiveMessage,
    SendMessageBatch,
    DeleteMessageBatch,
    ChangeMessageVisibilityBatch,
    GetQueueUrl,
    GetQueueAttributes,
    PurgeQueue,
    StartMessageMoveTask,
    ListMessageMoveTasks,
    ListDeadLetterSourceQueues,
}

impl Action {
    /// The name of the call, which is also its metric label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ReceiveMessage => "ReceiveMessage",
            Self::SendMessageBatch => "SendMessageBatch",
            Self::DeleteMessageBatch => "DeleteMessageBatch",
            Self::ChangeMessageVisibilityBatch => "ChangeMessageVisibilityBatch",
            Self::GetQueueUrl => "GetQueueUrl",
            Self::GetQueueAttributes => "GetQueueAttributes",
            Self::PurgeQueue => "PurgeQueue",
            Self::StartMessageMoveTask => "StartMessageMoveTask",
            Self::ListMessageMoveTasks => "ListMessageMoveTasks",
            Self::ListDeadLetterSourceQueues => "ListDeadLetterSourceQueues",
        }
    }

    /// What a policy has to allow for it: a batch needs what the single call needs.
    fn permission(self) -> &'static str {
        self.as_str().trim_end_matches("Batch")
    }
}

/// What kind of failure it is, which is what decides what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Too many requests, or too many messages in flight.
    Throttled,
    /// There is no such queue.
    Missing,
    /// These credentials may not do that, or the key of the queue may not be used.
    Denied,
    /// The credentials are not those of anybody.
    Unknown,
    /// There are no credentials, or they are too old.
    Credentials,
    /// Nobody said which region.
    NoRegion,
    /// A receipt handle is not, or no longer, one.
    Handle,
    /// The queue was purged a moment ago.
    PurgedLately,
    /// The server does not know this call.
    Unsupported,
    /// The request has a mistake.
    BadRequest,
    /// No answer came in time.
    Timeout,
    /// There is no connection, or it broke.
    Connection,
    /// The server failed, or answered what nobody understands.
    Server,
}

/// Why one call was in vain.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) action: Action,
    pub(super) class: Class,
    code: Option<String>,
    says: String,
}

/// Why one entry of a batch call was in vain, although the call was not.
#[derive(Debug, Clone)]
pub(super) struct EntryFailure {
    pub(super) class: Class,
    /// Whether the server says that repeating it is in vain.
    pub(super) sender_fault: bool,
    pub(super) failure: Failure,
}

impl Failure {
    /// What the SDK made of a call.
    pub(super) fn of<E>(action: Action, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let Some(service) = error.as_service_error() else {
            return Self::before_an_answer(action, error);
        };
        let meta = service.meta();
        Self::answered(action, meta.code(), status, meta.message().unwrap_or_default())
    }

    fn before_an_answer<E>(action: Action, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + 'static,
    {
        let says = own_words(error);
        let class = match error {
            SdkError::TimeoutError(_) => Class::Timeout,
            SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => Class::Timeout,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => local_class(&says),
            SdkError::ResponseError(_) | SdkError::ServiceError(_) => Class::Server,
            _ => Class::Connection,
        };
        Self {
            action,
            class,
            code: None,
            says,
        }
    }

    /// What a server answered.
    pub(super) fn answered(action: Action, code: Option<&str>, status: Option<u16>, says: &str) -> Self {
        let class = classify(code, status);
        // The texts of these repeat what was sent: a handle, or the headers that were signed.
        let of_handles = matches!(action, Action::DeleteMessageBatch | Action::ChangeMessageVisibilityBatch);
        let tells = match class {
            Class::Handle | Class::Unknown => false,
            Class::BadRequest => !of_handles,
            _ => true,
        };
        Self {
            action,
            class,
            code: code.map(|code| printable(code, SHOWN_BYTES)),
            says: if tells {
                printable(says.trim(), SHOWN_BYTES)
            } else {
                String::new()
            },
        }
    }

    /// A failure that this host found by itself.
    pub(super) fn local(action: Action, class: Class, says: impl Into<String>) -> Self {
        Self {
            action,
            class,
            code: None,
            says: says.into(),
        }
    }

    /// Whether nobody knows if the server did what was asked.
    pub(super) fn outcome_is_unknown(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Connection | Class::Server)
    }

    /// Whether the server understood the request and refused it for what is in it, so that repeating it is in vain.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.class, Class::BadRequest | Class::Handle)
    }

    /// Whether it says of a receipt that it is no longer valid. Asked of the calls that take receipts, of which SQS says
    /// `InvalidParameterValue` if one has expired.
    pub(super) fn is_of_receipt(&self) -> bool {
        let invalid_value = || self.code.as_deref().is_some_and(|code| plain(code) == "InvalidParameterValue");
        self.class == Class::Handle || (self.class == Class::BadRequest && invalid_value())
    }

    /// What the server said, with its code, for a text that names the queue itself.
    pub(super) fn said(&self) -> String {
        match (&self.code, self.says.as_str()) {
            (Some(code), "") => code.clone(),
            (Some(code), says) => format!("{code}: {says}"),
            (None, "") => "no reason was given".to_owned(),
            (None, says) => says.to_owned(),
        }
    }

    /// This failure as the error of a queue. `subject` is what people know the queue by: its URL, or its name.
    pub(super) fn unavailable(self, queue: &QueueName, subject: &str) -> QueueError {
        QueueError::Unavailable {
            queue: queue.clone(),
            cause: Arc::new(Trouble {
                subject: subject.to_owned(),
                failure: self,
            }),
        }
    }
}

impl EntryFailure {
    pub(super) fn new(action: Action, code: &str, says: &str, sender_fault: bool) -> Self {
        let status = if sender_fault { 400 } else { 500 };
        let failure = Failure::answered(action, Some(code), Some(status), says);
        Self {
            class: failure.class,
            sender_fault,
            failure,
        }
    }

    /// For the entry of a send: what its sender is told.
    pub(super) fn refused(self, queue: &QueueName, subject: &str) -> SendError {
        if self.sender_fault && self.failure.is_refusal() {
            let said = self.failure.said();
            return InvalidMessage(format!("{subject} refused the message: {said}")).into();
        }
        self.failure.unavailable(queue, subject).into()
    }
}

/// A failure and the queue that it is about: the cause below a [`QueueError`].
#[derive(Debug)]
struct Trouble {
    subject: String,
    failure: Failure,
}

impl Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, failure } = self;
        let said = failure.said();
        let permission = failure.action.permission();
        match failure.class {
            Class::Throttled => write!(f, "{subject}: too many requests ({said})"),
            Class::Missing => write!(f, "there is no queue {subject} ({said}): create it or correct its url"),
            Class::Denied => write!(
                f,
                "{subject}: access denied ({said}): the host's credentials need sqs:{permission} on this queue"
            ),
            Class::Unknown => write!(
                f,
                "{subject}: the host's credentials are not accepted ({said}): correct the access key and its secret"
            ),
            Class::Credentials if failure.code.is_some() => write!(
                f,
                "{subject}: the host's credentials have expired ({said}): they are fetched anew if they come from a role; \
                 otherwise renew them, and check the clock of this machine"
            ),
            Class::Credentials => write!(
                f,
                "{subject}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a \
                 role ({said})"
            ),
            Class::NoRegion => write!(f, "{subject}: no region: set AWS_REGION or a profile with a region"),
            Class::Handle => write!(f, "{subject}: the receipt is no longer valid ({said})"),
            Class::PurgedLately => write!(f, "{subject}: purged less than 60 s ago"),
            Class::Unsupported => write!(f, "{subject}: the server does not know sqs:{permission} ({said})"),
            Class::BadRequest => write!(f, "{subject}: sqs:{permission} was refused ({said})"),
            Class::Timeout => write!(f, "{subject}: no answer in time ({said})"),
            Class::Connection => write!(f, "{subject}: no connection ({said})"),
            Class::Server => write!(f, "{subject}: the server failed ({said})"),
        }
    }
}

/// The SDK's error with all that is below it, in one line; a cause that repeats the text above it is left out.
fn own_words(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for each in successors(error.source(), |&error| error.source()) {
        let each = each.to_string();
        if !text.contains(&each) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&each);
        }
    }
    printable(&text, SHOWN_BYTES)
}

/// The class of what went wrong before a request left this host. The SDK has no types for it, only words.
fn local_class(says: &str) -> Class {
    let says = says.to_ascii_lowercase();
    if says.contains("region") && (says.contains("missing") || says.contains("signing")) {
        Class::NoRegion
    } else if says.contains("credential") || says.contains("identity") {
        Class::Credentials
    } else {
        Class::Connection
    }
}

/// A code without what the protocols put before it: `com.amazonaws.sqs#X` and `AWS.SimpleQueueService.X` are `X`.
fn plain(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// Sorts an answer by its code, modern or legacy, and where the code is none that is known, by its HTTP status.
fn classify(code: Option<&str>, status: Option<u16>) -> Class {
    match plain(code.unwrap_or_default()) {
        "RequestThrottled"
        | "RequestThrottledException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "OverLimit"
        | "KmsThrottled"
        | "KMS.ThrottlingException" => Class::Throttled,
        "QueueDoesNotExist" | "NonExistentQueue" => Class::Missing,
        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" | "OptInRequired" | "InvalidSecurity" => {
            Class::Denied
        }
        code if code.starts_with("Kms") || code.starts_with("KMS.") => Class::Denied,
        "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Class::Unknown,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Class::Credentials,
        "ReceiptHandleIsInvalid" | "MessageNotInflight" | "InvalidIdFormat" => Class::Handle,
        "PurgeQueueInProgress" => Class::PurgedLately,
        "UnsupportedOperation"
        | "UnknownOperation"
        | "UnknownOperationException"
        | "InvalidAction"
        | "NotImplemented"
        | "NotImplementedError" => Class::Unsupported,
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => Class::Server,
        _ => match status {
            Some(429) => Class::Throttled,
            Some(401 | 403) => Class::Denied,
            Some(501) => Class::Unsupported,
            Some(408) => Class::Timeout,
            Some(400..=499) => Class::BadRequest,
            Some(_) | None => Class::Server,
        },
    }
}

/// A duration in whole seconds, rounded up: SQS knows no smaller ones, and a promise may not end early.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
