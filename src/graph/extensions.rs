//! What extends proxies: `EnvoyFilter`s of users, which name services that the proxies of some workloads call by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::ByHost;
use super::namespaced::Namespaced;
use super::routes::Source;
use super::{Graph, Labels, ObjectKey};

/// What matters of an `EnvoyFilter` that somebody wrote for sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Its namespace and name. One in the root namespace is for the workloads of all namespaces.
    pub key: ObjectKey,
    /// Labels of the pods that it is for; none: all.
    pub selector: Labels,
    /// The hosts that it names: of rate limits, of external authorization, of whatever a filter calls.
    pub hosts: Vec<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Extensions {
    all: Namespaced<Extension>,
    /// Host → those that name it.
    by_host: ByHost<ObjectKey>,
}

impl Extensions {
    fn insert(&mut self, extension: Extension) {
        self.remove(&extension.key);
        for host in &extension.hosts {
            self.by_host.insert(host.clone(), extension.key.clone());
        }
        // What names nothing is as good as none.
        if !extension.hosts.is_empty() {
            self.all.insert(extension.key.clone(), Arc::new(extension));
        }
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(old) = self.all.remove(key) else { return };
        for host in &old.hosts {
            self.by_host.remove(host, key);
        }
    }

    /// Those that name `host`, a wildcard that covers it, or what it covers.
    fn naming<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Extension> {
        self.by_host.overlapping(host).filter_map(|key| self.all.get(key)).map(Arc::as_ref)
    }
}

impl Graph {
    /// Every `EnvoyFilter` that names hosts, to find those that are gone after a fresh listing.
    pub fn extension_keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.extensions.all.keys()
    }

    pub(super) fn apply_extension(&mut self, extension: Extension) -> BTreeSet<ObjectKey> {
        let key = extension.key.clone();
        let before = self.extensions.all.get(&key).cloned();
        self.extensions.insert(extension);
        let after = self.extensions.all.get(&key).cloned();
        if before == after {
            return BTreeSet::new();
        }
        before.iter().chain(&after).flat_map(|extension| self.fences_of_extension(extension)).collect()
    }

    pub(super) fn remove_extension(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(old) = self.extensions.all.get(key).cloned() else { return BTreeSet::new() };
        self.extensions.remove(key);
        self.fences_of_extension(&old)
    }

    /// The hosts that the proxies of a fence's pods call by themselves.
    pub(super) fn hosts_by_extensions(&self, fence: &ObjectKey) -> BTreeSet<Arc<str>> {
        let all = self.extensions.all.about(&fence.namespace, &self.mesh_wide.root_namespace);
        let own = all.filter(|extension| self.is_caller(fence, &self.workloads_of(extension)));
        own.flat_map(|extension| extension.hosts.iter().cloned()).collect()
    }

    /// The fences of whose pods the proxies are extended by what names a host.
    pub(super) fn fences_by_extensions(&self, host: &str) -> BTreeSet<ObjectKey> {
        self.extensions.naming(host).flat_map(|extension| self.fences_of_extension(extension)).collect()
    }

    fn fences_of_extension(&self, extension: &Extension) -> BTreeSet<ObjectKey> {
        self.callers_by(&self.workloads_of(extension)).cloned().collect()
    }

    fn workloads_of(&self, extension: &Extension) -> Source {
        let (own, root) = (&extension.key.namespace, &self.mesh_wide.root_namespace);
        Source {
            namespace: Some(own).filter(|own| *own != root).cloned(),
            labels: extension.selector.clone(),
        }
    }
}
