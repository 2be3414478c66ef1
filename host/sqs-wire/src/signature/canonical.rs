//! The form of a request that is signed: everything in one order and one encoding, whatever the client sent.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::SignedRequest;

/// What the signature encodes: all but letters, digits and `-._~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in paths, in which slashes stay.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// What a plus in the parameters of a URL means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlusReading {
    /// A space, as in forms.
    Space,
    /// A plus.
    Plus,
}

/// Returns bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string can't fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns the hash of bytes in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns text without its percent encoding. Bytes that are no text become U+FFFD, and no signature matches them.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Returns the canonical request, of which the hash is signed.
pub(super) fn canonical_request(
    request: &SignedRequest<'_>,
    signed_headers: &[String],
    reading: PlusReading,
) -> String {
    let path = canonical_path(request.path);
    let query = canonical_query(request.query, reading);
    let headers = canonical_headers(request.headers, signed_headers);
    let names = signed_headers.join(";");
    let hash = sha256(request.body);
    format!("{}\n{path}\n{query}\n{headers}\n{names}\n{hash}", request.method)
}

/// Returns the path without `.`, `..` and empty segments, encoded once more than the client sent it, as every service but S3
/// wants it.
fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => (),
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut normal = format!("/{}", kept.join("/"));
    if path.ends_with('/') && normal.len() > 1 {
        normal.push('/');
    }
    utf8_percent_encode(&normal, ENCODED_IN_PATH).to_string()
}

/// Returns the parameters in the order of their encoded names and values, without the signature itself.
fn canonical_query(query: &str, reading: PlusReading) -> String {
    let encoded = |raw: &str| {
        let raw = match reading {
            PlusReading::Space => raw.replace('+', " "),
            PlusReading::Plus => raw.to_owned(),
        };
        utf8_percent_encode(&decode(&raw), ENCODED).to_string()
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Returns a line for each signed header, with one space where the client sent several.
fn canonical_headers(headers: &[(&str, &str)], signed: &[String]) -> String {
    let mut lines = String::new();
    for name in signed {
        let values: Vec<_> = headers
            .iter()
            .filter(|(there, _)| there.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.push_str(name);
        lines.push(':');
        lines.push_str(&values.join(","));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normal_and_encoded_twice() {
        assert_eq!(canonical_path(""), "/");
        assert_eq!(canonical_path("/"), "/");
        assert_eq!(canonical_path("//a/./b/../c/"), "/a/c/");
        assert_eq!(canonical_path("/0/q%20r.fifo"), "/0/q%2520r.fifo");
    }

    #[test]
    fn parameters_are_sorted_and_encoded_in_one_way() {
        let query = "b=2&a=x%2fy&a=%7e&X-Amz-Signature=z&c";
        assert_eq!(canonical_query(query, PlusReading::Space), "a=x%2Fy&a=~&b=2&c=");
        assert_eq!(canonical_query("a=b+c", PlusReading::Space), "a=b%20c");
        assert_eq!(canonical_query("a=b+c", PlusReading::Plus), "a=b%2Bc");
    }

    #[test]
    fn headers_are_lower_case_and_their_values_have_single_spaces() {
        let headers = [("X-B", "  a   b "), ("HOST", "h"), ("x-b", "c")];
        let signed = ["host".to_owned(), "x-b".to_owned()];
        assert_eq!(canonical_headers(&headers, &signed), "host:h\nx-b:a b,c\n");
    }
}
