//! The policies of dead letters: where those of a queue go, and whose a queue takes.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::{address::QueueArn, error::SqsError};

/// The most sources that a `RedriveAllowPolicy` names.
const MAX_SOURCES: usize = 10;

/// Where the dead letters of a queue go, and when a message becomes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// The dead-letter queue.
    pub dead_letter_target: QueueArn,
    /// The receive count at which a message that fails becomes a dead letter: 1 to 1,000.
    pub max_receive_count: u32,
}

/// Whose dead letters a queue takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveAllowPolicy {
    /// Whose.
    pub permission: RedrivePermission,
    /// The source queues, if the permission is `ByQueue`: 1 to 10.
    pub sources: Vec<QueueArn>,
}

/// Which queues may have this one as their dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedrivePermission {
    /// Every queue.
    AllowAll,
    /// No queue.
    DenyAll,
    /// Those that the policy names.
    ByQueue,
}

/// Returns the error for a value of a policy, with its reason.
fn refused(text: &str, name: &str, reason: &str) -> SqsError {
    SqsError::invalid_value(text, name, reason)
}

impl RedrivePolicy {
    /// Reads the policy from the value of the attribute.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` with the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SqsError> {
        let refuse = |reason: &str| refused(text, "RedrivePolicy", reason);
        let members: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| refuse("Redrive policy is not a valid JSON map."))?;
        let count = members
            .get("maxReceiveCount")
            .ok_or_else(|| refuse("Redrive policy does not contain mandatory attribute: maxReceiveCount."))?;
        let target = members
            .get("deadLetterTargetArn")
            .ok_or_else(|| refuse("Redrive policy does not contain mandatory attribute: deadLetterTargetArn."))?;
        if let Some(name) = members
            .keys()
            .find(|name| *name != "maxReceiveCount" && *name != "deadLetterTargetArn")
        {
            return Err(refuse(&format!(
                "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount]; {name} is not."
            )));
        }
        // Clients write the number as text too.
        let digits = count.as_str().and_then(|digits| digits.trim().parse().ok());
        let number = digits.or_else(|| count.as_u64());
        let in_range = number.filter(|number| (1..=1000).contains(number));
        let max_receive_count = in_range.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
            let shown = count.as_str().map_or_else(|| count.to_string(), str::to_owned);
            refuse(&format!(
                "Invalid value for maxReceiveCount: {shown}, valid values are from 1 to 1000 both inclusive."
            ))
        })?;
        let dead_letter_target = target
            .as_str()
            .and_then(QueueArn::parse)
            .ok_or_else(|| refuse("Invalid value for deadLetterTargetArn."))?;
        Ok(Self {
            dead_letter_target,
            max_receive_count,
        })
    }
}

impl fmt::Display for RedrivePolicy {
    /// Writes the value of the attribute.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.dead_letter_target.to_string();
        let count = self.max_receive_count;
        json!({"deadLetterTargetArn": target, "maxReceiveCount": count}).fmt(formatter)
    }
}

impl RedrivePermission {
    /// Returns the value on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowAll => "allowAll",
            Self::DenyAll => "denyAll",
            Self::ByQueue => "byQueue",
        }
    }
}

impl RedriveAllowPolicy {
    /// Reads the policy from the value of the attribute.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` with the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SqsError> {
        let refuse = |reason: &str| refused(text, "RedriveAllowPolicy", reason);
        let members: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| refuse("Redrive allow policy is not a valid JSON map."))?;
        let permission = match members.get("redrivePermission").and_then(Value::as_str) {
            Some("allowAll") => RedrivePermission::AllowAll,
            Some("denyAll") => RedrivePermission::DenyAll,
            Some("byQueue") => RedrivePermission::ByQueue,
            _ => return Err(refuse("Invalid value for redrivePermission.")),
        };
        let sources = match members.get("sourceQueueArns") {
            None => Vec::new(),
            Some(Value::Array(arns)) => {
                let arns = arns.iter().map(|arn| arn.as_str().and_then(QueueArn::parse));
                let arns: Option<Vec<_>> = arns.collect();
                arns.ok_or_else(|| refuse("Invalid value for sourceQueueArns."))?
            }
            Some(_) => return Err(refuse("Invalid value for sourceQueueArns.")),
        };
        let fits = match permission {
            RedrivePermission::ByQueue => (1..=MAX_SOURCES).contains(&sources.len()),
            RedrivePermission::AllowAll | RedrivePermission::DenyAll => sources.is_empty(),
        };
        if !fits {
            return Err(refuse(
                "sourceQueueArns has 1 to 10 ARNs when redrivePermission is byQueue, and none otherwise.",
            ));
        }
        Ok(Self { permission, sources })
    }

    /// Returns whether the queue takes the dead letters of `source`. Queues are compared by their names.
    pub fn allows(&self, source: &str) -> bool {
        match self.permission {
            RedrivePermission::AllowAll => true,
            RedrivePermission::DenyAll => false,
            RedrivePermission::ByQueue => self.sources.iter().any(|arn| arn.name.as_str() == source),
        }
    }
}

impl fmt::Display for RedriveAllowPolicy {
    /// Writes the value of the attribute.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permission = self.permission.name();
        let sources: Vec<_> = self.sources.iter().map(ToString::to_string).collect();
        if sources.is_empty() {
            json!({"redrivePermission": permission}).fmt(formatter)
        } else {
            json!({"redrivePermission": permission, "sourceQueueArns": sources}).fmt(formatter)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:dead";

    fn reason(text: &str) -> String {
        let error = RedrivePolicy::parse(text).unwrap_err();
        assert_eq!(error.code().query_code(), "InvalidParameterValue");
        let start = format!("Value {text} for parameter RedrivePolicy is invalid. Reason: ");
        error.message().strip_prefix(&start).unwrap().to_owned()
    }

    #[test]
    fn a_redrive_policy_takes_its_number_as_number_or_text_and_shows_a_number() {
        for count in ["5", "\"5\""] {
            let text = format!("{{\"deadLetterTargetArn\":\"{ARN}\",\"maxReceiveCount\":{count}}}");
            let policy = RedrivePolicy::parse(&text).unwrap();
            let shown = format!("{{\"deadLetterTargetArn\":\"{ARN}\",\"maxReceiveCount\":5}}");
            assert_eq!(policy.to_string(), shown);
        }
    }

    #[test]
    fn a_redrive_policy_that_lacks_something_says_what() {
        let missing = "Redrive policy does not contain mandatory attribute: maxReceiveCount.";
        assert_eq!(reason("{}"), missing);
        assert_eq!(reason("[]"), "Redrive policy is not a valid JSON map.");
        assert_eq!(
            reason("{\"deadLetterTargetArn\":\"dead\",\"maxReceiveCount\":5}"),
            "Invalid value for deadLetterTargetArn."
        );
        for count in ["0", "1001", "\"x\"", "1.5"] {
            let text = format!("{{\"deadLetterTargetArn\":\"{ARN}\",\"maxReceiveCount\":{count}}}");
            assert!(
                reason(&text).starts_with("Invalid value for maxReceiveCount: "),
                "{text}"
            );
        }
    }

    #[test]
    fn a_queue_takes_the_dead_letters_that_its_policy_allows() {
        let by_queue = format!("{{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"{ARN}\"]}}");
        let policy = RedriveAllowPolicy::parse(&by_queue).unwrap();
        assert!(policy.allows("dead") && !policy.allows("other"));
        assert_eq!(policy.to_string(), by_queue);
        let policy = RedriveAllowPolicy::parse("{\"redrivePermission\":\"denyAll\"}").unwrap();
        assert!(!policy.allows("dead"));
        for text in [
            "x",
            "{}",
            "{\"redrivePermission\":\"byQueue\"}",
            "{\"redrivePermission\":\"allowAll\",\"sourceQueueArns\":[\"q\"]}",
        ] {
            assert!(RedriveAllowPolicy::parse(text).is_err(), "{text}");
        }
    }
}
