//! A fence that is new waits for what Prometheus and the proxies of its pods remember, but not for long.

use super::*;
use crate::graph::Answers;
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

fn asking() -> World {
    let mut world = World { asks_proxies: true, ..World::new() };
    world.tell([service("shop/reviews")]);
    world
}

fn answered(world: &World, asked: u32, silent: u32) -> Change {
    Change::ProxiesAsked(key("shop/client"), Answers { asked, silent, at: world.now })
}

fn called(world: &World) -> Change {
    let (caller, source) = (IpAddr::from(CALLER).into(), DependencySource::ProxyMetrics);
    Change::Call(Observation { caller, host: REVIEWS.into(), source, seen: world.now })
}

#[test]
fn the_proxies_of_a_new_fence_are_asked_until_it_is_told_what_became_of_it() {
    let mut world = asking();
    for _ in 0..2 {
        let plan = world.step();
        assert!(plan.ask && plan.wake > Some(world.now), "{plan:?}");
        assert_eq!((world.hosts(), world.reason()), ("no Sidecar".to_owned(), reasons::AWAITING_HISTORY));
    }
    let told = [called(&world), answered(&world, 2, 0)];
    world.tell(told);
    let plan = world.step();
    assert!(!plan.ask && events(&plan).is_empty());
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
    assert!(world.hosts().contains(REVIEWS), "{}", world.hosts());
    assert!(!world.plan().ask, "it is in force");
}

#[test]
fn a_fence_of_silent_proxies_goes_on_with_a_warning() {
    let mut world = asking();
    world.settle();
    let answers = answered(&world, 3, 2);
    world.tell([answers]);
    let plan = world.step();
    assert_eq!((events(&plan), world.hosts()), (vec![(reasons::FENCING, true)], "route: */*".to_owned()));
    let message = &plan.transitions[0].message;
    assert!(message.starts_with("the proxies of 2 of 3 pods did not tell in time"), "{message}");
    assert!(events(&world.plan()).is_empty(), "once");
}

#[test]
fn a_fence_waits_for_prometheus_and_the_proxies() {
    let both = || World { patience: Some(SignedDuration::from_secs(50)), ..asking() };
    let mut world = both();
    world.step();
    let answers = answered(&world, 1, 0);
    world.tell([answers]);
    assert!(!world.step().ask);
    assert_eq!(world.reason(), reasons::AWAITING_HISTORY, "for Prometheus");
    world.tell([told()]);
    world.settle();
    assert_eq!(world.hosts(), "route: */*");

    let mut world = both();
    world.tell([told()]);
    assert!(world.step().ask, "for the proxies");
    world.now += SignedDuration::from_mins(5);
    assert!(world.step().ask, "whoever asks them ends by itself");
}

#[test]
fn a_workload_that_was_open_is_asked_anew() {
    let mut world = asking();
    let answers = answered(&world, 1, 0);
    world.tell([answers]);
    world.run();
    assert_eq!(world.reason(), reasons::FENCED);
    world.edit(|spec| spec.enable = false);
    world.run();
    assert_eq!((world.reason(), world.hosts()), (reasons::OPEN, "no Sidecar".to_owned()));
    assert!(!world.plan().ask);
    world.edit(|spec| spec.enable = true);
    assert!(world.step().ask);
}

#[test]
fn the_proxies_of_who_observes_are_asked_each_time_it_is_twice_as_old_or_an_hour_later() {
    let mut world = asking();
    world.fence.metadata.creation_timestamp = Some(Time(world.now));
    world.edit(|spec| spec.mode = Some(crate::api::Mode::Observe));
    let begun = world.now;
    let mut asked = Vec::new();
    while asked.len() < 9 {
        let plan = world.step();
        assert_eq!(world.reason(), reasons::OBSERVING);
        if plan.ask {
            asked.push(world.now.duration_since(begun).as_secs() / 60);
            let told = [called(&world), answered(&world, 2, 0)];
            world.tell(told);
        }
        world.now = world.settle().unwrap();
    }
    assert_eq!(asked, [0, 1, 2, 4, 8, 16, 32, 64, 124]);
    assert_eq!(world.fence.status.as_ref().unwrap().observed.unwrap().kept, 2, "it, and the global proxy");
}

#[test]
fn who_observed_is_asked_anew_before_it_is_fenced() {
    let mut world = asking();
    world.edit(|spec| spec.mode = Some(crate::api::Mode::Observe));
    assert!(world.step().ask);
    let answers = answered(&world, 2, 0);
    world.tell([answers]);
    assert!(!world.step().ask);
    world.edit(|spec| spec.mode = Some(crate::api::Mode::Enforce));
    assert!(world.step().ask);
    assert_eq!(world.reason(), reasons::AWAITING_HISTORY);
}

#[test]
fn nobody_is_asked_of_who_cannot_be_fenced() {
    let mut world = asking();
    world.select_by_service();
    world.edit(|spec| spec.mode = Some(crate::api::Mode::Observe));
    assert!(!world.step().ask);
    assert_eq!(world.reason(), reasons::SERVICE_NOT_FOUND);
}
