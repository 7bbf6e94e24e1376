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
fn a_fence_of_a_revision_is_for_pods_whose_istiod_reads_it() {
    let pod = |revision: Option<&str>| {
        let (key, labels) = (ObjectKey::new("shop", "client-1"), Labels::from(labels("app=client")));
        Change::Pod(Pod { key, labels, revision: revision.map(Into::into), ..Pod::default() })
    };
    for (label, revision, fits) in [
        (Some("istio.io/rev=1-31"), Some("1-31"), true),
        (Some("istio.io/rev=1-31"), Some("1-30"), false),
        (Some("istio.io/rev=1-31"), None, true),
        (Some("istio.io/rev=prod"), Some("1-30"), false),
        (None, Some("1-30"), true),
    ] {
        let mut world = World::new();
        world.fence.metadata.labels = label.map(super::labels);
        world.listed();
        world.tell([pod(revision)]);
        let plan = world.step();
        assert_eq!(action(&plan) != "leave", fits, "{label:?}, {revision:?}");
        assert_eq!(world.reason() == reasons::OTHER_REVISION, !fits, "{label:?}, {revision:?}");
        world.tell([Change::Service(graph::Service {
            key: ObjectKey::new("istio-system", "istiod-revision-tag-prod"),
            labels: Labels::from(super::labels("istio.io/tag=prod,istio.io/rev=1-30")),
            ..graph::Service::default()
        })]);
        world.run();
        let fits = fits || label == Some("istio.io/rev=prod");
        let reason = if fits { reasons::FENCED } else { reasons::OTHER_REVISION };
        assert_eq!(world.reason(), reason, "{label:?}, {revision:?}, now that prod is a tag");
    }
}

#[test]
fn a_fence_in_force_stays_when_its_pods_move_to_another_revision_and_says_so() {
    let mut world = World::new();
    world.fence.metadata.labels = Some(super::labels("istio.io/rev=1-30"));
    world.run();
    let (hosts, labels) = (world.hosts(), Labels::from(super::labels("app=client")));
    let (key, revision) = (ObjectKey::new("shop", "client-1"), Some("1-31".into()));
    world.tell([Change::Pod(Pod { key, labels, revision, ..Pod::default() })]);
    world.run();
    assert_eq!((world.hosts(), world.reason()), (hosts, reasons::OTHER_REVISION));
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
