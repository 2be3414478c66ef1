//! The signals that the host handles, and the order that each one means.
//!
//! Invariant: no handled signal ends the process by its default action. Each has a handler, and is not ignored: the programs
//! that a process starts inherit ignored signals, and do not inherit handlers. Faults of the program itself (SIGSEGV, SIGABRT
//! and the like), SIGKILL and SIGSTOP are not handled.

use std::{
    future::poll_fn,
    io,
    ops::RangeInclusive,
    task::{Context, Poll},
};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit_code::ExitCode;

/// The order that a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalOrder {
    /// Stop. The code is that of a process for which this was the second order to stop.
    Stop(ExitCode),
    /// Look at the plugin directory now.
    Look,
    /// Nothing. The log says that the signal came.
    Nothing,
    /// Nothing: the call that raised the signal fails, and its error tells.
    Failed,
}

/// Every signal that would end the process and is not a fault of the program.
const HANDLED: &[(&str, Number, SignalOrder)] = &[
    ("SIGTERM", Number::TERM, SignalOrder::Stop(ExitCode::Terminated)),
    ("SIGINT", Number::INT, SignalOrder::Stop(ExitCode::Interrupted)),
    ("SIGQUIT", Number::QUIT, SignalOrder::Stop(ExitCode::Terminated)),
    // The soft limit on processor time, which leaves some time until the hard limit.
    ("SIGXCPU", Number::XCPU, SignalOrder::Stop(ExitCode::Terminated)),
    #[cfg(target_os = "linux")]
    ("SIGPWR", Number::POWER, SignalOrder::Stop(ExitCode::Terminated)),
    ("SIGHUP", Number::HUP, SignalOrder::Look),
    ("SIGXFSZ", Number::XFSZ, SignalOrder::Failed),
    ("SIGUSR1", Number::USR1, SignalOrder::Nothing),
    ("SIGUSR2", Number::USR2, SignalOrder::Nothing),
    ("SIGALRM", Number::ALARM, SignalOrder::Nothing),
    ("SIGVTALRM", Number::VTALARM, SignalOrder::Nothing),
    ("SIGPROF", Number::PROF, SignalOrder::Nothing),
    ("SIGIO", Number::IO, SignalOrder::Nothing),
    #[cfg(target_os = "linux")]
    ("SIGSTKFLT", Number::STKFLT, SignalOrder::Nothing),
];

/// Listens for all handled signals.
#[derive(Debug)]
pub struct HostSignals(Vec<SignalListener>);

#[derive(Debug)]
struct SignalListener {
    name: String,
    order: SignalOrder,
    signal: Signal,
}

impl HostSignals {
    /// Starts to listen. From now on these signals do not end the process by themselves.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let named = HANDLED.iter().map(|&(name, number, order)| {
            let signal = signal(SignalKind::from_raw(number.as_raw()))?;
            let name = name.to_owned();
            Ok(SignalListener { name, order, signal })
        });
        let mut listeners = named.collect::<io::Result<Vec<_>>>()?;
        // The C library keeps some real-time signals for itself and refuses their handlers.
        listeners.extend(real_time().filter_map(|number| {
            let signal = signal(SignalKind::from_raw(number)).ok()?;
            Some(SignalListener {
                name: format!("real-time signal {number}"),
                order: SignalOrder::Nothing,
                signal,
            })
        }));
        Ok(Self(listeners))
    }

    /// Waits for the next order, and logs a signal that means none. Several signals of one kind may come as one.
    ///
    /// # Cancel safety
    ///
    /// Safe: no signal is lost.
    pub(crate) async fn next(&mut self) -> SignalOrder {
        loop {
            let (order, name) = poll_fn(|context| self.poll(context)).await;
            match order {
                SignalOrder::Stop(_) | SignalOrder::Look => return order,
                SignalOrder::Nothing => tracing::warn!("{name} came, which means nothing to the host: it goes on"),
                SignalOrder::Failed => tracing::debug!("{name} came with a call that failed"),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(SignalOrder, String)> {
        for listener in &mut self.0 {
            if listener.signal.poll_recv(context).is_ready() {
                return Poll::Ready((listener.order, listener.name.clone()));
            }
        }
        Poll::Pending
    }
}

#[cfg(target_os = "linux")]
fn real_time() -> RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::reversed_empty_ranges, reason = "the system has none")]
fn real_time() -> RangeInclusive<i32> {
    1..=0
}
