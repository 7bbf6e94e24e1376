//! Pods that no Sidecar can configure.

use super::*;
use crate::api::ENFORCED;
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

fn injected_by(revision: Option<&str>) -> Change {
    let (key, labels) = (ObjectKey::new("shop", "client-1"), Labels::from(labels("app=client")));
    Change::Pod(Pod { key, labels, revision: revision.map(Into::into), ..Pod::default() })
}

/// The reasons of `Ready` and of `Enforced`.
fn said(world: &World) -> (String, String) {
    let status = world.fence.status.as_ref().unwrap();
    let reason = |condition: &str| {
        let said = status.conditions.iter().find(|said| said.type_ == condition).unwrap();
        format!("{} {}", said.status, said.reason)
    };
    (reason(READY), reason(ENFORCED))
}

#[test]
fn a_fence_whose_label_its_pods_istiods_do_not_read_says_so() {
    let (fenced, unread) = ("True Fenced", "False OtherRevision");
    for (label, revision, without, with) in [
        (Some("istio.io/rev=1-31"), Some("1-31"), fenced, fenced),
        (Some("istio.io/rev=1-31"), Some("1-30"), unread, unread),
        (Some("istio.io/rev=1-31"), None, fenced, fenced),
        (Some("istio.io/rev=prod"), Some("1-30"), unread, fenced),
        (None, Some("1-30"), fenced, fenced),
    ] {
        let mut world = World::new();
        world.fence.metadata.labels = label.map(labels);
        world.listed();
        world.tell([injected_by(revision), service("shop/reviews"), service("shop/ratings")]);
        for (tagged, expected) in [(false, without), (true, with), (false, without)] {
            let key = tag().key;
            world.tell([if tagged { Change::Service(tag()) } else { Change::ServiceGone(key) }]);
            world.run();
            let what = format!("{label:?}, {revision:?}, prod is a tag: {tagged}");
            assert_eq!(said(&world), (expected.to_owned(), expected.to_owned()), "{what}");
            assert!(world.is_quiet(&world.plan()), "{what}");
        }
    }
}

#[test]
fn whoever_labelled_the_sidecar_so_that_nobody_reads_it_a_fence_tells_and_goes_on() {
    let mut world = World::new();
    world.tell([injected_by(Some("1-31")), service("shop/reviews")]);
    world.run();
    world.edit_sidecar(|sidecar| {
        sidecar.labels_mut().insert("istio.io/rev".to_owned(), "1-30".to_owned());
    });
    world.run();
    assert_eq!(world.reason(), reasons::OTHER_REVISION);
    let pod = Pod { key: ObjectKey::new("shop", "client-2"), ..Pod::default() };
    let labels = Labels::from(labels("app=client"));
    world.tell([Change::Pod(Pod { labels: labels.clone(), proxy: Proxy::None, ..pod.clone() })]);
    world.run();
    assert_eq!(world.reason(), reasons::OTHER_REVISION, "a pod without a proxy reads none either");
    world.tell([Change::Pod(Pod { labels, revision: Some("1-30".into()), ..pod })]);
    world.run();
    assert_eq!(world.reason(), reasons::FENCED, "one pod is enough");
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
