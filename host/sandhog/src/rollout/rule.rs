//! Decides whether a version breaks more often than its predecessor. More breaks of the newer version never make it look better,
//! and more breaks of its predecessor never make it look worse.
//!
//! Pure: it knows neither time nor handlers. It may be asked after each call: what it says stays right however often it is asked.

use libm::{exp, lgamma};
use serde::{Deserialize, Serialize};

/// With fewer breaks than this, a version is always [`Comparison::Alike`]: anything happens twice.
const FEWEST_BREAKS: u64 = 3;
/// The share of versions that are no worse than their predecessor and are called [`Comparison::Worse`] all the same, at most.
/// `simulation.rs` measures it: the true share is far smaller, since versions alike are rarely exactly at the edge.
const FALSE_WORSE: f64 = 0.005;
/// The same for [`Comparison::Doubtful`]. Its price is small: for a while the predecessor gets a part of the messages.
const FALSE_DOUBT: f64 = 0.25;
/// A term of a sum that is smaller than this part of the sum ends it.
const NEGLIGIBLE: f64 = 1e-9;

/// The calls of one version, and how many of them broke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// All calls that count.
    pub calls: u64,
    /// Those of them that broke; at most `calls`.
    pub breaks: u64,
}

/// What the calls of two versions say about the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Comparison {
    /// They may well break equally often.
    Alike,
    /// The newer version seems to break more often. Comparing both at the same time is worth its price.
    Doubtful,
    /// The newer version breaks more often.
    Worse,
}

impl CallCounts {
    /// Counts one more call.
    pub fn add(&mut self, broke: bool) {
        self.calls = self.calls.saturating_add(1);
        self.breaks = self.breaks.saturating_add(u64::from(broke));
    }

    /// The same rate of breaks, as if from `calls` calls. Breaks are rounded up, so that some breaks never become none.
    #[must_use]
    pub fn scaled(self, calls: u64) -> Self {
        let wanted = u128::from(self.breaks) * u128::from(calls);
        let breaks = wanted.div_ceil(u128::from(self.calls.max(1)));
        Self {
            calls,
            breaks: u64::try_from(breaks).unwrap_or(calls).min(calls),
        }
    }

    /// Whether it breaks at most as often as `other`, by the plain rates.
    pub fn breaks_at_most_as_often_as(self, other: Self) -> bool {
        u128::from(self.breaks) * u128::from(other.calls) <= u128::from(other.breaks) * u128::from(self.calls)
    }
}

/// Compares the calls of a version with those of its predecessor.
///
/// Let the newer version have broken `k` of its calls. The rule asks how probable `k` or more breaks would be, if it broke exactly
/// as often as its predecessor, of which only the counts are known. With a uniform prior that is the tail of the beta-binomial
/// distribution, the posterior predictive of Bernoulli trials (Gelman et al., "Bayesian Data Analysis", 3rd ed., 2.1 and 2.3). Its
/// uniform prior makes it Fisher's exact test with one more break of the predecessor, so it errs to the safe side (Altham, "Exact
/// Bayesian analysis of a 2 x 2 contingency table, and Fisher's 'exact' significance test", J. R. Stat. Soc. B 31, 1969).
///
/// The rule is asked again and again, and each look is a chance to be wrong. So the `k`-th break must be more improbable than a
/// share `3 / (k (k + 1))` of the error allowed. These shares add up to 1 from the third break on, so the union bound holds for
/// all looks together (spending of alpha; Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70,
/// 1983). The looks between two breaks cost nothing, since calls that do not break only make a version look better.
pub(super) fn compare(newer: CallCounts, predecessor: CallCounts) -> Comparison {
    let breaks = newer.breaks.min(newer.calls);
    if breaks < FEWEST_BREAKS || newer.breaks_at_most_as_often_as(predecessor) {
        return Comparison::Alike;
    }
    let looks = float(breaks) * (float(breaks) + 1.0) / float(FEWEST_BREAKS);
    let corrected = chance_of_as_many(newer, predecessor) * looks;
    if corrected < FALSE_WORSE {
        Comparison::Worse
    } else if corrected < FALSE_DOUBT {
        Comparison::Doubtful
    } else {
        Comparison::Alike
    }
}

/// The chance that a version breaks as many of its calls as the newer one did, or more, if it breaks as often as the predecessor.
///
/// It adds up the tail of the beta-binomial distribution term by term, by the ratio of neighbouring terms, until they vanish:
/// after some hundred terms at most for the counts that a rollout keeps.
fn chance_of_as_many(newer: CallCounts, predecessor: CallCounts) -> f64 {
    let calls = float(newer.calls);
    let broken = 1.0 + float(predecessor.breaks.min(predecessor.calls));
    let handled = 1.0 + float(predecessor.calls.saturating_sub(predecessor.breaks));
    let mut breaks = float(newer.breaks.min(newer.calls));
    let mut term =
        exp(ln_choose(calls, breaks) + ln_beta(breaks + broken, calls - breaks + handled) - ln_beta(broken, handled));
    let mut sum = term;
    while breaks < calls {
        let ratio = (calls - breaks) * (breaks + broken) / ((breaks + 1.0) * (calls - breaks - 1.0 + handled));
        term *= ratio;
        sum += term;
        breaks += 1.0;
        if ratio < 1.0 && term <= sum * NEGLIGIBLE * (1.0 - ratio) {
            break;
        }
    }
    sum.min(1.0)
}

/// The logarithm of a binomial coefficient.
fn ln_choose(of: f64, chosen: f64) -> f64 {
    lgamma(of + 1.0) - lgamma(chosen + 1.0) - lgamma(of - chosen + 1.0)
}

/// The logarithm of the beta function.
fn ln_beta(a: f64, b: f64) -> f64 {
    lgamma(a) + lgamma(b) - lgamma(a + b)
}

/// A count as a floating-point number. A rollout never counts beyond 2^32.
pub(super) fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(breaks: u64, calls: u64) -> CallCounts {
        CallCounts { calls, breaks }
    }

    #[test]
    fn the_chance_is_that_of_fishers_exact_test() {
        // All of n calls against none of n: one of the ways to choose n of 2n + 1.
        for (calls, ways) in [(3, 35.0), (6, 1716.0), (8, 24310.0)] {
            let chance = chance_of_as_many(counts(calls, calls), counts(0, calls));
            assert!((chance * ways - 1.0).abs() < 1e-9, "{calls}: {chance}");
        }
        // Nothing is known: every number of breaks is equally probable.
        let chance = chance_of_as_many(counts(8, 9), counts(0, 0));
        assert!((chance - 0.2).abs() < 1e-9, "{chance}");
    }

    #[test]
    fn a_version_that_breaks_on_everything_is_worse_after_a_few_calls() {
        assert_eq!(compare(counts(2, 2), counts(0, 1_000_000)), Comparison::Alike);
        assert_eq!(compare(counts(3, 3), counts(0, 3)), Comparison::Doubtful);
        assert_eq!(compare(counts(7, 7), counts(0, 7)), Comparison::Worse);
        assert_eq!(compare(counts(7, 7), counts(7, 7)), Comparison::Alike);
    }

    #[test]
    fn nothing_is_known_without_calls_of_the_predecessor() {
        assert_eq!(compare(counts(1, 1), counts(0, 0)), Comparison::Alike);
        assert_eq!(compare(counts(40, 40), counts(0, 0)), Comparison::Alike);
        assert_eq!(compare(counts(0, 0), counts(0, 0)), Comparison::Alike);
    }

    #[test]
    fn counts_that_cannot_be_are_compared_without_a_panic() {
        for newer in [counts(9, 3), counts(u64::MAX, u64::MAX), counts(3, u64::MAX)] {
            for predecessor in [counts(9, 3), counts(u64::MAX, 0), counts(u64::MAX, u64::MAX)] {
                compare(newer, predecessor);
            }
        }
    }

    /// Every pair of counts up to this many calls.
    const ALL_CALLS: u64 = 26;

    fn for_all_pairs(mut check: impl FnMut(CallCounts, CallCounts)) {
        for newer_calls in 0..=ALL_CALLS {
            for calls in 0..=ALL_CALLS {
                for newer_breaks in 0..=newer_calls {
                    for breaks in 0..=calls {
                        check(counts(newer_breaks, newer_calls), counts(breaks, calls));
                    }
                }
            }
        }
    }

    #[test]
    fn more_breaks_never_make_a_version_look_better() {
        for_all_pairs(|newer, old| {
            let said = compare(newer, old);
            assert!(
                compare(counts(newer.breaks + 1, newer.calls + 1), old) >= said,
                "{newer:?} {old:?}"
            );
            if newer.breaks < newer.calls {
                assert!(
                    compare(counts(newer.breaks + 1, newer.calls), old) >= said,
                    "{newer:?} {old:?}"
                );
            }
        });
    }

    #[test]
    fn calls_that_a_version_handles_never_make_it_look_worse() {
        for_all_pairs(|newer, old| {
            assert!(compare(counts(newer.breaks, newer.calls + 1), old) <= compare(newer, old));
        });
    }

    #[test]
    fn more_breaks_of_the_predecessor_never_make_a_version_look_worse() {
        for_all_pairs(|newer, old| {
            let said = compare(newer, old);
            assert!(
                compare(newer, counts(old.breaks + 1, old.calls + 1)) <= said,
                "{newer:?} {old:?}"
            );
            if old.breaks < old.calls {
                assert!(
                    compare(newer, counts(old.breaks + 1, old.calls)) <= said,
                    "{newer:?} {old:?}"
                );
            }
        });
    }

    #[test]
    fn scaling_keeps_the_rate_and_never_loses_the_last_break() {
        assert_eq!(counts(30, 300).scaled(10_000), counts(1_000, 10_000));
        assert_eq!(counts(1, 1_000_000).scaled(10), counts(1, 10));
        assert_eq!(counts(0, 0).scaled(10), counts(0, 10));
        assert_eq!(counts(u64::MAX, 1).scaled(10), counts(10, 10));
    }
}
