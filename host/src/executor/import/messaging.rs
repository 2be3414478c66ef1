//! What components for other hosts send with: `wasi:messaging` and the consumer of `wasmcloud:messaging`. Both go where
//! `sandhog:worker/sender` goes, under the same grant.

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};

use super::sender::Sends;
use crate::{
    executor::{
        CallMessage,
        bindings::{
            wasi_messaging::wasi::messaging::{
                producer, request_reply,
                types::{self, Error, MetadataError},
            },
            wasmcloud_messaging::wasmcloud::messaging::consumer::{self, BrokerMessage},
            worker::sandhog::worker::sender::SendError,
        },
        instance::GuestState,
    },
    message::{AttributeValue, Attributes, Outgoing},
};

/// The attribute that says to which queue a reply should go.
pub(in crate::executor) const REPLY_TO: &str = "reply-to";
/// The attribute that says what a body is.
const CONTENT_TYPE: &str = "content-type";
/// What the host adds to the metadata of a received message, and never sends on.
const OWN_METADATA: &str = "sandhog-";

const NO_REPLIES: &str = "queues have no replies";

/// The most bytes of messages that an instance has in its hands at one time, sent and dropped ones not counted (4 MiB): the
/// host holds them.
pub(in crate::executor) const MAX_LETTER_BYTES: u64 = 4 * 1024 * 1024;
/// What a message takes besides what is written into it, and each of its metadata.
const LETTER_COST: usize = 256;
const METADATA_COST: usize = 128;

/// A message of `wasi:messaging`, received or made.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Letter {
    topic: Option<String>,
    content_type: Option<String>,
    data: Vec<u8>,
    metadata: Vec<(String, String)>,
    /// What of [`Letters`] it has taken.
    charged: u64,
}

/// A connection to the host, which needs none.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct Client;

/// Options of a request, which is refused whatever they are.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings export it again")]
pub struct RequestOptions;

impl Letter {
    pub(in crate::executor) fn received(call: CallMessage) -> Self {
        let mut metadata = vec![
            (format!("{OWN_METADATA}message-id"), call.message.id.as_str().to_owned()),
            (format!("{OWN_METADATA}receive-count"), call.receive_count.to_string()),
        ];
        let mut content_type = None;
        // What only the host says, nobody who sends a message says instead.
        let pairs = call.message.attributes.pairs().iter();
        for (name, value) in pairs.filter(|(name, _)| !name.starts_with(OWN_METADATA)) {
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

    fn outgoing(self) -> Result<Outgoing, Error> {
        let content_type = self.content_type.map(|text| (CONTENT_TYPE.to_owned(), text));
        let metadata = self.metadata.into_iter();
        let pairs = content_type
            .into_iter()
            .chain(metadata.filter(|(name, _)| !name.starts_with(OWN_METADATA)))
            .map(|(name, text)| (name, AttributeValue::Text(text)));
        let attributes = Attributes::new(pairs.collect()).map_err(|error| Error::Other(error.0))?;
        Ok(Outgoing {
            body: self.data.into(),
            attributes,
            ..Outgoing::default()
        })
    }
}

/// How many bytes the messages come to that an instance has in its hands.
#[derive(Debug, Default)]
pub(in crate::executor) struct Letters {
    held: u64,
}

impl Letters {
    /// Gives the guest a message. One that was received is within the limits of messages.
    pub(in crate::executor) fn hand_out(&mut self, letter: &mut Letter) -> wasmtime::Result<()> {
        let metadata = letter.metadata.iter();
        let metadata: usize = metadata
            .map(|(key, value)| key.len() + value.len() + METADATA_COST)
            .sum();
        self.charge(letter, LETTER_COST + letter.data.len() + metadata)
    }

    fn charge(&mut self, letter: &mut Letter, bytes: usize) -> wasmtime::Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let held = self.held.saturating_add(bytes);
        if held > MAX_LETTER_BYTES {
            return Err(wasmtime::Error::msg(format!(
                "the messages that it has made and neither sent nor dropped come to more than {MAX_LETTER_BYTES} bytes"
            )));
        }
        self.held = held;
        letter.charged = letter.charged.saturating_add(bytes);
        Ok(())
    }

    fn give_back(&mut self, letter: &Letter) {
        self.held = self.held.saturating_sub(letter.charged);
    }
}

pub(in crate::executor) struct View<'a> {
    table: &'a mut ResourceTable,
    letters: &'a mut Letters,
    sends: &'a mut Sends,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn view(state: &mut GuestState) -> View<'_> {
    View {
        table: &mut state.table,
        letters: &mut state.letters,
        sends: &mut state.sends,
    }
}

/// Offers the types, which reach nothing by themselves.
pub(super) fn add_types_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasView>(linker, view)
}

/// Offers everything that sends.
pub(super) fn add_senders_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    producer::add_to_linker::<_, HasView>(linker, view)?;
    request_reply::add_to_linker::<_, HasView>(linker, view)?;
    consumer::add_to_linker::<_, HasSelf<Sends>>(linker, |state| &mut state.sends)
}

type Answer<T, E = Error> = wasmtime::Result<Result<T, E>>;

impl types::Host for View<'_> {}

impl types::HostClient for View<'_> {
    fn connect(&mut self, _name: String) -> Answer<Resource<Client>> {
        Ok(Ok(self.table.push(Client)?))
    }

    fn disconnect(&mut self, _client: Resource<Client>) -> Answer<()> {
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}

impl types::HostMessage for View<'_> {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Letter>> {
        let mut letter = Letter {
            data,
            ..Letter::default()
        };
        self.letters.hand_out(&mut letter)?;
        Ok(self.table.push(letter)?)
    }

    fn topic(&mut self, message: Resource<Letter>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<Letter>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.content_type.clone())
    }

    fn set_content_type(&mut self, message: Resource<Letter>, content_type: String) -> Answer<(), ()> {
        let letter = self.table.get_mut(&message)?;
        self.letters.charge(letter, content_type.len())?;
        letter.content_type = Some(content_type);
        Ok(Ok(()))
    }

    fn data(&mut self, message: Resource<Letter>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&message)?.data.clone())
    }

    fn set_data(&mut self, message: Resource<Letter>, data: Vec<u8>) -> wasmtime::Result<()> {
        let letter = self.table.get_mut(&message)?;
        self.letters.charge(letter, data.len())?;
        letter.data = data;
        Ok(())
    }

    fn metadata(&mut self, message: Resource<Letter>) -> wasmtime::Result<Option<Vec<(String, String)>>> {
        Ok(Some(self.table.get(&message)?.metadata.clone()))
    }

    fn add_metadata(&mut self, message: Resource<Letter>, key: String, value: String) -> Answer<(), MetadataError> {
        let letter = self.table.get_mut(&message)?;
        self.letters.charge(letter, key.len() + value.len() + METADATA_COST)?;
        letter.metadata.retain(|(name, _)| *name != key);
        letter.metadata.push((key, value));
        Ok(Ok(()))
    }

    fn set_metadata(&mut self, message: Resource<Letter>, meta: Vec<(String, String)>) -> Answer<(), MetadataError> {
        let letter = self.table.get_mut(&message)?;
        let pairs = meta.iter();
        let bytes = pairs.map(|(key, value)| key.len() + value.len() + METADATA_COST).sum();
        self.letters.charge(letter, bytes)?;
        letter.metadata = meta;
        Ok(Ok(()))
    }

    fn remove_metadata(&mut self, message: Resource<Letter>, key: String) -> Answer<(), MetadataError> {
        self.table.get_mut(&message)?.metadata.retain(|(name, _)| *name != key);
        Ok(Ok(()))
    }

    fn drop(&mut self, message: Resource<Letter>) -> wasmtime::Result<()> {
        let letter = self.table.delete(message)?;
        self.letters.give_back(&letter);
        Ok(())
    }
}

impl producer::Host for View<'_> {
    fn send(&mut self, _client: Resource<Client>, topic: String, message: Resource<Letter>) -> Answer<()> {
        let letter = self.table.delete(message)?;
        self.letters.give_back(&letter);
        let sent = letter.outgoing().and_then(|message| {
            self.sends.add(&topic, vec![message]).map_err(|error| match error {
                SendError::NotGranted(reason) => Error::PermissionDenied(reason),
                SendError::Invalid(reason) | SendError::Limit(reason) => Error::Other(reason),
            })
        });
        Ok(sent)
    }
}

impl request_reply::Host for View<'_> {
    fn request(
        &mut self,
        _client: Resource<Client>,
        _topic: String,
        _message: Resource<Letter>,
        options: Option<Resource<RequestOptions>>,
    ) -> Answer<Vec<Resource<Letter>>> {
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        Ok(Err(Error::Other(NO_REPLIES.to_owned())))
    }

    fn reply(&mut self, _to: Resource<Letter>, message: Resource<Letter>) -> Answer<()> {
        let letter = self.table.delete(message)?;
        self.letters.give_back(&letter);
        Ok(Err(Error::Other(NO_REPLIES.to_owned())))
    }
}

impl request_reply::HostRequestOptions for View<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<RequestOptions>> {
        Ok(self.table.push(RequestOptions)?)
    }

    fn set_timeout_ms(&mut self, _options: Resource<RequestOptions>, _timeout_ms: u32) -> wasmtime::Result<()> {
        Ok(())
    }

    fn set_expected_replies(&mut self, _options: Resource<RequestOptions>, _replies: u32) -> wasmtime::Result<()> {
        Ok(())
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl consumer::Host for Sends {
    fn request(&mut self, _subject: String, _body: Vec<u8>, _timeout_ms: u32) -> Result<BrokerMessage, String> {
        Err(NO_REPLIES.to_owned())
    }

    fn publish(&mut self, message: BrokerMessage) -> Result<(), String> {
        let reply_to = message
            .reply_to
            .map(|queue| (REPLY_TO.to_owned(), AttributeValue::Text(queue)));
        let attributes = Attributes::new(reply_to.into_iter().collect()).map_err(|error| error.0)?;
        let outgoing = Outgoing {
            body: message.body.into(),
            attributes,
            ..Outgoing::default()
        };
        self.add(&message.subject, vec![outgoing]).map_err(|error| match error {
            SendError::NotGranted(reason) | SendError::Invalid(reason) | SendError::Limit(reason) => reason,
        })
    }
}
