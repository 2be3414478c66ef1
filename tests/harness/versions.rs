//! Versions of a handler: components that do what a text among their bytes says, what a host tells of them, and messages
//! whose way through them can be read from the queue `done`.

#![expect(clippy::indexing_slicing, reason = "JSON that is not as expected fails the test")]

use serde_json::{Value, json};

use crate::{
    built::versioned_guest,
    host::{Host, Place},
    wait_for,
};

/// What stands in front of the text, and how long both are together: as in `tests/guests/versioned/behaviour`.
const MARK: &[u8] = b"behaviour of this version:";
const TEXT_BYTES: usize = 256;

/// A component that is `base` but for its behaviour, such as `bad; trap every 10`: a tag and commands.
pub fn version_of(base: &[u8], behaviour: &str) -> Vec<u8> {
    let mut places = base
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .map(|(at, _)| at);
    let (at, another) = (places.next().expect("a versioned guest"), places.next());
    assert_eq!(another, None, "the place of the behaviour is not clear");
    let text = base.get(at..at + TEXT_BYTES).expect("the whole text");
    assert!(text.ends_with(b" "), "the text is cut off");
    let room = TEXT_BYTES - MARK.len();
    assert!(behaviour.len() <= room, "{behaviour:?} has more than {room} bytes");
    let mut wasm = base.to_vec();
    wasm.splice(
        at + MARK.len()..at + TEXT_BYTES,
        format!("{behaviour:room$}").into_bytes(),
    );
    wasm
}

/// A handler of single messages.
pub fn plain(behaviour: &str) -> Vec<u8> {
    version_of(&versioned_guest("plain"), behaviour)
}

/// A handler of batches.
pub fn batch(behaviour: &str) -> Vec<u8> {
    version_of(&versioned_guest("batch"), behaviour)
}

/// A handler that can ask a server, for which it needs a grant.
pub fn calling(behaviour: &str) -> Vec<u8> {
    version_of(&versioned_guest("calling"), behaviour)
}

/// A handler that counts in the key-value store, for which it needs a grant.
pub fn keeping(behaviour: &str) -> Vec<u8> {
    version_of(&versioned_guest("keeping"), behaviour)
}

/// What a host tells of the versions of a handler.
#[derive(Debug, Clone)]
pub struct VersionsTold(Value);

impl VersionsTold {
    pub fn of(host: &Host, handler: &str) -> Self {
        Self(host.get(&format!("/handlers/{handler}/versions")))
    }

    pub fn new(answer: Value) -> Self {
        Self(answer)
    }

    pub fn serving(&self) -> Option<u64> {
        self.0["serving"].as_u64()
    }

    pub fn predecessor(&self) -> Option<u64> {
        self.0["predecessor"].as_u64()
    }

    pub fn note(&self) -> Option<&str> {
        self.0["note"].as_str()
    }

    /// `probation`, `doubt` or `watching`; `None` if nothing is compared.
    pub fn stage(&self) -> Option<&str> {
        self.0["probation"]["stage"].as_str()
    }

    /// A number of the comparison, such as `newer-breaks`.
    pub fn compared(&self, which: &str) -> u64 {
        self.0["probation"][which]
            .as_u64()
            .unwrap_or_else(|| panic!("{which}: {self:?}"))
    }

    pub fn all(&self) -> &[Value] {
        self.0["versions"].as_array().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// What is told of one version.
    pub fn version(&self, number: u64) -> &Value {
        let mut all = self.all().iter();
        all.find(|version| version["number"] == number)
            .unwrap_or_else(|| panic!("there is no version {number}: {self:?}"))
    }

    pub fn state(&self, number: u64) -> &str {
        self.version(number)["state"].as_str().unwrap_or_default()
    }

    pub fn reason(&self, number: u64) -> &str {
        self.version(number)["reason"].as_str().unwrap_or_default()
    }

    pub fn calls(&self, number: u64) -> u64 {
        self.version(number)["calls"].as_u64().unwrap_or_default()
    }

    pub fn breaks(&self, number: u64) -> u64 {
        self.version(number)["breaks"].as_u64().unwrap_or_default()
    }

    /// The newest version with this component.
    pub fn number_of(&self, wasm: &[u8]) -> Option<u64> {
        let digest = sandhog_executor::digest(wasm);
        let mut all = self.all().iter();
        all.find(|version| version["component"] == digest)?["number"].as_u64()
    }

    /// What has happened, oldest first, as `NUMBER WHAT`.
    pub fn events(&self) -> Vec<String> {
        let events = self.0["events"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        let said = |event: &Value| format!("{} {}", event["number"], event["what"].as_str().unwrap_or_default());
        events.iter().rev().map(said).collect()
    }
}

/// A message that was handled, as its handler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandledMessage {
    /// Of the version that handled it.
    pub tag: String,
    pub group: String,
    pub number: u64,
    /// How often it had been received.
    pub receives: u64,
}

impl HandledMessage {
    /// Reads what a versioned guest sends to `done`.
    pub fn read(text: &str) -> Self {
        let words: Vec<_> = text.split(' ').collect();
        let [tag, body, receives] = words.as_slice() else {
            panic!("not of a versioned guest: {text}")
        };
        let (group, number) = body.split_once('.').unwrap();
        Self {
            tag: (*tag).to_owned(),
            group: group.to_owned(),
            number: number.parse().unwrap(),
            receives: receives.parse().unwrap(),
        }
    }
}

/// A host with the handler `in`, the messages that it was sent, and the versions that it was given.
#[derive(Debug)]
pub struct Trial {
    pub place: Place,
    pub manifest: String,
    /// How many message groups there are; 0: the messages have none.
    pub groups: u64,
    /// The number of the next message.
    pub next: u64,
    sent: Vec<u64>,
}

impl Trial {
    /// A handler with this manifest, to which the grant that every versioned guest needs is added.
    pub fn new(manifest: &str) -> Self {
        Self {
            place: Place::new(),
            manifest: with_grant(manifest),
            groups: 19,
            next: 1,
            sent: Vec::new(),
        }
    }

    /// Puts a version there, and waits until new messages run on it; its number.
    pub fn deploy(&self, host: &Host, wasm: &[u8]) -> u64 {
        self.place.install("in", wasm, &self.manifest);
        self.serves(host, wasm)
    }

    /// Waits until new messages run on this component; the version's number.
    pub fn serves(&self, host: &Host, wasm: &[u8]) -> u64 {
        wait_for("the version to serve", || {
            let told = try_told(host)?;
            told.number_of(wasm).filter(|number| told.serving() == Some(*number))
        })
    }

    /// Starts a host whose first version this is, and lets it handle 20 messages.
    pub fn start(&mut self, first: &[u8]) -> Host {
        self.place.install("in", first, &self.manifest);
        let host = self.place.start();
        host.wait_ready();
        self.serves(&host, first);
        self.send(&host, 20);
        host.wait_empty("in");
        host
    }

    /// Sends so many messages; their numbers rise, and so they do in each group.
    pub fn send(&mut self, host: &Host, count: u64) {
        let numbers: Vec<_> = (self.next..self.next + count).collect();
        self.next += count;
        for chunk in numbers.chunks(100) {
            let messages: Vec<_> = chunk.iter().map(|number| self.message(*number)).collect();
            let answer = host.post("/queues/in/batch", &json!({ "messages": messages }));
            let results = answer["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
            let accepted = results.iter().filter(|result| result["id"].is_string()).count();
            assert_eq!(accepted, chunk.len(), "{answer}");
        }
        self.sent.extend(numbers);
    }

    fn message(&self, number: u64) -> Value {
        let group = self.group(number);
        if self.groups == 0 {
            json!({ "body": format!("{group}.{number}") })
        } else {
            json!({ "body": format!("{group}.{number}"), "group": group })
        }
    }

    fn group(&self, number: u64) -> String {
        if self.groups == 0 {
            "none".to_owned()
        } else {
            format!("g{}", number % self.groups)
        }
    }

    /// Sends messages, `messages` at most, with some of them waiting all the time, until the fact is there.
    pub fn send_until<T>(&mut self, host: &Host, messages: u64, mut fact: impl FnMut(&VersionsTold) -> Option<T>) -> T {
        const AT_ONCE: u64 = 10;
        let last = self.next + messages;
        loop {
            let told = VersionsTold::of(host, "in");
            if let Some(found) = fact(&told) {
                return found;
            }
            if self.next >= last {
                // What is counted of the last one may come a moment after it is gone.
                host.wait_empty("in");
                return fact(&VersionsTold::of(host, "in"))
                    .unwrap_or_else(|| panic!("{messages} messages did not bring it about: {told:#?}"));
            }
            self.send(host, AT_ONCE);
            wait_for("the backlog to shrink", || {
                (host.count("in", "ready") < 2 * AT_ONCE).then_some(())
            });
        }
    }

    /// Waits until all is handled, and takes what was handled out of `done`, in the order of the commits. Every message that
    /// was sent since the last time is there once, none is dead, and each group is in order.
    pub fn handled(&mut self, host: &Host) -> Vec<HandledMessage> {
        host.wait_empty("in");
        assert_eq!(host.dead("in"), Vec::<Value>::new(), "a message is dead");
        let taken = host.take_all("done");
        let handled: Vec<_> = taken.iter().map(|text| HandledMessage::read(text)).collect();
        let mut numbers: Vec<_> = handled.iter().map(|message| message.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, std::mem::take(&mut self.sent), "lost, or handled twice");
        check_order(&handled);
        handled
    }
}

/// The messages of each group were handled in the order sent.
pub fn check_order(handled: &[HandledMessage]) {
    let mut latest = std::collections::BTreeMap::new();
    for HandledMessage { group, number, .. } in handled.iter().filter(|message| message.group != "none") {
        let before = latest.insert(group, number);
        assert!(
            before.is_none_or(|before| before < number),
            "group {group} is out of order at {number}"
        );
    }
}

/// The versions of the handler `in`, if the host knows it already.
pub fn try_told(host: &Host) -> Option<VersionsTold> {
    let (code, text) = host.text("/handlers/in/versions");
    (code == 200).then(|| VersionsTold(serde_json::from_str(&text).unwrap()))
}

/// The manifest with the grant to send to `done`, which stands last.
fn with_grant(manifest: &str) -> String {
    match manifest.split_once("[grant]\n") {
        Some((before, grants)) => format!("{before}[grant]\nsend = [\"done\"]\n{grants}"),
        None => format!("{manifest}\n[grant]\nsend = [\"done\"]\n"),
    }
}
