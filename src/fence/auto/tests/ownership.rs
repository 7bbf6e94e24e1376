//! Whose a fence is.

use super::*;

#[test]
fn an_automatic_fence_is_marked_owned_and_held() {
    let mut world = World::new(AutoFence { revision: Some("canary".to_owned()), ..on() }, shop());
    world.step("shop/foo");
    let fence = world.fence.as_ref().unwrap();
    let marks = [
        ("app.kubernetes.io/created-by", "fence-controller"),
        ("app.kubernetes.io/managed-by", "palisade"),
        ("istio.io/rev", "canary"),
    ];
    assert_eq!(*fence.labels(), labels(&marks.map(|(k, v)| format!("{k}={v}")).join(",")).to_map());
    assert_eq!(
        json!(fence.spec),
        json!({ "enable": true, "mode": "Observe", "workloadSelector": { "fromService": true } })
    );
    let owner = &fence.owner_references()[0];
    assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("Service", "foo", "uid-of-service"));
    assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
    assert_eq!(fence.finalizers(), [REMEMBER]);
}

#[test]
fn a_fence_without_the_label_is_nobodys_but_its_users() {
    let spec = ServiceFenceSpec::default();
    for wished in [true, false] {
        let mut world = World::new(AutoFence { default: wished, ..on() }, shop());
        world.fence = Some(ServiceFence::new("foo", spec.clone()));
        assert_eq!(world.step("shop/foo"), "", "it was there before");
    }
    let mut world = World::fenced();
    world.edit(|fence| drop(fence.labels_mut().remove(CREATED_BY)));
    assert_eq!(world.step("shop/foo"), "disown", "the user took it over");
    assert!(
        world.fence.as_ref().unwrap().owner_references().is_empty(),
        "so it does not go with the Service"
    );
    world.tell([namespace("shop", NO)]);
    assert_eq!(world.step("shop/foo"), "");
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    assert_eq!(world.step("shop/foo"), "");
    world.delete();
    assert_eq!(world.step("shop/foo"), "release", "it can be deleted");
}

#[test]
fn what_a_user_changed_in_an_automatic_fence_is_left_alone() {
    let mut world = World::fenced();
    world.edit(|fence| fence.spec.enable = false);
    world.edit(|fence| drop(fence.labels_mut().insert("team".to_owned(), "a".to_owned())));
    assert_eq!(world.step("shop/foo"), "");
}

#[test]
fn a_fence_of_slimes_is_taken_over_while_it_is_wished_for_and_survives_a_switch_that_is_off() {
    let slimes = || {
        let mut fence = ServiceFence::new("foo", ServiceFenceSpec { enable: true, ..Default::default() });
        fence.labels_mut().insert(CREATED_BY.to_owned(), FENCE_CONTROLLER.to_owned());
        fence.metadata.uid = Some("uid-of-fence".to_owned());
        Some(fence)
    };
    let mut world = World { fence: slimes(), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.fence.as_ref().unwrap().uid().as_deref(), Some("uid-of-fence"), "none is created by it");
    assert_eq!(world.fence.as_ref().unwrap().spec.mode, None, "it goes on enforcing");
    let mut world = World { fence: slimes(), ..World::new(AutoFence::default(), shop()) };
    assert_eq!(world.step("shop/foo"), "");
    let mut world = World { fence: slimes(), ..World::new(on(), [namespace("shop", "")]) };
    assert_eq!(world.step("shop/foo"), "delete", "its Service went while nobody looked");
}

#[test]
fn what_we_created_goes_when_it_is_switched_off() {
    let mut world = World::fenced();
    world.settings = AutoFence::default();
    assert_eq!(world.step("shop/foo"), "release delete");
    assert_eq!(world.step("shop/foo"), "");
}

#[test]
fn while_all_fences_are_open_none_needs_us_to_be_deleted() {
    let mut world = World::fenced();
    world.open_all = true;
    assert_eq!(world.step("shop/foo"), "release");
    assert_eq!(world.step("shop/foo"), "");
    world.delete();
    assert_eq!(world.step("shop/foo"), "");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "", "who deletes fences before an uninstall does not want new ones");
    world.open_all = false;
    assert_eq!(world.step("shop/foo"), "apply");
    assert_eq!(world.fence.as_ref().unwrap().finalizers(), [REMEMBER]);
}

#[test]
fn a_fence_that_comes_under_another_revision_is_let_go() {
    let mut world = World::fenced();
    world.istio.revisions = vec!["1-31".to_owned()];
    assert_eq!(world.step("shop/foo"), "", "one without a revision is everybody's");
    world.edit(|fence| drop(fence.labels_mut().insert("istio.io/rev".to_owned(), "1-30".to_owned())));
    assert_eq!(world.step("shop/foo"), "release", "nobody else would take the finalizer off");
}
