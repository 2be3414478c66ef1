//! The results of loads: a version to serve, the version that served last in its place, or a refusal to report.

use tokio::time::Instant;

use super::{
    Reload,
    handler_files::HandlerFiles,
    load::{AcceptedVersion, LoadRefusal, LoadReport},
    no_queue,
};
use crate::handler_set::RefusedVersion;
use sandhog_queue::QueueError;

impl Reload {
    /// Takes the version of a load, or the version that served last in its place, and reports a refusal.
    pub(crate) async fn loaded(&mut self, loaded: LoadReport) -> Result<(), QueueError> {
        let LoadReport {
            name,
            stamps,
            history,
            version,
            fallback,
            older,
            digest,
        } = loaded;
        if let Some(history) = history {
            self.rollouts.know(&name, history, digest.clone());
        }
        if older.is_some() {
            self.change(&name, HandlerFiles::loaded_older);
            return self.loaded_older(&name, version).await;
        }
        let refusal = match version {
            // It is loaded again with what is known by now.
            Ok(accepted) if self.rollouts.is_outdated(&name, &accepted) => LoadRefusal::FilesChanged,
            Ok(accepted) => match self.accept(&name, accepted, None).await? {
                None => {
                    self.change(&name, |files| files.settle(stamps));
                    self.loaded_promotion(&name, None);
                    return Ok(());
                }
                Some(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        // Files that changed are read again at once, and what becomes of them is the answer.
        if refusal != LoadRefusal::FilesChanged {
            self.loaded_promotion(&name, Some(&refusal));
        }
        let now = Instant::now();
        let fallback_trouble = self.fall_back(&name, fallback, &refusal).await?;
        match refusal {
            LoadRefusal::FilesChanged => self.change(&name, |files| files.changed(now)),
            LoadRefusal::BeingWritten(why) => {
                self.change(&name, |files| files.wait_for_writer(now));
                self.being_written(&name, &why);
            }
            LoadRefusal::Transient(why) => {
                self.change(&name, |files| files.try_again(now));
                self.refused(&name, &why, true, None);
            }
            LoadRefusal::Final(why) => {
                if let Some(trouble) = fallback_trouble {
                    // The same files are refused again the next time, but the version that served last may be readable.
                    self.change(&name, |files| files.try_again(now));
                    let why = format!("{why}; the version that served last can't serve now: {trouble}");
                    self.refused(&name, &why, true, None);
                } else {
                    self.change(&name, |files| files.settle(stamps));
                    self.refused(&name, &why, false, digest.as_deref());
                }
            }
        }
        Ok(())
    }

    /// Takes the version that served last in place of files that were refused. Returns the reason if that can't be done now.
    async fn fall_back(
        &mut self,
        name: &str,
        fallback: Result<Option<AcceptedVersion>, LoadRefusal>,
        refusal: &LoadRefusal,
    ) -> Result<Option<String>, QueueError> {
        let why = match refusal {
            // The files are read again at once.
            LoadRefusal::FilesChanged => return Ok(None),
            LoadRefusal::BeingWritten(why) | LoadRefusal::Transient(why) | LoadRefusal::Final(why) => why,
        };
        let refusal = match fallback {
            Ok(None) => None,
            Ok(Some(accepted)) => self.accept(name, accepted, Some(why)).await?,
            Err(refusal) => Some(refusal),
        };
        Ok(refusal.and_then(LoadRefusal::into_transient_reason))
    }

    /// Takes a version as the newest. Returns the reason if that can't be done now.
    pub(crate) async fn accept(
        &mut self,
        name: &str,
        accepted: AcceptedVersion,
        fallback_because: Option<&str>,
    ) -> Result<Option<LoadRefusal>, QueueError> {
        let versions = self.rollouts.accept(name, accepted, fallback_because);
        match self.handlers.accept(name, versions).await {
            Ok(()) => {
                // The log has the clash of this version even if the version before it had the same.
                self.change(name, |files| files.reported_clash = None);
                Ok(None)
            }
            Err(error) if error.is_transient() => Ok(Some(LoadRefusal::Transient(no_queue(&error)))),
            Err(error) => Err(error),
        }
    }

    /// Reports once that another process is writing a file.
    fn being_written(&mut self, name: &str, why: &str) {
        let Some(files) = self.files.get_mut(name) else { return };
        if files.reported.replace(why.to_owned()).as_deref() != Some(why) {
            tracing::info!(handler = name, why, "a handler waits for its file");
        }
        self.handlers.statuses().waiting(name, why);
    }

    /// Reports that the files of a handler were refused. The log has each reason once. `component` is the digest of the component if
    /// that is for good.
    pub(crate) fn refused(&mut self, name: &str, reason: &str, is_transient: bool, component: Option<&str>) {
        let Some(files) = self.files.get_mut(name) else { return };
        let known = files.reported.replace(reason.to_owned()).as_deref() == Some(reason);
        let refused = RefusedVersion {
            component: component.map(str::to_owned),
            reason: reason.to_owned(),
            is_transient,
            known,
        };
        self.handlers.refused(name, &refused);
    }
}
