//! The tables of the durable store. `docs/reference/simple-queue.md` explains them; change both together, and the version.

/// Marks a file as a store of ours: "SAND".
pub(crate) const APPLICATION_ID: i64 = 0x5341_4E44;
/// The version of the format below.
pub(crate) const VERSION: i64 = 2;
/// The version before it, which [`FROM_FIRST`] makes this one of.
pub(crate) const FIRST_VERSION: i64 = 1;
/// The size of a page of a new file. Any other works as well, and costs more writing.
pub(crate) const PAGE_BYTES: i64 = 2048;
/// A body of more bytes than this is in the table `bodies`: its message would fill a page, and each change of the message would write
/// the body again.
pub(crate) const INLINE_BODY_BYTES: usize = 1500;
/// A row of `flights` stands for this many places of messages.
pub(crate) const ZONE: u64 = 64;

/// Makes the tables in an empty file. The columns are in the order in which a file of the first version gets them.
pub(crate) const CREATE: &str = "
CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    commits INTEGER NOT NULL
) STRICT;
INSERT INTO store (only, commits) VALUES (1, 0);

CREATE TABLE queues (
    queue INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    one_lane INTEGER NOT NULL,
    made_by INTEGER NOT NULL DEFAULT 0,
    settings TEXT,
    tags TEXT,
    created_at INTEGER,
    modified_at INTEGER,
    purged_at INTEGER,
    deleted_at INTEGER
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
    body BLOB NOT NULL,
    body_key INTEGER,
    commits INTEGER,
    first_queued_at INTEGER,
    first_received_at INTEGER,
    earlier_receives INTEGER NOT NULL DEFAULT 0,
    sequence INTEGER,
    deduplication_id TEXT,
    system TEXT,
    parent TEXT,
    sender TEXT
) STRICT;
CREATE INDEX messages_due ON messages (queue, visible_at) WHERE state IN (3, 4);
CREATE UNIQUE INDEX lane_heads ON messages (queue, lane) WHERE lane IS NOT NULL AND state IN (0, 2, 4);
CREATE INDEX lane_held ON messages (queue, lane, priority DESC, seq) WHERE lane IS NOT NULL AND state IN (1, 6);
CREATE INDEX suspects ON messages (queue, state, priority DESC, seq) WHERE suspect > 0;
CREATE INDEX dead_letters ON messages (origin, seq) WHERE origin IS NOT NULL;
CREATE INDEX dead_letter_ids ON messages (origin, id) WHERE origin IS NOT NULL;
";

/// Gives the tables of the first version the columns of this one. Changes no row, so that it takes the same time whatever the number
/// of messages.
pub(crate) const FROM_FIRST: &str = "
ALTER TABLE queues ADD COLUMN made_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN settings TEXT;
ALTER TABLE queues ADD COLUMN tags TEXT;
ALTER TABLE queues ADD COLUMN created_at INTEGER;
ALTER TABLE queues ADD COLUMN modified_at INTEGER;
ALTER TABLE queues ADD COLUMN purged_at INTEGER;
ALTER TABLE queues ADD COLUMN deleted_at INTEGER;

ALTER TABLE messages ADD COLUMN body_key INTEGER;
ALTER TABLE messages ADD COLUMN commits INTEGER;
ALTER TABLE messages ADD COLUMN first_queued_at INTEGER;
ALTER TABLE messages ADD COLUMN first_received_at INTEGER;
ALTER TABLE messages ADD COLUMN earlier_receives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN sequence INTEGER;
ALTER TABLE messages ADD COLUMN deduplication_id TEXT;
ALTER TABLE messages ADD COLUMN system TEXT;
ALTER TABLE messages ADD COLUMN parent TEXT;
ALTER TABLE messages ADD COLUMN sender TEXT;

CREATE TABLE flights (zone INTEGER PRIMARY KEY) STRICT;
INSERT INTO flights (zone) SELECT DISTINCT seq / 64 FROM messages INDEXED BY messages_by_state
    WHERE state = 2 AND queue IN (SELECT queue FROM queues);
DROP INDEX messages_by_state;
DROP INDEX lane_held;
CREATE INDEX lane_held ON messages (queue, lane, priority DESC, seq) WHERE lane IS NOT NULL AND state IN (1, 6);

ALTER TABLE deduplication RENAME TO former_deduplication;
DROP INDEX deduplication_until;
";

/// Fills the tables of [`SECOND`] from those of the first version.
pub(crate) const FILL_FROM_FIRST: &str = "
INSERT INTO deduplication (queue, scope, deduplication_id, id, until)
    SELECT queue, '', deduplication_id, id, until FROM former_deduplication;
DROP TABLE former_deduplication;
";

/// Makes the tables and the index that the second version brought, in an empty file as in one of the first version.
pub(crate) const SECOND: &str = "
CREATE INDEX messages_by_state ON messages (queue, state, priority DESC, seq) WHERE state <> 2;
CREATE TABLE IF NOT EXISTS flights (zone INTEGER PRIMARY KEY) STRICT;

CREATE TABLE bodies (
    body_key INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
CREATE TRIGGER messages_deleted AFTER DELETE ON messages WHEN old.body_key IS NOT NULL
BEGIN DELETE FROM bodies WHERE body_key = old.body_key; END;

CREATE TABLE deduplication (
    queue INTEGER NOT NULL,
    scope TEXT NOT NULL,
    deduplication_id TEXT NOT NULL,
    id TEXT NOT NULL,
    until INTEGER NOT NULL,
    sequence INTEGER,
    PRIMARY KEY (queue, scope, deduplication_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_until ON deduplication (until);

CREATE TABLE pauses (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    handler TEXT NOT NULL,
    number INTEGER NOT NULL,
    component TEXT NOT NULL,
    manifest TEXT NOT NULL,
    state TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    source TEXT,
    statistics TEXT,
    PRIMARY KEY (handler, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    attempt INTEGER PRIMARY KEY,
    handler TEXT NOT NULL,
    version INTEGER,
    message TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX attempts_by_handler ON attempts (handler, attempt);
CREATE INDEX attempts_by_message ON attempts (message, attempt);

CREATE TABLE moves (
    move INTEGER PRIMARY KEY,
    handle TEXT NOT NULL UNIQUE,
    source INTEGER NOT NULL,
    destination INTEGER,
    per_second INTEGER,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    last INTEGER NOT NULL,
    after INTEGER NOT NULL,
    moved INTEGER NOT NULL,
    expected INTEGER NOT NULL,
    failure TEXT
) STRICT;
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
