//! Several fences that are for the same pods, and the one Sidecar that istiod gives each pod.

use super::town::Town;
use super::*;
use crate::api::{CONFLICT, ENFORCED, Mode as FenceMode};
use crate::graph::Proxy;

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
fn a_fence_that_is_left_to_another_revision_opens_beside_one_that_stays() {
    for left in ["old", "young"] {
        let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
        town.make("old", "app=a");
        town.make("young", "tier=web");
        town.run();
        town.istio.revisions = vec!["1-31".to_owned()];
        town.edit(left, |fence| fence.metadata.labels = Some(labels("istio.io/rev=1-30")));
        town.run();
        let stays = if left == "old" { "young" } else { "old" };
        assert_eq!(town.sidecars.keys().collect::<Vec<_>>(), [stays]);
        assert_eq!(town.said(left, READY), Some(("True", reasons::OPEN)));
        assert_eq!(town.said(stays, READY), Some(("True", reasons::FENCED)));
    }
}

#[test]
fn a_fence_changes_its_revision_beside_one_that_shares_some_of_its_pods() {
    for changing in ["old", "young"] {
        let mut town = Town::new(&[("a", "app=a"), ("both", "app=a,tier=web"), ("web", "tier=web")]);
        town.make("old", "app=a");
        town.make("young", "tier=web");
        town.run();
        for label in [Some("istio.io/rev=1-31"), Some("istio.io/rev=prod"), None] {
            town.edit(changing, |fence| fence.metadata.labels = label.map(labels));
            town.run();
            let stands = town.sidecars[changing].1.labels().get("istio.io/rev").cloned();
            assert_eq!(stands, label.map(|label| label.trim_start_matches("istio.io/rev=").to_owned()));
            for fence in ["old", "young"] {
                assert_eq!(town.said(fence, READY), Some(("True", reasons::FENCED)), "{fence}: {label:?}");
            }
        }
    }
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

/// What happens to a fence, in words and in fact, and whether its Sidecar has moved.
type Move = (&'static str, fn(&mut ServiceFence), fn(&Town) -> bool);

#[test]
fn a_sidecar_waits_for_a_slower_one_to_be_wide() {
    let opened = |town: &Town| !town.sidecars.contains_key("old");
    let moved = |town: &Town| {
        town.sidecars["old"].1.spec.workload_selector.as_ref().unwrap().labels == labels("tier=db")
    };
    let ways: [Move; 2] = [("goes", disable, opened), ("turns", |fence| select(fence, "tier=db"), moved)];
    for (what, go, gone) in ways {
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
    for pod in [0, 1] {
        town.pod(pod, Proxy::None);
    }
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
    Together(Vec<&'static str>),
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
            Self::Together(names) => town.step_together(&names),
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
        8 => prop::sample::subsequence(vec!["f", "g", "h"], 2..=3).prop_shuffle().prop_map(Event::Together),
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
