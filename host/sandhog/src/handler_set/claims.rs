//! Decides which handler serves a queue that several handlers want. Pure.
//!
//! Invariant: the decision depends on the accepted versions and on those that serve, and not on the order in which they came.
//! So a host that has followed many changes ends where a restart would.

use std::collections::{BTreeMap, BTreeSet};

use sandhog_queue::message::QueueName;

/// The claims of one handler.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueClaim<'a> {
    /// The queue of its newest version that was accepted.
    pub(crate) newest: Option<&'a QueueName>,
    /// The queue that it serves now, which can be that of an older version.
    pub(crate) serving: Option<&'a QueueName>,
    /// A version of the handler is being loaded.
    pub(crate) is_coming: bool,
    /// The queue of that version, if it is known.
    pub(crate) coming: Option<&'a QueueName>,
}

/// The decision about one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueueRuling {
    /// Serve its newest version.
    Newest,
    /// Go on with the older version: the named handler has the queue of the newest one.
    Older(String),
    /// Serve nothing: the named handler has the queue.
    Nothing(String),
    /// Go on as before until another handler has changed.
    Wait,
}

/// Decides about all handlers with an accepted version. Of several newest versions for one queue the first by name serves it; an
/// older version goes on only where no newest one wants its queue.
pub(crate) fn rule(claims: &BTreeMap<&str, QueueClaim<'_>>) -> BTreeMap<String, QueueRuling> {
    let mut winners: BTreeMap<&QueueName, &str> = BTreeMap::new();
    for (name, claim) in claims {
        if let Some(queue) = claim.newest {
            winners.entry(queue).or_insert(name);
        }
    }
    let mut rulings: BTreeMap<String, QueueRuling> = claims
        .iter()
        .filter_map(|(name, claim)| Some(((*name).to_owned(), first_ruling(name, claim, claims, &winners)?)))
        .collect();
    wait_for_those_who_stay(claims, &winners, &mut rulings);
    rulings
}

fn first_ruling(
    name: &str,
    claim: &QueueClaim<'_>,
    claims: &BTreeMap<&str, QueueClaim<'_>>,
    winners: &BTreeMap<&QueueName, &str>,
) -> Option<QueueRuling> {
    let queue = claim.newest?;
    let winner = *winners.get(queue)?;
    if winner == name {
        return Some(if must_wait(name, claim, claims) {
            QueueRuling::Wait
        } else {
            QueueRuling::Newest
        });
    }
    // A winner that is about to change may leave the queue to this handler.
    let undecided = |claim: &QueueClaim<'_>| claim.is_coming || must_wait(winner, claim, claims);
    if claims.get(winner).is_some_and(undecided) {
        return Some(QueueRuling::Wait);
    }
    let winner = winner.to_owned();
    let goes_on = claim
        .serving
        .is_some_and(|serving| serving != queue && !winners.contains_key(serving));
    Some(if goes_on {
        QueueRuling::Older(winner)
    } else {
        QueueRuling::Nothing(winner)
    })
}

/// Returns whether this handler does not serve its queue yet, and another handler is about to change in a way that decides about
/// that queue.
fn must_wait(name: &str, claim: &QueueClaim<'_>, claims: &BTreeMap<&str, QueueClaim<'_>>) -> bool {
    let Some(queue) = claim.newest.filter(|queue| claim.serving != Some(*queue)) else {
        return false;
    };
    let mut others = claims
        .iter()
        .filter(|(other, claim)| **other != name && claim.is_coming);
    // The other handler may leave the queue, or come first by name.
    others.any(|(other, claim)| claim.serving == Some(queue) || (*other < name && claim.coming == Some(queue)))
}

/// Makes the winners of queues wait whose servers wait: a handler that waits keeps its queue meanwhile.
fn wait_for_those_who_stay(
    claims: &BTreeMap<&str, QueueClaim<'_>>,
    winners: &BTreeMap<&QueueName, &str>,
    rulings: &mut BTreeMap<String, QueueRuling>,
) {
    loop {
        let held: BTreeSet<&QueueName> = claims
            .iter()
            .filter(|(name, _)| rulings.get(**name) == Some(&QueueRuling::Wait))
            .filter_map(|(_, claim)| claim.serving)
            .collect();
        let stopped = held.into_iter().filter_map(|queue| winners.get(queue)).find(|winner| {
            let serves = claims.get(**winner).is_some_and(|claim| claim.serving == claim.newest);
            !serves && rulings.get(**winner) == Some(&QueueRuling::Newest)
        });
        match stopped {
            Some(winner) => drop(rulings.insert((*winner).to_owned(), QueueRuling::Wait)),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queues() -> Vec<QueueName> {
        ["x", "y", "z"].map(|name| QueueName::new(name).unwrap()).to_vec()
    }

    /// Handlers, and the queue that each serves, after files were put there in some order.
    #[derive(Debug, Default, Clone, PartialEq, Eq)]
    struct Host {
        newest: BTreeMap<&'static str, QueueName>,
        serving: BTreeMap<&'static str, QueueName>,
    }

    impl Host {
        fn accept(&mut self, name: &'static str, queue: &QueueName, coming: &[(&'static str, QueueName)]) {
            self.newest.insert(name, queue.clone());
            let mut claims: BTreeMap<&str, QueueClaim<'_>> = BTreeMap::new();
            for (name, queue) in &self.newest {
                claims.entry(name).or_default().newest = Some(queue);
            }
            for (name, queue) in &self.serving {
                claims.entry(name).or_default().serving = Some(queue);
            }
            for (name, queue) in coming {
                let claim = claims.entry(name).or_default();
                (claim.is_coming, claim.coming) = (true, Some(queue));
            }
            let before = self.serving.clone();
            for (name, ruling) in rule(&claims) {
                let name = *self.newest.keys().find(|known| **known == name).unwrap();
                match ruling {
                    QueueRuling::Newest => drop(self.serving.insert(name, self.newest[name].clone())),
                    QueueRuling::Nothing(_) => drop(self.serving.remove(name)),
                    QueueRuling::Older(_) => {
                        assert!(coming.is_empty(), "{name} was refused too early");
                        assert_eq!(self.serving.get(name), before.get(name));
                    }
                    QueueRuling::Wait => assert_eq!(self.serving.get(name), before.get(name)),
                }
            }
            let served: BTreeSet<_> = self.serving.values().collect();
            assert_eq!(served.len(), self.serving.len(), "a queue has two handlers: {self:?}");
        }
    }

    /// Each was refused because of the other's old queue, for ever.
    #[test]
    fn two_manifests_that_swap_queues_swap_them() {
        let [x, y, _] = <[QueueName; 3]>::try_from(queues()).unwrap();
        for together in [false, true] {
            for order in [["a", "b"], ["b", "a"]] {
                let mut host = Host::default();
                host.accept("a", &x, &[]);
                host.accept("b", &y, &[]);
                let swapped = BTreeMap::from([("a", y.clone()), ("b", x.clone())]);
                for (number, name) in order.into_iter().enumerate() {
                    // Neither is refused meanwhile.
                    let other = order[1];
                    let coming = (together && number == 0).then(|| (other, swapped[other].clone()));
                    host.accept(name, &swapped[name], coming.as_slice());
                    assert!(
                        !together || host.serving.len() == 2,
                        "one stopped for nothing: {host:?}"
                    );
                }
                assert_eq!(host.serving, swapped, "{order:?}");
            }
        }
    }

    proptest! {
        /// The last word of each file decides, in whatever order the files came and changed. What had no word in it is an
        /// older version that goes on where nobody else wants its queue: a restart would have none.
        #[test]
        fn a_host_that_followed_every_change_ends_as_a_restart_would(
            changes in proptest::collection::vec((0..4_usize, 0..3_usize), 1..20),
        ) {
            let names = ["a", "b", "c", "d"];
            let mut host = Host::default();
            for (name, queue) in changes {
                host.accept(names[name], &queues()[queue], &[]);
            }
            let mut restarted = Host::default();
            for (name, queue) in &host.newest {
                restarted.accept(name, queue, &[]);
            }
            for (name, queue) in &restarted.serving {
                prop_assert_eq!(host.serving.get(name), Some(queue));
            }
            for (name, queue) in host.serving.iter().filter(|(name, _)| !restarted.serving.contains_key(*name)) {
                prop_assert!(!restarted.serving.values().any(|other| other == queue), "{} on {}", name, queue);
            }
        }
    }
}
