//! Every promise of the README as tests, one file per promise.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what is not as expected fails the test"
)]

mod asynchronous;
mod backlog;
mod backup;
mod bleed;
mod busy_store;
mod cancel;
mod cli;
mod clock;
mod compare_and_set;
mod compiler;
mod config;
mod conformance;
mod connection_lease;
mod crash;
mod delivery;
mod deploy;
mod dev;
mod disk;
mod entries;
mod examples;
mod flavours;
mod fuzz;
mod generated;
mod grants;
mod half_written;
mod handler_set;
mod holding;
mod hostile;
mod http;
mod instructions;
mod isolation;
mod journal;
mod keyvalue;
mod lease;
mod listener;
mod pausing;
mod peek;
mod processed_messages;
mod programs;
mod queue_contract;
mod queue_model;
mod reaching;
mod readiness;
mod readme;
mod reason;
mod refused_effects;
mod reload;
mod remote;
mod restart;
mod restricted;
mod reuse;
mod rollout;
mod runners;
mod sandbox;
mod sdks;
mod shutdown;
mod slots;
mod spy;
mod sqs_access;
mod sqs_clients;
mod sqs_contract;
mod sqs_delivery;
mod sqs_endpoint;
mod sqs_faults;
mod sqs_groups;
mod sqs_pair;
mod sqs_polls;
mod sqs_queues;
mod sqs_servers;
mod starvation;
mod steering;
mod store_crash;
mod store_format;
mod templates;
mod tidy;
mod typed;
mod until_empty;
mod upgrades;
mod walls;
mod whole_groups;
