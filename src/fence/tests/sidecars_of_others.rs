//! Sidecars that somebody else wrote.

use super::*;
use crate::api::{CONFLICT, SidecarPolicy};
use crate::fence::{Egress, Scope};
use crate::graph::{Consent, MeshConfig};
use crate::istio::{
    EgressProxy, OutboundTrafficPolicy, Port, SidecarSpec, WorkloadSelector as SidecarSelector,
};

fn foreign(name: &str, selector: Option<&str>, minutes: i64, hosts: &[&str]) -> graph::Sidecar {
    let listener = EgressListener {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..EgressListener::default()
    };
    let spec = SidecarSpec {
        workload_selector: selector.map(|text| SidecarSelector { labels: labels(text) }),
        egress: vec![listener],
        ingress: vec![serde_json::json!({ "port": { "number": 8080 } })],
        ..SidecarSpec::default()
    };
    let created = "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes);
    graph::Sidecar {
        key: key(name),
        created: Some(created),
        revision: None,
        origin: Origin::Other(Arc::new(spec), Consent::Missing),
    }
}

fn conflict(world: &World) -> Option<&str> {
    let mut conditions = world.fence.status.iter().flat_map(|status| &status.conditions);
    conditions
        .find(|condition| condition.type_ == CONFLICT && condition.status == "True")
        .map(|condition| condition.message.as_str())
}

#[test]
fn a_fence_steps_back_from_a_sidecar_for_its_pods_and_comes_back_when_it_goes() {
    let mut world = World::fenced();
    world.tell([Change::Sidecar(foreign("shop/theirs", Some("app=client"), 0, &["./*"]))]);
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: */* | route: {PROXY}"), "it opens first");
    assert_eq!(ready(&plan.status), ("False", reasons::SIDECAR_CONFLICT));
    assert_eq!(told(&plan), [(reasons::SIDECAR_CONFLICT, true)]);
    assert!(conflict(&world).unwrap().contains("shop/theirs"), "{:?}", conflict(&world));
    world.run();
    assert_eq!(world.hosts(), "no Sidecar");
    assert_eq!(world.reason(), reasons::SIDECAR_CONFLICT);
    world.tell([Change::SidecarGone(key("shop/theirs"))]);
    world.run();
    assert_eq!((world.hosts(), conflict(&world)), (format!("route: {PROXY}"), None));
}

/// The fence's Sidecar as it stands: what it lists, and where unknown calls go.
fn standing_now(world: &World) -> (Scope, Scope, Option<&str>) {
    let Some(sidecar) = &world.sidecar else { return (Scope::nothing(), Scope::nothing(), None) };
    let egress = Egress::of(sidecar, world.now);
    let policy = sidecar.spec.outbound_traffic_policy.as_ref();
    let proxy = policy.and_then(|policy| policy.egress_proxy.as_ref()).map(|proxy| proxy.host.as_str());
    (egress.clusters(), egress.route, proxy)
}

/// Until nothing is left to do; no step takes clusters and routes at once, or routes and the catch-all.
fn run_whole(world: &mut World) {
    for _ in 0..40 {
        let (there, (clusters, route, proxy)) = (world.sidecar.is_some(), standing_now(world));
        let proxy = proxy.map(str::to_owned);
        let plan = world.step();
        if there && world.sidecar.is_some() {
            let (clusters_now, route_now, proxy_now) = standing_now(world);
            let routes = route != route_now;
            assert!(route_now.is_within(&clusters), "{}", world.hosts());
            assert!(!routes || clusters.is_within(&clusters_now), "{}", world.hosts());
            assert!(!routes || proxy.as_deref() == proxy_now, "{}", world.hosts());
        }
        match plan.wake.filter(|_| plan.sidecar == SidecarAction::Leave) {
            Some(wake) => world.now = wake.max(world.now + SignedDuration::from_millis(1)),
            None if world.is_quiet(&world.plan()) && world.plan().wake.is_none() => return,
            None => {}
        }
    }
    panic!("no end: {}", world.hosts());
}

#[test]
fn pods_go_over_to_a_trimmed_sidecar_of_somebody_else_when_ours_says_the_same() {
    for (what, theirs) in [
        ("a default one", foreign("shop/default", None, -5, &["./*"])),
        ("a younger one", foreign("shop/theirs", Some("app=client"), 5, &["./*"])),
    ] {
        let mut world = World::new();
        world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Compose));
        world.run();
        world.call(REVIEWS);
        world.tell([service("shop/reviews"), Change::Sidecar(theirs)]);
        world.run();
        world.edit(|spec| spec.enable = false);
        let mut last = String::new();
        while world.sidecar.is_some() {
            last = format!("{} {:?}", world.hosts(), standing_now(&world).2);
            let plan = world.step();
            if plan.sidecar == SidecarAction::Leave {
                world.now = plan.wake.unwrap();
            }
        }
        assert_eq!(last, format!("keep: {PROXY} | route: ./* None"), "{what}");
    }
}

#[test]
fn a_fence_that_is_wanted_again_on_its_way_to_a_sidecar_of_somebody_else_turns_round() {
    let events: [Case<World>; 3] = [
        ("wanted again", |world| world.edit(|spec| spec.enable = true)),
        ("their Sidecar goes", |world| world.tell([Change::SidecarGone(key("shop/default"))])),
        ("their Sidecar changes", |world| {
            world.tell([Change::Sidecar(foreign("shop/default", None, -5, &["shop/*"]))]);
        }),
    ];
    for (what, event) in events {
        for steps in 0..12 {
            let mut world = World::new();
            world.tell([Change::Sidecar(foreign("shop/default", None, -5, &["./*"]))]);
            world.run();
            world.edit(|spec| spec.enable = false);
            for _ in 0..steps {
                let plan = world.step();
                if let Some(wake) = plan.wake.filter(|_| plan.sidecar == SidecarAction::Leave) {
                    world.now = wake;
                }
            }
            event(&mut world);
            run_whole(&mut world);
            let expected =
                if what == "wanted again" { format!("route: {PROXY}") } else { "no Sidecar".to_owned() };
            assert_eq!(world.hosts(), expected, "{what} after {steps}");
        }
    }
}

#[test]
fn only_a_sidecar_that_selects_pods_of_the_fence_is_a_conflict() {
    for (what, sidecar) in [
        ("other pods", foreign("shop/theirs", Some("app=any"), 0, &[])),
        ("another namespace", foreign("other/theirs", Some("app=client"), 0, &[])),
        ("a default", foreign("shop/default", None, 0, &["./*"])),
    ] {
        let mut world = World::new();
        world.tell([Change::Sidecar(sidecar)]);
        world.run();
        assert_eq!((world.reason(), conflict(&world)), (reasons::FENCED, None), "{what}");
    }
}

#[test]
fn the_sidecar_of_the_fences_name_is_a_conflict_even_if_it_is_for_other_pods() {
    let mut world = World::new();
    world.tell([Change::Sidecar(foreign("shop/client", Some("app=any"), 0, &[]))]);
    world.step();
    assert!(conflict(&world).unwrap().contains("shop/client"), "{:?}", conflict(&world));
}

#[test]
fn a_default_sidecar_is_composed_with() {
    let mut world = World::new();
    world.tell([service("db/mysql"), service("db/redis"), service("shop/other")]);
    let hosts = ["./*", "db/mysql.db.svc.cluster.local"];
    world.tell([Change::Sidecar(foreign("istio-system/default", None, 0, &hosts))]);
    world.run();
    assert_eq!(world.hosts(), format!("route: db/mysql.db.svc.cluster.local {PROXY}"));
    assert_eq!(
        world.sidecar.as_ref().unwrap().spec.ingress,
        [serde_json::json!({ "port": { "number": 8080 } })]
    );
    let status = world.fence.status.clone().unwrap();
    assert_eq!(status.domains["mysql.db.svc.cluster.local"].sources, [DependencySource::Sidecar]);
    world.tell([Change::Sidecar(foreign("shop/default", None, 0, &["db/*"]))]);
    world.run();
    let both = "db/mysql.db.svc.cluster.local db/redis.db.svc.cluster.local";
    assert_eq!(world.hosts(), format!("route: {both} {PROXY}"), "that of its own namespace is nearer");
    world.tell([Change::SidecarGone(key("shop/default")), Change::SidecarGone(key("istio-system/default"))]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
    assert_eq!(world.sidecar.as_ref().unwrap().spec.ingress, [serde_json::Value::Null; 0]);
}

#[test]
fn a_fence_composes_with_a_younger_sidecar_and_steps_back_from_an_older_one() {
    for (minutes, composes) in [(-5, false), (0, false), (5, true)] {
        let mut world = World::new();
        world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Compose));
        world.run();
        world.tell([service("db/mysql")]);
        let hosts = ["db/mysql.db.svc.cluster.local"];
        world.tell([Change::Sidecar(foreign("shop/theirs", Some("app=client"), minutes, &hosts))]);
        world.run();
        if composes {
            assert_eq!(world.hosts(), format!("route: db/mysql.db.svc.cluster.local {PROXY}"));
            assert_eq!((world.reason(), conflict(&world)), (reasons::FENCED, None));
            assert_eq!(world.sidecar.as_ref().unwrap().spec.ingress.len(), 1);
        } else {
            assert_eq!((world.hosts(), world.reason()), ("no Sidecar".to_owned(), reasons::SIDECAR_CONFLICT));
        }
    }
}

#[test]
fn a_fence_hands_its_revision_to_its_sidecar() {
    let mut world = World::new();
    world.fence.metadata.labels = Some(labels("istio.io/rev=canary,team=a"));
    let ours = |world: &World| world.sidecar.as_ref().unwrap().metadata.labels.clone().unwrap();
    world.run();
    assert_eq!(ours(&world), labels("istio.io/rev=canary,app.kubernetes.io/managed-by=palisade"));
    // Pods of another revision lose it, or get it, in one step: it is wide by then. What is for a tag is for all.
    world.tell([Change::Service(tag())]);
    for (revision, expected) in [
        (Some("istio.io/rev=prod"), "app.kubernetes.io/managed-by=palisade"),
        (Some("istio.io/rev=stable"), "istio.io/rev=stable,app.kubernetes.io/managed-by=palisade"),
        (None, "app.kubernetes.io/managed-by=palisade"),
        (Some("istio.io/rev=canary"), "istio.io/rev=canary,app.kubernetes.io/managed-by=palisade"),
    ] {
        world.fence.metadata.labels = revision.map(labels);
        let before = ours(&world);
        for _ in 0..40 {
            if ours(&world) != before {
                break;
            }
            let wide = standing_now(&world).1 == Scope::Everything;
            let plan = world.step();
            assert!(ours(&world) == before || wide, "{}", world.hosts());
            if let Some(wake) = plan.wake.filter(|_| plan.sidecar == SidecarAction::Leave) {
                world.now = wake;
            }
        }
        assert_eq!(ours(&world), labels(expected));
        world.run();
        assert_eq!((world.hosts(), world.reason()), (format!("route: {PROXY}"), reasons::FENCED));
    }
}

#[test]
fn what_a_workload_may_not_reach_it_does_not_reach_over_the_global_proxy() {
    let policy = |mode, proxy: bool| OutboundTrafficPolicy {
        mode,
        egress_proxy: proxy.then(|| EgressProxy { host: "egress.mesh".into(), ..EgressProxy::default() }),
    };
    let (only, any) = (policy(Mode::RegistryOnly, false), policy(Mode::AllowAny, false));
    for (what, mesh_refuses, theirs, hosts, fenced) in [
        ("the mesh refuses what it does not know, and so does the global proxy", true, None, "*/*", true),
        ("the mesh refuses, and the default lists a part of it", true, None, "./*", false),
        ("the default refuses in a mesh that does not", false, Some(&only), "*/*", false),
        ("both refuse", true, Some(&only), "*/*", true),
        ("the default lets out what the mesh would refuse", true, Some(&any), "./*", true),
        ("nobody refuses", false, None, "./*", true),
        ("the default has a way out", false, Some(&policy(Mode::AllowAny, true)), "*/*", false),
    ] {
        let mut world = World::fenced();
        let mut default = foreign("shop/default", None, 0, &[hosts]);
        if let Origin::Other(spec, _) = &mut default.origin {
            Arc::make_mut(spec).outbound_traffic_policy = theirs.cloned();
        }
        let mesh = MeshConfig { registry_only: mesh_refuses, ..MeshConfig::default() };
        world.tell([Change::MeshConfig(mesh), Change::Sidecar(default)]);
        world.run();
        let expected = if fenced { reasons::FENCED } else { reasons::REGISTRY_ONLY };
        assert_eq!((world.reason(), world.has_own_sidecar()), (expected, fenced), "{what}");
        assert_eq!(conflict(&world).is_some(), !fenced, "{what}");
        world.tell([Change::SidecarGone(key("shop/default"))]);
        world.run();
        assert_eq!((world.reason(), conflict(&world)), (reasons::FENCED, None), "{what}");
    }
}

#[test]
fn a_revision_that_somebody_else_gave_our_sidecar_is_left_alone() {
    let mut world = World::fenced();
    world.edit_sidecar(|sidecar| {
        sidecar.labels_mut().insert("istio.io/rev".to_owned(), "theirs".to_owned());
    });
    assert!(world.is_quiet(&world.plan()), "{}", action(&world.plan()));
    world.fence.metadata.labels = Some(labels("istio.io/rev=ours"));
    world.run();
    let sidecar = world.sidecar.as_ref().unwrap();
    assert_eq!(sidecar.labels()["istio.io/rev"], "ours", "unless the fence has one itself");
}

#[test]
fn listeners_of_their_own_are_carried_beside_what_the_fence_lists() {
    let bound = |port: u32, hosts: &[&str]| EgressListener {
        port: Some(Port { number: port, protocol: "TCP".to_owned(), name: format!("port-{port}") }),
        bind: "127.0.0.1".to_owned(),
        capture_mode: "NONE".to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    let with = |name: &str, selector, minutes, listeners: Vec<EgressListener>| {
        let mut sidecar = foreign(name, selector, minutes, &["./*"]);
        if let Origin::Other(spec, _) = &mut sidecar.origin {
            Arc::make_mut(spec).egress.splice(0..0, listeners);
        }
        Change::Sidecar(sidecar)
    };
    let carried = |world: &World| -> Vec<EgressListener> {
        let listeners = &world.sidecar.as_ref().unwrap().spec.egress;
        listeners.iter().filter(|listener| listener.bind == "127.0.0.1").cloned().collect()
    };
    let mut world = World::new();
    world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Compose));
    world.tell([service("db/mysql")]);
    let mysql = || bound(3306, &["db/mysql.db.svc.cluster.local"]);
    world.tell([with("shop/default", None, 0, vec![mysql()])]);
    world.settle();
    assert_eq!(carried(&world), [mysql()], "from the first step on");
    world.run();
    assert_eq!((world.reason(), carried(&world)), (reasons::FENCED, vec![mysql()]));
    let egress = Egress::of(world.sidecar.as_ref().unwrap(), world.now);
    assert_eq!(egress.route, Scope::from_hosts(&["db/mysql.db.svc.cluster.local", PROXY].map(str::to_owned)));
    assert!(world.is_quiet(&world.plan()));
    let selecting =
        with("shop/theirs", Some("app=client"), 5, vec![bound(3306, &["./*"]), bound(80, &["./*"])]);
    world.tell([selecting]);
    world.run();
    assert_eq!(carried(&world), [bound(3306, &["./*"]), bound(80, &["./*"])], "it takes their place");
    world.tell([Change::SidecarGone(key("shop/theirs")), Change::SidecarGone(key("shop/default"))]);
    world.run();
    assert_eq!((world.hosts(), carried(&world)), (format!("route: {PROXY}"), vec![]));
}
