//! What the spec and the configuration ask for: until when, and live.

use super::*;
use crate::api::{Auto, Deadline, DomainStatus, LabelSelector, Seconds};
use crate::graph::{Aliases, DomainAlias, ExportTo, MeshWide};

fn seconds(seconds: i64) -> Seconds {
    Seconds { seconds, nanos: 0 }
}

fn deadline(at: Timestamp) -> RecyclingStrategy {
    let expire = Seconds { seconds: at.as_second(), nanos: at.subsec_nanosecond() };
    RecyclingStrategy { deadline: Some(Deadline { expire }), ..RecyclingStrategy::default() }
}

fn auto(minutes: i64) -> RecyclingStrategy {
    RecyclingStrategy { auto: Some(Auto { duration: seconds(minutes * 60) }), ..RecyclingStrategy::default() }
}

/// A fence in force that lists `host` by the strategy.
fn listing(host: &str, strategy: RecyclingStrategy) -> World {
    let mut world = World::fenced();
    world.tell([service("shop/reviews"), entry("shop/www", EXAMPLE)]);
    world.edit(|spec| spec.host = BTreeMap::from([(host.to_owned(), strategy)]));
    let warm = world.settle().unwrap();
    world.now = warm;
    world.settle();
    assert_eq!(world.hosts(), format!("route: {PROXY} shop/{host}"));
    world
}

fn labelled(name: &str, with: &str) -> Change {
    Change::Service(Service { key: key(name), labels: Labels::from(labels(with)), ..Service::default() })
}

/// `host status sources hosts`
fn entries(world: &World) -> Vec<String> {
    let domains = world.plan().status.domains;
    let entry = |(host, domain): (&String, &Dependency)| {
        format!("{host} {:?} {:?} {}", domain.status, domain.sources, domain.hosts.join(","))
    };
    domains.iter().map(entry).collect()
}

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
        world.now = end + SignedDuration::from_hours(500);
        world.call(REVIEWS);
        world.run();
        assert_eq!(entries(&world), [format!("{REVIEWS} Active [Spec, AccessLog] shop/{REVIEWS}")]);
    }
}

/// The same world after a restart: what is not in the status is forgotten.
fn remember(world: &World) -> World {
    let mut restarted = World { graph: Graph::new("cluster.local"), ..world.clone() };
    restarted.tell([service("shop/reviews"), entry("shop/www", EXAMPLE)]);
    let (ips, labels) = (vec![CALLER.into()], Labels::from(labels("app=client")));
    restarted.tell([Change::Pod(Pod { key: key("shop/client-1"), ips, labels, ..Pod::default() })]);
    restarted.listed();
    restarted
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

#[test]
fn a_namespace_selector_stands_for_the_services_of_its_namespaces() {
    let mut world = World::fenced();
    world.tell([service("db/a"), service("web/b"), service("other/c")]);
    world.edit(|spec| spec.namespace_selector = vec!["db".to_owned(), "web".to_owned()]);
    world.run();
    let listed = format!("db/a.db.svc.cluster.local {PROXY} web/b.web.svc.cluster.local");
    assert_eq!(world.hosts(), format!("route: {listed}"));
    assert_eq!(
        entries(&world),
        ["db/* Active [Spec] db/a.db.svc.cluster.local", "web/* Active [Spec] web/b.web.svc.cluster.local"]
    );
    world.edit(|spec| spec.host = BTreeMap::from([("db/*".to_owned(), deadline(Timestamp::UNIX_EPOCH))]));
    assert_eq!(entries(&world).len(), 2);
    assert!(entries(&world)[0].contains("Active"), "a selector has no deadline");
}

#[test]
fn a_label_selector_lists_services_of_all_namespaces_as_they_come_change_and_go() {
    let mut world = World::fenced();
    let selector = |text: &str| LabelSelector { selector: labels(text) };
    world.edit(|spec| spec.label_selector = ["team=a,tier=db", "project=back", ""].map(selector).to_vec());
    let listed = |world: &mut World, change: Change| {
        let touched = !world.graph.apply(change).is_empty();
        world.run();
        (
            touched,
            world.hosts().replace(&format!(" {PROXY}"), "").replace(&format!("route: {PROXY}"), "route:"),
        )
    };
    let a = "db/a.db.svc.cluster.local";
    let none = "route:".to_owned();
    assert_eq!(listed(&mut world, labelled("db/a", "team=a")), (false, none.clone()), "one label of two");
    assert_eq!(listed(&mut world, labelled("db/a", "team=a,tier=db,x=y")), (true, format!("route: {a}")));
    assert_eq!(entries(&world), [format!("a.db.svc.cluster.local Active [Spec] {a}")]);
    assert_eq!(listed(&mut world, labelled("db/a", "team=a,tier=db")), (false, format!("route: {a}")));
    assert_eq!(
        listed(&mut world, labelled("db/a", "project=back")),
        (true, format!("route: {a}")),
        "the other"
    );
    assert_eq!(listed(&mut world, labelled("db/a", "project=front")), (true, none.clone()), "relabelled");
    assert_eq!(listed(&mut world, labelled("web/b", "")), (false, none), "an empty selector selects nothing");
    let (_, hosts) = listed(&mut world, labelled("web/b", "project=back"));
    assert_eq!(hosts, "route: web/b.web.svc.cluster.local");
    assert!(listed(&mut world, Change::ServiceGone(key("web/b"))).0);
}

#[test]
fn a_wildcard_of_the_spec_stands_for_what_ends_like_it() {
    let mut world = World::fenced();
    world.edit(|spec| spec.host = wants(&["*.example.com"]));
    world.tell([entry("a/e", "*.example.com"), entry("b/e", EXAMPLE), entry("c/e", "example.com")]);
    world.run();
    assert_eq!(world.hosts(), format!("route: a/*.example.com b/{EXAMPLE} {PROXY}"));
    assert_eq!(entries(&world), [format!("*.example.com Active [Spec] a/*.example.com,b/{EXAMPLE}")]);
}

#[test]
fn a_host_under_the_wildcard_of_a_service_entry_is_imported_by_that_wildcard() {
    let mut world = World::fenced();
    world.tell([entry("egress/e", "*.example.com"), entry("egress/wide", "*.com")]);
    world.edit(|spec| spec.host = wants(&["api.example.com"]));
    world.call(EXAMPLE);
    world.run();
    assert_eq!(world.hosts(), format!("route: egress/*.example.com {PROXY}"));
    assert_eq!(
        entries(&world),
        [
            "*.example.com Active [AccessLog] egress/*.example.com",
            "api.example.com Active [Spec] egress/*.example.com"
        ]
    );
    world.tell([entry("egress/exact", "api.example.com")]);
    assert!(entries(&world)[1].ends_with("egress/api.example.com"), "its own definition wins");
}

#[test]
fn another_name_is_listed_with_what_it_stands_for() {
    let external = |name: &str, target: &str| {
        let external_name = Some(target.into());
        Change::Service(Service { key: key(name), external_name, ..Service::default() })
    };
    let both = format!("route: {PROXY} shop/old.shop.svc.cluster.local shop/{REVIEWS}");
    let mut asked = World::fenced();
    asked.tell([service("shop/reviews"), external("shop/old", REVIEWS)]);
    asked.edit(|spec| spec.host = wants(&["old.shop.svc.cluster.local"]));
    asked.run();
    assert_eq!(asked.hosts(), both);
    let mut called = World::fenced();
    called.tell([service("shop/reviews")]);
    called.call(REVIEWS);
    called.run();
    assert_eq!(called.graph.apply(external("shop/old", REVIEWS)).len(), 1, "the fence that knows it is told");
    called.run();
    assert_eq!(called.hosts(), both);
    called.graph.apply(Change::ServiceGone(key("shop/old")));
    let mut restarted = remember(&called);
    for world in [&mut called, &mut restarted] {
        world.run();
        assert_eq!(world.hosts(), format!("route: {PROXY} shop/{REVIEWS}"));
    }
}

#[test]
fn what_only_this_namespace_sees_is_listed_from_the_start() {
    let hidden = |name: &str, words: &str| {
        let (key, export_to) = (key(name), ExportTo::parse(words.split(','), key(name).namespace.as_ref()));
        Change::Service(Service { key, export_to, ..Service::default() })
    };
    let mut world = World::new();
    world.graph = Graph::of(MeshWide { global_proxy_namespace: "mesh".into(), ..MeshWide::default() });
    let mut world = remember(&world);
    world.run();
    let changes = [
        hidden("shop/own", "."),
        hidden("db/for-us", "shop,web"),
        hidden("db/for-others", "web"),
        hidden("db/for-all", "*"),
        hidden("db/for-nobody", "~"),
    ];
    for change in changes {
        world.graph.apply(change);
    }
    assert_eq!(
        entries(&world),
        [
            "for-us.db.svc.cluster.local Active [Visibility] db/for-us.db.svc.cluster.local",
            "own.shop.svc.cluster.local Active [Visibility] shop/own.shop.svc.cluster.local"
        ]
    );
    assert_eq!(world.graph.apply(hidden("shop/own", "*")).len(), 1, "it is no longer hidden");
    assert_eq!(entries(&world).len(), 1);
}

#[test]
fn what_every_fence_lists_comes_and_goes_live() {
    let wants = Defaults { stable_host: vec![EXAMPLE.to_owned(), "db/*".to_owned()], ..Defaults::default() };
    let mut world = World::new();
    world.graph = Graph::of(MeshWide { wants: wants.wants(), ..MeshWide::default() });
    world.listed();
    assert_eq!(world.graph.apply(entry("egress/e", EXAMPLE)).len(), 1);
    assert_eq!(world.graph.apply(service("db/a")).len(), 1);
    assert!(world.graph.apply(service("web/b")).is_empty());
    assert_eq!(
        entries(&world),
        [
            "db/* Active [Configuration] db/a.db.svc.cluster.local".to_owned(),
            format!("{EXAMPLE} Active [Configuration] egress/{EXAMPLE}")
        ]
    );
    assert_eq!(world.graph.apply(Change::ServiceGone(key("db/a"))).len(), 1);
}

#[test]
fn further_names_are_listed_beside_static_and_learned_hosts_live() {
    let rule = DomainAlias {
        pattern: r"^([^.]+)\.shop\.svc\.cluster\.local$".to_owned(),
        templates: vec!["$1.example.com".to_owned()],
    };
    let aliases = Arc::new(Aliases::new(&[rule], |rule, error| panic!("{}: {error}", rule.pattern)));
    let mut world = World::new();
    world.graph = Graph::of(MeshWide { aliases, ..MeshWide::default() });
    let (ips, labels) = (vec![CALLER.into()], Labels::from(labels("app=client")));
    world.tell([Change::Pod(Pod { key: key("shop/client-1"), ips, labels, ..Pod::default() })]);
    world.listed();
    world.graph.apply(service("shop/reviews"));
    world.graph.apply(service("shop/ratings"));
    world.edit(|spec| spec.host = wants(&["ratings.shop.svc.cluster.local"]));
    world.call(REVIEWS);
    assert_eq!(world.graph.apply(entry("egress/r", "reviews.example.com")).len(), 1, "of a learned host");
    assert_eq!(world.graph.apply(entry("egress/s", "ratings.example.com")).len(), 1, "of a static host");
    assert!(world.graph.apply(entry("egress/t", "other.example.com")).is_empty());
    assert_eq!(
        entries(&world),
        [
            "ratings.shop.svc.cluster.local Active [Spec] egress/ratings.example.com,shop/ratings.shop.svc.cluster.local".to_owned(),
            format!("{REVIEWS} Active [AccessLog] egress/reviews.example.com,shop/{REVIEWS}"),
        ]
    );
    assert_eq!(world.graph.apply(Change::ServiceEntryGone(key("egress/r"))).len(), 1);
}

#[test]
fn another_cluster_domain_is_the_one_of_every_host() {
    let mut world = World::fenced();
    world.graph = Graph::new("corp.example");
    world.tell([service("db/a"), headless("shop/redis")]);
    world.edit(|spec| spec.host = wants(&["db/*", "a.db.svc.cluster.local"]));
    assert_eq!(
        entries(&world),
        ["a.db.svc.cluster.local Active [Spec] ", "db/* Active [Spec] db/a.db.svc.corp.example"]
    );
}

#[test]
fn a_fence_without_selector_and_service_is_for_the_pods_with_its_label() {
    let mut world = World::new();
    world.edit(|spec| spec.workload_selector = None);
    world.run();
    let selected = |world: &World| {
        let sidecar = world.sidecar.as_ref().unwrap();
        sidecar.spec.workload_selector.clone().unwrap().labels
    };
    assert_eq!((world.reason(), selected(&world)), (reasons::FENCED, labels("app=client")));
    world.tell([Change::Service(Service {
        key: key("shop/client"),
        selector: Labels::from(labels("app=client,version=v1")),
        ..Service::default()
    })]);
    world.tell([Change::Pod(Pod {
        key: key("shop/client-2"),
        labels: Labels::from(labels("app=client,version=v1")),
        ..Pod::default()
    })]);
    world.run();
    assert_eq!(selected(&world), labels("app=client,version=v1"), "the Service wins");
}

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
