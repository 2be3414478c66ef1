//! The thread that advances the engine's epoch, at which every running guest is asked whether its time is up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use wasmtime::Engine;

/// The time between two ticks while a guest is alive. At a tick a guest is asked whether its time is up, and lets others
/// run.
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// The time between two ticks while no guest is alive, so that an idle host sleeps.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// The most ticks after the thread was told to stop, for guests that are still running.
const LAST_TICKS: u32 = 200;

/// A thread of the operating system, so that it ticks whatever guests do to their runtime. Joined on drop.
pub(crate) struct EpochThread {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EpochThread {
    /// Starts the thread. It calls `before_tick` and `after_tick` around each tick, which must not block; `live` counts the guests that
    /// are alive.
    ///
    /// # Errors
    ///
    /// The machine lets no thread start.
    pub(crate) fn start(
        engine: &Engine,
        live: Arc<AtomicUsize>,
        before_tick: impl Fn() + Send + 'static,
        after_tick: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = engine.weak();
        let thread = thread::Builder::new().name("sandhog-epoch".to_owned()).spawn(move || {
            loop {
                let tick = if live.load(Ordering::Relaxed) == 0 {
                    IDLE_TICK
                } else {
                    TICK
                };
                match stopped.recv_timeout(tick) {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
                let Some(engine) = engine.upgrade() else { return };
                before_tick();
                engine.increment_epoch();
                after_tick();
            }
            // The guests that still run were told to stop, and notice it at one of these ticks.
            for _ in 0..LAST_TICKS {
                let Some(engine) = engine.upgrade().filter(|_| live.load(Ordering::Relaxed) > 0) else {
                    return;
                };
                engine.increment_epoch();
                drop(engine);
                thread::park_timeout(TICK);
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for EpochThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the epoch thread panicked");
        }
    }
}
