//! What others change: the selector of the fence, and its `Sidecar`.

use super::*;

fn selector(plan: &Plan) -> Option<BTreeMap<String, String>> {
    applied(plan).spec.workload_selector.clone().map(|selector| selector.labels)
}

#[test]
fn pods_that_a_changed_selector_takes_in_or_leaves_change_hands_while_everything_is_routed() {
    let mut world = World::fenced();
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels = labels("app=any"));
    let (old, new) = (Some(labels("app=client")), Some(labels("app=any")));
    let steps = [
        (format!("keep: */* | route: {PROXY}"), old.clone()),
        ("route: */*".to_owned(), old),
        ("route: */*".to_owned(), new.clone()),
        (format!("keep: */* | route: {PROXY}"), new.clone()),
        (format!("route: {PROXY}"), new),
    ];
    for step in steps {
        let plan = world.step();
        assert_eq!((action(&plan), selector(&plan)), step);
        match world.settle() {
            Some(wake) => world.now = wake,
            None => assert_eq!(world.reason(), reasons::FENCED),
        }
    }
}

#[test]
fn a_selector_that_selects_the_same_pods_changes_at_once() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    world.run();
    let known = format!("route: {PROXY} shop/{REVIEWS}");
    world.tell([Change::Pod(Pod {
        key: key("shop/client-1"),
        ips: vec![CALLER.into()],
        labels: Labels::from(labels("app=client,version=v2")),
        ..Pod::default()
    })]);
    let both = labels("app=client,version=v2");
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels.clone_from(&both));
    let plan = world.step();
    assert_eq!((action(&plan), selector(&plan), plan.wake), (known, Some(both), None));
    assert_eq!((ready(&plan.status), told(&plan)), (("True", reasons::FENCED), vec![]));
}

#[test]
fn a_selector_that_somebody_took_off_is_put_back_whatever_the_fence_is_doing() {
    let mut fenced = World::fenced();
    fenced.edit_sidecar(|sidecar| sidecar.spec.workload_selector = None);
    let plan = fenced.step();
    assert_eq!((action(&plan), selector(&plan)), (format!("route: {PROXY}"), Some(labels("app=client"))));
    for (what, open) in OPENINGS {
        let mut world = World::fenced();
        open(&mut world);
        world.step();
        world.edit_sidecar(|sidecar| sidecar.spec.workload_selector = None);
        let plan = world.step();
        assert_eq!(
            (action(&plan), selector(&plan)),
            (format!("keep: */* | route: {PROXY}"), Some(labels("app=client"))),
            "{what}"
        );
    }
}

#[test]
fn a_sidecar_for_nobody_knows_whom_goes_at_once() {
    let mut world = World::fenced();
    world.edit(|spec| spec.enable = false);
    world.select_by_service();
    world.edit_sidecar(|sidecar| sidecar.spec.workload_selector = None);
    assert_eq!(
        action(&world.plan()),
        "delete",
        "it is everybody's, and there is no Service to tell whose it was"
    );
}

#[test]
fn hosts_that_somebody_lists_instead_of_the_fences_leave_again_and_no_step_is_one_that_istio_refuses() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    world.run();
    let before = world.hosts();
    world.edit_sidecar(|sidecar| sidecar.spec.egress[0].hosts = vec!["egress/*".to_owned()]);
    let mut seen = Vec::new();
    while world.hosts() != before {
        let plan = world.step();
        let listeners = &world.sidecar.as_ref().unwrap().spec.egress;
        assert!(
            listeners.iter().all(|listener| !listener.hosts.is_empty()),
            "{seen:?}, then {}",
            world.hosts()
        );
        seen.push(world.hosts());
        assert!(seen.len() < 20, "{seen:?}");
        world.now = world.settle().or(plan.wake).unwrap_or(world.now);
    }
}

#[test]
fn what_others_change_in_our_sidecar_is_put_right() {
    let drifts: [Case<Sidecar>; 8] = [
        ("a policy without the global proxy", |s| {
            s.spec.outbound_traffic_policy.as_mut().unwrap().egress_proxy = None;
        }),
        ("no policy", |s| s.spec.outbound_traffic_policy = None),
        ("another mode", |s| s.spec.outbound_traffic_policy.as_mut().unwrap().mode = Mode::RegistryOnly),
        ("another port", |s| {
            let policy = s.spec.outbound_traffic_policy.as_mut().unwrap();
            policy.egress_proxy.as_mut().unwrap().port.number = 1;
        }),
        ("no label", |s| s.metadata.labels = None),
        ("another label value", |s| s.metadata.labels = Some(labels("app.kubernetes.io/managed-by=me"))),
        ("an extra listener", |s| {
            let bind = "127.0.0.1".to_owned();
            s.spec.egress.push(EgressListener { bind, ..EgressListener::default() });
        }),
        ("an address of the captured traffic's listener", |s| s.spec.egress[0].bind = "127.0.0.1".to_owned()),
    ];
    for (what, drift) in drifts {
        let mut world = World::fenced();
        let before = world.sidecar.clone();
        world.edit_sidecar(drift);
        let plan = world.step();
        assert_eq!((Some(applied(&plan)), plan.hold), (before.as_ref(), true), "{what}");
        assert_eq!((plan.wake, told(&plan)), (None, vec![]), "{what}");
        assert!(world.is_quiet(&world.plan()), "{what}");
    }
}

#[test]
fn a_host_that_somebody_added_by_hand_leaves_like_any_other() {
    let mut world = World::fenced();
    world.edit_sidecar(|sidecar| sidecar.spec.egress[0].hosts.push("other/by-hand".to_owned()));
    assert_eq!(action(&world.step()), format!("keep: other/by-hand | route: {PROXY}"));
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
}

#[test]
fn a_sidecar_whose_hosts_somebody_deleted_is_fenced_anew() {
    let mut world = World::fenced();
    world.edit_sidecar(|sidecar| sidecar.spec.egress.clear());
    assert_eq!(action(&world.plan()), "route: */*");
    world.turn();
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY}"));
    let mut world = World::fenced();
    world.sidecar = None;
    assert_eq!(action(&world.plan()), "route: */*");
    world.turn();
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY}"));
}

#[test]
fn what_others_add_to_our_sidecar_is_no_reason_to_write() {
    let additions: [Case<Sidecar>; 3] = [
        ("a label", |s| drop(s.metadata.labels.as_mut().unwrap().insert("team".to_owned(), "a".to_owned()))),
        ("an annotation", |s| {
            drop(s.metadata.annotations.as_mut().unwrap().insert("note".to_owned(), "a".to_owned()));
        }),
        ("an owner", |s| {
            let other = OwnerReference { uid: "uid-2".to_owned(), ..OwnerReference::default() };
            s.metadata.owner_references.as_mut().unwrap().push(other);
        }),
    ];
    for (what, add) in additions {
        let mut world = World::fenced();
        world.edit_sidecar(add);
        assert!(world.is_quiet(&world.plan()), "{what}: {}", action(&world.plan()));
    }
}

#[test]
fn a_lost_annotation_is_no_matter_when_nothing_is_under_way() {
    let mut world = World::fenced();
    world.edit_sidecar(|sidecar| sidecar.metadata.annotations = None);
    assert!(world.is_quiet(&world.plan()));
}

#[test]
fn a_step_whose_time_was_lost_begins_anew() {
    let mut widening = World::new();
    widening.settle();
    let mut draining = World::widened();
    draining.settle();
    let mut warming = World::fenced();
    warming.tell([service("shop/reviews")]);
    warming.call(REVIEWS);
    warming.step();
    let kept = format!("keep: shop/{REVIEWS} | route: {PROXY}");
    let cases = [
        (widening, "route: */*".to_owned(), WIDENED, 10_000),
        (draining, format!("keep: */* | route: {PROXY}"), ROUTES_REMOVED, 50_000),
        (warming, kept, CLUSTERS_ADDED, 300),
    ];
    for (mut world, same, annotation, pause) in cases {
        world.now += SignedDuration::from_millis(10);
        world.edit_sidecar(|sidecar| sidecar.metadata.annotations = None);
        let plan = world.step();
        assert_eq!((action(&plan), plan.wake), (same, Some(world.now + SignedDuration::from_millis(pause))));
        let since = applied(&plan).metadata.annotations.as_ref().and_then(|all| all.get(annotation));
        assert_eq!(since, Some(&world.now.to_string()));
        world.run();
    }
}
