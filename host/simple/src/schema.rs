//! The tables of the durable store. `docs/simple-queue.md` explains them; change both together, and the version.

/// Marks a file as a store of ours: "SAND".
pub(crate) const APPLICATION_ID: i64 = 0x5341_4E44;
/// The version of the format below.
pub(crate) const VERSION: i64 = 1;

/// Makes the tables in an empty file.
pub(crate) const CREATE: &str = "
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    commits INTEGER NOT NULL
) STRICT;
INSERT INTO store (only, commits) VALUES (1, 0);

CREATE TABLE queues (
    queue INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    one_lane INTEGER NOT NULL
) STRICT;

CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    lane TEXT,
    visible_at INTEGER NOT NULL,
    receive_count INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    origin INTEGER,
    id TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    group_id TEXT,
    failure TEXT,
    dead_at INTEGER,
    dead_receive_count INTEGER,
    dead_failure TEXT,
    checksum INTEGER NOT NULL,
    attributes TEXT,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_state ON messages (queue, state, priority DESC, seq);
CREATE INDEX messages_due ON messages (queue, visible_at) WHERE state IN (3, 4);
CREATE UNIQUE INDEX lane_heads ON messages (queue, lane) WHERE lane IS NOT NULL AND state IN (0, 2, 4);
CREATE INDEX lane_held ON messages (queue, lane, priority DESC, seq) WHERE lane IS NOT NULL AND state = 1;
CREATE INDEX suspects ON messages (queue, state, priority DESC, seq) WHERE suspect > 0;
CREATE INDEX dead_letters ON messages (origin, seq) WHERE origin IS NOT NULL;
CREATE INDEX dead_letter_ids ON messages (origin, id) WHERE origin IS NOT NULL;

CREATE TABLE deduplication (
    queue INTEGER NOT NULL,
    deduplication_id TEXT NOT NULL,
    id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, deduplication_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_until ON deduplication (until);
";

/// Makes the tables of the key-value stores, if they are not there.
pub(crate) const KEYVALUE: &str = "
CREATE TABLE IF NOT EXISTS namespaces (
    namespace INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    entry INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS entries_by_key ON entries (namespace, bucket, key);
";

/// Makes the table of the processed messages, if it is not there.
pub(crate) const PROCESSED: &str = "
CREATE TABLE IF NOT EXISTS handled (
    segment INTEGER PRIMARY KEY,
    noted_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    keys BLOB NOT NULL
) STRICT;
";

/// Makes the table of the store's time, if it is not there.
pub(crate) const CLOCK: &str = "
CREATE TABLE IF NOT EXISTS clock (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT,
    since_boot INTEGER NOT NULL,
    at INTEGER NOT NULL,
    wall INTEGER NOT NULL
) STRICT;
";
