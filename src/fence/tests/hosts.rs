//! Which hosts a fence lists.

use super::*;
use crate::api::DEGRADED;

#[test]
fn a_learned_host_is_kept_and_then_routed_to() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: shop/{REVIEWS} | route: {PROXY}"));
    assert_eq!(plan.wake, Some(world.now + SignedDuration::from_millis(300)));
    assert_eq!(plan.transitions, []);
    world.now = plan.wake.unwrap();
    let plan = world.step();
    assert_eq!((action(&plan), plan.wake), (format!("route: {PROXY} shop/{REVIEWS}"), None));
    assert_snapshot!(serde_saphyr::to_string(&plan.status.domains).unwrap(), @r#"
    reviews.shop.svc.cluster.local:
      hosts:
      - shop/reviews.shop.svc.cluster.local
      status: ACTIVE
      sources:
      - AccessLog
      firstSeen: "2026-01-01T12:01:00Z"
      lastSeen: "2026-01-01T12:01:00Z"
    "#);
}

#[test]
fn what_is_learned_while_others_settle_is_written_once_when_they_have() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), entry("shop/www", EXAMPLE)]);
    world.call(REVIEWS);
    let settled = world.step().wake.unwrap();
    world.now += SignedDuration::from_millis(100);
    world.call(EXAMPLE);
    let plan = world.step();
    assert_eq!((plan.sidecar, plan.wake), (SidecarAction::Leave, Some(settled)));
    assert_eq!(plan.status.domains.keys().collect::<Vec<_>>(), [REVIEWS], "nothing is written yet");
    world.now = settled;
    let plan = world.step();
    assert_eq!(action(&plan), format!("keep: shop/{EXAMPLE} | route: {PROXY} shop/{REVIEWS}"));
    assert_eq!(plan.status.domains.keys().collect::<Vec<_>>(), [REVIEWS, EXAMPLE]);
}

#[test]
fn hosts_of_the_spec_are_listed_by_the_namespaces_that_define_them() {
    let mut world = World::new();
    world.tell([entry("a/e", EXAMPLE), entry("b/e", EXAMPLE), service("shop/reviews")]);
    world.edit(|spec| spec.host = wants(&[EXAMPLE, REVIEWS, "nobody.defines.it"]));
    world.run();
    assert_eq!(world.hosts(), format!("route: a/{EXAMPLE} b/{EXAMPLE} {PROXY} shop/{REVIEWS}"));
    assert_snapshot!(serde_saphyr::to_string(&world.plan().status.domains).unwrap(), @r#"
    nobody.defines.it:
      status: ACTIVE
      sources:
      - Spec
    reviews.shop.svc.cluster.local:
      hosts:
      - shop/reviews.shop.svc.cluster.local
      status: ACTIVE
      sources:
      - Spec
    www.example.com:
      hosts:
      - a/www.example.com
      - b/www.example.com
      status: ACTIVE
      sources:
      - Spec
    "#);
}

#[test]
fn a_host_of_the_spec_is_listed_as_soon_as_somebody_defines_it() {
    let mut world = World::new();
    world.edit(|spec| spec.host = wants(&[EXAMPLE]));
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
    world.tell([entry("shop/e", EXAMPLE)]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY} shop/{EXAMPLE}"));
}

#[test]
fn a_namespace_of_the_spec_stands_for_its_services_one_by_one() {
    let mut world = World::new();
    world.tell([service("db/a"), headless("db/b"), service("other/c"), entry("db/e", EXAMPLE)]);
    world.edit(|spec| spec.host = wants(&["db/*", "empty/*"]));
    world.run();
    let two = "db/a.db.svc.cluster.local db/b.db.svc.cluster.local";
    assert_eq!(world.hosts(), format!("route: {two} {PROXY}"));
    world.tell([Change::ServiceGone(key("db/a"))]);
    world.run();
    assert_eq!(world.hosts(), format!("route: db/b.db.svc.cluster.local {PROXY}"));
    let domains = world.plan().status.domains;
    let listed: Vec<_> = domains.iter().map(|(want, domain)| (want.as_str(), domain.hosts.len())).collect();
    assert_eq!(listed, [("db/*", 1), ("empty/*", 0)]);
}

#[test]
fn headless_services_of_the_fences_own_namespace_are_always_listed() {
    let mut world = World::new();
    world.tell([headless("shop/redis"), headless("other/redis")]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY} shop/redis.shop.svc.cluster.local"));
    assert!(world.plan().status.domains.is_empty(), "nobody said that they are used");
}

#[test]
fn a_learned_host_stays_when_its_service_goes() {
    let mut world = World::fenced();
    world.tell([service("shop/reviews")]);
    world.call(REVIEWS);
    world.run();
    world.tell([Change::ServiceGone(key("shop/reviews"))]);
    assert!(world.is_quiet(&world.plan()));
}

/// A vault and a desk in a bank, under a policy that names the shop's client.
fn guarded_bank() -> [Change; 4] {
    let pod = Pod {
        key: key("shop/client-1"),
        ips: vec![CALLER.into()],
        labels: Labels::from(labels("app=client")),
        account: "client".into(),
        ..Pod::default()
    };
    let callers = vec![CallerPattern::account("shop", "client")];
    let policy = Policy { key: key("bank/p"), selector: Labels::default(), targets: None, callers };
    [service("bank/vault"), service("bank/desk"), Change::Pod(pod), Change::Policy(policy)]
}

#[test]
fn what_a_policy_declares_is_listed_before_any_call_and_as_long_as_it_does() {
    let (vault, desk) = ("bank/vault.bank.svc.cluster.local", "bank/desk.bank.svc.cluster.local");
    let mut world = World::new();
    world.tell(guarded_bank());
    world.run();
    assert_eq!(world.hosts(), format!("route: {desk} {vault} {PROXY}"));
    let status = world.plan().status;
    assert!(status.domains.values().all(|domain| domain.sources == [DependencySource::Policy]));
    assert!(
        status.domains.iter().all(|(host, domain)| known(host, domain).is_none()),
        "it is no memory of a call"
    );
    world.call("vault.bank.svc.cluster.local");
    world.tell([Change::PolicyGone(key("bank/p"))]);
    world.run();
    assert_eq!(world.hosts(), format!("route: {vault} {PROXY}"), "a call has been seen");
}

#[test]
fn what_a_policy_declares_stays_listed_while_no_pod_is_there() {
    let mut world = World::new();
    world.tell(guarded_bank());
    world.run();
    let listed = world.hosts();
    world.tell([Change::PodGone(key("shop/client-1"))]);
    world.run();
    assert_eq!(world.hosts(), listed, "the next pod has it from the start");
    world.tell([Change::PolicyGone(key("bank/p"))]);
    world.tell(guarded_bank().into_iter().filter(|change| matches!(change, Change::Pod(_))));
    world.run();
    assert_eq!(world.hosts(), format!("route: {PROXY}"));
}

#[test]
fn a_policy_that_declares_too_much_is_cut_and_that_is_said() {
    let mut world = World::new();
    world.tell(guarded_bank());
    world.run();
    let input = Input {
        written: None,
        fence: &world.fence,
        sidecar: world.sidecar.as_ref(),
        graph: &world.graph,
        settings: &Settings {
            defaults: Defaults { max_declared_hosts: 1, ..Defaults::default() },
            ..settings()
        },
        open_all: false,
        since: world.since,
        now: world.now,
    };
    let status = plan(&input).status;
    assert_eq!(status.domains.keys().collect::<Vec<_>>(), ["desk.bank.svc.cluster.local"]);
    let degraded = status.conditions.iter().find(|condition| condition.type_ == DEGRADED).unwrap();
    assert_eq!((&*degraded.status, &*degraded.reason), ("True", reasons::DECLARED_LIMIT));
    assert!(degraded.message.contains("declare 1 hosts more"), "{}", degraded.message);
}
