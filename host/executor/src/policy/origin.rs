//! Origins of outgoing HTTP requests, and the patterns that grant them.

use std::fmt;

use http::{Uri, uri::Scheme};

/// One origin, or every subdomain of one: `https://api.example.com`, `http://*.example.com:8080`, `https://192.0.2.7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Scheme,
    /// The host in lower case, without the brackets of an IPv6 address and without `*.`.
    host: String,
    port: u16,
    subdomains: bool,
}

impl OriginPattern {
    /// Reads a pattern. The port is that of the scheme unless it is given.
    pub fn new(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri
            .scheme()
            .filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme))?;
        let authority = uri.authority()?;
        if authority.as_str().contains('@')
            || !matches!(uri.path_and_query().map_or("/", |path| path.as_str()), "/" | "")
        {
            return None;
        }
        let host = bare_host(authority.host());
        let (host, subdomains) = match host.strip_prefix("*.") {
            Some(parent) => (parent.to_owned(), true),
            None => (host, false),
        };
        let address = host.parse::<std::net::IpAddr>().is_ok();
        let name = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !(name || address) || (subdomains && (address || !host.contains('.'))) {
            return None;
        }
        Some(Self {
            scheme: scheme.clone(),
            host,
            port: authority.port_u16().or_else(|| {
                // A port that is not a number is a mistake, and does not read as the default.
                let ported = authority
                    .as_str()
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| !port.ends_with(']'));
                (!ported).then(|| default_port(scheme))
            })?,
            subdomains,
        })
    }

    /// Returns whether the pattern grants a request with this scheme, host and port. The host is that of a URL, with brackets and
    /// in any case.
    pub fn allows(&self, scheme: &Scheme, host: &str, port: u16) -> bool {
        let host = bare_host(host);
        let same = if self.subdomains {
            host.strip_suffix(&self.host)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty())
        } else {
            host == self.host
        };
        same && *scheme == self.scheme && port == self.port
    }

    /// Returns the address that the pattern names, if it names one.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = if self.subdomains { "*." } else { "" };
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port)
        } else {
            write!(f, "{}://{wildcard}{}:{}", self.scheme, self.host, self.port)
        }
    }
}

/// Returns the port of a URL without a port.
pub fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

fn bare_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, scheme: &Scheme, host: &str, port: u16, expected: bool) {
        let pattern = OriginPattern::new(pattern).unwrap();
        assert_eq!(
            pattern.allows(scheme, host, port),
            expected,
            "{pattern} {scheme} {host} {port}"
        );
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let (http, https) = (&Scheme::HTTP, &Scheme::HTTPS);
        check("https://api.example.com", https, "api.example.com", 443, true);
        check("https://API.example.com/", https, "Api.Example.COM", 443, true);
        check("https://api.example.com", http, "api.example.com", 443, false);
        check("https://api.example.com", https, "api.example.com", 8443, false);
        check("https://api.example.com", https, "api.example.com.", 443, false);
        check("https://api.example.com", https, "api.example.com.evil.com", 443, false);
        check("http://[::1]:80", http, "[::1]", 80, true);
        check("http://127.0.0.1:8080", http, "127.0.0.1", 8080, true);
        check("http://127.0.0.1:8080", http, "2130706433", 8080, false);
    }

    #[test]
    fn a_wildcard_stands_for_subdomains_only() {
        let https = &Scheme::HTTPS;
        check("https://*.example.com", https, "a.example.com", 443, true);
        check("https://*.example.com", https, "a.b.example.com", 443, true);
        check("https://*.example.com", https, "example.com", 443, false);
        check("https://*.example.com", https, ".example.com", 443, false);
        check("https://*.example.com", https, "evilexample.com", 443, false);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "api.example.com",
            "ftp://example.com",
            "https://",
            "https://*",
            "https://*.com",
            "https://a.*.com",
            "https://user@example.com",
            "https://example.com/path",
            "https://example.com?q",
            "https://example.com:port",
            "https://example.com:99999",
            "https://*.127.0.0.1",
        ] {
            assert_eq!(OriginPattern::new(text), None, "{text}");
        }
    }
}
