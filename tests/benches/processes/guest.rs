//! The handlers of this bench, what they are sent, and the ways to run them.

use std::{fmt, fs, thread};

use bytes::Bytes;
use harness::{
    built::{order, orders},
    guests::{handler, no_op},
};

use crate::child::Place;

/// One way to run guests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) kind: Kind,
    /// How many executors of one thread there are, or threads of the one executor.
    pub(crate) count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Here,
    Batched,
    There(Place),
}

impl Way {
    /// With one guest thread, and with one for each core.
    pub(crate) fn all() -> Vec<Self> {
        let kinds = [
            Kind::Here,
            Kind::Batched,
            Kind::There(Place::Apart),
            Kind::There(Place::Between),
        ];
        let cores = thread::available_parallelism().unwrap().get();
        let counts = if cores > 1 { vec![1, cores] } else { vec![1] };
        let ways = kinds.iter().flat_map(|kind| {
            counts.iter().map(|count| Self {
                kind: *kind,
                count: *count,
            })
        });
        ways.collect()
    }

    pub(crate) fn named(name: &str) -> Self {
        let (kind, count) = name.split_once('-').unwrap();
        let kind = match kind {
            "here" => Kind::Here,
            "batched" => Kind::Batched,
            "apart" => Kind::There(Place::Apart),
            "between" => Kind::There(Place::Between),
            other => panic!("{other} is no way to run guests"),
        };
        let count = count.parse().unwrap();
        Self { kind, count }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        match self.kind {
            Kind::Here => write!(f, "in-process, guest threads: {count}"),
            Kind::Batched => write!(f, "in-process, executors of one thread, in batches: {count}"),
            Kind::There(Place::Apart) => write!(f, "processes, transport on a thread of its own: {count}"),
            Kind::There(Place::Between) => write!(f, "processes, transport between the guests: {count}"),
        }
    }
}

/// A handler, and what it is sent.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) wasm: Vec<u8>,
    pub(crate) sends_to: &'static [&'static str],
    pub(crate) body: fn(usize) -> Bytes,
}

impl Guest {
    pub(crate) fn named(name: &str) -> Self {
        let small: fn(usize) -> Bytes = |_| Bytes::from_static(&[b'x'; 256]);
        match name {
            // 256 bytes go in, and nothing happens.
            "no-op" => Self {
                name: "no-op",
                wasm: no_op(),
                sends_to: &[],
                body: small,
            },
            // Takes 256 KiB more, unless it has them, and writes into each of their pages, as an allocator does.
            "grow" => Self {
                name: "grow",
                wasm: handler(
                    "(local $at i32) (local $end i32)
                    (if (i32.lt_u (memory.size) (i32.const 20)) (then (drop (memory.grow (i32.const 4)))))
                    (local.set $at (i32.const 1048576))
                    (local.set $end (i32.const 1310720))
                    (loop $touch
                        (i32.store (local.get $at) (i32.const 1))
                        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                        (br_if $touch (i32.lt_u (local.get $at) (local.get $end))))
                    (global.get $ok)",
                ),
                sends_to: &[],
                body: small,
            },
            "orders" => Self {
                name: "orders",
                wasm: fs::read(orders()).unwrap(),
                sends_to: &["invoices"],
                body: |number| order(number).into(),
            },
            other => panic!("{other} is no guest"),
        }
    }
}
