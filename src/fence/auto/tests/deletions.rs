//! Fences that go, and those that a user deleted.

use super::*;

#[test]
fn a_fence_goes_with_its_service_and_that_is_nobodys_will() {
    let mut world = World::fenced();
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    let mut collected = World { fence: world.fence.clone(), ..World::new(on(), [namespace("shop", "")]) };
    collected.delete();
    assert_eq!(collected.step("shop/foo"), "release", "garbage collection was faster");
    assert_eq!(world.step("shop/foo"), "release delete");
    world.tell(shop());
    assert_eq!(world.step("shop/foo"), "apply", "a Service of that name comes again");
}

#[test]
fn a_fence_of_an_earlier_service_of_the_same_name_is_not_remembered() {
    let mut world = World::fenced();
    let again = Service {
        key: key("shop/foo"),
        uid: "uid-of-another".into(),
        selector: labels("app=foo"),
        ..Service::default()
    };
    world.tell([Change::Service(again)]);
    world.delete();
    assert_eq!(world.step("shop/foo"), "release");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "apply");
}

#[test]
fn a_fence_of_a_namespace_that_goes_is_not_remembered() {
    let mut world = World::fenced();
    world.tell([Change::NamespaceGone(ObjectKey::new("", "shop"))]);
    world.delete();
    assert_eq!(world.step("shop/foo"), "release");
}

#[test]
fn a_fence_that_a_user_deleted_is_not_created_again_until_the_wish_is_another() {
    let mut world = World::fenced();
    world.delete();
    assert_eq!(world.step("shop/foo"), "remember release");
    assert_eq!(world.step("shop/foo"), "", "it opens first");
    world.fence = None;
    world.tell([pod("shop/foo-2", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "");

    world.fence = Some(ServiceFence::new("foo", ServiceFenceSpec::default()));
    assert_eq!(world.step("shop/foo"), "", "the user makes one by hand");
    world.fence = None;
    assert_eq!(world.step("shop/foo"), "", "and deletes it");

    world.tell([service("shop/foo", NO, "app=foo")]);
    assert_eq!(world.step("shop/foo"), "forget");
    world.tell([service("shop/foo", "", "app=foo")]);
    assert_eq!(world.step("shop/foo"), "apply");
}

#[test]
fn a_deletion_is_forgotten_with_its_service() {
    let mut world = World { deleted: Some("uid-of-service".to_owned()), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "");
    world.tell([Change::ServiceGone(key("shop/foo"))]);
    assert_eq!(world.step("shop/foo"), "forget");
    let mut world = World { deleted: Some("uid-of-an-earlier-one".to_owned()), ..World::new(on(), shop()) };
    assert_eq!(world.step("shop/foo"), "forget apply");
}
