//! The clocks of a machine that a test owns: it sets the wall clock, puts the machine to sleep and starts it anew.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sandhog_queue::machine_clock::{MachineClock, Reading};

/// The clones are the same machine. Time passes only when [`SetClock::pass`] says so, so it belongs beside tokio's paused time.
#[derive(Debug, Clone)]
pub struct SetClock(Arc<Mutex<Reading>>);

impl Default for SetClock {
    fn default() -> Self {
        Self::new()
    }
}

impl SetClock {
    /// A machine that was started an hour ago, in January 2027.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Reading {
            wall: Duration::from_hours(500_000),
            since_boot: Duration::from_hours(1),
            asleep: Duration::ZERO,
            boot: Some(1),
        })))
    }

    pub fn clock(&self) -> MachineClock {
        let said = Arc::clone(&self.0);
        MachineClock::new(move || *said.lock().unwrap())
    }

    /// What the wall clock says, in milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().wall.as_millis()).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Time passes, as on every clock; the instants are tokio's.
    pub async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.change(|said| {
            said.wall += time;
            said.since_boot += time;
        });
    }

    /// Somebody sets the wall clock to so long after 1970.
    pub fn set_wall(&self, wall: Duration) {
        self.change(|said| said.wall = wall);
    }

    /// Somebody sets the wall clock forward (or back) by so many seconds.
    pub fn move_wall(&self, seconds: i64) {
        self.change(|said| said.wall = Duration::from_secs(said.wall.as_secs().saturating_add_signed(seconds)));
    }

    /// The machine sleeps: instants stand still.
    pub fn sleep(&self, time: Duration) {
        self.change(|said| {
            said.wall += time;
            said.since_boot += time;
            said.asleep += time;
        });
    }

    /// The machine is off for so long by its wall clock.
    pub fn reboot(&self, off: Duration) {
        self.change(|said| {
            said.boot = said.boot.map(|boot| boot + 1);
            said.since_boot = Duration::from_secs(20);
            said.asleep = Duration::ZERO;
            said.wall += off;
        });
    }
}
