//! The two formats of the page of metrics, and the choice between them.

/// A format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// The text format of Prometheus, which every scraper reads.
    Text,
    /// `OpenMetrics`, for scrapers that ask for it.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl PageFormat {
    /// Returns the format for a request whose header `accept` has these lines: `OpenMetrics` only if a line names it and prefers
    /// nothing to it.
    pub fn accepted<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<MediaRange<'_>> = lines
            .into_iter()
            .flat_map(|line| line.split(','))
            .map(MediaRange::read)
            .collect();
        let best = |media: &str| {
            let same = ranges.iter().filter(|range| range.media.eq_ignore_ascii_case(media));
            same.map(|range| range.quality).max()
        };
        let open = best(OPEN_METRICS).unwrap_or(0);
        // The most exact range decides about text.
        let text = ["text/plain", "text/*", "*/*"].into_iter().find_map(best).unwrap_or(0);
        if open > 0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns the value of the header `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// One range of the media types that a client accepts.
struct MediaRange<'a> {
    media: &'a str,
    /// The preference in thousandths. An unknown version of `OpenMetrics` has none.
    quality: u16,
}

impl<'a> MediaRange<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let mut quality = 1000;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let name = name.trim();
            let value = value.trim().trim_matches('"');
            if name.eq_ignore_ascii_case("q") {
                quality = thousandths(value);
            } else if name.eq_ignore_ascii_case("version")
                && media.eq_ignore_ascii_case(OPEN_METRICS)
                && !value.starts_with("1.")
            {
                return Self { media, quality: 0 };
            }
        }
        Self { media, quality }
    }
}

/// Parses a preference: `0`, `1`, or a fraction of up to three digits. Any other text is no preference.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if digits => 1000,
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Turns an `OpenMetrics` page into the text format, in which counters have their full name everywhere, and which has no units
/// and no end.
pub(crate) fn as_text(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut counters = Vec::new();
    for line in page.lines() {
        if let Some(name) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.strip_suffix(" counter"))
        {
            counters.push(name);
        }
    }
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "EOF" | "UNIT", ..] => {}
            ["#", word, name, rest] if counters.contains(name) => {
                text.extend(["# ", word, " ", name, "_total ", rest, "\n"]);
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_that_ask_for_it() {
        use PageFormat::{OpenMetrics, Text};
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (vec![], Text),
            (vec![""], Text),
            (vec!["*/*"], Text),
            (vec!["text/plain"], Text),
            (vec!["text/plain;version=0.0.4"], Text),
            (vec!["application/json"], Text),
            (vec!["application/*"], Text),
            (vec![prometheus], OpenMetrics),
            (vec!["application/openmetrics-text"], OpenMetrics),
            (vec!["Application/OpenMetrics-Text ; Q=1.0"], OpenMetrics),
            (vec!["application/openmetrics-text; version=\"1.0.0\""], OpenMetrics),
            (vec!["application/openmetrics-text; version=0.0.1"], Text),
            (vec!["application/openmetrics-text;q=0, */*"], Text),
            (vec!["application/openmetrics-text;q=0.000"], Text),
            (vec!["application/openmetrics-text;q=0.2,text/plain;q=0.25"], Text),
            (
                vec!["application/openmetrics-text;q=0.3,text/plain;q=0.25"],
                OpenMetrics,
            ),
            (vec!["*/*;q=0.9", "application/openmetrics-text;q=0.8"], Text),
            (
                vec!["text/plain;q=0.1,*/*;q=0.9", "application/openmetrics-text;q=0.8"],
                OpenMetrics,
            ),
            (vec!["application/openmetrics-text;q=2"], Text),
        ] {
            assert_eq!(PageFormat::accepted(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_text_format_names_counters_in_full_and_has_no_end() {
        let page = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\na_seconds_sum 1.0\n\
            # HELP b Things that ended.\n# TYPE b counter\nb_total{q=\"# EOF\"} 3\n# EOF\n";
        let expected = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\na_seconds_sum 1.0\n\
            # HELP b_total Things that ended.\n# TYPE b_total counter\nb_total{q=\"# EOF\"} 3\n";
        assert_eq!(as_text(page), expected);
    }
}
