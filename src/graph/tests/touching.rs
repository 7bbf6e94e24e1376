//! Which fences a change touches.

use super::*;

#[test]
fn a_service_touches_the_fences_that_ask_for_its_host_or_namespace() {
    let mut graph = graph([
        fence("shop/by-host", PodSelection::Labels(labels("app=a")), &[REVIEWS]),
        fence("other/by-namespace", PodSelection::Labels(labels("app=a")), &["shop/*"]),
        fence("shop/neither", PodSelection::Labels(labels("app=a")), &[RATINGS, "other/*"]),
    ]);
    let both = ["other/by-namespace", "shop/by-host"];
    assert_eq!(touched(&mut graph, service("shop/reviews", "app=reviews")), both, "it comes");
    assert!(touched(&mut graph, service("shop/reviews", "app=reviews")).is_empty(), "it is listed again");
    assert!(touched(&mut graph, service("shop/reviews", "app=v2")).is_empty(), "its selector changes");
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/reviews"))), both, "it goes");
    assert!(touched(&mut graph, Change::ServiceGone(key("shop/reviews"))).is_empty(), "it is gone already");
}

#[test]
fn a_headless_service_touches_every_fence_of_its_namespace() {
    let mut graph =
        graph([selecting("shop/a", "app=a"), selecting("shop/b", "app=b"), selecting("db/c", "app=c")]);
    let all = ["shop/a", "shop/b"];
    assert_eq!(touched(&mut graph, headless("shop/redis")), all, "it comes");
    assert!(touched(&mut graph, headless("shop/redis")).is_empty(), "it is listed again");
    assert_eq!(touched(&mut graph, service("shop/redis", "app=any")), all, "it gets a cluster IP");
    assert!(graph.registry().headless_in("shop").next().is_none());
    assert_eq!(touched(&mut graph, headless("shop/redis")), all, "it loses it again");
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/redis"))), all, "it goes");
    assert!(graph.registry().headless_in("shop").next().is_none());
}

#[test]
fn a_service_entry_touches_the_fences_that_ask_for_its_hosts() {
    let mut graph = graph([
        fence("shop/a", PodSelection::Labels(labels("app=a")), &[EXAMPLE]),
        fence("shop/b", PodSelection::Labels(labels("app=b")), &["api.example.com"]),
        fence("shop/c", PodSelection::Labels(labels("app=c")), &["egress/*"]),
    ]);
    assert_eq!(touched(&mut graph, entry("egress/e", &[EXAMPLE])), ["shop/a"], "it comes");
    assert!(touched(&mut graph, entry("egress/e", &[EXAMPLE])).is_empty(), "it is listed again");
    assert_eq!(
        touched(&mut graph, entry("egress/e", &[EXAMPLE, "api.example.com"])),
        ["shop/b"],
        "it gets a host"
    );
    assert_eq!(touched(&mut graph, entry("egress/e", &["api.example.com"])), ["shop/a"], "it loses a host");
    assert_eq!(touched(&mut graph, Change::ServiceEntryGone(key("egress/e"))), ["shop/b"], "it goes");
    assert!(touched(&mut graph, Change::ServiceEntryGone(key("egress/e"))).is_empty(), "it is gone already");
}

#[test]
fn a_pod_touches_the_fences_that_it_comes_into_or_leaves() {
    let mut graph = shop();
    graph.apply(Change::PodGone(key("shop/client-2")));
    let unfit = |labels_: &str| {
        Change::Pod(Pod {
            key: key("shop/client-9"),
            labels: labels(labels_),
            proxy: Proxy::None,
            ..Pod::default()
        })
    };
    assert_eq!(touched(&mut graph, pod("shop/client-9", &[], "app=client")), ["shop/client"], "it comes");
    assert!(touched(&mut graph, pod("shop/client-9", &[9], "app=client")).is_empty(), "it gets an address");
    assert_eq!(touched(&mut graph, pod("shop/client-9", &[9], "tier=web")), ["shop/client", "shop/web"]);
    assert_eq!(touched(&mut graph, unfit("tier=web")), ["shop/web"], "it is replaced by one without a proxy");
    assert_eq!(touched(&mut graph, Change::PodGone(key("shop/client-9"))), ["shop/web"], "it goes");
    assert!(touched(&mut graph, Change::PodGone(key("shop/client-9"))).is_empty(), "it is gone already");
    assert!(touched(&mut graph, pod("shop/other", &[9], "app=other")).is_empty(), "no fence selects it");
}

#[test]
fn a_fence_has_the_pods_that_it_selects() {
    let of = |graph: &Graph, fence: &str| {
        let fence = key(fence);
        let pods = graph.workloads().of_fence(&fence).map(|pod| pod.key.name.to_string());
        pods.collect::<Vec<_>>().join(" ")
    };
    let mut graph = shop();
    assert_eq!(of(&graph, "shop/client"), "client-1 client-2");
    assert_eq!(of(&graph, "shop/web"), "client-2");
    graph.apply(selecting("shop/web", "app=plain"));
    assert_eq!(of(&graph, "shop/web"), "plain", "it selects others");
    graph.apply(pod("shop/plain", &[3], "app=client"));
    assert_eq!(
        (of(&graph, "shop/web"), of(&graph, "shop/client")),
        (String::new(), "client-1 client-2 plain".into())
    );
    graph.apply(Change::PodGone(key("shop/client-1")));
    assert_eq!(of(&graph, "shop/client"), "client-2 plain");
    graph.apply(Change::FenceGone(key("shop/client")));
    assert_eq!(of(&graph, "shop/client"), "");
    graph.apply(selecting("shop/client", "app=client"));
    assert_eq!(of(&graph, "shop/client"), "client-2 plain", "it comes again");
}

#[test]
fn a_namespace_touches_its_fences_when_its_labels_change() {
    let mut graph = shop();
    graph.apply(selecting("other/f", "app=f"));
    let namespace = |with: &str| Change::Namespace(Namespace { name: "shop".into(), labels: labels(with) });
    let all = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, namespace("a=1")), all, "it comes");
    assert!(touched(&mut graph, namespace("a=1")).is_empty(), "it is listed again");
    assert_eq!(touched(&mut graph, namespace("a=2")), all);
    assert_eq!(graph.namespace("shop"), Some(&labels("a=2")));
    assert_eq!(graph.namespace_keys().collect::<Vec<_>>(), [ObjectKey::new("", "shop")]);
    assert_eq!(touched(&mut graph, Change::NamespaceGone(ObjectKey::new("", "shop"))), all);
    assert_eq!(graph.namespace("shop"), None);
}

#[test]
fn a_fence_touches_itself() {
    let mut graph = shop();
    graph.apply(Change::PodGone(key("shop/client-2")));
    assert_eq!(touched(&mut graph, selecting("shop/client", "app=other")), ["shop/client"]);
    assert!(touched(&mut graph, Change::FenceGone(key("shop/client"))).is_empty());
    assert!(touched(&mut graph, Change::FenceGone(key("shop/client"))).is_empty());
}

#[test]
fn a_fence_that_no_longer_asks_for_a_host_is_not_touched_by_it() {
    let mut graph = graph([fence("shop/a", PodSelection::Labels(labels("app=a")), &[EXAMPLE, "other/*"])]);
    graph.apply(selecting("shop/a", "app=a"));
    assert!(touched(&mut graph, entry("egress/e", &[EXAMPLE])).is_empty());
    assert!(touched(&mut graph, service("other/x", "app=x")).is_empty());
}

#[test]
fn a_call_touches_the_fences_to_which_it_is_news() {
    let mut graph = shop();
    let all = ["shop/client", "shop/web"];
    assert_eq!(touched(&mut graph, call(1, REVIEWS, 0)), all, "both list it, because they share a pod");
    assert!(touched(&mut graph, call(1, REVIEWS, 1)).is_empty(), "a repeated call");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 2)), all, "one of its two fences knows");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 62)), all, "an hour later");
    for nothing in
        [call(3, REVIEWS, 0), call(9, REVIEWS, 0), call(1, "no.such.host", 0), call(1, "reviews", 0)]
    {
        assert!(touched(&mut graph, nothing).is_empty());
    }
    assert_eq!(known_hosts(&graph, "shop/client"), [REVIEWS]);
}

#[test]
fn pods_with_the_same_labels_keep_them_once() {
    let pod = |name: &str| Pod { key: key(name), labels: labels("a=1,b=2"), ..Pod::default() };
    let mut graph = Graph::new("cluster.local");
    for name in ["shop/a", "shop/b", "shop/c"] {
        graph.apply(Change::Pod(pod(name)));
        graph.apply(Change::Pod(pod(name)));
    }
    let of = |name: &str| graph.workloads().pod(&key(name)).unwrap().labels.iter().next().unwrap().0.as_ptr();
    assert_eq!(of("shop/a"), of("shop/b"));
    assert_eq!(of("shop/a"), of("shop/c"));
}
