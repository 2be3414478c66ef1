//! The page of the keys of `sandhog.toml` and of manifests. What is accepted is what the host says when it refuses a value; the
//! defaults and the limits are those of the code.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use sandhog::config::{Config, Manifest, limit_rows};

const INTRODUCTION: &str = "# Keys

Every key of `sandhog.toml` and of a manifest, with its default and what is accepted. [Configuration](configuration.md) shows both files with examples, and says what
belongs together. A file with a mistake is refused as a whole, and every mistake in it is named with its line.
";

/// A key, its default (as the file would say it, or in words), and what it is.
type Key = (&'static str, &'static str, &'static str);

/// Which file a table belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Host,
    Manifest,
}

/// A table of a file.
struct Table {
    file: File,
    /// Its name, with `NAME` where anybody chooses one; empty for the top of the file.
    name: &'static str,
    /// Lines in the table without which the keys mean nothing.
    given: &'static str,
    what: &'static str,
    keys: &'static [Key],
}

/// A value of a kind that no key takes.
const WRONG: &str = "1979-05-27T07:32:00Z";
/// A key that no table has, and that is like none.
const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

const TABLES: [Table; 16] = [
    Table {
        file: File::Host,
        name: "",
        given: "",
        what: "The top of the file. Paths are relative to the file.",
        keys: &[
            (
                "plugins",
                "\"plugins\"",
                "The directory with the components and their manifests. It has to exist.",
            ),
            (
                "data",
                "\".sandhog\"",
                "The data directory. `--data` wins, and `--ephemeral` needs none.",
            ),
            (
                "listen",
                "\"127.0.0.1:9324\"",
                "The address of the listener. One that other machines reach needs a secret. `--listen` wins.",
            ),
            (
                "secret-file",
                "none",
                "The file with the listener's secret. `SANDHOG_SECRET` wins.",
            ),
            (
                "read-only-secret-file",
                "none",
                "The file with the secret of those who may look and change nothing. `SANDHOG_READ_ONLY_SECRET` wins.",
            ),
            (
                "dashboard-deploy",
                "false",
                "People with the listener's secret may put a component in the place of a handler's on the dashboard. Needs the secret, and a data directory.",
            ),
            (
                "grace-period",
                "\"30s\"",
                "How long attempts under way may go on when the host stops. `--grace-period` wins.",
            ),
            (
                "max-live-instances",
                "256",
                "The most instances of all handlers at a time. A quarter is a reserve.",
            ),
            (
                "memory-budget",
                "half of the memory that the process may have",
                "What all live instances may take by their limits. A quarter is a reserve.",
            ),
        ],
    },
    Table {
        file: File::Host,
        name: "queues.NAME",
        given: "",
        what: "A Simple queue. A queue needs no table unless a default does not fit.",
        keys: &[
            (
                "visibility-timeout",
                "\"30s\"",
                "How long a message stays hidden after its receive, unless it is extended. The host extends it while a handler works.",
            ),
            (
                "max-receives",
                "5",
                "After so many receives a message becomes a dead letter.",
            ),
            ("dead-letter", "NAME-dead", "The dead-letter queue."),
            (
                "order",
                "\"group\"",
                "`\"queue\"` makes the whole queue one message group.",
            ),
            (
                "time-to-live",
                "none",
                "A message is removed when it has been in the queue for so long.",
            ),
            ("delay", "\"0s\"", "The delay of a message that was sent without one."),
            (
                "content-based-deduplication",
                "false",
                "A digest of the body is the deduplication id of a message that was sent without one.",
            ),
            (
                "deduplication-scope",
                "\"queue\"",
                "`\"group\"` lets the same deduplication id count once in each message group.",
            ),
            (
                "max-messages",
                "20000000",
                "The depth limit: the queue refuses sends beyond it.",
            ),
        ],
    },
    Table {
        file: File::Host,
        name: "queues.NAME",
        given: "url = \"sqs:orders\"",
        what: "With a `url`: a queue of Amazon SQS. All other keys of a Simple queue are refused.",
        keys: &[
            (
                "url",
                "none",
                "The queue. By its name, it is in the account and region of the credentials.",
            ),
            ("visibility-timeout", "the queue's own", "As above."),
            ("max-receives", "5", "As above, where the queue has no redrive policy."),
            (
                "dead-letter",
                "none",
                "The dead-letter queue, which has a `url` too. Not needed with a redrive policy.",
            ),
        ],
    },
    Table {
        file: File::Host,
        name: "keys.NAME",
        given: "",
        what: "An access key of SQS clients. `NAME` is the access key id.",
        keys: &[
            (
                "secret-file",
                "none: it has to be there",
                "The file with the secret key: 16 or more visible ASCII characters.",
            ),
            ("rights", "none: they have to be there", "What the key may do."),
            ("queues", "all queues", "With which queues."),
        ],
    },
    Table {
        file: File::Host,
        name: "redact",
        given: "",
        what: "What the dashboard, and clients with the read-only secret, are not shown of messages. [Redaction](../how-to/dashboard.md#redaction) says more.",
        keys: &[
            ("bodies", "false", "Hides all bodies."),
            (
                "paths",
                "[]",
                "Values inside bodies of JSON. `*` stands for any name or index. Other bodies are hidden as a whole.",
            ),
            ("attributes", "[]", "The values of the attributes with these names."),
        ],
    },
    Table {
        file: File::Host,
        name: "ledger",
        given: "",
        what: "The processed-message store, for queues of SQS.",
        keys: &[
            ("window", "\"1h\"", "How long a handled message is remembered."),
            ("max-entries", "262144", "How many are remembered. 0 remembers none."),
        ],
    },
    Table {
        file: File::Host,
        name: "journal",
        given: "",
        what: "What `sandhog tail` and `trace` know of the past.",
        keys: &[
            ("keep", "1000", "Attempts of each handler."),
            ("size", "\"1MiB\"", "Their size, for each handler."),
            (
                "durable",
                "false",
                "Also in `journal.jsonl` in the data directory, so that they outlive the process.",
            ),
        ],
    },
    Table {
        file: File::Host,
        name: "traces",
        given: "",
        what: "Spans for a collector of OpenTelemetry. [See a trace](../how-to/traces.md) has the variables that turn them on.",
        keys: &[(
            "parent",
            "true",
            "The context of a message is the parent of the span of its attempt; else it is only linked, and the span begins a trace of its own.",
        )],
    },
    Table {
        file: File::Host,
        name: "versions",
        given: "",
        what: "The versions of handlers.",
        keys: &[("keep", "10", "Versions of each handler that are kept.")],
    },
    Table {
        file: File::Manifest,
        name: "",
        given: "instance = \"reuse\"",
        what: "The top of the file. Paths are relative to the file.",
        keys: &[
            ("queue", "the file's name", "The queue that the handler serves."),
            (
                "concurrency",
                "16",
                "Calls at a time, each with one message or a batch.",
            ),
            ("timeout", "\"30s\"", "The longest time of one attempt."),
            (
                "batch-size",
                "10",
                "The most messages of one call. For batch handlers only.",
            ),
            (
                "instance",
                "\"fresh\"",
                "`\"reuse\"` keeps an instance for several messages, one after another.",
            ),
            (
                "reuse-max",
                "1000",
                "Messages until a reused instance is retired. Needs `instance = \"reuse\"`.",
            ),
            (
                "reuse-idle",
                "\"1m\"",
                "Time without a message until then. Needs `instance = \"reuse\"`.",
            ),
            (
                "stdout",
                "none",
                "For a program: each line of its standard output is a message to this queue, which it grants.",
            ),
            ("args", "[]", "For a program: its arguments."),
        ],
    },
    Table {
        file: File::Manifest,
        name: "retry",
        given: "",
        what: "The delay before a failed message is visible again: exponential, with full jitter.",
        keys: &[
            ("min", "\"1s\"", "The delay after the first failure."),
            ("max", "\"15m\"", "The longest delay."),
        ],
    },
    Table {
        file: File::Manifest,
        name: "rollout",
        given: "",
        what: "How a new version proves itself.",
        keys: &[
            ("attempts", "300", "Calls of a probation."),
            ("time", "\"10m\"", "The least time of a probation."),
            (
                "canary",
                "1; 0.5 with `slower`",
                "The share of the messages that the new version gets.",
            ),
            (
                "slower",
                "none: times are not compared",
                "A call that takes so many times the median is slow.",
            ),
            (
                "automatic",
                "true",
                "`false`: the host says what it has found, and goes back only by an order.",
            ),
        ],
    },
    Table {
        file: File::Manifest,
        name: "grant",
        given: "http = []",
        what: "What the handler may reach. Nothing else is there.",
        keys: &[
            ("send", "none", "The queues that it may send to."),
            ("env", "none", "Variables, by name."),
            ("config", "none", "Settings and secrets, by name."),
            ("http", "none", "The origins that it may ask."),
            (
                "http-addresses",
                "none",
                "Addresses that are not public, at which these origins may be. Needs `http`.",
            ),
            ("dirs", "none", "Directories. `write` is `false` by default."),
            ("keyvalue", "false", "A key-value store of the handler."),
            ("log", "\"info\"", "The level from which on its lines are kept."),
        ],
    },
    Table {
        file: File::Manifest,
        name: "exit-codes",
        given: "",
        what: "For a program: which exit codes besides 0, 75 and 65 mean something.",
        keys: &[
            ("success", "[]", "The message was handled."),
            ("reject", "[]", "It becomes a dead letter at once."),
            ("retry", "[]", "It is tried again."),
        ],
    },
    Table {
        file: File::Manifest,
        name: "dev",
        given: "",
        what: "For `sandhog dev` alone.",
        keys: &[
            (
                "build",
                "what fits the project",
                "The command that builds the component.",
            ),
            ("test", "what fits the project", "The command that runs the tests."),
            (
                "output",
                "NAME.wasm",
                "The component that the build leaves, relative to the manifest.",
            ),
        ],
    },
    Table {
        file: File::Manifest,
        name: "limits",
        given: "",
        what: "The limits of one attempt, with `memory`, which stands at the top of the file. [Security](../explanation/security.md#the-limits) says what happens at each.",
        keys: &[],
    },
];

/// What a reader of the file answers: a form that can be compared, or every mistake.
fn read(file: File, text: &str) -> Result<String, String> {
    match file {
        File::Host => {
            let place = tempfile::tempdir().unwrap();
            fs::create_dir(place.path().join("plugins")).unwrap();
            let config = Config::parse(text, "sandhog.toml", place.path());
            let here = place.path().to_str().unwrap().to_owned();
            config
                .map(|config| format!("{config:?}").replace(&here, ""))
                .map_err(|mistakes| mistakes.to_string())
        }
        File::Manifest => Manifest::parse(text, "orders")
            .map(|manifest| format!("{manifest:?}"))
            .map_err(|mistakes| mistakes.to_string()),
    }
}

impl Table {
    fn header(&self) -> String {
        match self.name {
            "" => String::new(),
            name => format!("[{}]\n", name.replace("NAME", "some")),
        }
    }

    /// A file whose table says this, and what else the table needs.
    fn text(&self, line: &str) -> String {
        let key = line.split(' ').next().unwrap_or_default();
        let given = self.given.lines().filter(|given| given.split(' ').next() != Some(key));
        format!("{}{}\n{line}\n", self.header(), given.collect::<Vec<_>>().join("\n"))
    }

    fn path(&self, key: &str) -> String {
        match self.name {
            "" => key.to_owned(),
            name => format!("{}.{key}", name.replace("NAME", "some")),
        }
    }

    /// What the host accepts, in its own words.
    fn accepted(&self, key: &str) -> String {
        let said = read(self.file, &self.text(&format!("{key} = {WRONG}"))).unwrap_err();
        let path = self.path(key);
        let own = said
            .lines()
            .find(|line| line.contains(&format!("{path} =")) || line.contains(&format!("{path}:")));
        let own = own.unwrap_or_else(|| panic!("nothing about {path} in: {said}"));
        let accepted = own.split_once(": use ");
        let accepted = accepted.unwrap_or_else(|| panic!("what is accepted does not stand in: {own}"));
        accepted.1.replace('|', "\\|")
    }

    /// The keys that the reader of the file knows here.
    fn known(&self) -> BTreeSet<String> {
        let said = read(self.file, &self.text(&format!("{UNKNOWN} = 1"))).unwrap_err();
        let known = said.split_once("known here: ").map(|(_, known)| known);
        let known = known.unwrap_or_else(|| panic!("no keys are named in: {said}"));
        let known = known.lines().next().unwrap_or_default();
        known.split(", ").map(str::to_owned).collect()
    }

    /// Sees that the file means the same with the default as without the key. A default in words can't be compared.
    fn check_default(&self, key: &str, default: &str) {
        let line = format!("{key} = {default}");
        if line.parse::<toml::Table>().is_ok() {
            let given = self.text("");
            let without = if self.text(&line).contains(self.given) {
                read(self.file, &given)
            } else {
                read(self.file, &self.header())
            };
            assert_eq!(read(self.file, &self.text(&line)), without, "the default of {key}");
        }
    }

    fn describe(&self, page: &mut String) {
        let heading = match (self.name, self.given) {
            ("", _) => String::new(),
            (name, given) if given.starts_with("url") => format!("\n### `[{name}]` with a `url`\n"),
            (name, _) => format!("\n### `[{name}]`\n"),
        };
        write!(
            page,
            "{heading}\n{}\n\n| key | default | accepted | what |\n| --- | --- | --- | --- |\n",
            self.what
        )
        .unwrap();
        if self.name == "limits" {
            for row in limit_rows() {
                writeln!(page, "{}", row.replace("| `limits.", "| `")).unwrap();
            }
            return;
        }
        for (key, default, what) in self.keys {
            self.check_default(key, default);
            let default = match format!("x = {default}").parse::<toml::Table>() {
                Ok(_) => format!("`{default}`"),
                Err(_) => (*default).to_owned(),
            };
            writeln!(page, "| `{key}` | {default} | {} | {what} |", self.accepted(key)).unwrap();
        }
    }

    /// Sees that the page has every key of the table, and no other.
    fn check_keys(&self) {
        let below = TABLES
            .iter()
            .filter(|table| table.file == self.file && self.name.is_empty());
        let tables = below.filter_map(|table| table.name.split('.').next());
        let mut listed: BTreeSet<_> = self.keys.iter().map(|(key, ..)| (*key).to_owned()).collect();
        listed.extend(tables.filter(|name| !name.is_empty()).map(str::to_owned));
        let prefix = if self.name == "limits" { "limits." } else { "" };
        for row in limit_rows() {
            let key = row.split('`').nth(1).unwrap_or_default().to_owned();
            let is_here = self.file == File::Manifest && ["", "limits"].contains(&self.name);
            match key.strip_prefix(prefix) {
                Some(key) if is_here && !key.contains('.') => drop(listed.insert(key.to_owned())),
                _ => {}
            }
        }
        // What is refused beside a `url` is known, too.
        let known = self.known();
        let refused = known.iter().filter(|key| {
            self.given.starts_with("url")
                && read(self.file, &self.text(&format!("{key} = {WRONG}")))
                    .is_err_and(|said| said.contains("no such setting here"))
        });
        let refused: BTreeSet<_> = refused.cloned().collect();
        let known: BTreeSet<_> = known.difference(&refused).cloned().collect();
        assert_eq!(listed, known, "the keys of {:?} {:?}", self.file, self.name);
    }
}

pub(super) fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut file = None;
    for table in &TABLES {
        if file != Some(table.file) {
            page.push_str(match table.file {
                File::Host => "\n## sandhog.toml\n",
                File::Manifest => "\n## The manifest\n",
            });
            file = Some(table.file);
        }
        table.check_keys();
        table.describe(&mut page);
    }
    page
}
