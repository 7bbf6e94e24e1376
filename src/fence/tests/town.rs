//! A namespace with several fences, and the one Sidecar that istiod gives each of its pods.

use super::*;
use crate::fence::{Egress, Scope};
use crate::graph::Proxy;

/// A namespace with several fences.
pub(super) struct Town {
    pub(super) fences: BTreeMap<&'static str, ServiceFence>,
    /// By name, with when each was made.
    pub(super) sidecars: BTreeMap<String, (Timestamp, Sidecar)>,
    pub(super) pods: BTreeMap<&'static str, BTreeMap<String, String>>,
    pub(super) graph: Graph,
    pub(super) istio: Installation,
    pub(super) now: Timestamp,
}

impl Town {
    /// Pods by name and labels.
    pub(super) fn new(pods: &[(&'static str, &str)]) -> Self {
        let pods: BTreeMap<_, _> = pods.iter().map(|(name, with)| (*name, labels(with))).collect();
        let (fences, sidecars, now) =
            (BTreeMap::new(), BTreeMap::new(), "2026-01-01T12:00:00Z".parse().unwrap());
        let (graph, istio) = (Graph::new("cluster.local"), Installation::default());
        let mut town = Self { fences, sidecars, pods: pods.clone(), graph, istio, now };
        for number in 0..pods.len() {
            town.pod(number, Proxy::Sidecar);
        }
        town.graph.apply(service("shop/reviews"));
        town.graph.apply(service("shop/ratings"));
        town
    }

    /// The pod of this number has this proxy.
    pub(super) fn pod(&mut self, number: usize, proxy: Proxy) {
        let (name, with) = self.pods.iter().nth(number).unwrap();
        let (key, ips) =
            (ObjectKey::new("shop", *name), vec![[10, 244, 0, u8::try_from(number + 1).unwrap()].into()]);
        let labels = Labels::from(with.clone());
        self.graph.apply(Change::Pod(Pod { key, ips, labels, proxy, ..Pod::default() }));
    }

    pub(super) fn make(&mut self, name: &'static str, selector: &str) {
        let selector = WorkloadSelector { labels: labels(selector), from_service: false };
        let spec = ServiceFenceSpec {
            enable: true,
            workload_selector: Some(selector),
            ..ServiceFenceSpec::default()
        };
        let mut fence = ServiceFence::new(name, spec);
        fence.metadata.namespace = Some("shop".to_owned());
        fence.metadata.uid = Some(format!("uid-of-{name}"));
        fence.metadata.creation_timestamp = Some(Time(self.now));
        self.fences.insert(name, fence);
        self.listed(name);
        self.now += SignedDuration::from_secs(1);
    }

    pub(super) fn edit(&mut self, name: &'static str, edit: impl FnOnce(&mut ServiceFence)) {
        if let Some(fence) = self.fences.get_mut(name) {
            edit(fence);
            self.listed(name);
        }
    }

    pub(super) fn listed(&mut self, name: &str) {
        self.graph.apply(Change::Fence(facts(&self.fences[name])));
    }

    pub(super) fn call(&mut self, pod: u8, host: &str) {
        let (caller, source) =
            (graph::Caller::Address([10, 244, 0, pod].into()), DependencySource::AccessLog);
        self.graph.apply(Change::Call(Observation { caller, host: host.into(), source, seen: self.now }));
    }

    pub(super) fn plan(&self, name: &str) -> Plan {
        plan(&Input {
            written: None,
            fence: &self.fences[name],
            sidecar: self.sidecars.get(name).map(|(_, sidecar)| sidecar),
            graph: &self.graph,
            settings: &Settings { istio: self.istio.clone(), ..settings() },
            open_all: false,
            since: self.now,
            now: self.now,
        })
    }

    /// Brings one fence about, and tells whether anything changed, and when to look again.
    pub(super) fn step(&mut self, name: &'static str) -> (bool, Option<Timestamp>) {
        let plan = self.plan(name);
        self.take(name, plan)
    }

    /// Brings several fences about that all decide by the same graph, as those do whose writes no watch shows yet.
    pub(super) fn step_together(&mut self, names: &[&'static str]) {
        let there = names.iter().filter(|name| self.fences.contains_key(**name));
        let plans: Vec<_> = there.map(|name| (*name, self.plan(name))).collect();
        for (name, plan) in plans {
            self.take(name, plan);
        }
    }

    fn take(&mut self, name: &'static str, plan: Plan) -> (bool, Option<Timestamp>) {
        let before: Vec<_> = self.pods.keys().map(|pod| self.egress_of(pod)).collect();
        match &plan.sidecar {
            SidecarAction::Leave => {}
            SidecarAction::Warm(sidecar) | SidecarAction::Apply(sidecar) => {
                let created = self.sidecars.get(name).map_or(self.now, |(created, _)| *created);
                let sidecar = managed((**sidecar).clone());
                let origin = Origin::Fence(standing(&sidecar));
                let key = ObjectKey::new("shop", name);
                self.sidecars.insert(name.to_owned(), (created, sidecar));
                self.graph.apply(Change::Sidecar(graph::Sidecar {
                    key,
                    created: Some(created),
                    revision: None,
                    origin,
                }));
            }
            SidecarAction::Adopt(_) | SidecarAction::GiveBack(_) => unreachable!("nobody asks for it"),
            SidecarAction::Delete => {
                self.sidecars.remove(name);
                self.graph.apply(Change::SidecarGone(ObjectKey::new("shop", name)));
            }
        }
        for (pod, before) in self.pods.keys().zip(before) {
            assert_whole(&before, &self.egress_of(pod), pod, name);
        }
        let fence = self.fences.get_mut(name).unwrap();
        let changed = plan.sidecar != SidecarAction::Leave || fence.status.as_ref() != Some(&plan.status);
        let deleted = fence.metadata.deletion_timestamp.is_some();
        fence.status = Some(plan.status);
        if deleted && !plan.hold {
            self.fences.remove(name);
            self.graph.apply(Change::FenceGone(ObjectKey::new("shop", name)));
            return (true, None);
        }
        (changed, plan.wake)
    }

    /// What istiod gives a pod: the oldest Sidecar that selects it.
    pub(super) fn sidecar_of(&self, pod: &str) -> Option<&Sidecar> {
        let labels = &self.pods[pod];
        let selects = |sidecar: &Sidecar| {
            let selector = sidecar.spec.workload_selector.as_ref().unwrap();
            selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let mut all: Vec<_> = self.sidecars.iter().filter(|(_, (_, sidecar))| selects(sidecar)).collect();
        all.sort_by_key(|(name, (created, _))| (*created, (*name).clone()));
        all.first().map(|(_, (_, sidecar))| sidecar)
    }

    pub(super) fn egress_of(&self, pod: &str) -> Egress {
        self.sidecar_of(pod).map_or_else(Egress::open, |sidecar| Egress::of(sidecar, self.now))
    }

    /// Until nothing is left to do.
    pub(super) fn run(&mut self) {
        for _ in 0..200 {
            let names: Vec<_> = self.fences.keys().copied().collect();
            let steps: Vec<_> = names.into_iter().map(|name| self.step(name)).collect();
            let wake = steps.iter().filter_map(|(_, wake)| *wake).min();
            match wake.filter(|_| !steps.iter().any(|(changed, _)| *changed)) {
                Some(wake) => self.now = wake.max(self.now + SignedDuration::from_millis(1)),
                None if steps.iter().any(|(changed, _)| *changed) => {}
                None => return,
            }
        }
        panic!("no end: {:?}", self.sidecars);
    }

    pub(super) fn route_of(&self, pod: &str) -> String {
        self.sidecar_of(pod).map_or_else(|| "open".to_owned(), hosts)
    }

    pub(super) fn said(&self, name: &str, type_: &str) -> Option<(&str, &str)> {
        let conditions = &self.fences[name].status.as_ref()?.conditions;
        let said = conditions.iter().find(|condition| condition.type_ == type_)?;
        Some((&*said.status, &*said.reason))
    }
}

/// The one rule, as a pod lives through it: no route without a cluster that was there before, and no cluster goes
/// while routes change.
fn assert_whole(before: &Egress, after: &Egress, pod: &str, by: &str) {
    assert!(
        after.route.is_within(&before.clusters()),
        "{pod} gets routes before clusters by {by}: {before:?} {after:?}"
    );
    let lost = !before.clusters().is_within(&after.clusters());
    assert!(
        !lost || before.route == after.route,
        "{pod} loses clusters with routes by {by}: {before:?} {after:?}"
    );
    let turned = before.diverted != after.diverted;
    let wide = before.route == Scope::Everything && after.route == Scope::Everything;
    assert!(!turned || wide, "{pod}'s catch-all turns while listeners change by {by}: {before:?} {after:?}");
}
