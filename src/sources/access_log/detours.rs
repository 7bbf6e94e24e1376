use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::graph::ObjectKey;

/// How many pairs of a fence and a host have a counter of their own. What is beyond counts as [`OTHER`].
const PAIRS: usize = 1000;
/// The value of every label of what has no counter of its own.
const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    caller_namespace: Arc<str>,
    fence: Arc<str>,
    host: Arc<str>,
}

impl Labels {
    fn of(fence: &ObjectKey, host: &Arc<str>) -> Self {
        let ObjectKey { namespace, name } = fence.clone();
        Self { caller_namespace: namespace, fence: name, host: host.clone() }
    }

    fn other() -> Self {
        let other: Arc<str> = OTHER.into();
        Self { caller_namespace: other.clone(), fence: other.clone(), host: other }
    }
}

/// Calls that came through the global proxy although their caller's fence knows their host. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Detours {
    family: Family<Labels, Counter>,
    other: Counter,
    /// How many counters have been given to pairs. Two threads that meet at a new pair take two, for one.
    given: Arc<AtomicUsize>,
}

impl Detours {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        registry.register(
            "palisade_detours",
            "Calls through the global proxy to hosts that the caller's fence knows",
            family.clone(),
        );
        let other = family.get_or_create_owned(&Labels::other());
        Self { family, other, given: Arc::default() }
    }

    /// Counts a call of a pod of `fence` to `host`, each as the graph has it: nothing is copied.
    pub(super) fn count(&self, fence: &ObjectKey, host: &Arc<str>) {
        let labels = Labels::of(fence, host);
        if let Some(counter) = self.family.get(&labels) {
            counter.inc();
        } else {
            self.add(&labels).inc();
        }
    }

    /// The counter of a pair that has none yet.
    fn add(&self, labels: &Labels) -> Counter {
        let one_more = |given| (given < PAIRS).then_some(given + 1);
        match self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => self.family.get_or_create_owned(labels),
            Err(_) => self.other.clone(),
        }
    }
}
