//! What Slime has left in the status.

use super::*;

/// A fence as Slime left it.
fn of_slime(keys: &[&str]) -> World {
    let mut world = World::new();
    world.tell([service("shop/reviews"), entry("egress/e", EXAMPLE)]);
    let keys = keys.iter().map(|host| (format!("{{destination_service=\"{host}\"}}"), "3".to_owned()));
    let metric_status = keys.collect();
    world.fence.status = Some(ServiceFenceStatus { metric_status, ..ServiceFenceStatus::default() });
    world.listed();
    world
}

#[test]
fn what_slime_had_learned_is_known_from_the_start_and_once_for_all() {
    let mut world = of_slime(&[REVIEWS, "www.example.com:443", "gone.shop.svc.cluster.local", "reviews"]);
    let plan = world.step();
    let expected = [
        format!("{REVIEWS} Active [Slime] shop/{REVIEWS}"),
        format!("{EXAMPLE} Active [Slime] egress/{EXAMPLE}"),
    ];
    assert_eq!(entries(&world), expected);
    let seen = plan.status.domains[REVIEWS].first_seen.clone();
    assert_eq!(seen, plan.status.domains[REVIEWS].last_seen);
    world.now += SignedDuration::from_hours(1);
    world.run();
    assert_eq!(entries(&remember(&world)).first(), expected.first());
    assert_eq!(
        world.fence.status.as_ref().unwrap().domains[REVIEWS].first_seen,
        seen,
        "the time of the import"
    );
    assert_eq!(world.hosts(), format!("route: egress/{EXAMPLE} {PROXY} shop/{REVIEWS}"));
}

#[test]
fn what_slime_had_learned_is_bounded_like_what_is_learned() {
    let mut world = of_slime(&[REVIEWS, EXAMPLE]);
    world
        .edit(|spec| spec.learning = Some(crate::api::Learning { max_hosts: Some(1), ..Default::default() }));
    assert_eq!(entries(&world).len(), 1);
    world.edit(|spec| {
        let namespaces = Some(vec!["egress".to_owned()]);
        spec.learning = Some(crate::api::Learning { namespaces, ..Default::default() });
    });
    assert_eq!(entries(&world), [format!("{EXAMPLE} Active [Slime] egress/{EXAMPLE}")]);
}

#[test]
fn what_others_keep_in_the_status_is_neither_written_nor_a_difference() {
    let mut world = of_slime(&[REVIEWS]);
    world.run();
    let theirs = BTreeMap::from([("{destination_service=\"a.b\"}".to_owned(), "1".to_owned())]);
    world.fence.status.as_mut().unwrap().metric_status = theirs;
    world.listed();
    assert!(world.is_quiet(&world.plan()));
    let written = serde_json::to_value(world.plan().status).unwrap();
    assert!(written.get("metricStatus").is_none(), "{written}");
}
