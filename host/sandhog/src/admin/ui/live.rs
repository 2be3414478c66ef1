//! The stream that keeps an open page as it is now: the page is rendered again and again, and sent when it has changed.
//!
//! Invariant: a host at which nobody looks renders nothing. The number of streams is bounded; one ends with its session, with the host, and
//! when its client goes.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, sleep_until};

use super::{UiState, door::cookie, form::FormPairs, layout::MainPart, sessions::UiCaller};
use crate::admin::refused::RefusedRequest;

/// The most pages that are live at a time.
const MOST: usize = 32;
/// The most of them that one session has.
const MOST_OF_SESSION: usize = 8;
/// The most of them of those who may only look, so that whoever may do more has a place.
const MOST_OF_LOOKERS: usize = 24;
/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same on a host with queues whose calls cost: a page asks each of them for its counts.
const LOOK_AT_REMOTE_EVERY: Duration = Duration::from_secs(15);
/// The rest after a look, as a multiple of its time and of the number of pages: pages that take long are looked at more rarely.
const REST: u32 = 49;
/// How often a client to which nothing happens hears that the host is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The pages that are live: how many of each session.
#[derive(Debug, Clone, Default)]
pub(super) struct LivePages(Arc<Mutex<HashMap<String, SessionPages>>>);

/// The pages of one session that are live.
#[derive(Debug, Clone, Copy, Default)]
struct SessionPages {
    open: usize,
    only_looks: bool,
}

/// The right to one stream. Dropping it gives the room back.
#[derive(Debug)]
struct LivePlace {
    pages: LivePages,
    session: String,
}

impl LivePages {
    /// Returns the right to one more stream.
    ///
    /// # Errors
    ///
    /// There are as many as there may be.
    fn place(&self, caller: &UiCaller) -> Result<LivePlace, RefusedRequest> {
        let full = |why| Err(RefusedRequest::new(StatusCode::SERVICE_UNAVAILABLE, why));
        let only_looks = !caller.may_change();
        let mut live = self.0.lock();
        let open = |is_one: fn(&SessionPages) -> bool| -> usize {
            live.values().filter(|one| is_one(one)).map(|one| one.open).sum()
        };
        if open(|_| true) >= MOST {
            return full(format!(
                "{MOST} pages are live already: close one, or load this one again yourself"
            ));
        }
        if only_looks && open(|one| one.only_looks) >= MOST_OF_LOOKERS {
            return full(format!(
                "{MOST_OF_LOOKERS} pages of people who may only look are live already: close one, or load this one again yourself"
            ));
        }
        let of_session = live.get(&caller.token).map_or(0, |one| one.open);
        // Without sessions all who look are one.
        if caller.has_session && of_session >= MOST_OF_SESSION {
            return full(format!(
                "{MOST_OF_SESSION} pages of this session are live already: close one, or load this one again yourself"
            ));
        }
        let open = of_session + 1;
        live.insert(caller.token.clone(), SessionPages { open, only_looks });
        Ok(LivePlace {
            pages: self.clone(),
            session: caller.token.clone(),
        })
    }

    /// Returns how many pages are live: 1 or more for one that asks.
    fn open(&self) -> u32 {
        let open: usize = self.0.lock().values().map(|one| one.open).sum();
        u32::try_from(open).unwrap_or(u32::MAX).max(1)
    }
}

impl Drop for LivePlace {
    fn drop(&mut self) {
        let mut live = self.pages.0.lock();
        let Some(one) = live.get_mut(&self.session) else { return };
        one.open = one.open.saturating_sub(1);
        if one.open == 0 {
            live.remove(&self.session);
        }
    }
}

/// A page that is open somewhere.
struct OpenPage {
    pages: TowerToHyperService<axum::Router>,
    target: String,
    caller: UiCaller,
    cookie: Option<String>,
    state: UiState,
    next: Instant,
    shown: String,
    is_over: bool,
    _place: LivePlace,
}

/// Begins a stream of the page of the parameter `page`.
pub(super) async fn stream_page(
    State(state): State<UiState>,
    Extension(caller): Extension<UiCaller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, RefusedRequest> {
    let asked = FormPairs::of_query(query.as_deref())?;
    let target = asked.or_empty("page").to_owned();
    if !super::is_page(target.split('?').next().unwrap_or_default()) || target.starts_with("/ui/live") {
        return Err(RefusedRequest::bad("page: use the path of a page below /ui"));
    }
    if !state.may_be_live(&target) {
        let why = "page: this one is not looked at again by itself, because its queue would have to be received from";
        return Err(RefusedRequest::bad(why));
    }
    if is_profile(&target) {
        let why = "page: a profile is taken when somebody asks for it, and not by a page that updates itself";
        return Err(RefusedRequest::bad(why));
    }
    let place = state.live.place(&caller)?;
    let stop = state.admin.draining.clone();
    let page = OpenPage {
        pages: TowerToHyperService::new(super::pages(&state)),
        target,
        caller,
        cookie: cookie(&headers),
        next: Instant::now() + state.pace(),
        shown: String::new(),
        is_over: false,
        state,
        _place: place,
    };
    let events = stream::unfold((page, stop), async |(mut page, stop)| {
        let event = stop.run_until_cancelled(page.next()).await??;
        Some((Ok(event), (page, stop)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Returns whether a path is that of a profile.
fn is_profile(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/ui/handlers/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(_, page)| page == "profile")
}

impl UiState {
    /// Returns whether a page may be rendered again and again: not if that receives dead letters, which hides them from others.
    fn may_be_live(&self, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        let Some((name, "dead")) = path
            .strip_prefix("/ui/queues/")
            .and_then(|rest| rest.split_once('/'))
            .map(|(name, rest)| (name, rest.split('/').next().unwrap_or_default()))
        else {
            return true;
        };
        percent_decode_str(name)
            .decode_utf8()
            .is_ok_and(|name| !self.is_remote(&name))
    }

    /// Returns the time between two looks.
    fn pace(&self) -> Duration {
        let costs = self
            .admin
            .queues
            .list()
            .iter()
            .any(|queue| queue.capabilities().calls_cost);
        if costs { LOOK_AT_REMOTE_EVERY } else { LOOK_EVERY }
    }
}

impl OpenPage {
    /// Waits until the page has changed. `None` after the last event.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over {
            sleep_until(self.next).await;
            if !self.has_session() {
                self.is_over = true;
                return Some(Event::default().event("end").data("the session is over"));
            }
            let began = Instant::now();
            let main = self.render().await;
            let now = Instant::now();
            // All pages together take the share of one.
            let rest = (now - began) * REST * self.state.live.open();
            self.next = now + self.state.pace().max(rest);
            if let Some(main) = main.filter(|main| *main != self.shown) {
                // An event has no line ends of the other kind.
                let data = main.replace('\r', "");
                self.shown = main;
                return Some(Event::default().event("page").data(data));
            }
        }
        None
    }

    fn has_session(&self) -> bool {
        if !self.caller.has_session {
            return true;
        }
        let cookie = self.cookie.as_deref().unwrap_or_default();
        self.state.door.sessions.is_open(cookie)
    }

    /// Renders the page; `None` if it can't be shown now.
    async fn render(&self) -> Option<String> {
        let mut request = Request::builder().uri(&self.target).body(Body::empty()).ok()?;
        request.extensions_mut().insert(self.caller.clone());
        let answer = self.pages.call(request).await.unwrap_or_else(|never| match never {});
        answer.extensions().get::<MainPart>().map(|main| main.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::caller::CallerRight;

    #[test]
    fn a_profile_is_known_by_its_path_and_a_handler_of_that_name_is_none() {
        for (target, expected) in [
            ("/ui/handlers/orders/profile", true),
            ("/ui/handlers/orders/profile?for=5", true),
            ("/ui/handlers/profile", false),
            ("/ui/handlers/profile?failed=1", false),
            ("/ui/queues/profile", false),
        ] {
            assert_eq!(is_profile(target), expected, "{target}");
        }
    }

    #[test]
    fn a_session_gives_back_the_room_of_the_pages_that_it_closes() {
        let caller = |token: &str| UiCaller {
            token: token.to_owned(),
            has_session: true,
            ..crate::admin::ui::sessions::UiSessions::default().local(None)
        };
        let pages = LivePages::default();
        let one = caller("one");
        let mut open: Vec<_> = (0..MOST_OF_SESSION).map(|_| pages.place(&one).unwrap()).collect();
        let why = pages.place(&one).unwrap_err().to_string();
        assert!(why.contains("of this session"), "{why}");
        open.extend((0..MOST - MOST_OF_SESSION).map(|number| pages.place(&caller(&number.to_string())).unwrap()));
        let why = pages.place(&caller("another")).unwrap_err().to_string();
        assert!(why.starts_with("32 pages are live"), "{why}");
        open.clear();
        assert!(pages.0.lock().is_empty() && pages.place(&one).is_ok());
    }

    #[test]
    fn those_who_may_only_look_leave_room_for_others() {
        let of = |token: usize, right| {
            let mut caller = crate::admin::ui::sessions::UiSessions::default().local(None);
            caller.caller.right = right;
            UiCaller {
                token: token.to_string(),
                has_session: true,
                ..caller
            }
        };
        let pages = LivePages::default();
        let look = |number| pages.place(&of(number, CallerRight::Look));
        let open: Vec<_> = (0..MOST_OF_LOOKERS).map(|number| look(number).unwrap()).collect();
        let why = look(100).unwrap_err().to_string();
        assert!(why.contains("may only look"), "{why}");
        assert!(pages.place(&of(101, CallerRight::All)).is_ok());
        drop(open);
    }
}
