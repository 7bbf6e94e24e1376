//! Who else is for a fence's pods.

use super::*;

fn made(name: &str, selector: &str, terms: Terms) -> Change {
    let selection = PodSelection::Labels(labels(selector));
    Change::Fence(Fence {
        key: key(name),
        selection,
        wants: Vec::new(),
        known: Vec::new(),
        learning: None,
        terms,
    })
}

fn peers(graph: &Graph, fence: &str) -> Vec<String> {
    graph.peers(&key(fence)).into_iter().map(ToString::to_string).collect()
}

fn over(graph: &Graph, fence: &str) -> Vec<String> {
    graph.foreign_over(&key(fence)).map(|foreign| foreign.key.to_string()).collect()
}

#[test]
fn fences_are_peers_while_they_share_a_pod() {
    let mut graph = shop();
    assert_eq!(
        (peers(&graph, "shop/client"), peers(&graph, "shop/web")),
        (vec!["shop/web".to_owned()], vec!["shop/client".to_owned()])
    );
    let covers = |graph: &Graph, one, other| graph.covers(&key(one), &key(other));
    assert!(covers(&graph, "shop/client", "shop/web") && !covers(&graph, "shop/web", "shop/client"));
    let both = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, pod("shop/web-1", &[4], "tier=web")), both, "one of its own");
    assert!(!covers(&graph, "shop/client", "shop/web"));
    assert_eq!(touched(&mut graph, Change::PodGone(key("shop/client-2"))), both);
    assert_eq!(peers(&graph, "shop/client"), [""; 0]);
    assert_eq!(touched(&mut graph, pod("shop/web-2", &[5], "tier=web")), ["shop/web"]);
}

#[test]
fn what_a_fence_learns_touches_those_that_share_a_pod() {
    let mut graph = shop();
    assert_eq!(touched(&mut graph, call(1, REVIEWS, 0)), ["shop/client", "shop/web"]);
    assert_eq!(touched(&mut graph, Change::FenceGone(key("shop/web"))), ["shop/client"]);
    assert_eq!(touched(&mut graph, call(1, RATINGS, 0)), ["shop/client"]);
}

#[test]
fn fences_of_different_revisions_have_nothing_to_do_with_each_other() {
    let of = |revision: &str| Terms { revision: Some(revision.into()), ..Terms::default() };
    let mut graph = shop();
    take(
        &mut graph,
        [made("shop/client", "app=client", of("1-30")), made("shop/web", "tier=web", of("1-31"))],
    );
    assert_eq!(peers(&graph, "shop/client"), [""; 0]);
    take(&mut graph, [made("shop/web", "tier=web", Terms::default())]);
    assert_eq!(peers(&graph, "shop/client"), ["shop/web"]);
    assert!(!graph.covers(&key("shop/client"), &key("shop/web")), "pods of another revision would have none");
}

/// The Service that istiod's chart makes for a tag (Istio 1.31).
fn tag(name: &str, tag: &str) -> Change {
    let labels = labels(&format!("istio.io/tag={tag},istio.io/rev=1-31"));
    Change::Service(Service { key: key(name), labels, ..Service::default() })
}

#[test]
fn what_is_for_a_tag_is_for_every_revision() {
    let of = |revision: &str| Terms { revision: Some(revision.into()), ..Terms::default() };
    let fences = [made("shop/client", "app=client", of("prod")), made("shop/web", "tier=web", of("1-30"))];
    let mut graph = shop();
    take(&mut graph, fences.clone());
    let service = "istio-system/istiod-revision-tag-prod";
    for (what, change) in [
        ("a Service of anybody", tag("shop/istiod-revision-tag-prod", "prod")),
        ("another tag", tag("istio-system/istiod-revision-tag-test", "test")),
    ] {
        assert_eq!(touched(&mut graph, change), [""; 0], "{what}");
        assert_eq!(graph.revision_of(&key("shop/client")), Some("prod"), "{what}");
    }
    let both = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, tag(service, "prod")), both, "the tag comes");
    assert_eq!(graph.revision_of(&key("shop/client")), None);
    assert_eq!(graph.revision(Some("1-31")), Some("1-31"), "what it stands for is no tag");
    assert_eq!(peers(&graph, "shop/web"), ["shop/client"]);
    assert_eq!(touched(&mut graph, tag(service, "prod")), [""; 0], "again");
    assert_eq!(touched(&mut graph, Change::ServiceGone(key(service))), both, "the tag goes");
    assert_eq!(peers(&graph, "shop/web"), [""; 0]);
    assert_eq!(
        touched(&mut graph, tag(service, "1-30")),
        both,
        "a tag that is called like another fence's revision"
    );
}

#[test]
fn nobody_reads_a_sidecar_that_is_labelled_with_a_tag() {
    let mut graph = shop();
    let of = |name, selector| Sidecar { revision: Some("prod".into()), ..foreign(name, selector, &[]) };
    take(
        &mut graph,
        [of("shop/x", Some("app=client")), of("shop/default", None), of("istio-system/default", None)]
            .map(Change::Sidecar),
    );
    let seen = |graph: &Graph| {
        let default = graph.default_sidecar(&key("shop/client"));
        (over(graph, "shop/client"), default.map(|default| default.key.to_string()))
    };
    let read = (vec!["shop/x".to_owned()], Some("shop/default".to_owned()));
    assert_eq!(seen(&graph), read, "a fence of no revision may be of any");
    let service = "istio-system/istiod-revision-tag-prod";
    let all = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, tag(service, "prod")), all);
    assert_eq!(seen(&graph), (Vec::new(), None));
    assert_eq!(touched(&mut graph, Change::ServiceGone(key(service))), all);
    assert_eq!(seen(&graph), read);
}

#[test]
fn sidecars_of_other_people_matter_to_the_pods_that_they_select() {
    let mut graph = shop();
    let all = ["shop/client", "shop/web"];
    for (selector, client, web) in [
        ("app=client", vec!["shop/x"], vec!["shop/x"]),
        ("app=client,tier=web", vec!["shop/x"], vec!["shop/x"]),
        ("tier=db", vec![], vec![]),
        ("", vec!["shop/x"], vec!["shop/x"]),
    ] {
        assert_eq!(touched(&mut graph, Change::Sidecar(foreign("shop/x", Some(selector), &[]))), all);
        let again = touched(&mut graph, Change::Sidecar(foreign("shop/x", Some(selector), &[])));
        assert_eq!(again, [""; 0], "it is as it was");
        assert_eq!(
            (over(&graph, "shop/client"), over(&graph, "shop/web")),
            (client.iter().map(ToString::to_string).collect(), web.iter().map(ToString::to_string).collect()),
            "{selector}"
        );
    }
    take(
        &mut graph,
        [
            Change::Sidecar(foreign("other/x", Some("app=client"), &[])),
            Change::Sidecar(own("shop/x", "app=client", false)),
        ],
    );
    assert_eq!(over(&graph, "shop/client"), [""; 0], "one of another namespace, and one of a fence");
}

#[test]
fn the_default_sidecar_is_the_oldest_of_the_namespace_or_else_of_the_root_namespace() {
    let default =
        |graph: &Graph| graph.default_sidecar(&key("shop/client")).map(|foreign| foreign.key.to_string());
    let made =
        |name, minute| Change::Sidecar(Sidecar { created: Some(at(minute)), ..foreign(name, None, &[]) });
    let mut graph = shop();
    take(&mut graph, [made("mesh/default", 0), made("other/default", 0)]);
    assert_eq!(default(&graph), None);
    assert_eq!(touched(&mut graph, made("istio-system/default", 5)), ["shop/client", "shop/web"]);
    assert_eq!(default(&graph).as_deref(), Some("istio-system/default"));
    take(&mut graph, [made("shop/b", 3), made("shop/a", 4)]);
    assert_eq!(default(&graph).as_deref(), Some("shop/b"));
    take(
        &mut graph,
        [Change::Sidecar(Sidecar { revision: Some("x".into()), ..foreign("shop/b", None, &[]) })],
    );
    assert_eq!(default(&graph).as_deref(), Some("shop/b"), "a fence of no revision may be of any");
}

#[test]
fn a_default_sidecar_names_the_hosts_that_a_workload_needs() {
    let mut graph = shop();
    take(
        &mut graph,
        [service("db/mysql", "app=any"), entry("db/example", &[EXAMPLE]), service("db/redis", "app=any")],
    );
    let named = |hosts: &[&str]| {
        let mut graph = graph.clone();
        take(&mut graph, [Change::Sidecar(foreign("shop/default", None, hosts))]);
        let default = graph.default_sidecar(&key("shop/client")).unwrap();
        default.hosts("shop", graph.registry()).map(|host| host.to_string()).collect::<Vec<_>>()
    };
    let (mysql, redis) = ("db/mysql.db.svc.cluster.local", "db/redis.db.svc.cluster.local");
    let reviews = "shop/reviews.shop.svc.cluster.local";
    for (hosts, expected) in [
        (&["*/*"][..], vec![]),
        (&["./*", "~/*", "~db/*"], vec![]),
        (&[mysql], vec![mysql]),
        (&["db/*"], vec![mysql, redis]),
        (&["./reviews.shop.svc.cluster.local"], vec![reviews]),
        (&["*/www.example.com"], vec!["db/www.example.com", "shop/www.example.com"]),
        (&["db/www.example.com", "db/nobody.defines.it", "broken"], vec!["db/www.example.com"]),
    ] {
        assert_eq!(named(hosts), expected, "{hosts:?}");
    }
}

#[test]
fn a_host_that_a_default_sidecar_names_touches_its_fences() {
    let mut graph = shop();
    take(
        &mut graph,
        [Change::Sidecar(foreign("istio-system/default", None, &["db/*", "*/late.example.com"]))],
    );
    let all = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, service("db/mysql", "app=any")), all);
    assert_eq!(touched(&mut graph, entry("x/late", &["late.example.com"])), all);
    assert_eq!(touched(&mut graph, service("x/y", "app=any")), [""; 0]);
    take(&mut graph, [Change::SidecarGone(key("istio-system/default"))]);
    assert_eq!(touched(&mut graph, service("db/redis", "app=any")), [""; 0]);
}

#[test]
fn a_fences_own_sidecar_touches_it_and_those_that_wait_for_it() {
    let mut graph = shop();
    assert_eq!(
        touched(&mut graph, Change::Sidecar(own("shop/web", "tier=web", true))),
        ["shop/client", "shop/web"]
    );
    assert_eq!(graph.is_wide(&key("shop/web")), Some(true));
    assert_eq!(touched(&mut graph, Change::SidecarGone(key("shop/web"))), ["shop/client", "shop/web"]);
    assert_eq!(graph.is_wide(&key("shop/web")), None);
}

#[test]
fn fences_are_neighbours_while_either_has_a_sidecar_for_a_pod_of_the_other() {
    let near = |graph: &Graph, fence: &str| {
        graph.neighbours(&key(fence)).into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut graph = shop();
    take(&mut graph, [Change::Sidecar(own("shop/web", "tier=web", true))]);
    assert_eq!(touched(&mut graph, selecting("shop/web", "tier=db")), ["shop/client", "shop/web"]);
    assert_eq!(peers(&graph, "shop/client"), [""; 0], "they ask for no pod in common");
    assert_eq!(near(&graph, "shop/client"), ["shop/web"]);
    assert_eq!(near(&graph, "shop/web"), ["shop/client"]);
    let moved = Change::Sidecar(own("shop/web", "tier=db", true));
    assert_eq!(touched(&mut graph, moved), ["shop/client", "shop/web"], "who waited hears of it");
    assert_eq!((near(&graph, "shop/client"), near(&graph, "shop/web")), (Vec::new(), Vec::new()));
}

#[test]
fn a_fence_that_changes_its_revision_touches_those_it_shared_pods_with() {
    let of = |revision: &str| Terms { revision: Some(revision.into()), ..Terms::default() };
    let mut graph = shop();
    take(
        &mut graph,
        [made("shop/client", "app=client", Terms::default()), made("shop/web", "tier=web", of("1-31"))],
    );
    assert_eq!(peers(&graph, "shop/web"), ["shop/client"]);
    assert_eq!(
        touched(&mut graph, made("shop/client", "app=client", of("1-30"))),
        ["shop/client", "shop/web"]
    );
    assert_eq!(peers(&graph, "shop/web"), [""; 0]);
}

#[test]
fn a_pod_that_nobody_asks_for_touches_those_whose_sidecars_select_it() {
    let mut graph = graph([selecting("shop/a", "app=a"), selecting("shop/b", "app=b")]);
    take(&mut graph, ["shop/a", "shop/b"].map(|name| Change::Sidecar(own(name, "tier=web", true))));
    let both = ["shop/a", "shop/b"];
    assert_eq!(touched(&mut graph, pod("shop/p", &[9], "tier=web")), both, "it comes");
    assert!(touched(&mut graph, pod("shop/p", &[8], "tier=web")).is_empty(), "it has another address");
    assert_eq!(touched(&mut graph, pod("shop/p", &[8], "tier=db")), both, "its labels change");
    assert!(touched(&mut graph, Change::PodGone(key("shop/p"))).is_empty(), "it was nobody's");
    take(&mut graph, [pod("shop/p", &[8], "tier=web")]);
    assert_eq!(touched(&mut graph, Change::PodGone(key("shop/p"))), both, "it goes");
}
