//! Who a caller is.

use super::*;

#[test]
fn a_fence_follows_the_selector_of_the_service_of_its_name() {
    let mut graph = graph([
        pod("shop/client-1", &[1], "app=client"),
        pod("shop/client-2", &[2], "app=client,version=v2"),
        of_service("shop/client"),
        service("other/client", "app=client"),
    ]);
    let facts = |graph: &Graph| graph.fence(&key("shop/client")).and_then(|facts| facts.labels.clone());
    assert_eq!(facts(&graph), None, "no Service, or one in another namespace");
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));

    assert_eq!(touched(&mut graph, service("shop/client", "app=client")), ["shop/client"], "it comes later");
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    assert_eq!(touched(&mut graph, service("shop/client", "version=v2")), ["shop/client"], "it changes");
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&["shop/client"])));
    assert_eq!(touched(&mut graph, service("shop/client", "")), ["shop/client"], "it loses its selector");
    assert_eq!((facts(&graph), fences_of(&graph, 2)), (Some(Labels::default()), in_fences(&[])));
    assert_eq!(
        touched(&mut graph, service("shop/client", "app=client")),
        ["shop/client"],
        "it gets one again"
    );
    assert_eq!(touched(&mut graph, Change::ServiceGone(key("shop/client"))), ["shop/client"], "it goes");
    assert_eq!((facts(&graph), fences_of(&graph, 1)), (None, in_fences(&[])));
}

#[test]
fn a_fence_with_labels_of_its_own_follows_no_service() {
    let mut graph = graph([selecting("shop/client", "app=client"), pod("shop/p", &[1], "app=client")]);
    assert!(touched(&mut graph, service("shop/client", "app=other")).is_empty());
    assert!(touched(&mut graph, Change::ServiceGone(key("shop/client"))).is_empty());
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
}

#[test]
fn a_fence_can_change_how_it_selects() {
    let mut graph = graph([
        service("shop/client", "app=client"),
        pod("shop/p", &[1], "app=client"),
        pod("shop/q", &[2], "app=other"),
        selecting("shop/client", "app=client"),
    ]);
    graph.apply(of_service("shop/client"));
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    graph.apply(service("shop/client", "app=other"));
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&["shop/client"])));
    graph.apply(selecting("shop/client", "app=client"));
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&["shop/client"]), in_fences(&[])));
    graph.apply(Change::FenceGone(key("shop/client")));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));
}

#[test]
fn a_fence_that_comes_after_its_pods_has_them() {
    let graph = graph([pod("shop/p", &[1], "app=client,version=v1"), selecting("shop/f", "app=client")]);
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/f"]));
}

#[test]
fn a_pod_whose_labels_change_changes_its_fences() {
    let mut graph = shop();
    graph.apply(pod("shop/client-1", &[1], "tier=web"));
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/web"]));
}

#[test]
fn a_fence_is_for_pods_of_its_own_namespace() {
    let graph = graph([
        selecting("shop/client", "app=client"),
        selecting("other/client", "app=client"),
        pod("shop/p", &[1], "app=client"),
        pod("other/p", &[2], "app=client"),
        pod("third/p", &[3], "app=client"),
    ]);
    assert_eq!(fences_of(&graph, 1), in_fences(&["shop/client"]));
    assert_eq!(fences_of(&graph, 2), in_fences(&["other/client"]));
    assert_eq!(fences_of(&graph, 3), in_fences(&[]));
}

#[test]
fn an_empty_selector_selects_nobody() {
    let graph =
        graph([selecting("shop/f", ""), pod("shop/p", &[1], "app=client"), pod("shop/bare", &[2], "")]);
    assert_eq!((fences_of(&graph, 1), fences_of(&graph, 2)), (in_fences(&[]), in_fences(&[])));
}

#[test]
fn a_pod_has_each_of_its_addresses_until_it_ends() {
    let mut graph = shop();
    graph.apply(pod("shop/dual", &[10, 11], "app=client"));
    assert_eq!((fences_of(&graph, 10), fences_of(&graph, 11)), (fences_of(&graph, 1), fences_of(&graph, 1)));
    graph.apply(pod("shop/dual", &[11, 12], "app=client"));
    assert_eq!((fences_of(&graph, 10), fences_of(&graph, 12)), (None, fences_of(&graph, 1)), "it moved");
    graph.apply(Change::PodGone(key("shop/dual")));
    assert_eq!((fences_of(&graph, 11), fences_of(&graph, 12)), (None, None));
    assert_eq!(graph.judge(&ip(11).into(), REVIEWS, at(0)), Judgement::UnknownCaller);
}

#[test]
fn an_address_is_the_pods_that_got_it_last() {
    let mut graph = shop();
    graph.apply(pod("other/next", &[1], "app=other"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]));
    graph.apply(Change::PodGone(key("shop/client-1")));
    assert_eq!(
        fences_of(&graph, 1),
        in_fences(&[]),
        "the end of the pod that had it before takes nothing away"
    );
    graph.apply(Change::PodGone(key("other/next")));
    assert_eq!(fences_of(&graph, 1), None);
}

#[test]
fn an_address_stays_with_the_pod_that_got_it_last_when_fences_change() {
    let mut graph = shop();
    graph.apply(pod("other/next", &[1], "app=other"));
    graph.apply(selecting("shop/late", "app=client"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]), "a fence of the earlier pod's namespace comes");
    graph.apply(pod("shop/client-1", &[1], "app=client,version=v2"));
    assert_eq!(fences_of(&graph, 1), in_fences(&[]), "the earlier pod, not ended yet, is told of once more");
}
