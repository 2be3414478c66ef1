//! Calls a component with messages that have happened, or that could: what it sends and writes is in the answer, and happens nowhere.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{attempt::policy, config::Manifest};
use sandhog_executor::{
    CallMessage, CallReport, Component, Executor, GuestCall, GuestPolicy, LoadError, LogLine, policy::HttpGrant,
};
use sandhog_simple::SimpleStore;

/// A component whose effects happen nowhere.
#[derive(Debug)]
pub struct Rehearsal {
    executor: Arc<dyn Executor>,
    component: Component,
    policy: Arc<GuestPolicy>,
}

/// The result of one message.
#[derive(Debug)]
pub struct RehearsedCall {
    /// The verdict, the sends and the cost.
    pub report: CallReport,
    /// The lines that the guest printed, in order.
    pub log: Vec<LogLine>,
}

/// Takes from a manifest what would have an effect outside of the host: directories can't be written, and servers are reached only
/// with `http`.
pub fn without_effects(manifest: &mut Manifest, http: bool) {
    for directory in &mut manifest.grants.dirs {
        directory.write = false;
    }
    if let Some(grant) = manifest.grants.http.as_mut().filter(|_| !http) {
        // The import is there, and reaches nothing.
        *grant = HttpGrant::default();
    }
}

impl Rehearsal {
    /// Loads a component with this manifest, as the handler that is called as the file is. The bytes are `wasm`: nothing is read.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    ///
    /// # Cancel safety
    ///
    /// Safe: a compilation under way is ended.
    pub async fn load(
        executor: Arc<dyn Executor>,
        file: PathBuf,
        wasm: Bytes,
        manifest: &Manifest,
    ) -> Result<Self, LoadError> {
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let policy = Arc::new(policy(name, manifest));
        let component = executor.load(file, wasm, Arc::clone(&policy)).await?;
        Ok(Self {
            executor,
            component,
            policy,
        })
    }

    /// Returns the component.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// Calls the component with one message. Its key-value store is that of a handler before its first message.
    ///
    /// # Cancel safety
    ///
    /// Safe: the guest is interrupted.
    pub async fn call(&self, message: CallMessage) -> RehearsedCall {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log = Arc::new(move |line| sink.lock().push(line));
        let empty_store = || SimpleStore::ephemeral().keyvalue(&self.policy.handler);
        let keyvalue = self.policy.grants.keyvalue.then(empty_store);
        let call = GuestCall {
            messages: vec![message],
            policy: Arc::clone(&self.policy),
            log,
            keyvalue,
            trace: None,
        };
        let report = self.executor.run(&self.component, call).await;
        let log = std::mem::take(&mut *lines.lock());
        RehearsedCall { report, log }
    }
}
