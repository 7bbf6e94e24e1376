//! Hosts outside of the mesh that no Service or `ServiceEntry` defines. The global proxy passes their calls through, so
//! they would take the detour for ever. Of a TLS connection it tells the name that the caller asked for, and by that name
//! a `ServiceEntry` of our own can define the host (ADR 0012).

mod hosts;

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;
use jiff::Timestamp;
use serde::Deserialize;

pub use hosts::ExternalHost;

use super::names::is_covered_by;
use super::{
    Caller, FenceFacts, Graph, HashMap, Judgement, MAX_NAME, ObjectKey, Observation, ServiceEntry,
    is_dns_name,
};
use crate::api::DependencySource;

/// What the name of one of our `ServiceEntry`s begins with; the host follows.
const PREFIX: &str = "palisade-";
/// How many ports one of our entries has at most.
const MAX_PORTS: usize = 16;

/// Whether, and for which hosts, entries are written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalPolicy {
    /// Whether any are.
    pub service_entries: bool,
    /// The hosts that may get one: full names, or `*.example.com` for all that end so; empty: all.
    pub hosts: Vec<String>,
    /// How many a namespace may have.
    pub max_per_namespace: usize,
}

impl Default for ExternalPolicy {
    fn default() -> Self {
        Self { service_entries: false, hosts: Vec::new(), max_per_namespace: 50 }
    }
}

/// A TLS connection that the global proxy passed through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PassedThrough {
    /// Who connected.
    pub caller: Caller,
    /// The TLS server name that it gave, in lower case. It may be forged.
    pub host: Arc<str>,
    /// The port of its original destination.
    pub port: u16,
}

/// What matters of a `ServiceEntry` of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnEntry {
    /// Its ports.
    pub ports: BTreeSet<u16>,
    /// The uids of its owners.
    pub owners: BTreeSet<Arc<str>>,
}

/// The hosts that are to get an entry, by namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Externals {
    pending: HashMap<Arc<str>, OrdMap<Arc<str>, Pending>>,
}

/// A host whose entry is not there yet.
#[derive(Clone, Debug)]
struct Pending {
    ports: BTreeSet<u16>,
    /// The fences that learn the host when its entry has come.
    fences: BTreeSet<ObjectKey>,
    seen: Timestamp,
}

/// The key of our entry for a host in a namespace.
#[must_use]
pub fn entry_key(namespace: &str, host: &str) -> ObjectKey {
    ObjectKey::new(namespace, format!("{PREFIX}{host}"))
}

impl Graph {
    /// Tells what a connection that was passed through would add. Reads only.
    #[must_use]
    pub fn judge_passed_through(&self, call: &PassedThrough, now: Timestamp) -> Judgement {
        let Some(fences) = self.workloads.fences_of(&call.caller) else { return Judgement::UnknownCaller };
        let facts = fences.filter_map(|key| Some((key, self.fences.get(key)?)));
        let verdicts = facts.map(|(key, facts)| self.judge_external(key, facts, call, now));
        verdicts.min().unwrap_or(Judgement::Unfenced)
    }

    fn judge_external(
        &self,
        key: &ObjectKey,
        facts: &FenceFacts,
        call: &PassedThrough,
        now: Timestamp,
    ) -> Judgement {
        let entry = self.registry.own_entry(&key.namespace, &call.host);
        let is_there = entry.is_some_and(|entry| entry.ports.contains(&call.port));
        let known = facts.known.get(&call.host).filter(|_| entry.is_some());
        match known {
            _ if !is_there && !self.may_define(&key.namespace, call) => Judgement::UnknownHost,
            None if facts.is_full() => Judgement::Refused,
            // The first one that is refused is noted.
            None if !facts.learning.allows(&key.namespace) && facts.refused.is_some() => Judgement::Refused,
            Some(known) if is_there && known.is_stale(now, facts.learning.precision()) => Judgement::Stale,
            Some(_) if is_there => Judgement::Known,
            _ => Judgement::New,
        }
    }

    /// Whether our entry for the host of a call may come to be in `namespace`, or get its port.
    fn may_define(&self, namespace: &str, call: &PassedThrough) -> bool {
        let policy = &self.mesh_wide.external;
        policy.service_entries
            && policy.allows(&call.host)
            && self.is_external(namespace, &call.host)
            && self.may_have_entry(namespace, &call.host)
            && self.has_room(namespace, call)
    }

    /// Whether it is a name that means nothing in the cluster where a pod of `namespace` uses it, and no address.
    fn is_external(&self, namespace: &str, host: &str) -> bool {
        let domain = &*self.mesh_wide.cluster_domain;
        let in_cluster = host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        let is_service = |namespace, name| self.registry.service(&ObjectKey::new(namespace, name)).is_some();
        let labels: Vec<_> = host.split('.').collect();
        let is_short = match labels[..] {
            [_] | [.., "svc"] => true,
            // A Service of another namespace, or a pod behind a headless one.
            [first, second] => is_service(second, first) || is_service(namespace, second),
            [_, second, third] => is_service(third, second),
            _ => false,
        };
        !is_short && !in_cluster && is_dns_name(host) && host.len() + PREFIX.len() <= MAX_NAME
    }

    /// Whether nobody else defines the host where `namespace` sees it, and nobody wants the namespace closed.
    fn may_have_entry(&self, namespace: &str, host: &str) -> bool {
        !self.is_closed(namespace) && !self.registry.is_seen_in(host, namespace)
    }

    /// Whether what is not registered is refused there: an entry would open what somebody closed.
    fn is_closed(&self, namespace: &str) -> bool {
        self.mesh_config().is_some_and(|mesh| mesh.registry_only) || self.sidecars.is_registry_only(namespace)
    }

    /// Whether there is room for what would have to wait.
    fn has_room(&self, namespace: &str, call: &PassedThrough) -> bool {
        let pending = self.externals.pending.get(namespace);
        let entry = self.registry.own_entry(namespace, &call.host);
        let has = entry.map_or(0, |entry| entry.ports.len());
        if let Some(waiting) = pending.and_then(|pending| pending.get(&call.host)) {
            return waiting.ports.contains(&call.port) || has + waiting.ports.len() < MAX_PORTS;
        }
        let (waiting, entries) =
            (pending.map_or(0, OrdMap::len), self.registry.own_entries(namespace).count());
        let most = self.mesh_wide.external.max_per_namespace;
        if entry.is_some() { waiting < most && has < MAX_PORTS } else { waiting + entries < most }
    }

    /// Takes in a connection that was passed through: where there is an entry of ours the host is learned, and else it
    /// waits for one.
    pub(super) fn pass_through(&mut self, call: &PassedThrough, seen: Timestamp) -> BTreeSet<ObjectKey> {
        let fences: BTreeSet<_> =
            self.workloads.fences_of(&call.caller).into_iter().flatten().cloned().collect();
        fences.into_iter().filter(|key| self.pass_through_for(key, call, seen)).collect()
    }

    fn pass_through_for(&mut self, key: &ObjectKey, call: &PassedThrough, seen: Timestamp) -> bool {
        let Some(facts) = self.fences.get(key) else { return false };
        let judgement = self.judge_external(key, facts, call, seen);
        if !matches!(judgement, Judgement::New | Judgement::Stale) {
            return false;
        }
        let entry = self.registry.own_entry(&key.namespace, &call.host);
        let is_there = entry.is_some_and(|entry| entry.ports.contains(&call.port));
        let refused = !facts.known.contains_key(&call.host) && !facts.learning.allows(&key.namespace);
        if is_there || refused {
            return self.learn_external(key, &call.host, seen);
        }
        let pending = self.externals.pending.entry(key.namespace.clone()).or_default();
        let waiting = pending.entry(call.host.clone()).or_insert_with(|| Pending::since(seen));
        let (ports, fences) = (waiting.ports.len(), waiting.fences.len());
        waiting.ports.insert(call.port);
        waiting.fences.insert(key.clone());
        (ports, fences) != (waiting.ports.len(), waiting.fences.len())
    }

    fn learn_external(&mut self, key: &ObjectKey, host: &Arc<str>, seen: Timestamp) -> bool {
        // Which of the fence's pods it was is no matter.
        let caller = Caller::Workload(key.clone());
        let call = Observation { caller, host: host.clone(), source: DependencySource::AccessLog, seen };
        self.fences.learn(key, &call, std::slice::from_ref(&key.namespace))
    }

    /// An entry of ours has come: who waited for it learns its host.
    pub(super) fn entry_came(&mut self, entry: &ServiceEntry) -> BTreeSet<ObjectKey> {
        let (Some(own), [host]) = (&entry.own, &*entry.hosts) else { return BTreeSet::new() };
        let pending = self.externals.pending.get(&entry.key.namespace).and_then(|all| all.get(host)).cloned();
        let Some(pending) = pending.filter(|pending| pending.ports.is_subset(&own.ports)) else {
            return BTreeSet::new();
        };
        self.externals.forget(&entry.key.namespace, host);
        pending.fences.into_iter().filter(|key| self.learn_external(key, host, pending.seen)).collect()
    }

    /// Forgets what a fence that is gone waits for.
    pub(super) fn stop_waiting(&mut self, fence: &ObjectKey) {
        let Some(pending) = self.externals.pending.remove(&fence.namespace) else { return };
        let without = |(host, mut waiting): (Arc<str>, Pending)| {
            waiting.fences.remove(fence);
            (!waiting.fences.is_empty()).then_some((host, waiting))
        };
        let left: OrdMap<_, _> = pending.into_iter().filter_map(without).collect();
        if !left.is_empty() {
            self.externals.pending.insert(fence.namespace.clone(), left);
        }
    }
}

impl ExternalPolicy {
    fn allows(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|name| is_covered_by(host, name))
    }
}

impl Externals {
    fn forget(&mut self, namespace: &str, host: &str) {
        let Some(pending) = self.pending.get_mut(namespace) else { return };
        pending.remove(host);
        if pending.is_empty() {
            self.pending.remove(namespace);
        }
    }
}

impl Pending {
    fn since(seen: Timestamp) -> Self {
        Self { ports: BTreeSet::new(), fences: BTreeSet::new(), seen }
    }
}
