//! A fence that is new waits for what Prometheus remembers of its pods, but not for long.

use super::*;
use crate::istio::SidecarSpec;

fn awaiting() -> World {
    let mut world = World { patience: Some(SignedDuration::from_secs(50)), ..World::new() };
    world.tell([service("shop/reviews")]);
    world
}

fn told() -> Change {
    Change::HistoryTold(vec![key("shop/client")])
}

fn events(plan: &Plan) -> Vec<(&'static str, bool)> {
    plan.transitions.iter().map(|transition| (transition.reason, transition.warning)).collect()
}

#[test]
fn a_new_fence_waits_until_its_history_is_told_and_begins_with_it() {
    let mut world = awaiting();
    let wake = world.settle();
    assert_eq!((world.hosts(), world.reason()), ("no Sidecar".to_owned(), reasons::AWAITING_HISTORY));
    assert_eq!(wake, Some(world.since + SignedDuration::from_secs(50)));
    let source = DependencySource::Prometheus;
    let caller = IpAddr::from(CALLER).into();
    world.tell([Change::Call(Observation { caller, host: REVIEWS.into(), source, seen: world.now }), told()]);
    let plan = world.step();
    assert!(events(&plan).is_empty(), "all is as it should be");
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
    assert!(world.hosts().contains(REVIEWS), "{}", world.hosts());
}

#[test]
fn a_fence_that_nothing_is_told_of_in_time_goes_on_with_a_warning() {
    let mut world = awaiting();
    world.now = world.settle().unwrap();
    let plan = world.step();
    assert_eq!((events(&plan), world.hosts()), (vec![(reasons::FENCING, true)], "route: */*".to_owned()));
    assert!(events(&world.plan()).is_empty(), "once");
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
}

#[test]
fn a_fence_waits_from_when_it_was_made_or_the_mesh_was_known() {
    let wake = |made: i64| {
        let mut world = awaiting();
        world.fence.metadata.creation_timestamp = Some(Time(world.now + SignedDuration::from_secs(made)));
        world.settle().map(|wake| wake.duration_since(world.since).as_secs())
    };
    assert_eq!((wake(20), wake(-86_400)), (Some(70), Some(50)));
}

#[test]
fn nobody_else_waits() {
    let mut fenced = World::fenced();
    fenced.patience = Some(SignedDuration::from_secs(50));
    assert!(fenced.is_quiet(&fenced.plan()), "it is in force: a restart is no first fencing");

    let mut disabled = awaiting();
    disabled.edit(|spec| spec.enable = false);
    disabled.run();
    assert_eq!(disabled.reason(), reasons::OPEN);

    let mut alone = World::new();
    alone.settle();
    assert_eq!(alone.hosts(), "route: */*", "there is no Prometheus");

    let mut conflict = awaiting();
    conflict.sidecar = Some(Sidecar::new("client", SidecarSpec::default()));
    conflict.settle();
    assert_eq!(conflict.reason(), reasons::SIDECAR_CONFLICT);
}
