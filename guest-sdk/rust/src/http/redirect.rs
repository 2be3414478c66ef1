//! Where an answer leads that says that the resource is elsewhere.

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, PROXY_AUTHORIZATION};
use ::http::request::Parts;
use ::http::{HeaderMap, Method, StatusCode, Uri};

use super::HttpError;
use super::error::shown;

/// The next request, and whether it has the body of the last one.
pub(super) struct Redirect {
    pub(super) head: Parts,
    pub(super) keeps_body: bool,
}

impl Redirect {
    /// Returns the request that an answer leads to; `None` if the answer is the last one.
    ///
    /// # Errors
    ///
    /// [`HttpError::Malformed`]: the answer leads to something that is no address.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, from: &Parts) -> Result<Option<Self>, HttpError> {
        let keeps_body = match status {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => from.method != Method::POST,
            StatusCode::SEE_OTHER => from.method == Method::HEAD,
            _ => return Ok(None),
        };
        let Some(location) = headers.get(LOCATION) else {
            return Ok(None);
        };
        let uri = location.to_str().ok().and_then(|location| resolve(&from.uri, location));
        let uri = uri.ok_or_else(|| {
            let (from, location) = (from.uri.to_string(), String::from_utf8_lossy(location.as_bytes()));
            HttpError::Malformed(format!(
                "{} leads to {:?}, which is no address",
                shown(&from),
                shown(&location)
            ))
        })?;
        let mut head = from.clone();
        if !keeps_body {
            head.method = Method::GET;
            head.headers.remove(CONTENT_TYPE);
            head.headers.remove(CONTENT_LENGTH);
        }
        // What proves who asks is for the origin that it was meant for.
        if (uri.scheme(), uri.authority()) != (from.uri.scheme(), from.uri.authority()) {
            for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                head.headers.remove(secret);
            }
        }
        head.uri = uri;
        Ok(Some(Self { head, keeps_body }))
    }
}

/// Resolves a reference against the address of the page that has it (RFC 3986, 5.2).
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let scheme = base.scheme_str()?;
    let (before_path, rest) = (format!("{scheme}://{}", base.authority()?), reference);
    if let Some((scheme, _)) = reference.split_once("://") {
        if scheme.chars().all(|c| c.is_ascii_alphanumeric()) {
            return reference.parse().ok();
        }
    }
    if rest.starts_with("//") {
        return format!("{scheme}:{rest}").parse().ok();
    }
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut path = match path {
        "" => base.path().to_owned(),
        absolute if absolute.starts_with('/') => without_dots(absolute),
        relative => without_dots(&format!("{directory}/{relative}")),
    };
    let query = query.or_else(|| base.query().filter(|_| rest.is_empty()));
    if let Some(query) = query {
        path = format!("{path}?{query}");
    }
    format!("{before_path}{path}").parse().ok()
}

/// Takes the segments `.` and `..` out of a path that begins with `/`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(method: Method, status: u16, location: &str) -> Option<Redirect> {
        let request = ::http::Request::builder()
            .method(method)
            .uri("https://shop.example/orders/7?full=1")
            .header(AUTHORIZATION, "Bearer secret")
            .header(CONTENT_TYPE, "text/plain");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        Redirect::of(StatusCode::from_u16(status).unwrap(), &headers, &head).unwrap()
    }

    #[test]
    fn a_reference_is_resolved_as_the_standard_says() {
        for (reference, resolved) in [
            ("8", "https://shop.example/orders/8"),
            ("8?a=b#top", "https://shop.example/orders/8?a=b"),
            ("?a=b", "https://shop.example/orders/7?a=b"),
            ("", "https://shop.example/orders/7?full=1"),
            ("/", "https://shop.example/"),
            ("/a/./b/../c/", "https://shop.example/a/c/"),
            ("../..", "https://shop.example/"),
            ("..", "https://shop.example/"),
            ("./x/..", "https://shop.example/orders/"),
            ("/r?to=http://a.example/", "https://shop.example/r?to=http://a.example/"),
            ("//cdn.example/a", "https://cdn.example/a"),
            ("http://other.example:81/b?c", "http://other.example:81/b?c"),
        ] {
            let redirect = led(Method::GET, 302, reference).unwrap();
            assert_eq!(redirect.head.uri.to_string(), resolved, "{reference}");
        }
    }

    #[test]
    fn a_post_that_was_moved_is_asked_for_as_a_page() {
        for status in [301, 302, 303] {
            let redirect = led(Method::POST, status, "/done").unwrap();
            assert_eq!((redirect.head.method, redirect.keeps_body), (Method::GET, false));
            assert!(!redirect.head.headers.contains_key(CONTENT_TYPE));
        }
        for status in [307, 308] {
            let redirect = led(Method::POST, status, "/again").unwrap();
            assert_eq!((redirect.head.method, redirect.keeps_body), (Method::POST, true));
        }
    }

    #[test]
    fn another_origin_does_not_get_the_secret() {
        let authorization = |location| {
            led(Method::GET, 302, location)
                .unwrap()
                .head
                .headers
                .contains_key(AUTHORIZATION)
        };
        assert!(authorization("/elsewhere"));
        assert!(!authorization("https://evil.example/"));
        assert!(!authorization("http://shop.example/"));
        assert!(!authorization("https://shop.example:8443/"));
    }

    #[test]
    fn an_answer_that_leads_nowhere_is_the_last_one() {
        assert!(led(Method::GET, 200, "/x").is_none());
        assert!(led(Method::GET, 304, "/x").is_none());
    }
}
