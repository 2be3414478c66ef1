//! What is another version: a pair of a component and a manifest that was not there before; and how much of them is kept.

use std::{fs, path::Path, time::SystemTime};

use harness::{
    host::Host,
    let_pass,
    versions::{Trial, VersionsTold, plain},
    wait_for,
};

use super::QUICK;

fn serving(host: &Host) -> Option<u64> {
    VersionsTold::of(host, "in").serving()
}

#[test]
fn a_change_of_the_manifest_alone_is_a_version_and_a_touch_of_the_files_is_none() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    assert_eq!(serving(&host), Some(1));
    let changed = trial.manifest.replace("concurrency = 4", "concurrency = 5");
    fs::write(trial.place.plugin("in.toml"), &changed).unwrap();
    wait_for("the version", || (serving(&host) == Some(2)).then_some(()));
    // The component is the same, so there is nothing to compare.
    let told = VersionsTold::of(&host, "in");
    assert_eq!((told.state(2), told.state(1)), ("serving", "retired"), "{told:#?}");
    assert_ne!(told.version(1)["manifest"], told.version(2)["manifest"]);
    for file in ["in.wasm", "in.toml"] {
        touch(&trial.place.plugin(file));
    }
    // Many times as long as a file has to be quiet.
    let_pass(std::time::Duration::from_millis(800));
    assert_eq!(
        (serving(&host), VersionsTold::of(&host, "in").all().len()),
        (Some(2), 2)
    );
}

fn touch(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
}

#[test]
fn the_same_bytes_with_the_same_manifest_are_the_same_version() {
    let mut trial = Trial::new(QUICK);
    let host = trial.start(&plain("good"));
    let second = trial.deploy(&host, &plain("new"));
    trial.send_until(&host, 500, |told| (told.state(second) == "serving").then_some(()));
    assert_eq!(trial.deploy(&host, &plain("good")), 1);
    let told = VersionsTold::of(&host, "in");
    assert_eq!((told.all().len(), told.predecessor()), (2, Some(2)), "{told:#?}");
    trial.handled(&host);
}

#[test]
fn forty_versions_leave_the_files_of_three() {
    let mut trial = Trial::new(QUICK);
    trial.place.configure("[versions]\nkeep = 3\n");
    let host = trial.start(&plain("good-0"));
    for number in 1..=40 {
        trial.deploy(&host, &plain(&format!("good-{number}")));
    }
    trial.send_until(&host, 500, |told| (told.state(41) == "serving").then_some(()));
    trial.handled(&host);
    let told = VersionsTold::of(&host, "in");
    assert!(told.all().len() <= 3, "{told:#?}");
    let kept = trial.place.data().join("versions/in");
    let component = u64::try_from(plain("good-0").len()).unwrap();
    // Three components and what is said about them; files that no version needs are gone after the next record.
    wait_for("the other files to be gone", || {
        (size_below(&kept) < 3 * component + (64 << 10)).then_some(())
    });
    let files = fs::read_dir(&kept).unwrap().count();
    assert!(files <= 3 + 3 + 1, "{files} files");
}

fn size_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map_while(Result::ok);
    entries.map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum()
}
