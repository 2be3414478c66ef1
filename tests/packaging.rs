//! What packaging ships for systemd and Debian is accepted by those it is for, and by the host itself.

#![expect(clippy::indexing_slicing, reason = "a wrong answer fails the test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use harness::{announce::announced, guests::no_op, host::Place, repository, sandhog_binary};
use sandhog::config::Config;
use serde_json::{Value, json};

fn shipped(file: &str) -> PathBuf {
    repository().join("host/sandhog/packaging").join(file)
}

fn text(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The unit with a program that is there, in a directory of its own. Returns its path.
fn unit(directory: &Path) -> PathBuf {
    let unit = fs::read_to_string(shipped("debian/sandhog.service")).unwrap();
    let unit = unit
        .replace("/usr/bin/sandhog", sandhog_binary().to_str().unwrap())
        .replace("man:sandhog(1) ", "");
    let path = directory.join("sandhog.service");
    fs::write(&path, unit).unwrap();
    path
}

/// Runs `systemd-analyze`; `None` where the machine has none.
fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    if output.is_err() {
        announced("the unit was not checked: there is no systemd-analyze here", || ());
    }
    output.ok()
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_confined() {
    let place = tempfile::tempdir().unwrap();
    let unit = unit(place.path());
    let Some(said) = analyze(&["verify", "--man=no"], &unit) else {
        return;
    };
    assert!(said.status.success(), "{}", text(&said));
    // A key that this systemd does not know is a warning.
    assert_eq!(text(&said), "");
    // Of 100, where a unit without a line about that has 96.
    let said = analyze(&["security", "--offline=true", "--threshold=15"], &unit).unwrap();
    assert!(said.status.success(), "{}", text(&said));
}

/// A path in the words of `[package.metadata.deb]`, and whether there is a file.
fn is_there(source: &str) -> bool {
    let crate_directory = repository().join("host/sandhog");
    match source.split_once("/**") {
        Some((directory, _)) => crate_directory.join(directory).is_dir(),
        None => crate_directory.join(source).is_file(),
    }
}

fn deb() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo
        .current_dir(repository())
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let sandhog = packages.iter().find(|package| package["name"] == "sandhog");
    sandhog.unwrap()["metadata"]["deb"].clone()
}

#[test]
fn every_file_of_the_debian_package_is_there_or_is_made_by_its_script() {
    let place = tempfile::tempdir().unwrap();
    let release = place.path().join("release");
    fs::create_dir(&release).unwrap();
    let program = release.join("sandhog");
    fs::copy(sandhog_binary(), &program).unwrap();
    let made = Command::new(shipped("debian/prepare")).arg(&program).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let deb = deb();
    let mut missing = Vec::new();
    let assets = deb["assets"].as_array().unwrap();
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        let found = match source.strip_prefix("target/release/") {
            Some(built) => match built.strip_suffix("*.1") {
                Some(directory) => fs::read_dir(release.join(directory)).is_ok_and(|pages| pages.count() > 20),
                None => release.join(built).is_file(),
            },
            None => is_there(source),
        };
        if !found {
            missing.push(source);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(assets.len() > 10, "{assets:?}");
    let units = shipped("..").join(deb["systemd-units"]["unit-scripts"].as_str().unwrap());
    for file in ["sandhog.service", "sandhog.sysusers"] {
        assert!(units.join(file).is_file(), "{file}");
    }
}

/// The configuration with another path in place of each of these.
fn configuration(file: &str, directory: &Path, paths: &[(&str, &Path)]) -> PathBuf {
    let mut text = fs::read_to_string(shipped(file)).unwrap();
    for (from, to) in paths {
        text = text.replace(from, to.to_str().unwrap());
    }
    let path = directory.join("sandhog.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_host_runs_with_the_configuration_of_the_debian_package() {
    let mut place = Place::new();
    place.install("in", &no_op(), "");
    configuration(
        "debian/sandhog.toml",
        place.path(),
        &[("/var/lib/sandhog", &place.data())],
    );
    place.arguments.clear();
    let host = place.start();
    host.wait_ready();
    host.send("in", b"x");
    host.wait_empty("in");
    // What a person changes as the text says is accepted, too.
    let secret = place.path().join("secret");
    fs::write(&secret, "0123456789abcdef").unwrap();
    let text = fs::read_to_string(shipped("debian/sandhog.toml")).unwrap();
    let listening = text
        .replace("listen = \"127.0.0.1:9324\"", "listen = \"0.0.0.0:9324\"")
        .replace("# secret-file", "secret-file")
        .replace(
            "/run/credentials/sandhog.service/sandhog.secret",
            secret.to_str().unwrap(),
        )
        .replace("# [queues", "[queues")
        .replace("# visibility", "visibility")
        .replace("# max-receives", "max-receives");
    assert!(listening.contains(secret.to_str().unwrap()), "{listening}");
    let config = Config::parse(&listening, "sandhog.toml", place.path()).unwrap();
    assert_eq!(config.queues.len(), 1);
    assert!(!config.listen.ip().is_loopback());
}

#[test]
fn the_list_of_what_the_program_is_made_of_has_its_packages_and_no_path() {
    let place = tempfile::tempdir().unwrap();
    let packages = place.path().join("packages");
    // As `cargo tree` has them: once where they are wanted and again, and with where they lie.
    fs::write(
        &packages,
        "sandhog v0.1.0 (/src/host/sandhog)\nbytes v1.12.1\nqueue v0.1.0 (/src/queue)\nbytes v1.12.1\n",
    )
    .unwrap();
    let component = |name: &str, version: &str, reference: &str| json!({ "name": name, "version": version, "bom-ref": reference, "purl": "pkg:cargo/x?download_url=file://." });
    let listed = json!({
        "metadata": {
            "component": {
                "name": "sandhog", "version": "0.1.0", "bom-ref": "path+file:///src/host/sandhog#0.1.0", "purl": "file:",
                "components": [component("sandhog", "0.1.0", "path+file:///src/host/sandhog#0.1.0 bin-target-0")],
            },
            "properties": [],
        },
        "components": [
            component("bytes", "1.12.1", "registry#bytes@1.12.1"),
            component("bytes", "0.1.0", "registry#bytes@0.1.0"),
            component("queue", "0.1.0", "path+file:///src/queue#queue@0.1.0"),
        ],
        "dependencies": [
            { "ref": "path+file:///src/host/sandhog#0.1.0", "dependsOn": ["path+file:///src/queue#queue@0.1.0", "registry#bytes@0.1.0"] },
            { "ref": "path+file:///src/queue#queue@0.1.0", "dependsOn": ["registry#bytes@1.12.1"] },
            { "ref": "registry#bytes@0.1.0" },
            { "ref": "registry#bytes@1.12.1" },
        ],
    });
    let input = place.path().join("listed");
    fs::write(&input, listed.to_string()).unwrap();
    let made = |packages: &Path| {
        let mut sbom = Command::new(shipped("sbom"));
        sbom.arg(packages).stdin(fs::File::open(&input).unwrap());
        sbom.output().unwrap()
    };
    let made_of = made(&packages);
    assert!(made_of.status.success(), "{}", text(&made_of));
    let made_of: Value = serde_json::from_slice(&made_of.stdout).unwrap();
    let reference = |name: &str| format!("pkg:cargo/{name}");
    let known = |name: &str, version: &str| {
        let reference = format!("pkg:cargo/{name}@{version}");
        json!({ "name": name, "version": version, "bom-ref": reference, "purl": reference })
    };
    assert_eq!(
        made_of,
        json!({
            "metadata": { "component": known("sandhog", "0.1.0") },
            "components": [known("bytes", "1.12.1"), known("queue", "0.1.0")],
            "dependencies": [
                { "ref": reference("sandhog@0.1.0"), "dependsOn": [reference("queue@0.1.0")] },
                { "ref": reference("queue@0.1.0"), "dependsOn": [reference("bytes@1.12.1")] },
                { "ref": reference("bytes@1.12.1") },
            ],
        })
    );
    // A package that the program has, and the list of cargo-cyclonedx has not, is no list.
    fs::write(&packages, "sandhog v0.1.0\nring v0.17.14\n").unwrap();
    let refused = made(&packages);
    assert!(
        !refused.status.success() && text(&refused).contains("ring"),
        "{}",
        text(&refused)
    );
}
