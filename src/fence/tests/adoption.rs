//! A Sidecar that its owner lets a fence take over.

use super::*;
use crate::api::{CONFLICT, SidecarPolicy};
use crate::fence::ADOPTED;
use crate::istio::{SidecarSpec, WorkloadSelector as SidecarSelector};

const MYSQL: &str = "db/mysql.db.svc.cluster.local";

/// The user's Sidecar of the fence's name, for its pods.
fn theirs() -> Sidecar {
    let hosts = ["./*", MYSQL].map(str::to_owned).to_vec();
    let spec = SidecarSpec {
        workload_selector: Some(SidecarSelector { labels: labels("app=client") }),
        egress: vec![EgressListener { hosts, ..EgressListener::default() }],
        ingress: vec![serde_json::json!({ "port": { "number": 8080 } })],
        ..SidecarSpec::default()
    };
    let mut sidecar = Sidecar::new("client", spec);
    sidecar.metadata.namespace = Some("shop".to_owned());
    sidecar.metadata.uid = Some("uid-of-theirs".to_owned());
    sidecar.metadata.resource_version = Some("7".to_owned());
    sidecar.metadata.annotations = Some(labels("palisade.io/adopt=true"));
    written_by(sidecar, "kubectl-client-side-apply", "Update")
}

fn written_by(mut sidecar: Sidecar, manager: &str, operation: &str) -> Sidecar {
    let entry = ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(serde_json::json!({ "f:spec": { "f:egress": {} } }))),
        ..ManagedFieldsEntry::default()
    };
    sidecar.metadata.managed_fields.get_or_insert_default().push(entry);
    sidecar
}

/// A fence with policy `Adopt`, beside that Sidecar.
fn beside(sidecar: Sidecar) -> World {
    let mut world = World::new();
    world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Adopt));
    world.tell([service("db/mysql"), service("shop/reviews")]);
    world.sidecar = Some(sidecar);
    world.sidecar_listed();
    world
}

/// What a plan says of calls to unknown hosts.
fn applied_policy(plan: &Plan) -> Option<&crate::istio::OutboundTrafficPolicy> {
    match &plan.sidecar {
        SidecarAction::Adopt(sidecar) => sidecar.spec.outbound_traffic_policy.as_ref(),
        _ => applied(plan).spec.outbound_traffic_policy.as_ref(),
    }
}

fn conflict(world: &World) -> Option<&str> {
    let mut conditions = world.fence.status.iter().flat_map(|status| &status.conditions);
    conditions
        .find(|condition| condition.type_ == CONFLICT && condition.status == "True")
        .map(|condition| condition.message.as_str())
}

#[test]
fn a_sidecar_is_taken_over_in_place_step_by_step_and_given_back_as_it_was() {
    let mut world = beside(theirs());
    let plan = world.step();
    assert_eq!(action(&plan), format!("adopt: keep: {PROXY} | route: ./* {MYSQL}"), "clusters first");
    assert_eq!(applied_policy(&plan), None);
    let SidecarAction::Adopt(adopted) = &plan.sidecar else { panic!("{}", action(&plan)) };
    assert_eq!(adopted.metadata.uid.as_deref(), Some("uid-of-theirs"));
    assert_eq!(
        adopted.metadata.resource_version.as_deref(),
        Some("7"),
        "what was looked at, and nothing newer"
    );
    assert!(plan.hold && world.has_own_sidecar());
    assert_eq!(ready(&plan.status), ("False", reasons::FENCING));
    world.now = world.settle().unwrap();
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: {PROXY} | route: ./* {MYSQL}"));
    assert!(applied_policy(&plan).is_some(), "then only the catch-all turns");
    world.now = world.settle().unwrap();
    assert_eq!(action(&world.step()), format!("keep: ./* | route: {MYSQL} {PROXY}"), "then routes");
    world.run();
    assert_eq!((world.hosts(), world.reason()), (format!("route: {MYSQL} {PROXY}"), reasons::FENCED));
    assert_eq!(conflict(&world), None);
    let sidecar = world.sidecar.clone().unwrap();
    assert_eq!(sidecar.spec.ingress, theirs().spec.ingress);
    assert_eq!(serde_json::from_str::<SidecarSpec>(&sidecar.annotations()[ADOPTED]).unwrap(), theirs().spec);
    world.call(REVIEWS);
    world.run();
    assert_eq!(world.hosts(), format!("route: {MYSQL} {PROXY} shop/{REVIEWS}"));

    world.edit(|spec| spec.enable = false);
    assert_eq!(
        action(&world.step()),
        format!("keep: ./* | route: {MYSQL} {PROXY} shop/{REVIEWS}"),
        "clusters"
    );
    world.now = world.settle().unwrap();
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: {PROXY} shop/{REVIEWS} | route: ./* {MYSQL}"), "then routes");
    assert!(applied_policy(&plan).is_some());
    world.now = world.settle().unwrap();
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: {PROXY} shop/{REVIEWS} | route: ./* {MYSQL}"));
    assert_eq!(applied_policy(&plan), None, "then only the catch-all turns");
    world.now = world.settle().unwrap();
    assert_eq!(action(&world.step()), format!("give back: route: ./* {MYSQL}"));
    world.run();
    let back = world.sidecar.clone().unwrap();
    assert_eq!(back.spec, theirs().spec);
    assert_eq!(back.metadata.annotations, theirs().metadata.annotations);
    assert_eq!((back.metadata.labels, back.metadata.owner_references), (None, None));
    assert_eq!(world.reason(), reasons::OPEN);
    assert!(world.is_quiet(&world.plan()) && !world.plan().hold);
    world.edit(|spec| spec.enable = true);
    world.run();
    assert_eq!(world.reason(), reasons::FENCED, "and taken over again");
}

#[test]
fn a_sidecar_goes_back_when_the_fence_goes_or_no_longer_adopts() {
    let goings: [Case<World>; 3] = [
        ("deleted", |world| world.fence.metadata.deletion_timestamp = Some(Time(world.now))),
        ("defers", |world| world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Defer))),
        ("bounded", |world| {
            let spec = SidecarSpec {
                outbound_traffic_policy: Some(crate::istio::OutboundTrafficPolicy::default()),
                ..theirs().spec
            };
            world.edit_sidecar(|sidecar| {
                let text = serde_json::to_string(&spec).unwrap();
                sidecar.annotations_mut().insert(ADOPTED.to_owned(), text);
            });
        }),
    ];
    for (what, go) in goings {
        let mut world = beside(theirs());
        world.run();
        go(&mut world);
        world.run();
        assert!(!world.has_own_sidecar(), "{what}");
        assert_eq!(world.sidecar.as_ref().unwrap().spec.egress, theirs().spec.egress, "{what}");
    }
}

#[test]
fn what_keeps_a_sidecar_from_being_taken_over_is_told() {
    let edited = |edit: fn(&mut Sidecar)| {
        let mut sidecar = theirs();
        edit(&mut sidecar);
        sidecar
    };
    for (sidecar, told) in [
        (edited(|sidecar| sidecar.metadata.annotations = None), "palisade.io/adopt=true"),
        (written_by(theirs(), "kustomize-controller", "Apply"), "kustomize-controller"),
        (edited(|s| s.metadata.labels = Some(labels("app.kubernetes.io/managed-by=Helm"))), "Helm"),
        (edited(|s| s.metadata.labels = Some(labels("istio.io/rev=canary"))), "istio.io/rev"),
        (
            edited(|s| s.spec.workload_selector.as_mut().unwrap().labels = labels("app=any")),
            "make their selectors the same",
        ),
        (edited(|s| s.spec.workload_selector = None), "make their selectors the same"),
        (
            edited(|s| {
                s.spec.egress[0].port = Some(crate::istio::Port { number: 9080, ..Default::default() });
            }),
            "on ports of their own",
        ),
    ] {
        let mut world = beside(sidecar);
        assert_eq!(action(&world.step()), "leave", "{told}");
        assert_eq!(world.reason(), reasons::SIDECAR_CONFLICT);
        assert!(conflict(&world).unwrap().contains(told), "{:?}", conflict(&world));
        assert!(!world.plan().hold);
    }
}

#[test]
fn a_sidecar_goes_back_before_its_fence_turns_to_other_pods() {
    let mut world = beside(theirs());
    world.run();
    let selector = |world: &World| world.sidecar.as_ref().unwrap().spec.workload_selector.clone();
    let was = selector(&world);
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels = labels("app=any"));
    let mut said = Vec::new();
    while world.has_own_sidecar() {
        let plan = world.step();
        if plan.sidecar == SidecarAction::Leave {
            world.now = plan.wake.unwrap();
        }
        assert_ne!(world.hosts(), "route: */*", "no pod changes hands, so it need not be wide");
        assert_eq!(selector(&world), was, "it is for the pods that it was for");
        said.extend(conflict(&world).map(str::to_owned));
    }
    world.run();
    assert!(said.iter().all(|said| said.contains("make their selectors the same")), "{said:?}");
    assert_eq!(world.sidecar.as_ref().unwrap().spec, theirs().spec);
    assert_eq!(world.reason(), reasons::SIDECAR_CONFLICT);
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels = labels("app=client"));
    world.run();
    assert_eq!((world.reason(), conflict(&world)), (reasons::FENCED, None), "and taken over again");
}

#[test]
fn a_pod_that_only_one_selector_is_for_gives_a_sidecar_back() {
    let mut world = beside(theirs());
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels = labels("app=client,tier=web"));
    world.tell([Change::Pod(Pod {
        key: key("shop/client-1"),
        ips: vec![CALLER.into()],
        labels: Labels::from(labels("app=client,tier=web")),
        ..Pod::default()
    })]);
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
    assert_eq!(world.sidecar.as_ref().unwrap().spec.workload_selector, theirs().spec.workload_selector);
    world.tell([Change::Pod(Pod {
        key: key("shop/client-2"),
        labels: Labels::from(labels("app=client")),
        ..Pod::default()
    })]);
    world.run();
    assert_eq!(world.sidecar.as_ref().unwrap().spec, theirs().spec);
    assert_eq!(world.reason(), reasons::SIDECAR_CONFLICT);
}

#[test]
fn a_sidecar_that_somebody_writes_again_is_left_to_them() {
    let mut world = beside(theirs());
    world.run();
    world.edit_sidecar(|sidecar| {
        sidecar.spec.egress = theirs().spec.egress;
        *sidecar = written_by(sidecar.clone(), "argocd-controller", "Update");
    });
    assert_eq!(action(&world.step()), "leave");
    assert!(conflict(&world).unwrap().contains("argocd-controller"), "{:?}", conflict(&world));
    assert_eq!(world.reason(), reasons::SIDECAR_CONFLICT);
    world.edit(|spec| spec.sidecar_policy = Some(SidecarPolicy::Defer));
    let plan = world.step();
    assert_eq!(action(&plan), format!("give back: route: ./* {MYSQL}"));
    let SidecarAction::GiveBack(back) = plan.sidecar else { panic!("{}", action(&plan)) };
    assert_eq!(back.spec, theirs().spec, "without the detour");
    assert!(!world.has_own_sidecar());
}

#[test]
fn fields_are_taken_from_others_once() {
    let fresh = beside(theirs()).step();
    let SidecarAction::Adopt(mut sidecar) = fresh.sidecar else { panic!("{}", action(&fresh)) };
    assert!(!crate::fence::may_force(&sidecar), "its hosts are changed already");
    sidecar.annotations_mut().remove(CLUSTERS_ADDED);
    assert!(crate::fence::may_force(&sidecar), "its hosts are still as they were");
    sidecar.annotations_mut().insert(ROUTES_REMOVED.to_owned(), "2026-01-01T12:00:00Z".to_owned());
    assert!(!crate::fence::may_force(&sidecar));
    sidecar.annotations_mut().remove(ADOPTED);
    assert!(crate::fence::may_force(&sidecar), "one that the fence made");
}
