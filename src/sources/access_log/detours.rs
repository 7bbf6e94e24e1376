use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::graph::{Caller, Graph, ObjectKey};

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
    fn other() -> Self {
        let other: Arc<str> = OTHER.into();
        Self { caller_namespace: other.clone(), fence: other.clone(), host: other }
    }
}

/// Calls that came through the global proxy although their caller's fence knows their host. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Detours {
    family: Family<Labels, Counter>,
    counters: Arc<Mutex<Counters>>,
}

/// The counters by fence and host, so that none is looked up by its labels.
#[derive(Debug, Default)]
struct Counters {
    by_fence: HashMap<ObjectKey, HashMap<Arc<str>, Counter>>,
    pairs: usize,
}

impl Detours {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let detours = Self::default();
        registry.register(
            "palisade_detours",
            "Calls through the global proxy to hosts that the caller's fence knows",
            detours.family.clone(),
        );
        drop(detours.family.get_or_create(&Labels::other()));
        detours
    }

    /// Adds what one message told of.
    pub(super) fn add(&self, graph: &Graph, seen: &Seen) {
        if seen.0.is_empty() {
            return;
        }
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (host, callers) in &seen.0 {
            for (caller, count) in callers {
                for fence in graph.fences_knowing(&Caller::Address(*caller), host) {
                    self.count(&mut counters, fence, host, *count);
                }
            }
        }
    }

    fn count(&self, counters: &mut Counters, fence: &ObjectKey, host: &Arc<str>, count: u64) {
        if let Some(counter) = counters.by_fence.get(fence).and_then(|hosts| hosts.get(host)) {
            counter.inc_by(count);
            return;
        }
        if counters.pairs >= PAIRS {
            self.family.get_or_create(&Labels::other()).inc_by(count);
            return;
        }
        let (caller_namespace, name) = (fence.namespace.clone(), fence.name.clone());
        let counter =
            self.family.get_or_create_owned(&Labels { caller_namespace, fence: name, host: host.clone() });
        counter.inc_by(count);
        counters.by_fence.entry(fence.clone()).or_default().insert(host.clone(), counter);
        counters.pairs += 1;
    }
}

/// The calls of one message to hosts that are known: by host and caller.
#[derive(Default)]
pub(super) struct Seen(HashMap<Arc<str>, HashMap<IpAddr, u64>>);

impl Seen {
    pub(super) fn note(&mut self, caller: IpAddr, host: &str) {
        let callers = match self.0.get_mut(host) {
            Some(callers) => callers,
            None => self.0.entry(host.into()).or_default(),
        };
        *callers.entry(caller).or_default() += 1;
    }
}
