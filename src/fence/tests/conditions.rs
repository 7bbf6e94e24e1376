//! What the status and Events tell.

use super::*;

#[test]
fn a_condition_dates_from_the_last_change_of_its_status() {
    let mut world = World::new();
    let since = |world: &World| world.fence.status.as_ref().unwrap().conditions[0].last_transition_time.0;
    let start: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    world.step();
    assert_eq!(since(&world), start);
    world.now += SignedDuration::from_secs(10);
    assert_eq!(action(&world.step()), format!("keep: */* | route: {PROXY}"));
    assert_eq!((world.reason(), since(&world)), (reasons::FENCING, start), "the same status as before");
    world.now += SignedDuration::from_secs(3);
    world.step();
    let fenced = start + SignedDuration::from_secs(13);
    assert_eq!((world.reason(), since(&world)), (reasons::FENCED, fenced));
    world.now += SignedDuration::from_secs(3);
    world.fence.metadata.generation = Some(2);
    let plan = world.step();
    assert_eq!((plan.status.observed_generation, told(&plan)), (Some(2), vec![]));
    assert_eq!(since(&world), fenced, "the same status of a newer generation");
}

#[test]
fn an_event_tells_what_happened_and_not_what_is_under_way() {
    let mut world = World::new();
    let mut told = Vec::new();
    let mut note = |world: &mut World| {
        for _ in 0..10 {
            let plan = world.step();
            told.extend(super::told(&plan));
            match plan.wake {
                Some(wake) => world.now = wake,
                None if world.is_quiet(&world.plan()) => return,
                None => {}
            }
        }
    };
    note(&mut world);
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    note(&mut world);
    world.edit(|spec| spec.enable = false);
    note(&mut world);
    world.select_by_service();
    world.edit(|spec| spec.enable = true);
    note(&mut world);
    assert_eq!(told, [(reasons::FENCED, false), (reasons::OPEN, false), (reasons::SERVICE_NOT_FOUND, true)]);
}
