//! `DestinationRule`s: the subsets of a host, and for whom there are other ones, or another TLS, than for the global proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::is_wildcard;
use super::namespaced::Namespaced;
use super::relation::Relation;
use super::routes::VirtualService;
use super::{DefaultExport, ExportTo, Graph, Labels, MeshWide, ObjectKey, Registry};

/// What matters of a `DestinationRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRule {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The host that it is for. One without a dot is a Service of its namespace.
    pub host: Arc<str>,
    /// The host's subsets, each with the labels that its pods have besides.
    pub subsets: Vec<(Arc<str>, Labels)>,
    /// Whether it says that proxies speak another TLS to the host than among each other, or none.
    pub own_tls: bool,
    /// Who sees it.
    pub export_to: ExportTo,
}

/// All of them, and which of them some callers go by and the global proxy does not.
///
/// istiod takes the one of the caller's namespace, or else of the host's, or else of the root namespace (Istio 1.31,
/// `PushContext.destinationRule`). So the one of a caller's namespace for a host of another is that namespace's own affair.
#[derive(Clone, Debug, Default)]
pub(super) struct DestinationRules {
    global_proxy: Arc<str>,
    root: Arc<str>,
    /// Who sees what does not say who does.
    default_export: DefaultExport,
    all: Namespaced<DestinationRule>,
    /// A namespace → those that only it goes by, perhaps.
    by_caller: Relation<Arc<str>, ObjectKey>,
    /// A host → the same.
    by_host: Relation<Arc<str>, ObjectKey>,
}

impl DestinationRules {
    pub(super) fn new(mesh: &MeshWide) -> Self {
        let (global_proxy, root) = (mesh.global_proxy_namespace.clone(), mesh.root_namespace.clone());
        Self { global_proxy, root, ..Self::default() }
    }

    /// Has whatever does not say who sees it be seen by others than before.
    pub(super) fn set_default_export(&mut self, default: DefaultExport, registry: &Registry) {
        if self.default_export == default {
            return;
        }
        let all: Vec<_> = self.all.values().cloned().collect();
        for rule in &all {
            self.remove(&rule.key, registry);
        }
        self.default_export = default;
        for rule in all {
            self.insert(rule, registry);
        }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&DestinationRule> {
        self.all.get(key).map(Arc::as_ref)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.all.keys()
    }

    /// Those of a namespace, in the order of their names.
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &DestinationRule> {
        self.all.of(namespace).map(Arc::as_ref)
    }

    fn apply(&mut self, mut rule: DestinationRule, registry: &Registry) {
        rule.host = registry.full_name(&rule.host, &rule.key.namespace);
        self.remove(&rule.key, registry);
        self.insert(Arc::new(rule), registry);
    }

    fn insert(&mut self, rule: Arc<DestinationRule>, registry: &Registry) {
        for namespace in self.callers(&rule, registry) {
            self.by_caller.insert(namespace, rule.key.clone());
            self.by_host.insert(rule.host.clone(), rule.key.clone());
        }
        self.all.insert(rule.key.clone(), rule);
    }

    fn remove(&mut self, key: &ObjectKey, registry: &Registry) {
        let Some(old) = self.all.remove(key) else { return };
        for namespace in self.callers(&old, registry) {
            self.by_caller.remove(&namespace, key);
        }
        self.by_host.remove(&old.host, key);
    }

    /// The namespaces that may be the only ones to go by a rule. One with a wildcard is for too much to list it all.
    fn callers(&self, rule: &DestinationRule, registry: &Registry) -> BTreeSet<Arc<str>> {
        if is_wildcard(&rule.host) || (rule.subsets.is_empty() && !rule.own_tls) {
            return BTreeSet::new();
        }
        let own = &rule.key.namespace;
        let is_known_elsewhere =
            *own == self.root || *own == self.global_proxy || registry.is_service_in(&rule.host, own);
        let own_alone = Some(own).filter(|_| !is_known_elsewhere);
        self.hidden(rule).chain(own_alone).cloned().collect()
    }

    /// The namespaces that see a rule that the global proxy does not see.
    fn hidden<'a>(&self, rule: &'a DestinationRule) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        rule.export_to.hidden_from(&self.global_proxy, &rule.key.namespace, self.default_export)
    }
}

impl Graph {
    /// Every `DestinationRule`, to find those that are gone after a fresh listing.
    pub fn destination_rule_keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.rules.keys()
    }

    pub(super) fn apply_rule(&mut self, rule: DestinationRule) -> BTreeSet<ObjectKey> {
        let key = rule.key.clone();
        let before = self.rules.all.get(&key).cloned();
        let mut affected = self.going_by(&key);
        self.rules.apply(rule, &self.registry);
        if before.as_ref() == self.rules.all.get(&key) {
            return BTreeSet::new();
        }
        affected.extend(self.going_by(&key));
        affected
    }

    pub(super) fn remove_rule(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let affected = self.going_by(key);
        self.rules.remove(key, &self.registry);
        affected
    }

    /// The fences of the namespaces that may be the only ones to go by a rule.
    fn going_by(&self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(rule) = self.rules.get(key) else { return BTreeSet::new() };
        let namespaces = self.rules.callers(rule, &self.registry);
        namespaces.iter().flat_map(|namespace| self.fences.in_namespace(namespace)).cloned().collect()
    }

    /// The hosts that the workloads of a namespace call by rules that the global proxy does not know, and those whose calls are
    /// sent there: a first call that took the detour would end where there is no such subset, or in another TLS.
    pub(super) fn ruled(&self, namespace: &str) -> BTreeSet<Arc<str>> {
        let keys = self.rules.by_caller.of(namespace);
        let rules = keys.filter_map(|key| self.rules.get(key)).filter(|rule| self.is_own(rule, namespace));
        let hosts: BTreeSet<_> = rules.map(|rule| rule.host.clone()).collect();
        self.and_routed_there(hosts)
    }

    /// Whether only this namespace (and others that see it) goes by a rule, and its calls would fare otherwise without it.
    /// Subsets matter where a route leads to them.
    fn is_own(&self, rule: &DestinationRule, namespace: &str) -> bool {
        let elsewhere = || self.registry.definers_of(&rule.host).all(|own| *own != rule.key.namespace);
        (rule.own_tls || self.routes.is_destination(&rule.host))
            && (self.rules.hidden(rule).any(|hidden| **hidden == *namespace) || elsewhere())
    }

    /// The fences that may call `host`, or what it is routed to, by rules that the global proxy does not know.
    pub(super) fn ruling(&self, host: &str) -> BTreeSet<ObjectKey> {
        let destinations = self.routes.of_host(host).flat_map(|service| self.destinations(service));
        destinations.chain([host.into()]).flat_map(|host| self.ruling_just(&host)).collect()
    }

    /// The same for the destinations of a `VirtualService`.
    pub(super) fn ruling_route(&self, service: &VirtualService) -> BTreeSet<ObjectKey> {
        self.destinations(service).iter().flat_map(|host| self.ruling_just(host)).collect()
    }

    fn ruling_just(&self, host: &str) -> BTreeSet<ObjectKey> {
        self.rules.by_host.of(host).flat_map(|key| self.going_by(key)).collect()
    }
}
