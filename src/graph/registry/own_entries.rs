//! The entries that we wrote ourselves: each is for its own namespace, and to others it is not there.

use std::sync::Arc;

use super::{Definer, Registry};
use crate::graph::names::wildcards;
use crate::graph::{ObjectKey, OwnEntry, ServiceEntry, entry_key};

impl Registry {
    /// Our entry for `host` in `namespace`.
    pub(in crate::graph) fn own_entry(&self, namespace: &str, host: &str) -> Option<&OwnEntry> {
        self.entry(&entry_key(namespace, host))?.own.as_ref()
    }

    pub(super) fn is_own(&self, definer: &Definer) -> bool {
        match definer {
            Definer::Service(_) => false,
            Definer::ServiceEntry(key) => self.entry(key).is_some_and(|entry| entry.own.is_some()),
        }
    }

    /// A `ServiceEntry` by its key.
    pub(in crate::graph) fn entry(&self, key: &ObjectKey) -> Option<&ServiceEntry> {
        self.entries.get(key)
    }

    /// The hosts of our own entries in a namespace.
    pub(in crate::graph) fn own_entries(&self, namespace: &str) -> impl Iterator<Item = &Arc<str>> {
        self.own.of(namespace)
    }

    /// The namespaces that have an entry of our own for `host`, or for what it covers.
    pub(in crate::graph) fn own_entries_under<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let names = std::iter::once(host).chain(self.names.covered_by(host).map(|name| &**name));
        let definers = names.flat_map(|name| self.definers.of(name));
        definers.filter(|definer| self.is_own(definer)).map(Definer::namespace)
    }

    /// The namespaces that have entries of our own.
    pub(in crate::graph) fn namespaces_of_own_entries(&self) -> impl Iterator<Item = &Arc<str>> {
        self.own.keys()
    }

    /// Whether `namespace` sees an object, other than our own entries, that defines `host` or a wildcard that covers it.
    pub(in crate::graph) fn is_seen_in(&self, host: &str, namespace: &str) -> bool {
        let all = std::iter::once(host.to_owned()).chain(wildcards(host));
        let definers = |name: String| self.definers.of(name.as_str());
        all.flat_map(definers).filter(|definer| !self.is_own(definer)).any(|definer| {
            let export_to = match definer {
                Definer::Service(key) => self.service(key).map(|service| &service.export_to),
                Definer::ServiceEntry(key) => self.entries.get(key).map(|entry| &entry.export_to),
            };
            export_to.is_some_and(|it| it.includes(namespace, definer.namespace(), self.default_export))
        })
    }
}
