//! What a guest does, as a text among its bytes says: so two versions differ in their component and in nothing else, and one
//! manifest fits both.
//!
//! The text is a tag and commands, each after a semicolon, such as `new; trap every 10`. Commands are obeyed in order.
//!
//! | command | what it does |
//! | --- | --- |
//! | `trap` | traps |
//! | `trap every N` | traps on messages whose number is a multiple of N |
//! | `trap group G` | traps on the messages of a group |
//! | `trap after N` | traps once this instance has begun more than N messages |
//! | `wait MS` | waits |
//! | `memory` | takes memory until there is no more |
//! | `retry` `reject` | fails with that |
//! | `short` | a batch handler leaves the last answer out |
//! | `call URL OR` | asks a server; without a success `trap`s, `retry`s, or asks `again` until there is one |
//!
//! A message's body is `GROUP.NUMBER`. A message that was handled is sent to the queue `done`, as `TAG BODY RECEIVE-COUNT`.

use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use sandhog_guest::{Failure, Message, Outgoing, send};
use wasi::clocks::monotonic_clock::subscribe_duration;

/// How long the text is, with what tests look for in front of it.
const TEXT_BYTES: usize = 256;
/// What tests look for.
const MARK: &[u8] = b"behaviour of this version:";

/// Tests write over what is behind the colon.
#[used]
static TEXT: [u8; TEXT_BYTES] = text();

/// The messages that this instance has begun.
static BEGUN: AtomicU32 = AtomicU32::new(0);

const fn text() -> [u8; TEXT_BYTES] {
    // No zeros, which a linker may leave out of the file.
    let mut text = [b' '; TEXT_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        text[at] = MARK[at];
        at += 1;
    }
    text
}

/// A tag, and what is to be done.
pub struct Behaviour {
    text: String,
}

/// The server that a message is to ask first.
pub struct Dependency<'b> {
    /// Where it is.
    pub url: &'b str,
    /// What follows if it does not answer with a success.
    pub otherwise: Otherwise,
}

/// What follows if a server does not answer with a success.
pub enum Otherwise {
    /// The guest traps.
    Trap,
    /// It fails with `retry`.
    Retry,
    /// It asks again after a moment.
    Again,
}

impl Behaviour {
    /// Reads the text of this component.
    pub fn of_this_component() -> Self {
        let bytes = (MARK.len()..TEXT_BYTES).map(|at| {
            // SAFETY: the place is inside the static. The read is volatile so that the compiler does not take the text that it
            // sees for the one that is there when the guest runs.
            unsafe { ptr::read_volatile(ptr::addr_of!(TEXT).cast::<u8>().add(at)) }
        });
        let text = String::from_utf8(bytes.collect()).expect("tests write text");
        Self {
            text: text.trim().to_owned(),
        }
    }

    fn tag(&self) -> &str {
        self.text.split(';').next().unwrap_or_default().trim()
    }

    fn commands(&self) -> impl Iterator<Item = Vec<&str>> {
        self.text
            .split(';')
            .skip(1)
            .map(|command| command.split_whitespace().collect())
    }

    /// Does what is to be done with one message, apart from asking a server.
    pub fn handle(&self, message: &Message) -> Result<(), Failure> {
        let begun = BEGUN.fetch_add(1, Ordering::Relaxed) + 1;
        let body = message.text()?;
        for command in self.commands() {
            match command.as_slice() {
                ["trap"] => panic!("this version traps on everything"),
                ["trap", "every", n] if number(body) % parsed(n) == 0 => panic!("this version traps on one in {n}"),
                ["trap", "group", group] if body.split('.').next() == Some(group) => {
                    panic!("this version traps on the group {group}")
                }
                ["trap", "after", n] if u64::from(begun) > parsed(n) => {
                    panic!("an instance of this version traps after {n} messages")
                }
                ["wait", ms] => wait(parsed(ms)),
                ["memory"] => take_all_memory(),
                ["retry"] => return Err(Failure::retry("this version answers retry")),
                ["reject"] => return Err(Failure::reject("this version rejects")),
                _ => {}
            }
        }
        let receives = message.receive_count;
        send("done", Outgoing::new(format!("{} {body} {receives}", self.tag())))?;
        Ok(())
    }

    /// Whether the last answer of a batch is left out.
    pub fn is_short(&self) -> bool {
        self.commands().any(|command| command == ["short"])
    }

    /// The server that is to be asked before a message is handled.
    pub fn dependency(&self) -> Option<Dependency<'_>> {
        self.commands().find_map(|command| match command.as_slice() {
            ["call", url, otherwise] => Some(Dependency {
                url,
                otherwise: match *otherwise {
                    "trap" => Otherwise::Trap,
                    "retry" => Otherwise::Retry,
                    "again" => Otherwise::Again,
                    other => panic!("{other} is unknown"),
                },
            }),
            _ => None,
        })
    }
}

/// Waits for so many milliseconds.
pub fn wait(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}

fn number(body: &str) -> u64 {
    body.rsplit('.').next().map_or(1, parsed)
}

fn parsed(text: &str) -> u64 {
    text.parse().expect("tests write numbers")
}

fn take_all_memory() {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
    }
}
