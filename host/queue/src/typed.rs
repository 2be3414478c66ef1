//! Queues of values for programs that embed the library: [`Sender<T>`] and [`Receiver<T>`] over any [`Queue`].
//!
//! A value travels as JSON in the body of a message, so a typed receiver understands what a guest or `sandhog send`
//! wrote, and the reverse.
//!
//! Invariants: a message is acknowledged only by whoever still holds its lease; a message that was received and not
//! settled is given back, whatever became of the code that held it; a body that is no `T` never reaches that code, and
//! never ends the receiving. Nothing here knows handlers or components.
//!
//! [`Queue`]: crate::Queue
//!
//! # Examples
//!
//! A message is gone once the block that handled it has succeeded, and not before:
//!
//! ```
//! use std::sync::Arc;
//!
//! use sandhog_queue::{Queue, message::QueueName, typed::{Receiver, Sender}};
//! use sandhog_simple::{SimpleStore, settings::Settings};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     id: u32,
//!     article: String,
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let name = QueueName::new("orders")?;
//!     let settings = Settings::defaults(&name);
//!     let queue: Arc<dyn Queue> = SimpleStore::ephemeral().queue(name, settings).await?;
//!
//!     let sender = Sender::new(Arc::clone(&queue));
//!     sender.send(&Order { id: 7, article: "lamp".to_owned() }).await?;
//!
//!     let receiver = Receiver::<Order>::new(Arc::clone(&queue));
//!     let received = receiver.receive().await?;
//!     let shipped = receiver
//!         .acknowledgement(received, async |order| {
//!             Ok::<_, std::io::Error>(format!("{} as order {}", order.article, order.id))
//!         })
//!         .await?;
//!
//!     assert_eq!(shipped, "lamp as order 7");
//!     assert_eq!(queue.counts().await?.in_flight, 0);
//!     Ok(())
//! }
//! ```
//!
//! Many at once, and a stream of what arrives:
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use sandhog_queue::{Queue, message::QueueName, typed::{Receiver, Sender}};
//! # use sandhog_simple::{SimpleStore, settings::Settings};
//! use futures_util::StreamExt as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let name = QueueName::new("numbers")?;
//! # let settings = Settings::defaults(&name);
//! # let queue: Arc<dyn Queue> = SimpleStore::ephemeral().queue(name, settings).await?;
//! Sender::<u32>::new(Arc::clone(&queue)).send_many(1..=3).await?;
//!
//! let receiver = Receiver::<u32>::new(queue);
//! let mut stream = receiver.stream();
//! let mut sum = 0;
//! while sum < 6 {
//!     let received = stream.next().await.expect("a stream ends only after its queue failed")?;
//!     sum += *received;
//!     received.acknowledge().await?;
//! }
//! # Ok(())
//! # }
//! ```

mod received;
mod receiver;
mod sender;
mod upkeep;

pub use futures_util::Stream;

pub use self::{
    received::{AcknowledgementError, Received},
    receiver::{ReceiveError, Receiver},
    sender::{SendManyError, Sender, TypedSendError},
};
