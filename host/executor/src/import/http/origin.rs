//! The origin of a request: its scheme, host and port. Decides whether an origin is granted. Pure.

use std::{fmt, net::IpAddr};

use http::{Method, Uri, uri::Scheme};
use wasmtime_wasi_http::Error;

use crate::policy::{HttpGrant, OriginPattern, default_port};

/// The longest name of a method. The registered ones have up to 17 bytes.
const MAX_METHOD_BYTES: usize = 32;

/// The origin that a connection is made to, and kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// In lower case; without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns the origin of a request.
    ///
    /// # Errors
    ///
    /// A client can't send the request: it has no host, a broken port, a user, or a method that opens a tunnel.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Result<Self, Error> {
        // A tunnel would lead past the grant, from the origin to anywhere.
        if *method == Method::CONNECT || method.as_str().len() > MAX_METHOD_BYTES {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::HttpRequestUriInvalid);
        };
        let host = authority.host();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == host => default_port(scheme),
            None => return Err(Error::HttpRequestUriInvalid),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self {
            scheme: scheme.clone(),
            host,
            port,
        })
    }

    /// Returns whether one of the granted patterns matches.
    pub(crate) fn is_in(&self, grant: &HttpGrant) -> bool {
        let allows = |pattern: &OriginPattern| pattern.allows(&self.scheme, &self.host, self.port);
        grant.origins.iter().any(allows)
    }

    /// Returns the address, if the host is an address and not a name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]")?;
        } else {
            write!(f, "{scheme}://{host}")?;
        }
        if *port == default_port(scheme) {
            return Ok(());
        }
        write!(f, ":{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<&str>) {
        let origin = Origin::of(&Method::GET, &uri.parse().unwrap()).ok();
        assert_eq!(origin.map(|origin| origin.to_string()).as_deref(), expected, "{uri}");
    }

    #[test]
    fn the_origin_of_a_request_is_scheme_host_and_port() {
        check("http://Example.com/a?b", Some("http://example.com"));
        check("https://example.com:443/", Some("https://example.com"));
        check("https://example.com:80/", Some("https://example.com:80"));
        check("http://[::1]:8080/", Some("http://[::1]:8080"));
    }

    #[test]
    fn a_request_with_a_user_or_a_broken_port_or_no_host_has_no_origin() {
        check("http://user@example.com/", None);
        check("http://granted.example@evil.example/", None);
        check("http://example.com:/", None);
        check("http://example.com:99999/", None);
        check("/path", None);
    }

    #[test]
    fn a_request_for_a_tunnel_has_no_origin() {
        let uri: Uri = "http://example.com:80".parse().unwrap();
        for method in ["CONNECT", &"A".repeat(33)] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert!(Origin::of(&method, &uri).is_err(), "{method}");
        }
    }
}
