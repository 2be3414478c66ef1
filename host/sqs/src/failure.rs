//! The failures of calls to SQS: sorted into classes, with texts that tell an operator what to do.
//!
//! A text never holds a secret or a receipt handle: the words of a server are shown only where they can hold neither.

use std::{error::Error, fmt, iter::successors, sync::Arc, time::Duration};

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use sandhog_queue::{
    QueueError, SendError,
    message::{InvalidMessage, QueueName},
    printable::printable,
};

/// The length to which the words of a server are cut.
const SHOWN_BYTES: usize = 300;

/// A call of the SQS API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
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
    /// Returns the name of the call, which is also its metric label.
    pub(crate) fn as_str(self) -> &'static str {
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

    /// Returns the permission that the call needs: a batch needs that of the single call.
    fn permission(self) -> &'static str {
        self.as_str().trim_end_matches("Batch")
    }
}

/// The class of a failure, which decides the reaction to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Too many requests, or too many messages in flight.
    Throttled,
    /// There is no such queue.
    Missing,
    /// The credentials do not permit the call, or the use of the key of the queue.
    Denied,
    /// SQS does not know the credentials.
    Unknown,
    /// There are no credentials, or they are too old.
    Credentials,
    /// No region is set.
    NoRegion,
    /// A receipt handle is invalid, or no longer valid.
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
    /// The server failed, or gave an answer that is none.
    Server,
}

/// Why one call failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) action: Action,
    pub(crate) class: Class,
    code: Option<String>,
    /// The status of the HTTP response, if there was one.
    status: Option<u16>,
    says: String,
}

/// Why one entry of a batch call failed, although the call did not.
#[derive(Debug, Clone)]
pub(crate) struct EntryFailure {
    pub(crate) class: Class,
    /// Whether the server says that a repetition would fail as well.
    pub(crate) sender_fault: bool,
    pub(crate) failure: Failure,
}

impl Failure {
    /// Makes a failure of the SDK's error.
    pub(crate) fn of<E>(action: Action, error: &SdkError<E, HttpResponse>) -> Self
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
            status: error.raw_response().map(|raw| raw.status().as_u16()),
            says,
        }
    }

    /// Makes a failure of a server's answer.
    pub(crate) fn answered(action: Action, code: Option<&str>, status: Option<u16>, says: &str) -> Self {
        let class = classify(code, status);
        // The texts of these repeat what was sent: a handle, or the headers that were signed.
        let of_handles = matches!(
            action,
            Action::DeleteMessageBatch | Action::ChangeMessageVisibilityBatch
        );
        let repeats = of_handles && matches!(class, Class::BadRequest | Class::Server);
        let tells = !repeats && !matches!(class, Class::Handle | Class::Unknown);
        Self {
            action,
            class,
            code: code.map(|code| printable(code, SHOWN_BYTES)),
            status,
            says: if tells {
                printable(says.trim(), SHOWN_BYTES)
            } else {
                String::new()
            },
        }
    }

    /// Makes a failure that this host found by itself.
    pub(crate) fn local(action: Action, class: Class, says: impl Into<String>) -> Self {
        Self {
            action,
            class,
            code: None,
            status: None,
            says: says.into(),
        }
    }

    /// Whether the server may have done the call without an answer.
    pub(crate) fn outcome_is_unknown(&self) -> bool {
        matches!(self.class, Class::Timeout | Class::Connection | Class::Server)
    }

    /// Whether the server answered, even with a failure of its own.
    pub(crate) fn is_answer(&self) -> bool {
        self.status.is_some() && self.class != Class::Throttled
    }

    /// Whether the server understood the request and refused its content, so that a repetition would fail as well.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.class, Class::BadRequest | Class::Handle)
    }

    /// Whether the failure says that a receipt is no longer valid. Only for the calls that take receipts, to which SQS
    /// answers `InvalidParameterValue` if one has expired.
    pub(crate) fn is_of_receipt(&self) -> bool {
        let invalid_value = || {
            let code = self.code.as_deref().map(plain);
            matches!(code, Some("InvalidParameterValue" | "InvalidParameterValueException"))
        };
        self.class == Class::Handle || invalid_value()
    }

    /// Returns the words of the server, with its code, for a text that names the queue itself.
    pub(crate) fn said(&self) -> String {
        match (&self.code, self.status, self.says.as_str()) {
            (Some(code), _, "") => code.clone(),
            (Some(code), _, says) => format!("{code}: {says}"),
            (None, Some(status @ 200..=299), "") => format!("HTTP status {status}, with an answer that cannot be read"),
            (None, Some(status), "") => format!("HTTP status {status}"),
            (None, None, "") => "no reason was given".to_owned(),
            (None, _, says) => says.to_owned(),
        }
    }

    /// Makes the error of a queue of this failure. `subject` is the queue's URL, or its name.
    pub(crate) fn unavailable(self, queue: &QueueName, subject: &str) -> QueueError {
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
    pub(crate) fn new(action: Action, code: &str, says: &str, sender_fault: bool) -> Self {
        let status = if sender_fault { 400 } else { 500 };
        let failure = Failure::answered(action, Some(code), Some(status), says);
        Self {
            class: failure.class,
            sender_fault,
            failure,
        }
    }

    /// Makes the error of a send, for the entry of a batch.
    pub(crate) fn refused(self, queue: &QueueName, subject: &str) -> SendError {
        if self.sender_fault && self.failure.is_refusal() {
            let said = self.failure.said();
            return InvalidMessage(format!("{subject} refused the message: {said}")).into();
        }
        self.failure.unavailable(queue, subject).into()
    }
}

/// A failure and its queue: the cause below a [`QueueError`].
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

/// Writes the SDK's error and all of its causes in one line, without a cause that repeats the text above it.
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
    // The list names all places where the SDK found no credentials.
    let text = text.split(". Attempted:").next().unwrap_or_default();
    printable(text, SHOWN_BYTES)
}

/// Sorts a failure before a request left this host. The SDK has no types for it, only words.
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

/// Takes off a code's prefix, which differs between the protocols: `com.amazonaws.sqs#X` and `AWS.SimpleQueueService.X` are
/// `X`.
fn plain(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// Sorts an answer by its code, modern or legacy, and an unknown code by the HTTP status.
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
        // SQS says the latter of a URL in another region.
        "QueueDoesNotExist" | "NonExistentQueue" | "InvalidAddress" => Class::Missing,
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
        other => match status {
            Some(429) => Class::Throttled,
            Some(401 | 403) => Class::Denied,
            Some(501) => Class::Unsupported,
            Some(408) => Class::Timeout,
            Some(413) => Class::BadRequest,
            // An answer without a code may come from a proxy on the way, so that it is not final.
            Some(400..=499) if !other.is_empty() => Class::BadRequest,
            Some(_) | None => Class::Server,
        },
    }
}

/// Returns a duration in whole seconds, rounded up: SQS knows no smaller ones, and a visibility timeout may not end early.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: &str, status: u16) -> Class {
        classify(Some(code), Some(status))
    }

    #[test]
    fn a_code_means_the_same_in_all_of_its_spellings() {
        for code in [
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "com.amazonaws.sqs#QueueDoesNotExist",
            "com.amazonaws.sqs#QueueDoesNotExist:http://internal.amazon.com/coral/",
        ] {
            assert_eq!(class(code, 400), Class::Missing, "{code}");
        }
        for code in ["PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress"] {
            assert_eq!(class(code, 400), Class::PurgedLately, "{code}");
        }
        for code in [
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            "ReceiptHandleIsInvalid",
        ] {
            assert_eq!(class(code, 400), Class::Handle, "{code}");
        }
    }

    #[test]
    fn throttling_is_known_by_code_and_by_status() {
        for code in [
            "RequestThrottled",
            "ThrottlingException",
            "OverLimit",
            "KmsThrottled",
            "KMS.ThrottlingException",
        ] {
            assert_eq!(class(code, 403), Class::Throttled, "{code}");
        }
        assert_eq!(class("Whatever", 429), Class::Throttled);
    }

    #[test]
    fn what_no_code_says_the_status_does() {
        assert_eq!(class("MissingParameter", 400), Class::BadRequest);
        for (status, expected) in [
            (400, Class::Server),
            (404, Class::Server),
            (413, Class::BadRequest),
            (403, Class::Denied),
            (408, Class::Timeout),
            (501, Class::Unsupported),
            (503, Class::Server),
        ] {
            assert_eq!(classify(None, Some(status)), expected, "{status}");
        }
        assert_eq!(classify(None, None), Class::Server);
    }

    #[test]
    fn access_and_credentials_are_told_apart() {
        assert_eq!(class("AccessDeniedException", 403), Class::Denied);
        assert_eq!(class("KMS.DisabledException", 400), Class::Denied);
        assert_eq!(class("InvalidClientTokenId", 403), Class::Unknown);
        assert_eq!(class("ExpiredToken", 403), Class::Credentials);
    }

    #[test]
    fn an_expired_receipt_is_known_however_it_is_said() {
        let code = |code: &str, fault| EntryFailure::new(Action::DeleteMessageBatch, code, "AQEB is invalid", fault);
        for (code, fault) in [
            ("ReceiptHandleIsInvalid", true),
            ("InvalidParameterValue", true),
            ("InvalidParameterValueException", false),
            ("AWS.SimpleQueueService.MessageNotInflight", true),
        ]
        .map(|(name, fault)| (code(name, fault), fault))
        {
            assert!(code.failure.is_of_receipt(), "{code:?} {fault}");
        }
        assert!(!code("InternalError", false).failure.is_of_receipt());
    }

    fn check(failure: Failure, text: &str) {
        let QueueError::Unavailable { cause, .. } = failure.unavailable(&QueueName::new("q").unwrap(), "https://h/1/q")
        else {
            unreachable!()
        };
        assert_eq!(cause.to_string(), text);
    }

    #[test]
    fn a_text_says_what_to_do() {
        let answered = |code, says| Failure::answered(Action::SendMessageBatch, Some(code), Some(400), says);
        check(
            answered("AccessDeniedException", "no"),
            "https://h/1/q: access denied (AccessDeniedException: no): the host's credentials need sqs:SendMessage on this queue",
        );
        check(
            answered("QueueDoesNotExist", ""),
            "there is no queue https://h/1/q (QueueDoesNotExist): create it or correct its url",
        );
        check(
            Failure::local(Action::ReceiveMessage, Class::NoRegion, ""),
            "https://h/1/q: no region: set AWS_REGION or a profile with a region",
        );
    }

    #[test]
    fn no_text_repeats_a_receipt_or_a_signature() {
        let secret = "AQEBsecret";
        for (action, code) in [
            (Action::DeleteMessageBatch, "InvalidParameterValue"),
            (Action::DeleteMessageBatch, "ReceiptHandleIsInvalid"),
            (Action::ChangeMessageVisibilityBatch, "SomethingElse"),
            (Action::ReceiveMessage, "SignatureDoesNotMatch"),
        ] {
            for status in [400, 500] {
                let failure = Failure::answered(action, Some(code), Some(status), secret);
                assert!(!format!("{failure:?}").contains(secret), "{failure:?}");
            }
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
    }
}
