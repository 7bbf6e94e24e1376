//! What keeps a fence from being enforced.

use super::*;

#[test]
fn what_keeps_a_fence_from_being_enforced_is_told_and_nothing_is_written() {
    let without_selector = Change::Service(Service { key: key("shop/client"), ..Service::default() });
    let cases = [
        (None, reasons::SERVICE_NOT_FOUND),
        (Some(service("other/client")), reasons::SERVICE_NOT_FOUND),
        (Some(without_selector), reasons::SERVICE_WITHOUT_SELECTOR),
    ];
    for (service, reason) in cases {
        let mut world = World::new();
        world.tell(service);
        world.select_by_service();
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold, plan.wake), ("leave".to_owned(), false, None), "{reason}");
        assert_eq!(ready(&plan.status), ("False", reason));
        assert_eq!(told(&plan), [(reason, true)]);
        assert!(world.is_quiet(&world.plan()), "{reason} is told once");
    }
}

#[test]
fn a_fence_in_force_stays_as_it_is_while_its_service_is_missing() {
    let mut world = World::new();
    world.tell([service("shop/client")]);
    world.select_by_service();
    world.run();
    let before = world.hosts();
    world.tell([Change::ServiceGone(key("shop/client"))]);
    let plan = world.step();
    assert_eq!((action(&plan), plan.hold), ("leave".to_owned(), true));
    assert_eq!(world.reason(), reasons::SERVICE_NOT_FOUND);
    world.tell([service("shop/client")]);
    assert_eq!(told(&world.step()), [(reasons::FENCED, false)]);
    assert_eq!((world.hosts(), world.reason()), (before, reasons::FENCED));
}

#[test]
fn the_sidecar_of_somebody_else_is_left_alone() {
    let foreign: [Case<Sidecar>; 3] = [
        ("nobody's", |sidecar| sidecar.metadata.owner_references = None),
        ("an earlier fence's of the same name", |sidecar| {
            sidecar.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-0".to_owned();
        }),
        ("one that has the fence as an owner, not as its controller", |sidecar| {
            sidecar.metadata.owner_references.as_mut().unwrap()[0].controller = None;
        }),
    ];
    for (what, disown) in foreign {
        let mut world = World::fenced();
        world.edit_sidecar(disown);
        let plan = world.step();
        assert_eq!((action(&plan), plan.hold, plan.wake), ("leave".to_owned(), false, None), "{what}");
        assert_eq!(ready(&plan.status), ("False", reasons::SIDECAR_CONFLICT), "{what}");
        assert!(plan.transitions[0].warning, "{what}");
        for (opening, open) in OPENINGS {
            let mut world = world.clone();
            open(&mut world);
            let plan = world.step();
            assert_eq!((action(&plan), plan.hold), ("leave".to_owned(), false), "{what}, {opening}");
            assert_eq!(world.reason(), reasons::OPEN, "{what}, {opening}");
        }
    }
}
