//! `wasi:messaging` and the consumer of `wasmcloud:messaging`: the senders of components that were written for other hosts.
//!
//! Both send under the same grant as `sandhog:worker/sender`, to the same queues.

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};

use self::resources::{Client, RequestOptions, WasiMessage};
use super::sender::CollectedSends;
use crate::bindings::{
    wasi_messaging::wasi::messaging::{
        producer, request_reply,
        types::{self, Error, MetadataError},
    },
    wasmcloud_messaging::wasmcloud::messaging::consumer::{self, BrokerMessage},
    worker::sandhog::worker::sender::SendError,
};
use sandhog_queue::message::{AttributeValue, Attributes, Outgoing};

pub(crate) use self::resources::WasiMessageAccount;

pub(crate) mod resources;

/// The attribute that names the queue to which a reply should go.
pub(crate) const REPLY_TO: &str = "reply-to";

const NO_REPLIES: &str = "queues have no replies";

/// The messages of an attempt and the handles of its instance, for as long as one call of an import.
pub(crate) struct MessagingView<'a> {
    table: &'a mut ResourceTable,
    messages: &'a mut WasiMessageAccount,
    sends: &'a mut CollectedSends,
}

impl<'a> MessagingView<'a> {
    pub(crate) fn new(
        table: &'a mut ResourceTable,
        messages: &'a mut WasiMessageAccount,
        sends: &'a mut CollectedSends,
    ) -> Self {
        Self { table, messages, sends }
    }
}

struct HasMessaging;

impl HasData for HasMessaging {
    type Data<'a> = MessagingView<'a>;
}

/// Links the types, which reach nothing by themselves.
pub(crate) fn add_types_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> MessagingView<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<_, HasMessaging>(linker, view)
}

/// Links everything that sends.
pub(crate) fn add_senders_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> MessagingView<'_>,
    sends: fn(&mut T) -> &mut CollectedSends,
) -> wasmtime::Result<()> {
    producer::add_to_linker::<_, HasMessaging>(linker, view)?;
    request_reply::add_to_linker::<_, HasMessaging>(linker, view)?;
    consumer::add_to_linker::<_, HasSelf<CollectedSends>>(linker, sends)
}

type Answer<T, E = Error> = wasmtime::Result<Result<T, E>>;

impl types::Host for MessagingView<'_> {}

impl types::HostClient for MessagingView<'_> {
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

impl types::HostMessage for MessagingView<'_> {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<WasiMessage>> {
        let mut message = WasiMessage::of_data(data);
        self.messages.charge_message(&mut message)?;
        Ok(self.table.push(message)?)
    }

    fn topic(&mut self, message: Resource<WasiMessage>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<WasiMessage>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&message)?.content_type().cloned())
    }

    fn set_content_type(&mut self, message: Resource<WasiMessage>, content_type: String) -> Answer<(), ()> {
        let message = self.table.get_mut(&message)?;
        self.messages.set_content_type(message, content_type)?;
        Ok(Ok(()))
    }

    fn data(&mut self, message: Resource<WasiMessage>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&message)?.data().to_vec())
    }

    fn set_data(&mut self, message: Resource<WasiMessage>, data: Vec<u8>) -> wasmtime::Result<()> {
        let message = self.table.get_mut(&message)?;
        self.messages.set_data(message, data)
    }

    fn metadata(&mut self, message: Resource<WasiMessage>) -> wasmtime::Result<Option<Vec<(String, String)>>> {
        Ok(Some(self.table.get(&message)?.metadata().to_vec()))
    }

    fn add_metadata(
        &mut self,
        message: Resource<WasiMessage>,
        key: String,
        value: String,
    ) -> Answer<(), MetadataError> {
        let message = self.table.get_mut(&message)?;
        self.messages.add_metadata(message, key, value)?;
        Ok(Ok(()))
    }

    fn set_metadata(
        &mut self,
        message: Resource<WasiMessage>,
        meta: Vec<(String, String)>,
    ) -> Answer<(), MetadataError> {
        let message = self.table.get_mut(&message)?;
        self.messages.set_metadata(message, meta)?;
        Ok(Ok(()))
    }

    fn remove_metadata(&mut self, message: Resource<WasiMessage>, key: String) -> Answer<(), MetadataError> {
        self.table.get_mut(&message)?.remove_metadata(&key);
        Ok(Ok(()))
    }

    fn drop(&mut self, message: Resource<WasiMessage>) -> wasmtime::Result<()> {
        let message = self.table.delete(message)?;
        self.messages.give_back(&message);
        Ok(())
    }
}

impl producer::Host for MessagingView<'_> {
    fn send(&mut self, _client: Resource<Client>, topic: String, message: Resource<WasiMessage>) -> Answer<()> {
        let message = self.table.delete(message)?;
        self.messages.give_back(&message);
        let outgoing = match message.into_outgoing() {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok(Err(Error::Other(error.0))),
        };
        let sent = self.sends.add(&topic, vec![outgoing]);
        Ok(sent.map_err(|error| match error {
            SendError::NotGranted(reason) => Error::PermissionDenied(reason),
            SendError::Invalid(reason) | SendError::Limit(reason) => Error::Other(reason),
        }))
    }
}

impl request_reply::Host for MessagingView<'_> {
    fn request(
        &mut self,
        _client: Resource<Client>,
        _topic: String,
        _message: Resource<WasiMessage>,
        options: Option<Resource<RequestOptions>>,
    ) -> Answer<Vec<Resource<WasiMessage>>> {
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        Ok(Err(Error::Other(NO_REPLIES.to_owned())))
    }

    fn reply(&mut self, _to: Resource<WasiMessage>, message: Resource<WasiMessage>) -> Answer<()> {
        let message = self.table.delete(message)?;
        self.messages.give_back(&message);
        Ok(Err(Error::Other(NO_REPLIES.to_owned())))
    }
}

impl request_reply::HostRequestOptions for MessagingView<'_> {
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

impl consumer::Host for CollectedSends {
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
