//! Several fences that are for the same pods, and the one Sidecar that istiod gives each pod.

use super::*;
use crate::api::{CONFLICT, ENFORCED, Mode as FenceMode};
use crate::fence::{Egress, Scope};
use crate::graph::Proxy;

/// A namespace with several fences.
struct Town {
    fences: BTreeMap<&'static str, ServiceFence>,
    /// By name, with when each was made.
    sidecars: BTreeMap<String, (Timestamp, Sidecar)>,
    pods: BTreeMap<&'static str, BTreeMap<String, String>>,
    graph: Graph,
    now: Timestamp,
}

impl Town {
    /// Pods by name and labels.
    fn new(pods: &[(&'static str, &str)]) -> Self {
        let pods: BTreeMap<_, _> = pods.iter().map(|(name, with)| (*name, labels(with))).collect();
        let (fences, sidecars, now) =
            (BTreeMap::new(), BTreeMap::new(), "2026-01-01T12:00:00Z".parse().unwrap());
        let mut town = Self { fences, sidecars, pods: pods.clone(), graph: Graph::new("cluster.local"), now };
        for number in 0..pods.len() {
            town.pod(number, Proxy::Sidecar);
        }
        town.graph.apply(service("shop/reviews"));
        town.graph.apply(service("shop/ratings"));
        town
    }

    /// The pod of this number has this proxy.
    fn pod(&mut self, number: usize, proxy: Proxy) {
        let (name, with) = self.pods.iter().nth(number).unwrap();
        let (key, ips) =
            (ObjectKey::new("shop", *name), vec![[10, 244, 0, u8::try_from(number + 1).unwrap()].into()]);
        let labels = Labels::from(with.clone());
        self.graph.apply(Change::Pod(Pod { key, ips, labels, proxy, ..Pod::default() }));
    }

    fn make(&mut self, name: &'static str, selector: &str) {
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

    fn edit(&mut self, name: &'static str, edit: impl FnOnce(&mut ServiceFence)) {
        if let Some(fence) = self.fences.get_mut(name) {
            edit(fence);
            self.listed(name);
        }
    }

    fn listed(&mut self, name: &str) {
        let fence = &self.fences[name];
        let selector = fence.spec.workload_selector.clone().unwrap().labels;
        self.graph.apply(Change::Fence(Fence {
            key: ObjectKey::of(fence),
            selection: graph::PodSelection::Labels(Labels::from(selector)),
            wants: crate::fence::wants(fence),
            known: Vec::new(),
            learning: None,
            terms: Terms {
                created: fence.metadata.creation_timestamp.as_ref().map(|time| time.0),
                enabled: fence.spec.enable && fence.metadata.deletion_timestamp.is_none(),
                mode: fence.spec.mode,
                ..Terms::default()
            },
        }));
    }

    fn call(&mut self, pod: u8, host: &str) {
        let (caller, source) =
            (graph::Caller::Address([10, 244, 0, pod].into()), DependencySource::AccessLog);
        self.graph.apply(Change::Call(Observation { caller, host: host.into(), source, seen: self.now }));
    }

    fn plan(&self, name: &str) -> Plan {
        plan(&Input {
            fence: &self.fences[name],
            sidecar: self.sidecars.get(name).map(|(_, sidecar)| sidecar),
            graph: &self.graph,
            settings: &settings(),
            open_all: false,
            since: self.now,
            now: self.now,
        })
    }

    /// Brings one fence about, and tells whether anything changed, and when to look again.
    fn step(&mut self, name: &'static str) -> (bool, Option<Timestamp>) {
        let plan = self.plan(name);
        let before: Vec<_> = self.pods.keys().map(|pod| self.egress_of(pod)).collect();
        match &plan.sidecar {
            SidecarAction::Leave => {}
            SidecarAction::Warm(sidecar) | SidecarAction::Apply(sidecar) => {
                let created = self.sidecars.get(name).map_or(self.now, |(created, _)| *created);
                let origin = Origin::Fence(standing(sidecar));
                let key = ObjectKey::new("shop", name);
                self.sidecars.insert(name.to_owned(), (created, (**sidecar).clone()));
                self.graph.apply(Change::Sidecar(graph::Sidecar {
                    key,
                    created: Some(created),
                    revision: None,
                    origin,
                }));
            }
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
    fn sidecar_of(&self, pod: &str) -> Option<&Sidecar> {
        let labels = &self.pods[pod];
        let selects = |sidecar: &Sidecar| {
            let selector = sidecar.spec.workload_selector.as_ref().unwrap();
            selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let mut all: Vec<_> = self.sidecars.iter().filter(|(_, (_, sidecar))| selects(sidecar)).collect();
        all.sort_by_key(|(name, (created, _))| (*created, (*name).clone()));
        all.first().map(|(_, (_, sidecar))| sidecar)
    }

    fn egress_of(&self, pod: &str) -> Egress {
        self.sidecar_of(pod).map_or_else(Egress::open, |sidecar| Egress::of(sidecar, self.now))
    }

    /// Until nothing is left to do.
    fn run(&mut self) {
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

    fn route_of(&self, pod: &str) -> String {
        self.sidecar_of(pod).map_or_else(|| "open".to_owned(), hosts)
    }

    fn said(&self, name: &str, type_: &str) -> Option<(&str, &str)> {
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

fn disable(fence: &mut ServiceFence) {
    fence.spec.enable = false;
}

fn select(fence: &mut ServiceFence, selector: &str) {
    fence.spec.workload_selector.as_mut().unwrap().labels = labels(selector);
}

fn observe(fence: &mut ServiceFence) {
    fence.spec.mode = Some(FenceMode::Observe);
}

fn delete(fence: &mut ServiceFence) {
    fence.metadata.deletion_timestamp = Some(Time(fence.metadata.creation_timestamp.clone().unwrap().0));
}

const REVIEWS_AND_PROXY: &str =
    "route: mesh/proxy.mesh.svc.cluster.local shop/reviews.shop.svc.cluster.local";

#[test]
fn the_older_of_two_fences_for_the_same_pods_carries_the_hosts_of_both() {
    let mut town = Town::new(&[("a", "app=a,tier=web")]);
    town.make("old", "app=a");
    town.make("young", "tier=web");
    town.edit("young", |fence| fence.spec.host = wants(&[REVIEWS]));
    town.run();
    assert_eq!(town.sidecars.keys().collect::<Vec<_>>(), ["old"]);
    assert_eq!(town.route_of("a"), REVIEWS_AND_PROXY);
    assert_eq!(town.said("young", READY), Some(("True", reasons::CARRIED_BY)));
    assert_eq!(town.said("young", ENFORCED), Some(("False", reasons::CARRIED_BY)));
    let none = Some(("False", reasons::AS_EXPECTED));
    assert_eq!((town.said("old", CONFLICT), town.said("young", CONFLICT)), (none, none));
    let domains = &town.fences["old"].status.as_ref().unwrap().domains;
    assert_eq!(domains[REVIEWS].sources, [DependencySource::Fence]);
    town.call(1, "ratings.shop.svc.cluster.local");
    town.run();
    for fence in ["old", "young"] {
        let learned = &town.fences[fence].status.as_ref().unwrap().domains["ratings.shop.svc.cluster.local"];
        assert_eq!(learned.sources, [DependencySource::AccessLog], "{fence} learns");
    }
}

#[test]
fn when_the_carrier_goes_the_next_one_takes_over() {
    for (what, go) in [("disabled", disable as fn(&mut _)), ("observing", observe), ("deleted", delete)] {
        let mut town = Town::new(&[("a", "app=a,tier=web")]);
        town.make("old", "app=a");
        town.make("young", "tier=web");
        town.edit("young", |fence| fence.spec.host = wants(&[REVIEWS]));
        town.run();
        town.edit("old", go);
        town.run();
        assert_eq!(town.sidecars.keys().collect::<Vec<_>>(), ["young"], "{what}");
        assert_eq!(town.route_of("a"), REVIEWS_AND_PROXY, "{what}");
        assert_eq!(town.said("young", ENFORCED), Some(("True", reasons::FENCED)), "{what}");
    }
}

#[test]
fn a_fence_in_force_gives_way_to_an_older_one_that_comes_to_select_its_pods() {
    let mut town = Town::new(&[("a", "app=a,tier=web"), ("b", "app=b")]);
    town.make("old", "app=b");
    town.make("young", "tier=web");
    town.run();
    assert_eq!(town.sidecars.len(), 2);
    town.edit("old", |fence| select(fence, "app=a"));
    town.run();
    assert_eq!(town.sidecars.keys().collect::<Vec<_>>(), ["old"]);
    assert_eq!((town.route_of("a"), town.route_of("b")), (format!("route: {PROXY}"), "open".to_owned()));
}

#[test]
fn fences_that_share_some_pods_both_list_the_hosts_of_both_and_say_so() {
    let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
    town.make("old", "app=a");
    town.make("young", "tier=web");
    town.edit("young", |fence| fence.spec.host = wants(&[REVIEWS]));
    town.run();
    for pod in ["a", "both", "web"] {
        assert_eq!(town.route_of(pod), REVIEWS_AND_PROXY, "{pod}");
    }
    for fence in ["old", "young"] {
        assert_eq!(town.said(fence, CONFLICT), Some(("True", reasons::OVERLAPPING_FENCE)), "{fence}");
        assert_eq!(town.said(fence, ENFORCED), Some(("True", reasons::FENCED)), "{fence}");
    }
    town.edit("old", disable);
    town.run();
    assert_eq!([town.route_of("a"), town.route_of("both")], ["open", REVIEWS_AND_PROXY]);
    assert_eq!(town.said("young", CONFLICT), Some(("False", reasons::AS_EXPECTED)));
}

#[test]
fn pods_that_a_selector_lets_go_change_to_the_other_sidecar_while_both_are_wide() {
    let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
    town.make("old", "tier=web");
    town.make("young", "app=a");
    town.run();
    town.edit("old", |fence| select(fence, "tier=db"));
    town.run();
    let proxy_only = format!("route: {PROXY}");
    assert_eq!(["a", "both", "web"].map(|pod| town.route_of(pod)), [&proxy_only, &proxy_only, "open"]);
    town.edit("old", |fence| select(fence, "app=a,tier=web"));
    town.run();
    assert_eq!(town.said("young", CONFLICT), Some(("True", reasons::OVERLAPPING_FENCE)));
    assert_eq!(town.said("old", ENFORCED), Some(("True", reasons::FENCED)));
}

#[test]
fn a_sidecar_waits_for_a_slower_one_to_be_wide() {
    let opened = |town: &Town| !town.sidecars.contains_key("old");
    let moved = |town: &Town| {
        town.sidecars["old"].1.spec.workload_selector.as_ref().unwrap().labels == labels("tier=db")
    };
    type Move = (&'static str, fn(&mut ServiceFence), fn(&Town) -> bool);
    let moves: [Move; 2] = [("goes", disable, opened), ("turns", |fence| select(fence, "tier=db"), moved)];
    for (what, go, gone) in moves {
        let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
        town.make("old", "tier=web");
        town.make("young", "app=a");
        town.run();
        town.edit("old", go);
        for _ in 0..10 {
            town.step("old");
            town.now += SignedDuration::from_mins(1);
        }
        assert!(!gone(&town), "{what} before the other is wide");
        assert_eq!(town.route_of("both"), "route: */*");
        town.run();
        assert!(gone(&town), "{what} when the other is wide");
    }
}

#[test]
fn a_fence_that_can_do_nothing_for_its_pods_still_lets_others_have_them() {
    let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
    town.make("old", "tier=web");
    town.make("young", "app=a");
    town.run();
    [0, 1].into_iter().for_each(|pod| town.pod(pod, Proxy::None));
    town.edit("old", disable);
    town.run();
    assert_eq!(town.sidecars.keys().collect::<Vec<_>>(), ["young"]);
    assert_eq!(town.said("young", READY), Some(("False", reasons::NO_SIDECAR)));
}

#[derive(Clone, Debug)]
enum Event {
    Select(&'static str, &'static str),
    Make(&'static str, &'static str),
    Enable(&'static str, bool),
    Observe(&'static str, bool),
    Delete(&'static str),
    Wants(&'static str, Vec<&'static str>),
    Call(u8, &'static str),
    Step(&'static str),
    Pause(i64),
}

impl Event {
    fn befall(self, town: &mut Town) {
        match self {
            Self::Make(name, selector) if !town.fences.contains_key(name) => town.make(name, selector),
            Self::Enable(name, enable) => town.edit(name, |fence| fence.spec.enable = enable),
            Self::Observe(name, observe) => town.edit(name, |fence| {
                fence.spec.mode = Some(if observe { FenceMode::Observe } else { FenceMode::Enforce });
            }),
            Self::Delete(name) => town.edit(name, delete),
            Self::Select(name, selector) => town.edit(name, |fence| select(fence, selector)),
            Self::Wants(name, hosts) => town.edit(name, |fence| fence.spec.host = wants(&hosts)),
            Self::Call(pod, host) => town.call(pod, host),
            Self::Step(name) if town.fences.contains_key(name) => drop(town.step(name)),
            Self::Pause(millis) => town.now += SignedDuration::from_millis(millis),
            Self::Make(..) | Self::Step(_) => {}
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let name = || prop::sample::select(vec!["f", "g", "h"]);
    let selector = || prop::sample::select(vec!["app=a", "tier=web", "app=a,tier=web", "app=b"]);
    let hosts = vec![REVIEWS, "ratings.shop.svc.cluster.local"];
    prop_oneof![
        4 => (name(), selector()).prop_map(|(name, selector)| Event::Make(name, selector)),
        2 => (name(), any::<bool>()).prop_map(|(name, enable)| Event::Enable(name, enable)),
        2 => (name(), any::<bool>()).prop_map(|(name, observe)| Event::Observe(name, observe)),
        1 => name().prop_map(Event::Delete),
        2 => (name(), selector()).prop_map(|(name, selector)| Event::Select(name, selector)),
        1 => (name(), prop::sample::subsequence(hosts.clone(), 0..=2)).prop_map(|(name, hosts)| Event::Wants(name, hosts)),
        2 => (1u8..4, prop::sample::select(hosts)).prop_map(|(pod, host)| Event::Call(pod, host)),
        8 => name().prop_map(Event::Step),
        4 => prop_oneof![Just(300), Just(10_000), 40_000i64..60_000].prop_map(Event::Pause),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_to_fences_that_share_pods_no_pod_loses_a_route_before_a_cluster(
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut town = Town::new(&[("a", "app=a"), ("b", "app=b,tier=web"), ("both", "app=a,tier=web")]);
        for event in events {
            event.befall(&mut town);
        }
        town.run();
        let enforcing = |fence: &&ServiceFence| fence.spec.enable && fence.spec.mode != Some(FenceMode::Observe);
        for (pod, with) in &town.pods {
            let selects = |fence: &&ServiceFence| {
                let selector = fence.spec.workload_selector.as_ref().unwrap();
                selector.labels.iter().all(|(key, value)| with.get(key) == Some(value))
            };
            let fences: Vec<_> = town.fences.values().filter(selects).collect();
            let Some(sidecar) = town.sidecar_of(pod) else {
                prop_assert!(!fences.iter().any(enforcing), "{pod} is not fenced");
                continue;
            };
            prop_assert!(fences.iter().any(enforcing), "{pod} is fenced by nobody");
            let routed: BTreeSet<_> = sidecar.spec.egress.last().unwrap().hosts.iter().collect();
            for host in fences.iter().flat_map(|fence| fence.spec.host.keys()) {
                prop_assert!(routed.contains(&format!("shop/{host}")), "{pod} needs {host}: {routed:?}");
            }
            prop_assert!(!routed.contains(&"*/*".to_owned()), "{pod} is not trimmed");
        }
    }
}
