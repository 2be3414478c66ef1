//! Requests that are under way, each through its redirects to its answer.

use std::fmt;
use std::rc::Rc;

use ::http::header::CONTENT_LENGTH;
use ::http::request::Parts;
use ::http::{HeaderMap, Response, StatusCode};

use super::redirect::Redirect;
use super::wire::{Deadline, Exchange, Interests};
use super::{Body, Client, HttpError};

/// A request that is under way. Dropping it breaks the request off.
#[must_use]
pub struct Pending {
    exchange: Exchange,
    head: Parts,
    /// What a redirect may ask for again; `None` if it was written piece by piece.
    body: Option<Rc<Vec<u8>>>,
    deadline: Rc<Deadline>,
    redirects: u32,
}

impl Pending {
    pub(super) fn start(head: Parts, body: Vec<u8>, client: &Client) -> Result<Self, HttpError> {
        let (body, deadline) = (Rc::new(body), Rc::new(Deadline::after(client.timeout)));
        Ok(Self {
            exchange: Exchange::start(&head, &body, &deadline)?,
            head,
            body: Some(body),
            deadline,
            redirects: client.redirects,
        })
    }

    pub(super) fn open(head: Parts, client: &Client) -> Result<Self, HttpError> {
        let deadline = Rc::new(Deadline::after(client.timeout));
        Ok(Self {
            exchange: Exchange::open(&head, &deadline)?,
            head,
            body: None,
            deadline,
            redirects: client.redirects,
        })
    }

    /// Waits for the answer, and returns it once its head is here.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn wait(mut self) -> Result<Response<Body>, HttpError> {
        loop {
            if let Some(answer) = self.advance()? {
                return Ok(answer);
            }
            self.block();
        }
    }

    /// Goes on as far as there is no need to wait.
    fn advance(&mut self) -> Result<Option<Response<Body>>, HttpError> {
        while let Some(answer) = self.exchange.advance()? {
            match self.follow(answer.status(), answer.headers())? {
                Some(next) => self.exchange = next,
                None => return Ok(Some(answer.map(Body::new))),
            }
        }
        Ok(None)
    }

    /// Starts the next request if the answer leads to one.
    fn follow(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<Option<Exchange>, HttpError> {
        if self.redirects == 0 {
            return Ok(None);
        }
        let Some(Redirect { head, keeps_body }) = Redirect::of(status, headers, &self.head)? else {
            return Ok(None);
        };
        let body = match (keeps_body, &self.body) {
            (true, None) => return Ok(None),
            (true, Some(body)) => Rc::clone(body),
            (false, _) => Rc::default(),
        };
        self.redirects -= 1;
        let next = Exchange::start(&head, &body, &self.deadline)?;
        (self.head, self.body) = (head, Some(body));
        Ok(Some(next))
    }

    fn block(&self) {
        let mut interests = Interests::default();
        self.exchange.interests(&mut interests);
        interests.wait();
    }

    /// Writes to the body.
    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), HttpError> {
        while !bytes.is_empty() {
            let written = self.exchange.write(bytes)?;
            bytes = bytes.get(written..).unwrap_or_default();
            if written == 0 {
                self.block();
            }
        }
        Ok(())
    }

    /// Ends the body that was written.
    pub(super) fn finished(mut self) -> Result<Self, HttpError> {
        self.exchange.finish()?;
        // A redirect that becomes a GET has no body.
        self.head.headers.remove(CONTENT_LENGTH);
        Ok(self)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { method, uri, .. } = &self.head;
        f.debug_struct("Pending")
            .field("method", method)
            .field("uri", uri)
            .finish_non_exhaustive()
    }
}

/// A request of several, on its way to an answer whose body was received.
enum Stage {
    Pending(Box<Pending>),
    Receiving(Response<Body>),
    Done(Result<Response<Body>, HttpError>),
}

impl Stage {
    /// Goes on as far as there is no need to wait.
    fn advance(self) -> Result<Self, HttpError> {
        match self {
            Self::Pending(mut pending) => match pending.advance()? {
                None => Ok(Self::Pending(pending)),
                Some(answer) => Self::Receiving(answer).advance(),
            },
            Self::Receiving(mut answer) => {
                let is_whole = answer.body_mut().receive()?;
                Ok(if is_whole {
                    Self::Done(Ok(answer))
                } else {
                    Self::Receiving(answer)
                })
            }
            done @ Self::Done(_) => Ok(done),
        }
    }

    fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        match self {
            Self::Pending(pending) => pending.exchange.interests(interests),
            Self::Receiving(answer) => answer.body().interests(interests),
            Self::Done(_) => {}
        }
    }
}

/// Waits for requests, of which it starts so many at a time, and for the bodies of their answers.
///
/// The bodies have to be received here: an answer whose body is not read counts as under way, so that the next request would
/// wait for it in vain.
pub(super) fn wait_all(
    mut requests: impl Iterator<Item = Result<Pending, HttpError>>,
    concurrent: usize,
) -> Vec<Result<Response<Body>, HttpError>> {
    let mut stages: Vec<Stage> = Vec::new();
    loop {
        let mut under_way = 0;
        for stage in &mut stages {
            let now = std::mem::replace(stage, Stage::Done(Err(HttpError::Invalid(String::new()))));
            *stage = now.advance().unwrap_or_else(|error| Stage::Done(Err(error)));
            under_way += usize::from(!matches!(stage, Stage::Done(_)));
        }
        let room = concurrent.saturating_sub(under_way);
        let started: Vec<_> = requests
            .by_ref()
            .take(room)
            .map(|request| {
                request.map_or_else(
                    |error| Stage::Done(Err(error)),
                    |pending| Stage::Pending(Box::new(pending)),
                )
            })
            .collect();
        if !started.is_empty() {
            stages.extend(started);
            continue;
        }
        if under_way == 0 {
            break;
        }
        let mut interests = Interests::default();
        for stage in &stages {
            stage.interests(&mut interests);
        }
        interests.wait();
    }
    stages
        .into_iter()
        .filter_map(|stage| match stage {
            Stage::Done(answer) => Some(answer),
            Stage::Pending(_) | Stage::Receiving(_) => None,
        })
        .collect()
}
