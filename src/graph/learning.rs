use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::fences::Fences;
use super::{FenceFacts, Judgement, Known, ObjectKey, Registry};
use crate::api::{self, Retention};

/// How many hosts a fence may learn unless something else is said.
///
/// An object of Kubernetes has room for 1.5 MiB (etcd's limit for a request). With names as long as DNS allows
/// (253 characters, in a namespace of 63), a host takes 0.75 KiB of the status, 0.4 KiB of the fields that the
/// API server notes as ours, and 0.32 KiB of the `Sidecar`: 1,000 of them fill three quarters of a fence, and a
/// quarter of a `Sidecar`. With names of 60 characters 2,500 fill as much.
pub const MAX_HOSTS: u32 = 1000;

/// How much a fence learns, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learning {
    /// How long a host may be unused before it leaves.
    pub retention: Retention,
    /// How many hosts may be learned.
    pub max_hosts: u32,
    /// The namespaces of which hosts may be learned; empty: all.
    pub namespaces: Arc<BTreeSet<Arc<str>>>,
}

impl Default for Learning {
    fn default() -> Self {
        Self { retention: Retention::default(), max_hosts: MAX_HOSTS, namespaces: Arc::default() }
    }
}

impl Learning {
    /// How far behind `lastSeen` may be: repeated calls within this time are no news. An eighth of the retention,
    /// so that a mesh in which nothing changes costs next to no writes.
    #[must_use]
    pub fn precision(&self) -> SignedDuration {
        let retention = self.retention.duration().or(Retention::default().duration()).unwrap_or_default();
        (retention / 8).max(SignedDuration::from_secs(1))
    }

    /// Whether hosts of `namespace` may be learned.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// What a fence's spec says, and for what it leaves out, what holds for all.
    pub(super) fn of(spec: Option<&api::Learning>, all: &Self) -> Self {
        let Some(spec) = spec else { return all.clone() };
        let own = |namespaces: &Vec<String>| Arc::new(namespaces.iter().map(|n| n.as_str().into()).collect());
        Self {
            retention: spec.retention.unwrap_or(all.retention),
            max_hosts: spec.max_hosts.unwrap_or(all.max_hosts),
            namespaces: spec.namespaces.as_ref().map_or_else(|| all.namespaces.clone(), own),
        }
    }
}

impl FenceFacts {
    /// Whether as many hosts are known as may be learned.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.known.len() >= self.learning.max_hosts as usize
    }

    /// What a call to `host` would add to what is known, and the name under which the host is known already.
    pub(super) fn judge(
        &self,
        host: &str,
        registry: &Registry,
        now: Timestamp,
    ) -> (Judgement, Option<&Arc<str>>) {
        if let Some((name, known)) = self.known.get_key_value(host) {
            let judgement = self.judge_known(name, known, now);
            return (judgement, Some(name).filter(|_| judgement != Judgement::New));
        }
        if registry.contains(host) {
            return (self.judge_unknown(host, registry), None);
        }
        match registry.canonical(host) {
            Some(name) => self.judge(&name, registry, now),
            None => (Judgement::UnknownHost, None),
        }
    }

    fn judge_known(&self, host: &str, known: &Known, now: Timestamp) -> Judgement {
        if known.is_stale(now, self.learning.precision()) || self.is_over(host, known, now) {
            return Judgement::Stale;
        }
        if self.moved.contains(host) { Judgement::New } else { Judgement::Known }
    }

    /// Whether a call at `now` is the first one since the time was over until which the host was asked for: it keeps it.
    pub(super) fn is_over(&self, host: &str, known: &Known, now: Timestamp) -> bool {
        self.deadlines.get(host).is_some_and(|end| *end < now && known.last_seen <= *end)
    }

    fn judge_unknown(&self, host: &str, registry: &Registry) -> Judgement {
        // The first one that is refused is noted.
        let is_allowed = || self.refused.is_none() || self.allowed(host, registry).next().is_some();
        if self.is_full() || !is_allowed() { Judgement::Refused } else { Judgement::New }
    }

    /// The namespaces that define `host` and of which hosts may be learned.
    fn allowed<'a>(&'a self, host: &str, registry: &'a Registry) -> impl Iterator<Item = &'a Arc<str>> {
        registry.definers_of(host).filter(|namespace| self.learning.allows(namespace))
    }

    /// Whether a known host has moved: a namespace defines it by now of which it may be learned and was not.
    fn has_moved(&self, host: &str, known: &Known, registry: &Registry) -> bool {
        self.allowed(host, registry).any(|namespace| !known.namespaces.contains(namespace))
    }

    /// Notes which of the known hosts have moved.
    pub(super) fn note_moved(&mut self, registry: &Registry) {
        let known = self.known.iter().filter(|(host, known)| self.has_moved(host, known, registry));
        self.moved = known.map(|(host, _)| host.clone()).collect();
    }
}

impl Fences {
    /// Notes that others may define `host` now: it is looked up here, so that no call of it has to be. A fence to which
    /// that makes no difference is only looked at.
    pub(super) fn follow_definers(&mut self, host: &str, registry: &Registry) {
        let turns = |key: &&ObjectKey| {
            let facts = self.get(key);
            facts.is_some_and(|facts| {
                let known = facts.known.get(host);
                known.is_some_and(|known| facts.has_moved(host, known, registry))
                    != facts.moved.contains(host)
            })
        };
        let turned: Vec<_> = self.knowing(host).filter(turns).cloned().collect();
        for key in turned {
            if let Some(facts) = self.get_mut(&key) {
                facts.note_moved(registry);
            }
        }
    }
}
