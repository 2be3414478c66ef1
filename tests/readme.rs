//! The pages say what is so: the README's commands, run as printed in two terminals, lead to a handled message; every
//! configuration that a page shows is accepted; every file that a page names is there.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use harness::{
    repository, sandhog_binary,
    toolchains::{self, with_rust_for_wasm},
    wait_for,
};
use sandhog::config::{Config, ConfigErrors, ConfigOverrides, Manifest};
use sandhog_demo::{guests::target, toolchain::TARGET};
use tempfile::TempDir;

/// A fenced block of a page.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text.lines().collect()
    }
}

pub(crate) fn page(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            Block {
                language: language.to_owned(),
                text: text.to_owned(),
            }
        })
        .collect()
}

/// The last line that a terminal prints for a command.
const ENDED: &str = "the command ended with";

/// A PATH with the programs before everything else.
fn with_programs(programs: &Path, path: &OsStr) -> OsString {
    std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(path))).unwrap()
}

/// A shell that stays open, as a terminal of a person does. Its output is that of everything that runs in it.
pub(crate) struct Terminal {
    shell: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// A shell in `directory` with the command `sandhog` on its PATH, and a Rust that compiles to WebAssembly.
    fn open(directory: &Path, programs: &Path, url: Option<&str>) -> Self {
        let mut command = Command::new("sh");
        let path = with_programs(programs, &std::env::var_os("PATH").unwrap_or_default());
        with_rust_for_wasm(&mut command, path);
        Self::start(command, directory, url)
    }

    /// The same with the tools of other languages.
    pub(crate) fn open_with_tools(directory: &Path, programs: &Path, url: Option<&str>) -> Self {
        let mut command = Command::new("sh");
        for (name, value) in toolchains::shell(directory, "").get_envs() {
            match value {
                Some(value) if name == "PATH" => command.env(name, with_programs(programs, value)),
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self::start(command, directory, url)
    }

    fn start(mut command: Command, directory: &Path, url: Option<&str>) -> Self {
        command
            .env_remove("SANDHOG_URL")
            .envs(url.map(|url| ("SANDHOG_URL", url)));
        let mut shell = command
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A key that is pressed is for whatever runs in the terminal.
            .process_group(0)
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (shown, output) = (Arc::clone(&screen), shell.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                writeln!(shown.lock().unwrap(), "{line}").unwrap();
            }
        });
        let keyboard = shell.stdin.take().unwrap();
        let mut terminal = Self {
            shell,
            keyboard,
            screen,
        };
        terminal.type_in("exec 2>&1");
        terminal
    }

    fn type_in(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Runs a command, and returns what it printed. The command has to succeed.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let before = self.screen().len();
        self.type_in(line);
        self.type_in(&format!("echo \"{ENDED} $?\""));
        let mut printed = String::new();
        // A compiler takes its time, and prints what it is at.
        while !printed.contains(ENDED) {
            printed = wait_for(line, || {
                let screen = self.screen().get(before..)?.to_owned();
                (screen.len() > printed.len()).then_some(screen)
            });
        }
        let (printed, status) = printed.split_once(ENDED).unwrap();
        assert_eq!(status.trim(), "0", "{line}: {printed}");
        printed.to_owned()
    }

    /// Starts a host that stays in the foreground, and returns where it listens.
    pub(crate) fn run_host(&mut self, line: &str) -> String {
        self.type_in(line);
        wait_for(line, || {
            let screen = self.screen();
            let (_, fields) = screen.split_once("listening")?;
            let address = fields.split_once("address=")?.1.split_whitespace().next()?;
            Some(format!("http://{address}"))
        })
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.shell.id());
        let status = Command::new("kill").args(["-s", name, "--", &group]).status();
        assert!(status.unwrap().success(), "kill -s {name}");
    }

    /// Presses Ctrl-C, and waits until the host has stopped.
    pub(crate) fn press_ctrl_c(&self) {
        self.signal("INT");
        wait_for("the host to stop", || {
            self.screen().contains("stopped code=").then_some(())
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let group = format!("-{}", self.shell.id());
        // Everything in it may have ended already.
        let mut kill = Command::new("kill");
        drop(kill.args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status());
        drop(self.shell.wait());
    }
}

/// A directory with the command `sandhog`: the binary of the tests, which listens on a free port instead of the usual one.
pub(crate) fn programs() -> TempDir {
    let programs = tempfile::tempdir().unwrap();
    let command = programs.path().join("sandhog");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = run ]; then set -- \"$@\" --listen 127.0.0.1:0; fi\nexec '{}' \"$@\"\n",
        sandhog_binary().display()
    );
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    programs
}

/// The first number and the fifth one of a queue in the output of `sandhog queues`: messages that wait, and dead letters.
fn ready_and_dead(printed: &str, queue: &str) -> Option<(String, String)> {
    let row = printed
        .lines()
        .find(|line| line.split_whitespace().next() == Some(queue))?;
    let mut cells = row.split_whitespace().skip(1).map(str::to_owned);
    Some((cells.next()?, cells.nth(3)?))
}

/// Runs `sandhog queues` until it shows what the README says: one message in `totals`, one dead letter of `checkout`.
pub(crate) fn see_the_queues(terminal: &mut Terminal, line: &str) {
    wait_for("the queues that the README describes", || {
        let printed = terminal.run(line);
        let (waiting, _) = ready_and_dead(&printed, "totals")?;
        let (left, dead) = ready_and_dead(&printed, "checkout")?;
        ([waiting, left, dead] == ["1", "0", "1"]).then_some(())
    });
}

/// What stands between two texts of a page.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let rest = text
        .split_once(start)
        .unwrap_or_else(|| panic!("the page has no {start:?}"))
        .1;
    rest.split_once(end)
        .unwrap_or_else(|| panic!("the page has no {end:?}"))
        .0
}

/// The block of what a machine needs once. The tests have both by other ways: see [`programs`] and [`Terminal::open`].
fn is_what_the_tests_have_already(install: &Block) {
    let package = "host/sandhog";
    let install_line = format!("cargo install --locked --path {package}");
    let target_line = format!("rustup target add {TARGET}");
    assert_eq!(install.lines(), [&install_line, &target_line]);
    assert!(page(&format!("{package}/Cargo.toml")).contains("name = \"sandhog\"\n"));
}

/// Types the commands that make and build a project. Answers where the project is.
fn build(terminal: &mut Terminal, place: &Path, lines: &[&str]) -> PathBuf {
    let mut project = PathBuf::new();
    for line in lines {
        terminal.run(line);
        if let Some(name) = line.strip_prefix("sandhog new rust ") {
            project = place.join(name);
            // Shares what is compiled with the other guests, the standard library above all.
            fs::create_dir_all(target().join("guests")).unwrap();
            symlink(target().join("guests"), project.join("target")).unwrap();
        }
    }
    project
}

/// Compares what the README shows of a project with the project.
fn compare(project: &Path, shown: &[Block]) {
    for Block { language, text } in shown {
        let file = if language == "rust" {
            "src/lib.rs"
        } else {
            "checkout.toml"
        };
        let found = fs::read_to_string(project.join(file)).unwrap();
        assert!(found.starts_with(text), "{file} does not begin with:\n{text}");
    }
}

/// Types the commands of the second terminal. The list of dead letters has to say why.
pub(crate) fn use_the_host(terminal: &mut Terminal, commands: &Block, reason: &str) {
    for line in commands.lines() {
        if line == "sandhog queues" {
            see_the_queues(terminal, line);
            continue;
        }
        let printed = terminal.run(line);
        if line.starts_with("sandhog dead list") {
            assert!(printed.contains(reason), "{reason:?} is not in:\n{printed}");
        }
    }
}

#[test]
fn the_first_handler_of_the_readme_works_as_printed() {
    let readme = page("README.md");
    let section = between(&readme, "## A first handler\n", "\n## ");
    let (shells, shown): (Vec<_>, Vec<_>) = blocks(section).into_iter().partition(|block| block.language == "sh");
    let [install, first, second] = shells.as_slice() else {
        panic!("the first handler takes {} blocks of commands", shells.len());
    };
    is_what_the_tests_have_already(install);

    let (place, programs) = (tempfile::tempdir().unwrap(), programs());
    let mut terminal = Terminal::open(place.path(), programs.path(), None);
    let lines = first.lines();
    let (run, lines) = lines.split_last().unwrap();
    assert!(run.starts_with("sandhog run "), "{run}");
    let project = build(&mut terminal, place.path(), lines);
    compare(&project, &shown);
    let url = terminal.run_host(run);
    let ready = between(section, "The host logs `", "`");
    wait_for(ready, || terminal.screen().contains(ready).then_some(()));

    let reason = between(section, "why the handler rejected it: `", "`");
    let mut other = Terminal::open(place.path(), programs.path(), Some(&url));
    use_the_host(&mut other, second, reason);
    let logged = between(section, "The first terminal logs `", "`");
    wait_for(logged, || terminal.screen().contains(logged).then_some(()));

    terminal.press_ctrl_c();
    let mut again = Terminal::open(&project, programs.path(), None);
    let url = again.run_host(run);
    let mut other = Terminal::open(place.path(), programs.path(), Some(&url));
    see_the_queues(&mut other, "sandhog queues");
}

#[test]
fn the_readme_has_no_commands_that_no_test_runs() {
    let readme = page("README.md");
    let shells = blocks(&readme).into_iter().filter(|block| block.language == "sh");
    // The two commands of its top, which `tidy` and `examples` hold, and those of the first handler.
    assert_eq!(shells.count(), 5);
}

/// Every page of the repository, by its path.
pub(crate) fn pages() -> Vec<(PathBuf, String)> {
    let here = repository();
    let below = |room: PathBuf| {
        let entries = fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut directories = vec![here.join("docs")];
    let mut read = 0;
    while let Some(room) = directories.get(read) {
        directories.extend(below(room.clone()));
        read += 1;
    }
    for room in ["guest-sdk", "examples"] {
        directories.extend(below(here.join(room)));
    }
    directories.push(here.to_owned());
    let mut found = Vec::new();
    for directory in directories.into_iter().filter(|path| path.is_dir()) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(found.len() > 15, "only {} pages were found", found.len());
    found
}

/// Why a manifest is refused on a machine that has every variable and every file with a value that it names.
fn refused_manifest(text: &str) -> Option<ConfigErrors> {
    // Closed: the host does not read what somebody is writing.
    let secret = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let files = text
        .split("from-file = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let here = secret.to_str().unwrap();
    let text = files.fold(text.to_owned(), |text, file| text.replace(file, here));
    Manifest::parse_in(&text, "orders", Path::new(""), &|_| Some("value".to_owned())).err()
}

#[test]
fn every_configuration_that_a_page_shows_is_accepted() {
    let mut accepted = 0;
    for (path, text) in pages() {
        let in_docs = path.starts_with(repository().join("docs"));
        for block in blocks(&text).iter().filter(|block| block.language == "toml") {
            let (file, _) = block.text.split_once('\n').unwrap();
            // Outside of `docs/` some blocks are of other files.
            if !in_docs && !file.starts_with("# plugins/") && file != "# sandhog.toml" {
                continue;
            }
            let refused = if file == "# sandhog.toml" {
                let place = tempfile::tempdir().unwrap();
                fs::create_dir(place.path().join("plugins")).unwrap();
                fs::write(place.path().join("sandhog.toml"), &block.text).unwrap();
                let secrets = block
                    .text
                    .lines()
                    .filter_map(|line| line.strip_prefix("secret-file = \""));
                for file in secrets.filter_map(|rest| rest.split('"').next()) {
                    fs::write(place.path().join(file), "0123456789abcdef").unwrap();
                }
                let mut lines = block.text.lines();
                let reader = lines.find_map(|line| line.strip_prefix("read-only-secret-file = \""));
                if let Some(file) = reader.and_then(|rest| rest.split('"').next()) {
                    fs::write(place.path().join(file), "fedcba9876543210").unwrap();
                }
                Config::load(Some(place.path()), ConfigOverrides::default(), &|_: &str| None).err()
            } else {
                refused_manifest(&block.text)
            };
            assert!(
                refused.is_none(),
                "{}: {}\n{}",
                path.display(),
                refused.unwrap(),
                block.text
            );
            accepted += 1;
        }
    }
    assert!(accepted > 12, "only {accepted} configurations were found");
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let is_path = |word: &&str| {
        let rooms = ["host/", "tests/", "guest-sdk/", "examples/", "docs/", "wit/"];
        rooms.iter().any(|room| word.starts_with(room)) && !word.contains("NAME") && !word.contains('*')
    };
    let (mut lost, mut named) = (Vec::new(), 0);
    for path in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = page(path);
        let words = text.split(|c: char| c.is_whitespace() || "`()[],;:│".contains(c));
        for word in words.filter(is_path).map(|word| word.trim_end_matches('.')) {
            named += 1;
            if !repository().join(word).exists() {
                lost.push(format!("{path}: {word}"));
            }
        }
    }
    assert!(named > 50, "only {named} files are named");
    assert!(lost.is_empty(), "files that are not there: {lost:#?}");
}
