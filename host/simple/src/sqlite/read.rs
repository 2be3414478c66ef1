//! Reads a message from a row of its table.
//!
//! Numbers are read leniently and content strictly: a damaged row must still be found and set apart.

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};

use super::super::{
    codec,
    row::{
        DeathRecord, GroupName, MessageContent, MessageMeta, MessagePast, MessageState, PoisonSuspicion, QueueKey,
        SentDetails, StoredMessage,
    },
    rows::DeadLetterRef,
};
use sandhog_queue::message::{Message, MessageId};

/// Returns a number as `SQLite` keeps it. The store's are sequence numbers and milliseconds, which never come near the limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(crate) fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => number,
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => 0,
    })
}

pub(crate) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    integer(row, column).map(unsigned)
}

pub(crate) fn optional_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(unsigned(number)),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => None,
    })
}

pub(crate) fn small(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    Ok(u32::try_from(integer(row, column)?).unwrap_or(0))
}

pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    })
}

pub(crate) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.to_vec(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Vec::new(),
    })
}

pub(crate) fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<QueueKey> {
    small(row, column).map(QueueKey)
}

pub(crate) fn read_meta(row: &Row<'_>) -> rusqlite::Result<MessageMeta> {
    let state = u8::try_from(integer(row, 2)?).ok().and_then(MessageState::from_number);
    let group = text(row, 4)?.map(GroupName::from);
    let seq = number(row, 0)?;
    let queued_at_ms = number(row, 7)?;
    Ok(MessageMeta {
        seq,
        queue: key(row, 1)?,
        state: state.unwrap_or(MessageState::Damaged),
        priority: u8::try_from(integer(row, 3)?).unwrap_or(0),
        group,
        visible_at_ms: number(row, 5)?,
        receive_count: small(row, 6)?,
        queued_at_ms,
        suspicion: PoisonSuspicion::from_number(small(row, 8)?),
        origin: matches!(row.get_ref(9)?, ValueRef::Integer(_))
            .then(|| key(row, 9))
            .transpose()?,
        past: MessagePast {
            first_queued_at_ms: optional_number(row, 10)?.unwrap_or(queued_at_ms),
            first_received_at_ms: optional_number(row, 11)?,
            earlier_receives: small(row, 12)?,
            sequence: optional_number(row, 13)?.unwrap_or(seq),
        },
    })
}

pub(crate) fn read_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetterRef> {
    Ok(DeadLetterRef {
        seq: number(row, 0)?,
        bytes: usize::try_from(integer(row, 1)?).unwrap_or(0),
    })
}

pub(crate) fn read_all(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    let meta = read_meta(row)?;
    let content = read_content(row, &meta)?;
    Ok(StoredMessage { meta, content })
}

fn read_content(row: &Row<'_>, meta: &MessageMeta) -> rusqlite::Result<Result<MessageContent, String>> {
    let failure = text(row, 17)?
        .map(|failure| codec::decode_failure(&failure))
        .transpose();
    let death = match text(row, 20)? {
        Some(failure) => {
            let dead_at_ms = number(row, 18)?;
            let receive_count = small(row, 19)?;
            codec::decode_failure(&failure).map(|failure| {
                Some(DeathRecord {
                    dead_at_ms,
                    receive_count,
                    failure,
                })
            })
        }
        None => Ok(None),
    };
    let attributes_text = text(row, 22)?;
    let attributes = codec::decode_attributes(attributes_text.as_deref());
    let body = match row.get_ref(27)? {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Bytes::copy_from_slice(bytes),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => Bytes::new(),
    };
    let id = MessageId::from_queue(&text(row, 14)?.unwrap_or_default());
    let sent_at_ms = number(row, 15)?;
    let group_id = text(row, 16)?;
    let stored = integer(row, 21)?;
    let priority = meta.priority;
    let shared = |column| Ok::<_, rusqlite::Error>(text(row, column)?.map(Into::into));
    let sent = SentDetails {
        deduplication_id: shared(23)?,
        system: shared(24)?,
        parent: shared(25)?,
        sender: shared(26)?,
    };
    let content = attributes.and_then(|attributes| {
        let message = Message {
            id,
            body,
            attributes,
            sent_at_ms,
            group_id,
            priority,
        };
        codec::verify(
            MessageContent {
                message,
                sent,
                failure: failure?,
                death: death?,
            },
            attributes_text.as_deref(),
            stored,
        )
    });
    Ok(content)
}
