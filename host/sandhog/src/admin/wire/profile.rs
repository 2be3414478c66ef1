//! The JSON of a profile, and what each function of one costs.

use std::collections::BTreeSet;

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

/// The cost of one function of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionCost {
    /// The function, as an index into [`ProfileForm::functions`].
    pub function: usize,
    /// The samples in the function itself.
    pub own: u64,
    /// The samples in it and in what it called.
    pub all: u64,
}

impl ProfileForm {
    /// Returns the name of a function; `?` if the form has none with this index.
    pub fn name(&self, function: usize) -> &str {
        self.functions.get(function).map_or("?", String::as_str)
    }

    /// Returns the cost of each function, the greatest first.
    pub fn costs(&self) -> Vec<FunctionCost> {
        let none = |function| FunctionCost {
            function,
            own: 0,
            all: 0,
        };
        let mut costs: Vec<FunctionCost> = (0..self.functions.len()).map(none).collect();
        for stack in &self.stacks {
            if let Some(cost) = stack.functions.last().and_then(|index| costs.get_mut(*index)) {
                cost.own += stack.samples;
            }
            // A function that calls itself is in the stack once.
            let on_stack: BTreeSet<usize> = stack.functions.iter().copied().collect();
            for index in on_stack {
                if let Some(cost) = costs.get_mut(index) {
                    cost.all += stack.samples;
                }
            }
        }
        costs.sort_by_key(|cost| std::cmp::Reverse((cost.own, cost.all)));
        costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_the_samples_in_itself_and_in_what_it_called() {
        let stack = |functions: &[usize], samples| StackForm {
            functions: functions.to_vec(),
            samples,
        };
        let form = ProfileForm {
            handler: "in".to_owned(),
            time_ms: 1000,
            interval_ms: 5,
            samples: 10,
            uncounted: 0,
            functions: ["main", "parse", "render"].map(str::to_owned).to_vec(),
            stacks: vec![stack(&[0, 1, 1], 6), stack(&[0, 2], 3), stack(&[0], 1)],
        };
        let costs: Vec<_> = form
            .costs()
            .iter()
            .map(|cost| (cost.function, cost.own, cost.all))
            .collect();
        assert_eq!(costs, [(1, 6, 6), (2, 3, 3), (0, 1, 10)]);
        assert_eq!((form.name(2), form.name(3)), ("render", "?"));
    }
}
