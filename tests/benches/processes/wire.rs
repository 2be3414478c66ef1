//! What goes between a host and its executors: frames with a length in front, and the buffer in which they wait for one write.
//!
//! Written by hand: a report and a message have some twenty fields together, and a body is handed out as a slice of the bytes
//! that were read, which no serializer of the usual kind does. What a guest logs and what it reads and writes in its key-value
//! store is left out.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sandhog_executor::{CallMessage, CallReport, CallUsage, GuestFailure, Verdict};
use sandhog_queue::{
    EffectSend, FailureKind,
    message::{AttributeValue, Attributes, Message, MessageId, Outgoing, QueueName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
};

/// Ten messages of the largest size, or all that a guest may send, and more. A longer frame ends the connection.
const MAX_FRAME_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 64 << 10;
const KINDS: [FailureKind; 7] = [
    FailureKind::Retry,
    FailureKind::Reject,
    FailureKind::Trap,
    FailureKind::Timeout,
    FailureKind::Memory,
    FailureKind::WrongAnswer,
    FailureKind::HostStopped,
];

/// What the host says. Every frame has the number by which it is answered.
#[derive(Debug)]
pub(crate) enum Order {
    Load(Load),
    Call { component: u32, messages: Vec<CallMessage> },
    Cancel,
}

/// A component, and as much of its policy as a benchmark needs.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) wasm: Bytes,
    /// How many calls an instance answers.
    pub(crate) uses: u64,
    pub(crate) sends_to: Vec<String>,
}

/// What an executor answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The number by which calls name it, which is the place in the order of loading; or why not.
    Loaded(Result<u32, String>),
    Ran(CallReport),
}

/// Frames that wait to be written, for everybody who has some.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<BytesMut>,
    bell: Notify,
}

impl Outbox {
    pub(crate) fn push(&self, number: u64, encode: impl FnOnce(&mut BytesMut)) {
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap();
            let start = waiting.len();
            waiting.put_u32_le(0);
            waiting.put_u64_le(number);
            encode(&mut waiting);
            let length = u32::try_from(waiting.len() - start - 4).unwrap();
            waiting[start..start + 4].copy_from_slice(&length.to_le_bytes());
            start == 0
        };
        if is_first {
            self.bell.notify_one();
        }
    }

    /// Writes whatever waits, all of it at once, until the other side is gone.
    pub(crate) async fn write_all(&self, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            self.bell.notified().await;
            // Whoever is about to push gets the chance to be in this write.
            tokio::task::yield_now().await;
            let waiting = self.waiting.lock().unwrap().split();
            to.write_all(&waiting).await?;
        }
    }
}

/// Hands every frame to `take`, until the other side is gone.
pub(crate) async fn read_all(
    mut from: impl AsyncRead + Unpin,
    mut take: impl FnMut(u64, Bytes) -> Result<()>,
) -> Result<()> {
    let mut read = BytesMut::new();
    loop {
        while let Some(length) = read.first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length))?;
            ensure!(length <= MAX_FRAME_BYTES, "a frame of {length} bytes");
            if read.len() < 4 + length {
                break;
            }
            read.advance(4);
            let mut frame = read.split_to(length).freeze();
            let number = frame.try_get_u64_le()?;
            take(number, frame)?;
        }
        read.reserve(READ_BYTES);
        if from.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

impl Order {
    pub(crate) fn encode(&self, to: &mut BytesMut) {
        match self {
            Self::Load(load) => {
                to.put_u8(0);
                put_bytes(to, &load.wasm);
                to.put_u64_le(load.uses);
                put_count(to, load.sends_to.len());
                for queue in &load.sends_to {
                    put_bytes(to, queue.as_bytes());
                }
            }
            Self::Call { component, messages } => {
                to.put_u8(1);
                to.put_u32_le(*component);
                put_count(to, messages.len());
                for message in messages {
                    put_message(to, message);
                }
            }
            Self::Cancel => to.put_u8(2),
        }
    }

    pub(crate) fn decode(mut from: Bytes) -> Result<Self> {
        Ok(match from.try_get_u8()? {
            0 => Self::Load(Load {
                wasm: bytes(&mut from)?,
                uses: from.try_get_u64_le()?,
                sends_to: list(&mut from, text)?,
            }),
            1 => Self::Call {
                component: from.try_get_u32_le()?,
                messages: list(&mut from, message)?,
            },
            2 => Self::Cancel,
            other => bail!("an order of kind {other}"),
        })
    }
}

impl Answer {
    pub(crate) fn encode(&self, to: &mut BytesMut) {
        match self {
            Self::Loaded(Ok(component)) => {
                to.put_u8(0);
                to.put_u32_le(*component);
            }
            Self::Loaded(Err(reason)) => {
                to.put_u8(1);
                put_bytes(to, reason.as_bytes());
            }
            Self::Ran(report) => {
                to.put_u8(2);
                put_report(to, report);
            }
        }
    }

    pub(crate) fn decode(mut from: Bytes) -> Result<Self> {
        Ok(match from.try_get_u8()? {
            0 => Self::Loaded(Ok(from.try_get_u32_le()?)),
            1 => Self::Loaded(Err(text(&mut from)?)),
            2 => Self::Ran(report(&mut from)?),
            other => bail!("an answer of kind {other}"),
        })
    }
}

fn put_message(to: &mut BytesMut, message: &CallMessage) {
    put_bytes(to, message.queue.as_str().as_bytes());
    to.put_u32_le(message.receive_count);
    let message = &message.message;
    put_bytes(to, message.id.as_str().as_bytes());
    put_bytes(to, &message.body);
    put_attributes(to, &message.attributes);
    to.put_u64_le(message.sent_at_ms);
    put_option(to, message.group_id.as_ref(), |to, group| {
        put_bytes(to, group.as_bytes());
    });
    to.put_u8(message.priority);
}

fn message(from: &mut Bytes) -> Result<CallMessage> {
    Ok(CallMessage {
        queue: queue(from)?,
        receive_count: from.try_get_u32_le()?,
        message: Message {
            id: MessageId::from_queue(&text(from)?),
            body: bytes(from)?,
            attributes: attributes(from)?,
            sent_at_ms: from.try_get_u64_le()?,
            group_id: option(from, text)?,
            priority: from.try_get_u8()?,
        },
    })
}

fn put_report(to: &mut BytesMut, report: &CallReport) {
    put_count(to, report.verdicts.len());
    for verdict in &report.verdicts {
        put_verdict(to, verdict);
    }
    put_count(to, report.sends.len());
    for EffectSend { queue, message } in &report.sends {
        put_bytes(to, queue.as_str().as_bytes());
        put_bytes(to, &message.body);
        put_attributes(to, &message.attributes);
        put_option(to, message.delay, put_duration);
        put_option(to, message.group_id.as_ref(), |to, id| put_bytes(to, id.as_bytes()));
        put_option(to, message.deduplication_id.as_ref(), |to, id| {
            put_bytes(to, id.as_bytes());
        });
        put_option(to, message.priority, BufMut::put_u8);
    }
    let usage = &report.usage;
    put_duration(to, usage.wall);
    put_duration(to, usage.cpu);
    for count in [usage.memory_peak, usage.log_lines_dropped, usage.http_requests] {
        to.put_u64_le(count);
    }
}

fn report(from: &mut Bytes) -> Result<CallReport> {
    Ok(CallReport {
        verdicts: list(from, verdict)?,
        sends: list(from, |from| {
            let queue = queue(from)?;
            let message = Outgoing {
                body: bytes(from)?,
                attributes: attributes(from)?,
                delay: option(from, duration)?,
                group_id: option(from, text)?,
                deduplication_id: option(from, text)?,
                priority: option(from, |from| Ok(from.try_get_u8()?))?,
            };
            // An executor is not trusted more than the guests in it.
            let message = message.check()?;
            Ok(EffectSend { queue, message })
        })?,
        writes: Vec::new(),
        usage: CallUsage {
            wall: duration(from)?,
            cpu: duration(from)?,
            memory_peak: from.try_get_u64_le()?,
            log_lines_dropped: from.try_get_u64_le()?,
            http_requests: from.try_get_u64_le()?,
        },
    })
}

fn put_verdict(to: &mut BytesMut, verdict: &Verdict) {
    match verdict {
        Verdict::Success => to.put_u8(0),
        Verdict::Failed(failure) => {
            to.put_u8(1);
            let kind = KINDS.iter().position(|kind| *kind == failure.kind).unwrap();
            to.put_u8(u8::try_from(kind).unwrap());
            put_bytes(to, failure.reason.as_bytes());
            put_option(to, failure.retry_after, put_duration);
            put_option(to, failure.stack.as_ref(), |to, trace| {
                put_bytes(to, trace.as_bytes());
            });
        }
        Verdict::NotRun(reason) => {
            to.put_u8(2);
            put_bytes(to, reason.as_bytes());
        }
    }
}

fn verdict(from: &mut Bytes) -> Result<Verdict> {
    Ok(match from.try_get_u8()? {
        0 => Verdict::Success,
        1 => Verdict::Failed(GuestFailure {
            kind: *KINDS
                .get(usize::from(from.try_get_u8()?))
                .context("a failure of an unknown kind")?,
            reason: text(from)?,
            retry_after: option(from, duration)?,
            stack: option(from, text)?.map(Arc::from),
        }),
        2 => Verdict::NotRun(text(from)?),
        other => bail!("a verdict of kind {other}"),
    })
}

fn put_attributes(to: &mut BytesMut, attributes: &Attributes) {
    put_count(to, attributes.pairs().len());
    for (name, value) in attributes.pairs() {
        put_bytes(to, name.as_bytes());
        let (kind, value) = match value {
            AttributeValue::Text(text) => (0, text.as_bytes()),
            AttributeValue::Number(number) => (1, number.as_bytes()),
            AttributeValue::Binary(bytes) => (2, bytes.as_slice()),
        };
        to.put_u8(kind);
        put_bytes(to, value);
    }
}

fn attributes(from: &mut Bytes) -> Result<Attributes> {
    let pairs = list(from, |from| {
        let name = text(from)?;
        let value = match from.try_get_u8()? {
            0 => AttributeValue::Text(text(from)?),
            1 => AttributeValue::Number(text(from)?),
            2 => AttributeValue::Binary(bytes(from)?.to_vec()),
            other => bail!("an attribute of kind {other}"),
        };
        Ok((name, value))
    })?;
    Ok(Attributes::new(pairs)?)
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    put_count(to, bytes.len());
    to.put_slice(bytes);
}

fn bytes(from: &mut Bytes) -> Result<Bytes> {
    let length = usize::try_from(from.try_get_u32_le()?)?;
    ensure!(
        length <= from.len(),
        "{length} bytes in a frame that has {} left",
        from.len()
    );
    Ok(from.split_to(length))
}

fn text(from: &mut Bytes) -> Result<String> {
    Ok(std::str::from_utf8(&bytes(from)?)?.to_owned())
}

fn queue(from: &mut Bytes) -> Result<QueueName> {
    Ok(QueueName::new(std::str::from_utf8(&bytes(from)?)?)?)
}

fn put_count(to: &mut BytesMut, count: usize) {
    to.put_u32_le(u32::try_from(count).unwrap());
}

fn list<T>(from: &mut Bytes, mut each: impl FnMut(&mut Bytes) -> Result<T>) -> Result<Vec<T>> {
    let count = from.try_get_u32_le()?;
    // Not reserved: the number is the other side's.
    (0..count).map(|_| each(from)).collect()
}

fn put_option<T>(to: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    to.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(to, value);
    }
}

fn option<T>(from: &mut Bytes, get: impl FnOnce(&mut Bytes) -> Result<T>) -> Result<Option<T>> {
    Ok(if from.try_get_u8()? == 0 {
        None
    } else {
        Some(get(from)?)
    })
}

fn put_duration(to: &mut BytesMut, duration: Duration) {
    to.put_u64_le(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

fn duration(from: &mut Bytes) -> Result<Duration> {
    Ok(Duration::from_nanos(from.try_get_u64_le()?))
}
