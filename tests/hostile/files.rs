//! Guests with a granted directory that try to reach what is beside it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use harness::{
    bench::Bench,
    hostile::{Parts, repeated},
};
use sandhog_executor::{Executor as _, Verdict, policy::DirGrant};
use tempfile::TempDir;

/// A granted directory, and one beside it.
struct Place {
    directory: TempDir,
    bench: Bench,
}

impl Place {
    fn new(write: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("granted")).unwrap();
        fs::create_dir(at("granted/below")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("granted/inside"), "inside").unwrap();
        fs::write(at("outside/secret"), "secret").unwrap();
        for (target, link) in [
            ("../outside", "out"),
            ("../outside/secret", "file"),
            ("/etc/passwd", "absolute"),
            ("..", "up"),
            ("circle", "circle"),
            ("/proc/self", "process"),
            ("below/../..", "crooked"),
        ] {
            symlink(target, at("granted").join(link)).unwrap();
        }
        let mut bench = Bench::new();
        bench.policy.grants.dirs = vec![DirGrant {
            host: at("granted"),
            guest: "/data".to_owned(),
            write,
        }];
        Self { directory, bench }
    }

    /// What preview 1 answers to a call with these paths, which lie at 4096 and 6144: 0 if it was done.
    async fn answer(&self, function: &str, call: &str, paths: &[&str]) -> u32 {
        let parameters = match function {
            "path_open" => "i32 i32 i32 i32 i32 i64 i64 i32 i32",
            "path_rename" => "i32 i32 i32 i32 i32 i32",
            "path_link" => "i32 i32 i32 i32 i32 i32 i32",
            "path_symlink" => "i32 i32 i32 i32 i32",
            _ => "i32 i32 i32",
        };
        let data = repeated(paths.iter().zip([4096, 6144]), |(path, at)| {
            format!("(data (i32.const {at}) \"{path}\")")
        });
        // The answer comes back as the seconds of a failure.
        let wasm = Parts::handle(&format!(
            "(call $fail (i32.const 1) (i32.const 272) (i32.const 7) (call ${function} {call}))"
        ))
        .define(&data)
        .preview1(function, parameters)
        .wasm();
        let component = self.bench.load(wasm).await.unwrap();
        let report = self.bench.run(&component, &[b""]).await;
        assert_eq!(self.bench.executor.live_instances(), 0);
        match report.verdicts.as_slice() {
            [Verdict::Failed(failure)] if failure.retry_after.is_some() => {
                u32::try_from(failure.retry_after.unwrap().as_secs()).unwrap()
            }
            other => panic!("{function} of {paths:?}: {other:?}"),
        }
    }

    /// Opens a path, following links: for reading, or with these flags (1 create, 8 truncate) for writing too.
    async fn open(&self, path: &str, flags: u32) -> u32 {
        let rights = if flags == 0 { 2 } else { 66 };
        let call = format!(
            "(i32.const 3) (i32.const 1) (i32.const 4096) (i32.const {}) (i32.const {flags})
            (i64.const {rights}) (i64.const {rights}) (i32.const 0) (i32.const 512)",
            path.len()
        );
        self.answer("path_open", &call, &[path]).await
    }

    async fn with_path(&self, function: &str, path: &str) -> u32 {
        let call = format!("(i32.const 3) (i32.const 4096) (i32.const {})", path.len());
        self.answer(function, &call, &[path]).await
    }

    async fn rename(&self, from: &str, to: &str) -> u32 {
        let call = format!(
            "(i32.const 3) (i32.const 4096) (i32.const {}) (i32.const 3) (i32.const 6144) (i32.const {})",
            from.len(),
            to.len()
        );
        self.answer("path_rename", &call, &[from, to]).await
    }

    async fn link(&self, from: &str, to: &str) -> u32 {
        let call = format!(
            "(i32.const 3) (i32.const 0) (i32.const 4096) (i32.const {}) (i32.const 3) (i32.const 6144) (i32.const {})",
            from.len(),
            to.len()
        );
        self.answer("path_link", &call, &[from, to]).await
    }

    async fn symlink(&self, target: &str, link: &str) -> u32 {
        let call = format!(
            "(i32.const 4096) (i32.const {}) (i32.const 3) (i32.const 6144) (i32.const {})",
            target.len(),
            link.len()
        );
        self.answer("path_symlink", &call, &[target, link]).await
    }

    /// Everything that is there: names, and the contents of files.
    fn tree(&self, below: &str) -> Vec<(String, Option<String>)> {
        fn walk(directory: &Path, found: &mut Vec<(String, Option<String>)>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let kind = path.symlink_metadata().unwrap();
                let contents = kind.is_file().then(|| fs::read_to_string(&path).unwrap());
                found.push((path.display().to_string(), contents));
                if kind.is_dir() {
                    walk(&path, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.directory.path().join(below), &mut found);
        found.sort();
        found
    }
}

#[tokio::test]
async fn what_is_in_a_granted_directory_opens() {
    let place = Place::new(false);
    assert_eq!(place.open("inside", 0).await, 0);
    assert_eq!(place.open("below/../inside", 0).await, 0);
}

#[tokio::test]
async fn no_path_leads_out_of_a_granted_directory() {
    for write in [false, true] {
        let place = Place::new(write);
        for path in [
            "../outside/secret",
            "below/../../outside/secret",
            "./../outside/secret",
            "..",
            "/etc/passwd",
            "/data/../outside/secret",
            "//etc/passwd",
            "out/secret",
            "out",
            "file",
            "absolute",
            "up/outside/secret",
            "crooked/outside/secret",
            "circle",
            "process/root/etc/passwd",
            "process/cwd",
            "",
            "inside\\00/../../outside/secret",
        ] {
            for flags in [0, 1, 8] {
                assert_ne!(
                    place.open(path, flags).await,
                    0,
                    "{path:?} was opened with {flags}, write {write}"
                );
            }
        }
        assert_eq!(place.tree("outside").len(), 1);
    }
}

#[tokio::test]
async fn what_is_outside_can_be_neither_moved_nor_linked_nor_removed() {
    let place = Place::new(true);
    let before = place.tree("outside");
    for (from, to) in [
        ("inside", "../outside/stolen"),
        ("inside", "out/stolen"),
        ("../outside/secret", "stolen"),
        ("out/secret", "stolen"),
        ("inside", "/tmp/stolen"),
    ] {
        assert_ne!(place.rename(from, to).await, 0, "{from} became {to}");
        assert_ne!(place.link(from, to).await, 0, "{from} was linked as {to}");
    }
    for path in ["../outside/secret", "out/secret", "up/outside/secret"] {
        assert_ne!(place.with_path("path_unlink_file", path).await, 0, "{path}");
    }
    for path in ["../outside/new", "out/new"] {
        assert_ne!(place.with_path("path_create_directory", path).await, 0, "{path}");
    }
    for path in ["../outside", "..", "out/"] {
        assert_ne!(place.with_path("path_remove_directory", path).await, 0, "{path}");
    }
    assert_eq!(place.tree("outside"), before);
}

#[tokio::test]
async fn a_link_that_a_guest_makes_leads_nowhere_outside() {
    let place = Place::new(true);
    // One to an absolute path is not made at all; others may be, and are not followed.
    assert_ne!(place.symlink("/etc/passwd", "mine").await, 0);
    for (number, target) in [
        "../outside/secret",
        "below/../../outside/secret",
        "up/outside/secret",
        "file",
    ]
    .into_iter()
    .enumerate()
    {
        let link = format!("mine-{number}");
        place.symlink(target, &link).await;
        assert_ne!(place.open(&link, 0).await, 0, "{target}");
        // Moving a link away does not turn it around either.
        place.rename(&link, &format!("below/mine-{number}")).await;
        assert_ne!(place.open(&format!("below/mine-{number}"), 0).await, 0, "{target}");
    }
}

#[tokio::test]
async fn a_directory_that_may_be_read_only_is_never_changed() {
    let place = Place::new(false);
    let before = place.tree("granted");
    assert_ne!(place.open("new", 1).await, 0);
    assert_ne!(place.open("inside", 8).await, 0);
    assert_ne!(place.with_path("path_create_directory", "new").await, 0);
    assert_ne!(place.with_path("path_remove_directory", "below").await, 0);
    assert_ne!(place.with_path("path_unlink_file", "inside").await, 0);
    assert_ne!(place.rename("inside", "other").await, 0);
    assert_ne!(place.link("inside", "other").await, 0);
    assert_ne!(place.symlink("inside", "other").await, 0);
    assert_eq!(place.tree("granted"), before);
}

#[tokio::test]
async fn a_directory_that_may_be_written_can_be() {
    let place = Place::new(true);
    assert_eq!(place.open("new", 1).await, 0);
    assert_eq!(place.rename("new", "below/new").await, 0);
    assert_eq!(place.with_path("path_unlink_file", "inside").await, 0);
    assert!(
        place
            .tree("granted")
            .iter()
            .any(|(path, _)| path.ends_with("below/new"))
    );
}

/// Opening a pipe for reading waits until somebody writes, where no deadline reaches.
#[tokio::test]
async fn a_pipe_in_a_granted_directory_costs_the_attempt_and_no_more() {
    let mut place = Place::new(true);
    let pipe = place.directory.path().join("granted/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    place.bench.policy.timeout = Duration::from_millis(200);
    let wasm = Parts::handle(
        "(drop (call $path_open (i32.const 3) (i32.const 1) (i32.const 4096) (i32.const 4) (i32.const 0) (i64.const 2)
            (i64.const 2) (i32.const 0) (i32.const 512)))
        (i32.store (i32.const 516) (i32.const 1024)) (i32.store (i32.const 520) (i32.const 16))
        (drop (call $fd_read (i32.load (i32.const 512)) (i32.const 516) (i32.const 1) (i32.const 524))) (global.get $ok)",
    )
    .define("(data (i32.const 4096) \"pipe\")")
    .preview1("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32")
    .preview1("fd_read", "i32 i32 i32 i32")
    .wasm();
    let component = place.bench.load(wasm).await.unwrap();
    for _ in 0..4 {
        place.bench.run(&component, &[b""]).await;
        assert_eq!(place.bench.executor.live_instances(), 0);
    }
    place.bench.check_neighbour().await;
    // Whoever still waits for a writer gets one, so that no thread is left behind.
    drop(fs::OpenOptions::new().read(true).write(true).open(&pipe));
}
