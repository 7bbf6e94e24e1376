use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::graph::ObjectKey;

/// How many pairs of a fence and a protocol have a counter of their own. What is beyond counts as [`OTHER`].
const PAIRS: usize = 1000;
/// The value of the labels of fences that have no counter of their own.
const OTHER: &str = "other";

/// What is known of the calls' protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's values")]
pub(super) enum Spoken {
    /// TLS, with the server's name.
    tls,
    /// HTTP in plain text.
    http,
    /// Anything else over TCP.
    tcp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    caller_namespace: Arc<str>,
    fence: Arc<str>,
    protocol: Spoken,
}

impl Labels {
    fn other(protocol: Spoken) -> Self {
        let other: Arc<str> = OTHER.into();
        Self { caller_namespace: other.clone(), fence: other, protocol }
    }
}

/// Calls that the global proxy passed through to where they were going, because nobody defines their host. Clones count
/// together.
#[derive(Clone, Debug)]
pub(super) struct Passthrough {
    family: Family<Labels, Counter>,
    given: Arc<AtomicUsize>,
}

impl Passthrough {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        registry.register(
            "palisade_passthrough",
            "Calls of fenced workloads that the global proxy passed through, as nobody defines their host",
            family.clone(),
        );
        for protocol in [Spoken::tls, Spoken::http, Spoken::tcp] {
            drop(family.get_or_create(&Labels::other(protocol)));
        }
        Self { family, given: Arc::default() }
    }

    /// Counts a call of a pod of `fence`.
    pub(super) fn count(&self, fence: &ObjectKey, protocol: Spoken) {
        let ObjectKey { namespace, name } = fence.clone();
        let labels = Labels { caller_namespace: namespace, fence: name, protocol };
        match self.family.get(&labels) {
            Some(counter) => drop(counter.inc()),
            None => drop(self.add(labels).inc()),
        }
    }

    /// The counter of a pair that has none yet. Two threads that meet at a new pair take two, for one.
    fn add(&self, labels: Labels) -> Counter {
        let one_more = |given| (given < PAIRS).then_some(given + 1);
        let given = self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let labels = if given.is_ok() { labels } else { Labels::other(labels.protocol) };
        self.family.get_or_create_owned(&labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_beyond_the_bound_share_a_counter() {
        let passthrough = Passthrough::register(&mut Registry::default());
        for number in 0..PAIRS + 3 {
            passthrough.count(&ObjectKey::new("shop", format!("fence-{number}")), Spoken::tls);
        }
        let count = |namespace: &str, fence: &str| {
            let (caller_namespace, fence) = (namespace.into(), fence.into());
            let labels = Labels { caller_namespace, fence, protocol: Spoken::tls };
            passthrough.family.get(&labels).map(|counter| counter.get())
        };
        assert_eq!(count("shop", "fence-0"), Some(1));
        assert_eq!(count("shop", &format!("fence-{}", PAIRS + 1)), None);
        assert_eq!(count(OTHER, OTHER), Some(3));
    }
}
