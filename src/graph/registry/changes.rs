//! How Services and `ServiceEntry`s come, change and go, with every index that they stand in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Definer, Registry, RegistryChange};
use crate::graph::want::label_word;
use crate::graph::{DefaultExport, ExportTo, ObjectKey, Service, ServiceEntry};

impl Registry {
    pub(in crate::graph) fn apply_service(&mut self, service: Service) -> RegistryChange {
        let old = self.services.get(&service.key).cloned();
        if old.as_deref() == Some(&service) {
            return RegistryChange::default();
        }
        if let Some(old) = &old {
            self.unlist(old);
        }
        self.list(&service);
        let change = self.difference(old.as_deref(), Some(&service));
        self.keys.insert(service.key.namespace.clone(), service.key.clone());
        self.services.insert(service.key.clone(), Arc::new(service));
        change
    }

    pub(in crate::graph) fn remove_service(&mut self, key: &ObjectKey) -> RegistryChange {
        let Some(old) = self.services.remove(key) else { return RegistryChange::default() };
        self.keys.remove(&key.namespace, key);
        self.unlist(&old);
        self.difference(Some(&old), None)
    }

    pub(in crate::graph) fn apply_entry(&mut self, entry: ServiceEntry) -> RegistryChange {
        if self.entries.get(&entry.key) == Some(&entry) {
            return RegistryChange::default();
        }
        let RegistryChange { hosts: before, mut hidden, .. } = self.remove_entry(&entry.key);
        let definer = Definer::ServiceEntry(entry.key.clone());
        for host in &entry.hosts {
            self.define(host, &definer, entry.learnable());
            if entry.own.is_some() {
                self.own.insert(entry.key.namespace.clone(), host.clone());
            }
        }
        hidden.extend(self.hidden(entry.learnable(), &entry.key.namespace).cloned());
        if !entry.resolved_by_istiod.is_empty() {
            self.resolved_by_istiod.insert(entry.key.clone());
        }
        let (before, after) = (BTreeSet::from_iter(before), entry.hosts.iter().cloned().collect());
        self.entries.insert(entry.key.clone(), entry);
        let hosts = before.symmetric_difference(&after).cloned().collect();
        RegistryChange { hosts, hidden, ..RegistryChange::default() }
    }

    pub(in crate::graph) fn remove_entry(&mut self, key: &ObjectKey) -> RegistryChange {
        let Some(old) = self.entries.remove(key) else { return RegistryChange::default() };
        let definer = Definer::ServiceEntry(key.clone());
        self.resolved_by_istiod.remove(key);
        for host in &old.hosts {
            self.undefine(host, &definer, old.learnable());
            if old.own.is_some() {
                self.own.remove(&key.namespace, host);
            }
        }
        let hidden = self.hidden(old.learnable(), &key.namespace).cloned().collect();
        RegistryChange { hosts: old.hosts, hidden, ..RegistryChange::default() }
    }

    /// Puts a Service into every index.
    fn list(&mut self, service: &Service) {
        let (key, host) = (&service.key, self.host_of(&service.key));
        self.define(&host, &Definer::Service(key.clone()), &service.export_to);
        self.by_namespace.insert(key.namespace.clone(), host.clone());
        if service.headless {
            self.headless.insert(key.namespace.clone(), host);
        }
        for (name, value) in service.labels.iter() {
            self.by_label.insert(label_word(name, value), key.clone());
        }
        if let Some(target) = &service.external_name {
            self.aliases.insert(target.clone(), key.clone());
        }
    }

    /// Takes a Service out of every index.
    fn unlist(&mut self, service: &Service) {
        let (key, host) = (&service.key, self.host_of(&service.key));
        self.undefine(&host, &Definer::Service(key.clone()), &service.export_to);
        self.by_namespace.remove(&key.namespace, &host);
        self.headless.remove(&key.namespace, &host);
        for (name, value) in service.labels.iter() {
            self.by_label.remove(&label_word(name, value), key);
        }
        if let Some(target) = &service.external_name {
            self.aliases.remove(target, key);
        }
    }

    fn define(&mut self, host: &Arc<str>, definer: &Definer, export_to: &ExportTo) {
        self.definers.insert(host.clone(), definer.clone());
        self.names.insert(host.clone());
        for alias in self.rules.of(host) {
            self.aliased.insert(alias.clone(), host.clone());
        }
        self.hide(host, definer, export_to);
    }

    fn undefine(&mut self, host: &Arc<str>, definer: &Definer, export_to: &ExportTo) {
        self.definers.remove(host, definer);
        if !self.contains(host) {
            self.names.remove(host);
            for alias in self.rules.of(host) {
                self.aliased.remove(&alias, host);
            }
        }
        self.show(host, definer, export_to);
    }

    /// Notes who sees a host that the global proxy does not see.
    fn hide(&mut self, host: &Arc<str>, definer: &Definer, export_to: &ExportTo) {
        for namespace in self.hidden(export_to, definer.namespace()) {
            self.hidden.insert(namespace.clone(), (definer.clone(), host.clone()));
        }
    }

    fn show(&mut self, host: &Arc<str>, definer: &Definer, export_to: &ExportTo) {
        for namespace in self.hidden(export_to, definer.namespace()) {
            self.hidden.remove(namespace, &(definer.clone(), host.clone()));
        }
    }

    /// Has whatever does not say who sees it be seen by others than before. It is rare that the mesh configuration
    /// changes so, and then it concerns the whole mesh.
    pub(in crate::graph) fn set_default_export(&mut self, default: DefaultExport) {
        if self.default_export == default {
            return;
        }
        let services = self.services.values().filter(|service| service.export_to == ExportTo::Unsaid);
        let services = services
            .map(|one| (self.host_of(&one.key), Definer::Service(one.key.clone())))
            .collect::<Vec<_>>();
        let entries = self.entries.values().filter(|entry| entry.export_to == ExportTo::Unsaid);
        let of_entry = |entry: &ServiceEntry| {
            let definer = Definer::ServiceEntry(entry.key.clone());
            entry.hosts.iter().map(|host| (host.clone(), definer.clone())).collect::<Vec<_>>()
        };
        let unsaid: Vec<_> = services.into_iter().chain(entries.flat_map(of_entry)).collect();
        for (host, definer) in &unsaid {
            self.show(host, definer, &ExportTo::Unsaid);
        }
        self.default_export = default;
        for (host, definer) in &unsaid {
            self.hide(host, definer, &ExportTo::Unsaid);
        }
    }

    /// What it means that a Service was `old` and is `new`.
    fn difference(&self, old: Option<&Service>, new: Option<&Service>) -> RegistryChange {
        let either = || old.into_iter().chain(new);
        let external = |service: Option<&Service>| service.and_then(|service| service.external_name.clone());
        let renamed = external(old) != external(new);
        let came_or_went = old.is_some() != new.is_some();
        let labels =
            |service: Option<&Service>| service.map(|service| service.labels.clone()).unwrap_or_default();
        let seen_by = old.map(|service| &service.export_to) != new.map(|service| &service.export_to);
        let hidden = either().flat_map(|service| self.hidden(&service.export_to, &service.key.namespace));
        let host = either().next().map(|service| self.host_of(&service.key));
        RegistryChange {
            hosts: host.filter(|_| came_or_went || renamed).into_iter().collect(),
            renamed: if renamed {
                external(old).into_iter().chain(external(new)).collect()
            } else {
                Vec::new()
            },
            labels: (labels(old), labels(new)),
            headless: old.is_some_and(|o| o.headless) != new.is_some_and(|n| n.headless),
            selector: old.map(|o| &o.selector) != new.map(|n| &n.selector),
            hidden: if seen_by { hidden.cloned().collect() } else { BTreeSet::new() },
        }
    }
}
