//! The JSON of a profile.

use serde::{Deserialize, Serialize};

use sandhog_executor::GuestProfile;

/// What the guests of a handler computed in some time: samples by stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ProfileForm {
    /// The name of the handler.
    pub handler: String,
    /// How long samples were taken, in milliseconds.
    pub time_ms: u64,
    /// The time between two samples of a guest that computes without a pause, in milliseconds.
    pub interval_ms: u64,
    /// The number of samples.
    pub samples: u64,
    /// The number of those that are in no stack, because there were more than 10,000 different stacks or functions.
    pub uncounted: u64,
    /// The names of the functions.
    pub functions: Vec<String>,
    /// The stacks, the most frequent first.
    pub stacks: Vec<StackForm>,
}

/// A stack with its samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StackForm {
    /// The functions as indices into the list of them, outermost first; at most 128.
    pub functions: Vec<usize>,
    /// The number of samples.
    pub samples: u64,
}

impl ProfileForm {
    /// Returns the form of the profile of a handler, which was taken for this long.
    pub(crate) fn new(handler: String, time_ms: u64, profile: GuestProfile) -> Self {
        let GuestProfile {
            interval,
            samples,
            uncounted,
            functions,
            stacks,
        } = profile;
        let stacks = stacks.into_iter().map(|stack| StackForm {
            functions: stack.functions,
            samples: stack.samples,
        });
        Self {
            handler,
            time_ms,
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            samples,
            uncounted,
            functions,
            stacks: stacks.collect(),
        }
    }
}
