//! The version of a file: refusing what is no store or of a later version, and making the first version the current one.
//!
//! Invariant: a file is of one version as a whole. A crash, a full disk or an error leaves it of the version that it had, or of the
//! current one. The size of a page is no part of the version.

use rusqlite::Connection;

use super::{
    super::{
        super::schema,
        read::{signed, unsigned},
    },
    OpenRefusal,
};

/// A file that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundFormat {
    /// There is nothing in it.
    Empty,
    /// The version before the current one.
    First,
    Current,
}

/// Refuses a file that is not a store of sandhog, or one of another version that can't be made the current one.
pub(crate) fn examine(connection: &Connection) -> Result<FoundFormat, OpenRefusal> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id")?;
    let version = pragma("user_version")?;
    let objects = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    match (application, version, objects) {
        (0, 0, 0) => Ok(FoundFormat::Empty),
        (schema::APPLICATION_ID, schema::VERSION, _) => Ok(FoundFormat::Current),
        (schema::APPLICATION_ID, schema::FIRST_VERSION, _) => Ok(FoundFormat::First),
        (schema::APPLICATION_ID, other, _) => Err(OpenRefusal::Version(other)),
        _ => Err(OpenRefusal::Foreign),
    }
}

impl FoundFormat {
    /// Chooses what can be chosen only before anything is written.
    pub(crate) fn prepare(self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Empty => connection.pragma_update(None, "page_size", schema::PAGE_BYTES),
            Self::First | Self::Current => Ok(()),
        }
    }

    /// Makes the file one of the current version, in one transaction.
    pub(crate) fn make_current(self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Empty => transact(
                connection,
                &[
                    schema::CREATE,
                    schema::SECOND,
                    schema::PROCESSED,
                    schema::KEYVALUE,
                    schema::CLOCK,
                ],
            ),
            Self::First => {
                // The first version may lack these tables, which came later.
                transact(
                    connection,
                    &[
                        schema::FROM_FIRST,
                        schema::SECOND,
                        schema::FILL_FROM_FIRST,
                        schema::PROCESSED,
                        schema::KEYVALUE,
                        schema::CLOCK,
                    ],
                )?;
                tracing::info!(
                    from = schema::FIRST_VERSION,
                    to = schema::VERSION,
                    "the queue store was made one of this version's format; earlier versions of sandhog can't open it any more"
                );
                Ok(())
            }
            Self::Current => {
                for tables in [schema::PROCESSED, schema::KEYVALUE, schema::CLOCK] {
                    connection.execute_batch(tables)?;
                }
                Ok(())
            }
        }
    }
}

fn transact(connection: &Connection, statements: &[&str]) -> rusqlite::Result<()> {
    let (id, version) = (schema::APPLICATION_ID, schema::VERSION);
    let all = statements.join("");
    let done = connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {all} PRAGMA application_id = {id}; PRAGMA user_version = {version}; COMMIT"
    ));
    if done.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    done
}

/// Returns the number of the last transaction that changed something. The row of the newest message has it, or the table `store`.
pub(crate) fn commits(connection: &Connection) -> rusqlite::Result<u64> {
    let in_store = connection.query_row("SELECT commits FROM store", [], |row| row.get::<_, i64>(0))?;
    let newest = "SELECT max(seq), commits FROM messages";
    let in_newest = connection.query_row(newest, [], |row| row.get::<_, Option<i64>>(1))?;
    Ok(unsigned(in_store.max(in_newest.unwrap_or(0))))
}

/// Writes the number of the last transaction where it stays, whatever happens to the newest message.
pub(crate) fn note_commits(connection: &Connection, commits: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE store SET commits = ?1 WHERE commits < ?1", [signed(commits)])?;
    Ok(())
}

/// Asks for a kind of journal. Returns whether the database has it now.
pub(crate) fn set_journal(connection: &Connection, kind: &str) -> rusqlite::Result<bool> {
    let is = connection.pragma_update_and_check(None, "journal_mode", kind, |row| row.get::<_, String>(0))?;
    Ok(is == kind)
}

/// The error of a file system on which there can be no write-ahead log.
pub(crate) fn no_log() -> rusqlite::Error {
    let why = "the file system does not support SQLite's write-ahead log";
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    rusqlite::Error::SqliteFailure(error, Some(why.to_owned()))
}
