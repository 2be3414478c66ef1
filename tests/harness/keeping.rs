//! A guest that does with its key-value store what its messages say.
//!
//! The signatures below are the canonical ABI's flattening of the packages under `host/executor/wit/keyvalue` and
//! `host/executor/wit/keyvalue-draft2`.

use wit_parser::Resolve;

use crate::{
    guests::{WAIT, WAIT_IMPORT, batch_text, embed_in, text_of_handler},
    repository,
};

/// The draft of the interface that a guest speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draft {
    /// `0.2.0-draft`.
    First,
    /// `0.2.0-draft2`.
    Second,
}

impl Draft {
    fn id(self, interface: &str) -> String {
        let version = match self {
            Self::First => "0.2.0-draft",
            Self::Second => "0.2.0-draft2",
        };
        format!("wasi:keyvalue/{interface}@{version}")
    }
}

/// Where the answers of the host are put.
const ANSWER: u32 = 384;
/// Room for long values and lists.
const ROOM: u32 = 4 * 1024 * 1024;

/// A handler whose messages are commands, each with an argument up to a `;`, which may be a key and a value with a `=`
/// between. What it says is sent to the queue `out`; what the store refuses is the reason of a `reject`.
///
/// | command | what it does |
/// | --- | --- |
/// | `oBUCKET` | uses this bucket from here on; it begins with the empty name |
/// | `ON` | opens the bucket with the empty name N times, and keeps the handles |
/// | `sKEY=VALUE` | sets |
/// | `SKEY=N` | sets a value of N zeros |
/// | `gKEY` | gets, and says the value, or `-` |
/// | `eKEY` | says whether there is a value: `1` or `0` |
/// | `dKEY` | deletes |
/// | `iKEY=N` | increments by N |
/// | `IKEY=N` | the same, and says the sum |
/// | `l` | lists all keys, page by page, and says each |
/// | `cN` | lists with the cursor N |
/// | `b=VALUE` `h` `k` | sets `x` and `y` with one call; gets `x`, `z` and `y` with one call, and says each; deletes `x` and `y` with one call |
/// | `mN` | asks for N keys with one call |
/// | `r` | fails with `retry-after`, 0 seconds, at the first receive; goes on at later ones |
/// | `t` | traps |
/// | `wN` | waits N ms |
///
/// Of the second draft alone, where a number can be negative:
///
/// | command | what it does |
/// | --- | --- |
/// | `nKEY` | notes the value of the key |
/// | `v` | says the noted value, or `-` |
/// | `xVALUE` | replaces the noted value, and says whether that was done: `1` or `0`; `0` notes the latest value |
/// | `aKEY=N` | reads a number, adds N and replaces it, again and again until that is done |
/// | `NKEY=N` | notes the value of the key N times, and keeps the handles |
pub fn keeper() -> Vec<u8> {
    keeper_of(Draft::First)
}

/// As [`keeper`], of either draft.
pub fn keeper_of(draft: Draft) -> Vec<u8> {
    let arms = arms(draft);
    let handle = format!(
        "(local $c i32) (local $n i32) (local $at i32) (local $more i32) (local $cursor i64) (local $text i32) (local $text-len i32)
        (global.set $at (local.get $body))
        (global.set $end (i32.add (local.get $body) (local.get $body-len)))
        (loop $command
            (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (global.get $ok))))
            (local.set $c (i32.load8_u (global.get $at)))
            (global.set $at (i32.add (global.get $at) (i32.const 1)))
            (call $read)
            (if (i32.eqz (global.get $bucket)) (then
                (call $open (i32.const 0) (i32.const 0) (i32.const {ANSWER}))
                {check}
                (global.set $bucket (i32.load (i32.const {payload})))))
            {arms}
            unreachable)
        unreachable",
        check = check(4),
        payload = ANSWER + 4,
    );
    let imports = imports(draft);
    let signed = u8::from(draft == Draft::Second);
    let definitions = format!("{DEFINITIONS} {WAIT} (global $signed i32 (i32.const {signed}))");
    let text = text_of_handler(&handle, (&imports, &definitions), 96);
    let (resolve, package) = world("keeper", "handler", draft);
    embed_in(&text, (&resolve, package), "keeper")
}

/// A batch handler that sets the key `first` to `x`, and succeeds for all messages but the last.
pub fn batch_keeper() -> Vec<u8> {
    let store = Draft::First.id("store");
    let imports = format!(
        r#"(import "{store}" "open" (func $open (param i32 i32 i32)))
        (import "{store}" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))"#
    );
    // A list of results: a success is one zero byte; the last is a failure of the kind `retry` without a reason.
    let handle = r"(local $last i32)
        (call $open (i32.const 0) (i32.const 0) (i32.const 384))
        (if (i32.load8_u (i32.const 384)) (then unreachable))
        (call $set (i32.load (i32.const 388)) (i32.const 256) (i32.const 5) (i32.const 264) (i32.const 1) (i32.const 384))
        (if (i32.load8_u (i32.const 384)) (then unreachable))
        (local.set $last (i32.add (i32.const 1024) (i32.mul (i32.sub (local.get $count) (i32.const 1)) (i32.const 20))))
        (i32.store8 (local.get $last) (i32.const 1))
        (i32.store (i32.const 16) (i32.const 1024))
        (i32.store (i32.const 20) (local.get $count))
        (i32.const 16)";
    let data = r#"(data (i32.const 256) "first") (data (i32.const 264) "x")"#;
    let text = batch_text(handle, (&imports, data));
    let (resolve, package) = world("batch-keeper", "batch-handler", Draft::First);
    embed_in(&text, (&resolve, package), "batch-keeper")
}

/// A world that imports the store and exports the interface.
fn world(name: &str, interface: &str, draft: Draft) -> (Resolve, wit_parser::PackageId) {
    let mut resolve = Resolve::default();
    for directory in ["wit", "host/executor/wit/keyvalue", "host/executor/wit/keyvalue-draft2"] {
        resolve.push_dir(repository().join(directory)).unwrap();
    }
    let text = format!(
        "package harness:keeping;
        world {name} {{
            import sandhog:worker/sender@0.1.0;
            import {};
            import {};
            import {};
            export sandhog:worker/{interface}@0.1.0;
        }}",
        draft.id("store"),
        draft.id("atomics"),
        draft.id("batch")
    );
    let package = resolve.push_str("keeping.wit", &text).unwrap();
    (resolve, package)
}

fn imports(draft: Draft) -> String {
    let [store, atomics, batch] = ["store", "atomics", "batch"].map(|interface| draft.id(interface));
    let (cursor, cas) = match draft {
        Draft::First => ("i64", String::new()),
        Draft::Second => (
            "i32 i32",
            format!(
                r#"(import "{atomics}" "[static]cas.new" (func $note (param i32 i32 i32 i32)))
                (import "{atomics}" "[method]cas.current" (func $current (param i32 i32)))
                (import "{atomics}" "[resource-drop]cas" (func $forget (param i32)))
                (import "{atomics}" "swap" (func $swap (param i32 i32 i32 i32)))"#
            ),
        ),
    };
    format!(
        r#"(import "{store}" "open" (func $open (param i32 i32 i32)))
        (import "{store}" "[resource-drop]bucket" (func $close (param i32)))
        (import "{store}" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))
        (import "{store}" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (import "{store}" "[method]bucket.delete" (func $delete (param i32 i32 i32 i32)))
        (import "{store}" "[method]bucket.exists" (func $exists (param i32 i32 i32 i32)))
        (import "{store}" "[method]bucket.list-keys" (func $list (param i32 i32 {cursor} i32)))
        (import "{atomics}" "increment" (func $increment (param i32 i32 i32 i64 i32)))
        (import "{batch}" "get-many" (func $get-many (param i32 i32 i32 i32)))
        (import "{batch}" "set-many" (func $set-many (param i32 i32 i32 i32)))
        (import "{batch}" "delete-many" (func $delete-many (param i32 i32 i32 i32)))
        {WAIT_IMPORT}
        {cas}"#
    )
}

/// Rejects with the reason of a refusal, whose payload is so far behind the start of the answer.
fn check(payload: u32) -> String {
    format!(
        "(if (i32.load8_u (i32.const {ANSWER})) (then (return (call $refuse (i32.const {})))))",
        ANSWER + payload
    )
}

/// The bucket and the key that a command is about, its value, and the numbers that these stand for.
const KEY: &str = "(global.get $bucket) (global.get $arg) (global.get $arg-len)";
const VALUE: &str = "(global.get $value) (global.get $value-len)";
const ARGUMENT: &str = "(call $digits (global.get $arg) (global.get $arg-len))";
const NUMBER: &str = "(call $digits (global.get $value) (global.get $value-len))";

/// Says the keys of a list.
const SAY_KEYS: &str = "(block $end (loop $key
    (br_if $end (i32.eqz (local.get $n)))
    (call $say (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
    (br $key)))";

/// What each command does.
fn arms(draft: Draft) -> String {
    let arm = |(command, does): (char, String)| {
        let code = u32::from(command);
        format!("(if (i32.eq (local.get $c) (i32.const {code})) (then {does} (br $command)))\n")
    };
    let mut commands = commands_for_one();
    commands.extend(commands_for_many());
    commands.extend(match draft {
        Draft::First => listing(),
        Draft::Second => listing_by_text().into_iter().chain(commands_that_compare()).collect(),
    });
    commands.into_iter().map(arm).collect()
}

/// The commands that are about one key, a bucket, or nothing of the store.
fn commands_for_one() -> Vec<(char, String)> {
    let (check4, check8) = (check(4), check(8));
    let (ok4, ok8) = (ANSWER + 4, ANSWER + 8);
    let open = format!(
        "(call $open (global.get $arg) (global.get $arg-len) (i32.const {ANSWER})) {check4}
        (call $close (global.get $bucket))
        (global.set $bucket (i32.load (i32.const {ok4})))"
    );
    let open_many = format!(
        "(local.set $n (i32.wrap_i64 {ARGUMENT}))
        (loop $again
            (call $open (i32.const 0) (i32.const 0) (i32.const {ANSWER})) {check4}
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $again (local.get $n)))"
    );
    let set_zeros =
        format!("(call $set {KEY} (i32.const {ROOM}) (i32.wrap_i64 {NUMBER}) (i32.const {ANSWER})) {check4}");
    let get = format!(
        "(call $get {KEY} (i32.const {ANSWER})) {check4}
        (call $say-option (i32.const {ok4}) (i32.const {ok8}))"
    );
    let exists = format!(
        "(call $exists {KEY} (i32.const {ANSWER})) {check4}
        (i32.store8 (i32.const 340) (i32.add (i32.const 48) (i32.load8_u (i32.const {ok4}))))
        (call $say (i32.const 340) (i32.const 1))"
    );
    let increment = format!("(call $increment {KEY} {NUMBER} (i32.const {ANSWER})) {check8}");
    let increment_and_say = format!("{increment} (call $say-number (i64.load (i32.const {ok8})))");
    let set = format!("(call $set {KEY} {VALUE} (i32.const {ANSWER})) {check4}");
    let delete = format!("(call $delete {KEY} (i32.const {ANSWER})) {check4}");
    let fail = "(return (call $fail (i32.const 1) (i32.const 272) (i32.const 7) (i32.const 0)))";
    vec![
        ('o', open),
        ('O', open_many),
        ('s', set),
        ('S', set_zeros),
        ('g', get),
        ('e', exists),
        ('d', delete),
        ('i', increment),
        ('I', increment_and_say),
        (
            'r',
            format!("(if (i32.eq (local.get $receive-count) (i32.const 1)) (then {fail}))"),
        ),
        ('t', "unreachable".to_owned()),
        ('w', format!("(call $wait (i32.wrap_i64 {ARGUMENT}))")),
    ]
}

/// The commands that list keys, whose cursors are numbers.
fn listing() -> Vec<(char, String)> {
    let check8 = check(8);
    let ok8 = ANSWER + 8;
    let cursor = format!("(call $list (global.get $bucket) (i32.const 1) {ARGUMENT} (i32.const {ANSWER})) {check8}");
    let list = format!(
        "(local.set $more (i32.const 0))
        (loop $page
            (call $list (global.get $bucket) (local.get $more) (local.get $cursor) (i32.const {ANSWER})) {check8}
            (local.set $at (i32.load (i32.const {ok8})))
            (local.set $n (i32.load (i32.const {})))
            {SAY_KEYS}
            (local.set $more (i32.load8_u (i32.const {})))
            (local.set $cursor (i64.load (i32.const {})))
            (br_if $page (local.get $more)))",
        ANSWER + 12,
        ANSWER + 16,
        ANSWER + 24
    );
    vec![('l', list), ('c', cursor)]
}

/// The commands that list keys, whose cursors are texts.
fn listing_by_text() -> Vec<(char, String)> {
    let check4 = check(4);
    let cursor = format!(
        "(call $list (global.get $bucket) (i32.const 1) (global.get $arg) (global.get $arg-len) (i32.const {ANSWER})) {check4}"
    );
    let list = format!(
        "(local.set $more (i32.const 0))
        (loop $page
            (call $list (global.get $bucket) (local.get $more) (local.get $text) (local.get $text-len) (i32.const {ANSWER})) {check4}
            (local.set $at (i32.load (i32.const {})))
            (local.set $n (i32.load (i32.const {})))
            {SAY_KEYS}
            (local.set $more (i32.load8_u (i32.const {})))
            (local.set $text (i32.load (i32.const {})))
            (local.set $text-len (i32.load (i32.const {})))
            (br_if $page (local.get $more)))",
        ANSWER + 4,
        ANSWER + 8,
        ANSWER + 12,
        ANSWER + 16,
        ANSWER + 20
    );
    vec![('l', list), ('c', cursor)]
}

/// The commands that compare and set.
fn commands_that_compare() -> Vec<(char, String)> {
    let check4 = check(4);
    let (ok4, ok8) = (ANSWER + 4, ANSWER + 8);
    let note = format!(
        "(call $note {KEY} (i32.const {ANSWER})) {check4}
        (global.set $cas (i32.load (i32.const {ok4})))"
    );
    let current = format!("(call $current (global.get $cas) (i32.const {ANSWER})) {check4}");
    // Leaves whether the value was replaced. An answer of the store is a refusal, whose error is behind the two tags.
    let swap = |value: &str| {
        format!(
            "(call $swap (global.get $cas) {value} (i32.const {ANSWER}))
            (local.set $n (i32.const 1))
            (if (i32.load8_u (i32.const {ANSWER})) (then
                (if (i32.eqz (i32.load8_u (i32.const {ok4}))) (then (return (call $refuse (i32.const {ok8})))))
                (global.set $cas (i32.load (i32.const {ok8})))
                (local.set $n (i32.const 0))))"
        )
    };
    let replace = format!(
        "{}
        (i32.store8 (i32.const 340) (i32.add (i32.const 48) (local.get $n)))
        (call $say (i32.const 340) (i32.const 1))",
        swap("(global.get $arg) (global.get $arg-len)")
    );
    let add = format!(
        "{note}
        (loop $again
            {current}
            (local.set $cursor (i64.const 0))
            (if (i32.load8_u (i32.const {ok4})) (then
                (local.set $cursor (call $digits (i32.load (i32.const {ok8})) (i32.load (i32.const {}))))))
            (local.set $at (call $write-number (i64.add (local.get $cursor) {NUMBER})))
            {}
            (br_if $again (i32.eqz (local.get $n))))",
        ANSWER + 12,
        swap("(local.get $at) (i32.sub (i32.const 480) (local.get $at))")
    );
    let note_often = format!(
        "(local.set $cursor {NUMBER})
        (loop $again
            {note}
            (local.set $cursor (i64.sub (local.get $cursor) (i64.const 1)))
            (br_if $again (i64.ne (local.get $cursor) (i64.const 0))))"
    );
    vec![
        ('n', note),
        (
            'v',
            format!("{current} (call $say-option (i32.const {ok4}) (i32.const {ok8}))"),
        ),
        ('x', replace),
        ('a', add),
        ('N', note_often),
    ]
}

/// The commands that are about many keys.
fn commands_for_many() -> Vec<(char, String)> {
    let check4 = check(4);
    let (ok4, ok8) = (ANSWER + 4, ANSWER + 8);
    let set = format!(
        "{} {} {} {}
        (call $set-many (global.get $bucket) (i32.const 512) (i32.const 2) (i32.const {ANSWER})) {check4}",
        text_at(512, "(i32.const 320) (i32.const 1)"),
        text_at(520, VALUE),
        text_at(528, "(i32.const 321) (i32.const 1)"),
        text_at(536, VALUE)
    );
    let get = format!(
        "{} {} {}
        (call $get-many (global.get $bucket) (i32.const 512) (i32.const 3) (i32.const {ANSWER})) {check4}
        (local.set $at (i32.load (i32.const {ok4})))
        (local.set $n (i32.load (i32.const {ok8})))
        (loop $value
            (call $say-option (local.get $at) (i32.add (local.get $at) (i32.const 12)))
            (local.set $at (i32.add (local.get $at) (i32.const 20)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $value (local.get $n)))",
        text_at(512, "(i32.const 320) (i32.const 1)"),
        text_at(520, "(i32.const 322) (i32.const 1)"),
        text_at(528, "(i32.const 321) (i32.const 1)")
    );
    let delete = format!(
        "{} {}
        (call $delete-many (global.get $bucket) (i32.const 512) (i32.const 2) (i32.const {ANSWER})) {check4}",
        text_at(512, "(i32.const 320) (i32.const 1)"),
        text_at(520, "(i32.const 321) (i32.const 1)")
    );
    let get_too_many = format!(
        "(local.set $n (i32.wrap_i64 {ARGUMENT}))
        (local.set $at (i32.const {ROOM}))
        (loop $key
            (i32.store (local.get $at) (i32.const 320))
            (i32.store offset=4 (local.get $at) (i32.const 1))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $key (local.get $n)))
        (call $get-many (global.get $bucket) (i32.const {ROOM}) (i32.wrap_i64 {ARGUMENT}) (i32.const {ANSWER})) {check4}"
    );
    vec![('b', set), ('h', get), ('k', delete), ('m', get_too_many)]
}

/// Puts the address and the length of a text or of bytes, which are two instructions, at a place.
fn text_at(at: u32, text: &str) -> String {
    format!("(call $put (i32.const {at}) {text})")
}

const DEFINITIONS: &str = r#"
    (global $bucket (mut i32) (i32.const 0))
    (global $cas (mut i32) (i32.const 0))
    (global $at (mut i32) (i32.const 0)) (global $end (mut i32) (i32.const 0))
    (global $arg (mut i32) (i32.const 0)) (global $arg-len (mut i32) (i32.const 0))
    (global $value (mut i32) (i32.const 0)) (global $value-len (mut i32) (i32.const 0))
    (data (i32.const 288) "access denied") (data (i32.const 320) "xyz") (data (i32.const 330) "-")
    (func $refuse (param $error i32) (result i32)
        (if (i32.ne (i32.load8_u (local.get $error)) (i32.const 2))
            (then (return (call $fail (i32.const 2) (i32.const 288) (i32.const 13) (i32.const 0)))))
        (call $fail (i32.const 2) (i32.load offset=4 (local.get $error)) (i32.load offset=8 (local.get $error)) (i32.const 0)))
    (func $put (param $at i32) (param $text i32) (param $len i32)
        (i32.store (local.get $at) (local.get $text))
        (i32.store offset=4 (local.get $at) (local.get $len)))
    (func $read
        (local $c i32)
        (global.set $arg (global.get $at))
        (global.set $value (i32.const 0))
        (block $done (loop $next
            (br_if $done (i32.ge_u (global.get $at) (global.get $end)))
            (local.set $c (i32.load8_u (global.get $at)))
            (br_if $done (i32.eq (local.get $c) (i32.const 59)))
            (if (i32.and (i32.eq (local.get $c) (i32.const 61)) (i32.eqz (global.get $value))) (then
                (global.set $arg-len (i32.sub (global.get $at) (global.get $arg)))
                (global.set $value (i32.add (global.get $at) (i32.const 1)))))
            (global.set $at (i32.add (global.get $at) (i32.const 1)))
            (br $next)))
        (if (i32.eqz (global.get $value)) (then
            (global.set $arg-len (i32.sub (global.get $at) (global.get $arg)))
            (global.set $value (global.get $at))))
        (global.set $value-len (i32.sub (global.get $at) (global.get $value)))
        (global.set $at (i32.add (global.get $at) (i32.const 1))))
    (func $digits (param $at i32) (param $len i32) (result i64)
        (local $n i64) (local $sign i64)
        (local.set $sign (i64.const 1))
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 45)) (then
            (local.set $sign (i64.const -1))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $len (i32.sub (local.get $len) (i32.const 1)))))
        (block $done (loop $next
            (br_if $done (i32.eqz (local.get $len)))
            (local.set $n (i64.add (i64.mul (local.get $n) (i64.const 10))
                (i64.sub (i64.load8_u (local.get $at)) (i64.const 48))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $len (i32.sub (local.get $len) (i32.const 1)))
            (br $next)))
        (i64.mul (local.get $n) (local.get $sign)))
    (func $say (param $at i32) (param $len i32)
        (call $send (local.get $at) (local.get $len) (i32.const 0) (i32.const 0) (i32.const 0)))
    (func $say-option (param $option i32) (param $bytes i32)
        (if (i32.load8_u (local.get $option))
            (then (call $say (i32.load (local.get $bytes)) (i32.load offset=4 (local.get $bytes))))
            (else (call $say (i32.const 330) (i32.const 1)))))
    (func $say-number (param $n i64)
        (local $at i32)
        (local.set $at (call $write-number (local.get $n)))
        (call $say (local.get $at) (i32.sub (i32.const 480) (local.get $at))))
    (func $write-number (param $n i64) (result i32)
        (local $at i32) (local $negative i32)
        (local.set $at (i32.const 480))
        (local.set $negative (i32.and (global.get $signed) (i64.lt_s (local.get $n) (i64.const 0))))
        (if (local.get $negative) (then (local.set $n (i64.sub (i64.const 0) (local.get $n)))))
        (loop $next
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i64.store8 (local.get $at) (i64.add (i64.const 48) (i64.rem_u (local.get $n) (i64.const 10))))
            (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
            (br_if $next (i64.ne (local.get $n) (i64.const 0))))
        (if (local.get $negative) (then
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i32.store8 (local.get $at) (i32.const 45))))
        (local.get $at))"#;
