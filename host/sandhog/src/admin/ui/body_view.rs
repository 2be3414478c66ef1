//! A body as a page shows it: folded JSON, text, an image, or bytes in hexadecimal.
//!
//! Invariant: nothing of a body is markup. A browser gets the bytes of a body from an address of their own, as an image of four kinds that
//! run nothing, or to keep and not to show.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::{
    dress::{OwnPolicy, download},
    shown::{foreign_lines, of, size},
};
use crate::admin::{long_work::LongWork, refused::RefusedRequest};
use axum::{
    http::header,
    response::{IntoResponse as _, Response},
};
use sandhog_queue::printable::printable;

/// The most bytes of a text that are shown unless all are asked for.
const TEXT_BYTES: usize = 64 * 1024;
/// The most bytes of a text that are shown in any case.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// The most bytes that are shown in hexadecimal.
const HEX_BYTES: usize = 4096;
/// The most values of JSON that are shown folded: a larger one is shown as text.
const MAX_VALUES: usize = 4000;
/// The deepest nesting that is shown folded.
const MAX_DEPTH: usize = 64;
/// The most bytes of a text inside JSON that are shown.
const STRING_BYTES: usize = 16 * 1024;

/// A body, and where it is.
#[derive(Debug)]
pub(super) struct ShownBody {
    pub(super) bytes: Vec<u8>,
    /// The path of the page of its message.
    pub(super) page: String,
    /// Show all of it.
    pub(super) all: bool,
    /// Something of it is hidden.
    pub(super) redacted: bool,
}

/// Returns the media type of an image that a page may show.
fn image_kind(bytes: &[u8]) -> Option<&'static str> {
    let riff = bytes.get(..4) == Some(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        _ if riff => Some("image/webp"),
        _ => None,
    }
}

impl ShownBody {
    /// Returns the body as its kind is shown.
    ///
    /// # Errors
    ///
    /// See [`LongWork::run`].
    ///
    /// # Cancel safety
    ///
    /// See [`LongWork::run`].
    pub(super) async fn render(self, work: &LongWork) -> Result<Markup, RefusedRequest> {
        work.run(self.bytes.len(), move || self.rendered()).await
    }

    fn rendered(&self) -> Markup {
        let (kind, shown) = self.kind();
        html! {
            section #body {
                div.head {
                    h2 { "Body" span.dim { (kind) ", " (size(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))) } }
                    @if !self.bytes.is_empty() { a href={ (self.page) "/raw" } download { "Download" } }
                    @if self.redacted { span.pill.warn { "redacted" } }
                }
                (shown)
            }
        }
    }

    fn kind(&self) -> (&'static str, Markup) {
        if self.bytes.is_empty() {
            return ("empty", html! { p.empty { "The body is empty." } });
        }
        if image_kind(&self.bytes).is_some() {
            return (
                "image",
                html! { div.body { img src={ (self.page) "/raw?as=image" } alt="The body of the message, an image"; } },
            );
        }
        if self.bytes.starts_with(b"%PDF-") {
            return ("PDF", html! { p.empty { "A PDF is not shown here: download it." } });
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !self.all => match folded(text) {
                Some(json) => (
                    "JSON",
                    html! { div.body.json role="region" tabindex="0" aria-label="Body" { (json) } },
                ),
                None => ("text", self.text(text)),
            },
            Ok(text) => ("text", self.text(text)),
            Err(_) => ("bytes", self.hexadecimal()),
        }
    }

    fn text(&self, text: &str) -> Markup {
        let most = if self.all { MAX_TEXT_BYTES } else { TEXT_BYTES };
        html! {
            div.body role="region" tabindex="0" aria-label="Body" { pre { (foreign_lines(text, most)) } }
            @if text.len() > most && !self.all {
                p { a href={ (self.page) "?all=1#body" } { "Show all " (size(u64::try_from(text.len()).unwrap_or(u64::MAX))) } }
            }
        }
    }

    fn hexadecimal(&self) -> Markup {
        let lines = self.bytes.chunks(16).take(HEX_BYTES / 16).enumerate();
        let lines: Vec<String> = lines.map(|(index, line)| hex_line(index * 16, line)).collect();
        let more = u64::try_from(self.bytes.len().saturating_sub(HEX_BYTES)).unwrap_or(u64::MAX);
        html! {
            div.body role="region" tabindex="0" aria-label="Body" { pre { (lines.join("\n")) } }
            @if more > 0 { p.dim { (of(more, "more byte is", "more bytes are")) " in the download." } }
        }
    }
}

fn hex_line(at: usize, bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = |byte: &u8| {
        if byte.is_ascii_graphic() || *byte == b' ' {
            char::from(*byte)
        } else {
            '·'
        }
    };
    let text: String = bytes.iter().map(shown).collect();
    format!("{at:06x}  {:<47}  {text}", hex.join(" "))
}

/// Answers with the bytes of a body.
pub(super) fn raw(id: &str, bytes: Vec<u8>, as_image: bool) -> Response {
    match image_kind(&bytes).filter(|_| as_image) {
        Some(kind) => {
            let mut answer = ([(header::CONTENT_TYPE, kind)], bytes).into_response();
            answer
                .extensions_mut()
                .insert(OwnPolicy("default-src 'none'; sandbox; frame-ancestors 'none'"));
            answer
        }
        None => download(&format!("{id}.bin"), bytes),
    }
}

/// Returns JSON with its objects and lists to fold, as it stands in the text; `None` if the text is none, or a large one.
fn folded(text: &str) -> Option<Markup> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return None;
    }
    let mut writer = JsonWriter {
        rest: text,
        left: MAX_VALUES,
        out: String::new(),
    };
    writer.value(0)?;
    Some(PreEscaped(writer.out))
}

/// Writes JSON that is known to be right, token by token, so that numbers and the order of names stay as they are.
struct JsonWriter<'t> {
    rest: &'t str,
    left: usize,
    out: String,
}

impl JsonWriter<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        match self.peek()? {
            '{' => self.container(depth, '{', '}'),
            '[' => self.container(depth, '[', ']'),
            '"' => {
                let text = self.string()?;
                self.mark("s", &text);
                Some(())
            }
            first => {
                let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
                let (token, rest) = self.rest.split_at_checked(end)?;
                self.rest = rest;
                let class = if first == '-' || first.is_ascii_digit() {
                    "n"
                } else {
                    "w"
                };
                self.mark(class, token.trim());
                Some(())
            }
        }
    }

    fn container(&mut self, depth: usize, open: char, close: char) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.take(open)?;
        if self.peek()? == close {
            self.take(close)?;
            self.out.push(open);
            self.out.push(close);
            return Some(());
        }
        let is_open = if depth < 3 { " open" } else { "" };
        write!(
            self.out,
            "<details{is_open}><summary>{open}<span class=\"gist\">&nbsp;… {close}</span></summary><div class=\"in\">"
        )
        .expect("writing to a string cannot fail");
        loop {
            self.out.push_str("<div>");
            if open == '{' {
                self.peek()?;
                let name = self.string()?;
                self.mark("k", &name);
                self.peek()?;
                self.take(':')?;
                self.out.push_str(": ");
            }
            self.value(depth + 1)?;
            let is_last = self.peek()? == close;
            self.take(if is_last { close } else { ',' })?;
            self.out.push_str(if is_last { "</div>" } else { ",</div>" });
            if is_last {
                break;
            }
        }
        self.out.push_str("</div></details>");
        self.out.push(close);
        Some(())
    }

    /// Returns the next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// Takes a text with its quotes, as it stands there.
    fn string(&mut self) -> Option<String> {
        let mut escaped = false;
        let inner = self.rest.strip_prefix('"')?;
        let end = inner.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let (end, _) = end?;
        let (text, rest) = self.rest.split_at_checked(end + 2)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn mark(&mut self, class: &str, text: &str) {
        let shown = printable(text, STRING_BYTES);
        self.out
            .push_str(&html! { span class=(class) { bdi { (shown) } } }.into_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<String> {
        let html = folded(text)?.into_string();
        let mut plain = String::new();
        let mut is_tag = false;
        for c in html.chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => plain.push(c),
                _ => {}
            }
        }
        Some(
            plain
                .replace("&quot;", "\"")
                .replace("&nbsp;", "~")
                .replace("&lt;", "<")
                .replace("&gt;", ">"),
        )
    }

    #[test]
    fn json_is_shown_as_it_stands_in_the_text() {
        assert_eq!(
            plain(r#" {"b":1.50, "a" : [ true,null,{} ], "a":"x\"}" } "#).unwrap(),
            r#"{~… }"b": 1.50,"a": [~… ]true,null,{}],"a": "x\"}"}"#
        );
        for none in ["", "1", "{", "a: b", "{\"a\":1}\n{\"a\":2}", "\"text\""] {
            assert_eq!(plain(none), None, "{none}");
        }
        assert_eq!(
            plain(&format!("[{}1]", "1,".repeat(MAX_VALUES))),
            None,
            "too large to fold"
        );
        assert_eq!(
            plain(&format!("{}{}", "[".repeat(100), "]".repeat(100))),
            None,
            "too deep to fold"
        );
    }

    #[test]
    fn nothing_in_json_is_markup() {
        let html = folded("{\"<script>\":\"</details><img src=x onerror=alert(1)>\u{202e}\"}")
            .unwrap()
            .into_string();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("\\u{202e}"), "{html}");
    }

    #[test]
    fn only_images_that_run_nothing_are_shown_as_such() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n..."[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"GIF89a...", Some("image/gif")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
            (b"<?xml version='1.0'?><svg/>", None),
            (b"<html>", None),
            (b"%PDF-1.7", None),
            (b"", None),
        ] {
            assert_eq!(image_kind(bytes), expected);
            let answer = raw("x", bytes.to_vec(), true);
            let kind = answer.headers().get(header::CONTENT_TYPE).unwrap().to_str().unwrap();
            assert_eq!(kind, expected.unwrap_or("application/octet-stream"));
        }
    }

    #[test]
    fn bytes_are_shown_in_hexadecimal() {
        assert_eq!(
            hex_line(16, b"\x00a<\xff"),
            "000010  00 61 3c ff                                      ·a<·"
        );
    }
}
