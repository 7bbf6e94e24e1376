//! Declared dependencies: what other objects of the mesh say that a workload needs, whether it calls it or not. They
//! are in the fence from the start, and leave with the object that declares them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::callers::Identity;
use super::names::overlap;
use super::policies::Policy;
use super::routes::{Source, VirtualService};
use super::{Graph, Labels, MeshConfig, ObjectKey, Pod, Service};
use crate::api::DependencySource;

impl Graph {
    /// The hosts that are declared for a fence, and by what.
    #[must_use]
    pub fn declared(&self, fence: &ObjectKey) -> BTreeSet<(Arc<str>, DependencySource)> {
        let named = self.callers_in(fence).into_iter().flat_map(|caller| self.named(&caller));
        let routed = self.routes.hosts_for(|source| self.is_caller(fence, source));
        let of_routes = routed.into_iter().map(|host| (host, DependencySource::VirtualService));
        let hosts = self.mesh_config.iter().flat_map(|config| &config.hosts);
        let of_mesh = hosts.map(|host| (host.clone(), DependencySource::MeshConfig));
        let of_rules = self.hosts_by_rules(fence).into_iter();
        let of_rules = of_rules.map(|host| (host, DependencySource::DestinationRule));
        let extended =
            self.hosts_by_extensions(fence).into_iter().map(|host| (host, DependencySource::EnvoyFilter));
        let resolved = self.hosts_by_name_table(fence).into_iter().map(|host| (host, DependencySource::Dns));
        let named = named.map(|host| (host, DependencySource::Policy));
        named.chain(of_mesh).chain(of_routes).chain(of_rules).chain(extended).chain(resolved).collect()
    }

    /// Whether a policy that names callers is about workloads behind a host.
    #[must_use]
    pub fn is_guarded(&self, host: &str) -> bool {
        let Some(service) = self.registry.service_of(host) else { return false };
        let mut policies = self.policies.about(&service.key.namespace);
        policies.any(|policy| self.policies.concerns(policy, service, &self.workloads))
    }

    /// Every policy that names callers, to find those that are gone after a fresh listing.
    pub fn policy_keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.policies.keys()
    }

    /// Who the pods of a fence are.
    fn callers_in(&self, fence: &ObjectKey) -> BTreeSet<Identity> {
        let accounts = self.workloads.of_fence(fence).map(|pod| pod.account.clone());
        accounts.map(|account| Identity { namespace: fence.namespace.clone(), account }).collect()
    }

    /// The hosts behind which policies name a caller, and those whose calls are sent there: over the global proxy, these would
    /// end at the policies as well.
    fn named(&self, caller: &Identity) -> BTreeSet<Arc<str>> {
        self.and_routed_there(
            self.policies.naming(caller).flat_map(|policy| self.concerned(policy)).collect(),
        )
    }

    /// Hosts that a call must not come to over the global proxy, and those whose calls are sent to one of them.
    pub(super) fn and_routed_there(&self, hosts: BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let routed = hosts.iter().flat_map(|host| self.routes.hosts_to(host));
        let routed: Vec<_> = routed.filter(|host| self.registry.contains(host)).cloned().collect();
        hosts.into_iter().chain(routed).collect()
    }

    /// The destinations of a `VirtualService`, and of those that it delegates to.
    pub(super) fn destinations(&self, service: &VirtualService) -> BTreeSet<Arc<str>> {
        let delegates = service.delegates.iter().filter_map(|key| self.routes.get(key));
        let all = delegates.flat_map(|delegate| delegate.destinations.clone());
        service.destinations.iter().cloned().chain(all).collect()
    }

    /// The fences that list a host because calls of it are sent to one that policies guard, or that the callers have rules of their
    /// own for.
    pub(super) fn sent_on(&self, host: &str) -> BTreeSet<ObjectKey> {
        self.routes.routing(host).flat_map(|service| self.behind_route(service)).collect()
    }

    /// The same by a `VirtualService`, and by those that it delegates to.
    fn behind_route(&self, service: &VirtualService) -> BTreeSet<ObjectKey> {
        let hosts = self.destinations(service);
        let guarded = hosts.iter().filter_map(|host| self.registry.service_of(host));
        let named = guarded.flat_map(|it| self.named_behind(it));
        named.chain(self.fences_by_rules(&hosts)).collect()
    }

    fn concerned<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = Arc<str>> + 'a {
        let namespace = Some(&*policy.key.namespace).filter(|_| !self.policies.is_mesh_wide(policy));
        let services = self.registry.services_in(namespace);
        let concerned = services.filter(|service| self.policies.concerns(policy, service, &self.workloads));
        concerned.map(|service| self.registry.host_of(&service.key))
    }

    /// The fences whose pods a policy names.
    fn named_by(&self, policy: &Policy) -> BTreeSet<ObjectKey> {
        let mut fences = BTreeSet::new();
        for pattern in &policy.callers {
            let candidates: Box<dyn Iterator<Item = &ObjectKey>> = match pattern.pins().0 {
                Some(namespace) => Box::new(self.fences.in_namespace(namespace)),
                None => Box::new(self.fences.keys()),
            };
            let named =
                |fence: &&ObjectKey| self.callers_in(fence).iter().any(|caller| pattern.matches(caller));
            fences.extend(candidates.filter(named).cloned());
        }
        fences
    }

    /// What the mesh configuration says; `None` while it has not been read.
    #[must_use]
    pub fn mesh_config(&self) -> Option<&MeshConfig> {
        self.mesh_config.as_deref()
    }

    pub(super) fn apply_mesh_config(&mut self, config: MeshConfig) -> BTreeSet<ObjectKey> {
        if self.mesh_config() == Some(&config) {
            return BTreeSet::new();
        }
        self.registry.set_default_export(config.services_export);
        self.routes.set_default_export(config.virtual_services_export);
        self.rules.set_default_export(config.destination_rules_export, &self.registry);
        self.mesh_config = Some(Arc::new(config));
        self.fence_keys().cloned().collect()
    }

    /// Whether a route is for pods of a fence.
    pub(super) fn is_caller(&self, fence: &ObjectKey, source: &Source) -> bool {
        source.namespace.as_ref().is_none_or(|namespace| *namespace == fence.namespace)
            && self.has_pods(fence, &source.labels)
    }

    /// Whether pods of a fence, or those that it asks for, have these labels.
    pub(super) fn has_pods(&self, fence: &ObjectKey, with: &Labels) -> bool {
        let asked = self.fences.get(fence).and_then(|facts| facts.labels.as_ref());
        let mut all = self.workloads.labels_of(fence).chain(asked);
        with.is_empty() || all.any(|labels| labels.satisfy(with))
    }

    pub(super) fn apply_virtual_service(&mut self, service: VirtualService) -> BTreeSet<ObjectKey> {
        let key = service.key.clone();
        let mut affected = self.routed_by(&key);
        let before = self.routes.get(&key);
        self.routes.apply(service, &self.registry);
        if before == self.routes.get(&key) {
            return BTreeSet::new();
        }
        affected.extend(self.routed_by(&key));
        for either in [before, self.routes.get(&key)].into_iter().flatten() {
            affected.extend(self.importing(&either));
            affected.extend(self.behind_route(&either));
        }
        affected
    }

    pub(super) fn remove_virtual_service(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let mut affected = self.routed_by(key);
        if let Some(old) = self.routes.get(key) {
            affected.extend(self.importing(&old));
            affected.extend(self.behind_route(&old));
        }
        self.routes.remove(key);
        affected
    }

    /// The fences that import a `VirtualService` besides the hosts that it routes, because it is in another namespace.
    fn importing(&self, service: &VirtualService) -> BTreeSet<ObjectKey> {
        let elsewhere =
            |host: &Arc<str>| self.registry.definers_of(host).any(|of| *of != service.key.namespace);
        let hosts = service.hosts.iter().flat_map(|host| self.registry.overlapping(host));
        let fences = hosts.filter(elsewhere).flat_map(|host| self.listing(&host));
        fences.filter(|fence| service.is_for(&fence.namespace)).collect()
    }

    /// The fences whose pods have routes of their own for calls to a host.
    pub(super) fn routed_to(&self, host: &str) -> BTreeSet<ObjectKey> {
        let services =
            self.routes.particular().filter(|service| service.hosts.iter().any(|other| overlap(other, host)));
        services.flat_map(|service| self.routed_by(&service.key)).collect()
    }

    /// The fences for whose pods a `VirtualService` has routes of their own.
    fn routed_by(&self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(service) = self.routes.get(key) else { return BTreeSet::new() };
        let mut fences = BTreeSet::new();
        for source in self.routes.callers_of(&service) {
            fences.extend(self.callers_by(&source).cloned());
        }
        fences
    }

    /// The fences of the callers that something is for.
    pub(super) fn callers_by<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a ObjectKey> {
        let all: Box<dyn Iterator<Item = &ObjectKey>> = match &source.namespace {
            Some(namespace) => Box::new(self.fences.in_namespace(namespace)),
            None => Box::new(self.fences.keys()),
        };
        all.filter(move |fence| self.is_caller(fence, source))
    }

    pub(super) fn apply_policy(&mut self, policy: Policy) -> BTreeSet<ObjectKey> {
        let key = policy.key.clone();
        let before = self.policies.get(&key);
        self.policies.apply(policy);
        let after = self.policies.get(&key);
        if before == after {
            return BTreeSet::new();
        }
        [before, after].into_iter().flatten().flat_map(|policy| self.named_by(&policy)).collect()
    }

    pub(super) fn remove_policy(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(old) = self.policies.get(key) else { return BTreeSet::new() };
        self.policies.remove(key);
        self.named_by(&old)
    }

    /// Whom policies name that are about a Service.
    pub(super) fn named_behind(&self, service: &Service) -> BTreeSet<ObjectKey> {
        let policies = self.policies.about(&service.key.namespace);
        let concerned = policies.filter(|policy| self.policies.concerns(policy, service, &self.workloads));
        concerned.flat_map(|policy| self.named_by(policy)).collect()
    }

    /// Whom policies name that are about a pod because of its labels.
    pub(super) fn follow_pod(&self, old: Option<&Pod>, new: Option<&Pod>) -> BTreeSet<ObjectKey> {
        if old.map(|pod| &pod.labels) == new.map(|pod| &pod.labels) {
            return BTreeSet::new();
        }
        let selecting = |pod: &Pod| {
            let policies = self.policies.about(&pod.key.namespace);
            policies
                .filter(|policy| policy.selects(&pod.labels))
                .flat_map(|policy| self.named_by(policy))
                .collect::<Vec<_>>()
        };
        old.into_iter().chain(new).flat_map(selecting).collect()
    }
}
