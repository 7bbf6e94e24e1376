//! Observing, and what conditions say of it.

use super::*;
use crate::api::{CONFLICT, ENFORCED, Mode as FenceMode, Observed};
use crate::graph::Consent;
use crate::istio::{SidecarSpec, WorkloadSelector as SidecarSelector};

fn condition(world: &World, type_: &str) -> Option<(String, String)> {
    let conditions = &world.fence.status.as_ref().unwrap().conditions;
    let said = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((said.status.clone(), said.reason.clone()))
}

#[allow(clippy::unnecessary_wraps, reason = "It is compared with what may be none")]
fn is(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

fn observing() -> World {
    let mut world = World::new();
    world.edit(|spec| spec.mode = Some(FenceMode::Observe));
    world
}

#[test]
fn a_fence_that_observes_learns_and_reports_and_writes_no_sidecar() {
    let mut world = observing();
    world.tell([service("shop/reviews"), service("shop/ratings"), service("other/x")]);
    let plan = world.step();
    assert_eq!((action(&plan), plan.hold, plan.wake), ("leave".to_owned(), false, None));
    assert_eq!(told(&plan), [], "a new fence that observes has nothing to tell");
    assert_eq!(condition(&world, READY), is("True", reasons::OBSERVING));
    assert_eq!(condition(&world, ENFORCED), is("False", reasons::OBSERVING));
    assert_eq!(condition(&world, CONFLICT), is("False", reasons::AS_EXPECTED));
    world.call(REVIEWS);
    let status = world.step().status;
    assert_eq!(status.domains.keys().collect::<Vec<_>>(), [REVIEWS]);
    assert_eq!(status.mode, Some(FenceMode::Observe));
    assert_eq!(status.observed, Some(Observed { kept: 2, cut: 1 }), "reviews and the global proxy, of three");
    assert!(world.is_quiet(&world.plan()));
}

#[test]
fn a_fence_in_force_opens_before_it_observes_and_is_in_force_again_when_it_enforces() {
    let mut world = World::fenced();
    assert_eq!(condition(&world, ENFORCED), is("True", reasons::FENCED));
    world.edit(|spec| spec.mode = Some(FenceMode::Observe));
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: */* | route: {PROXY}"));
    assert_eq!(condition(&world, READY), is("False", reasons::OPENING));
    assert_eq!(condition(&world, ENFORCED), is("False", reasons::OPENING));
    world.run();
    assert_eq!(
        (world.hosts(), condition(&world, READY)),
        ("no Sidecar".to_owned(), is("True", reasons::OBSERVING))
    );
    world.edit(|spec| spec.mode = Some(FenceMode::Enforce));
    world.run();
    assert_eq!(
        (world.hosts(), condition(&world, ENFORCED)),
        (format!("route: {PROXY}"), is("True", reasons::FENCED))
    );
}

#[test]
fn the_mode_of_a_fence_that_does_not_say_is_that_of_the_configuration() {
    for (configured, own, expected) in [
        (FenceMode::Enforce, None, FenceMode::Enforce),
        (FenceMode::Observe, None, FenceMode::Observe),
        (FenceMode::Observe, Some(FenceMode::Enforce), FenceMode::Enforce),
        (FenceMode::Enforce, Some(FenceMode::Observe), FenceMode::Observe),
    ] {
        let mut world = World::new();
        world.defaults.mode = configured;
        world.edit(|spec| spec.mode = own);
        let plan = world.step();
        assert_eq!(
            (plan.status.mode, plan.hold),
            (Some(expected), expected == FenceMode::Enforce),
            "{configured:?} {own:?}"
        );
    }
}

#[test]
fn a_fence_that_observes_tells_what_would_keep_it_from_being_enforced() {
    let mut world = observing();
    world.select_by_service();
    world.step();
    assert_eq!(condition(&world, READY), is("False", reasons::SERVICE_NOT_FOUND));
}

#[test]
fn a_mesh_that_grows_a_little_is_no_reason_to_count_anew() {
    let mut world = observing();
    world.tell((0..40).map(|number| service(&format!("other/s-{number}"))));
    assert_eq!(world.step().status.observed, Some(Observed { kept: 1, cut: 39 }));
    world.tell((40..44).map(|number| service(&format!("other/s-{number}"))));
    assert!(world.is_quiet(&world.plan()), "a tenth more");
    world.tell([service("other/s-44")]);
    assert_eq!(world.step().status.observed, Some(Observed { kept: 1, cut: 44 }));
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    assert_eq!(
        world.step().status.observed,
        Some(Observed { kept: 2, cut: 44 }),
        "a host more that it keeps"
    );
}

#[test]
fn a_fence_that_is_not_enabled_has_no_mode_and_counts_nothing() {
    let mut world = observing();
    world.edit(|spec| spec.enable = false);
    let status = world.step().status;
    assert_eq!((status.mode, status.observed), (None, None));
    assert_eq!(condition(&world, ENFORCED), is("False", reasons::OPEN));
}

#[test]
fn a_fence_that_observes_tells_what_would_keep_it_from_enforcing() {
    let mut world = observing();
    world.step();
    let spec = SidecarSpec {
        workload_selector: Some(SidecarSelector { labels: labels("app=client") }),
        ..SidecarSpec::default()
    };
    let (key, created) = (key("shop/theirs"), Some(world.now));
    let origin = Origin::Other(Arc::new(spec), Consent::Missing);
    world.tell([Change::Sidecar(graph::Sidecar { key: key.clone(), created, revision: None, origin })]);
    let plan = world.step();
    assert_eq!(told(&plan), [(reasons::SIDECAR_CONFLICT, true)]);
    assert_eq!(condition(&world, READY), is("True", reasons::OBSERVING));
    assert_eq!(condition(&world, CONFLICT), is("True", reasons::SIDECAR_CONFLICT));
    assert!(plan.status.observed.is_some(), "it goes on learning");
    world.tell([Change::SidecarGone(key)]);
    assert_eq!(told(&world.step()), [(reasons::AS_EXPECTED, false)]);
    assert_eq!(condition(&world, CONFLICT), is("False", reasons::AS_EXPECTED));
}
