//! `sandhog dev`: what is saved is built, served and tried at once; a build that fails costs nothing that works; nothing is left behind.
//!
//! The builds copy components that the tests have made, so that they need no tools. `templates.rs` has those of the languages.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use harness::{
    guests::{edited, obedient},
    host::Place,
    wait_for,
};

/// Builds what the file `source` names.
const BUILD: &str = "cp versions/$(cat source) orders.wasm";
const MANIFEST: &str = "queue = \"orders\"\n[grant]\nsend = [\"totals\"]\n[retry]\nmin = \"10ms\"\n";

/// A project whose component forwards to `totals` what it does not obey.
struct Project(Place);

impl Project {
    fn new(inputs: &[(&str, &str)]) -> Self {
        let project = Self(Place::new());
        let good = obedient("totals");
        fs::create_dir(project.path("")).unwrap();
        fs::create_dir(project.path("versions")).unwrap();
        fs::create_dir(project.path("input")).unwrap();
        fs::write(project.path("versions/one"), &good).unwrap();
        fs::write(project.path("versions/two"), edited(&good, 2)).unwrap();
        project.save("orders.toml", MANIFEST);
        project.save("source", "one");
        for (name, body) in inputs {
            project.save(&format!("input/{name}"), body);
        }
        project
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join("project").join(below)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command();
        command.arg("dev").args(arguments).current_dir(self.path(""));
        command
    }

    fn save(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    fn dev(&self, arguments: &[&str]) -> Session {
        let mut child = self
            .command(&["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (shown, output) = (Arc::clone(&screen), child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut shown = shown.lock().unwrap();
                shown.push_str(&line);
                shown.push('\n');
            }
        });
        Session {
            keyboard: child.stdin.take(),
            child,
            screen,
            seen: 0,
        }
    }

    /// Starts with the build that copies, and waits for the first version.
    fn serving(inputs: &[(&str, &str)]) -> (Self, Session) {
        let project = Self::new(inputs);
        let mut session = project.dev(&["--build", BUILD]);
        session.shows("serves the queue orders");
        (project, session)
    }
}

/// A `sandhog dev` that runs. Killed when it is dropped.
struct Session {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Arc<Mutex<String>>,
    /// The end of what was waited for before.
    seen: usize,
}

impl Session {
    /// Waits until the screen shows a text, behind what was waited for before. Returns what stands between.
    fn shows(&mut self, text: &str) -> String {
        let found = wait_for(text, || {
            let screen = self.screen.lock().unwrap();
            let rest = screen.get(self.seen..).unwrap();
            let at = rest.find(text)?;
            Some(rest.get(..at).unwrap().to_owned())
        });
        self.seen += found.len() + text.len();
        found
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard.as_mut().unwrap(), "{line}").unwrap();
    }

    fn signal(&self, signal: &str) {
        assert!(kill(&format!("-{signal}"), self.child.id()));
    }

    fn ends(&mut self) -> ExitStatus {
        wait_for("the session to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            std::io::Write::write_all(&mut std::io::stderr(), self.screen.lock().unwrap().as_bytes())
                .unwrap_or_default();
        }
    }
}

fn kill(signal: &str, process: u32) -> bool {
    let killed = Command::new("kill").args([signal, &process.to_string()]).output();
    killed.unwrap().status.success()
}

/// The number that a command of the project has written to a file, once it is there.
fn process(file: &Path) -> u32 {
    wait_for("the number of a process", || {
        let text = fs::read_to_string(file).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    })
}

fn is_gone(process: u32) {
    // A zombie counts as gone: its parent is gone too, and somebody else waits for it.
    let is_zombie = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    wait_for("a process to end", || {
        (!kill("-0", process) || is_zombie()).then_some(())
    });
}

#[test]
fn a_save_is_built_and_served_and_its_messages_are_shown() {
    let (project, mut session) = Project::serving(&[("a.txt", "hello"), ("b.txt", "j")]);
    session.shows("input/a.txt\n");
    let first = session.shows("input/b.txt\n");
    assert!(first.contains("to totals, 5 bytes: hello"), "{first}");
    assert!(
        first.contains("verdict    success") && first.contains("memory  "),
        "{first}"
    );
    assert!(first.contains("from the save to this verdict"), "{first}");
    let second = session.shows("it is a dead letter in orders-dead\n");
    assert!(second.contains("verdict    reject"), "{second}");
    project.save("source", "two");
    session.shows("source changed");
    session.shows("serves the queue orders");
    session.shows("input/a.txt\n");
    session.shows("input/b.txt\n");
}

#[test]
fn a_failed_build_shows_its_output_and_leaves_the_version_before_it_serving() {
    let (project, mut session) = Project::serving(&[]);
    project.save("source", "missing");
    let shown = session.shows("the version before it goes on serving");
    assert!(
        shown.contains("the build failed") && shown.contains("versions/missing"),
        "{shown}"
    );
    session.types("hello");
    session.shows("typed message");
    session.shows("verdict    success");
}

#[test]
fn a_manifest_that_is_refused_is_shown_and_leaves_the_version_before_it_serving() {
    let (project, mut session) = Project::serving(&[]);
    project.save("orders.toml", "concurency = 2\n");
    let shown = session.shows("the version before it goes on serving");
    assert!(shown.contains("did you mean concurrency?"), "{shown}");
    // Only a build is built.
    assert!(!shown.contains("built in"), "{shown}");
    project.save("orders.toml", MANIFEST);
    session.shows("serves the queue orders");
}

#[test]
fn what_a_manifest_lacks_is_said_of_the_file_of_the_project() {
    let (project, mut session) = Project::serving(&[]);
    project.save("orders.toml", "concurrency = 2\n");
    let shown = session.shows("the version before it goes on serving");
    assert!(
        shown.contains("/orders.toml") && !shown.contains(".sandhog/dev"),
        "{shown}"
    );
}

#[test]
fn a_message_waits_for_a_version_that_serves_and_is_handled_then() {
    let project = Project::new(&[]);
    project.save("orders.toml", "concurency = 2\n");
    let mut session = project.dev(&["--build", BUILD]);
    session.shows("did you mean concurrency?");
    session.types("hello");
    session.shows("nothing serves: 1 message waits for a version that does");
    project.save("orders.toml", MANIFEST);
    session.shows("serves the queue orders");
    session.shows("typed message");
    session.shows("verdict    success");
}

#[test]
fn a_message_that_is_saved_is_sent_without_a_build() {
    let (project, mut session) = Project::serving(&[]);
    project.save("input/new.txt", "hello");
    let shown = session.shows("input/new.txt\n");
    assert!(!shown.contains("built in"), "{shown}");
    session.shows("verdict    success");
}

#[test]
fn a_message_that_fails_comes_again_as_on_a_host() {
    let (_project, mut session) = Project::serving(&[("a.txt", "?x")]);
    // The guest forwards it at the second receive.
    session.shows("input/a.txt\n");
    session.shows("verdict    success");
    session.types("b");
    session.shows("typed message\n");
    session.shows("it comes again: that was attempt 1 of 5");
    session.shows("typed message, attempt 5\n");
    session.shows("that was attempt 5 of 5: it becomes a dead letter in orders-dead");
}

#[test]
fn what_is_typed_is_a_message_or_an_order() {
    let (_project, mut session) = Project::serving(&[]);
    session.types("::x");
    session.shows("to totals, 2 bytes: :x");
    session.types(":what");
    session.shows(":what is no order: ");
    session.types(":quit");
    assert_eq!(session.ends().code(), Some(0));
}

#[test]
fn a_session_without_standard_input_goes_on() {
    let (project, mut session) = Project::serving(&[]);
    session.keyboard = None;
    project.save("source", "two");
    session.shows("serves the queue orders");
}

#[test]
fn the_tests_run_when_they_are_asked_for() {
    let project = Project::new(&[("a.txt", "hello")]);
    let arguments = ["--build", BUILD, "--test-command", "echo all is well; test -e good"];
    let mut session = project.dev(&[&arguments[..], &["--test"]].concat());
    session.shows("verdict    success");
    session.shows("tests failed after");
    session.shows("all is well");
    project.save("input/b.txt", "d");
    session.shows("tests failed after");
    fs::write(project.path("good"), "").unwrap();
    session.shows("tests passed after");
    session.types(":test");
    session.shows("tests passed after");
}

#[test]
fn the_manifest_can_say_how_a_project_is_built() {
    let project = Project::new(&[]);
    let table = format!("{MANIFEST}[dev]\nbuild = \"cp versions/one made\"\noutput = \"made\"\n");
    project.save("orders.toml", &table);
    project.save(".gitignore", "/made\n");
    let mut session = project.dev(&[]);
    session.shows("serves the queue orders");
}

/// What a build writes looked like a save, which began the next build, and so on.
#[test]
fn a_build_that_writes_what_is_watched_is_not_built_for_ever() {
    let project = Project::new(&[]);
    let build = format!("echo made >> built.log; echo made > made.txt; {BUILD}");
    let table = format!("{MANIFEST}[dev]\nbuild = \"{build}\"\n");
    project.save("orders.toml", &table);
    project.save(".gitignore", "*.log\n");
    let mut session = project.dev(&[]);
    session.shows("made.txt changed");
    session.shows("serves the queue orders");
    session.types("hello");
    session.shows("verdict    success");
    let builds = fs::read_to_string(project.path("built.log")).unwrap().lines().count();
    assert_eq!(builds, 2);
}

#[test]
fn a_save_during_a_build_ends_it_and_builds_again() {
    let project = Project::new(&[]);
    let build = format!("test $(cat source) = two || {{ sleep 1000 & echo $! > process; wait; }}; {BUILD}");
    project.save(".gitignore", "process\n");
    let mut session = project.dev(&["--build", &build]);
    let sleeping = process(&project.path("process"));
    project.save("source", "two");
    session.shows("serves the queue orders");
    is_gone(sleeping);
}

#[test]
fn the_end_of_a_session_leaves_no_process_behind() {
    for signal in ["INT", "TERM"] {
        let project = Project::new(&[]);
        let build = "sleep 1000 & echo $! > process; trap '' INT TERM; wait";
        let mut session = project.dev(&["--build", build]);
        let sleeping = process(&project.path("process"));
        session.signal(signal);
        assert_eq!(session.ends().code(), Some(0));
        is_gone(sleeping);
    }
}

#[test]
fn a_handler_that_computes_for_ever_does_not_hold_up_the_end() {
    let (_project, mut session) = Project::serving(&[("a.txt", "s")]);
    session.signal("INT");
    assert_eq!(session.ends().code(), Some(0));
}

#[test]
fn a_project_has_one_session_at_a_time() {
    let (project, _session) = Project::serving(&[]);
    let second = project.command(&["--build", BUILD]).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another sandhog dev works on"), "{said}");
}

#[test]
fn a_missing_tool_is_named_with_the_place_where_it_comes_from() {
    for (file, text, tool, advice) in [
        ("go.mod", "module a", "go", "https://go.dev/dl"),
        ("Cargo.toml", "", "cargo", "https://rustup.rs"),
        (
            "package.json",
            "{\"scripts\": {\"build\": \"x\"}}",
            "npm",
            "https://nodejs.org",
        ),
    ] {
        let project = Project::new(&[]);
        project.save(file, text);
        let output = project.command(&[]).env("PATH", "/nonexistent").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("{tool} is not on the PATH")) && said.contains(advice),
            "{said}"
        );
    }
}

#[test]
fn a_directory_that_says_nothing_about_its_build_is_refused_with_the_way_to_say_it() {
    let project = Project::new(&[]);
    let output = project.command(&[]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--build \"CMD\"") && said.contains("[dev]"), "{said}");
}
