//! The running host, as a deploy sees it: its answers, and its plugin directory, which is on this machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, spawn_blocking},
    time::Instant,
};

use super::watch::{DeployedFiles, HostView};
use crate::{
    admin::wire::{HandlerForm, VersionList},
    cli::CliError,
    client::{ClientError, HostClient},
    config::Manifest,
    plugin_dir::{FileReadError, HandlerStamps, PluginDir},
    staged::HandlerBytes,
};
use sandhog_executor::{MAX_WASM_BYTES, digest};
use sandhog_queue::{
    message::QueueName,
    printable::{MAX_REASON_BYTES, printable},
};

/// The time in which the host looks at a file that was renamed into its directory: it does so every 2 s, also without an event.
const HOST_LOOKS_WITHIN: Duration = Duration::from_secs(5);

/// A host, and the handler that is deployed there.
#[derive(Debug)]
pub(crate) struct DeployHost {
    client: Arc<HostClient>,
    name: String,
    plugins: PluginDir,
    /// What ran before the deploy.
    handlers: Vec<HandlerForm>,
}

/// The files that were put into the plugin directory.
#[derive(Debug)]
pub(crate) struct PlacedFiles {
    pub(crate) files: DeployedFiles,
    stamps: HandlerStamps,
    at: Instant,
}

impl DeployHost {
    /// Asks a host for its plugin directory.
    ///
    /// # Errors
    ///
    /// The host does not answer, or its directory is not on this machine.
    pub(crate) async fn find(client: Arc<HostClient>, name: String) -> Result<Self, CliError> {
        let asked = Arc::clone(&client);
        let list = joined(spawn_blocking(move || asked.handlers()).await)?;
        let path = PathBuf::from(&list.plugins);
        if !path.is_absolute() || !path.is_dir() {
            let shown = printable(&list.plugins, MAX_REASON_BYTES);
            let why = format!(
                "the plugin directory of the host, {shown:?}, is not on this machine: run the command where the host runs"
            );
            return Err(CliError::Refused(why));
        }
        let plugins = PluginDir::new(path);
        Ok(Self {
            client,
            name,
            plugins,
            handlers: list.handlers,
        })
    }

    /// Refuses files that name the queue of another handler. The host gives such a queue to the first by name, so that a new file
    /// could put a handler out that serves.
    ///
    /// # Errors
    ///
    /// Another handler has the queue, or the manifest in the plugin directory can't be read.
    pub(crate) fn refuse_taken_queue(&self, bytes: &HandlerBytes) -> Result<(), CliError> {
        let text = match &bytes.manifest {
            Some(manifest) => Some(String::from_utf8_lossy(manifest).into_owned()),
            None => self
                .plugins
                .read_manifest(&self.name)
                .map_err(unread)?
                .map(|(text, _)| text),
        };
        // The host says what is wrong with a manifest.
        let queues = Manifest::queues_in(&text.unwrap_or_default(), &self.name);
        let has_it = |other: &&HandlerForm| {
            let queue = other.queue.as_deref();
            other.name != self.name && queue.is_some() && queue == queues.first().map(QueueName::as_str)
        };
        let Some(other) = self.handlers.iter().find(has_it) else {
            return Ok(());
        };
        let shown = |text: &str| printable(text, MAX_REASON_BYTES);
        let (queue, other) = (shown(other.queue.as_deref().unwrap_or_default()), shown(&other.name));
        Err(CliError::Refused(format!(
            "queue {queue} has the handler {other} already, and a queue has one handler: deploy with --name {other}, name another queue \
             in the manifest, or take {other}.wasm out of the plugin directory first"
        )))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn plugins(&self) -> &PluginDir {
        &self.plugins
    }

    /// Returns the digests of the files that were put into place just now, and of the manifest that is there besides.
    pub(crate) fn placed(&self, bytes: &HandlerBytes) -> Result<PlacedFiles, CliError> {
        let stamps = self.plugins.look(&self.name);
        let manifest = match &bytes.manifest {
            Some(manifest) => Some(digest(manifest)),
            None => self.manifest().map_err(unread)?,
        };
        let files = DeployedFiles {
            name: self.name.clone(),
            component: digest(&bytes.wasm),
            manifest,
        };
        let at = Instant::now();
        Ok(PlacedFiles { files, stamps, at })
    }

    fn manifest(&self) -> Result<Option<String>, FileReadError> {
        let manifest = self.plugins.read_manifest(&self.name)?;
        Ok(manifest.map(|(text, _)| digest(text.as_bytes())))
    }

    /// Looks at the host. A host that does not know the handler has no version of it.
    ///
    /// # Errors
    ///
    /// The host does not answer.
    pub(crate) async fn look(&self, placed: Option<&PlacedFiles>) -> Result<HostView, ClientError> {
        let (client, name) = (Arc::clone(&self.client), self.name.clone());
        let asked = spawn_blocking(move || {
            // The refusals are asked for first: a version that was accepted in between is not taken for a refused one.
            let handlers = client.handlers()?.handlers;
            let versions = match client.versions(&name) {
                Err(ClientError::Refused { status: 404, .. }) => VersionList::none(&name),
                other => other?,
            };
            Ok((handlers.into_iter().find(|handler| handler.name == name), versions))
        });
        let (handler, versions) = joined(asked.await)?;
        Ok(HostView {
            handler,
            versions,
            is_in_place: placed.is_none_or(|placed| self.is_in_place(placed)),
            is_looked_at: placed.is_some_and(|placed| placed.at.elapsed() >= HOST_LOOKS_WITHIN),
        })
    }

    /// Returns whether the files are those that were put there, or have the same bytes.
    fn is_in_place(&self, placed: &PlacedFiles) -> bool {
        if self.plugins.look(&self.name) == placed.stamps {
            return true;
        }
        let component = self.plugins.read_wasm(&self.name, MAX_WASM_BYTES);
        let same = component.is_ok_and(|wasm| wasm.digest == placed.files.component);
        same && self.manifest().is_ok_and(|manifest| manifest == placed.files.manifest)
    }
}

fn unread(error: FileReadError) -> CliError {
    let why = match error {
        FileReadError::Gone => "it is gone".to_owned(),
        FileReadError::BeingWritten => "somebody is writing it".to_owned(),
        FileReadError::Trouble(trouble) => trouble.reason,
    };
    CliError::Refused(format!("the manifest in the plugin directory can't be read: {why}"))
}

/// Returns the result of a task of this process that nobody aborts.
pub(crate) fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
