//! The SDKs of AWS for several languages, as clients of the SQS endpoint: each is fetched from the registry of its language by
//! the pins in `tests/toolchains/sqs-clients`, and runs one file of source.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use crate::{
    repository,
    toolchains::{directory, made_of, maven_libraries, node_modules, run, shell},
};

/// An SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqsSdk {
    /// boto3.
    Python,
    /// The command line, version 1: the registry has no other.
    CommandLine,
    /// The JavaScript SDK, version 3, on Node.
    JavaScript,
    /// The Java SDK, version 2.
    Java,
    /// The Java SDK, version 1, of the time when it spoke the query protocol.
    Java1,
    /// The Go SDK, version 2.
    Go,
    /// `aws-sdk-sqs`.
    Rust,
}

fn pins() -> PathBuf {
    repository().join("tests/toolchains/sqs-clients")
}

impl SqsSdk {
    /// The command that runs a program. `place` is an empty directory. A program in Python gets the arguments that are added.
    pub fn command(self, place: &Path, program: &str) -> Command {
        match self {
            Self::Python => {
                let bin = python_packages("boto3");
                written(place, "orders.py", program);
                in_shell(place, &format!("'{}/python' orders.py \"$@\"", bin.display()))
            }
            Self::CommandLine => {
                let bin = python_packages("awscli");
                written(place, "orders.sh", program);
                in_shell(place, &format!("PATH='{}':\"$PATH\" sh -e orders.sh", bin.display()))
            }
            Self::JavaScript => {
                let made = directory().join("sqs-javascript");
                node_modules(&pins(), &made).unwrap_or_else(|why| panic!("{why}"));
                symlink(made.join("node_modules"), place.join("node_modules")).unwrap();
                written(place, "orders.mjs", program);
                in_shell(place, "node orders.mjs")
            }
            Self::Java => java(place, "java", program),
            Self::Java1 => java(place, "java-1", program),
            Self::Go => {
                for file in ["go.mod", "go.sum"] {
                    fs::copy(pins().join("go").join(file), place.join(file)).unwrap();
                }
                written(place, "main.go", program);
                shell(place, "go run .")
            }
            Self::Rust => {
                fs::copy(pins().join("rust/Cargo.toml"), place.join("Cargo.toml")).unwrap();
                // The versions of the repository; cargo takes out what the program does not need.
                fs::copy(repository().join("Cargo.lock"), place.join("Cargo.lock")).unwrap();
                written(place, "main.rs", program);
                let mut command = in_shell(place, "cargo run --quiet");
                command.env("CARGO_TARGET_DIR", directory().join("sqs-rust"));
                command
            }
        }
    }
}

fn written(place: &Path, file: &str, program: &str) {
    fs::write(place.join(file), program).unwrap();
}

fn in_shell(place: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh"]).current_dir(place);
    command
}

/// The `bin` of an environment with the packages of one file of pins. Several tests use one.
fn python_packages(name: &str) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let made = directory().join(format!("sqs-{name}"));
    made_of(&[&format!("sqs-clients/{name}.txt")], &made, |made| {
        run(Command::new("python3").args(["-m", "venv"]).arg(made));
        run(Command::new(made.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(pins().join(format!("{name}.txt"))));
    });
    made.join("bin")
}

/// A program of one file, which `java` compiles itself, with the libraries of one `pom.xml`.
fn java(place: &Path, name: &str, program: &str) -> Command {
    let libraries = maven_libraries(&format!("sqs-clients/{name}"));
    written(place, "Orders.java", program);
    in_shell(place, &format!("java -cp '{}/*' Orders.java", libraries.display()))
}
