use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use jiff::Timestamp;

use super::registry::discard;
use super::{LAST_SEEN_PRECISION, Labels, ObjectKey, PodSelection};
use crate::api::DependencySource;

/// What matters of a fence: whom it is for, what it asks for, and what was learned before.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The pods that it is for.
    pub selection: PodSelection,
    /// The hosts of its spec: full names, or `namespace/*`.
    pub wants: Vec<Arc<str>>,
    /// What its status knows.
    pub known: Vec<(Arc<str>, Known)>,
}

/// A call that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The pod that called, by its address.
    pub caller: IpAddr,
    /// The host that it called, after routing.
    pub host: Arc<str>,
    /// Who saw it.
    pub source: DependencySource,
    /// When.
    pub seen: Timestamp,
}

/// A learned dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The namespaces that defined the host when it was learned. Kept, so that a Service that is replaced does
    /// not cost its callers a detour.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Who saw calls to it.
    pub sources: BTreeSet<DependencySource>,
    /// When the first call was seen.
    pub first_seen: Timestamp,
    /// When the last call was seen, [`LAST_SEEN_PRECISION`] behind at most.
    pub last_seen: Timestamp,
}

impl Known {
    /// Whether a call at `now` is worth noting although the host is known.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_seen) >= LAST_SEEN_PRECISION
    }

    /// Whether noting a call changes what is known, apart from the last hour of `last_seen`.
    fn is_added_to_by(&self, call: &Observation) -> bool {
        self.is_stale(call.seen) || call.seen < self.first_seen || !self.sources.contains(&call.source)
    }

    /// What both say together. Commutative and associative: the order in which facts come in is no matter.
    fn merge(&mut self, other: &Known) {
        self.namespaces.extend(other.namespaces.iter().cloned());
        self.sources.extend(&other.sources);
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}

/// A fence as the graph knows it.
#[derive(Clone, Debug)]
pub struct FenceFacts {
    /// How it says which pods it is for.
    pub selection: PodSelection,
    /// The labels that its pods have; `None` while the Service that should tell is missing.
    pub labels: Option<Labels>,
    /// The hosts of its spec: full names, or `namespace/*`.
    pub wants: Arc<[Arc<str>]>,
    /// What was learned, by host.
    pub known: OrdMap<Arc<str>, Known>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    by_key: HashMap<ObjectKey, FenceFacts>,
    by_namespace: HashMap<Arc<str>, OrdSet<ObjectKey>>,
    /// What specs ask for → the fences that do.
    wanted_by: HashMap<Arc<str>, OrdSet<ObjectKey>>,
}

impl Fences {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&FenceFacts> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut FenceFacts> {
        self.by_key.get_mut(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &ObjectKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// The fences whose spec names `want` (a host, or `namespace/*`).
    pub(super) fn wanting(&self, want: &str) -> impl Iterator<Item = &ObjectKey> {
        self.wanted_by.get(want).into_iter().flatten()
    }

    /// The fences that a pod with these labels is in.
    pub(super) fn of_pod(&self, namespace: &str, labels: &Labels) -> Arc<[ObjectKey]> {
        let selects = |key: &&ObjectKey| {
            self.get(key)
                .and_then(|facts| facts.labels.as_ref())
                .is_some_and(|selector| labels.satisfy(selector))
        };
        self.in_namespace(namespace).filter(selects).cloned().collect()
    }

    /// Takes a fence in; what is known of it already stays known.
    pub(super) fn apply(&mut self, fence: Fence, labels: Option<Labels>) {
        let mut known = self.remove(&fence.key).map(|facts| facts.known).unwrap_or_default();
        for (host, fact) in fence.known {
            note(&mut known, host, fact);
        }
        for want in &fence.wants {
            self.wanted_by.entry(want.clone()).or_default().insert(fence.key.clone());
        }
        self.by_namespace.entry(fence.key.namespace.clone()).or_default().insert(fence.key.clone());
        let facts = FenceFacts { selection: fence.selection, labels, wants: fence.wants.into(), known };
        self.by_key.insert(fence.key, facts);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<FenceFacts> {
        let facts = self.by_key.remove(key)?;
        for want in facts.wants.iter() {
            discard(&mut self.wanted_by, want, key);
        }
        discard(&mut self.by_namespace, &key.namespace, key);
        Some(facts)
    }

    /// Notes a call of a pod of the fence `key`, and tells whether that is news.
    pub(super) fn learn(&mut self, key: &ObjectKey, call: &Observation, namespaces: &[Arc<str>]) -> bool {
        let Some(facts) = self.by_key.get_mut(key) else { return false };
        let news = match facts.known.get(&call.host) {
            Some(known) => known.is_added_to_by(call),
            None => !namespaces.is_empty(),
        };
        if news {
            note(&mut facts.known, call.host.clone(), call.as_known(namespaces));
        }
        news
    }
}

impl Observation {
    fn as_known(&self, namespaces: &[Arc<str>]) -> Known {
        Known {
            namespaces: namespaces.iter().cloned().collect(),
            sources: BTreeSet::from([self.source]),
            first_seen: self.seen,
            last_seen: self.seen,
        }
    }
}

fn note(known: &mut OrdMap<Arc<str>, Known>, host: Arc<str>, fact: Known) {
    match known.get_mut(&host) {
        Some(old) => old.merge(&fact),
        None => drop(known.insert(host, fact)),
    }
}
