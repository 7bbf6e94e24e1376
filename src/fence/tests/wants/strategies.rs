//! Until when the spec asks for a host.

use super::*;

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

#[test]
fn an_automatic_host_stays_while_it_is_called() {
    let mut world = World::new();
    world.fence.metadata.creation_timestamp = Some(Time(world.now));
    world.tell([service("shop/reviews")]);
    world.edit(|spec| spec.host = BTreeMap::from([(REVIEWS.to_owned(), auto(60))]));
    world.settle();
    let made = world.now;
    let listed = |world: &World, at: Timestamp| {
        let mut world = world.clone();
        world.now = at;
        world.plan().status.domains[REVIEWS].status == DomainStatus::Active
    };
    let hour = SignedDuration::from_mins(60);
    assert!(
        listed(&world, made + hour - SignedDuration::from_secs(1)),
        "never called: an hour from the start"
    );
    assert!(!listed(&world, made + hour));
    world.now = made + hour / 2;
    world.call(REVIEWS);
    // What is noted of the last call may be that much behind.
    let precision = world.graph.fence(&key("shop/client")).unwrap().learning.precision();
    let end = world.now + precision + hour;
    assert!(listed(&world, end - SignedDuration::from_secs(1)));
    assert!(!listed(&world, end));
}

#[test]
fn a_call_that_the_spec_tells_of_counts() {
    let mut world = World::new();
    world.tell([service("shop/reviews")]);
    let called = Some(seconds(world.now.as_second()));
    let strategy = RecyclingStrategy { recently_called: called, ..auto(60) };
    world.edit(|spec| spec.host = BTreeMap::from([(REVIEWS.to_owned(), strategy)]));
    assert_eq!(entries(&world), [format!("{REVIEWS} Active [Spec] shop/{REVIEWS}")]);
    world.now += SignedDuration::from_mins(60);
    assert_eq!(entries(&world), [format!("{REVIEWS} Expired [Spec] ")]);
}
