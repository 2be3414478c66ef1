//! Components that came in by a page: what the check says of each, and how one gets into the plugin directory.
//!
//! Invariant: nothing here writes a manifest. A component gets into place only as the file of a handler that the plugin directory has,
//! only beside the manifest that it was checked with, only over the file that was there then, as a look right before tells, and only for
//! the one who has sent it. Its bytes are on the disk for 15 minutes at most, and there are at most four of them, besides two that come
//! in or are checked. Knows nothing of HTTP.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::incoming::remove_all;
use crate::{
    config::{ConfigErrors, Manifest, environment},
    plugin_dir::PluginDir,
    staged::{HandlerBytes, StagedFiles, StagingError},
    trial::{ComponentTrial, Facts, InspectedFile, TrialError},
};
use sandhog_executor::{MAX_WASM_BYTES, digest};
use sandhog_queue::{alarm::wake_at, printable::chain};

mod incoming;
mod place;

pub(crate) use self::{
    incoming::{IncomingComponent, StoredComponent},
    place::DeployPlace,
};

/// The directory below the data directory with the bytes that came in.
const DIRECTORY: &str = "uploads.tmp";
/// The most components that are kept after their check.
const MOST_KEPT: usize = 4;
/// The most components that come in, or wait for their check, at a time: beside one that is slow another gets by.
const MOST_COMING: usize = 2;
/// How long a component that was checked can be deployed.
const LIFE: Duration = Duration::from_mins(15);
/// How long a look at the plugin directory may take: it can be on another machine.
const LOOK_TIME: Duration = Duration::from_secs(3);

/// Why a component was not taken, checked or deployed. The plugin directory is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskRefused {
    /// The plugin directory has no such handler.
    #[error(
        "the plugin directory has no {0}.wasm: a page replaces the component of a handler that is there, and makes none"
    )]
    NoHandler(String),
    /// The component is a link to a file that somebody else puts there.
    #[error(
        "{0}.wasm is a link, as those of a ConfigMap or of a volume with an image are: what put it there would put it there again, so deploy where it comes from"
    )]
    Link(String),
    /// The plugin directory is mounted read-only.
    #[error("the plugin directory is on a file system that is mounted read-only: deploy where its files come from")]
    ReadOnly,
    /// The process has no right to write.
    #[error("the user that the host runs as may not write into the plugin directory")]
    NoRight,
    /// The plugin directory, or a file in it, can't be read now.
    #[error("the plugin directory can't be read ({file}): {why}")]
    Unread {
        /// The name of the file.
        file: String,
        /// The reason.
        why: String,
    },
    /// The manifest has mistakes.
    #[error("the manifest in the plugin directory has mistakes, so it can't be said what it grants: {0}")]
    Manifest(ConfigErrors),
    /// So many come in already.
    #[error("{MOST_COMING} components come in or are checked already: try again in a moment")]
    Busy,
    /// The component is too large.
    #[error(
        "the file has more than {MAX_WASM_BYTES} bytes, the most that a component may have; nothing of it was kept"
    )]
    TooLarge,
    /// The component has no bytes.
    #[error("no file was chosen, or an empty one")]
    Empty,
    /// The bytes could not be kept.
    #[error("the file can't be kept in the data directory")]
    Kept(#[source] io::Error),
    /// The check could not be made.
    #[error("the check could not be made")]
    Trial(#[source] TrialError),
    /// The host stops.
    #[error("the host stops: nothing was done")]
    Stopping,
    /// There is no such check.
    #[error(
        "nothing was deployed: this check is over. A component can be deployed for 15 minutes after its check, once, by the session that has sent it, and not after a restart of the host: send it again"
    )]
    Gone,
    /// The host would refuse the component.
    #[error("nothing was deployed: the host would refuse the component")]
    Refused,
    /// The component is in the plugin directory.
    #[error("nothing was deployed: the file in the plugin directory is this component already")]
    InPlace,
    /// Somebody has changed the files of the handler.
    #[error(
        "nothing was deployed: somebody has changed {0} in the plugin directory since the check, so send the file again"
    )]
    Changed(String),
    /// The component could not be put into place.
    #[error("nothing was deployed, and nothing is left behind")]
    Staging(#[from] StagingError),
}

/// Whose component it is, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckKey {
    /// Names the one who has sent it.
    pub(crate) owner: String,
    /// The name of the handler.
    pub(crate) handler: String,
    /// The digest of the component.
    pub(crate) digest: String,
}

/// What the check says of a component.
#[derive(Debug)]
pub(crate) struct CheckedComponent {
    /// The SHA-256 digest of the component.
    pub(crate) digest: String,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// Why the host would refuse it, if it would.
    pub(crate) refusal: Option<String>,
    /// What else there is to say.
    pub(crate) facts: Facts,
    /// The files of the handler, as they were then.
    pub(crate) place: DeployPlace,
}

impl CheckedComponent {
    /// Returns whether the file in the plugin directory is this component.
    pub(crate) fn is_in_place(&self) -> bool {
        self.place.component == self.digest
    }
}

/// A component that is in the plugin directory.
#[derive(Debug)]
pub(crate) struct DeployedComponent {
    /// What the check had said.
    pub(crate) checked: Arc<CheckedComponent>,
    /// Why it may be gone after a loss of power.
    pub(crate) warning: Option<String>,
}

/// A component that was checked, and the manifest that it was checked with.
#[derive(Debug)]
pub(crate) struct CheckedFiles {
    /// The bytes of the component.
    pub(crate) wasm: Bytes,
    /// The manifest.
    pub(crate) manifest: Manifest,
}

#[derive(Debug)]
struct KeptComponent {
    key: CheckKey,
    until: Instant,
    checked: Arc<CheckedComponent>,
    /// `None` if it can't be deployed.
    bytes: Option<StoredComponent>,
}

/// Where components come in.
#[derive(Debug)]
pub struct DeployDesk {
    plugins: PluginDir,
    directory: PathBuf,
    looking: Arc<Semaphore>,
    coming: Arc<Semaphore>,
    checking: Arc<Semaphore>,
    placing: Arc<Semaphore>,
    kept: Mutex<Vec<KeptComponent>>,
    changed: Notify,
    last: AtomicU64,
    stop: CancellationToken,
}

impl DeployDesk {
    /// A desk for a plugin directory, which keeps what comes in below a data directory. A check ends with `stop`.
    pub fn new(plugins: PluginDir, data: &Path, stop: CancellationToken) -> Self {
        Self {
            plugins,
            directory: data.join(DIRECTORY),
            looking: Arc::new(Semaphore::new(1)),
            coming: Arc::new(Semaphore::new(MOST_COMING)),
            checking: Arc::new(Semaphore::new(1)),
            placing: Arc::new(Semaphore::new(1)),
            kept: Mutex::default(),
            changed: Notify::new(),
            last: AtomicU64::new(0),
            stop,
        }
    }

    /// Removes what is left of an earlier run in a data directory. Blocks on the disk.
    pub fn remove_left(data: &Path) {
        remove_all(&data.join(DIRECTORY));
    }

    /// Removes each component when its time is over, for as long as the future is polled.
    pub async fn follow(&self) -> Infallible {
        loop {
            let now = Instant::now();
            let (gone, next) = {
                let mut kept = self.kept.lock();
                let gone: Vec<_> = kept.extract_if(.., |one| one.until <= now).collect();
                (gone, kept.iter().map(|one| one.until).min())
            };
            drop(gone);
            tokio::select! {
                () = wake_at(next) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Returns why nothing can be deployed for a handler, as far as that can be seen beforehand.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn obstacle(&self, handler: &str) -> Option<DeskRefused> {
        let (plugins, handler) = (self.plugins.clone(), handler.to_owned());
        // A directory that does not answer holds up one thread, and no page for long.
        let looking = async {
            let turn = Arc::clone(&self.looking).acquire_owned().await;
            let looked = spawn_blocking(move || {
                let obstacle = place::obstacle(&plugins, &handler).err();
                drop(turn);
                obstacle
            });
            looked.await.unwrap_or(Some(DeskRefused::Stopping))
        };
        let silent = || DeskRefused::Unread {
            file: "what is there".to_owned(),
            why: format!("it does not answer within {}", humantime::format_duration(LOOK_TIME)),
        };
        timeout(LOOK_TIME, looking)
            .await
            .unwrap_or_else(|_elapsed| Some(silent()))
    }

    /// Begins to take the bytes of a component.
    ///
    /// # Errors
    ///
    /// [`DeskRefused::Busy`], [`DeskRefused::Kept`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn begin(&self) -> Result<IncomingComponent, DeskRefused> {
        let permit = Arc::clone(&self.coming).try_acquire_owned();
        let permit = permit.map_err(|_none| DeskRefused::Busy)?;
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        IncomingComponent::begin(&self.directory, number, permit).await
    }

    /// Checks a component with the manifest that its handler has now, and keeps it if it can be deployed. One at a time.
    ///
    /// # Errors
    ///
    /// See [`DeskRefused`]. Nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets a check that has begun go on, and drops what comes of it.
    pub(crate) async fn check(
        &self,
        stored: StoredComponent,
        handler: &str,
        owner: &str,
    ) -> Result<Arc<CheckedComponent>, DeskRefused> {
        let turn = tokio::select! {
            turn = Arc::clone(&self.checking).acquire_owned() => turn.map_err(|_closed| DeskRefused::Stopping)?,
            () = self.stop.cancelled() => return Err(DeskRefused::Stopping),
        };
        let (plugins, name, stop) = (self.plugins.clone(), handler.to_owned(), self.stop.clone());
        let inspecting = spawn_blocking(move || {
            let checked = inspect(&plugins, &stored, &name, stop);
            drop(turn);
            checked.map(|checked| (checked, stored))
        });
        let inspected = inspecting.await;
        let (checked, mut stored) = inspected.unwrap_or_else(|error| {
            tracing::error!(%error, "a component could not be checked");
            Err(DeskRefused::Stopping)
        })?;
        stored.arrived();
        let checked = Arc::new(checked);
        self.keep(KeptComponent {
            key: CheckKey {
                owner: owner.to_owned(),
                handler: handler.to_owned(),
                digest: checked.digest.clone(),
            },
            until: Instant::now() + LIFE,
            bytes: (checked.refusal.is_none() && !checked.is_in_place()).then_some(stored),
            checked: Arc::clone(&checked),
        });
        Ok(checked)
    }

    /// Keeps a component in place of those that its sender had for the handler. The oldest makes room.
    fn keep(&self, fresh: KeptComponent) {
        let gone = {
            let mut kept = self.kept.lock();
            let is_earlier =
                |one: &mut KeptComponent| one.key.owner == fresh.key.owner && one.key.handler == fresh.key.handler;
            let mut gone: Vec<_> = kept.extract_if(.., is_earlier).collect();
            let over = (kept.len() + 1).saturating_sub(MOST_KEPT);
            gone.extend(kept.drain(..over));
            kept.push(fresh);
            gone
        };
        drop(gone);
        self.changed.notify_one();
    }

    /// Returns what the check said of a component that is kept.
    ///
    /// # Errors
    ///
    /// [`DeskRefused::Gone`].
    pub(crate) fn checked(&self, key: &CheckKey) -> Result<Arc<CheckedComponent>, DeskRefused> {
        let (now, kept) = (Instant::now(), self.kept.lock());
        let found = kept.iter().find(|one| one.key == *key && one.until > now);
        found.map(|one| Arc::clone(&one.checked)).ok_or(DeskRefused::Gone)
    }

    /// Reads a component that was checked and can be deployed. It stays where it is.
    ///
    /// # Errors
    ///
    /// See [`DeskRefused`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn files(&self, key: &CheckKey) -> Result<CheckedFiles, DeskRefused> {
        let checked = self.checked(key)?;
        let path = {
            let kept = self.kept.lock();
            let found = kept.iter().find(|one| one.key == *key);
            found
                .and_then(|one| one.bytes.as_ref())
                .map(|bytes| bytes.path().to_owned())
        };
        let path = path.ok_or(DeskRefused::Gone)?;
        let (plugins, key) = (self.plugins.clone(), key.clone());
        let reading = spawn_blocking(move || {
            // It may have been deployed meanwhile, or its time may be over.
            let wasm = incoming::read(&path).map_err(|_gone| DeskRefused::Gone)?;
            if digest(&wasm) != key.digest {
                return Err(DeskRefused::Gone);
            }
            let (now, text) = DeployPlace::look(&plugins, &key.handler)?;
            if now.manifest != checked.place.manifest {
                return Err(DeskRefused::Changed(format!("{}.toml", key.handler)));
            }
            Ok(CheckedFiles {
                wasm: wasm.into(),
                manifest: manifest_of(&plugins, &key.handler, text.as_deref())?,
            })
        });
        reading.await.unwrap_or(Err(DeskRefused::Stopping))
    }

    /// Puts a component that was checked into place, once.
    ///
    /// # Errors
    ///
    /// See [`DeskRefused`]. After [`DeskRefused::Staging`] the component is kept for another try.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may or may not have put the component into place.
    pub(crate) async fn deploy(&self, key: &CheckKey) -> Result<DeployedComponent, DeskRefused> {
        let turn = Arc::clone(&self.placing).acquire_owned().await;
        let turn = turn.map_err(|_closed| DeskRefused::Stopping)?;
        let checked = self.checked(key)?;
        if checked.refusal.is_some() {
            return Err(DeskRefused::Refused);
        }
        if checked.is_in_place() {
            return Err(DeskRefused::InPlace);
        }
        let kept = {
            let mut kept = self.kept.lock();
            let at = kept.iter().position(|one| one.key == *key);
            at.map(|at| kept.remove(at))
        };
        let kept = kept.ok_or(DeskRefused::Gone)?;
        let plugins = self.plugins.clone();
        let placing = spawn_blocking(move || {
            let placed = put_into_place(&plugins, &kept);
            drop(turn);
            (placed, kept)
        });
        let (placed, kept) = placing.await.map_err(|error| {
            tracing::error!(%error, "a component could not be put into place");
            DeskRefused::Stopping
        })?;
        if matches!(placed, Err(DeskRefused::Staging(_))) {
            self.keep(kept);
        }
        placed.map(|warning| DeployedComponent { checked, warning })
    }
}

/// Parses the manifest of a handler. It reads the files that the manifest names.
fn manifest_of(plugins: &PluginDir, handler: &str, text: Option<&str>) -> Result<Manifest, DeskRefused> {
    let parsed = match text {
        Some(text) => Manifest::parse_in(text, handler, plugins.base(), &environment),
        None => Manifest::defaults(handler),
    };
    parsed.map_err(DeskRefused::Manifest)
}

/// Inspects a component as `sandhog check` does, with the manifest that is there.
fn inspect(
    plugins: &PluginDir,
    stored: &StoredComponent,
    handler: &str,
    stop: CancellationToken,
) -> Result<CheckedComponent, DeskRefused> {
    place::obstacle(plugins, handler)?;
    let (place, manifest) = DeployPlace::look(plugins, handler)?;
    let manifest = manifest_of(plugins, handler, manifest.as_deref())?;
    let file = PathBuf::from(format!("{handler}.wasm"));
    let inspected = InspectedFile {
        file: &file,
        wasm: Bytes::from(stored.read().map_err(DeskRefused::Kept)?),
        manifest,
        // The handlers of this host come first.
        urgent: false,
    };
    let inspection = ComponentTrial::inspect_until(inspected, stop.cancelled_owned());
    let mut inspection = inspection.map_err(|error| {
        if matches!(error, TrialError::Stopped) {
            DeskRefused::Stopping
        } else {
            DeskRefused::Trial(error)
        }
    })?;
    if let Some(refusal) = inspection.refusal.take_if(|refusal| refusal.is_transient()) {
        // The machine did not let it find out.
        return Err(DeskRefused::Trial(refusal.into()));
    }
    Ok(CheckedComponent {
        refusal: inspection.refusal.as_ref().map(|refusal| chain(refusal)),
        facts: inspection.facts(),
        digest: inspection.digest,
        size: inspection.size,
        place,
    })
}

/// Returns what there is to warn of once the component is in place.
fn put_into_place(plugins: &PluginDir, kept: &KeptComponent) -> Result<Option<String>, DeskRefused> {
    let CheckKey {
        handler, digest: named, ..
    } = &kept.key;
    place::obstacle(plugins, handler)?;
    let (now, _) = DeployPlace::look(plugins, handler)?;
    if let Some(extension) = now.differs_from(&kept.checked.place) {
        return Err(DeskRefused::Changed(format!("{handler}.{extension}")));
    }
    let stored = kept.bytes.as_ref().ok_or(DeskRefused::Gone)?;
    let wasm = stored.read().map_err(DeskRefused::Kept)?;
    if digest(&wasm) != *named {
        return Err(DeskRefused::Gone);
    }
    let bytes = HandlerBytes {
        name: handler.clone(),
        wasm,
        manifest: None,
    };
    let error = match StagedFiles::write(plugins.path(), &bytes)?.rename() {
        Ok(renamed) => renamed.sync().err(),
        // The file system of another machine can have renamed the file and fail to say so.
        Err(error) => match DeployPlace::look(plugins, handler) {
            Ok((now, _)) if now.component == *named => Some(error),
            Ok(_) | Err(_) => return Err(error.into()),
        },
    };
    Ok(error.map(|error| unsure(&error)))
}

/// A component has its name, and the name may not be on the disk yet.
fn unsure(error: &StagingError) -> String {
    let error = chain(error);
    tracing::warn!(error, "a component is in place, but may be gone after a loss of power");
    format!("it may be gone after a loss of power, since its name could not be written down to the disk: {error}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    struct Place {
        data: TempDir,
        desk: DeployDesk,
    }

    impl Place {
        fn new() -> Self {
            let data = tempfile::tempdir().unwrap();
            let plugins = PluginDir::new(data.path().join("plugins"));
            let desk = DeployDesk::new(plugins, data.path(), CancellationToken::new());
            Self { data, desk }
        }

        /// The files of what came in.
        fn files(&self) -> usize {
            fs::read_dir(self.data.path().join(DIRECTORY)).map_or(0, Iterator::count)
        }

        async fn stored(&self) -> StoredComponent {
            let mut incoming = self.desk.begin().await.unwrap();
            incoming.write(b"bytes").await.unwrap();
            let mut stored = incoming.finish().await.unwrap();
            stored.arrived();
            stored
        }

        async fn keep(&self, key: &CheckKey) {
            self.desk.keep(KeptComponent {
                key: key.clone(),
                until: Instant::now() + LIFE,
                checked: Arc::new(CheckedComponent {
                    digest: key.digest.clone(),
                    size: 5,
                    refusal: None,
                    facts: Vec::new(),
                    place: DeployPlace {
                        component: String::new(),
                        size: 0,
                        manifest: None,
                    },
                }),
                bytes: Some(self.stored().await),
            });
        }
    }

    fn key(owner: &str, handler: &str, digest: &str) -> CheckKey {
        CheckKey {
            owner: owner.to_owned(),
            handler: handler.to_owned(),
            digest: digest.to_owned(),
        }
    }

    #[tokio::test]
    async fn few_components_are_kept_and_one_of_a_sender_for_a_handler() {
        let place = Place::new();
        let first = key("a", "orders", "1");
        place.keep(&first).await;
        place.keep(&key("a", "orders", "2")).await;
        assert!(place.desk.checked(&first).is_err());
        assert_eq!(place.files(), 1);
        for number in 0..10 {
            place.keep(&key("b", &format!("handler-{number}"), "1")).await;
        }
        assert_eq!(place.files(), MOST_KEPT);
        assert!(place.desk.checked(&key("b", "handler-9", "1")).is_ok());
        assert!(place.desk.checked(&key("a", "handler-9", "1")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_goes_when_its_time_is_over() {
        let place = Place::new();
        let kept = key("a", "orders", "1");
        place.keep(&kept).await;
        assert!(
            timeout(LIFE.saturating_sub(Duration::from_secs(1)), place.desk.follow())
                .await
                .is_err()
        );
        assert!(place.desk.checked(&kept).is_ok());
        assert!(timeout(Duration::from_secs(2), place.desk.follow()).await.is_err());
        assert!(place.desk.checked(&kept).is_err());
        assert_eq!(place.files(), 0);
    }

    #[tokio::test]
    async fn a_component_counts_as_one_that_comes_in_until_its_check_is_over() {
        let place = Place::new();
        let (one, other) = (place.desk.begin().await.unwrap(), place.desk.begin().await.unwrap());
        assert!(matches!(place.desk.begin().await, Err(DeskRefused::Busy)));
        drop(one);
        let mut again = place.desk.begin().await.unwrap();
        again.write(b"bytes").await.unwrap();
        let mut stored = again.finish().await.unwrap();
        assert!(matches!(place.desk.begin().await, Err(DeskRefused::Busy)));
        stored.arrived();
        assert!(place.desk.begin().await.is_ok());
        drop((other, stored));
        assert_eq!(place.files(), 0);
    }

    #[test]
    fn what_an_earlier_run_has_left_goes() {
        let place = Place::new();
        let left = place.data.path().join(DIRECTORY);
        fs::create_dir(&left).unwrap();
        fs::write(left.join("7"), "bytes").unwrap();
        DeployDesk::remove_left(place.data.path());
        assert!(!left.exists());
        DeployDesk::remove_left(place.data.path());
    }
}
