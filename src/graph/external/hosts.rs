//! The hosts that have an entry of ours, or are to have one, and what concerns them.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::OwnEntry;
use crate::graph::{Change, Graph, ObjectKey, ServiceEntry, Sidecar};

/// A host of a namespace for which there is an entry of ours, or is to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalHost {
    /// The host.
    pub host: Arc<str>,
    /// The ports on which it was called.
    pub ports: BTreeSet<u16>,
    /// The fences of the namespace that call it.
    pub fences: BTreeSet<ObjectKey>,
    /// Whether there may be an entry: nobody else defines the host, and the namespace is not closed.
    pub allowed: bool,
    /// The entry as it stands.
    pub entry: Option<OwnEntry>,
}

impl Graph {
    /// Whether there are any in a namespace.
    #[must_use]
    pub fn has_external_hosts(&self, namespace: &str) -> bool {
        self.externals.pending.contains_key(namespace)
            || self.registry.own_entries(namespace).next().is_some()
    }

    /// The hosts of a namespace that have an entry of ours, or are to have one.
    #[must_use]
    pub fn external_hosts(&self, namespace: &str) -> Vec<ExternalHost> {
        let pending = self.externals.pending.get(namespace);
        let waiting = pending.into_iter().flat_map(OrdMap::keys);
        let hosts: BTreeSet<_> = self.registry.own_entries(namespace).chain(waiting).cloned().collect();
        hosts.into_iter().map(|host| self.external_host(namespace, host)).collect()
    }

    fn external_host(&self, namespace: &str, host: Arc<str>) -> ExternalHost {
        let pending = self.externals.pending.get(namespace).and_then(|all| all.get(&host));
        let entry = self.registry.own_entry(namespace, &host).cloned();
        let knows =
            |key: &&ObjectKey| self.fences.get(key).is_some_and(|facts| facts.known.contains_key(&host));
        let waiting = pending.into_iter().flat_map(|pending| &pending.fences);
        let ports =
            pending.map(|pending| &pending.ports).into_iter().chain(entry.as_ref().map(|entry| &entry.ports));
        ExternalHost {
            ports: ports.flatten().copied().collect(),
            fences: self.fences.in_namespace(namespace).filter(knows).chain(waiting).cloned().collect(),
            allowed: self.may_have_entry(namespace, &host),
            host,
            entry,
        }
    }

    /// The namespaces whose entries of ours a change may concern, beside those of the fences to which it makes a
    /// difference.
    #[must_use]
    pub fn external_namespaces(&self, change: &Change) -> BTreeSet<Arc<str>> {
        let is_root = |key: &ObjectKey| *key.namespace == *self.sidecars.root();
        match change {
            Change::MeshConfig(_) => self.all_external_namespaces().cloned().collect(),
            Change::Sidecar(Sidecar { key, .. }) | Change::SidecarGone(key) if is_root(key) => {
                self.all_external_namespaces().cloned().collect()
            }
            Change::ServiceEntry(ServiceEntry { own: None, hosts, .. }) => {
                hosts.iter().flat_map(|host| self.registry.own_entries_under(host)).cloned().collect()
            }
            Change::ServiceEntry(ServiceEntry { key, .. })
            | Change::Sidecar(Sidecar { key, .. })
            | Change::ServiceEntryGone(key)
            | Change::SidecarGone(key)
            | Change::FenceGone(key)
            | Change::Forget(key, _) => [key.namespace.clone()].into(),
            _ => BTreeSet::new(),
        }
    }

    /// The namespaces that have an entry of ours, or wait for one.
    fn all_external_namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.externals.pending.keys().chain(self.registry.namespaces_of_own_entries())
    }
}
