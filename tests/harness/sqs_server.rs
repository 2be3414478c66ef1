//! Servers that speak the protocol of SQS: emulators of somebody else's, installed on first use, and our own host. Each runs on a free port
//! of 127.0.0.1, and is gone when the process that runs the tests is, however that ended.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    ops::{Deref, RangeInclusive},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use crate::{
    announce::announced, binary, pause, repository, sandhog_binary, sqs_client::SqsClient, target_directory,
    wait_closely,
};

/// A server that has not come up by then never will. The first start reads thousands of files.
const START_TIME_MAX: Duration = Duration::from_mins(2);
const OLD: Duration = Duration::from_hours(24);
const LOG_TAIL: u64 = 8 * 1024;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `examples/sqs-server`. As fast as SQS tests need, and in need of nothing. The weakest with FIFO queues.
    Rustack,
    /// The closest to SQS, by far the slowest. Needs a recent Python.
    LocalStack,
    /// Between them in both respects. Needs any Python.
    MiniStack,
    /// Our own host, on a durable store. As fast as the first, and in need of nothing.
    Sandhog,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Rustack, Self::LocalStack, Self::MiniStack, Self::Sandhog];

    fn name(self) -> &'static str {
        match self {
            Self::Rustack => "rustack",
            Self::LocalStack => "localstack",
            Self::MiniStack => "ministack",
            Self::Sandhog => "sandhog",
        }
    }

    /// The versions of Python 3 that it runs on.
    fn python(self) -> Option<RangeInclusive<u8>> {
        match self {
            Self::Rustack | Self::Sandhog => None,
            Self::LocalStack => Some(13..=14),
            Self::MiniStack => Some(10..=14),
        }
    }
}

/// A server that runs. It is a client of itself.
#[derive(Debug)]
pub struct SqsServer {
    kind: Kind,
    client: SqsClient,
    child: Child,
    log: PathBuf,
}

/// Why there is no server.
enum Failure {
    /// This machine has not what it needs.
    Missing(String),
    Broken(String),
}

impl SqsServer {
    /// The server of this kind that all tests of the process share.
    ///
    /// A machine without what it takes fails the test with what is missing. Only the one that needs a recent Python is then left
    /// out with a notice, unless `CI=true`.
    pub fn get(kind: Kind) -> Option<&'static Self> {
        static SHARED: [OnceLock<Result<Option<SqsServer>, String>>; Kind::ALL.len()] =
            [const { OnceLock::new() }; Kind::ALL.len()];
        let (_, shared) = Kind::ALL.iter().zip(&SHARED).find(|(of, _)| **of == kind).unwrap();
        let outcome = shared.get_or_init(|| {
            match announced(&format!("starting an SQS server ({kind:?})"), || Self::try_start(kind)) {
                Ok(server) => Ok(Some(server)),
                Err(Failure::Missing(why))
                    if kind == Kind::LocalStack && std::env::var_os("CI").is_none_or(|ci| ci != "true") =>
                {
                    // Past the capture of the test runner, which shows the output of failed tests only.
                    let notice = format!("\nnotice: tests on {kind:?} are left out. {why}\n\n");
                    std::io::stderr().write_all(notice.as_bytes()).unwrap();
                    Ok(None)
                }
                Err(Failure::Missing(why) | Failure::Broken(why)) => Err(why),
            }
        });
        outcome
            .as_ref()
            .unwrap_or_else(|why| panic!("{kind:?}: {why}"))
            .as_ref()
    }

    /// The servers of all kinds that this machine can run.
    pub fn all() -> Vec<&'static Self> {
        Kind::ALL.into_iter().filter_map(Self::get).collect()
    }

    /// A server of one's own, killed when dropped.
    pub fn start(kind: Kind) -> Self {
        Self::try_start(kind).unwrap_or_else(|failure| match failure {
            Failure::Missing(why) | Failure::Broken(why) => panic!("{kind:?}: {why}"),
        })
    }

    fn try_start(kind: Kind) -> Result<Self, Failure> {
        let place = target_directory().parent().unwrap().join("sqs-servers");
        fs::create_dir_all(&place).unwrap();
        let mut command = match kind.python() {
            None if kind == Kind::Sandhog => host(&place),
            None => {
                let mut command = Command::new(binary("sqs-server"));
                command.args(["127.0.0.1:0", "--until-stdin-closes"]);
                command
            }
            Some(versions) => {
                let requirements = servers().join(format!("{}.txt", kind.name()));
                let mut command = Command::new(install(kind.name(), &requirements, versions, &place)?);
                // Isolated from what the environment and the working directory would add.
                command.arg("-I").arg(servers().join("launch.py")).arg(kind.name());
                command
            }
        };
        let home = place.join(format!("{}-home", kind.name()));
        fs::create_dir_all(&home).unwrap();
        let (log_file, log) = new_log(&place, kind);
        let child = command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs([("HOME", &home), ("TMPDIR", &home)])
            // It ends when this closes, which the kernel does for a process that was killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(|error| Failure::Broken(format!("{command:?} did not start: {error}")))?;
        let mut server = Self {
            kind,
            client: SqsClient::new(""),
            child,
            log,
        };
        match server.wait_until_up() {
            Ok(()) => Ok(server),
            Err(why) => Err(Failure::Broken(format!(
                "{why}; its log ends with:\n{}",
                server.log_tail()
            ))),
        }
    }

    fn wait_until_up(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let address = self.address()?;
        self.client = SqsClient::new(&format!("http://{}", address.trim()));
        loop {
            let Err(error) = self.client.call("ListQueues", &json!({})) else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("it ended ({status})"));
            }
            if start.elapsed() > START_TIME_MAX {
                return Err(format!("it did not answer within {START_TIME_MAX:?}: {error:?}"));
            }
            pause();
        }
    }

    /// Where it says that it listens.
    fn address(&mut self) -> Result<String, String> {
        if self.kind == Kind::Sandhog {
            return wait_closely("the host to listen", || {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return Some(Err(format!("it ended ({status})")));
                }
                let log = self.log_tail();
                let (_, rest) = log.split_once("\"address\":\"")?;
                Some(Ok(rest.split_once('"')?.0.to_owned()))
            });
        }
        let mut line = String::new();
        let stdout = self.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").ok_or("it said no address")?;
        Ok(address.to_owned())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> &SqsClient {
        &self.client
    }

    /// The end of what it wrote.
    pub fn log_tail(&self) -> String {
        let mut file = File::open(&self.log).unwrap();
        let length = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL))).unwrap();
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).unwrap();
        String::from_utf8_lossy(&tail).into_owned()
    }
}

impl Deref for SqsServer {
    type Target = SqsClient;

    fn deref(&self) -> &SqsClient {
        &self.client
    }
}

impl Drop for SqsServer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Our host, in a new directory. A shell kills it when its standard input closes.
fn host(place: &Path) -> Command {
    let directory = tempfile::Builder::new()
        .prefix("sandhog-")
        .suffix(".data")
        .tempdir_in(place)
        .unwrap()
        .keep();
    fs::create_dir(directory.join("plugins")).unwrap();
    let script = "exec 3<&0; (cat <&3; kill -KILL $$) >/dev/null 2>&1 & exec \"$0\" \"$@\" </dev/null 3<&-";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(sandhog_binary());
    command.arg("run").arg(directory.join("plugins"));
    command.arg("--data").arg(directory.join("data"));
    command.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    command
}

/// Makes a file for the log, and removes those that nobody will read any more, as well as the data of hosts.
fn new_log(place: &Path, kind: Kind) -> (File, PathBuf) {
    for entry in fs::read_dir(place).unwrap().map_while(Result::ok) {
        let old = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age > OLD);
        if !entry.metadata().and_then(|about| about.modified()).is_ok_and(old) {
            continue;
        }
        // Another process may have been faster.
        match entry.path().extension().and_then(|extension| extension.to_str()) {
            Some("log") => drop(fs::remove_file(entry.path())),
            Some("data") => drop(fs::remove_dir_all(entry.path())),
            _ => {}
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{}-", kind.name()))
        .suffix(".log")
        .tempfile_in(place)
        .unwrap()
        .keep()
        .unwrap()
}

/// Where the requirements of the servers are, and the program that starts them.
fn servers() -> PathBuf {
    repository().join("tests/servers")
}

/// A Python of one of these versions with these packages, installed in the directory `name` of `place`.
///
/// # Errors
///
/// What this machine has not.
pub fn python(name: &str, requirements: &Path, versions: RangeInclusive<u8>, place: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(place).unwrap();
    install(name, requirements, versions, place).map_err(|(Failure::Missing(why) | Failure::Broken(why))| why)
}

/// Installs a server in a directory of its own, unless it is there, and returns the Python that runs it.
fn install(
    name: &str,
    requirements_file: &Path,
    versions: RangeInclusive<u8>,
    place: &Path,
) -> Result<PathBuf, Failure> {
    let requirements = fs::read_to_string(requirements_file).unwrap();
    let directory = place.join(name);
    let python = directory.join("bin/python");
    let marker = directory.join("installed");
    let lock = File::create(place.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    // Written last: what was interrupted, or is for other requirements, is done anew.
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == requirements) {
        return Ok(python);
    }
    let base = find_python(&versions).ok_or_else(|| {
        let (first, last) = (versions.start(), versions.end());
        Failure::Missing(format!(
            "It needs Python 3.{first} to 3.{last} with its module venv, as python3, python3.{first} or the like, or in \
             pyenv: install python3.{first} and python3.{first}-venv by the package manager, or run \
             `pyenv install 3.{first}`."
        ))
    })?;
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    let run = |command: &mut Command| {
        // The lock is also held by whoever has this file open, so an installation whose starter was killed keeps it
        // to its end.
        let output = command.stdin(lock.try_clone().unwrap()).output().unwrap();
        let why = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            Ok(())
        } else {
            Err(Failure::Missing(why()))
        }
    };
    run(Command::new(base).args(["-I", "-m", "venv"]).arg(&directory))?;
    run(Command::new(&python)
        .args([
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(requirements_file))?;
    fs::write(marker, requirements).unwrap();
    Ok(python)
}

/// A Python of one of these versions that can make virtual environments.
fn find_python(versions: &RangeInclusive<u8>) -> Option<PathBuf> {
    let named = std::iter::once("python3".to_owned()).chain(versions.clone().map(|minor| format!("python3.{minor}")));
    let fitting = |candidate: &Path| {
        // A command of pyenv may be there and stand for nothing, so each is asked.
        let script = "import sys, ensurepip, venv; print(sys.version_info[1], sys.executable)";
        let answer = output(Command::new(candidate).args(["-I", "-c", script]))?;
        let (minor, path) = answer.trim().split_once(' ')?;
        versions.contains(&minor.parse().ok()?).then(|| PathBuf::from(path))
    };
    named
        .map(PathBuf::from)
        .find_map(|candidate| fitting(&candidate))
        .or_else(|| pythons_of_pyenv().iter().find_map(|candidate| fitting(candidate)))
}

/// The Pythons that pyenv has, whether they are switched on or not.
fn pythons_of_pyenv() -> Vec<PathBuf> {
    let versions = output(Command::new("pyenv").args(["versions", "--bare"])).unwrap_or_default();
    versions
        .lines()
        .filter_map(|version| output(Command::new("pyenv").args(["prefix", version.trim()])))
        .map(|prefix| Path::new(prefix.trim()).join("bin/python3"))
        .collect()
}

/// What a command that can be run, and succeeds, prints.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
