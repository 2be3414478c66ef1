//! The requests with which an operator steers the host.

use std::time::Duration;

use super::{ClientError, HostClient, escape};
use crate::admin::wire::{
    AffectedMessages, DeletedQueue, DrainForm, EndedDrain, HaltForm, ProfileForm, QueueForm, ReloadAnswer, ResumeAnswer,
};

/// An order to pause.
#[derive(Debug, Clone, Copy)]
pub struct HaltRequest<'r> {
    /// The name of the queue or of the handler.
    pub name: &'r str,
    /// It is a handler.
    pub is_handler: bool,
    /// Why, for people.
    pub reason: &'r str,
    /// After what time it ends by itself.
    pub length: Option<Duration>,
    /// The same as a time in the form of RFC 3339; not beside a length.
    pub until: Option<&'r str>,
}

impl HostClient {
    /// Pauses a queue or a handler.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn pause(&self, order: &HaltRequest<'_>) -> Result<HaltForm, ClientError> {
        let path = place(order.name, order.is_handler);
        let reason = escape(order.reason);
        let length = order
            .length
            .map(|length| format!("&for={}", escape(&humantime::format_duration(length).to_string())));
        let until = order.until.map(|until| format!("&until={}", escape(until)));
        let end: String = [length, until].into_iter().flatten().collect();
        self.call("POST", &format!("{path}/pause?reason={reason}{end}"), None::<&()>)
    }

    /// Ends the pause of a queue or of a handler.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn resume(&self, name: &str, is_handler: bool) -> Result<ResumeAnswer, ClientError> {
        self.call("POST", &format!("{}/resume", place(name, is_handler)), None::<&()>)
    }

    /// Takes a profile of a handler for this time, 20 s at most, and waits for it.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn profile(&self, handler: &str, time: Duration) -> Result<ProfileForm, ClientError> {
        let path = format!("{}/profile?for={}ms", place(handler, true), time.as_millis());
        self.call("GET", &path, None::<&()>)
    }

    /// Deletes the messages of a queue that are not in flight.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn purge(&self, queue: &str) -> Result<AffectedMessages, ClientError> {
        self.call("DELETE", &format!("/queues/{}/messages", escape(queue)), None::<&()>)
    }

    /// Returns the counts of a queue.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn queue(&self, queue: &str) -> Result<QueueForm, ClientError> {
        self.call("GET", &format!("/queues/{}", escape(queue)), None::<&()>)
    }

    /// Deletes a queue that nothing declares; with `dry_run` only says what would go, or why it can't.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn delete_queue(&self, queue: &str, with_messages: bool, dry_run: bool) -> Result<DeletedQueue, ClientError> {
        let path = format!(
            "/queues/{}?with-messages={with_messages}&dry-run={dry_run}",
            escape(queue)
        );
        self.call("DELETE", &path, None::<&()>)
    }

    /// Orders that no handler receives. Returns what is in flight.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn drain(&self) -> Result<DrainForm, ClientError> {
        self.call("POST", "/drain", None::<&()>)
    }

    /// Waits until the host is drained, for at most `wait` (20 s at most), and returns how far that has come.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn drained(&self, wait: Duration) -> Result<DrainForm, ClientError> {
        self.call("GET", &format!("/drain?wait={}ms", wait.as_millis()), None::<&()>)
    }

    /// Ends a drain.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn end_drain(&self) -> Result<EndedDrain, ClientError> {
        self.call("POST", "/drain/end", None::<&()>)
    }

    /// Lets the host read its configuration again.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn reload(&self) -> Result<ReloadAnswer, ClientError> {
        self.call("POST", "/reload", None::<&()>)
    }
}

fn place(name: &str, is_handler: bool) -> String {
    let kind = if is_handler { "handlers" } else { "queues" };
    format!("/{kind}/{}", escape(name))
}
