//! Pods that no Sidecar can configure.

use super::*;
use crate::graph::{Namespace, Proxy};

fn with_pod(world: &mut World, name: &str, proxy: Proxy, more: &str) {
    let key = ObjectKey::new("shop", name);
    let labels = Labels::from(labels(&format!("app=client,{more}")));
    world.tell([Change::Pod(Pod { key, labels, proxy, ..Pod::default() })]);
}

fn namespaced(world: &mut World, with: &str) {
    world.tell([Change::Namespace(Namespace { name: "shop".into(), labels: Labels::from(labels(with)) })]);
}

#[test]
fn a_fence_whose_pods_have_no_sidecar_says_what_they_have_and_writes_nothing() {
    let ambient = "istio.io/dataplane-mode=ambient";
    let cases = [
        ("no proxy", Proxy::None, "", "", reasons::NO_SIDECAR),
        ("a gateway", Proxy::Gateway, "", "", reasons::GATEWAY),
        ("another's gateway", Proxy::None, "gateway.networking.k8s.io/gateway-name=g", "", reasons::GATEWAY),
        ("a waypoint", Proxy::Waypoint, "", ambient, reasons::WAYPOINT),
        ("the host's network", Proxy::HostNetwork, "", ambient, reasons::HOST_NETWORK),
        ("an ambient pod", Proxy::None, ambient, "", reasons::AMBIENT),
        ("an ambient namespace", Proxy::None, "", ambient, reasons::AMBIENT),
        ("a pod kept out of it", Proxy::None, "istio.io/dataplane-mode=none", ambient, reasons::NO_SIDECAR),
    ];
    for (what, proxy, pod, namespace, reason) in cases {
        let mut world = World::new();
        with_pod(&mut world, "client-1", proxy, pod);
        namespaced(&mut world, namespace);
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold), ("leave".to_owned(), false), "{what}");
        assert_eq!(ready(&plan.status), ("False", reason), "{what}");
        assert!(plan.transitions.iter().any(|transition| transition.warning), "{what}");
        assert!(world.is_quiet(&world.plan()), "{what} is told once");
    }
}

#[test]
fn one_pod_with_a_sidecar_is_enough() {
    let mut world = World::new();
    for (number, proxy) in [Proxy::None, Proxy::Gateway, Proxy::HostNetwork].into_iter().enumerate() {
        with_pod(&mut world, &format!("a{number}"), proxy, "");
    }
    namespaced(&mut world, "istio.io/dataplane-mode=ambient");
    assert_ne!(action(&world.step()), "leave", "a sidecar wins over the ambient mesh");
    assert_eq!(world.reason(), reasons::FENCING);
}

#[test]
fn of_several_reasons_the_same_one_is_told_in_any_order() {
    for order in [[Proxy::None, Proxy::Gateway], [Proxy::Gateway, Proxy::None]] {
        let mut world = World::new();
        with_pod(&mut world, "client-1", order[0], "");
        with_pod(&mut world, "client-2", order[1], "");
        assert_eq!(ready(&world.step().status), ("False", reasons::GATEWAY));
    }
}

#[test]
fn a_sidecar_is_not_written_before_the_first_pod_and_stays_after_the_last() {
    let mut world = World::new();
    world.tell([Change::PodGone(key("shop/client-1"))]);
    let plan = world.step();
    assert_eq!((action(&plan), ready(&plan.status)), ("leave".to_owned(), ("False", reasons::NO_PODS)));
    assert_eq!(plan.transitions, [], "it is nothing to do about");
    with_pod(&mut world, "client-1", Proxy::Sidecar, "");
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
    world.tell([Change::PodGone(key("shop/client-1"))]);
    assert!(world.is_quiet(&world.plan()), "it was scaled to zero");
}

#[test]
fn a_fence_that_closes_opens_whatever_its_pods_have_become() {
    let mut world = World::fenced();
    with_pod(&mut world, "client-1", Proxy::None, "");
    let plan = world.step();
    assert_eq!((action(&plan), plan.hold), ("leave".to_owned(), true));
    assert_eq!(world.reason(), reasons::NO_SIDECAR);
    world.edit(|spec| spec.enable = false);
    world.run();
    assert_eq!((world.sidecar.is_none(), world.reason()), (true, reasons::OPEN));
}

#[test]
fn nothing_is_fenced_in_a_system_namespace() {
    let mut world = World::new();
    let mut settings = settings();
    settings.defaults.system_namespaces.push("shop".to_owned());
    let plan = plan(&Input {
        written: None,
        fence: &world.fence,
        sidecar: None,
        graph: &world.graph,
        settings: &settings,
        open_all: false,
        since: world.since,
        now: world.now,
    });
    assert_eq!(
        (action(&plan), ready(&plan.status)),
        ("leave".to_owned(), ("False", reasons::SYSTEM_NAMESPACE))
    );
    world.take(&plan);
    for usual in ["kube-system", "kube-public", "kube-node-lease", "istio-system"] {
        assert!(Defaults::default().system_namespaces.contains(&usual.to_owned()), "{usual}");
    }
}
