//! `DestinationRule`s: the subsets of a host, and for whom there are other ones, or another way to connect, than for the global proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::names::is_wildcard;
use super::namespaced::Namespaced;
use super::relation::Relation;
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
    /// Whether it says that the host is connected to otherwise than proxies do by themselves: in another TLS than the mesh's or
    /// none, with a PROXY header, through a tunnel.
    pub own_transport: bool,
    /// Labels of the pods of its namespace that alone go by it; none: all who see it. istiod shows one with a selector to its own
    /// namespace only.
    pub selector: Labels,
    /// Who sees it.
    pub export_to: ExportTo,
}

/// All of them, and which of them some callers may go by and the global proxy does not.
///
/// istiod takes the one of the caller's namespace, or else of the host's, or else of the root namespace; one with a selector is
/// for its own namespace alone (Istio 1.31, `PushContext.destinationRule`). So the one of a caller's namespace for a host of
/// another is that namespace's own affair.
#[derive(Clone, Debug, Default)]
pub(super) struct DestinationRules {
    global_proxy: Arc<str>,
    root: Arc<str>,
    /// Who sees what does not say who does.
    default_export: DefaultExport,
    all: Namespaced<DestinationRule>,
    /// A namespace → those that it may go by and the global proxy may not.
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

    /// The namespaces that may go by a rule that the global proxy does not go by. One with a wildcard is for too much to list
    /// it all.
    fn callers(&self, rule: &DestinationRule, registry: &Registry) -> BTreeSet<Arc<str>> {
        if is_wildcard(&rule.host) || (rule.subsets.is_empty() && !rule.own_transport) {
            return BTreeSet::new();
        }
        let own = &rule.key.namespace;
        let hidden = rule.export_to.hidden_from(&self.global_proxy, own, self.default_export);
        // Most are for Services of their own namespace, and everybody goes by them.
        let is_plain = registry.is_service_in(&rule.host, own);
        let own = Some(own).filter(|own| **own != self.global_proxy && !is_plain);
        hidden.chain(own).cloned().collect()
    }

    /// Whether workloads of a namespace go by a rule, if they are those that it selects. `of_host`: whether it is of the host's
    /// namespace.
    fn is_in_force(&self, rule: &DestinationRule, namespace: &str, of_host: bool) -> bool {
        let own = &rule.key.namespace;
        rule.export_to.includes(namespace, own, self.default_export)
            && (**own == *namespace || *own == self.root || of_host)
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
        let mut affected = self.fences_of_rule(&key);
        self.rules.apply(rule, &self.registry);
        if before.zip(self.rules.get(&key)).is_some_and(|(before, after)| before.is_for_the_same(after)) {
            return BTreeSet::new();
        }
        affected.extend(self.fences_of_rule(&key));
        affected
    }

    pub(super) fn remove_rule(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let affected = self.fences_of_rule(key);
        self.rules.remove(key, &self.registry);
        affected
    }

    /// The fences whose pods may go by a rule that the global proxy does not go by.
    fn fences_of_rule(&self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(rule) = self.rules.get(key) else { return BTreeSet::new() };
        let namespaces = self.rules.callers(rule, &self.registry);
        let fences = namespaces.iter().flat_map(|namespace| self.fences.in_namespace(namespace));
        fences.filter(|fence| self.has_pods(fence, &rule.selector)).cloned().collect()
    }

    /// The hosts that the pods of a fence call by rules that the global proxy does not go by, and those whose calls are sent there:
    /// a first call that took the detour would end where there is no such subset, or in another TLS.
    pub(super) fn hosts_by_rules(&self, fence: &ObjectKey) -> BTreeSet<Arc<str>> {
        let rules = self.rules.by_caller.of(&fence.namespace).filter_map(|key| self.rules.get(key));
        let own = rules.filter(|rule| self.is_own(rule, fence));
        self.and_routed_there(own.map(|rule| rule.host.clone()).collect())
    }

    /// Whether pods of a fence go by a rule, the global proxy does not, and that makes a difference: subsets do where a route
    /// leads to them.
    fn is_own(&self, rule: &DestinationRule, fence: &ObjectKey) -> bool {
        let (rules, own) = (&self.rules, &rule.key.namespace);
        let of_host = || self.registry.definers_of(&rule.host).any(|definer| definer == own);
        let of_nobody_else = || self.registry.definers_of(&rule.host).all(|definer| definer == own);
        self.registry.contains(&rule.host)
            && (rule.own_transport || self.routes.is_destination(&rule.host))
            && rules.is_in_force(rule, &fence.namespace, of_host())
            && !rules.is_in_force(rule, &rules.global_proxy, of_nobody_else())
            && self.has_pods(fence, &rule.selector)
    }

    /// The fences that may call one of these hosts by rules that the global proxy does not go by.
    pub(super) fn fences_by_rules<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> BTreeSet<ObjectKey> {
        let keys = hosts.into_iter().flat_map(|host| self.rules.by_host.of(host));
        keys.flat_map(|key| self.fences_of_rule(key)).collect()
    }
}

impl DestinationRule {
    /// Whether it makes the same difference as `other`: which labels a subset has makes none.
    fn is_for_the_same(&self, other: &Self) -> bool {
        let terms = |rule: &Self| (rule.host.clone(), rule.own_transport, rule.subsets.is_empty());
        terms(self) == terms(other)
            && (&self.selector, &self.export_to) == (&other.selector, &other.export_to)
    }
}
