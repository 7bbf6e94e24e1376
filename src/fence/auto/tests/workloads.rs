//! Pods without a Service.

use super::*;

#[test]
fn pods_without_a_service_are_fenced_by_their_label() {
    let mut world = World::new(by_label(), [namespace("shop", "")]);
    assert_eq!(world.step(WORKLOAD), "", "no pod");
    world.tell([bare("shop/batch-1", "run=batch", Proxy::Sidecar)]);
    assert_eq!(world.step(WORKLOAD), "", "no address yet");
    world.tell([pod("shop/batch-1", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "apply");
    let fence = world.fence.as_ref().unwrap();
    assert_eq!(
        json!(fence.spec),
        json!({ "enable": true, "mode": "Observe", "workloadSelector": { "labels": { "run": "batch" } } })
    );
    assert_eq!((fence.owner_references().len(), fence.finalizers()), (0, &[REMEMBER.to_owned()][..]));
    world.tell([pod("shop/batch-1", "run=batch,pod=2")]);
    assert_eq!(world.step(WORKLOAD), "");
}

#[test]
fn what_is_no_workload_of_its_own_gets_no_fence_by_label() {
    let selected = [service("shop/foo", NO, "app=foo"), pod("shop/batch-1", "run=batch,app=foo")];
    let cases: [(&str, &str, Vec<Change>); 6] = [
        ("a Service selects the pod", WORKLOAD, selected.into()),
        ("no sidecar", WORKLOAD, vec![bare("shop/batch-1", "run=batch", Proxy::None)]),
        ("another namespace's pod", WORKLOAD, vec![pod("other/batch-1", "run=batch")]),
        ("the pod refuses", WORKLOAD, vec![pod("shop/batch-1", &format!("run=batch,{NO}"))]),
        ("the namespace refuses", WORKLOAD, vec![namespace("shop", NO), pod("shop/batch-1", "run=batch")]),
        ("another alias", "shop/job-batch.workload.identity", vec![pod("shop/batch-1", "run=batch")]),
    ];
    for (what, name, changes) in cases {
        let mut world = World::new(by_label(), [namespace("shop", ""), namespace("other", "")]);
        world.tell(changes);
        assert_eq!(world.step(name), "", "{what}");
    }
}

#[test]
fn the_fence_of_a_workload_outlives_its_last_pod_for_a_while() {
    let mut world = World::new(by_label(), [namespace("shop", ""), pod("shop/batch-1", "run=batch")]);
    world.step(WORKLOAD);
    world.tell([Change::PodGone(key("shop/batch-1"))]);
    let wake = Some(world.now + VACANCY);
    assert_eq!((world.plan(WORKLOAD).wake, world.step(WORKLOAD)), (wake, String::new()));
    world.now += VACANCY - SignedDuration::from_secs(1);
    assert_eq!((world.plan(WORKLOAD).wake, world.step(WORKLOAD)), (wake, String::new()));
    world.tell([pod("shop/batch-2", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "");
    assert_eq!(world.vacant_since, None, "a pod came in time");
    world.tell([Change::PodGone(key("shop/batch-2"))]);
    assert_eq!(world.step(WORKLOAD), "");
    world.now += VACANCY;
    assert_eq!(world.step(WORKLOAD), "release delete");
}

#[test]
fn a_workloads_fence_that_a_user_deleted_stays_away_whatever_its_pods_do() {
    let mut world = World::new(by_label(), [namespace("shop", ""), pod("shop/batch-1", "run=batch")]);
    world.step(WORKLOAD);
    world.delete();
    assert_eq!(world.step(WORKLOAD), "remember release");
    world.fence = None;
    world.tell([Change::PodGone(key("shop/batch-1"))]);
    assert_eq!(world.step(WORKLOAD), "");
    world.tell([pod("shop/batch-2", "run=batch")]);
    assert_eq!(world.step(WORKLOAD), "");
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step(WORKLOAD), "forget");
}

#[test]
fn a_workloads_fence_has_slimes_name_or_none() {
    let label = settings(json!({ "workloadLabel": "run:job" })).workload_label.unwrap();
    for value in ["batch", "a", "1", "a-b.c", "v1.2"] {
        let name = label.fence_of(value).unwrap();
        assert_eq!(name, format!("job-{value}.workload.identity"));
        assert_eq!(label.value_of(&name), Some(value));
    }
    for value in ["", "Batch", "a_b", "a-", "a..b", "a.-b", "a-.b", ".a"] {
        assert_eq!(label.fence_of(value), None, "{value:?} cannot be in an object's name");
    }
    for name in ["foo", "job.workload.identity", "job-batch", "app-batch.workload.identity"] {
        assert_eq!(label.value_of(name), None, "{name}");
    }
}
