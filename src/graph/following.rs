//! Whom a change of a Service or `ServiceEntry` concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::names::overlap;
use super::registry::RegistryChange;
use super::want::{Wanted, label_word, namespace_word};
use super::{Graph, Labels, MeshConfig, ObjectKey, PodSelection, Service, ServiceEntry};

/// The longest value of a label in Kubernetes.
const MAX_LABEL_VALUE: usize = 63;

impl Graph {
    pub(super) fn apply_service(&mut self, service: Service) -> BTreeSet<ObjectKey> {
        let (key, old) = (service.key.clone(), self.registry.service(&service.key).cloned());
        let changed = self.registry.apply_service(service);
        self.follow_service(&key, old.as_ref(), &changed)
    }

    pub(super) fn remove_service(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let old = self.registry.service(key).cloned();
        let changed = self.registry.remove_service(key);
        self.follow_service(key, old.as_ref(), &changed)
    }

    pub(super) fn apply_entry(&mut self, entry: &ServiceEntry) -> BTreeSet<ObjectKey> {
        let old = self.registry.entry(&entry.key).cloned();
        let changed = self.registry.apply_entry(entry.clone());
        let mut affected = self.follow_entry(&changed);
        affected.extend(self.fences_by_name_table(old.as_ref(), Some(entry)));
        affected.extend(self.entry_came(entry));
        affected
    }

    pub(super) fn remove_entry(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let old = self.registry.entry(key).cloned();
        let changed = self.registry.remove_entry(key);
        let mut affected = self.follow_entry(&changed);
        affected.extend(self.fences_by_name_table(old.as_ref(), None));
        affected
    }

    /// The labels of a fence's pods; `None` while nothing tells.
    pub(super) fn labels_of(&self, key: &ObjectKey, selection: &PodSelection) -> Option<Labels> {
        let service = || self.registry.service(key).map(|service| service.selector.clone());
        match selection {
            PodSelection::Labels(labels) => Some(labels.clone()),
            PodSelection::Service => service(),
            PodSelection::ServiceOrLabel => service().or_else(|| self.label_of(key)),
        }
    }

    fn label_of(&self, key: &ObjectKey) -> Option<Labels> {
        let label = || (self.mesh_wide.service_label.to_string(), key.name.to_string());
        (key.name.len() <= MAX_LABEL_VALUE).then(|| Labels::from(BTreeMap::from([label()])))
    }

    /// What a change of the Service `key` means: for those who ask for its host, its namespace or its labels, for
    /// the namespaces in which it is listed unasked, and for the fence of its name.
    fn follow_service(
        &mut self,
        key: &ObjectKey,
        old: Option<&Service>,
        changed: &RegistryChange,
    ) -> BTreeSet<ObjectKey> {
        self.follow_definers(&changed.hosts);
        let mut affected = self.wanting(&changed.hosts, Some(&key.namespace));
        if !changed.hosts.is_empty() {
            affected.extend(self.listing_all_of(&key.namespace));
        }
        affected.extend(self.relabelled(&changed.labels));
        let (before, after) = &changed.labels;
        if before != after {
            affected.extend(self.for_tags(&self.tags(key, [before, after])));
        }
        if !changed.renamed.is_empty() {
            affected.extend(self.wanting(&changed.renamed, None));
            let names = changed.hosts.iter().chain(&changed.renamed);
            affected.extend(names.flat_map(|host| self.fences.knowing(host)).cloned());
        }
        let local = changed.headless.then_some(&key.namespace).into_iter().chain(&changed.hidden);
        affected.extend(local.flat_map(|namespace| self.fences.in_namespace(namespace)).cloned());
        if changed.selector {
            affected.extend(self.follow_selector(key));
            let versions = old.into_iter().chain(self.registry.service(key));
            affected.extend(versions.flat_map(|service| self.named_behind(service)));
        }
        affected
    }

    /// What a change of a `ServiceEntry` means: for those who ask for its hosts, and for the namespaces in which
    /// they are listed unasked.
    fn follow_entry(&mut self, changed: &RegistryChange) -> BTreeSet<ObjectKey> {
        self.follow_definers(&changed.hosts);
        let mut affected = self.wanting(&changed.hosts, None);
        affected
            .extend(changed.hidden.iter().flat_map(|namespace| self.fences.in_namespace(namespace)).cloned());
        affected
    }

    fn follow_definers(&mut self, hosts: &[Arc<str>]) {
        for host in hosts {
            self.fences.follow_definers(host, &self.registry);
        }
    }

    fn wanting(&self, hosts: &[Arc<str>], namespace: Option<&str>) -> BTreeSet<ObjectKey> {
        let hosts = self.registry.concerned_by(hosts);
        let all: Vec<_> = hosts.iter().map(|host| self.registry.same_as(host)).collect();
        let asked_by_all = |host: &Arc<str>| {
            let named = |config: &MeshConfig| config.hosts.iter().any(|named| overlap(named, host));
            self.mesh_config().is_some_and(named)
                || self.mesh_wide.wants.iter().any(|want| want.hosts.concerns(host, namespace))
        };
        if all.iter().flatten().any(asked_by_all) {
            return self.fences.keys().cloned().collect();
        }
        let asking = all.iter().flatten().flat_map(|host| self.fences.wanting_host(host));
        // A learned host itself stays as it was found; its other names come and go.
        let named = all.iter().filter(|names| names.len() > 1).flatten();
        let routed = all.iter().flatten().flat_map(|host| {
            let resolving = self.fences_resolving(host).cloned();
            let named = self
                .fences_by_rules([host])
                .into_iter()
                .chain(self.fences_by_extensions(host))
                .chain(resolving);
            self.routed_to(host).into_iter().chain(self.sent_on(host)).chain(named)
        });
        let composed = hosts.iter().flat_map(|host| self.composed_with(host));
        let knowing = named.flat_map(|host| self.fences.knowing(host));
        asking.chain(composed).chain(knowing).cloned().chain(routed).collect()
    }

    /// The fences that list `host`, whatever says that they need it.
    pub(super) fn listing(&self, host: &Arc<str>) -> BTreeSet<ObjectKey> {
        let service = self.registry.service_of(host);
        let namespace = service.map(|service| &*service.key.namespace);
        let mut fences = self.wanting(std::slice::from_ref(host), namespace);
        fences.extend(self.fences.knowing(host).cloned());
        if let Some(service) = service {
            fences.extend(self.listing_all_of(&service.key.namespace));
            fences.extend(self.relabelled(&(service.labels.clone(), Labels::default())));
            fences.extend(self.named_behind(service));
            if service.headless {
                fences.extend(self.fences.in_namespace(&service.key.namespace).cloned());
            }
        }
        let hidden = self.registry.hiding(host);
        fences.extend(hidden.flat_map(|namespace| self.fences.in_namespace(namespace)).cloned());
        fences
    }

    /// The fences that list all hosts of a namespace.
    fn listing_all_of(&self, namespace: &str) -> BTreeSet<ObjectKey> {
        let (word, all) = (namespace_word(namespace), format!("{namespace}/*"));
        self.fences.wanting(&word).chain(self.composed_with(&all)).cloned().collect()
    }

    /// The fences that ask for Services by labels which a Service has now and had not before, or the reverse.
    fn relabelled(&self, (before, after): &(Labels, Labels)) -> BTreeSet<ObjectKey> {
        if before == after {
            return BTreeSet::new();
        }
        let pairs: BTreeSet<_> = before.iter().chain(after.iter()).collect();
        let words = pairs.into_iter().map(|(key, value)| label_word(key, value));
        let asking = words.flat_map(|word| self.fences.wanting(&word).cloned().collect::<Vec<_>>());
        asking.filter(|key| self.selects_either(key, before, after)).collect()
    }

    fn selects_either(&self, key: &ObjectKey, before: &Labels, after: &Labels) -> bool {
        self.fences.get(key).is_some_and(|facts| {
            facts.wants.iter().any(|want| match &want.hosts {
                Wanted::Labels(selector) => before.satisfy(selector) != after.satisfy(selector),
                _ => false,
            })
        })
    }

    /// Takes the selector of the Service `key` over into the fence of its name.
    fn follow_selector(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(facts) = self.fences.get(key) else { return BTreeSet::new() };
        if matches!(facts.selection, PodSelection::Labels(_)) {
            return BTreeSet::new();
        }
        let labels = self.labels_of(key, &facts.selection.clone());
        if let Some(facts) = self.fences.get_mut(key) {
            facts.labels.clone_from(&labels);
        }
        self.fences.forget_history(key);
        let mut affected = self.workloads.select(key, labels.as_ref());
        self.note_astray(key);
        affected.insert(key.clone());
        affected
    }
}
