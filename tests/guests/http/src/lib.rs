//! Sends the HTTP requests that the message asks for, one a line, and what came of them to queue `out`, one a line.
//!
//! `METHOD URL OPTION=VALUE...`, with the options
//!
//! | option | means |
//! | --- | --- |
//! | `upload=N` | a body of N bytes |
//! | `header=NAME:VALUE` | a field; several are possible |
//! | `fields=N` | N fields of 100 bytes |
//! | `connect=MS` `first=MS` `between=MS` | the timeouts |
//! | `scheme=TEXT` `authority=TEXT` | other ones than those of the URL |
//! | `start` | the next lines do not wait for the response, which `finish` reads |
//! | `head` | the head of the response is waited for, and all of it kept for good |
//! | `leak` | the request is sent and everything about it is forgotten |
//! | `drop` | the response is dropped after its head |
//! | `open` | the body is never finished, and the next line comes |
//!
//! `finish` reads the responses that were started, in order; `wait MS` waits; `trap` traps.

use std::mem::forget;

use sandhog_guest::{Failure, Message, Outgoing, send};
use wasi::{
    clocks::monotonic_clock::subscribe_duration,
    http::{
        outgoing_handler::handle as handle_request,
        types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest,
            RequestOptions, Scheme,
        },
    },
    io::streams::StreamError,
};

sandhog_guest::handler!(handle);

type Response = Result<FutureIncomingResponse, String>;

fn handle(message: Message) -> Result<(), Failure> {
    let mut seen = Vec::new();
    let mut started: Vec<Response> = Vec::new();
    for line in message.text()?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["finish"] => seen.extend(started.drain(..).map(finished)),
            ["wait", ms] => subscribe_duration(number(ms)? * 1_000_000).block(),
            ["trap"] => panic!("as asked"),
            [method, url, options @ ..] => {
                let options = Options::read(options)?;
                let response = start(method, url, &options);
                match options.then {
                    Then::Read => seen.push(finished(response)),
                    Then::Start => started.push(response),
                    Then::Leak => forget(response),
                    Then::Head => seen.push(headed(response, true)),
                    Then::Drop => seen.push(headed(response, false)),
                }
            }
            _ => return Err(Failure::reject(format!("not a request: {line}"))),
        }
    }
    seen.extend(started.into_iter().map(finished));
    send("out", Outgoing::new(seen.join("\n")))?;
    Ok(())
}

enum Then {
    Read,
    Start,
    Leak,
    Head,
    Drop,
}

struct Options<'l> {
    then: Then,
    values: Vec<(&'l str, &'l str)>,
    open: bool,
}

impl<'l> Options<'l> {
    fn read(words: &[&'l str]) -> Result<Self, Failure> {
        let mut options = Self { then: Then::Read, values: Vec::new(), open: false };
        for word in words {
            match (*word, word.split_once('=')) {
                (_, Some(pair)) => options.values.push(pair),
                ("start", _) => options.then = Then::Start,
                ("leak", _) => options.then = Then::Leak,
                ("head", _) => options.then = Then::Head,
                ("drop", _) => options.then = Then::Drop,
                ("open", _) => options.open = true,
                _ => return Err(Failure::reject(format!("not an option: {word}"))),
            }
        }
        Ok(options)
    }

    fn text(&self, name: &str) -> Option<&'l str> {
        self.values.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::reject(format!("not a number: {text}")))
}

fn start(method: &str, url: &str, options: &Options<'_>) -> Response {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let fields = Fields::new();
    for (name, value) in &options.values {
        if let ("header", Some((name, value))) = (*name, value.split_once(':')) {
            fields.append(name, value.as_bytes()).map_err(|error| format!("field {error:?}"))?;
        }
    }
    for count in 0..options.number("fields").unwrap_or(0) {
        let appended = fields.append(&format!("x-{count}"), &[b'x'; 100]);
        appended.map_err(|error| format!("field {error:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let refused = |()| "refused by the host".to_owned();
    request.set_method(&verb(method)).map_err(refused)?;
    request.set_scheme(Some(&protocol(options.text("scheme").unwrap_or(scheme)))).map_err(refused)?;
    request.set_authority(Some(options.text("authority").unwrap_or(authority))).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let times = RequestOptions::new();
    let time = |name| options.number(name).map(|ms| ms * 1_000_000);
    times.set_connect_timeout(time("connect")).map_err(refused)?;
    times.set_first_byte_timeout(time("first")).map_err(refused)?;
    times.set_between_bytes_timeout(time("between")).map_err(refused)?;
    let body = request.body().map_err(refused)?;
    let response = handle_request(request, Some(times)).map_err(|error| code(&error))?;
    upload(body, options);
    Ok(response)
}

/// Errors on the way out are seen again with the response.
fn upload(body: OutgoingBody, options: &Options<'_>) {
    let mut left = options.number("upload").unwrap_or(0);
    if let (1.., Ok(stream)) = (left, body.write()) {
        while left > 0 {
            let part = left.min(4096);
            if stream.blocking_write_and_flush(&vec![b'u'; part as usize]).is_err() {
                break;
            }
            left -= part;
        }
    }
    if options.open {
        forget(body);
    } else if OutgoingBody::finish(body, None).is_err() {
        // The response tells.
    }
}

fn headed(response: Response, keep: bool) -> String {
    let told = response.and_then(|future| {
        let response = head(&future)?;
        let status = response.status();
        let body = response.consume().map_err(|()| "no body".to_owned())?;
        if keep {
            forget((future, response, body));
        }
        Ok(format!("{status}"))
    });
    told.unwrap_or_else(|error| format!("error {error}"))
}

fn head(future: &FutureIncomingResponse) -> Result<wasi::http::types::IncomingResponse, String> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(error))) => Err(code(&error)),
        Some(Err(())) | None => Err("no response".to_owned()),
    }
}

/// `STATUS LENGTH START-OF-BODY`, with what `location` says if it is there.
fn finished(response: Response) -> String {
    let told = response.and_then(|future| {
        let response = head(&future)?;
        let location = response.headers().get("location");
        let location = location.first().map(|value| format!(" to {}", String::from_utf8_lossy(value)));
        let body = response.consume().map_err(|()| "no body".to_owned())?;
        let (length, start) = read(&body)?;
        Ok(format!("{} {length} {start}{}", response.status(), location.unwrap_or_default()))
    });
    told.unwrap_or_else(|error| format!("error {error}"))
}

fn read(body: &IncomingBody) -> Result<(usize, String), String> {
    let stream = body.stream().map_err(|()| "no stream".to_owned())?;
    let (mut length, mut start) = (0, Vec::new());
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => {
                length += bytes.len();
                start.extend(bytes.into_iter().take(40_usize.saturating_sub(start.len())));
            }
            Err(StreamError::Closed) => return Ok((length, String::from_utf8_lossy(&start).into_owned())),
            Err(StreamError::LastOperationFailed(error)) => {
                let known = wasi::http::types::http_error_code(&error);
                return Err(known.map_or_else(|| first_line(&error.to_debug_string()), |error| code(&error)));
            }
        }
    }
}

fn verb(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        other => Method::Other(other.to_owned()),
    }
}

fn protocol(scheme: &str) -> Scheme {
    match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }
}

fn code(error: &ErrorCode) -> String {
    format!("{error:?}")
}

/// The host's own stack comes after it, if its environment asks for stacks.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
