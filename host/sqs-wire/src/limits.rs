//! The numbers that a request may name, and how many tags a queue may have.

use std::{collections::BTreeMap, time::Duration};

use crate::{error::SqsError, input::ListMessageMoveTasksInput};

/// The most tags of a queue.
const MAX_TAGS: usize = 50;
/// The most results of one page.
const MAX_PAGE: i64 = 1000;
/// The most move tasks that a list shows.
const MAX_TASKS: i64 = 10;
/// The most seconds that a message is hidden.
const MAX_VISIBILITY: u64 = 43_200;

/// Returns the visibility timeout that a request or an entry of a batch asks for.
///
/// # Errors
///
/// `MissingParameter` without one, `InvalidParameterValue` for one that is not 0 to 43,200 seconds.
pub fn visibility_timeout(seconds: Option<i64>) -> Result<Duration, SqsError> {
    let seconds = seconds.ok_or_else(|| SqsError::missing_parameter("VisibilityTimeout"))?;
    let timeout = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_VISIBILITY);
    timeout
        .map(Duration::from_secs)
        .ok_or_else(|| SqsError::invalid_value(seconds, "VisibilityTimeout", "Must be >= 0 and <= 43200, if provided."))
}

fn ranged(value: Option<i64>, default: i64, most: i64) -> Result<usize, SqsError> {
    let value = value.unwrap_or(default);
    let size = usize::try_from(value).ok().filter(|_| (1..=most).contains(&value));
    size.ok_or_else(|| {
        SqsError::invalid_value(
            value,
            "MaxResults",
            &format!("Must be an integer between 1 and {most}."),
        )
    })
}

/// Returns how many queues a page of a list may have: 1 to 1,000.
///
/// # Errors
///
/// `InvalidParameterValue` for another number.
pub fn page_size(max_results: Option<i64>) -> Result<usize, SqsError> {
    ranged(max_results, MAX_PAGE, MAX_PAGE)
}

/// Returns how many move tasks a list may show: 1 to 10, and 1 if the request does not say.
///
/// # Errors
///
/// `InvalidParameterValue` for another number.
pub fn listed_tasks(input: &ListMessageMoveTasksInput) -> Result<usize, SqsError> {
    ranged(input.max_results, 1, MAX_TASKS)
}

/// Refuses tags that no queue may have: more than 50, a key that has not 1 to 128 characters, or a value of more than 256.
///
/// # Errors
///
/// `InvalidParameterValue`.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), SqsError> {
    if tags.len() > MAX_TAGS {
        return Err(SqsError::invalid_parameter(format!(
            "Too many tags added. A queue has at most {MAX_TAGS}."
        )));
    }
    for (key, value) in tags {
        if !(1..=128).contains(&key.chars().count()) {
            return Err(SqsError::invalid_parameter(
                "Tag keys must be between 1 and 128 characters in length.",
            ));
        }
        if value.chars().count() > 256 {
            return Err(SqsError::invalid_parameter(
                "Tag values must be between 0 and 256 characters in length.",
            ));
        }
    }
    Ok(())
}
