//! The resources of `wasi:messaging`, which the generated bindings name, and the account of the messages that a guest holds.

use crate::CallMessage;
use sandhog_queue::message::{AttributeValue, Attributes, InvalidMessage, Outgoing};

/// The attribute that says what kind of content a body is.
const CONTENT_TYPE: &str = "content-type";
/// The prefix of the metadata that the host adds to a received message, and never sends on.
const OWN_METADATA_PREFIX: &str = "sandhog-";

/// The most bytes of messages that a guest may hold at one time (4 MiB), without those that it has sent or dropped. The host
/// keeps these bytes in its own memory.
pub(crate) const MAX_WASI_MESSAGE_BYTES: u64 = 4 * 1024 * 1024;
/// The bytes that a message costs besides its data and its metadata.
const MESSAGE_COST: usize = 256;
/// The bytes that one entry of metadata costs besides its key and its value.
const METADATA_COST: usize = 128;

/// A message of `wasi:messaging`: one that the guest has received, or one that it has made.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct WasiMessage {
    pub(crate) topic: Option<String>,
    content_type: Option<String>,
    data: Vec<u8>,
    metadata: Vec<(String, String)>,
    /// The bytes that [`WasiMessageAccount`] counts for this message.
    charged: u64,
}

/// A connection to the host, which needs none.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Client;

/// The options of a request. The host refuses every request, whatever its options are.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct RequestOptions;

impl WasiMessage {
    /// Makes a message of data alone.
    pub(crate) fn of_data(data: Vec<u8>) -> Self {
        Self {
            data,
            ..Self::default()
        }
    }

    /// Makes the message that a handler receives.
    pub(crate) fn received(call: CallMessage) -> Self {
        let mut metadata = vec![
            (
                format!("{OWN_METADATA_PREFIX}message-id"),
                call.message.id.as_str().to_owned(),
            ),
            (
                format!("{OWN_METADATA_PREFIX}receive-count"),
                call.receive_count.to_string(),
            ),
        ];
        let mut content_type = None;
        // A sender must not be able to imitate the host's own metadata.
        let pairs = call.message.attributes.pairs().iter();
        for (name, value) in pairs.filter(|(name, _)| !name.starts_with(OWN_METADATA_PREFIX)) {
            match value {
                AttributeValue::Text(text) if name == CONTENT_TYPE => content_type = Some(text.clone()),
                AttributeValue::Text(text) | AttributeValue::Number(text) => {
                    metadata.push((name.clone(), text.clone()));
                }
                // Metadata are text.
                AttributeValue::Binary(_) => {}
            }
        }
        Self {
            topic: Some(call.queue.as_str().to_owned()),
            content_type,
            data: call.message.body.into(),
            metadata,
            charged: 0,
        }
    }

    /// Makes the message that a queue takes.
    ///
    /// # Errors
    ///
    /// The metadata can't be attributes.
    pub(crate) fn into_outgoing(self) -> Result<Outgoing, InvalidMessage> {
        let content_type = self.content_type.map(|text| (CONTENT_TYPE.to_owned(), text));
        let metadata = self.metadata.into_iter();
        let pairs = content_type
            .into_iter()
            .chain(metadata.filter(|(name, _)| !name.starts_with(OWN_METADATA_PREFIX)))
            .map(|(name, text)| (name, AttributeValue::Text(text)));
        Ok(Outgoing {
            body: self.data.into(),
            attributes: Attributes::new(pairs.collect())?,
            ..Outgoing::default()
        })
    }

    pub(crate) fn content_type(&self) -> Option<&String> {
        self.content_type.as_ref()
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    pub(crate) fn remove_metadata(&mut self, key: &str) {
        self.metadata.retain(|(name, _)| name != key);
    }
}

/// Counts the bytes of the messages that an instance holds.
#[derive(Debug, Default)]
pub(crate) struct WasiMessageAccount {
    held: u64,
}

impl WasiMessageAccount {
    /// Counts a whole message that the guest is about to get. A received message is always within the limit, since messages
    /// of queues are smaller.
    ///
    /// # Errors
    ///
    /// The guest holds as many bytes as it may.
    pub(crate) fn charge_message(&mut self, message: &mut WasiMessage) -> wasmtime::Result<()> {
        let metadata = metadata_cost(&message.metadata);
        self.charge(message, MESSAGE_COST + message.data.len() + metadata)
    }

    /// Counts a message no longer, which the guest has sent or dropped.
    pub(crate) fn give_back(&mut self, message: &WasiMessage) {
        self.held = self.held.saturating_sub(message.charged);
    }

    pub(crate) fn set_content_type(&mut self, message: &mut WasiMessage, content_type: String) -> wasmtime::Result<()> {
        self.charge(message, content_type.len())?;
        message.content_type = Some(content_type);
        Ok(())
    }

    pub(crate) fn set_data(&mut self, message: &mut WasiMessage, data: Vec<u8>) -> wasmtime::Result<()> {
        self.charge(message, data.len())?;
        message.data = data;
        Ok(())
    }

    pub(crate) fn add_metadata(
        &mut self,
        message: &mut WasiMessage,
        key: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.charge(message, key.len() + value.len() + METADATA_COST)?;
        message.remove_metadata(&key);
        message.metadata.push((key, value));
        Ok(())
    }

    pub(crate) fn set_metadata(
        &mut self,
        message: &mut WasiMessage,
        metadata: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.charge(message, metadata_cost(&metadata))?;
        message.metadata = metadata;
        Ok(())
    }

    fn charge(&mut self, message: &mut WasiMessage, bytes: usize) -> wasmtime::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let held = self.held.saturating_add(bytes);
        if held > MAX_WASI_MESSAGE_BYTES {
            return Err(wasmtime::Error::msg(format!(
                "the messages that it has made and neither sent nor dropped come to more than {MAX_WASI_MESSAGE_BYTES} bytes"
            )));
        }
        self.held = held;
        message.charged = message.charged.saturating_add(bytes);
        Ok(())
    }
}

fn metadata_cost(metadata: &[(String, String)]) -> usize {
    let costs = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len() + METADATA_COST);
    costs.sum()
}
