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
fn pods_touch_no_fence_and_a_fence_touches_itself() {
    let mut graph = shop();
    assert!(touched(&mut graph, pod("shop/client-9", &[9], "app=client")).is_empty());
    assert!(touched(&mut graph, Change::PodGone(key("shop/client-9"))).is_empty());
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
    assert_eq!(touched(&mut graph, call(1, REVIEWS, 0)), ["shop/client"]);
    assert!(touched(&mut graph, call(1, REVIEWS, 1)).is_empty(), "a repeated call");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 2)), ["shop/web"], "one of its two fences knows");
    assert_eq!(touched(&mut graph, call(2, REVIEWS, 62)), ["shop/client", "shop/web"], "an hour later");
    for nothing in
        [call(3, REVIEWS, 0), call(9, REVIEWS, 0), call(1, "no.such.host", 0), call(1, "reviews", 0)]
    {
        assert!(touched(&mut graph, nothing).is_empty());
    }
    assert_eq!(known_hosts(&graph, "shop/client"), [REVIEWS]);
}
