//! The double of HTTP: requests are answered by a function of the test, and kept.
//!
//! It stands where the host's connections are in a component, below redirects and everything else that the client does.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use ::http::request::Parts;
use ::http::{HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::http::{HttpError, not_granted, without_user};

type Answerer = Box<dyn FnMut(&Request<Vec<u8>>) -> Answer>;

thread_local! {
    static ANSWERER: RefCell<Option<Answerer>> = const { RefCell::new(None) };
    static REQUESTS: RefCell<Vec<Request<Vec<u8>>>> = const { RefCell::new(Vec::new()) };
}

/// What a server answers in a test: [`response`] makes one, a `Response<Vec<u8>>` converts into one, and so does an
/// [`HttpError`], for a server that can't be reached.
#[derive(Clone, Debug)]
pub struct Answer(Result<Response<Vec<u8>>, HttpError>);

impl Answer {
    /// Adds a header.
    ///
    /// # Panics
    ///
    /// If HTTP knows no such header, which is a mistake of the test.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(response) = &mut self.0 {
            let name: HeaderName = name.parse().expect("the name of a header");
            let value: HeaderValue = value.parse().expect("the value of a header");
            response.headers_mut().append(name, value);
        }
        self
    }
}

impl From<Response<Vec<u8>>> for Answer {
    fn from(response: Response<Vec<u8>>) -> Self {
        Self(Ok(response))
    }
}

impl From<HttpError> for Answer {
    fn from(error: HttpError) -> Self {
        Self(Err(error))
    }
}

/// Makes an answer of this status and body.
///
/// # Panics
///
/// If the status is not 100 to 999, which is a mistake of the test.
pub fn response(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status is 100 to 999");
    response.into()
}

/// Answers every later request on this thread by this function. Without one, no origin is granted.
///
/// # Examples
///
/// ```
/// use sandhog_guest::{http, testing};
///
/// testing::answer(|request| match request.uri().path() {
///     "/orders/7" => testing::response(200, r#"{"id": 7}"#),
///     _ => testing::response(404, ""),
/// });
/// let answer = http::send(http::Request::get("https://shop.example/orders/7").body(())?)?;
/// assert_eq!(answer.into_body().text()?, r#"{"id": 7}"#);
/// assert_eq!(testing::requests()[0].uri(), "https://shop.example/orders/7");
/// # Ok::<(), http::HttpError>(())
/// ```
pub fn answer<A: Into<Answer>>(mut answerer: impl FnMut(&Request<Vec<u8>>) -> A + 'static) {
    ANSWERER.set(Some(Box::new(move |request| answerer(request).into())));
}

/// Returns the requests that were made on this thread since the last call, in order.
pub fn requests() -> Vec<Request<Vec<u8>>> {
    REQUESTS.take()
}

/// Time stands still in tests: an answer is late only if the test says so, by an [`HttpError::Timeout`].
#[derive(Debug)]
pub(crate) struct Deadline;

impl Deadline {
    pub(crate) fn after(_timeout: Option<Duration>) -> Self {
        Self
    }
}

/// A request, with as much of its body as was written.
pub(crate) struct Exchange {
    head: Parts,
    body: Vec<u8>,
}

impl Exchange {
    #[expect(clippy::unnecessary_wraps, reason = "that of the host can fail")]
    pub(crate) fn start(head: &Parts, body: &Rc<Vec<u8>>, _deadline: &Rc<Deadline>) -> Result<Self, HttpError> {
        Ok(Self {
            head: head.clone(),
            body: body.to_vec(),
        })
    }

    pub(crate) fn open(head: &Parts, deadline: &Rc<Deadline>) -> Result<Self, HttpError> {
        Self::start(head, &Rc::default(), deadline)
    }

    #[expect(clippy::unnecessary_wraps, reason = "that of the host can fail")]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "that of the host can fail")]
    pub(crate) fn finish(&mut self) -> Result<(), HttpError> {
        Ok(())
    }

    /// The answer is there at once.
    pub(crate) fn advance(&mut self) -> Result<Option<Response<Incoming>>, HttpError> {
        let request = Request::from_parts(self.head.clone(), std::mem::take(&mut self.body));
        // The function may make requests of its own.
        let mut answerer = ANSWERER.take();
        let answer = if let Some(answerer) = &mut answerer {
            answerer(&request).0
        } else {
            let (scheme, authority) = (request.uri().scheme_str(), request.uri().authority());
            let authority = authority.map_or("", |authority| without_user(authority.as_str()));
            Err(not_granted(&format!("{}://{authority}", scheme.unwrap_or_default())))
        };
        ANSWERER.set(answerer);
        REQUESTS.with_borrow_mut(|requests| requests.push(request));
        answer.map(|response| Some(response.map(|body| Incoming(Some(body)))))
    }

    #[expect(clippy::unused_self, reason = "that of the host waits")]
    pub(crate) fn interests<'a>(&'a self, _interests: &mut Interests<'a>) {}
}

/// The body of an answer, until it was received.
pub(crate) struct Incoming(Option<Vec<u8>>);

impl Incoming {
    #[expect(clippy::unnecessary_wraps, reason = "that of the host can fail")]
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        Ok(Some(self.0.take().unwrap_or_default()))
    }

    #[expect(clippy::unused_self, reason = "that of the host waits")]
    pub(crate) fn interests<'a>(&'a self, _interests: &mut Interests<'a>) {}
}

/// Nothing is waited for.
#[derive(Default)]
pub(crate) struct Interests<'a>(PhantomData<&'a ()>);

impl Interests<'_> {
    #[expect(clippy::unused_self, reason = "that of the host waits")]
    pub(crate) fn wait(&self) {}
}
