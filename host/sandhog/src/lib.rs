//! sandhog: a queue worker host. A WebAssembly file in a directory is a worker for a queue.
//!
//! The path of a message:
//!
//! 1. [`dispatcher`] receives from a [queue](sandhog_queue::Queue), at most as many messages as its handler has free slots. [`group_backlog`] keeps the
//!    later messages of a group behind the first.
//! 2. [`lease`](sandhog_queue::lease) keeps each delivery invisible to others from there on.
//! 3. [`attempt`] calls the guest through the [executor](sandhog_executor::Executor), and races it against a lost lease and the order to stop.
//! 4. [`settlement`] says what the outcome means; [`backoff`] and [`pause`] say when to try again.
//! 5. The queue deletes the message. A Simple queue sends what the guest sent and keeps what it wrote in the same transaction.
//!
//! Around it: [`reload`] keeps the handlers the same as the plugin directory, [`admin`] is the HTTP listener, [`cli`]
//! the command line, and [`app`] puts it all together.

pub mod attempt;
pub mod backoff;
pub mod dispatcher;
pub mod group_backlog;
pub mod halts;
pub mod pause;
pub mod poller;
pub mod rollout;
pub mod runners;
pub mod settlement;
pub mod slots;

pub mod handler_set;
pub mod plugin_dir;
pub mod reload;
pub mod served_versions;
mod staged;
pub mod versions;
pub mod watcher;
mod whole_file;

pub mod backup;
pub mod config;
pub mod config_reload;
mod date;
pub mod deploy_desk;
pub mod handler_status;
pub mod journal;
pub mod metrics;
pub mod pages;
pub mod queue_set;
pub mod shutdown;
pub mod signals;
pub mod standing;
pub mod supervision;
pub mod traces;

pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod endpoint;
pub mod exit_code;
pub mod filter_text;
pub mod rehearsal;
pub mod spy;
pub mod telemetry;
pub mod trial;
