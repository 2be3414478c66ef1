//! The names of queues, and the URLs and ARNs that they stand in.
//!
//! A queue is its name. The host, the account, the region and whatever else a client writes around it are not looked at,
//! so that a URL of another place works here.

use std::fmt;

use crate::error::SqsError;

/// The most characters of a name, `.fifo` included.
const MAX_NAME_LENGTH: usize = 80;
const FIFO_SUFFIX: &str = ".fifo";

/// The name of a queue: 1 to 80 letters, digits, `-` and `_`. That of a FIFO queue ends in `.fifo`, which counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireQueueName(String);

impl WireQueueName {
    /// Returns the name if it is one.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(FIFO_SUFFIX).unwrap_or(name);
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_name = !stem.is_empty() && name.len() <= MAX_NAME_LENGTH && stem.bytes().all(is_allowed);
        is_name.then(|| Self(name.to_owned()))
    }

    /// Returns the name of the queue that a URL, or the path of a request, names with its last segment.
    ///
    /// # Errors
    ///
    /// `InvalidAddress` if that is no name of a queue.
    pub fn from_url(url: &str) -> Result<Self, SqsError> {
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => url,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        Self::parse(name).ok_or_else(|| SqsError::invalid_address(url))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the name is that of a FIFO queue.
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(FIFO_SUFFIX)
    }
}

impl fmt::Display for WireQueueName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Returns the URL of a queue. `authority` is what the client wrote in its header `Host`, so that the URL works for it;
/// `scheme` is `http` or `https`.
pub fn queue_url(scheme: &str, authority: &str, account: &str, name: &str) -> String {
    format!("{scheme}://{authority}/{account}/{name}")
}

/// The ARN of a queue: `arn:aws:sqs:REGION:ACCOUNT:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueArn {
    /// The partition: `aws`, or that of China or of a government.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account.
    pub account: String,
    /// The name of the queue.
    pub name: WireQueueName,
}

impl QueueArn {
    /// Returns the ARN of a queue in the partition `aws`.
    pub fn new(region: &str, account: &str, name: WireQueueName) -> Self {
        Self {
            partition: "aws".to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            name,
        }
    }

    /// Returns the ARN if it is one of a queue.
    pub fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        if parts.next()? != "arn" {
            return None;
        }
        let partition = parts.next().filter(|partition| partition.starts_with("aws"))?;
        if parts.next()? != "sqs" {
            return None;
        }
        let region = parts.next()?;
        let account = parts.next()?;
        let name = WireQueueName::parse(parts.next()?)?;
        parts.next().is_none().then(|| Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            name,
        })
    }
}

impl fmt::Display for QueueArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            region,
            account,
            name,
        } = self;
        write!(formatter, "arn:{partition}:sqs:{region}:{account}:{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_up_to_80_letters_digits_hyphens_and_underscores() {
        for name in [
            "a",
            "A-b_9",
            "orders.fifo",
            &"x".repeat(80),
            &format!("{}.fifo", "x".repeat(75)),
        ] {
            assert!(WireQueueName::parse(name).is_some(), "{name}");
        }
        let long = format!("{}.fifo", "x".repeat(76));
        for name in ["", ".fifo", "a.b", "a b", "é", "a.fifo.fifo", &"x".repeat(81), &long] {
            assert_eq!(WireQueueName::parse(name), None, "{name}");
        }
        assert!(WireQueueName::parse("orders.fifo").unwrap().is_fifo());
        assert!(!WireQueueName::parse("orders").unwrap().is_fifo());
    }

    #[test]
    fn a_queue_is_the_last_segment_of_its_url_whatever_stands_before() {
        for url in [
            "http://localhost:9324/000000000000/q",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q",
            "http://sqs.eu-west-1.localhost:4566/queue/eu-west-1/me/q/",
            "http://host/q?Action=SendMessage",
            "/000000000000/q",
            "q",
        ] {
            assert_eq!(WireQueueName::from_url(url).unwrap().as_str(), "q", "{url}");
        }
        for url in ["", "/", "http://host", "http://host/", "http://host/0/a%20b"] {
            let error = WireQueueName::from_url(url).unwrap_err();
            assert_eq!(
                error.message(),
                format!("The address {url} is not valid for this endpoint.")
            );
        }
    }

    #[test]
    fn the_url_of_a_queue_has_the_host_that_the_client_reaches() {
        let url = queue_url("http", "sandhog:9324", "000000000000", "q.fifo");
        assert_eq!(url, "http://sandhog:9324/000000000000/q.fifo");
        assert_eq!(WireQueueName::from_url(&url).unwrap().as_str(), "q.fifo");
    }

    #[test]
    fn an_arn_is_written_as_it_is_read_and_one_of_another_service_is_none() {
        let text = "arn:aws-cn:sqs:cn-north-1:123456789012:q.fifo";
        assert_eq!(QueueArn::parse(text).unwrap().to_string(), text);
        let name = WireQueueName::parse("q").unwrap();
        let arn = QueueArn::new("us-east-1", "000000000000", name);
        assert_eq!(arn.to_string(), "arn:aws:sqs:us-east-1:000000000000:q");
        for text in [
            "q",
            "arn:aws:sns:us-east-1:1:q",
            "arn:aws:sqs:us-east-1:1",
            "arn:aws:sqs:us-east-1:1:q:r",
            "arn:aws:sqs:us-east-1:1:",
        ] {
            assert_eq!(QueueArn::parse(text), None, "{text}");
        }
    }
}
