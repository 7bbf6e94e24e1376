//! Until when the spec asks for a host.

use super::*;
use crate::api::Learning;
use crate::graph::{Coverage, Covered, Lifetime, PodSelection};

#[test]
fn a_host_leaves_at_its_deadline_and_not_before() {
    let end = World::fenced().now + SignedDuration::from_mins(10) + SignedDuration::from_millis(7);
    let mut world = listing(EXAMPLE, deadline(end));
    assert_eq!(world.settle(), Some(end), "the next look is due just then");
    world.now = end - SignedDuration::from_millis(1);
    assert!(world.is_quiet(&world.plan()));
    world.now = end;
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: shop/{EXAMPLE} | route: {PROXY}"), "made before broken");
    assert_eq!(entries(&world), [format!("{EXAMPLE} Expired [Spec] ")]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
    assert!(world.is_quiet(&world.plan()));
    world.edit(|spec| spec.host.clear());
    world.run();
    assert_eq!(entries(&world), [""; 0]);
}

#[test]
fn a_host_that_is_called_after_its_deadline_is_learned_like_any_other() {
    let end = World::fenced().now + SignedDuration::from_mins(10);
    let mut world = listing(REVIEWS, deadline(end));
    world.call(REVIEWS);
    world.run();
    world.now = end;
    world.run();
    assert_eq!(entries(&world), [format!("{REVIEWS} Expired [Spec, AccessLog] ")]);
    let restarted = remember(&world);
    for mut world in [world, restarted] {
        world.now = end + SignedDuration::from_secs(1);
        world.call(REVIEWS);
        world.run();
        assert_eq!(entries(&world), [format!("{REVIEWS} Active [Spec, AccessLog] shop/{REVIEWS}")]);
    }
}

#[test]
fn a_deadline_out_of_the_calendar_is_never_or_long_ago() {
    let strategy = |expire| {
        let deadline = Some(Deadline { expire: seconds(expire) });
        RecyclingStrategy { deadline, ..RecyclingStrategy::default() }
    };
    let mut world = listing(EXAMPLE, strategy(i64::MAX));
    assert!(world.plan().wake.is_some(), "at the end of the calendar");
    world.edit(|spec| spec.host = BTreeMap::from([(EXAMPLE.to_owned(), strategy(i64::MIN))]));
    assert_eq!(entries(&world), [format!("{EXAMPLE} Expired [Spec] ")]);
}

#[test]
fn a_time_that_is_too_long_to_count_is_for_ever() {
    let duration = Seconds { seconds: i64::MAX, nanos: i32::MAX };
    let strategy = RecyclingStrategy { auto: Some(Auto { duration }), ..auto(60) };
    let world = listing(REVIEWS, strategy);
    assert_eq!(entries(&world), [format!("{REVIEWS} Active [Spec] shop/{REVIEWS}")]);
}

/// A world whose Prometheus, which has seen a call of the workload to another host, has watched from two hours ago until `until`.
fn watched(world: &World, until: Timestamp) -> World {
    let mut world = world.clone();
    let source = DependencySource::Prometheus;
    let other = Observation {
        caller: IpAddr::from(CALLER).into(),
        host: "ratings.shop.svc.cluster.local".into(),
        source,
        seen: world.now,
    };
    let time = Coverage { since: world.now - SignedDuration::from_hours(2), until };
    world.tell([service("shop/ratings"), Change::Call(other), Change::Covered(Covered { source, time })]);
    world.now = until;
    world
}

fn status(world: &World) -> DomainStatus {
    world.plan().status.domains[REVIEWS].status
}

/// A fence that lists reviews while they are called each hour, at the moment when it was made.
fn automatic(strategy: RecyclingStrategy) -> World {
    let mut world = World::new();
    world.fence.metadata.creation_timestamp = Some(Time(world.now));
    world.tell([service("shop/reviews")]);
    world.edit(|spec| spec.host = BTreeMap::from([(REVIEWS.to_owned(), strategy)]));
    world.settle();
    world
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[test]
fn an_automatic_host_stays_while_it_is_called_by_the_word_of_who_would_see_that() {
    let mut world = automatic(auto(60));
    let made = world.now;
    assert_eq!(
        status(&watched(&world, made + HOUR - SECOND)),
        DomainStatus::Active,
        "an hour from the start"
    );
    assert_eq!(status(&watched(&world, made + HOUR)), DomainStatus::Expired, "never called");
    world.call(REVIEWS);
    // What is noted of the last call may be that much behind.
    let precision = world.graph.fence(&key("shop/client")).unwrap().learning.precision();
    let end = world.now + precision + SECOND + HOUR;
    assert_eq!(status(&watched(&world, end - SECOND)), DomainStatus::Active);
    assert_eq!(status(&watched(&world, end)), DomainStatus::Expired);
}

#[test]
fn an_automatic_host_whose_calls_nobody_would_see_stays() {
    let world = automatic(auto(60));
    let made = world.now;
    let later = World { now: made + HOUR * 1000, ..world.clone() };
    assert_eq!(status(&later), DomainStatus::Active, "there is no source");
    let later = World { now: made + HOUR * 1000, ..watched(&world, made + HOUR / 2) };
    assert_eq!(status(&later), DomainStatus::Active, "the source is down");
}

#[test]
fn an_automatic_host_that_is_over_stays_so_until_it_is_called_also_without_the_source() {
    let world = automatic(auto(60));
    let (made, precision) = (world.now, world.graph.fence(&key("shop/client")).unwrap().learning.precision());
    let mut over = watched(&world, made + HOUR);
    over.settle();
    let gap = Coverage { since: over.now + HOUR, until: over.now + HOUR };
    over.tell([Change::Covered(Covered { source: DependencySource::Prometheus, time: gap })]);
    over.now += precision;
    assert_eq!(status(&over), DomainStatus::Expired);
    over.call(REVIEWS);
    assert_eq!(status(&over), DomainStatus::Active);
}

#[test]
fn a_strategy_that_is_new_is_not_over_by_what_was_said_of_another() {
    let mut world = automatic(deadline(Timestamp::UNIX_EPOCH));
    assert_eq!(status(&world), DomainStatus::Expired);
    world.now += HOUR * 1000;
    world.fence.metadata.generation = Some(2);
    world.edit(|spec| spec.host = BTreeMap::from([(REVIEWS.to_owned(), auto(60))]));
    assert_eq!(status(&world), DomainStatus::Active, "nobody would see its calls");
}

#[test]
fn an_automatic_namespace_or_wildcard_stays_while_one_of_its_hosts_is_called() {
    for (name, host) in [("bank/*", "vault.bank.svc.cluster.local"), ("*.example.com", "api.example.com")] {
        let mut world = automatic(auto(60));
        world.edit(|spec| spec.host = BTreeMap::from([(name.to_owned(), auto(60))]));
        world.tell([entry("shop/e", "api.example.com"), service("bank/vault")]);
        let made = world.now;
        let status = |world: &World| world.plan().status.domains[name].status;
        assert_eq!(status(&watched(&world, made + HOUR)), DomainStatus::Expired, "{name}: never called");
        world.call(host);
        assert_eq!(status(&watched(&world, made + HOUR)), DomainStatus::Active, "{name}");
    }
}

#[test]
fn an_automatic_host_whose_calls_may_not_be_learned_stays() {
    let bounds = [(Some(1), None), (None, Some(vec!["bank".to_owned()]))];
    for (max_hosts, namespaces) in bounds {
        let mut world = automatic(auto(60));
        let made = world.now;
        world.edit(|spec| spec.learning = Some(Learning { max_hosts, namespaces, ..Learning::default() }));
        world.tell([service("bank/vault")]);
        let watched = |world: &World| {
            let source = DependencySource::Prometheus;
            let host = "vault.bank.svc.cluster.local".into();
            let mut world = world.clone();
            world.tell([Change::Call(Observation {
                caller: IpAddr::from(CALLER).into(),
                host,
                source,
                seen: made,
            })]);
            watched(&world, made + HOUR)
        };
        assert_eq!(status(&watched(&world)), DomainStatus::Active);
    }
}

#[test]
fn an_automatic_host_is_remembered_for_as_long_as_it_is_asked_for() {
    let mut world = automatic(auto(60 * 24 * 100));
    world.call(REVIEWS);
    let later = watched(&world, world.now + HOUR * 24 * 60);
    assert!(later.plan().expired.is_empty(), "its retention is 35 days");
    assert_eq!(status(&later), DomainStatus::Active);
}

#[test]
fn a_call_that_the_spec_tells_of_counts() {
    let called = World::new().now + HOUR;
    let world =
        automatic(RecyclingStrategy { recently_called: Some(seconds(called.as_second())), ..auto(60) });
    assert_eq!(status(&watched(&world, called + HOUR - SECOND)), DomainStatus::Active);
    assert_eq!(status(&watched(&world, called + HOUR)), DomainStatus::Expired);
}

#[test]
fn an_automatic_host_of_a_fence_for_the_same_pods_is_over_when_that_says_so() {
    let mut world = automatic(auto(60));
    let made = world.now;
    let selection = PodSelection::Labels(Labels::from(labels("app=client")));
    let want = |over| Want {
        hosts: Wanted::Host(EXAMPLE.into()),
        lifetime: Lifetime::WhileCalled { within: HOUR, base: made, over },
        source: DependencySource::Spec,
    };
    let mut listed = |over| {
        let selection = selection.clone();
        let fence = Fence { key: key("shop/other"), selection, wants: vec![want(over)], ..Fence::default() };
        world.tell([entry("shop/www", EXAMPLE), Change::Fence(fence)]);
        world.plan().status.domains.contains_key(EXAMPLE)
    };
    assert!(listed(false));
    assert!(!listed(true), "the other fence's status says so");
}
