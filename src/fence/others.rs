//! Who else is for the pods of a fence, and what that means for it. istiod gives a pod one `Sidecar`: of those whose
//! selector matches, the oldest (Istio 1.31, `PushContext.getSidecarScope`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Settings;
use crate::api::{Dependency, DependencySource, DomainStatus, Mode, SidecarPolicy};
use crate::graph::{EgressHost, FenceFacts, Foreign, Graph, ObjectKey, Terms};

/// The graph as one fence sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others<'a> {
    pub(super) graph: &'a Graph,
    pub(super) settings: &'a Settings,
    pub(super) fence: &'a ObjectKey,
}

impl<'a> Others<'a> {
    pub(super) fn of(fence: &'a ObjectKey, graph: &'a Graph, settings: &'a Settings) -> Self {
        Self { graph, settings, fence }
    }

    /// The same, as another fence sees it.
    fn seen_by(self, fence: &'a ObjectKey) -> Self {
        Self { fence, ..self }
    }

    /// The fences that have pods in common with this one.
    pub(super) fn peers(self) -> impl Iterator<Item = &'a ObjectKey> {
        self.graph.peers(self.fence).into_iter()
    }

    pub(super) fn facts(self) -> Option<&'a FenceFacts> {
        self.graph.fence(self.fence)
    }

    fn terms(self) -> Option<&'a Terms> {
        self.facts().map(|facts| &facts.terms)
    }

    pub(super) fn policy(self) -> SidecarPolicy {
        self.terms().and_then(|terms| terms.sidecar_policy).unwrap_or(self.settings.defaults.sidecar_policy)
    }

    /// The `Sidecar` of somebody else that the fence steps back from.
    pub(super) fn conflict(self) -> Option<&'a Foreign> {
        let policy = self.policy();
        let conflicts = |foreign: &&Foreign| match policy {
            SidecarPolicy::Adopt if foreign.key == *self.fence => {
                !self.is_for(foreign) || self.objection(foreign).is_some()
            }
            SidecarPolicy::Adopt => !self.is_preferred_to(foreign),
            SidecarPolicy::Compose => foreign.key == *self.fence || !self.is_preferred_to(foreign),
            SidecarPolicy::Defer => true,
        };
        let own =
            self.graph.adopted(self.fence).filter(|was| policy != SidecarPolicy::Adopt || !self.is_for(was));
        let named = self.graph.foreign(self.fence).into_iter();
        let named = own.into_iter().chain(named);
        named.chain(self.graph.foreign_over(self.fence)).find(conflicts)
    }

    /// Whether istiod takes the fence's own `Sidecar`, not `foreign`. If both are as old, nobody can tell.
    fn is_preferred_to(self, foreign: &Foreign) -> bool {
        let adoptable = || self.adoptable().and_then(|foreign| foreign.created);
        let own = self.graph.sidecar_created(self.fence).or_else(adoptable);
        own.zip(foreign.created).is_some_and(|(own, theirs)| own < theirs)
    }

    /// The Sidecars whose place the fence's own takes, and which it therefore carries: the one that it took over, and
    /// unless the policy is `Defer` those that are for pods of the fence, oldest first; else the default one.
    pub(super) fn composed(self) -> Vec<&'a Foreign> {
        let composes = self.policy() != SidecarPolicy::Defer;
        let mut over: Vec<_> =
            composes.then(|| self.graph.foreign_over(self.fence)).into_iter().flatten().collect();
        over.extend(self.graph.adopted(self.fence));
        over.sort_by_key(|foreign| (foreign.created, &foreign.key));
        if over.is_empty() { self.graph.default_sidecar(self.fence).into_iter().collect() } else { over }
    }

    /// The `Sidecar` whose place the fence's would take, and whose bounds the detour does not keep.
    pub(super) fn border(self) -> Option<&'a Foreign> {
        let mesh = self.graph.mesh_config();
        self.composed().into_iter().find(|foreign| foreign.is_closed(mesh))
    }

    /// Whether the fence is to write a `Sidecar`, or would be if no other fence did it.
    fn enforces(self) -> bool {
        let Settings { defaults, istio, .. } = self.settings;
        let mode = |terms: &Terms| terms.mode.unwrap_or(defaults.mode);
        let ours = |terms: &Terms| istio.covers_revision(terms.revision.as_deref());
        self.terms().is_some_and(|terms| terms.enabled && ours(terms) && mode(terms) == Mode::Enforce)
            && self.conflict().is_none()
            && self.border().is_none()
            && self.graph.contested(self.fence).is_none()
    }

    /// The fence that writes a `Sidecar` for all pods of this one: the oldest of those that are older than it.
    pub(super) fn carrier(self) -> Option<&'a ObjectKey> {
        let age = self.age();
        self.peers()
            .map(|peer| self.seen_by(peer))
            .filter(|peer| peer.age() < age && self.graph.covers(peer.fence, self.fence) && peer.enforces())
            .min_by_key(|peer| peer.age())
            .map(|peer| peer.fence)
    }

    fn age(self) -> (Option<Timestamp>, &'a ObjectKey) {
        (self.terms().and_then(|terms| terms.created), self.fence)
    }

    fn writes(self) -> bool {
        self.enforces() && self.carrier().is_none()
    }

    /// Another fence that writes a `Sidecar` for some of the pods of this one.
    pub(super) fn overlapping(self) -> Option<&'a ObjectKey> {
        self.peers().find(|peer| self.seen_by(peer).writes())
    }

    /// Whether pods are about to change from the `Sidecar` of another fence to this one's, or the reverse. Until they
    /// have, this one's routes to everything, so that they change from one that is wide to another that is.
    pub(super) fn is_beside_a_move(self) -> bool {
        self.neighbours().any(Self::moves)
    }

    /// Whether the `Sidecar` of another fence, for pods of this one, does not route to everything (yet).
    pub(super) fn is_beside_a_trimmed_one(self) -> bool {
        self.neighbours().any(|other| self.graph.is_wide(other.fence) == Some(false))
    }

    pub(super) fn has_neighbours(self) -> bool {
        self.neighbours().next().is_some()
    }

    fn neighbours(self) -> impl Iterator<Item = Self> {
        self.graph.neighbours(self.fence).into_iter().map(move |other| self.seen_by(other))
    }

    /// Whether the fence's `Sidecar`, as it stands, is about to go, or to select other pods or to be read by other istiods.
    fn moves(self) -> bool {
        let Some(has) = self.graph.standing_selector(self.fence) else { return false };
        let asked = self.facts().and_then(|facts| facts.labels.as_ref());
        let turns = || {
            asked.is_some_and(|asked| !self.graph.select_the_same(&self.fence.namespace, has, asked))
                || !self.graph.is_of_its_revision(self.fence)
        };
        let given_back = self.graph.adopted(self.fence).is_some();
        (!self.enforces() && !given_back)
            || (self.obstacle().is_none() && (self.carrier().is_some() || (!given_back && turns())))
    }
}

/// Adds the hosts of another fence.
pub(super) fn share(domains: &mut BTreeMap<String, Dependency>, others: BTreeMap<String, Dependency>) {
    for (name, other) in others {
        add(domains, name, DependencySource::Fence, other.hosts);
    }
}

/// Adds the hosts of somebody else's `Sidecar`.
pub(super) fn compose(domains: &mut BTreeMap<String, Dependency>, hosts: impl Iterator<Item = EgressHost>) {
    for host in hosts {
        add(domains, host.host.to_string(), DependencySource::Sidecar, vec![host.to_string()]);
    }
}

/// Adds a host that somebody else states. Who said so is only told of a host that the fence does not have itself.
fn add(
    domains: &mut BTreeMap<String, Dependency>,
    name: String,
    source: DependencySource,
    hosts: Vec<String>,
) {
    if hosts.is_empty() {
        return;
    }
    let new = || Dependency { sources: vec![source], ..Dependency::default() };
    let domain = domains.entry(name).or_insert_with(new);
    domain.status = DomainStatus::Active;
    domain.hosts.extend(hosts);
    domain.hosts.sort();
    domain.hosts.dedup();
}
