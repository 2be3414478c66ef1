//! Which spans are recorded. Pure.

use super::context::SpanContext;

/// Decides whether the spans of a trace are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// All of them.
    AlwaysOn,
    /// None of them.
    AlwaysOff,
    /// This share of the traces, 0 to 1, chosen by the id of the trace: every host chooses the same ones.
    Ratio(f64),
    /// As the parent of the span says, and for a span without a parent as the root sampler does.
    ParentBased(RootSampler),
}

/// The sampler of spans that have no parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RootSampler {
    /// See [`Sampler::AlwaysOn`].
    AlwaysOn,
    /// See [`Sampler::AlwaysOff`].
    AlwaysOff,
    /// See [`Sampler::Ratio`].
    Ratio(f64),
}

// No ratio is a NaN.
impl Eq for Sampler {}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased(RootSampler::AlwaysOn)
    }
}

impl Sampler {
    /// Returns the sampler of this name, which takes `ratio` if it has one. `None` if there is no such sampler here.
    pub(crate) fn named(name: &str, ratio: f64) -> Option<Self> {
        Some(match name {
            "always_on" => Self::AlwaysOn,
            "always_off" => Self::AlwaysOff,
            "traceidratio" => Self::Ratio(ratio),
            "parentbased_always_on" => Self::ParentBased(RootSampler::AlwaysOn),
            "parentbased_always_off" => Self::ParentBased(RootSampler::AlwaysOff),
            "parentbased_traceidratio" => Self::ParentBased(RootSampler::Ratio(ratio)),
            _ => return None,
        })
    }

    /// Whether a span with this context is recorded, whose parent, if it has one, is recorded if `parent` says so.
    pub(crate) fn samples(self, context: &SpanContext, parent: Option<bool>) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::Ratio(ratio) => is_in_share(context, ratio),
            Self::ParentBased(root) => parent.unwrap_or_else(|| match root {
                RootSampler::AlwaysOn => true,
                RootSampler::AlwaysOff => false,
                RootSampler::Ratio(ratio) => is_in_share(context, ratio),
            }),
        }
    }
}

/// Whether a trace is in a share of all traces, by the second half of its id: those of X-Ray begin with the time.
fn is_in_share(context: &SpanContext, ratio: f64) -> bool {
    let [.., a, b, c, d, _, _, _, _] = context.trace_id;
    f64::from(u32::from_be_bytes([a, b, c, d])) / 4_294_967_296.0 < ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_records_its_share_of_the_traces() {
        for (ratio, expected) in [(0.0, 0..=0), (0.25, 2200..=2800), (1.0, 10_000..=10_000)] {
            let sampler = Sampler::named("traceidratio", ratio).unwrap();
            let recorded = (0..10_000).filter(|_| sampler.samples(&SpanContext::root(false), Some(true)));
            let recorded = recorded.count();
            assert!(expected.contains(&recorded), "{ratio}: {recorded}");
        }
    }

    #[test]
    fn a_parent_decides_for_its_children() {
        let context = SpanContext::root(false);
        let sampler = Sampler::named("parentbased_always_off", 1.0).unwrap();
        assert!(sampler.samples(&context, Some(true)));
        assert!(!sampler.samples(&context, Some(false)));
        assert!(!sampler.samples(&context, None));
        assert!(!Sampler::AlwaysOff.samples(&context, Some(true)));
        assert_eq!(Sampler::named("jaeger_remote", 1.0), None);
    }
}
