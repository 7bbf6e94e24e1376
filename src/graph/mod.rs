//! What is known of the mesh: its hosts, its workloads, and which workload uses which host. PURE: no I/O, no
//! clock; every fact comes in as a [`Change`].
//!
//! [`Graph`] is made of persistent maps, so that a copy costs nothing: one task owns and changes it, everybody
//! else reads a published copy. A change touches only what it names: a pod costs the fences of its namespace,
//! a service the fences that asked for it. An index from one to many is a `Relation`, and what is large stands
//! in an [`Arc`], so that a change beside it does not copy it.

mod aliases;
mod by_workload;
mod callers;
mod change;
mod coverage;
mod declared;
mod destination_rules;
mod dns_name;
mod export_to;
mod extensions;
mod external;
mod fences;
mod few;
mod following;
mod gateway_routes;
mod judgement;
mod key;
mod known;
mod learning;
mod limiters;
mod mesh_wide;
mod name_table;
mod names;
mod namespaced;
mod objects;
mod policies;
mod pushes;
mod registry;
mod relation;
mod revisions;
mod routes;
mod selector;
mod sharing;
mod sidecars;
#[cfg(test)]
mod tests;
mod want;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use aliases::{Aliases, DomainAlias};
pub use by_workload::Caller;
pub use callers::{CallerPattern, Identity};
pub use change::{Change, Namespace};
pub use coverage::{Coverage, Covered};
pub use destination_rules::DestinationRule;
pub use dns_name::{MAX_NAME, is_dns_name, is_host_name};
pub use export_to::{DefaultExport, ExportTo};
pub use extensions::Extension;
pub use external::{ExternalHost, ExternalPolicy, OwnEntry, PassedThrough, entry_key};
pub use fences::{Answers, Fence, FenceFacts, Terms};
pub use few::Few;
pub use gateway_routes::{Backend, GatewayRoute, RouteKind};
pub use judgement::Judgement;
pub use key::ObjectKey;
pub use known::{Known, Observation};
pub use learning::{Learning, MAX_HOSTS};
pub use limiters::Limiter;
pub use mesh_wide::{MeshConfig, MeshWide};
pub use objects::{EgressHost, Service, ServiceEntry};
pub use policies::Policy;
pub(crate) use pushes::later;
pub use pushes::{Debounce, Istiod, Pushes};
pub use registry::Registry;
pub(crate) use revisions::is_for;
pub use routes::{Asked, Audience, Source, VirtualService};
pub use selector::{Labels, PodSelection};
pub use sidecars::{Consent, Foreign, Origin, Sidecar, Standing};
pub use want::{Lifetime, Want, Wanted};
pub use workloads::{Pod, Proxy, Workloads};

use crate::api::DependencySource;
use destination_rules::DestinationRules;
use extensions::Extensions;
use external::Externals;
use fences::Fences;
use limiters::Limiters;
use policies::Policies;
use routes::Routes;
use sidecars::Sidecars;

/// A persistent map for what Kubernetes names: the names of objects are no secret, but each map has a seed of its own, so
/// that a quick hash will do.
type HashMap<K, V> =
    imbl::GenericHashMap<K, V, foldhash::fast::RandomState, imbl::shared_ptr::DefaultSharedPtr>;

/// The whole of what is known. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    mesh_wide: Arc<MeshWide>,
    registry: Registry,
    namespaces: HashMap<Arc<str>, Labels>,
    routes: Routes,
    rules: DestinationRules,
    extensions: Extensions,
    workloads: Workloads,
    fences: Fences,
    /// What holds for fences that do not say how they learn.
    learning: Learning,
    coverage: BTreeMap<DependencySource, Coverage>,
    policies: Policies,
    /// `None` until it has been read.
    mesh_config: Option<Arc<MeshConfig>>,
    sidecars: Sidecars,
    externals: Externals,
    limiters: Limiters,
    pushes: Arc<Pushes>,
}

impl Graph {
    /// An empty graph of a mesh whose cluster domain is `domain` (`cluster.local`), and of which else the usual holds.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self::of(MeshWide { cluster_domain: domain.into(), ..MeshWide::default() })
    }

    /// An empty graph of a mesh of which this much is settled.
    #[must_use]
    pub fn of(mesh_wide: MeshWide) -> Self {
        let (registry, routes) = (Registry::new(&mesh_wide), Routes::new(&mesh_wide));
        let (policies, sidecars) = (Policies::new(&mesh_wide), Sidecars::new(&mesh_wide.root_namespace));
        let rules = DestinationRules::new(&mesh_wide);
        Self {
            registry,
            routes,
            rules,
            policies,
            sidecars,
            mesh_wide: Arc::new(mesh_wide),
            ..Self::default()
        }
    }

    /// What holds for the whole mesh.
    #[must_use]
    pub fn mesh_wide(&self) -> &MeshWide {
        &self.mesh_wide
    }

    /// The same graph, with `learning` for fences that do not say how they learn.
    #[must_use]
    pub fn with_learning(self, learning: Learning) -> Self {
        Self { learning, ..self }
    }

    /// The time that each source of direct calls has watched.
    #[must_use]
    pub fn coverage(&self) -> &BTreeMap<DependencySource, Coverage> {
        &self.coverage
    }

    /// The hosts that istiod knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The labels of a Namespace; `None` if there is none of that name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// Every Namespace, to find those that are gone after a fresh listing.
    pub fn namespace_keys(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        self.namespaces.keys().map(|name| ObjectKey::new("", name.clone()))
    }

    /// The pods that may call others.
    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// A fence and what was learned for it.
    #[must_use]
    pub fn fence(&self, key: &ObjectKey) -> Option<&FenceFacts> {
        self.fences.get(key)
    }

    /// Every fence, to find those that are gone after a fresh listing.
    pub fn fence_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.fences.keys()
    }

    /// The fences of a namespace.
    pub fn fences_in(&self, namespace: &str) -> impl Iterator<Item = &ObjectKey> {
        self.fences.in_namespace(namespace)
    }

    /// The fences of whose earlier calls nothing was told yet.
    pub fn without_history(&self) -> impl Iterator<Item = &ObjectKey> {
        self.fences.without_history()
    }

    /// Takes one change in, and names the fences for which it makes a difference.
    pub fn apply(&mut self, change: Change) -> BTreeSet<ObjectKey> {
        let parting = self.parting(&change);
        let affected = self.take_in(change);
        self.and_neighbours(affected.into_iter().chain(parting).collect())
    }

    fn take_in(&mut self, change: Change) -> BTreeSet<ObjectKey> {
        match change {
            Change::Service(service) => self.apply_service(service),
            Change::ServiceGone(key) => self.remove_service(&key),
            Change::ServiceEntry(entry) => self.apply_entry(&entry),
            Change::ServiceEntryGone(key) => self.remove_entry(&key),
            Change::VirtualService(service) => self.apply_virtual_service(service),
            Change::VirtualServiceGone(key) => self.remove_virtual_service(&key),
            Change::GatewayRoute(route) => self.apply_gateway_route(&route),
            Change::GatewayRouteGone(kind, key) => self.remove_gateway_route(kind, &key),
            Change::Pod(pod) => self.apply_pod(&pod),
            Change::PodGone(key) => self.remove_pod(&key),
            Change::Namespace(namespace) => self.follow_namespace(&namespace.name, Some(&namespace.labels)),
            Change::NamespaceGone(key) => self.follow_namespace(&key.name, None),
            Change::Fence(fence) => self.apply_fence(fence),
            Change::FenceGone(key) => {
                self.stop_waiting(&key);
                self.fences.remove(&key);
                self.note_astray(&key);
                let mut affected = self.workloads.select(&key, None);
                affected.remove(&key);
                affected
            }
            Change::Policy(policy) => self.apply_policy(policy),
            Change::PolicyGone(key) => self.remove_policy(&key),
            Change::MeshConfig(config) => self.apply_mesh_config(config),
            Change::Sidecar(sidecar) => self.apply_sidecar(sidecar),
            Change::SidecarGone(key) => self.remove_sidecar(&key),
            Change::DestinationRule(rule) => self.apply_rule(rule),
            Change::DestinationRuleGone(key) => self.remove_rule(&key),
            Change::Extension(extension) => self.apply_extension(extension),
            Change::ExtensionGone(key) => self.remove_extension(&key),
            Change::Limiter(_)
            | Change::LimiterGone(_)
            | Change::EnvoyFilter(..)
            | Change::EnvoyFilterGone(_) => {
                self.limiters.apply(change);
                BTreeSet::new()
            }
            Change::Istiod(..) | Change::IstiodGone(..) | Change::Disturbed(_) => {
                self.apply_to_pushes(change);
                BTreeSet::new()
            }
            Change::Endpoints => BTreeSet::new(),
            Change::Call(call) => self.learn(&call),
            Change::PassedThrough(call, seen) => self.pass_through(&call, seen),
            Change::Covered(covered) => self.cover(covered),
            Change::HistoryTold(keys) => self.fences.set_history_told(keys),
            Change::ProxiesAsked(key, answers) => {
                let known = self.fences.set_answers(&key, Some(answers));
                known.then_some(key).into_iter().collect()
            }
            Change::Forget(key, hosts) => {
                self.fences.forget(&key, &hosts);
                // It may have been full.
                BTreeSet::from([key])
            }
        }
    }

    fn apply_pod(&mut self, pod: &Pod) -> BTreeSet<ObjectKey> {
        let old = self.workloads.pod(&pod.key).cloned();
        let (namespace, fences) = (&pod.key.namespace, &self.fences);
        let selecting = |labels: &Labels| fences.of_pod(namespace, labels);
        let mut affected = self.workloads.apply(pod.clone(), selecting);
        affected.extend(self.follow_pod(old.as_ref(), Some(pod)));
        affected
    }

    fn remove_pod(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let old = self.workloads.pod(key).cloned();
        let mut affected = self.workloads.remove(key);
        affected.extend(self.follow_pod(old.as_ref(), None));
        affected
    }

    /// Notes the labels of a Namespace: all its fences may read them.
    fn follow_namespace(&mut self, name: &Arc<str>, labels: Option<&Labels>) -> BTreeSet<ObjectKey> {
        let old = match labels {
            Some(labels) => self.namespaces.insert(name.clone(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        let news = old.as_ref() != labels;
        self.fences.in_namespace(name).filter(|_| news).cloned().collect()
    }

    /// Notes how far a source has looked. Where it begins anew, every fence waits for another time than before.
    fn cover(&mut self, covered: Covered) -> BTreeSet<ObjectKey> {
        let anew = match self.coverage.get_mut(&covered.source) {
            Some(coverage) => coverage.extend(covered.time),
            None => self.coverage.insert(covered.source, covered.time).is_none(),
        };
        if anew { self.fence_keys().cloned().collect() } else { BTreeSet::new() }
    }

    fn apply_fence(&mut self, fence: Fence) -> BTreeSet<ObjectKey> {
        let key = fence.key.clone();
        let labels = self.labels_of(&key, &fence.selection);
        let before = self.fences.get(&key).and_then(|facts| facts.labels.clone());
        let learning = Learning::of(fence.learning.as_ref(), &self.learning);
        self.fences.apply(fence, labels.clone(), learning, &self.registry);
        let mut affected = BTreeSet::new();
        if labels != before {
            affected = self.workloads.select(&key, labels.as_ref());
            self.note_astray(&key);
        }
        affected.insert(key);
        affected
    }

    fn learn(&mut self, call: &Observation) -> BTreeSet<ObjectKey> {
        let Some(fences) = self.workloads.fences_of(&call.caller) else { return BTreeSet::new() };
        let mut call = call.clone();
        call.host = self.registry.canonical(&call.host).unwrap_or(call.host);
        let namespaces = self.registry.namespaces(&call.host);
        fences.filter(|key| self.fences.learn(key, &call, &namespaces)).cloned().collect()
    }
}
