//! What a fence may learn, and what it says when that does not suffice.

use super::*;
use crate::api::{self, DEGRADED, LEARNING};
use crate::graph::{Coverage, Covered, MAX_HOSTS};

/// `True HostLimit`
fn condition(world: &World, name: &str) -> String {
    let conditions = &world.fence.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|condition| condition.type_ == name).unwrap();
    format!("{} {}", found.status, found.reason)
}

fn message(world: &World, name: &str) -> String {
    let conditions = &world.fence.status.as_ref().unwrap().conditions;
    conditions.iter().find(|condition| condition.type_ == name).unwrap().message.clone()
}

fn bounded(learning: api::Learning) -> World {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), service("shop/ratings"), service("other/x"), service("other/y")]);
    world.edit(|spec| spec.learning = Some(learning));
    world.run();
    world
}

fn seen_by(world: &mut World, source: DependencySource, host: &str) {
    let seen = world.now;
    world.tell([Change::Call(Observation { caller: CALLER.into(), host: host.into(), source, seen })]);
}

#[test]
fn learning_is_told_by_its_sources_and_stays_as_it_is() {
    let mut world = World::fenced();
    assert_eq!(condition(&world, LEARNING), "False NoCallsSeen");
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    world.run();
    assert_eq!(condition(&world, LEARNING), "True CallsSeen");
    assert_eq!(message(&world, LEARNING), "calls are seen by AccessLog; no host leaves");
    seen_by(&mut world, DependencySource::Prometheus, REVIEWS);
    world.run();
    assert_eq!(
        message(&world, LEARNING),
        "calls are seen by AccessLog, Prometheus; a host unused for 840h leaves"
    );
    world.edit(|spec| {
        let retention = Some(api::Retention::FOR_EVER);
        spec.learning = Some(api::Learning { retention, ..api::Learning::default() });
    });
    world.run();
    assert_eq!(message(&world, LEARNING), "calls are seen by AccessLog, Prometheus; no host leaves");
}

#[test]
fn a_full_fence_says_so_once_and_goes_on() {
    let mut world = bounded(api::Learning { max_hosts: Some(1), ..api::Learning::default() });
    assert_eq!(condition(&world, DEGRADED), "False AsExpected");
    world.call(REVIEWS);
    let plan = world.plan();
    assert_eq!(told(&plan), [(reasons::HOST_LIMIT, true)]);
    world.run();
    assert_eq!(condition(&world, DEGRADED), "True HostLimit");
    world.call("ratings.shop.svc.cluster.local");
    assert!(world.is_quiet(&world.plan()), "a refused call costs nothing");
    assert_eq!((world.hosts(), world.reason()), (format!("route: {PROXY} shop/{REVIEWS}"), reasons::FENCED));

    world.edit(|spec| spec.learning = None);
    assert_eq!(told(&world.plan()), [(reasons::AS_EXPECTED, false)]);
    world.run();
    assert_eq!(condition(&world, DEGRADED), "False AsExpected");
}

#[test]
fn a_host_of_a_namespace_that_is_not_allowed_is_told_of_and_that_outlives_a_restart() {
    let namespaces = Some(vec!["shop".to_owned()]);
    let learning = api::Learning { namespaces, ..api::Learning::default() };
    let mut world = bounded(learning.clone());
    world.call("x.other.svc.cluster.local");
    assert_eq!(told(&world.plan()), [(reasons::NAMESPACE_NOT_ALLOWED, true)]);
    world.run();
    assert_eq!(condition(&world, DEGRADED), "True NamespaceNotAllowed");
    assert!(message(&world, DEGRADED).contains("x.other.svc.cluster.local"));

    let mut restarted = bounded(learning);
    restarted.fence = world.fence.clone();
    restarted.sidecar = world.sidecar.clone();
    restarted.listed();
    assert!(restarted.is_quiet(&restarted.plan()));
    restarted.call("y.other.svc.cluster.local");
    assert!(restarted.is_quiet(&restarted.plan()), "another one is no news");
    restarted.edit(|spec| spec.learning = None);
    restarted.fence.metadata.generation = Some(2);
    restarted.run();
    assert_eq!(condition(&restarted, DEGRADED), "False AsExpected");
}

#[test]
fn an_unused_host_leaves_the_status_first_then_the_routes_then_the_clusters() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), entry("shop/example", EXAMPLE)]);
    world.edit(|spec| spec.host = wants(&[EXAMPLE]));
    for host in [REVIEWS, EXAMPLE] {
        seen_by(&mut world, DependencySource::AccessLog, host);
    }
    world.run();
    let both = format!("route: {PROXY} shop/{REVIEWS} shop/{EXAMPLE}");
    assert_eq!(world.hosts(), both);

    let since = world.now;
    world.now += SignedDuration::from_hours(1000);
    world.tell([service("shop/ratings")]);
    seen_by(&mut world, DependencySource::Prometheus, "ratings.shop.svc.cluster.local");
    let time = Coverage { since, until: world.now };
    world.tell([Change::Covered(Covered { source: DependencySource::Prometheus, time })]);
    let plan = world.step();
    let gone: Vec<_> = plan.expired.iter().map(|(host, _)| &**host).collect();
    assert_eq!(gone, [REVIEWS, EXAMPLE]);
    assert!(!plan.status.domains.contains_key(REVIEWS));
    assert_eq!(plan.status.domains[EXAMPLE].sources, [DependencySource::Spec], "what is pinned stays");

    world.tell([Change::Forget(key("shop/client"), plan.expired)]);
    let mut stages = vec![world.hosts()];
    for _ in 0..4 {
        world.now += SignedDuration::from_mins(2);
        world.settle();
        stages.push(world.hosts());
    }
    stages.dedup();
    let routed = "shop/ratings.shop.svc.cluster.local";
    let (keep, route) = stages[0].split_once(" | ").unwrap();
    assert!(keep.contains(REVIEWS) && !route.contains(REVIEWS), "its cluster outlives its route: {stages:?}");
    assert_eq!(stages.last(), Some(&format!("route: {PROXY} {routed} shop/{EXAMPLE}")), "{stages:?}");
    assert!(world.plan().expired.is_empty());
}

#[test]
fn what_waits_for_its_turn_in_the_status_is_not_forgotten_yet() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), service("shop/ratings")]);
    seen_by(&mut world, DependencySource::AccessLog, REVIEWS);
    world.run();
    let since = world.now;
    world.now += SignedDuration::from_hours(1000);
    seen_by(&mut world, DependencySource::Prometheus, "ratings.shop.svc.cluster.local");
    world.run();
    // While a fence opens, its status waits for the Sidecar.
    world.edit(|spec| spec.enable = false);
    world.step();
    let time = Coverage { since, until: world.now };
    world.tell([Change::Covered(Covered { source: DependencySource::Prometheus, time })]);
    let plan = world.plan();
    assert_eq!(action(&plan), "leave");
    assert!(plan.status.domains.contains_key(REVIEWS) && plan.expired.is_empty(), "{:?}", plan.expired);
}

#[test]
fn a_host_is_noted_once_it_has_its_cluster_and_those_that_wait_for_theirs_are_not() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), service("shop/ratings")]);
    world.call(REVIEWS);
    let SidecarAction::Warm(warm) = world.plan().sidecar else { panic!("{:?}", world.plan().sidecar) };
    world.sidecar = Some(*warm);
    world.call("ratings.shop.svc.cluster.local");
    let plan = world.plan();
    assert_eq!(action(&plan), "leave");
    assert_eq!(plan.status.domains.keys().collect::<Vec<_>>(), [REVIEWS]);
}

#[test]
fn while_all_hosts_still_have_their_clusters_those_that_wait_for_their_route_are_noted_with_it() {
    let mut world = World::widened();
    world.step();
    world.tell([service("shop/reviews"), service("shop/ratings")]);
    world.call(REVIEWS);
    world.step();
    world.call("ratings.shop.svc.cluster.local");
    let plan = world.plan();
    assert_eq!(action(&plan), "leave");
    assert_eq!(plan.status.domains.keys().collect::<Vec<_>>(), [REVIEWS]);
}

#[test]
fn the_most_hosts_with_the_longest_names_fit_into_an_object() {
    /// etcd's limit for one request, less a margin for what is not counted here.
    const ROOM: usize = 1_572_864 - 100_000;
    let namespace = "n".repeat(63);
    let host =
        |number: u32| format!("{number:0>63}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(61));
    let mut world = World::fenced();
    for number in 0..MAX_HOSTS {
        world.tell([entry(&format!("{namespace}/e{number}"), &host(number))]);
        seen_by(&mut world, DependencySource::AccessLog, &host(number));
        seen_by(&mut world, DependencySource::Prometheus, &host(number));
    }
    world.run();
    let status = world.fence.status.as_ref().unwrap();
    assert_eq!((status.hosts, host(0).len()), (MAX_HOSTS, 253));
    // What the API server notes as ours: the name of every field, once more.
    let fields: usize = status.domains.keys().map(|host| host.len() + 140).sum();
    let fence = serde_json::to_vec(&world.fence).unwrap().len() + fields;
    let sidecar = serde_json::to_vec(&world.sidecar).unwrap().len();
    assert!(fence < ROOM && sidecar < ROOM / 3, "a fence of {fence} bytes, a Sidecar of {sidecar}");
}
