//! How a workload gets its full configuration back.

use super::*;

#[test]
fn a_fence_opens_before_its_sidecar_goes() {
    for (what, open) in OPENINGS {
        let mut world = World::fenced();
        open(&mut world);
        let plan = world.step();
        assert_eq!(action(&plan), format!("keep: */* | route: {PROXY}"), "{what}");
        assert_eq!(plan.wake, Some(world.now + SignedDuration::from_secs(10)), "{what}");
        assert_eq!((plan.hold, ready(&plan.status)), (true, ("False", reasons::OPENING)), "{what}");
        assert_eq!(plan.transitions, [], "{what}");
        world.now = plan.wake.unwrap();
        let plan = world.step();
        assert_eq!(action(&plan), "route: */*", "{what}");
        assert_eq!(plan.wake, Some(world.now + SignedDuration::from_secs(10)), "{what}");
        assert_eq!((plan.hold, ready(&plan.status)), (true, ("False", reasons::OPENING)), "{what}");
        assert_eq!(plan.transitions, [], "{what}");
        world.now = plan.wake.unwrap() - SignedDuration::from_millis(1);
        let early = world.step();
        assert_eq!((action(&early), early.hold, early.wake), ("leave".to_owned(), true, plan.wake), "{what}");
        assert_eq!(ready(&early.status), ("False", reasons::OPENING), "{what}");
        world.now = plan.wake.unwrap();
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold, plan.wake), ("delete".to_owned(), false, None), "{what}");
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold), ("leave".to_owned(), false), "{what}");
        assert_eq!(ready(&plan.status), ("True", reasons::OPEN), "{what}");
        assert_eq!(told(&plan), [(reasons::OPEN, false)], "{what}");
    }
}

#[test]
fn a_fence_that_was_never_in_force_has_nothing_to_open() {
    for (what, open) in OPENINGS {
        let mut world = World::new();
        open(&mut world);
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold, plan.wake), ("leave".to_owned(), false, None), "{what}");
        assert_eq!((ready(&plan.status), told(&plan)), (("True", reasons::OPEN), vec![]), "{what}");
    }
}

#[test]
fn a_fence_that_opens_needs_no_service_and_keeps_its_selector() {
    for (what, open) in OPENINGS {
        let mut world = World::new();
        world.tell([service("shop/client")]);
        world.edit(|spec| spec.workload_selector = None);
        world.run();
        world.tell([Change::ServiceGone(key("shop/client"))]);
        open(&mut world);
        let plan = world.step();
        let selector = applied(&plan).spec.workload_selector.clone();
        assert_eq!(selector.map(|selector| selector.labels), Some(labels("app=any")), "{what}");
        world.run();
        assert_eq!(world.hosts(), "no Sidecar", "{what}");
    }
}

#[test]
fn a_fence_that_is_enabled_again_while_it_opens_is_in_force_again() {
    let mut world = World::fenced();
    world.edit(|spec| spec.enable = false);
    world.step();
    world.edit(|spec| spec.enable = true);
    world.run();
    assert_eq!((world.hosts(), world.reason()), (format!("route: {PROXY}"), reasons::FENCED));
}
