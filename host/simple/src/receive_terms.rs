//! How one receive takes messages, where that differs from what a handler's receive does.

use std::time::Duration;

/// The terms of one receive. The default is that of a handler of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveTerms {
    /// How long the receive hides its messages, up to 12 h. 0 hides them not at all: they are counted as received, and their receipts
    /// are expired. `None`: as long as the queue's settings say.
    pub visibility_timeout: Option<Duration>,
    /// The receive may take several messages of a message group, in their order. Without it, it takes one of each group.
    pub whole_groups: bool,
    /// The messages go to a receiver outside of the host. Its code can't take the host down, so a message that is with it when the
    /// host dies becomes no suspect, and poison isolation holds it not back.
    pub outside: bool,
}

impl ReceiveTerms {
    /// The terms of a receiver outside of the host.
    pub const OUTSIDE: Self = Self {
        visibility_timeout: None,
        whole_groups: false,
        outside: true,
    };
}
