//! The sessions of people who have logged in, and how often somebody may try to.
//!
//! Invariant: a session ends after an hour without a request and after twelve hours in any case; there are at most [`MOST`] of them,
//! and the one that was used least recently makes room, one that may only look before all others. What is kept are digests of the cookies, so that nothing here lets anybody in. A
//! host that is started again has none.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use axum::http::StatusCode;
use parking_lot::Mutex;
use sandhog_executor::digest;
use sandhog_queue::printable::hex;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::admin::{
    audit::ClientAddress,
    caller::{Caller, CallerRight},
    refused::RefusedRequest,
};

/// The most sessions.
const MOST: usize = 128;
/// How long a session lasts without a request.
const IDLE: Duration = Duration::from_hours(1);
/// How long a session lasts at most.
const LIFE: Duration = Duration::from_hours(12);
/// The time in which the tries are counted.
const TRY_TIME: Duration = Duration::from_mins(1);
/// The most wrong tries of one address in that time.
const TRIES_OF_ONE: u32 = 10;
/// The most wrong tries of all in that time.
const TRIES_OF_ALL: u32 = 100;

/// Somebody in front of a page.
#[derive(Debug, Clone)]
pub(crate) struct UiCaller {
    pub(crate) caller: Caller,
    pub(crate) address: Option<ClientAddress>,
    /// What each form carries, so that no other page can make one.
    pub(super) token: String,
    /// The caller has logged in, and can log out.
    pub(super) has_session: bool,
}

impl UiCaller {
    /// Returns whether the caller may change something.
    pub(super) fn may_change(&self) -> bool {
        self.caller.right == CallerRight::All
    }

    /// Refuses a form that carries another token than that of this caller.
    pub(super) fn check_token(&self, candidate: &str) -> Result<(), RefusedRequest> {
        if self.token.as_bytes().ct_eq(candidate.as_bytes()).into() {
            return Ok(());
        }
        Err(RefusedRequest::new(
            StatusCode::FORBIDDEN,
            "nothing was done: the form is not one of this session, because the host or the session has ended since; load the page again",
        ))
    }
}

#[derive(Debug)]
struct UiSession {
    right: CallerRight,
    token: String,
    /// A short name for the audit lines.
    name: String,
    began: Instant,
    used: Instant,
}

impl UiSession {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE || now.saturating_duration_since(self.began) >= LIFE
    }
}

/// The wrong tries since a time.
#[derive(Debug, Clone, Copy)]
struct WrongTries {
    since: Instant,
    count: u32,
}

impl WrongTries {
    fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    fn now(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.since) >= TRY_TIME {
            *self = Self::new(now);
        }
        self.count
    }
}

#[derive(Debug)]
struct TryTable {
    all: WrongTries,
    /// Bounded, because each has at least one of the tries of all.
    by_address: HashMap<IpAddr, WrongTries>,
}

/// The open sessions.
#[derive(Debug)]
pub(super) struct UiSessions {
    open: Mutex<HashMap<String, UiSession>>,
    tries: Mutex<TryTable>,
    /// What forms carry if the listener has no secret.
    process_token: String,
}

/// Returns 256 random bits.
fn random() -> String {
    hex(&rand::random::<[u8; 32]>())
}

impl Default for UiSessions {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            tries: Mutex::new(TryTable {
                all: WrongTries::new(Instant::now()),
                by_address: HashMap::new(),
            }),
            process_token: random(),
        }
    }
}

impl UiSessions {
    /// Returns the caller of a listener without a secret.
    pub(super) fn local(&self, address: Option<ClientAddress>) -> UiCaller {
        UiCaller {
            caller: Caller {
                who: "local dashboard".to_owned(),
                right: CallerRight::All,
                sees_redacted: true,
                is_person: true,
            },
            address,
            token: self.process_token.clone(),
            has_session: false,
        }
    }

    /// Begins a session, and returns the value of its cookie.
    pub(super) fn begin(&self, right: CallerRight) -> String {
        let (cookie, now) = (random(), Instant::now());
        let mut open = self.open.lock();
        open.retain(|_, session| !session.is_over(now));
        if open.len() >= MOST {
            // Whoever may only look throws nobody out who may do more.
            let oldest = open
                .iter()
                .min_by_key(|(_, session)| (session.right == CallerRight::All, session.used));
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.map(|key| open.remove(&key));
        }
        let key = digest(cookie.as_bytes());
        let name = key.chars().take(8).collect();
        let session = UiSession {
            right,
            token: random(),
            name,
            began: now,
            used: now,
        };
        drop(open.insert(key, session));
        cookie
    }

    /// Returns whether this is the cookie of a session. Asking keeps it no longer open.
    pub(super) fn is_open(&self, cookie: &str) -> bool {
        let now = Instant::now();
        let open = self.open.lock();
        let session = open.get(&digest(cookie.as_bytes()));
        session.is_some_and(|session| !session.is_over(now))
    }

    /// Returns the caller whose cookie this is.
    pub(super) fn caller(&self, cookie: &str, address: Option<ClientAddress>) -> Option<UiCaller> {
        let now = Instant::now();
        let mut open = self.open.lock();
        let session = open
            .get_mut(&digest(cookie.as_bytes()))
            .filter(|session| !session.is_over(now))?;
        session.used = now;
        let secret = match session.right {
            CallerRight::All => "secret",
            CallerRight::Look => "read-only secret",
        };
        Some(UiCaller {
            caller: Caller {
                who: format!("{secret}, dashboard session {}", session.name),
                right: session.right,
                sees_redacted: true,
                is_person: true,
            },
            address,
            token: session.token.clone(),
            has_session: true,
        })
    }

    /// Ends a session.
    pub(super) fn end(&self, cookie: &str) {
        drop(self.open.lock().remove(&digest(cookie.as_bytes())));
    }

    /// Returns whether somebody at this address may try a secret now.
    pub(super) fn may_try(&self, address: Option<ClientAddress>) -> bool {
        let now = Instant::now();
        let mut tries = self.tries.lock();
        if tries.all.now(now) >= TRIES_OF_ALL {
            return false;
        }
        let one = address.and_then(|ClientAddress(address)| tries.by_address.get_mut(&address.ip()));
        one.is_none_or(|one| one.now(now) < TRIES_OF_ONE)
    }

    /// Counts a wrong secret.
    pub(super) fn tried(&self, address: Option<ClientAddress>) {
        let now = Instant::now();
        let mut tries = self.tries.lock();
        tries.all.now(now);
        tries.all.count += 1;
        tries
            .by_address
            .retain(|_, one| now.saturating_duration_since(one.since) < TRY_TIME);
        if let Some(ClientAddress(address)) = address {
            let one = tries
                .by_address
                .entry(address.ip())
                .or_insert_with(|| WrongTries::new(now));
            one.now(now);
            one.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress(([10, 0, 0, last], 5000).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_without_use_and_in_any_case() {
        let sessions = UiSessions::default();
        let cookie = sessions.begin(CallerRight::All);
        for _ in 0..23 {
            advance(Duration::from_mins(31)).await;
            assert!(sessions.caller(&cookie, None).is_some());
        }
        advance(Duration::from_mins(7)).await;
        assert!(sessions.caller(&cookie, None).is_none(), "twelve hours are over");
        let idle = sessions.begin(CallerRight::Look);
        advance(IDLE).await;
        assert!(sessions.caller(&idle, None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_session_that_was_used_least_recently_makes_room() {
        let sessions = UiSessions::default();
        let first = sessions.begin(CallerRight::All);
        advance(Duration::from_secs(1)).await;
        let second = sessions.begin(CallerRight::All);
        advance(Duration::from_secs(1)).await;
        assert!(sessions.caller(&first, None).is_some());
        for _ in 0..MOST - 1 {
            advance(Duration::from_secs(1)).await;
            sessions.begin(CallerRight::All);
        }
        assert!(sessions.caller(&second, None).is_none() && sessions.caller(&first, None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_secrets_are_bounded_by_address_and_for_all() {
        let sessions = UiSessions::default();
        for _ in 0..TRIES_OF_ONE {
            assert!(sessions.may_try(Some(address(1))));
            sessions.tried(Some(address(1)));
        }
        assert!(!sessions.may_try(Some(address(1))) && sessions.may_try(Some(address(2))));
        advance(TRY_TIME).await;
        assert!(sessions.may_try(Some(address(1))));
        for last in 0..TRIES_OF_ALL {
            sessions.tried(Some(address(u8::try_from(last).unwrap())));
        }
        assert!(
            !sessions.may_try(Some(address(200))),
            "all together have tried often enough"
        );
        advance(TRY_TIME).await;
        assert!(sessions.may_try(Some(address(200))));
    }

    #[test]
    fn nothing_that_is_kept_is_a_cookie() {
        let sessions = UiSessions::default();
        let cookie = sessions.begin(CallerRight::All);
        assert!(!format!("{sessions:?}").contains(&cookie));
        assert!(sessions.caller(&cookie, None).is_some());
        assert!(sessions.caller(&digest(cookie.as_bytes()), None).is_none());
        sessions.end(&cookie);
        assert!(sessions.caller(&cookie, None).is_none());
    }
}
