//! What the spec and the configuration ask for: until when, and live.

mod slime;
mod strategies;

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
fn another_name_is_listed_in_the_namespace_of_what_it_stands_for_too() {
    let external = |name: &str, target: &str| {
        let external_name = Some(target.into());
        Change::Service(Service { key: key(name), external_name, ..Service::default() })
    };
    let host = |name: &str| format!("{name}.svc.cluster.local");
    let mut world = World::fenced();
    world.tell([service("far/reviews"), external("shop/near", &host("next.shop"))]);
    world.tell([external("shop/next", &host("reviews.far")), external("shop/loop", &host("loop.shop"))]);
    world.call(&host("reviews.far"));
    world.edit(|spec| spec.host = wants(&[&host("loop.shop")]));
    world.run();
    // By which of the names it is called nobody knows.
    let names = ["far/near.shop", "far/next.shop", "far/reviews.far"].map(host).join(" ");
    let own = ["shop/loop.shop", "shop/near.shop", "shop/next.shop"].map(host).join(" ");
    assert_eq!(world.hosts(), format!("route: {names} {PROXY} {own}"));
    world.tell([Change::ServiceGone(key("shop/next"))]);
    world.run();
    assert_eq!(
        world.hosts(),
        format!("route: {} {PROXY} {}", host("far/reviews.far"), host("shop/loop.shop"))
    );
}

#[test]
fn what_only_istiod_resolves_is_listed_for_pods_that_ask_it() {
    let entry = |name: &str, hosts: &[&str], words: &str| {
        let (hosts, key) = (hosts.iter().map(|host| (*host).into()).collect(), key(name));
        let export_to = ExportTo::parse(words.split(','), &key.namespace);
        let hosts: Vec<Arc<str>> = hosts;
        let resolved_by_istiod = hosts.iter().filter(|host| !host.starts_with('*')).cloned().collect();
        Change::ServiceEntry(graph::ServiceEntry {
            key,
            hosts,
            export_to,
            resolved_by_istiod,
            own: None,
            selector: Labels::default(),
        })
    };
    let pod = |captures_dns| {
        let (ips, labels) = (vec![CALLER.into()], Labels::from(labels("app=client")));
        Change::Pod(Pod { key: key("shop/client-1"), ips, labels, captures_dns, ..Pod::default() })
    };
    let mut world = World::fenced();
    world.tell([
        entry("egress/mail", &["mail.internal", "*.internal"], "*"),
        entry("egress/own", &["own.internal"], "."),
        self::entry("egress/known", "known.example.com"),
    ]);
    assert_eq!(entries(&world), [""; 0]);
    assert_eq!(world.graph.apply(pod(true)).len(), 1, "the fence hears of it");
    world.run();
    assert_eq!(entries(&world), ["mail.internal Active [Dns] egress/mail.internal"]);
    assert_eq!(world.graph.apply(entry("egress/mail", &["news.internal"], "*")).len(), 1);
    world.run();
    assert_eq!(entries(&world), ["news.internal Active [Dns] egress/news.internal"]);
    world.tell([Change::PodGone(key("shop/client-1"))]);
    world.run();
    assert_eq!(entries(&world).len(), 1, "the next pod is to have it from the start");
    world.tell([pod(false)]);
    world.run();
    assert_eq!(entries(&world), [""; 0]);
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
