//! How a workload is fenced for the first time.

use super::*;
use crate::istio::ANALYZE_SUPPRESS;

#[test]
fn a_new_fence_routes_to_everything_until_the_catch_all_has_turned() {
    let mut world = World::new();
    let plan = world.step();
    assert!(plan.hold);
    let turned = "2026-01-01T12:00:10.25Z".parse().unwrap();
    assert_eq!(plan.wake, Some(turned));
    assert_snapshot!(serde_saphyr::to_string(applied(&plan)).unwrap(), @r#"
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata:
      annotations:
        galley.istio.io/analyze-suppress: IST0002
        palisade.io/widened: "2026-01-01T12:00:00.25Z"
      labels:
        app.kubernetes.io/managed-by: palisade
      name: client
      namespace: shop
      ownerReferences:
      - apiVersion: microservice.slime.io/v1alpha1
        controller: true
        kind: ServiceFence
        name: client
        uid: uid-1
    spec:
      workloadSelector:
        labels:
          app: client
      egress:
      - hosts:
        - "*/*"
      outboundTrafficPolicy:
        mode: ALLOW_ANY
        egressProxy:
          host: proxy.mesh.svc.cluster.local
          port:
            number: 15001
    "#);
    assert_snapshot!(serde_saphyr::to_string(&plan.status).unwrap(), @r#"
    observedGeneration: 1
    conditions:
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: the Sidecar is being brought in
      observedGeneration: 1
      reason: Fencing
      status: "False"
      type: Ready
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: the Sidecar is being brought in
      observedGeneration: 1
      reason: Fencing
      status: "False"
      type: Enforced
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: nobody else is for the same pods
      observedGeneration: 1
      reason: AsExpected
      status: "False"
      type: Conflict
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: no call of the workload was seen yet
      observedGeneration: 1
      reason: NoCallsSeen
      status: "False"
      type: Learning
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: nothing is left out
      observedGeneration: 1
      reason: AsExpected
      status: "False"
      type: Degraded
    mode: Enforce
    observed:
      kept: 1
      cut: 0
    hosts: 0
    "#);
    world.now = turned - SignedDuration::from_millis(1);
    let plan = world.step();
    assert_eq!((action(&plan), plan.hold, plan.wake), ("leave".to_owned(), true, Some(turned)));
}

#[test]
fn an_empty_fence_routes_to_the_global_proxy_and_keeps_every_cluster_at_first() {
    let plan = World::widened().plan();
    assert!(plan.hold);
    assert_eq!(plan.wake, Some("2026-01-01T12:01:00.25Z".parse().unwrap()));
    assert_snapshot!(serde_saphyr::to_string(applied(&plan)).unwrap(), @r#"
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata:
      annotations:
        galley.istio.io/analyze-suppress: IST0002
        palisade.io/routes-removed: "2026-01-01T12:00:10.25Z"
      labels:
        app.kubernetes.io/managed-by: palisade
      name: client
      namespace: shop
      ownerReferences:
      - apiVersion: microservice.slime.io/v1alpha1
        controller: true
        kind: ServiceFence
        name: client
        uid: uid-1
    spec:
      workloadSelector:
        labels:
          app: client
      egress:
      - port:
          protocol: HTTP
          name: keep
        bind: unix://@palisade-keep
        captureMode: NONE
        hosts:
        - "*/*"
      - hosts:
        - mesh/proxy.mesh.svc.cluster.local
      outboundTrafficPolicy:
        mode: ALLOW_ANY
        egressProxy:
          host: proxy.mesh.svc.cluster.local
          port:
            number: 15001
    "#);
    assert_snapshot!(serde_saphyr::to_string(&plan.status).unwrap(), @r#"
    observedGeneration: 1
    conditions:
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: the Sidecar is being brought in
      observedGeneration: 1
      reason: Fencing
      status: "False"
      type: Ready
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: the Sidecar is being brought in
      observedGeneration: 1
      reason: Fencing
      status: "False"
      type: Enforced
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: nobody else is for the same pods
      observedGeneration: 1
      reason: AsExpected
      status: "False"
      type: Conflict
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: no call of the workload was seen yet
      observedGeneration: 1
      reason: NoCallsSeen
      status: "False"
      type: Learning
    - lastTransitionTime: "2026-01-01T12:00:00Z"
      message: nothing is left out
      observedGeneration: 1
      reason: AsExpected
      status: "False"
      type: Degraded
    mode: Enforce
    observed:
      kept: 1
      cut: 0
    hosts: 0
    "#);
}

#[test]
fn an_empty_fence_lists_only_the_global_proxy_when_old_routes_have_drained() {
    let mut world = World::widened();
    let drained = world.settle().unwrap();
    assert_eq!(drained, world.now + SignedDuration::from_secs(50));
    world.now = drained - SignedDuration::from_millis(1);
    assert_eq!(action(&world.plan()), "leave");
    world.now = drained;
    let plan = world.step();
    assert_eq!((action(&plan), plan.wake), (format!("route: {PROXY}"), None));
}

#[test]
fn a_wide_sidecar_is_fencing_and_a_trimmed_one_fenced() {
    let mut world = World::new();
    let wide = world.step();
    assert_eq!((action(&wide), told(&wide)), ("route: */*".to_owned(), vec![]));
    let waiting = world.step();
    assert_eq!((action(&waiting), told(&waiting)), ("leave".to_owned(), vec![]));
    assert_eq!(ready(&waiting.status), ("False", reasons::FENCING), "the Sidecar that is there is wide");
    world.now = waiting.wake.unwrap();
    let trimming = world.step();
    assert_eq!(action(&trimming), format!("keep: */* | route: {PROXY}"));
    assert_eq!((ready(&trimming.status), told(&trimming)), (("False", reasons::FENCING), vec![]));
    let trimmed = world.step();
    assert_eq!(action(&trimmed), "leave");
    assert_eq!(ready(&trimmed.status), ("True", reasons::FENCED));
    assert_eq!(told(&trimmed), [(reasons::FENCED, false)]);
}

#[test]
fn a_wide_sidecar_that_lost_its_annotation_waits_anew() {
    let mut world = World::new();
    let first = world.settle().unwrap();
    world.now = first - SignedDuration::from_millis(1);
    world.edit_sidecar(|sidecar| sidecar.metadata.annotations = None);
    let (lost, again) = (world.now, world.now + SignedDuration::from_secs(10));
    let plan = world.step();
    assert_eq!((action(&plan), plan.wake), ("route: */*".to_owned(), Some(again)));
    assert_eq!(
        applied(&plan).metadata.annotations,
        Some(labels(&format!("{ANALYZE_SUPPRESS}=IST0002,{WIDENED}={lost}")))
    );
    for early in [first, again - SignedDuration::from_millis(1)] {
        world.now = early;
        let plan = world.step();
        assert_eq!((action(&plan), plan.wake), ("leave".to_owned(), Some(again)), "at {early}");
        assert_eq!(world.reason(), reasons::FENCING, "at {early}");
    }
    world.now = again;
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY}"));
}

#[test]
fn a_selector_that_changes_while_the_sidecar_is_wide_is_no_reason_to_trim_early() {
    let mut world = World::new();
    let turned = world.settle();
    world.now += SignedDuration::from_secs(1);
    world.edit(|spec| spec.workload_selector.as_mut().unwrap().labels = labels("app=any"));
    let plan = world.step();
    assert_eq!(
        (action(&plan), plan.wake),
        ("leave".to_owned(), turned),
        "it is still turning for the others"
    );
    world.now = turned.unwrap();
    let plan = world.step();
    let again = world.now + SignedDuration::from_secs(10);
    assert_eq!((action(&plan), plan.wake), ("route: */*".to_owned(), Some(again)));
    world.now = again;
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY}"));
}

#[test]
fn what_is_learned_while_the_sidecar_is_wide_is_routed_when_it_is_trimmed() {
    let mut world = World::new();
    world.tell([service("shop/reviews")]);
    let turned = world.settle().unwrap();
    world.now += SignedDuration::from_secs(1);
    world.call(REVIEWS);
    let plan = world.step();
    assert_eq!((action(&plan), plan.wake), ("leave".to_owned(), Some(turned)), "it does not wait any longer");
    assert_eq!(plan.status.domains.keys().collect::<Vec<_>>(), [REVIEWS], "knowledge is durable first");
    world.now = turned;
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY} shop/{REVIEWS}"));
}
