//! What the standard variables of OpenTelemetry say about traces.
//!
//! As the specification asks, a value that can't be used is named in a warning and then counts as absent: whatever the variables say,
//! the host starts and handles messages. Traces are off unless a variable names a collector.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::PathAndQuery};

use self::variables::Variables;
use super::sampler::Sampler;

mod resource;
mod variables;

/// The longest time that a variable can name.
const MAX_TIME: Duration = Duration::from_hours(1);
/// The most spans that can wait to be exported.
const MAX_QUEUE: u64 = 65_536;

/// What the variables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// How spans are exported; `None` if they are not.
    pub export: Option<ExportSettings>,
    /// The forms in which contexts travel.
    pub propagation: Propagation,
    /// One text for each value that can't be used, which names its variable and says what happens.
    pub mistakes: Vec<String>,
}

/// The forms in which the context of a span travels with messages and requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Propagation {
    /// `traceparent` and `tracestate`.
    pub w3c: bool,
    /// `AWSTraceHeader`.
    pub xray: bool,
}

impl Propagation {
    /// Whether contexts travel at all.
    pub fn is_on(self) -> bool {
        self.w3c || self.xray
    }
}

/// How spans are exported.
#[derive(Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// The address that spans are posted to.
    pub endpoint: Uri,
    /// The headers of each request. Their values are not printed.
    pub headers: HeaderMap,
    /// The longest time of one request.
    pub timeout: Duration,
    /// The file with the certificates that are trusted, instead of those of the system.
    pub certificate: Option<PathBuf>,
    /// Which spans are recorded.
    pub sampler: Sampler,
    /// What is said about this process.
    pub resource: BTreeMap<String, String>,
    /// The most spans that wait.
    pub max_queue: usize,
    /// The most spans of one request.
    pub max_batch: usize,
    /// The longest time that a span waits for others to share its request.
    pub delay: Duration,
    /// The longest time for a batch, with all its repetitions.
    pub batch_time: Duration,
}

impl ExportSettings {
    /// Returns the address without its query, where some collectors take a key: for logs.
    pub fn shown_endpoint(&self) -> String {
        let text = self.endpoint.to_string();
        text.split('?').next().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for ExportSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportSettings")
            .field("endpoint", &self.shown_endpoint())
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

impl TraceSettings {
    /// Reads the variables.
    pub fn read(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut variables = Variables::new(environment);
        let endpoint = endpoint(&mut variables).filter(|_| exports(&mut variables));
        let propagation = propagation(&mut variables, endpoint.is_some());
        let export = endpoint.map(|endpoint| export(&mut variables, endpoint));
        Self {
            // Without an endpoint nothing else was asked for.
            mistakes: variables.mistakes,
            export,
            propagation,
        }
    }
}

/// Whether something is to be exported at all.
fn exports(variables: &mut Variables<'_>) -> bool {
    let is_disabled = variables.flag("OTEL_SDK_DISABLED");
    let exporter = variables.one_of("OTEL_TRACES_EXPORTER", "otlp or none", |name| match name {
        "otlp" => Some(true),
        "none" => Some(false),
        _ => None,
    });
    !is_disabled && exporter.unwrap_or(true)
}

/// Returns the address for spans, if the variables name one.
fn endpoint(variables: &mut Variables<'_>) -> Option<Uri> {
    const ACCEPTED: &str = "a URL such as http://localhost:4318";
    let failing = "no traces are exported";
    if variables.has("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        return variables.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ACCEPTED, failing, collector_url);
    }
    variables.text("OTEL_EXPORTER_OTLP_ENDPOINT", ACCEPTED, failing, |text| {
        let base = collector_url(text)?;
        let path = format!("{}/v1/traces", base.path().trim_end_matches('/'));
        let mut parts = base.into_parts();
        parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
        Uri::from_parts(parts).ok()
    })
}

fn collector_url(text: &str) -> Option<Uri> {
    let url: Uri = text.trim().parse().ok()?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    // A password there would be printed with the address. Headers carry what a collector wants to know.
    let authority = url.authority()?.as_str();
    (is_http && !authority.contains('@') && !url.host()?.is_empty()).then_some(url)
}

/// Returns the forms in which contexts travel: those that the variable names, and if it names none, both while spans are exported.
fn propagation(variables: &mut Variables<'_>, exports: bool) -> Propagation {
    let usual = Propagation {
        w3c: exports,
        xray: exports,
    };
    let Some(names) = variables.value("OTEL_PROPAGATORS") else {
        return usual;
    };
    let mut chosen = Propagation::default();
    let mut is_known = false;
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "tracecontext" => chosen.w3c = true,
            "xray" => chosen.xray = true,
            // Other parts of an application may want it, and nothing here would use it.
            "none" | "baggage" => {}
            _ => {
                variables.refuse(
                    "OTEL_PROPAGATORS",
                    name,
                    "tracecontext, xray or none",
                    "the name is left out",
                );
                continue;
            }
        }
        is_known = true;
    }
    if is_known { chosen } else { usual }
}

fn export(variables: &mut Variables<'_>, endpoint: Uri) -> ExportSettings {
    let max_queue = variables.number("OTEL_BSP_MAX_QUEUE_SIZE", 1..=MAX_QUEUE, 2048);
    let max_batch = variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1..=MAX_QUEUE, 512);
    let refused = "is not supported, and the value is ignored";
    for name in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
        variables.unsupported(name, refused);
    }
    protocol(variables);
    variables.exporter_text(
        "COMPRESSION",
        "none: nothing else is supported",
        "nothing is compressed",
        |text| (text == "none").then_some(()),
    );
    let headers = variables.exporter_text(
        "HEADERS",
        "pairs such as key=value,other=value",
        "no header is sent",
        headers,
    );
    let certificate = |text: &str| Some(PathBuf::from(text));
    ExportSettings {
        endpoint,
        headers: headers.unwrap_or_default(),
        timeout: variables.exporter_time("TIMEOUT", Duration::from_secs(10)),
        certificate: variables.exporter_text("CERTIFICATE", "the path of a file", "", certificate),
        sampler: sampler(variables),
        resource: resource::read(variables),
        max_queue,
        // A batch that is never full would wait for its time.
        max_batch: max_batch.min(max_queue),
        delay: variables
            .time("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5))
            .min(MAX_TIME),
        batch_time: variables.timeout("OTEL_BSP_EXPORT_TIMEOUT", Duration::from_secs(30)),
    }
}

fn protocol(variables: &mut Variables<'_>) {
    let used = "http/protobuf is used, for which collectors listen at port 4318";
    variables.exporter_text("PROTOCOL", "http/protobuf: nothing else is supported", used, |text| {
        (text == "http/protobuf").then_some(())
    });
}

fn sampler(variables: &mut Variables<'_>) -> Sampler {
    let accepted = "always_on, always_off, traceidratio or one of them behind parentbased_";
    let usual = "parentbased_always_on is used";
    let named = variables.text("OTEL_TRACES_SAMPLER", accepted, usual, |name| {
        Some((name.to_owned(), Sampler::named(name, 1.0)?))
    });
    let Some((name, sampler)) = named else {
        return Sampler::default();
    };
    if !name.ends_with("ratio") {
        return sampler;
    }
    let ratio = variables.text("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1", "1 is used", |text| {
        text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
    });
    Sampler::named(&name, ratio.unwrap_or(1.0)).unwrap_or(sampler)
}

/// Reads pairs of names and values of headers, as W3C baggage has them.
fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in resource::pairs(text)? {
        let name: HeaderName = name.to_ascii_lowercase().parse().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> TraceSettings {
        TraceSettings::read(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[track_caller]
    fn export(variables: &[(&str, &str)]) -> ExportSettings {
        let settings = read(&[&[ENDPOINT], variables].concat());
        assert_eq!(settings.mistakes, Vec::<String>::new());
        settings.export.unwrap()
    }

    #[track_caller]
    fn check_mistake(variable: (&str, &str), expected: &str) -> TraceSettings {
        let settings = read(&[ENDPOINT, variable]);
        assert_eq!(settings.mistakes, [expected]);
        settings
    }

    #[test]
    fn nothing_is_exported_and_nothing_travels_without_an_endpoint() {
        assert_eq!(read(&[]), TraceSettings::default());
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), TraceSettings::default());
        assert_eq!(read(&[("OTEL_TRACES_SAMPLER", "wrong")]), TraceSettings::default());
    }

    #[test]
    fn the_path_of_traces_is_put_behind_the_endpoint_of_all_signals_alone() {
        assert_eq!(export(&[]).endpoint, "http://collector:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/api/otel");
        assert_eq!(export(&[own]).endpoint, "https://other/api/otel");
        let below = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://other/otlp");
        assert_eq!(read(&[below]).export.unwrap().endpoint, "https://other/otlp/v1/traces");
    }

    #[test]
    fn the_query_of_an_endpoint_is_in_no_log() {
        let own = (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://other/api/otel?key=secret",
        );
        let settings = export(&[own]);
        assert_eq!(settings.endpoint.query(), Some("key=secret"));
        assert_eq!(settings.shown_endpoint(), "https://other/api/otel");
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn what_says_that_traces_are_off_wins_over_the_endpoint() {
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(read(&[ENDPOINT, off]), TraceSettings::default());
        }
    }

    #[test]
    fn contexts_pass_through_a_host_without_export_if_the_propagators_say_so() {
        let settings = read(&[
            ("OTEL_PROPAGATORS", "tracecontext,baggage"),
            ("OTEL_SDK_DISABLED", "true"),
            ENDPOINT,
        ]);
        assert_eq!(
            (settings.export.is_some(), settings.propagation),
            (false, Propagation { w3c: true, xray: false })
        );
        let settings = read(&[("OTEL_PROPAGATORS", "none"), ENDPOINT]);
        assert_eq!((settings.export.is_some(), settings.propagation.is_on()), (true, false));
    }

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let export = export(&[]);
        assert_eq!((export.max_queue, export.max_batch), (2048, 512));
        let times = [export.delay, export.batch_time, export.timeout].map(|time| time.as_secs());
        assert_eq!(times, [5, 30, 10]);
        assert_eq!(export.sampler, Sampler::default());
    }

    #[test]
    fn the_variables_of_traces_win_over_those_of_all_signals() {
        let export = export(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20secret,b=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ]);
        assert_eq!(export.headers.get("authorization").unwrap(), "Bearer secret");
        assert!(!format!("{export:?}").contains("secret"));
        assert_eq!(export.timeout, Duration::from_millis(250));
        assert_eq!(Some(export.sampler), Sampler::named("parentbased_traceidratio", 0.25));
        assert_eq!((export.max_queue, export.max_batch), (100, 100));
    }

    #[test]
    fn a_value_that_can_not_be_used_is_named_and_counts_as_absent() {
        let grpc = check_mistake(
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "OTEL_EXPORTER_OTLP_PROTOCOL = \"grpc\": use http/protobuf: nothing else is supported; http/protobuf is used, for which collectors listen at port 4318",
        );
        assert!(grpc.export.is_some());
        let sampler = check_mistake(
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            "OTEL_TRACES_SAMPLER = \"jaeger_remote\": use always_on, always_off, traceidratio or one of them behind parentbased_; parentbased_always_on is used",
        );
        assert_eq!(sampler.export.unwrap().sampler, Sampler::default());
        let delay = check_mistake(
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            "OTEL_BSP_SCHEDULE_DELAY = \"-1\": use a whole number of milliseconds; 5000 is used",
        );
        assert_eq!(delay.export.unwrap().delay, Duration::from_secs(5));
        check_mistake(
            ("OTEL_SDK_DISABLED", "yes"),
            "OTEL_SDK_DISABLED = \"yes\": use true or false; it counts as false",
        );
        check_mistake(
            ("OTEL_PROPAGATORS", "b3,xray"),
            "OTEL_PROPAGATORS = \"b3\": use tracecontext, xray or none; the name is left out",
        );
        check_mistake(
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            "OTEL_EXPORTER_OTLP_COMPRESSION = \"gzip\": use none: nothing else is supported; nothing is compressed",
        );
        // What may be a secret is not repeated.
        check_mistake(
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            "OTEL_EXPORTER_OTLP_HEADERS: use pairs such as key=value,other=value; no header is sent",
        );
    }

    #[test]
    fn an_endpoint_that_is_none_turns_traces_off() {
        for wrong in [
            "collector:4318",
            "grpc://collector:4317",
            "http://user:secret@collector",
            "/v1/traces",
        ] {
            let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]);
            assert!(settings.export.is_none(), "{wrong}");
            assert!(
                settings.mistakes[0].contains("no traces are exported"),
                "{:?}",
                settings.mistakes
            );
            assert!(!settings.mistakes[0].contains("secret"), "{:?}", settings.mistakes);
        }
    }
}
